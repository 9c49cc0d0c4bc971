// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace bight {

/// What the runtime itself has to say goes to standard error, one line each, at or above this level: "bight: warning:
/// …". Set by the environment's BIGHT_LOG (debug, info, warning, error, off) or by set_log_level. The default is info:
/// the line at start-up that names the engine, and trouble.
enum class LogLevel : std::uint8_t { debug, info, warning, error, off };

/// Any thread.
void set_log_level(LogLevel level) noexcept;
[[nodiscard]] LogLevel log_level() noexcept;

namespace detail {

/// Writes a line, or a record of several, with write(2)s of at most PIPE_BUF bytes that end with a line, so that lines
/// of several threads and processes do not mix: neither in a pipe nor in a file that was opened once (or with
/// O_APPEND). Very long lines are broken, visibly. Control bytes are escaped.
void log(LogLevel level, std::string_view text) noexcept;
inline void log_warning(std::string_view text) noexcept { log(LogLevel::warning, text); }

}  // namespace detail
}  // namespace bight
