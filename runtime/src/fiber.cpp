// SPDX-License-Identifier: Apache-2.0
#include <bight/fiber.hpp>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include <bight/detail/fiber_owner.hpp>
#include <bight/error.hpp>
#include <bight/fiber_local.hpp>

#include "context.hpp"
#include "describe.hpp"
#include "loop.hpp"

namespace bight {

std::string_view to_string(FiberStatus status) noexcept {
  switch (status) {
    case FiberStatus::ready: return "ready";
    case FiberStatus::running: return "running";
    case FiberStatus::parked: return "parked";
    case FiberStatus::done: return "done";
    case FiberStatus::failed: return "failed";
    case FiberStatus::cancelled: return "cancelled";
  }
  return "?";
}

void yield() {
  detail::Loop& loop = detail::Loop::require();
  detail::FiberControl& self = loop.require_fiber();
  loop.pass();
  if (self.cancel_pending()) throw Cancelled{};
}

namespace detail {
namespace {

FiberStatus run_body(FiberControl& fiber) noexcept {
  const bool skip = fiber.cancel_pending();
  try {
    fiber.body(fiber, skip);
    return skip ? FiberStatus::cancelled : FiberStatus::done;
  } catch (const Cancelled&) {
    return FiberStatus::cancelled;
  } catch (...) {
    fiber.error = std::current_exception();
    return FiberStatus::failed;
  }
}

/// Null without memory: then the fiber is called what its callable's type is called.
std::string* copy_name(std::string_view name) noexcept {
  try {
    return new std::string(name);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

struct JoinLink : WaitLink {
  explicit JoinLink(const FiberControl& awaited) noexcept : target(awaited) {}
  const FiberControl& target;
};

void describe_join(const WaitLink& link, std::string& text) {
  const FiberControl& awaited = static_cast<const JoinLink&>(link).target;
  text.append("the end of fiber #").append(std::to_string(awaited.id));
  text.append(" '").append(awaited.name()).append("'");
}

}  // namespace

void fiber_main() noexcept {
  Loop& loop = Loop::require();
  FiberControl& self = *loop.running();
  const FiberStatus outcome = run_body(self);
  loop.end_locals(self);  // which may wait, so the fiber has not ended yet
  // An error that nobody can ask for is reported here, where the program's handler still runs in a fiber.
  if (self.references == 1 && self.owner == nullptr && self.error != nullptr) loop.report_unhandled(self);
  self.status = outcome;
  loop.finish(self);
}

FiberPlace reserve_fiber(const SpawnPlan& plan, std::size_t size, std::size_t align) {
  Loop& loop = Loop::require();
  const RunOptions& options = loop.options();
  if (loop.alive() >= options.fibers_max) {
    throw std::system_error(
        std::make_error_code(std::errc::resource_unavailable_try_again),
        "spawn a fiber: RunOptions::fibers_max = " + std::to_string(options.fibers_max) + " are alive");
  }
  const std::size_t wanted = plan.stack_size != 0 ? plan.stack_size : options.stack_size;
  const StackPool::Stack stack = loop.stacks().take(wanted * kFrameFactor);
  const auto room = static_cast<std::size_t>(stack.top - stack.low);
  constexpr std::size_t kLeast = 4096;  // for frames
  if (size + align + kLeast > room) {
    loop.stacks().give_back(stack.size_class, stack.index);
    throw std::system_error(std::make_error_code(std::errc::argument_list_too_long),
                            "spawn a fiber: its callable, arguments and result take " + std::to_string(size) +
                                " bytes, its stack has " + std::to_string(room));
  }
  auto address = reinterpret_cast<std::uintptr_t>(stack.top) - size;
  address &= ~(std::uintptr_t{std::max<std::size_t>(align, 64)} - 1);
  // NOLINTNEXTLINE(performance-no-int-to-ptr): rounding an address down
  return {reinterpret_cast<void*>(address), stack.low, stack.size_class, stack.index};
}

void abandon_fiber(const FiberPlace& place) noexcept {
  Loop::require().stacks().give_back(place.stack_class, place.stack_index);
}

void launch_fiber(FiberControl& fiber, const SpawnPlan& plan, const FiberPlace& place, FiberOwner* owner) noexcept {
  Loop& loop = Loop::require();
  fiber.type_name = plan.type_name;
  fiber.spawn_site = plan.site;
  fiber.spawn_address = plan.address;
  fiber.daemon = plan.daemon;
  fiber.stack_class = place.stack_class;
  fiber.stack_index = place.stack_index;
  if (!plan.name.empty()) fiber.own_name = copy_name(plan.name);
  auto* frames_top = reinterpret_cast<std::byte*>(&fiber);
  make_context(fiber.context, fiber.stack, frames_top, static_cast<std::size_t>(frames_top - place.stack_low));
  fiber.scope = &fiber.root;
  fiber.root.own(fiber);
  loop.add(fiber);
  if (owner != nullptr) owner->admit(fiber);
  if (loop.ending() && owner == nullptr) fiber.root.cancel();  // in a Scope it has inherited that, or is shielded
}

void release_fiber(FiberControl& fiber) noexcept {
  BIGHT_CHECK(fiber.loop == Loop::current(),
              "a Fiber handle was dropped on another thread than its loop's, or after its loop's end");
  if (--fiber.references == 0) fiber.loop->destroy(fiber);
}

void join_fiber(FiberControl& fiber) {
  Loop& loop = Loop::require();
  BIGHT_CHECK(fiber.loop == &loop, "a Fiber handle was used on another thread than its loop's");
  if (fiber.finished() && loop.running() == nullptr) return;
  FiberControl& self = loop.require_fiber();
  BIGHT_CHECK(&self != &fiber, "a fiber waits for its own end");
  if (self.cancel_pending()) throw Cancelled{};
  if (fiber.finished()) return;
  JoinLink link(fiber);
  wait_or_throw(fiber.joiners, link, describe_join);
}

void cancel_fiber(FiberControl& fiber) noexcept {
  BIGHT_CHECK(fiber.loop == Loop::current(),
              "a fiber was cancelled from another thread than its loop's: use Remote::post");
  if (!fiber.finished()) fiber.root.cancel();
}

void add_done_callback(FiberControl& fiber, Callback callback) {
  (fiber.finished() ? fiber.loop->callbacks() : fiber.done_callbacks).add(std::move(callback));
}

void rethrow_outcome(FiberControl& fiber) {
  if (fiber.status == FiberStatus::failed) {
    fiber.observed = true;
    std::rethrow_exception(fiber.error);
  }
  if (fiber.status == FiberStatus::cancelled) {
    throw FiberCancelled("fiber #" + std::to_string(fiber.id) + " '" + std::string(fiber.name()) + "' was cancelled");
  }
}

}  // namespace detail

namespace this_fiber {

std::uint64_t id() noexcept { return detail::Loop::require().require_fiber().id; }

std::string_view name() noexcept { return detail::Loop::require().require_fiber().name(); }

void set_name(std::string name) {
  detail::FiberControl& self = detail::Loop::require().require_fiber();
  auto held = std::make_unique<std::string>(std::move(name));
  delete std::exchange(self.own_name, held.release());
}

bool cancel_requested() noexcept { return detail::Loop::require().require_fiber().cancel_pending(); }

void checkpoint() {
  if (cancel_requested()) throw Cancelled{};
}

bool exists() noexcept { return detail::Loop::current() != nullptr && detail::Loop::current()->running() != nullptr; }

std::size_t stack_left() noexcept {
  const detail::FiberControl& self = detail::Loop::require().require_fiber();
  return static_cast<std::size_t>(static_cast<const std::byte*>(__builtin_frame_address(0)) -
                                  static_cast<const std::byte*>(self.context.notes->bottom));
}

}  // namespace this_fiber
}  // namespace bight
