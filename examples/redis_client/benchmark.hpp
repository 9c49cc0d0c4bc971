// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "connection.hpp"

namespace redis {

/// Sends `count` INCRs in different ways, and prints what each of them makes in a second.
void benchmark(const Endpoint& endpoint, const ConnectionOptions& options, std::size_t count);

}  // namespace redis
