// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>

#include <bight/error.hpp>

#include "engine/file_op.hpp"
#include "file_state.hpp"

namespace bight::detail {

/// An operation on a path, or on two.
struct PathCall : FileOp {
  PathCall(FileVerb what, const std::string& first, std::error_code& error) noexcept : FileOp(what) {
    valid = usable(first, error);
    path = first.c_str();
  }
  PathCall(FileVerb what, const std::string& first, const std::string& second, std::error_code& error) noexcept
      : PathCall(what, first, error) {
    valid = valid && usable(second, error);
    other_path = second.c_str();
  }
  /// Carries it out, unless a path was unusable. Returns its result, or 0 with an error.
  std::size_t run(std::error_code& error) noexcept { return valid ? settle(*this, error) : 0; }
  bool valid;
};

/// Calls `call(error)` and returns what it returns, or throws "TEXT: REASON".
template <class Text, class Call>
auto or_throw(Text&& text, Call&& call) {
  std::error_code error;
  if constexpr (std::is_void_v<std::invoke_result_t<Call&, std::error_code&>>) {
    call(error);
    if (error) throw_error(error, text());
  } else {
    auto result = call(error);
    if (error) throw_error(error, text());
    return result;
  }
}

/// The directory that a path's last part is in, and that part.
[[nodiscard]] inline std::string parent_of(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const std::size_t slash = path.find_last_of('/');
  if (slash == std::string_view::npos) return ".";
  return slash == 0 ? "/" : std::string(path.substr(0, slash));
}

/// Letters and digits that nobody else is likely to come upon.
[[nodiscard]] std::string random_name();

}  // namespace bight::detail
