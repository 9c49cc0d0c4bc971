// SPDX-License-Identifier: Apache-2.0
#include <bight/detail/exchange.hpp>

namespace bight::detail {

void describe_receive(const WaitLink&, std::string& text) { text += "a value to receive"; }

void describe_send(const WaitLink&, std::string& text) { text += "someone to receive what it sends"; }

}  // namespace bight::detail
