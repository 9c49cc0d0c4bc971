// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_address.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace bight::detail {
namespace {

constexpr std::size_t kV4 = 12;       // where the IPv4 part of a mapped address begins
constexpr ::socklen_t kV6Least = 24;  // a sockaddr_in6 without scope: what the kernel accepts (RFC 2133)

void set_mapped_prefix(SimAddress& address) noexcept { address.ip[10] = address.ip[11] = 0xff; }

}  // namespace

SimAddress SimAddress::any(int family) noexcept {
  SimAddress address;
  if (family == AF_INET) set_mapped_prefix(address);
  return address;
}

int SimAddress::read(const ::sockaddr* from, ::socklen_t length, int family, SimAddress& into) noexcept {
  into = SimAddress{};
  if (length < (family == AF_INET ? sizeof(::sockaddr_in) : kV6Least)) return -EINVAL;
  if (from->sa_family != family) return -EAFNOSUPPORT;
  if (family == AF_INET) {
    ::sockaddr_in v4{};
    std::memcpy(&v4, from, sizeof v4);
    into.port = ntohs(v4.sin_port);
    set_mapped_prefix(into);
    std::memcpy(&into.ip[kV4], &v4.sin_addr, 4);
    return 0;
  }
  ::sockaddr_in6 v6{};
  std::memcpy(&v6, from, std::min<std::size_t>(length, sizeof v6));
  into.port = ntohs(v6.sin6_port);
  std::memcpy(into.ip.data(), &v6.sin6_addr, into.ip.size());
  if (IN6_IS_ADDR_LINKLOCAL(&v6.sin6_addr)) into.scope = v6.sin6_scope_id;
  return 0;
}

void SimAddress::write(int family, ::sockaddr* into, ::socklen_t* length) const noexcept {
  if (family == AF_INET) {
    ::sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&v4.sin_addr, &ip[kV4], 4);
    std::memcpy(into, &v4, std::min<std::size_t>(*length, sizeof v4));
    *length = sizeof v4;
    return;
  }
  ::sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  std::memcpy(&v6.sin6_addr, ip.data(), ip.size());
  v6.sin6_scope_id = scope;
  std::memcpy(into, &v6, std::min<std::size_t>(*length, sizeof v6));
  *length = sizeof v6;
}

bool SimAddress::is_v4() const noexcept {
  return ip[10] == 0xff && ip[11] == 0xff &&
         std::all_of(ip.begin(), ip.begin() + 10, [](auto byte) { return byte == 0; });
}

bool SimAddress::is_any() const noexcept {
  return is_any_v6() || (is_v4() && std::all_of(ip.begin() + kV4, ip.end(), [](auto byte) { return byte == 0; }));
}

bool SimAddress::is_loopback() const noexcept { return is_v4() ? ip[kV4] == 127 : ip == sim_loopback(false).ip; }

std::string SimAddress::to_string() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (is_v4()) {
    ::inet_ntop(AF_INET, &ip[kV4], text, sizeof text);
    return std::string(text) + ":" + std::to_string(port);
  }
  ::inet_ntop(AF_INET6, ip.data(), text, sizeof text);
  return "[" + std::string(text) + "]:" + std::to_string(port);
}

SimAddress sim_loopback(bool v4) noexcept {
  SimAddress address = SimAddress::any(v4 ? AF_INET : AF_INET6);
  if (v4) address.ip[kV4] = 127;
  address.ip.back() = 1;
  return address;
}

}  // namespace bight::detail
