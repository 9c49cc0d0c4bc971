// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>

namespace bight::detail {

class Loop;

/// While it lives, SIGTERM and SIGINT are `loop`'s: they become requests to stop. The first loop of the process gets
/// them; the rest, and a loop that does not want them, leave everything as it is. The handlers that were there before
/// come back at the end.
class StopSignals {
 public:
  StopSignals(Loop& loop, bool wanted) noexcept;
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The loop is the parent's: the child goes back to the handlers that were there before.
  static void forget_in_forked_child() noexcept;

 private:
  static void restore() noexcept;

  bool ours_ = false;
};

}  // namespace bight::detail
