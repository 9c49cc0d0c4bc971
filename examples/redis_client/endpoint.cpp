// SPDX-License-Identifier: Apache-2.0
#include "endpoint.hpp"

#include <charconv>
#include <limits>
#include <optional>
#include <stdexcept>

namespace redis {

namespace {

[[noreturn]] void refuse(const std::string& why) { throw std::invalid_argument("redis URL: " + why); }

std::optional<unsigned> digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return std::nullopt;
}

std::string decode(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    const auto high = i + 2 < text.size() ? digit_of(text[i + 1]) : std::nullopt;
    const auto low = high ? digit_of(text[i + 2]) : std::nullopt;
    if (!low) refuse("a percent sign without two hexadecimal digits behind it");
    decoded += static_cast<char>(*high * 16 + *low);
    i += 2;
  }
  return decoded;
}

unsigned parse_number(std::string_view text, unsigned max, const char* what) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value > max) {
    refuse(std::string(what) + " is no number up to " + std::to_string(max) + ": '" + std::string(text) + "'");
  }
  return value;
}

constexpr unsigned kDatabaseMax = std::numeric_limits<int>::max();

/// Takes "user:password@" from the front.
void take_user(std::string_view& rest, Endpoint& endpoint) {
  const std::size_t at = rest.substr(0, rest.find('/')).rfind('@');
  if (at == std::string_view::npos) return;
  const std::string_view who = rest.substr(0, at);
  const std::size_t colon = who.find(':');
  endpoint.user = decode(who.substr(0, colon));
  if (colon != std::string_view::npos) endpoint.password = decode(who.substr(colon + 1));
  rest.remove_prefix(at + 1);
}

void take_host(std::string_view host, Endpoint& endpoint) {
  const std::size_t bracket = host.starts_with('[') ? host.find(']') : std::string_view::npos;
  if (host.starts_with('[') && bracket == std::string_view::npos) refuse("a bracket that is not closed");
  const std::size_t colon = host.find(':', bracket == std::string_view::npos ? 0 : bracket);
  std::string_view name = host.substr(0, colon);
  if (bracket != std::string_view::npos) name = name.substr(1, bracket - 1);
  if (!name.empty()) endpoint.host = decode(name);
  if (colon != std::string_view::npos) {
    endpoint.port = static_cast<std::uint16_t>(parse_number(host.substr(colon + 1), 65535, "the port"));
  }
}

}  // namespace

Endpoint Endpoint::parse(std::string_view url) {
  constexpr std::string_view kTcp = "redis://";
  constexpr std::string_view kUnix = "unix://";
  Endpoint endpoint;
  const bool is_unix = url.starts_with(kUnix);
  if (!is_unix && !url.starts_with(kTcp)) refuse("it has to begin with redis:// or unix://");
  std::string_view rest = url.substr(is_unix ? kUnix.size() : kTcp.size());
  take_user(rest, endpoint);
  if (is_unix) {
    constexpr std::string_view kDatabase = "?db=";
    const std::size_t query = rest.find('?');
    endpoint.unix_path = decode(rest.substr(0, query));
    if (endpoint.unix_path.empty()) refuse("unix:// without a path");
    if (query == std::string_view::npos) return endpoint;
    if (!rest.substr(query).starts_with(kDatabase)) refuse("after the path, ?db=NUMBER and nothing else");
    endpoint.database = parse_number(rest.substr(query + kDatabase.size()), kDatabaseMax, "the database");
    return endpoint;
  }
  const std::size_t slash = rest.find('/');
  take_host(rest.substr(0, slash), endpoint);
  if (slash != std::string_view::npos && slash + 1 < rest.size()) {
    endpoint.database = parse_number(rest.substr(slash + 1), kDatabaseMax, "the database");
  }
  return endpoint;
}

std::string Endpoint::to_string() const {
  if (!unix_path.empty()) return unix_path;
  const bool bare_v6 = host.find(':') != std::string::npos;
  return (bare_v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

}  // namespace redis
