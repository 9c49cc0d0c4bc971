// SPDX-License-Identifier: Apache-2.0
#include <bight/coroutine.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <system_error>
#include <utility>

#include <bight/check.hpp>
#include <bight/error.hpp>

#include "context.hpp"
#include "loop.hpp"

namespace bight::detail {
namespace {

// Whoever leaves a stack has everything in order before it does, so that a switch is the last thing done here: one
// return more, on a stack where nothing predicts it, is what a switch costs.

/// The fiber that goes into `control`, which must be one that can go on.
FiberControl& check_resumable(const CoroutineControl& control) noexcept {
  BIGHT_CHECK(control.loop == Loop::current(),
              "a Coroutine or Generator was resumed on another thread than its loop's, or after its loop's end");
  BIGHT_CHECK(control.status != CoroutineStatus::done, "this coroutine has ended: there is nothing to resume");
  BIGHT_CHECK(control.status != CoroutineStatus::active,
              "this coroutine runs already: it can not resume itself or one that is resuming it, and no fiber can "
              "resume what another one is in");
  return control.loop->require_fiber();
}

/// The fiber that `control` runs in, which must be able to leave it.
FiberControl& check_leavable(const CoroutineControl& control) noexcept {
  check_can_answer(control);
  FiberControl* fiber = control.loop->running();
  BIGHT_CHECK(fiber != nullptr && fiber->coroutine == &control,
              "a coroutine yields or transfers by the Self (or Yield) of another one");
  BIGHT_CHECK(fiber->scope == control.scope,
              "a coroutine yields inside a deadline or shield of its own, which would then be its resumer's: leave it "
              "first");
  return *fiber;
}

void go_on_in(CoroutineControl& control, FiberControl& fiber) noexcept {
  control.status = CoroutineStatus::active;
  fiber.coroutine = &control;
  fiber.context.notes = &control.stack;
}

void go_back_to_resumer(CoroutineControl& control, FiberControl& fiber) noexcept {
  fiber.coroutine = control.outer;
  fiber.context.notes = control.resumer.notes;
}

void free_coroutine(CoroutineControl& control) noexcept {
  Loop& loop = *control.loop;
  const std::uint32_t size_class = control.stack_class;
  const std::uint32_t index = control.stack_index;
  control.~CoroutineControl();
  loop.stacks().give_back(size_class, index);
  --loop.coroutines();
}

void unwind_coroutine(CoroutineControl& control) noexcept {
  BIGHT_CHECK(control.loop->running() != nullptr,
              "an unfinished coroutine is destroyed in a callback: only in a fiber can it be unwound");
  CoroutineReply reply;
  control.reply = &reply;
  control.order = CoroutineOrder::unwind;
  resume_coroutine(control).file();
  if (reply.error == nullptr) return;
  const FiberControl& fiber = *control.loop->running();
  control.loop->report_unhandled(reply.error, fiber.id, fiber.name());
}

/// What the body of `control` ends with, if not with a value.
std::exception_ptr run_body(CoroutineControl& control) noexcept {
  try {
    control.body(control);
  } catch (const CoroutineUnwind&) {
    // as asked for
  } catch (const Cancelled&) {
    // One that is being destroyed has nobody to tell; the fiber's next wait throws it again.
    if (control.order != CoroutineOrder::unwind) return std::current_exception();
  } catch (...) {
    return std::current_exception();
  }
  return nullptr;
}

}  // namespace

void coroutine_main() noexcept {
  Loop& loop = Loop::require();
  CoroutineControl& self = *loop.running()->coroutine;
  std::exception_ptr error = run_body(self);
  self.reply->error = std::move(error);   // to who has resumed it last
  FiberControl& fiber = *loop.running();  // not always the one that it began in
  BIGHT_CHECK(fiber.scope == self.scope, "a coroutine ends inside a deadline or shield of its own");
  self.status = CoroutineStatus::done;
  go_back_to_resumer(self, fiber);
  leave_context(self.context, self.resumer, loop.exceptions());
}

CoroutinePlace reserve_coroutine(std::size_t stack_size, std::size_t size, std::size_t align) {
  Loop& loop = Loop::require();
  const std::size_t wanted = stack_size != 0 ? stack_size : loop.options().stack_size;
  const StackPool::Stack stack = loop.stacks().take(wanted * kFrameFactor);
  const auto room = static_cast<std::size_t>(stack.top - stack.low);
  constexpr std::size_t kLeast = 4096;  // for frames
  if (size + align + kLeast > room) {
    loop.stacks().give_back(stack.size_class, stack.index);
    throw std::system_error(std::make_error_code(std::errc::argument_list_too_long),
                            "make a coroutine: its callable takes " + std::to_string(size) + " bytes, its stack has " +
                                std::to_string(room));
  }
  auto address = reinterpret_cast<std::uintptr_t>(stack.top) - size;
  address &= ~(std::uintptr_t{std::max<std::size_t>(align, 64)} - 1);
  ++loop.coroutines();
  // NOLINTNEXTLINE(performance-no-int-to-ptr): rounding an address down
  return {reinterpret_cast<void*>(address), stack.low, stack.size_class, stack.index};
}

void abandon_coroutine(const CoroutinePlace& place) noexcept {
  Loop& loop = Loop::require();
  loop.stacks().give_back(place.stack_class, place.stack_index);
  --loop.coroutines();
}

void prepare_coroutine(CoroutineControl& control, const CoroutinePlace& place) noexcept {
  control.loop = Loop::current();
  control.stack_class = place.stack_class;
  control.stack_index = place.stack_index;
  auto* frames_top = reinterpret_cast<std::byte*>(&control);
  const auto size = static_cast<std::size_t>(frames_top - place.stack_low);
  make_coroutine_context(control.context, control.stack, frames_top, size);
}

void end_coroutine(CoroutineControl& control) noexcept {
  BIGHT_CHECK(control.loop == Loop::current(),
              "a Coroutine or Generator was destroyed on another thread than its loop's, or after its loop's end");
  BIGHT_CHECK(control.status != CoroutineStatus::active, "a coroutine is destroyed while it runs");
  if (control.status == CoroutineStatus::fresh) {
    control.drop(control);
    drop_unused_context(control.context);
  } else if (control.status == CoroutineStatus::suspended) {
    unwind_coroutine(control);
  }
  free_coroutine(control);
}

Arrival resume_coroutine(CoroutineControl& control) noexcept {
  FiberControl& fiber = check_resumable(control);
  control.outer = fiber.coroutine;
  control.scope = fiber.scope;
  control.resumer.notes = fiber.context.notes;
  go_on_in(control, fiber);
  return switch_by_jump(control.resumer, control.context, control.loop->exceptions());
}

Arrival yield_coroutine(CoroutineControl& control) noexcept {
  FiberControl& fiber = check_leavable(control);
  control.status = CoroutineStatus::suspended;
  go_back_to_resumer(control, fiber);
  return switch_by_jump(control.context, control.resumer, control.loop->exceptions());
}

Arrival transfer_coroutine(CoroutineControl& from, CoroutineControl& to) noexcept {
  FiberControl& fiber = check_leavable(from);
  check_resumable(to);
  to.resumer = from.resumer;
  to.outer = from.outer;
  to.scope = from.scope;
  to.reply = from.reply;
  from.status = CoroutineStatus::suspended;
  go_on_in(to, fiber);
  return switch_by_jump(from.context, to.context, from.loop->exceptions());
}

void obey_order(CoroutineControl& control) {
  if (control.order == CoroutineOrder::unwind) throw CoroutineUnwind{};
  control.order = CoroutineOrder::take_value;
  std::rethrow_exception(std::exchange(control.thrown, nullptr));
}

}  // namespace bight::detail
