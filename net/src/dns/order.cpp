// SPDX-License-Identifier: Apache-2.0
#include "order.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include <bight/fiber.hpp>
#include <bight/socket.hpp>

namespace bight::net::detail {
namespace {

using Bytes = std::array<std::uint8_t, 16>;

/// IPv4 as the mapped IPv6 address.
Bytes bytes_of(const Address& address) noexcept {
  Bytes bytes{};
  if (address.is_v4()) {
    bytes[10] = bytes[11] = 0xff;
    ::sockaddr_in native;
    std::memcpy(&native, address.native(), sizeof native);
    std::memcpy(bytes.data() + 12, &native.sin_addr, 4);
  } else {
    ::sockaddr_in6 native;
    std::memcpy(&native, address.native(), sizeof native);
    std::memcpy(bytes.data(), &native.sin6_addr, bytes.size());
  }
  return bytes;
}

unsigned common_bits(const Bytes& a, const Bytes& b) noexcept {
  unsigned bits = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const auto difference = static_cast<std::uint8_t>(a[i] ^ b[i]);
    bits += static_cast<unsigned>(std::countl_zero(difference));
    if (difference != 0) break;
  }
  return bits;
}

struct Policy {
  Bytes prefix;
  unsigned bits;
  int precedence;
  int label;
};

/// RFC 6724, section 2.1; longer prefixes first.
const Policy& policy_of(const Bytes& address) noexcept {
  static constexpr std::array<Policy, 9> kTable{{
      {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 128, 50, 0},
      {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 96, 35, 4},
      {{}, 96, 1, 3},
      {{0x20, 0x01}, 32, 5, 5},
      {{0x20, 0x02}, 16, 30, 2},
      {{0x3f, 0xfe}, 16, 1, 12},
      {{0xfe, 0xc0}, 10, 1, 11},
      {{0xfc}, 7, 3, 13},
      {{}, 0, 40, 1},
  }};
  return *std::find_if(kTable.begin(), kTable.end(),
                       [&](const Policy& each) { return common_bits(address, each.prefix) >= each.bits; });
}

/// RFC 4291's numbers for the scopes of multicast addresses; unicast ones by RFC 6724, sections 3.1 and 3.2.
int scope_of(const Bytes& address) noexcept {
  constexpr int kLink = 2;
  constexpr int kSite = 5;
  constexpr int kGlobal = 14;
  constexpr Bytes kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (common_bits(address, kMapped) >= 96) {
    const bool local = address[12] == 127 || (address[12] == 169 && address[13] == 254);
    return local ? kLink : kGlobal;
  }
  if (address[0] == 0xff) return address[1] & 0x0f;
  if (common_bits(address, Bytes{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}) == 128) return kLink;
  if (address[0] == 0xfe && (address[1] & 0xc0) == 0x80) return kLink;
  if (address[0] == 0xfe && (address[1] & 0xc0) == 0xc0) return kSite;
  return kGlobal;
}

struct Rank {
  bool usable = false;
  bool scope_matches = false;
  bool label_matches = false;
  int precedence = 0;
  int scope = 0;
  unsigned prefix = 0;  // bits in common with the source; 0 where that says nothing
  bool v6 = false;
};

Rank rank_of(const Destination& destination) noexcept {
  Rank rank;
  const Bytes address = bytes_of(destination.address);
  rank.precedence = policy_of(address).precedence;
  rank.scope = scope_of(address);
  rank.v6 = destination.address.is_v6();
  if (!destination.source) return rank;
  const Bytes source = bytes_of(*destination.source);
  rank.usable = true;
  rank.scope_matches = scope_of(source) == rank.scope;
  rank.label_matches = policy_of(source).label == policy_of(address).label;
  if (rank.v6) rank.prefix = std::min(common_bits(address, source), 64U);
  return rank;
}

/// Rules 1, 2, 5, 6, 8 and 9. Rule 9 is left out for IPv4, where it would always send everybody to the same address of
/// several that are there to share the load.
bool goes_first(const Rank& a, const Rank& b) noexcept {
  if (a.usable != b.usable) return a.usable;
  if (a.scope_matches != b.scope_matches) return a.scope_matches;
  if (a.label_matches != b.label_matches) return a.label_matches;
  if (a.precedence != b.precedence) return a.precedence > b.precedence;
  if (a.scope != b.scope) return a.scope < b.scope;
  return a.v6 && b.v6 && a.prefix > b.prefix;
}

std::optional<Address> source_for(const Address& destination) {
  constexpr std::uint16_t kAnyPort = 53;
  const Address address = destination.port() == 0 ? destination.with_port(kAnyPort) : destination;
  std::error_code error;
  Socket socket = Socket::open(address.family(), SOCK_DGRAM, IPPROTO_UDP, error);
  if (!error) socket.connect(address.native(), address.native_size(), error);
  ::sockaddr_storage name{};
  ::socklen_t length = 0;
  if (!error) length = socket.local_name(name, error);
  if (error == std::errc::operation_canceled) this_fiber::checkpoint();
  if (error) return std::nullopt;
  return Address::from_native(reinterpret_cast<const ::sockaddr*>(&name), length);
}

}  // namespace

void sort_destinations(std::vector<Destination>& destinations) {
  std::vector<std::pair<Rank, Destination>> ranked;
  ranked.reserve(destinations.size());
  for (const Destination& each : destinations) ranked.emplace_back(rank_of(each), each);
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return goes_first(a.first, b.first); });
  for (std::size_t i = 0; i < ranked.size(); ++i) destinations[i] = ranked[i].second;
}

void sort_addresses(std::vector<Address>& addresses) {
  if (addresses.size() < 2) return;
  // Only IPv6 addresses, and the two kinds, are told apart by anything but luck.
  if (std::all_of(addresses.begin(), addresses.end(), [](const Address& each) { return each.is_v4(); })) {
    const auto scope = [](const Address& each) { return scope_of(bytes_of(each)); };
    const int first = scope(addresses.front());
    if (std::all_of(addresses.begin(), addresses.end(), [&](const Address& each) { return scope(each) == first; }))
      return;
  }
  std::vector<Destination> destinations;
  destinations.reserve(addresses.size());
  for (const Address& each : addresses) destinations.push_back({each, source_for(each)});
  sort_destinations(destinations);
  for (std::size_t i = 0; i < addresses.size(); ++i) addresses[i] = destinations[i].address;
}

}  // namespace bight::net::detail
