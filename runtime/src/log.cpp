// SPDX-License-Identifier: Apache-2.0
#include <bight/log.hpp>

#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <string>

#include "engine/quiet_write.hpp"

namespace bight {
namespace {

// Of a line, in characters of the text; each may be escaped to four bytes. What is beyond goes to a line of its own.
constexpr std::size_t kLineMax = PIPE_BUF / 4 - 16;

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
  std::size_t width = line.size();
  for (const char c : text) {
    const bool begins = (static_cast<unsigned char>(c) & 0xc0U) != 0x80;  // a character of UTF-8
    if (width++ >= kLineMax && begins && c != '\n') {  // broken visibly, and so that each part is written in one go
      line += "\n  … ";
      width = 0;
    }
    if (c == '\n') width = 0;
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

/// Where the piece that begins at `at` ends, so that it is one write(2) that pipes take in one go (PIPE_BUF: pipe(7)).
/// Rather at the end of a line; a line that is too long is broken.
std::size_t end_of_piece(std::string_view text, std::size_t at) noexcept {
  if (text.size() - at <= PIPE_BUF) return text.size();
  const std::size_t line_end = text.substr(at, PIPE_BUF).rfind('\n');
  return line_end != std::string_view::npos ? at + line_end + 1 : at + PIPE_BUF;
}

/// A record of several lines may be several pieces, and others' may come between them; but never within a line.
void write_out(std::string_view text) noexcept {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = end_of_piece(text, at);
    ssize_t written = 0;
    do written = detail::quiet_write(STDERR_FILENO, text.data() + at, end - at);
    while (written < 0 && errno == EINTR);
    // A full pipe that does not block, one that nobody reads any more, a full disk: the rest is lost, the program is
    // not.
    if (written < 0) return;
    at = end;
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
    write_out(line);
  } catch (...) {  // no memory for a line: it is lost, the program is not
  }
}

}  // namespace detail
}  // namespace bight
