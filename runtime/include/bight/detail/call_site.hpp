// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace bight::detail {

/// Where in the source something was called from, taken as a default argument. std::source_location would be the thing
/// to use, but Clang up to 15 can not compile libstdc++'s.
struct CallSite {
  const char* file = "";
  unsigned line = 0;

  [[nodiscard]] static constexpr CallSite here(const char* file = __builtin_FILE(),
                                               unsigned line = __builtin_LINE()) noexcept {
    return {file, line};
  }
};

}  // namespace bight::detail
