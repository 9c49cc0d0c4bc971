// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include <bight/deadline.hpp>
#include <bight/error.hpp>

#include "endpoint.hpp"
#include "exchange.hpp"

namespace redis {

/// Does what it takes to be connected, within a time; zero: however long. Throws ConnectionLost with timed_out.
template <class Body>
void connect_within(bight::Duration limit, const Endpoint& endpoint, const Body& body) {
  if (limit == bight::Duration::zero()) return body();
  try {
    bight::with_timeout(limit, body);
  } catch (const bight::TimedOut& late) {
    throw ConnectionLost(late.code(), "redis " + endpoint.to_string() + ": not connected in time", false);
  }
}

}  // namespace redis
