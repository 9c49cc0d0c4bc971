// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <signal.h>

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

 private:
  bool ours_ = false;
  struct sigaction term_before_ {};
  struct sigaction int_before_ {};
};

}  // namespace bight::detail
