// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include <netinet/in.h>
#include <sys/socket.h>

namespace bight::net {

/// An Internet address with a port: IPv4 or IPv6. A value.
class Address {
 public:
  /// 0.0.0.0:0
  Address() noexcept;

  /// "192.0.2.1:80", "[2001:db8::1]:80", "[fe80::1%eth0]:80", "localhost:80" (127.0.0.1), "*:80" or ":80" (0.0.0.0). No
  /// names are looked up, nothing is guessed: anything else, a missing or wrong port included, is std::nullopt; parse()
  /// throws std::system_error with invalid_argument and a text that says what is wrong with it.
  [[nodiscard]] static std::optional<Address> try_parse(std::string_view text) noexcept;
  [[nodiscard]] static Address parse(std::string_view text);
  /// Host (as above, IPv6 with or without brackets) and port apart.
  [[nodiscard]] static std::optional<Address> try_parse(std::string_view host, std::uint16_t port) noexcept;
  [[nodiscard]] static Address parse(std::string_view host, std::uint16_t port);

  [[nodiscard]] static Address any_v4(std::uint16_t port) noexcept;
  [[nodiscard]] static Address any_v6(std::uint16_t port) noexcept;
  [[nodiscard]] static Address loopback_v4(std::uint16_t port) noexcept;
  [[nodiscard]] static Address loopback_v6(std::uint16_t port) noexcept;
  /// From what the kernel filled in. Anything but AF_INET and AF_INET6 gives Address().
  [[nodiscard]] static Address from_native(const ::sockaddr* address, ::socklen_t length) noexcept;

  [[nodiscard]] bool is_v4() const noexcept { return storage_.generic.sa_family == AF_INET; }
  [[nodiscard]] bool is_v6() const noexcept { return storage_.generic.sa_family == AF_INET6; }
  [[nodiscard]] int family() const noexcept { return storage_.generic.sa_family; }
  [[nodiscard]] bool is_loopback() const noexcept;
  [[nodiscard]] bool is_unspecified() const noexcept;
  [[nodiscard]] std::uint16_t port() const noexcept;
  [[nodiscard]] Address with_port(std::uint16_t port) const noexcept;

  /// As parse() takes it: "192.0.2.1:80", "[2001:db8::1]:80". host() is without port and brackets.
  [[nodiscard]] std::string to_string() const;
  [[nodiscard]] std::string host() const;

  [[nodiscard]] const ::sockaddr* native() const noexcept { return &storage_.generic; }
  [[nodiscard]] ::socklen_t native_size() const noexcept;

  /// By family, address, port, scope.
  friend bool operator==(const Address& a, const Address& b) noexcept;
  friend std::strong_ordering operator<=>(const Address& a, const Address& b) noexcept;

 private:
  union Storage {
    ::sockaddr generic;
    ::sockaddr_in v4;
    ::sockaddr_in6 v6;
  } storage_;
};

}  // namespace bight::net

template <>
struct std::hash<bight::net::Address> {
  std::size_t operator()(const bight::net::Address& address) const noexcept;
};
