// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>

namespace bight::detail {

class Loop;

/// While it lives, a fiber of this thread that runs into its stack's guard page is named on standard error before the
/// process dies of SIGSEGV as it would have anyway. Works on an alternate signal stack, which the thread gets for the
/// time. Does nothing under AddressSanitizer, which has a report of its own.
class OverflowReports {
 public:
  explicit OverflowReports(Loop& loop) noexcept;
  ~OverflowReports();
  OverflowReports(const OverflowReports&) = delete;
  OverflowReports& operator=(const OverflowReports&) = delete;

 private:
  void* memory_ = nullptr;
  stack_t stack_before_{};
};

}  // namespace bight::detail
