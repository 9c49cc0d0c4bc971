// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <vector>

#include <bight/net/address.hpp>

namespace bight::net::detail {

/// An address to go to, with the one of this machine that would be used for that; none: there is no way.
struct Destination {
  Address address;
  std::optional<Address> source;
};

/// The order in which to try them: RFC 6724, section 6, but for what only the kernel knows (rules 3, 4 and 7). Stable.
void sort_destinations(std::vector<Destination>& destinations);

/// Sorts by the sources that the system would choose, which it is asked for by connecting a UDP socket, so nothing is
/// sent. Waits; throws Cancelled.
void sort_addresses(std::vector<Address>& addresses);

}  // namespace bight::net::detail
