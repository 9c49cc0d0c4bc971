// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <tuple>

namespace bight::detail {

/// An address and port of the simulated network. IPv4 is kept as the kernel maps it into IPv6 (::ffff:a.b.c.d), so that
/// an IPv6 listener can have IPv4 clients. Ordered by port first: the addresses in use on one port are neighbours in a
/// map.
struct SimAddress {
  std::uint16_t port = 0;
  std::array<std::uint8_t, 16> ip{};
  std::uint32_t scope = 0;

  friend bool operator==(const SimAddress&, const SimAddress&) = default;
  friend std::strong_ordering operator<=>(const SimAddress& a, const SimAddress& b) noexcept {
    return std::tie(a.port, a.ip, a.scope) <=> std::tie(b.port, b.ip, b.scope);
  }

  /// 0.0.0.0 or ::, port 0.
  [[nodiscard]] static SimAddress any(int family) noexcept;
  /// Reads what a socket of `family` is given. 0, or -EINVAL, -EAFNOSUPPORT as the kernel.
  [[nodiscard]] static int read(const ::sockaddr* from, ::socklen_t length, int family, SimAddress& into) noexcept;
  /// Writes what a socket of `family` tells: as much as fits, and the length there would be.
  void write(int family, ::sockaddr* into, ::socklen_t* length) const noexcept;

  [[nodiscard]] bool is_v4() const noexcept;
  [[nodiscard]] bool is_any() const noexcept;
  [[nodiscard]] bool is_any_v6() const noexcept { return ip == std::array<std::uint8_t, 16>{}; }
  [[nodiscard]] bool is_loopback() const noexcept;
  [[nodiscard]] SimAddress with_port(std::uint16_t other) const noexcept {
    SimAddress copy = *this;
    copy.port = other;
    return copy;
  }
  [[nodiscard]] std::string to_string() const;
};

/// 127.0.0.1 or ::1.
[[nodiscard]] SimAddress sim_loopback(bool v4) noexcept;

}  // namespace bight::detail
