// SPDX-License-Identifier: Apache-2.0
#include "name.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>

#include <bight/net/dns.hpp>

namespace bight::net::detail {
namespace {

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

constexpr bool may_be_in(char c, NameKind kind) noexcept {
  if (kind == NameKind::any) return c >= ' ' && c <= '~' && c != '\\';
  return (c >= 'a' && c <= 'z') || is_digit(c) || c == '-' || c == '_' || c == '.';
}

/// The same, as a table: every byte of every name is looked at.
constexpr auto kHostBytes = [] {
  std::array<bool, 256> may{};
  for (unsigned c = 0; c < may.size(); ++c) may[c] = may_be_in(static_cast<char>(c), NameKind::host);
  return may;
}();

/// inet_aton(3) takes "127.1", "0x7f000001" and the like for addresses, as browsers do. To look them up would be to let
/// whoever serves such a name decide; to take them for addresses would fool who looks for dots and digits. They are
/// recognised by their last label.
bool ends_in_number(std::string_view name) noexcept {
  const std::string_view last = name.substr(name.rfind('.') + 1);
  if (!is_digit(last.front())) return false;
  if (std::all_of(last.begin(), last.end(), is_digit)) return true;
  return last.starts_with("0x") &&
         std::all_of(last.begin() + 2, last.end(), [](char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); });
}

/// Makes it lower case. Whether each of its bytes may be there, and each label has a length that labels may have.
bool normalize(std::string& name, NameKind kind) noexcept {
  bool clean = true;
  std::size_t label = 0;
  for (char& c : name) {
    c = lower(c);
    if (c == '.') {
      clean &= label != 0 && label <= kLabelMax;
      label = 0;
    } else {
      clean &= kind == NameKind::host ? kHostBytes[static_cast<unsigned char>(c)] : may_be_in(c, kind);
      ++label;
    }
  }
  return clean && label != 0 && label <= kLabelMax && name.size() <= kNameMax;
}

}  // namespace

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = lower(c);
  return result;
}

std::size_t count_dots(std::string_view text) noexcept {
  std::size_t count = 0;
  for (std::size_t at = text.find('.'); at != std::string_view::npos; at = text.find('.', at + 1)) ++count;
  return count;
}

bool is_within(std::string_view name, std::string_view domain) noexcept {
  if (!name.ends_with(domain)) return false;
  return name.size() == domain.size() || name[name.size() - domain.size() - 1] == '.';
}

DnsName parse_name(std::string_view text, NameKind kind, std::error_code& error) {
  error = DnsError::invalid_name;
  DnsName name;
  if (text.size() > 4 * kNameMax) return name;  // no encoding of that many bytes is short enough
  name.full = text.ends_with('.');
  if (name.full) text.remove_suffix(1);
  unsigned char bits = 0;
  for (const char c : text) bits |= static_cast<unsigned char>(c);
  std::error_code idna;
  name.text = (bits & 0x80U) == 0 ? std::string(text) : to_ascii(text, idna);
  const bool clean = normalize(name.text, kind);
  if (idna) {
    error = idna;
  } else if (clean && !(kind == NameKind::host && ends_in_number(name.text))) {
    error.clear();
  }
  return name;
}

std::string reverse_name(const Address& address) {
  std::string name;
  const auto append = [&name](unsigned value, unsigned base) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    name += base == 16 ? std::string(1, kDigits[value]) : std::to_string(value);
    name += '.';
  };
  if (address.is_v4()) {
    ::sockaddr_in native;
    std::memcpy(&native, address.native(), sizeof native);
    unsigned char bytes[4];
    std::memcpy(bytes, &native.sin_addr, sizeof bytes);
    for (int i = 3; i >= 0; --i) append(bytes[i], 10);
    return name + "in-addr.arpa";
  }
  ::sockaddr_in6 native;
  std::memcpy(&native, address.native(), sizeof native);
  for (int i = 15; i >= 0; --i) {
    append(native.sin6_addr.s6_addr[i] & 0xFU, 16);
    append(native.sin6_addr.s6_addr[i] >> 4U, 16);
  }
  return name + "ip6.arpa";
}

std::string printable(std::string_view text) {
  constexpr std::size_t kShown = 100;
  std::string shown;
  for (const char c : text.substr(0, kShown)) shown += c >= ' ' && c != '\x7f' ? c : (c & 0x80) != 0 ? c : '?';
  return text.size() > kShown ? shown + "..." : shown;
}

}  // namespace bight::net::detail
