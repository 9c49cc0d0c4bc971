// SPDX-License-Identifier: Apache-2.0
#include "shards/hang_watch.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <string_view>

#include <bight/fd.hpp>

namespace bight::detail {

bool HangWatch::look(std::uint64_t beat, TimePoint time, Duration limit) noexcept {
  if (time < next_) return false;
  const Duration period = std::max<Duration>(limit / kLooks, std::chrono::milliseconds(1));
  const bool late = next_ != TimePoint{} && time - next_ > period;
  next_ = time + period;
  const bool runs = (beat & 1U) != 0;
  if (!runs || beat != beat_ || late) {
    beat_ = beat;
    looks_ = 0;
    return false;
  }
  return ++looks_ >= kLooks;
}

bool is_stopped_or_traced(pid_t pid) noexcept {
  std::array<char, 40> path{};
  std::snprintf(path.data(), path.size(), "/proc/%d/status", pid);
  const Fd file(::open(path.data(), O_RDONLY | O_CLOEXEC));
  if (!file) return false;
  std::array<char, 4096> text{};
  const ssize_t size = ::read(file.get(), text.data(), text.size());
  const std::string_view status(text.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
  const auto value = [&](std::string_view key) -> std::string_view {
    const std::size_t at = status.find(key);
    return at == std::string_view::npos ? std::string_view() : status.substr(at + key.size(), 1);
  };
  const std::string_view state = value("\nState:\t");
  const std::string_view tracer = value("\nTracerPid:\t");
  return state == "T" || state == "t" || (!tracer.empty() && tracer != "0");
}

}  // namespace bight::detail
