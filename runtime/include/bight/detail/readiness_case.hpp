// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <utility>

#include <bight/detail/select_case.hpp>

namespace bight::detail {

struct FdState;
struct ReadinessOp;

enum class Readiness : unsigned char { readable, writable };

/// What in a descriptor's case does not depend on the handler. Its operation may be with the kernel when another case
/// is chosen; settle() waits until it is not.
class ReadinessCaseBase : public SelectCase {
 public:
  ReadinessCaseBase(int fd, FdState* state, Readiness what) noexcept;
  ~ReadinessCaseBase() override;

  bool ready() noexcept override;
  void take() override { throw_failure(); }
  bool enlist(SelectWait& wait) noexcept override;
  void delist() noexcept override { wait_ = nullptr; }
  void settle() noexcept override;
  bool served() override {
    throw_failure();
    return true;
  }

 private:
  friend struct ReadinessOp;

  bool start() noexcept;
  void throw_failure();
  [[nodiscard]] ReadinessOp& op() noexcept;

  FdState* state_;
  SelectWait* wait_ = nullptr;
  alignas(16) std::byte memory_[128];  // the ReadinessOp, which only the sources know
};

template <class F>
class ReadinessCase final : public ReadinessCaseBase {
 public:
  template <class G>
  ReadinessCase(int fd, FdState* state, Readiness what, G&& handler)
      : ReadinessCaseBase(fd, state, what), handler_(std::forward<G>(handler)) {}
  void run() override { std::invoke(handler_); }

 private:
  F handler_;
};

}  // namespace bight::detail
