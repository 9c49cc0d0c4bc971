// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <system_error>

#include <bight/net/address.hpp>

namespace bight::net::detail {

inline constexpr std::size_t kNameMax = 253;  // as text, without the dot at the end: RFC 1035's 255 bytes on the wire
inline constexpr std::size_t kLabelMax = 63;

/// A name as it is asked for and compared: lower case, ASCII, no dot at the end.
struct DnsName {
  std::string text;
  bool full = false;  // it had a dot at the end, so no search list
};

/// What may be in it: of a host letters, digits, '-' and '_' (and '*', '/' and the like of no use); of other names, as
/// of services ("Our Printer._ipp._tcp.local"), whatever can be printed but a backslash.
enum class NameKind : unsigned char { host, any };

[[nodiscard]] DnsName parse_name(std::string_view text, NameKind kind, std::error_code& error);

/// Lower case, of ASCII letters alone.
[[nodiscard]] constexpr char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; }
[[nodiscard]] std::string lower(std::string_view text);

[[nodiscard]] std::size_t count_dots(std::string_view text) noexcept;
/// Whether `name` is `domain` or below it.
[[nodiscard]] bool is_within(std::string_view name, std::string_view domain) noexcept;

/// "4.3.2.1.in-addr.arpa", and its like for IPv6.
[[nodiscard]] std::string reverse_name(const Address& address);

/// The ASCII form of a UTF-8 name: idna.cpp.
[[nodiscard]] std::string to_ascii(std::string_view text, std::error_code& error);

/// For showing to people what may come from anywhere: at most 100 bytes of it, without control characters.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace bight::net::detail
