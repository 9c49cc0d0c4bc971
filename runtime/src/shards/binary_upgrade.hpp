// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include <bight/fd.hpp>
#include <bight/time.hpp>

#include "shards/supervisor_signals.hpp"

namespace bight::detail {

/// How this program was started: what it takes to start its file anew. Read early, before the program changes its
/// arguments or its folder.
class ProgramStart {
 public:
  ProgramStart();
  /// The file, as a path that does not depend on the folder and leads through whatever links were used, so that a
  /// replaced file, or a link that leads elsewhere by now, is what is started.
  [[nodiscard]] const std::string& file() const noexcept { return file_; }
  [[nodiscard]] const std::vector<std::string>& arguments() const noexcept { return arguments_; }

 private:
  std::string file_;
  std::vector<std::string> arguments_;
};

/// A new program that is coming up to take over, from its start to its word that it is ready, or its failure.
class BinaryUpgrade {
 public:
  enum class State : unsigned char { none, starting, ready, stopping, failed };

  /// Throws std::system_error.
  void start(const ProgramStart& program, const SupervisorSignals& signals, TimePoint deadline);
  /// To be polled for input while starting.
  [[nodiscard]] int fd() const noexcept { return word_.get(); }
  [[nodiscard]] State state() const noexcept { return state_; }
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  [[nodiscard]] TimePoint deadline() const noexcept { return deadline_; }

  /// Hears what the program says, if anything, and whether its time is up.
  void look(TimePoint time) noexcept;
  /// The program has ended (it has been waited for).
  void on_end() noexcept;
  /// It is not wanted any more: it is asked to leave, and made to a little later.
  void stop(TimePoint time) noexcept;
  /// Ready for another one.
  void forget() noexcept;
  void close() noexcept { word_.reset(); }

 private:
  State state_ = State::none;
  pid_t pid_ = 0;
  Fd word_;
  TimePoint deadline_ = TimePoint::max();
};

}  // namespace bight::detail
