// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bight/connection.hpp>
#include <bight/manager.hpp>

namespace bight::detail {

/// The server's whole life: serves the clients whose connections come through `door`, until nobody has its other end.
void serve_manager(Connection& door, const ManagerOptions& options);

}  // namespace bight::detail
