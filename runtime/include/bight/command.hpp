// SPDX-License-Identifier: Apache-2.0
#pragma once

/// A program, run to its end for what it says.
///
///     const std::string head = bight::check_output({"git", "rev-parse", "HEAD"}, {.timeout = 10s});
///
///     const bight::CommandResult made = bight::run_command({"make", "-j4"}, {.process = {.directory = source}});
///     if (!made.success()) report(made.status.to_string(), made.err);

#include <chrono>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include <bight/exit_status.hpp>
#include <bight/subprocess.hpp>
#include <bight/time.hpp>

namespace bight {

struct CommandOptions {
  /// Where nothing else is said here, its output and errors go into pipes, `input` comes from one (or, if it is empty,
  /// from /dev/null), and it has a process group of its own.
  SubprocessOptions process{};
  std::string input{};
  Duration timeout = Duration::max();         ///< when it is up, the process is stopped: see Subprocess::stop
  Duration grace = std::chrono::seconds(2);   ///< from SIGTERM to SIGKILL
  std::size_t output_max = 64 * 1024 * 1024;  ///< bytes kept of each stream
  Duration linger = std::chrono::seconds(1);  ///< see CommunicateOptions
};

struct CommandResult {
  ExitStatus status{};
  std::string out{};
  std::string err{};
  bool timed_out = false;  ///< it was stopped; `out` and `err` are what it had said
  bool truncated = false;  ///< there was more than output_max
  bool left_open = false;  ///< processes that it left behind may yet have something to say

  /// It ended by itself, in time, with 0.
  [[nodiscard]] bool success() const noexcept { return !timed_out && status.success(); }
  /// "exited with 3", "timed out, killed by SIGTERM".
  [[nodiscard]] std::string to_string() const;
};

/// A command did not succeed. what() says which, how it ended, and the last line it wrote to standard error.
class CommandFailed : public std::runtime_error {
 public:
  CommandFailed(const std::string& name, CommandResult result);
  [[nodiscard]] const CommandResult& result() const noexcept { return result_; }

 private:
  CommandResult result_;
};

/// Runs it and waits. Throws what Subprocess::start and communicate throw. The fiber is cancelled: the process is
/// killed, with its group.
[[nodiscard]] CommandResult run_command(const std::vector<std::string>& args, const CommandOptions& options = {});

/// Its standard output. Throws CommandFailed if it was not a success().
[[nodiscard]] std::string check_output(const std::vector<std::string>& args, const CommandOptions& options = {});

}  // namespace bight
