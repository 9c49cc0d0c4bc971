// SPDX-License-Identifier: Apache-2.0
#include <bight/check.hpp>

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "loop.hpp"

namespace bight::detail {

void check_failed(const char* file, int line, const char* expression, const char* sentence) noexcept {
  char text[1024];
  const Loop* loop = Loop::current();
  const FiberControl* fiber = loop != nullptr ? loop->running() : nullptr;
  const std::string_view name = fiber != nullptr ? fiber->name() : std::string_view{};
  const int length = std::snprintf(text, sizeof text, "bight: %s:%d: check failed: %s: %s%s%.*s%s\n", file, line,
                                   expression, sentence, fiber != nullptr ? " (in fiber '" : "",
                                   static_cast<int>(name.size()), name.data(), fiber != nullptr ? "')" : "");
  if (length > 0) {
    [[maybe_unused]] const auto written =
        ::write(STDERR_FILENO, text, std::min(sizeof text - 1, static_cast<std::size_t>(length)));
  }
  std::abort();
}

}  // namespace bight::detail
