// SPDX-License-Identifier: Apache-2.0
#include "value.hpp"

#include <array>

namespace redis {

std::string_view name_of(Type type) noexcept {
  constexpr std::array<std::string_view, 13> kNames{
      "nil",       "a status",     "an error",        "an integer", "a text", "a list", "a number",
      "a boolean", "a big number", "a verbatim text", "a set",      "a map",  "a push"};
  return kNames[static_cast<std::size_t>(type)];
}

void Value::refuse(const char* wanted) const {
  std::string what = "redis: " + std::string(name_of(type_));
  if (is_error()) what += " (" + text() + ")";
  throw UnexpectedReply(what + " was sent where " + wanted + " was expected");
}

const Value* Value::find(std::string_view key) const {
  const Items& all = items();
  for (std::size_t i = 0; i + 1 < all.size(); i += 2) {
    if (all[i].has_text() && all[i].text() == key) return &all[i + 1];
  }
  return nullptr;
}

}  // namespace redis
