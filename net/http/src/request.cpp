// SPDX-License-Identifier: Apache-2.0
#include <bight/http/message.hpp>

#include "syntax.hpp"

namespace bight::http {

std::string_view to_string(Method method) noexcept {
  switch (method) {
    case Method::get: return "GET";
    case Method::head: return "HEAD";
    case Method::post: return "POST";
    case Method::put: return "PUT";
    case Method::delete_: return "DELETE";
    case Method::options: return "OPTIONS";
    case Method::patch: return "PATCH";
    case Method::trace: return "TRACE";
    case Method::connect: return "CONNECT";
    case Method::other: break;
  }
  return {};
}

std::optional<std::string_view> Fields::find(std::string_view name) const noexcept {
  for (const Place& place : places_) {
    if (place.name_size != name.size()) continue;
    const Field field = at(place);
    if (equal_names(field.name, name)) return field.value;
  }
  return std::nullopt;
}

std::string_view Request::path() const noexcept {
  std::string_view rest = target();
  if (const auto authority = detail::authority_of(rest)) {
    rest.remove_prefix(static_cast<std::size_t>(authority->data() - rest.data()) + authority->size());
    if (!rest.starts_with('/')) return "/";
  }
  return rest.substr(0, rest.find('?'));
}

std::string_view Request::query() const noexcept {
  const std::size_t mark = target().find('?');
  return mark == std::string_view::npos ? std::string_view{} : target().substr(mark + 1);
}

std::string_view Request::host() const noexcept {
  if (const auto authority = detail::authority_of(target())) return *authority;
  return header("host");
}

}  // namespace bight::http
