// SPDX-License-Identifier: Apache-2.0
#include <bight/future.hpp>

namespace bight::detail {

void describe_result(const WaitLink&, std::string& text) { text += "a Future's result"; }

}  // namespace bight::detail
