// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include <bight/detail/fiber_control.hpp>

namespace bight::detail {

// Switching stacks: the only code that knows how. A Context is the machine state of a fiber that does not run, or of
// the loop.
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

/// Saves the running state in `from` and continues `to`. Returns when somebody continues `from`.
void switch_context(Context& from, Context& to, void* exceptions) noexcept;

/// The same, when `from` will never be continued.
[[noreturn]] void leave_context(Context& from, Context& to, void* exceptions) noexcept;

/// What a new fiber runs; in fiber.cpp.
[[noreturn]] void fiber_main() noexcept;

}  // namespace bight::detail
