// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Connecting by name.
///
///     net::TcpStream peer = net::connect("example.org", 443, {.timeout = 10s});

#include <chrono>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include <bight/net/address.hpp>
#include <bight/net/dns.hpp>
#include <bight/net/tcp.hpp>
#include <bight/time.hpp>

namespace bight::net {

/// A port, or what one is called: 443, "443", "https" (services(5), looked up when it is used).
class Service {
 public:
  template <std::integral Number>
  Service(Number port) noexcept : port_(port >= 0 && port <= 65535 ? static_cast<std::int32_t>(port) : -1) {}  // NOLINT
  Service(std::string_view name) : name_(name) {}                                                              // NOLINT
  Service(const std::string& name) : name_(name) {}                                                            // NOLINT
  Service(const char* name) : name_(name) {}                                                                   // NOLINT

  [[nodiscard]] std::string to_string() const { return name_.empty() ? std::to_string(port_) : name_; }
  /// Its number. Waits if it has to be looked up. invalid_argument: there is none of that name, or the number is 0 or
  /// above 65535.
  [[nodiscard]] std::uint16_t port(std::error_code& error) const;

 private:
  std::int32_t port_ = -1;
  std::string name_;
};

struct DialOptions {
  Duration timeout{0};             ///< for all of it, the name included; zero: as long as servers and the kernel take
  std::optional<Address> local{};  ///< to connect from; only addresses of its kind are tried
  int family = AF_UNSPEC;          ///< AF_INET, AF_INET6, or both
  Duration resolution_delay = std::chrono::milliseconds(50);  ///< how long IPv4 addresses wait for IPv6 ones
  Duration attempt_delay = std::chrono::milliseconds(250);    ///< before the next address is tried as well
  unsigned first_family_count = 1;  ///< addresses of the preferred kind before one of the other
  Resolver* resolver = nullptr;     ///< null: this_loop_resolver()
};

/// Connects to a name by whichever of its addresses answers first: happy eyeballs, RFC 8305. Addresses are tried in the
/// resolver's order, the two kinds in turn; the next one as soon as one has failed, or after attempt_delay. IPv6 and
/// IPv4 addresses are asked for at the same time, and trying begins when the first kind is known. The first connection
/// wins; the other attempts are given up and closed.
///
/// The error is that of the last attempt, and its text lists all: "connect localhost:80: [::1]:80: Connection refused;
/// 127.0.0.1:80: Connection refused". If there is no address, it is the resolver's: "connect example.invalid:80: no
/// such name (asked 127.0.0.1:53)". Out of time: timed_out, and what had failed until then.
[[nodiscard]] TcpStream connect(std::string_view host, const Service& service, const DialOptions& options = {});
[[nodiscard]] TcpStream connect(std::string_view host, const Service& service, const DialOptions& options,
                                std::error_code& error);

/// The same with both in one: "example.org:443", "[::1]:http".
[[nodiscard]] TcpStream dial(std::string_view endpoint, const DialOptions& options = {});
[[nodiscard]] TcpStream dial(std::string_view endpoint, const DialOptions& options, std::error_code& error);

}  // namespace bight::net
