// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace redis {

/// Where a server is, and who one is there.
struct Endpoint {
  std::string host = "127.0.0.1";
  std::uint16_t port = 6379;
  std::string unix_path{};  ///< if there is one, instead of host and port
  std::string user{};       ///< empty: the server's default one
  std::string password{};   ///< empty: none
  unsigned database = 0;

  /// "redis://user:password@host:port/database", of which all but the scheme may be missing, or
  /// "unix://user:password@/path?db=1". Users and passwords with percent escapes. Throws std::invalid_argument. (There
  /// is no "rediss:", which would be Redis over TLS.)
  [[nodiscard]] static Endpoint parse(std::string_view url);
  /// For messages: without the password.
  [[nodiscard]] std::string to_string() const;
};

}  // namespace redis
