// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

#include <bight/detail/call_site.hpp>
#include <bight/detail/callback.hpp>
#include <bight/detail/cancel_scope.hpp>
#include <bight/detail/parking.hpp>
#include <bight/detail/wait_list.hpp>

namespace bight {

/// Where a fiber is in its life. `ready` also before its first run.
enum class FiberStatus : std::uint8_t { ready, running, parked, done, failed, cancelled };

[[nodiscard]] std::string_view to_string(FiberStatus status) noexcept;

namespace detail {

class Loop;
struct FiberControl;

/// A stack's place, for sanitizers and for reports.
struct StackNotes {
  const void* bottom = nullptr;  // the lowest byte
  std::size_t size = 0;
  void* shadow = nullptr;  // what a sanitizer keeps for this stack, in builds with one
};

/// The machine state of something that is not running. Filled in and read by context.cpp alone.
struct Context {
  void* stack_pointer = nullptr;
  void* caught_exceptions = nullptr;     // the C++ runtime's per-thread exception state,
  unsigned int uncaught_exceptions = 0;  // which each fiber must have for itself
  StackNotes* notes = nullptr;
};

/// A callback to run when a fiber ends (Fiber::on_done). Made when it is added, so that the end itself needs no memory.
struct DoneCallback {
  Callback callback;
  DoneCallback* next = nullptr;
};

/// Such callbacks in their order; owns them.
class DoneCallbacks {
 public:
  DoneCallbacks() noexcept = default;
  DoneCallbacks(const DoneCallbacks&) = delete;
  DoneCallbacks& operator=(const DoneCallbacks&) = delete;
  ~DoneCallbacks() {
    while (first_ != nullptr) delete pop();
  }

  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  void add(Callback callback) {
    auto* added = new DoneCallback{std::move(callback)};
    *end_ = added;
    end_ = &added->next;
  }
  /// Takes all of `others`, behind its own.
  void take(DoneCallbacks& others) noexcept {
    if (others.first_ == nullptr) return;
    *end_ = std::exchange(others.first_, nullptr);
    end_ = std::exchange(others.end_, &others.first_);
  }
  /// The first one, which is the caller's from now on. There must be one.
  [[nodiscard]] DoneCallback* pop() noexcept {
    DoneCallback* popped = first_;
    first_ = popped->next;
    if (first_ == nullptr) end_ = &first_;
    return popped;
  }

 private:
  DoneCallback* first_ = nullptr;
  DoneCallback** end_ = &first_;
};

class FiberOwner;
struct LocalSlots;
struct CoroutineControl;

/// Everything the scheduler knows of a fiber. It sits at the top of the fiber's own stack with the callable and the
/// result right behind it (see Task in fiber.hpp), so a spawn is one pooled stack and no other allocation. It lives as
/// long as somebody refers to it: the fiber itself while it runs, and its handle.
struct alignas(64) FiberControl {
  // What waiting and waking touch, in one cache line: with thousands of fibers taking turns, each line more is a miss
  // more.
  Context context;
  FiberControl* next = nullptr;  // in the run queue
  Parking* parking = nullptr;
  CancelScope* scope = nullptr;  // the innermost one
  FiberStatus status = FiberStatus::ready;
  bool cancel_due = false;  // whether that scope is cancelled
  bool daemon = false;
  bool observed = false;  // somebody has looked at the outcome, so an error need not be reported
  std::uint32_t references = 1;

  Loop* loop = nullptr;
  void (*body)(FiberControl&, bool skip) = nullptr;   // runs the callable, keeps its outcome; skip: only ends it
  void (*destroy)(FiberControl&) noexcept = nullptr;  // ends the lifetime of the outcome and of *this
  std::uint32_t stack_index = 0;
  std::uint32_t stack_class = 0;
  std::uint64_t id = 0;
  StackNotes stack;
  FiberOwner* owner = nullptr;  // the Scope or Group it was spawned in, if any
  std::exception_ptr error;
  WaitList joiners;
  DoneCallbacks done_callbacks;
  LocalSlots* locals = nullptr;
  CoroutineControl* coroutine = nullptr;  // the innermost one that it is in
  std::string* own_name = nullptr;
  std::string_view type_name;  // what the callable's type is called: the name of a fiber that was given none
  const void* spawn_address = nullptr;
  CallSite spawn_site;
  CancelScope root;

  [[nodiscard]] bool finished() const noexcept { return status >= FiberStatus::done; }
  [[nodiscard]] bool cancel_pending() const noexcept { return cancel_due; }
  [[nodiscard]] std::string_view name() const noexcept {
    return own_name != nullptr ? std::string_view{*own_name} : type_name;
  }

  /// Cuts the present wait short, if there is one and it can be.
  void interrupt() noexcept {
    if (parking != nullptr && parking->kind->interrupt != nullptr && !parking->interrupted) {
      parking->interrupted = true;
      parking->kind->interrupt(*parking);
    }
  }
};

}  // namespace detail
}  // namespace bight
