// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Coroutines: functions with stacks of their own that are entered and left by hand. What a greenlet is to gevent's
/// fibers: no scheduler takes part, and whoever resumes one waits for what it says next. For parsers that are fed,
/// simulations, and generators (generator.hpp).

#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include <bight/check.hpp>
#include <bight/detail/coroutine_control.hpp>

namespace bight {

template <class In, class Out>
class Coroutine;

/// How to make a coroutine, where the defaults do not do.
struct CoroutineOptions {
  std::size_t stack_size = 0;  ///< bytes, rounded up to a size class; 0: RunOptions::stack_size (64 KiB)
};

namespace detail {

template <class Out>
struct CoroutineAnswer : CoroutineReply {
  std::optional<Out> value;
};
template <>
struct CoroutineAnswer<void> : CoroutineReply {};

template <class F, class C>
concept CoroutineBody =
    !std::is_same_v<std::remove_cvref_t<F>, C> && !std::is_same_v<std::remove_cvref_t<F>, CoroutineOptions>;

/// What is said to a suspended coroutine, moved out of the sender's frame.
template <class In>
[[gnu::always_inline]] inline In take_gift(CoroutineControl& control) {
  if (control.order != CoroutineOrder::take_value) [[unlikely]]
    obey_order(control);
  if constexpr (!std::is_void_v<In>) return std::move(*static_cast<In*>(control.gift));
}

/// The callable, behind its control block at the top of the coroutine's stack.
template <class In, class Out, class F>
struct CoroutineTask : CoroutineControl {
  using Self = typename Coroutine<In, Out>::Self;

  template <class G>
  CoroutineTask(std::in_place_t, G&& callable) : f(std::forward<G>(callable)) {
    body = &run;
    drop = &end;
  }
  ~CoroutineTask() {}  // NOLINT(modernize-use-equals-default): the union's member is ended by run() and end()

  static void run(CoroutineControl& control) {
    auto& task = static_cast<CoroutineTask&>(control);
    struct EndCallable {
      F& f;
      ~EndCallable() { f.~F(); }
    };
    const EndCallable guard{task.f};
    Self self(control);
    if constexpr (std::is_void_v<Out>) {
      call(task.f, self);
    } else {
      // Not into the resumer's frame at once: who resumes it meanwhile, and whether anybody does, may change.
      Out result = call(task.f, self);
      if (control.order == CoroutineOrder::unwind) return;
      static_cast<CoroutineAnswer<Out>&>(*control.reply).value.emplace(std::move(result));
    }
  }

  static Out call(F& f, Self& self) {
    if constexpr (std::is_void_v<In>) {
      take_gift<In>(self.control_);
      return std::invoke(std::move(f), self);
    } else {
      return std::invoke(std::move(f), self, take_gift<In>(self.control_));
    }
  }

  static void end(CoroutineControl& control) noexcept { static_cast<CoroutineTask&>(control).f.~F(); }

  union {
    F f;
  };
};

}  // namespace detail

/// A function `Out(Self&, In)` on a stack of its own. Each resume() sends it an `In`, and returns the `Out` that it
/// yields, or returns, next. Either may be void (then it is not there) or move-only, and neither a reference.
///
///     Coroutine<int, int> sums([](auto& self, int next) {
///       for (int sum = 0;;) next = self.yield(sum += next);
///     });
///     sums.resume(1);    // 1
///     sums.resume(10);   // 11
///
/// - Its body runs in the fiber that resumes it, and may wait: then that fiber waits. Cancelled, and every exception
///   that leaves the body, come out of resume(). this_fiber, FiberLocal and the deadlines in force are the resumer's.
///   Each resume() may be another fiber's of the same loop, but one that has not yet returned keeps all others out.
/// - It may not yield inside a deadline or shield that it has opened, and may inside a Scope as long as the place where
///   that was opened is not left.
/// - Destroying one that has begun and not ended unwinds its stack, in the fiber that destroys it: a private type that
///   is not a std::exception is thrown where it is suspended. What it throws itself on its way is reported
///   (RunOptions::on_unhandled_error). A handler of `...` must rethrow: to yield once more aborts. One that has not
///   begun never does.
/// - Made, used and destroyed on its loop's thread, inside run(). Misuse aborts with a sentence.
///
/// Making one takes a pooled stack and allocates nothing else; resume() and yield() together cost a few bare jumps.
template <class In, class Out>
class Coroutine {
  // All that is between a caller and the switch is inlined, also where the compiler would not: a return behind a switch
  // is mispredicted (see detail::Arrival).

  static_assert(!std::is_reference_v<In> && !std::is_reference_v<Out>,
                "a coroutine takes and yields values: a pointer");
  using Answer = detail::CoroutineAnswer<Out>;
  struct Nothing {};
  using Gift = std::conditional_t<std::is_void_v<In>, Nothing, In>;
  using Yielded = std::conditional_t<std::is_void_v<Out>, Nothing, Out>;

 public:
  /// The body's side. Only for the body and what it calls.
  class Self {
   public:
    Self(const Self&) = delete;
    Self& operator=(const Self&) = delete;

    /// Gives `value` to the resumer; returns what the next resumer sends, or throws what it throws in.
    [[gnu::always_inline]] In yield(Yielded value) requires(!std::is_void_v<Out>) {
      detail::check_can_answer(control_);  // before there is one
      static_cast<Answer&>(*control_.reply).value.emplace(std::move(value));
      detail::yield_coroutine(control_).file();
      return detail::take_gift<In>(control_);
    }
    [[gnu::always_inline]] In yield() requires std::is_void_v<Out> {
      detail::yield_coroutine(control_).file();
      return detail::take_gift<In>(control_);
    }

    /// Sends `value` to `other`, which takes this one's place: what `other` yields or returns goes to this one's
    /// resumer. (greenlet's `other.switch(value)`.) This one is suspended, and returns what is sent to it next, whether
    /// by resume() or by a transfer back.
    [[gnu::always_inline]] In transfer(Coroutine& other, Gift value) requires(!std::is_void_v<In>) {
      detail::CoroutineControl& next = other.control();
      next.gift = std::addressof(value);
      detail::transfer_coroutine(control_, next).file();
      return detail::take_gift<In>(control_);
    }
    [[gnu::always_inline]] In transfer(Coroutine& other) requires std::is_void_v<In> {
      detail::transfer_coroutine(control_, other.control()).file();
      return detail::take_gift<In>(control_);
    }

   private:
    template <class, class, class>
    friend struct detail::CoroutineTask;
    explicit Self(detail::CoroutineControl& control) noexcept : control_(control) {}

    detail::CoroutineControl& control_;
  };

  /// Takes a stack and moves or copies `f` onto it; `f` begins at the first resume(). Throws std::bad_alloc (no memory)
  /// or std::system_error (a limit, named in the text), and what the copy throws.
  template <detail::CoroutineBody<Coroutine> F>
  explicit Coroutine(F&& f) : Coroutine(CoroutineOptions{}, std::forward<F>(f)) {}
  template <class F>
  Coroutine(const CoroutineOptions& options, F&& f) {
    using Task = detail::CoroutineTask<In, Out, std::decay_t<F>>;
    const detail::CoroutinePlace place = detail::reserve_coroutine(options.stack_size, sizeof(Task), alignof(Task));
    try {
      control_ = ::new (place.address) Task(std::in_place, std::forward<F>(f));
    } catch (...) {
      detail::abandon_coroutine(place);
      throw;
    }
    detail::prepare_coroutine(*control_, place);
  }

  Coroutine() noexcept = default;
  Coroutine(Coroutine&& other) noexcept : control_(std::exchange(other.control_, nullptr)) {}
  Coroutine& operator=(Coroutine&& other) noexcept {
    Coroutine(std::move(other)).swap(*this);
    return *this;
  }
  ~Coroutine() {
    if (control_ != nullptr) detail::end_coroutine(*control_);
  }

  void swap(Coroutine& other) noexcept { std::swap(control_, other.control_); }

  /// Sends `value` and returns what is yielded or returned next, by this one or by one that it has transferred to;
  /// throws what leaves that one's body, which has then ended.
  [[gnu::always_inline]] Out resume(Gift value) requires(!std::is_void_v<In>) {
    control().gift = std::addressof(value);
    return go_on();
  }
  [[gnu::always_inline]] Out resume() requires std::is_void_v<In> { return go_on(); }

  /// Throws `error` where it is suspended, instead of sending a value; in one that has not begun, before its body,
  /// which then never runs. Otherwise as resume().
  Out resume_throw(std::exception_ptr error) {
    BIGHT_CHECK(error != nullptr, "Coroutine::resume_throw needs an exception to throw");
    BIGHT_CHECK(!done(), "this coroutine has ended: there is nothing to throw into");
    control().thrown = std::move(error);
    control().order = detail::CoroutineOrder::rethrow;
    return go_on();
  }

  /// Whether the body has ended, by returning or throwing.
  [[nodiscard]] bool done() const noexcept { return control().status == detail::CoroutineStatus::done; }

  /// Whether there is a coroutine behind this handle.
  explicit operator bool() const noexcept { return control_ != nullptr; }

 private:
  [[nodiscard]] detail::CoroutineControl& control() const noexcept {
    BIGHT_CHECK(control_ != nullptr, "this Coroutine is empty: it was default-made or moved from");
    return *control_;
  }

  [[gnu::always_inline]] Out go_on() {
    Answer answer;
    control().reply = &answer;
    detail::resume_coroutine(*control_).file();
    if (answer.error != nullptr) [[unlikely]]
      std::rethrow_exception(std::move(answer.error));
    if constexpr (!std::is_void_v<Out>) return std::move(*answer.value);
  }

  detail::CoroutineControl* control_ = nullptr;
};

}  // namespace bight
