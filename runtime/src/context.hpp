// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include <bight/detail/coroutine_control.hpp>
#include <bight/detail/fiber_control.hpp>

namespace bight::detail {

// Switching stacks: the only code that knows how. A Context is the machine state of a fiber that does not run, of a
// coroutine or what has resumed it, or of the loop.
//
// Besides the registers a switch exchanges the C++ runtime's per-thread exception state (which exceptions are being
// handled, how many are in flight). Without that, two fibers that wait inside catch blocks would rethrow each other's
// exceptions. Boost.Context's own classes began to do this in 1.88; the assembly routines used here never do, so the
// exchange is ours with every version.

/// The exception state of the calling thread; its address is constant for the thread's life.
[[nodiscard]] void* exception_state() noexcept;

/// Makes `context` start fiber_main() on the stack of `size` bytes that ends at `top`. `notes` must live as long as the
/// context.
void make_context(Context& context, StackNotes& notes, void* top, std::size_t size) noexcept;
/// The same with coroutine_main().
void make_coroutine_context(Context& context, StackNotes& notes, void* top, std::size_t size) noexcept;
/// Ends a context that was made and will never be switched to.
void drop_unused_context(Context& context) noexcept;

/// Saves the running state in `from` and continues `to`. Returns when somebody continues `from`, or a copy of it.
void switch_context(Context& from, Context& to, void* exceptions) noexcept;

/// The same, but the caller is to file what it returns, or return it at once itself.
[[nodiscard]] Arrival switch_by_jump(Context& from, Context& to, void* exceptions) noexcept;

/// The same, when `from` will never be continued.
[[noreturn]] void leave_context(Context& from, Context& to, void* exceptions) noexcept;

/// What a new fiber runs; in fiber.cpp.
[[noreturn]] void fiber_main() noexcept;
/// What a new coroutine runs; in coroutine.cpp.
[[noreturn]] void coroutine_main() noexcept;

}  // namespace bight::detail
