// SPDX-License-Identifier: Apache-2.0
#include <bight/log.hpp>

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <string>

namespace bight {
namespace {

constexpr std::array<std::string_view, 5> kNames{"debug", "info", "warning", "error", "off"};

LogLevel level_from_environment() noexcept {
  const char* text = std::getenv("BIGHT_LOG");  // NOLINT(concurrency-mt-unsafe): read once, never set by us
  if (text == nullptr) return LogLevel::info;
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == text) return static_cast<LogLevel>(i);
  }
  return LogLevel::info;
}

std::atomic<LogLevel>& level_setting() noexcept {
  static std::atomic<LogLevel> level{level_from_environment()};
  return level;
}

void append_escaped(std::string& line, std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      line += c;
    } else if (c == '\n') {
      line += "\n  ";  // a list stays one record, visibly
    } else {
      line += "\\x";
      line += kDigits[byte >> 4U];
      line += kDigits[byte & 15U];
    }
  }
}

}  // namespace

void set_log_level(LogLevel level) noexcept { level_setting().store(level, std::memory_order_relaxed); }

LogLevel log_level() noexcept { return level_setting().load(std::memory_order_relaxed); }

namespace detail {

void log(LogLevel level, std::string_view text) noexcept {
  if (level < log_level() || level == LogLevel::off) return;
  try {
    std::string line = "bight: ";
    if (level != LogLevel::info) line.append(kNames[static_cast<std::size_t>(level)]).append(": ");
    append_escaped(line, text);
    line += '\n';
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
  } catch (...) {  // no memory for a line: it is lost, the program is not
  }
}

}  // namespace detail
}  // namespace bight
