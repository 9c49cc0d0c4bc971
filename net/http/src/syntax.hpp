// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include <bight/http/message.hpp>

/// The small grammar of RFC 9110 and 9112: what a name, a value, a host or a request line may look like.
namespace bight::http::detail {

/// A "token": names of methods, fields, codings.
[[nodiscard]] bool is_token(std::string_view text) noexcept;
/// A field's value without control characters (tab excepted), so without anything that could end its line.
[[nodiscard]] bool is_field_value(std::string_view text) noexcept;
/// Without spaces and tabs at either end.
[[nodiscard]] std::string_view trimmed(std::string_view text) noexcept;
/// Whether a comma-separated list has this token, in any case.
[[nodiscard]] bool list_contains(std::string_view list, std::string_view token) noexcept;
/// Decimal digits and nothing else, or nothing.
[[nodiscard]] std::optional<std::uint64_t> parse_decimal(std::string_view text) noexcept;

/// "host", "host:port", "[v6]:port". No user, no path, no comma, not empty: what several servers in a row might read in
/// several ways.
[[nodiscard]] bool is_host(std::string_view text) noexcept;
/// The host and port of "http://host:port/path"; nothing when the target is not of that form.
[[nodiscard]] std::optional<std::string_view> authority_of(std::string_view target) noexcept;
/// Whether a Host header says the same as a target in absolute-form, if it is one; the scheme's own port may be left
/// out.
[[nodiscard]] bool agrees_with_target(std::string_view host, std::string_view target) noexcept;

struct RequestLine {
  Method method = Method::get;
  std::string_view method_name;
  std::string_view target;
  unsigned version_minor = 1;
};

/// Takes a request line (without its end) apart. Returns 0, or the status to refuse it with: 400, 501 (CONNECT), 505. A
/// method that is a token but unknown here is Method::other.
[[nodiscard]] unsigned parse_request_line(std::string_view line, RequestLine& out) noexcept;

}  // namespace bight::http::detail
