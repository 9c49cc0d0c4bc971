// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>

#include <bight/check.hpp>
#include <bight/detail/fiber_control.hpp>

namespace bight::detail {

/// Where a coroutine is in its life. `active` while its body runs, also while that has resumed another one or waits.
enum class CoroutineStatus : std::uint8_t { fresh, suspended, active, done };

/// What a suspended coroutine is to do when it goes on.
enum class CoroutineOrder : std::uint8_t { take_value, rethrow, unwind };

/// What a resumer gets; lives in its frame. The value follows in the class derived from it.
struct CoroutineReply {
  std::exception_ptr error;
};

/// Thrown at the suspension point of an unfinished coroutine whose handle goes.
struct CoroutineUnwind {};

/// All there is of a coroutine but its callable, which follows it at the top of the coroutine's own stack (see
/// CoroutineTask in coroutine.hpp). Owned by the handle.
struct alignas(64) CoroutineControl {
  Context context;  // while it is suspended
  Context resumer;  // who goes on when it yields or ends, while it is active
  CoroutineStatus status = CoroutineStatus::fresh;
  CoroutineOrder order = CoroutineOrder::take_value;
  CoroutineControl* outer = nullptr;  // the one that has resumed this one, if it was one
  CancelScope* scope = nullptr;       // the fiber's innermost one at that time
  Loop* loop = nullptr;
  void* gift = nullptr;             // what is sent to it, in the sender's frame
  CoroutineReply* reply = nullptr;  // what it answers, in the resumer's frame

  StackNotes stack;
  std::uint32_t stack_index = 0;
  std::uint32_t stack_class = 0;
  std::exception_ptr thrown;                           // what to throw in it: order `rethrow`
  void (*body)(CoroutineControl&) = nullptr;           // runs the callable, answers, ends the callable
  void (*drop)(CoroutineControl&) noexcept = nullptr;  // ends a callable that has not run
};

/// A stack with room for a control block and callable at its top.
struct CoroutinePlace {
  void* address = nullptr;
  std::byte* stack_low = nullptr;
  std::uint32_t stack_class = 0;
  std::uint32_t stack_index = 0;
};

/// Takes a stack of at least `stack_size` bytes (0: RunOptions::stack_size) and reserves `size` bytes at its top.
/// Throws what reserve_fiber throws.
[[nodiscard]] CoroutinePlace reserve_coroutine(std::size_t stack_size, std::size_t size, std::size_t align);
/// Gives back what reserve_coroutine returned when the callable could not be moved in.
void abandon_coroutine(const CoroutinePlace& place) noexcept;
/// Makes a constructed coroutine one that can be resumed.
void prepare_coroutine(CoroutineControl& control, const CoroutinePlace& place) noexcept;
/// Unwinds it if it is suspended, then frees it.
void end_coroutine(CoroutineControl& control) noexcept;

/// What a switch comes back with: the state of the stack that was left, which is filed by who gets it.
///
/// That this is done here, in the functions that are inlined into resume() and yield(), makes the switch the very last
/// thing in those that are not. They then end in a jump, and the switch comes back straight to their caller, without
/// a return that the processor would predict for the other stack (docs/decisions/0006-coroutines.md).
struct Arrival {
  void* stack_pointer;
  void* left;

  void file() const noexcept { static_cast<Context*>(left)->stack_pointer = stack_pointer; }
};

/// Goes on in `control`; returns when it, or one that it has transferred to, yields or ends.
[[nodiscard]] Arrival resume_coroutine(CoroutineControl& control) noexcept;
/// Goes on in the resumer of `control`, which runs; returns when somebody resumes it.
[[nodiscard]] Arrival yield_coroutine(CoroutineControl& control) noexcept;
/// Goes on in `to`, which takes the place of `from`, which runs; returns when somebody resumes `from`.
[[nodiscard]] Arrival transfer_coroutine(CoroutineControl& from, CoroutineControl& to) noexcept;
/// Aborts unless it runs and is not being unwound.
inline void check_can_answer(const CoroutineControl& control) noexcept {
  BIGHT_CHECK(control.status == CoroutineStatus::active,
              "only the coroutine that is running can yield or transfer, by its own Self (or Yield)");
  BIGHT_CHECK(control.order != CoroutineOrder::unwind,
              "this coroutine yields while it is being destroyed: a handler that catches all (`catch (...)`) must "
              "rethrow, and a destructor must not yield");
}
/// Throws what the order given to it says. Not to be called for `take_value`.
[[noreturn]] void obey_order(CoroutineControl& control);

}  // namespace bight::detail
