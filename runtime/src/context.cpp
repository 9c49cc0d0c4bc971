// SPDX-License-Identifier: Apache-2.0
#include "context.hpp"

#include <cxxabi.h>

#include <cstddef>
#include <exception>

#include <boost/context/detail/fcontext.hpp>

#include "put_off_signals.hpp"

#if defined(BIGHT_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(BIGHT_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

namespace bight::detail {
namespace {

using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

/// What __cxa_get_globals() points to, by the Itanium C++ ABI (2.2.2), the same in libstdc++ and libc++abi.
struct ExceptionState {
  void* caught;
  unsigned int uncaught;
};

/// jump_fcontext, entered without a call instruction.
///
/// The routine comes back by an indirect jump, on another stack. Had it been called, the processor's return predictor
/// would be left with an entry nobody returns to, and every return up the resumed fiber's call chain would be predicted
/// one frame off. Entered by a jump, it leaves the predictor as it was, which is right for the resumed fiber wherever
/// the two wait in the same functions, as the fibers of a server do. Worth about 15 ns a switch:
/// docs/decisions/0004-stacks-and-switching.md.
[[gnu::always_inline]] inline transfer_t jump(void* to, void* data) noexcept {
#if defined(__x86_64__)
  transfer_t transfer{to, data};
  asm volatile(
      "leaq -128(%%rsp), %%rsp\n\t"  // the compiler sees no call here, and may keep data below the stack pointer
      "leaq 1f(%%rip), %%rax\n\t"
      "pushq %%rax\n\t"
      "jmp jump_fcontext@PLT\n"
      "1:\n\t"
      "leaq 128(%%rsp), %%rsp"
      : "+D"(transfer.fctx), "+S"(transfer.data), "=a"(to), "=d"(data)
      :
      : "rcx", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
        "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "memory", "cc");
  return {to, data};
#else
  return jump_fcontext(to, data);
#endif
}

void exchange_exceptions(Context& from, const Context& to, void* exceptions) noexcept {
  auto& state = *static_cast<ExceptionState*>(exceptions);
  from.caught_exceptions = state.caught;
  from.uncaught_exceptions = state.uncaught;
  state.caught = to.caught_exceptions;
  state.uncaught = to.uncaught_exceptions;
}

#if defined(BIGHT_TSAN)
// A fiber can not destroy its own shadow while it runs on it; whoever runs next does.
thread_local void* tsan_ended = nullptr;
#endif

void announce(Context& from, Context& to, bool ends) noexcept {
#if defined(BIGHT_ASAN)
  __sanitizer_start_switch_fiber(ends ? nullptr : &from.notes->shadow, to.notes->bottom, to.notes->size);
#endif
#if defined(BIGHT_TSAN)
  if (from.notes->shadow == nullptr) from.notes->shadow = __tsan_get_current_fiber();
  if (ends) tsan_ended = from.notes->shadow;
  run_put_off_signals();
  __tsan_switch_to_fiber(to.notes->shadow, 0);
#endif
  static_cast<void>(from);
  static_cast<void>(to);
  static_cast<void>(ends);
}

/// The first thing done on the new stack, which `notes` describe unless it has just been entered: files the state of
/// the one that was left.
void arrive(transfer_t transfer, StackNotes* notes) noexcept {
  auto& previous = *static_cast<Context*>(transfer.data);
  previous.stack_pointer = transfer.fctx;
#if defined(BIGHT_ASAN)
  const void* bottom = nullptr;
  std::size_t size = 0;
  __sanitizer_finish_switch_fiber(notes != nullptr ? notes->shadow : nullptr, &bottom, &size);
  if (previous.notes->bottom == nullptr) {  // the thread's own stack, whose place only the sanitizer knows
    previous.notes->bottom = bottom;
    previous.notes->size = size;
  }
#endif
#if defined(BIGHT_TSAN)
  if (tsan_ended != nullptr) {
    __tsan_destroy_fiber(tsan_ended);
    tsan_ended = nullptr;
  }
#endif
  static_cast<void>(notes);
}

template <void (*Main)() noexcept>
[[noreturn]] void enter(transfer_t transfer) noexcept {
  arrive(transfer, nullptr);
  Main();
  std::terminate();  // there is nothing to return to
}

void prepare(Context& context, StackNotes& notes, void* top, std::size_t size, void (*entry)(transfer_t)) noexcept {
  context.notes = &notes;
  context.stack_pointer = make_fcontext(top, size, entry);
  context.caught_exceptions = nullptr;
  context.uncaught_exceptions = 0;
  context.notes->bottom = static_cast<std::byte*>(top) - size;
  context.notes->size = size;
#if defined(BIGHT_TSAN)
  context.notes->shadow = __tsan_create_fiber(0);
#endif
}

}  // namespace

void* exception_state() noexcept { return abi::__cxa_get_globals(); }

void make_context(Context& context, StackNotes& notes, void* top, std::size_t size) noexcept {
  prepare(context, notes, top, size, enter<fiber_main>);
}

void make_coroutine_context(Context& context, StackNotes& notes, void* top, std::size_t size) noexcept {
  prepare(context, notes, top, size, enter<coroutine_main>);
}

void drop_unused_context(Context& context) noexcept {
#if defined(BIGHT_TSAN)
  __tsan_destroy_fiber(context.notes->shadow);
#endif
  static_cast<void>(context);
}

void switch_context(Context& from, Context& to, void* exceptions) noexcept {
  exchange_exceptions(from, to, exceptions);
  announce(from, to, false);
  // `from` itself need not be there any more when somebody continues: a coroutine may hand what is in it on to another.
  StackNotes* const notes = from.notes;
  arrive(jump(to.stack_pointer, &from), notes);
}

Arrival switch_by_jump(Context& from, Context& to, void* exceptions) noexcept {
  exchange_exceptions(from, to, exceptions);
#if defined(BIGHT_ASAN) || defined(BIGHT_TSAN)
  StackNotes* const notes = from.notes;
  announce(from, to, false);
  const transfer_t transfer = jump_fcontext(to.stack_pointer, &from);
  arrive(transfer, notes);
  return {transfer.fctx, transfer.data};
#else
  // Not by `jump`, and with the type of what is returned: so it is the compiler that makes this a jump.
  static_assert(sizeof(Arrival) == sizeof(transfer_t) && offsetof(Arrival, left) == offsetof(transfer_t, data));
  using Jump = Arrival (*)(void*, void*) noexcept;
  return reinterpret_cast<Jump>(reinterpret_cast<void (*)()>(jump_fcontext))(to.stack_pointer, &from);
#endif
}

void leave_context(Context& from, Context& to, void* exceptions) noexcept {
  exchange_exceptions(from, to, exceptions);
  announce(from, to, true);
  jump_fcontext(to.stack_pointer, &from);
  std::terminate();  // nobody continues what has left
}

}  // namespace bight::detail
