// SPDX-License-Identifier: Apache-2.0
#include "syntax.hpp"

#include <algorithm>
#include <array>

namespace bight::http {
namespace {

constexpr char to_lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

}  // namespace

bool equal_names(std::string_view a, std::string_view b) noexcept {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return to_lower(x) == to_lower(y); });
}

namespace detail {
namespace {

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
constexpr bool is_letter(char c) noexcept { return to_lower(c) >= 'a' && to_lower(c) <= 'z'; }
constexpr bool is_hex(char c) noexcept { return is_digit(c) || (to_lower(c) >= 'a' && to_lower(c) <= 'f'); }

enum CharClass : std::uint8_t { kToken = 1, kHost = 2 };

constexpr std::array<std::uint8_t, 256> kClasses = [] {
  std::array<std::uint8_t, 256> classes{};
  const auto add = [&classes](std::string_view characters, std::uint8_t mark) {
    for (const char c : characters) classes[static_cast<unsigned char>(c)] |= mark;
  };
  for (unsigned c = 0; c < 128; ++c) {
    if (is_digit(static_cast<char>(c)) || is_letter(static_cast<char>(c))) classes[c] |= kToken | kHost;
  }
  add("!#$%&'*+-.^_`|~", kToken);
  add("-._~!$&'()*+;=", kHost);  // RFC 3986 reg-name, without the comma: no list may pass for a host
  return classes;
}();

bool all_of_class(std::string_view text, CharClass mark) noexcept {
  return std::all_of(text.begin(), text.end(),
                     [mark](char c) { return (kClasses[static_cast<unsigned char>(c)] & mark) != 0; });
}

bool is_port(std::string_view text) noexcept {
  return text.size() <= 5 && std::all_of(text.begin(), text.end(), is_digit);
}

bool is_name(std::string_view text) noexcept {
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '%') {
      if (text.size() - at < 3 || !is_hex(text[at + 1]) || !is_hex(text[at + 2])) return false;
      at += 2;
    } else if ((kClasses[static_cast<unsigned char>(text[at])] & kHost) == 0) {
      return false;
    }
  }
  return !text.empty();
}

bool is_v6(std::string_view text) noexcept {
  return text.size() >= 2 &&
         std::all_of(text.begin(), text.end(), [](char c) { return is_hex(c) || c == ':' || c == '.'; });
}

Method method_of(std::string_view name) noexcept {
  switch (name.size()) {
    case 3: return name == "GET" ? Method::get : name == "PUT" ? Method::put : Method::other;
    case 4: return name == "HEAD" ? Method::head : name == "POST" ? Method::post : Method::other;
    case 5: return name == "PATCH" ? Method::patch : name == "TRACE" ? Method::trace : Method::other;
    case 6: return name == "DELETE" ? Method::delete_ : Method::other;
    case 7: return name == "OPTIONS" ? Method::options : name == "CONNECT" ? Method::connect : Method::other;
    default: return Method::other;
  }
}

// origin-form, absolute-form, or asterisk-form; visible ASCII without a fragment.
bool is_target(std::string_view target, Method method) noexcept {
  if (target.empty()) return false;
  for (const char c : target) {
    if (c <= ' ' || static_cast<unsigned char>(c) >= 0x7f || c == '#') return false;
  }
  if (target.front() == '/') return true;
  if (target == "*") return method == Method::options;
  const auto authority = authority_of(target);
  return authority && is_host(*authority);
}

}  // namespace

bool is_token(std::string_view text) noexcept { return !text.empty() && all_of_class(text, kToken); }

bool is_field_value(std::string_view text) noexcept {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) || c == '\t'; });
}

std::string_view trimmed(std::string_view text) noexcept {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool list_contains(std::string_view list, std::string_view token) noexcept {
  for (;;) {
    const std::size_t comma = list.find(',');
    if (equal_names(trimmed(list.substr(0, comma)), token)) return true;
    if (comma == std::string_view::npos) return false;
    list.remove_prefix(comma + 1);
  }
}

std::optional<std::uint64_t> parse_decimal(std::string_view text) noexcept {
  constexpr std::size_t digits_max = 19;  // more could overflow
  if (text.empty() || text.size() > digits_max) return std::nullopt;
  std::uint64_t value = 0;
  for (const char c : text) {
    if (!is_digit(c)) return std::nullopt;
    value = value * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return value;
}

bool is_host(std::string_view text) noexcept {
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos || !is_v6(text.substr(1, end - 1))) return false;
    text.remove_prefix(end + 1);
    return text.empty() || (text.front() == ':' && is_port(text.substr(1)));
  }
  const std::size_t colon = text.find(':');
  return is_name(text.substr(0, colon)) && (colon == std::string_view::npos || is_port(text.substr(colon + 1)));
}

std::optional<std::string_view> authority_of(std::string_view target) noexcept {
  if (target.starts_with('/')) return std::nullopt;  // nearly always
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!equal_names(target.substr(0, scheme.size()), scheme)) continue;
    target.remove_prefix(scheme.size());
    return target.substr(0, target.find_first_of("/?"));
  }
  return std::nullopt;
}

bool agrees_with_target(std::string_view host, std::string_view target) noexcept {
  const auto authority = authority_of(target);
  if (!authority) return true;
  constexpr std::string_view plain = "http://";
  const std::string_view port = equal_names(target.substr(0, plain.size()), plain) ? ":80" : ":443";
  const auto without_port = [port](std::string_view text) {
    if (text.ends_with(port)) return text.substr(0, text.size() - port.size());
    return text.ends_with(':') ? text.substr(0, text.size() - 1) : text;
  };
  return equal_names(without_port(*authority), without_port(host));
}

unsigned parse_request_line(std::string_view line, RequestLine& out) noexcept {
  constexpr std::string_view version = " HTTP/1.1";
  if (line.size() < version.size()) return 400;
  const std::string_view tail = line.substr(line.size() - version.size());
  const char major = tail[6];
  const char minor = tail[8];
  if (!tail.starts_with(version.substr(0, 6)) || !is_digit(major) || tail[7] != '.' || !is_digit(minor)) return 400;

  line.remove_suffix(version.size());
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos) return 400;
  out.method_name = line.substr(0, space);
  out.target = line.substr(space + 1);
  out.method = method_of(out.method_name);
  if (out.method == Method::other && !is_token(out.method_name)) return 400;
  if (out.method == Method::connect) return 501;  // a tunnel is not for an origin server
  // The version comes before the target: that of another version may look otherwise.
  if (major != '1' || minor > '1') return 505;
  if (!is_target(out.target, out.method)) return 400;
  out.version_minor = static_cast<unsigned>(minor - '0');
  return 0;
}

}  // namespace detail
}  // namespace bight::http
