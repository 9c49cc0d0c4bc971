// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Fibers: functions with stacks of their own that take turns on one thread.
///
/// A fiber runs until it waits; then the next ready one runs, in the order in which they became ready. Fibers of a loop
/// never run at the same time and never move to another thread, so data they share needs no lock as long as it is
/// consistent at every wait.
///
/// Unless a declaration says otherwise: call from a fiber (or, where nothing is waited for, a posted callback) on the
/// loop's own thread; handles are not to be used from other threads; a function that waits throws Cancelled when the
/// calling fiber is cancelled.

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include <bight/check.hpp>
#include <bight/detail/call_site.hpp>
#include <bight/detail/fiber_control.hpp>
#include <bight/detail/select_case.hpp>
#include <bight/time.hpp>

namespace bight {

template <class R = void>
class Fiber;

/// How to start a fiber, where the defaults do not do. `spawn({.name = "pump"}, f)`.
struct SpawnOptions {
  std::string name{};          ///< for reports; empty: the callable's type
  std::size_t stack_size = 0;  ///< bytes, rounded up to a size class; 0: RunOptions::stack_size (64 KiB)
  bool daemon = false;         ///< run() does not wait for it, but cancels it when all others are done
};

namespace detail {

/// What there is to know of a fiber before it is made, whatever its callable's type.
struct SpawnPlan {
  std::string_view type_name;
  std::size_t stack_size = 0;
  std::string_view name;
  bool daemon = false;
  const void* address = nullptr;
  CallSite site;
};

/// A stack with room for a fiber's control block, callable and result at its top.
struct FiberPlace {
  void* address = nullptr;
  std::byte* stack_low = nullptr;
  std::uint32_t stack_class = 0;
  std::uint32_t stack_index = 0;
};

/// Takes a stack and reserves `size` bytes, aligned to `align`, at its top. Throws std::bad_alloc (no memory) or
/// std::system_error (a limit, named in the text).
[[nodiscard]] FiberPlace reserve_fiber(const SpawnPlan& plan, std::size_t size, std::size_t align);
/// Gives back what reserve_fiber returned when the callable could not be moved in.
void abandon_fiber(const FiberPlace& place) noexcept;
/// Makes a constructed fiber ready to run.
void launch_fiber(FiberControl& fiber, const SpawnPlan& plan, const FiberPlace& place, FiberOwner* owner) noexcept;
void release_fiber(FiberControl& fiber) noexcept;  // drops one reference
void join_fiber(FiberControl& fiber);              // waits; throws Cancelled
void cancel_fiber(FiberControl& fiber) noexcept;
void add_done_callback(FiberControl& fiber, Callback callback);
void report_unobserved(FiberControl& fiber) noexcept;
void rethrow_outcome(FiberControl& fiber);  // of an ended fiber: throws its error, FiberCancelled, or nothing

template <class R, class F, class... Args>
Fiber<R> start(const SpawnPlan& plan, FiberOwner* owner, F&& f, Args&&... args);

/// A fiber's end, as something to wait for.
struct FiberEnd {
  FiberControl* fiber;
  [[nodiscard]] bool is_set() const noexcept { return fiber->finished(); }
  [[nodiscard]] WaitList& waiters() const noexcept { return fiber->joiners; }
};

/// The fiber's memory behind its control block: first the callable and its arguments, then, in the same place, what it
/// returned.
template <class R, class F, class... Args>
struct Task : FiberControl {
  using Outcome = std::conditional_t<std::is_void_v<R>, std::byte, R>;
  using Call = std::tuple<F, Args...>;

  template <class G, class... A>
  explicit Task(std::in_place_t, G&& callable, A&&... arguments) {
    ::new (static_cast<void*>(&call)) Call(std::forward<G>(callable), std::forward<A>(arguments)...);
    body = &run;
    destroy = &end;
  }
  ~Task() {}  // NOLINT(modernize-use-equals-default): the union's members are ended by run() and end()

  static void run(FiberControl& self, bool skip) {
    auto& task = static_cast<Task&>(self);
    struct EndCall {
      Call& call;
      ~EndCall() { call.~Call(); }
    };
    if (skip) {
      EndCall guard{task.call};
      return;
    }
    if constexpr (std::is_void_v<R>) {
      EndCall guard{task.call};
      std::apply([](F& f, Args&... a) { std::invoke(std::move(f), std::move(a)...); }, task.call);
    } else {
      // The result is built beside the callable, which may own what the result is made from, and then takes its place.
      auto invoke = [&task]() -> R {
        EndCall guard{task.call};
        return std::apply([](F& f, Args&... a) -> R { return std::invoke(std::move(f), std::move(a)...); }, task.call);
      };
      if constexpr (std::is_nothrow_move_constructible_v<R>) {
        R result = invoke();
        if (task.drop_unwanted()) return;
        ::new (static_cast<void*>(&task.outcome)) Outcome(std::move(result));
      } else {
        auto result = std::unique_ptr<Outcome>(new Outcome(invoke()));
        if (task.drop_unwanted()) return;
        task.boxed = result.release();
      }
    }
  }

  /// Whether nobody can ask for the result any more. Then it ends where it was made, in a fiber that may still wait,
  /// and not in the loop.
  [[nodiscard]] bool drop_unwanted() noexcept {
    if (references > 1) return false;
    destroy = [](FiberControl& self) noexcept { static_cast<Task&>(self).~Task(); };
    return true;
  }

  static void end(FiberControl& self) noexcept {
    auto& task = static_cast<Task&>(self);
    if constexpr (!std::is_void_v<R>) {
      if (task.status == FiberStatus::done) {
        if constexpr (std::is_nothrow_move_constructible_v<R>) {
          task.outcome.~Outcome();
        } else {
          delete task.boxed;
        }
      }
    }
    task.~Task();
  }

  [[nodiscard]] Outcome& result() noexcept {
    if constexpr (std::is_nothrow_move_constructible_v<R>) {
      return outcome;
    } else {
      return *boxed;
    }
  }

  union {
    Call call;
    Outcome outcome;
    Outcome* boxed;
  };
};

template <class T>
[[nodiscard]] constexpr std::string_view type_name() noexcept {
  constexpr std::string_view whole = __PRETTY_FUNCTION__;
  constexpr std::string_view key = "T = ";
  constexpr std::size_t begin = whole.find(key) + key.size();
  constexpr std::size_t semicolon =
      whole.find(';', begin);  // GCC goes on with other template arguments, Clang does not
  constexpr std::size_t stop = semicolon != std::string_view::npos ? semicolon : whole.rfind(']');
  return whole.substr(begin, stop - begin);
}

}  // namespace detail

/// A handle on a fiber and on what it will return. Move-only. Dropping it detaches the fiber, which goes on; an error
/// it then ends with is reported (RunOptions::on_unhandled_error), never lost. While a handle exists the ended fiber's
/// stack is kept, for the result is on it.
template <class R>
class Fiber {
 public:
  Fiber() noexcept = default;
  Fiber(Fiber&& other) noexcept : control_(std::exchange(other.control_, nullptr)), result_(other.result_) {}
  Fiber& operator=(Fiber&& other) noexcept {
    Fiber(std::move(other)).swap(*this);
    return *this;
  }
  ~Fiber() { detach(); }

  void swap(Fiber& other) noexcept {
    std::swap(control_, other.control_);
    std::swap(result_, other.result_);
  }

  /// Lets go of the fiber; it goes on by itself.
  void detach() noexcept {
    if (control_ != nullptr) {
      detail::report_unobserved(*control_);
      detail::release_fiber(*std::exchange(control_, nullptr));
    }
  }

  /// Waits until the fiber has ended, however it ended. Waiters wake in the order in which they came.
  void join() const { detail::join_fiber(control()); }

  /// Waits, then returns what the fiber returned (moved out: call once) or throws what it threw. FiberCancelled if it
  /// was cancelled.
  R get() {
    join();
    detail::FiberControl& fiber = control();
    detail::rethrow_outcome(fiber);
    if constexpr (!std::is_void_v<R>) return std::move(*static_cast<R*>(result_(fiber)));
  }

  /// Asks the fiber to end: its present wait and every later one throw Cancelled. Returns at once; join() to wait for
  /// the end. A fiber that has not run yet never runs. Harmless when it has ended.
  void cancel() const noexcept { detail::cancel_fiber(control()); }

  [[nodiscard]] bool done() const noexcept { return control().finished(); }
  [[nodiscard]] FiberStatus status() const noexcept { return control().status; }
  [[nodiscard]] std::string_view name() const noexcept { return control().name(); }
  [[nodiscard]] std::uint64_t id() const noexcept { return control().id; }

  /// Runs `callback` on the loop, outside any fiber (so it may not wait, but may spawn), once the fiber has ended;
  /// soon, when it has ended already. Callbacks run in the order in which they were added; one that throws is reported
  /// and does not stop the others.
  template <class F>
  void on_done(F&& callback) const {
    detail::add_done_callback(control(), detail::Callback(std::forward<F>(callback)));
  }

  /// A case of select(), see there: the fiber has ended, however it ended.
  template <class F>
  [[nodiscard]] auto on_end(F&& handler) const {
    return detail::FlagCase<detail::FiberEnd, std::decay_t<F>>(end_of_it(), std::forward<F>(handler));
  }
  /// For wait_any and its kin.
  [[nodiscard]] detail::FiberEnd end_of_it() const noexcept { return {&control()}; }
  void rethrow_error() const { detail::rethrow_outcome(control()); }

  /// Whether there is a fiber behind this handle.
  explicit operator bool() const noexcept { return control_ != nullptr; }

 private:
  template <class R2, class F, class... Args>
  friend Fiber<R2> detail::start(const detail::SpawnPlan& plan, detail::FiberOwner* owner, F&& f, Args&&... args);

  explicit Fiber(detail::FiberControl& control, void* (*result)(detail::FiberControl&) noexcept) noexcept
      : control_(&control), result_(result) {}

  [[nodiscard]] detail::FiberControl& control() const noexcept {
    BIGHT_CHECK(control_ != nullptr, "this Fiber handle is empty: it was default-made, moved from or detached");
    return *control_;
  }

  detail::FiberControl* control_ = nullptr;
  void* (*result_)(detail::FiberControl&) noexcept = nullptr;
};

namespace detail {

template <class R, class F, class... Args>
Fiber<R> start(const SpawnPlan& plan, FiberOwner* owner, F&& f, Args&&... args) {
  using T = Task<R, std::decay_t<F>, std::decay_t<Args>...>;
  static_assert(!std::is_reference_v<R>,
                "a fiber returns a value: the frame a reference would point into is gone when it ends");
  const FiberPlace place = reserve_fiber(plan, sizeof(T), alignof(T));
  T* task = nullptr;
  try {
    task = ::new (place.address) T(std::in_place, std::forward<F>(f), std::forward<Args>(args)...);
  } catch (...) {
    abandon_fiber(place);
    throw;
  }
  launch_fiber(*task, plan, place, owner);
  ++task->references;
  return Fiber<R>(*task, [](FiberControl& control) noexcept -> void* {
    if constexpr (std::is_void_v<R>) {
      return nullptr;
    } else {
      return std::addressof(static_cast<T&>(control).result());
    }
  });
}

template <class F, class... Args>
using ResultOf = std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>;

template <class F>
concept Spawnable = !std::is_same_v<std::remove_cvref_t<F>, SpawnOptions>;

template <class F>
[[nodiscard]] SpawnPlan plan_for(const SpawnOptions& options, CallSite site) {
  return {type_name<std::decay_t<F>>(), options.stack_size, options.name, options.daemon, nullptr, site};
}
template <class F>
[[nodiscard, gnu::always_inline]] inline SpawnPlan plan_for(const SpawnOptions& options) {
  return {
      type_name<std::decay_t<F>>(), options.stack_size, options.name, options.daemon, __builtin_return_address(0), {}};
}

template <class F>
[[nodiscard]] SpawnPlan plan_for(CallSite site) noexcept {
  SpawnPlan plan;
  plan.type_name = type_name<std::decay_t<F>>();
  plan.site = site;
  return plan;
}

template <class F>
[[nodiscard, gnu::always_inline]] inline SpawnPlan plan_here() noexcept {
  SpawnPlan plan;
  plan.type_name = type_name<std::decay_t<F>>();
  plan.address = __builtin_return_address(0);
  return plan;
}

}  // namespace detail

/// Starts `f(args...)` in a fiber of its own; callable and arguments are moved or copied into it. The fiber is put at
/// the end of the run queue: it does not run before the caller waits. It belongs to run(), which ends only after it.
/// Throws what reserve_fiber throws.
template <detail::Spawnable F>
Fiber<detail::ResultOf<F>> spawn(F&& f, detail::CallSite site = detail::CallSite::here()) {
  return detail::start<detail::ResultOf<F>>(detail::plan_for<F>(site), nullptr, std::forward<F>(f));
}
template <detail::Spawnable F, class First, class... Rest>
requires std::is_invocable_v<std::decay_t<F>, std::decay_t<First>, std::decay_t<Rest>...>
    Fiber<detail::ResultOf<F, First, Rest...>> spawn(F&& f, First&& first, Rest&&... rest) {
  return detail::start<detail::ResultOf<F, First, Rest...>>(detail::plan_here<F>(), nullptr, std::forward<F>(f),
                                                            std::forward<First>(first), std::forward<Rest>(rest)...);
}
template <class F>
Fiber<detail::ResultOf<F>> spawn(const SpawnOptions& options, F&& f, detail::CallSite site = detail::CallSite::here()) {
  return detail::start<detail::ResultOf<F>>(detail::plan_for<F>(options, site), nullptr, std::forward<F>(f));
}
template <class F, class First, class... Rest>
requires std::is_invocable_v<std::decay_t<F>, std::decay_t<First>, std::decay_t<Rest>...>
    Fiber<detail::ResultOf<F, First, Rest...>> spawn(const SpawnOptions& options, F&& f, First&& first,
                                                     Rest&&... rest) {
  return detail::start<detail::ResultOf<F, First, Rest...>>(detail::plan_for<F>(options), nullptr, std::forward<F>(f),
                                                            std::forward<First>(first), std::forward<Rest>(rest)...);
}

/// Starts a fiber that first sleeps for `delay`; cancelled while it sleeps, `f` never runs.
template <class F, class... Args>
Fiber<detail::ResultOf<F, Args...>> spawn_after(Duration delay, F&& f, Args&&... args) {
  auto later = [delay, f = std::decay_t<F>(std::forward<F>(f))](std::decay_t<Args>... held) mutable {
    sleep_for(delay);
    return std::invoke(std::move(f), std::move(held)...);
  };
  auto plan = detail::plan_here<F>();
  return detail::start<detail::ResultOf<F, Args...>>(plan, nullptr, std::move(later), std::forward<Args>(args)...);
}

/// Lets every fiber that is ready now run before the caller goes on. Throws Cancelled.
void yield();

/// The calling fiber.
namespace this_fiber {

[[nodiscard]] std::uint64_t id() noexcept;
[[nodiscard]] std::string_view name() noexcept;
void set_name(std::string name);
/// Whether the next wait will throw Cancelled.
[[nodiscard]] bool cancel_requested() noexcept;
/// Throws Cancelled if the fiber has been cancelled; does not wait. For long computations.
void checkpoint();
/// Whether the caller runs in a fiber at all.
[[nodiscard]] bool exists() noexcept;
/// Bytes between the caller's frame and the end of the stack it is on: the fiber's, or in a coroutine that one's.
[[nodiscard]] std::size_t stack_left() noexcept;

}  // namespace this_fiber
}  // namespace bight
