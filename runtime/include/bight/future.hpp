// SPDX-License-Identifier: Apache-2.0
#pragma once

/// A result that is set once and waited for by many, within one loop: gevent's AsyncResult, asyncio's Future. For a
/// result from another thread there are offload() and call_on().

#include <chrono>
#include <cstddef>
#include <exception>
#include <future>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include <bight/check.hpp>
#include <bight/detail/loop_bound.hpp>
#include <bight/detail/select_case.hpp>
#include <bight/detail/wait_list.hpp>
#include <bight/time.hpp>

namespace bight {

namespace detail {

void describe_result(const WaitLink&, std::string& text);

/// What a Promise and its Futures share. Counted without atomics: they are all of one loop.
template <class T>
class ResultState {
  static_assert(!std::is_reference_v<T>, "a Future holds a value; for a reference say Future<T*>");

 public:
  using Value = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

  void ref() noexcept { ++references_; }
  /// Not inlined: with several handles in sight GCC 12 takes the next one's look at the count for a use after delete.
  [[gnu::noinline]] void unref() noexcept {
    if (--references_ == 0) delete this;
  }

  [[nodiscard]] bool is_set() const noexcept { return outcome_.index() != 0; }
  [[nodiscard]] bool failed() const noexcept { return outcome_.index() == 2; }

  template <std::size_t kIndex, class... Args>
  void set(Args&&... args) {
    if (is_set()) throw std::future_error(std::future_errc::promise_already_satisfied);
    bound_.enter();
    try {
      outcome_.template emplace<kIndex>(std::forward<Args>(args)...);
    } catch (...) {
      outcome_.template emplace<0>();  // the variant has nothing: nothing has been set
      throw;
    }
    waiters_.wake_all();
  }

  bool wait(TimePoint until) {
    if (is_set()) return true;
    bound_.enter();
    WaitLink link;
    return wait_or_throw(waiters_, link, describe_result, until);
  }

  /// When it is set.
  [[nodiscard]] Value& value() {
    if (failed()) std::rethrow_exception(std::get<2>(outcome_));
    return std::get<1>(outcome_);
  }
  [[nodiscard]] std::exception_ptr error() const noexcept {
    return failed() ? std::get<2>(outcome_) : std::exception_ptr{};
  }
  [[nodiscard]] WaitList& waiters() noexcept {
    bound_.enter();
    return waiters_;
  }

 private:
  std::size_t references_ = 1;
  LoopBound bound_;
  std::variant<std::monostate, Value, std::exception_ptr> outcome_;
  WaitList waiters_;
};

template <class T>
class ResultHandle {
 public:
  ResultHandle() noexcept = default;
  /// Takes over a reference.
  explicit ResultHandle(ResultState<T>* state) noexcept : state_(state) {}
  ResultHandle(const ResultHandle& other) noexcept : state_(other.state_) {
    if (state_ != nullptr) state_->ref();
  }
  ResultHandle(ResultHandle&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
  ResultHandle& operator=(ResultHandle other) noexcept {
    std::swap(state_, other.state_);
    return *this;
  }
  ~ResultHandle() {
    if (state_ != nullptr) state_->unref();
  }
  [[nodiscard]] ResultState<T>& operator*() const {
    if (state_ == nullptr) throw std::future_error(std::future_errc::no_state);
    return *state_;
  }
  [[nodiscard]] ResultState<T>* get() const noexcept { return state_; }

 private:
  ResultState<T>* state_ = nullptr;
};

}  // namespace detail

/// The side that waits. Copies share the result; any number of fibers may wait, in the order of whose coming they wake.
/// Not for other threads. An empty one (default-made, moved from) throws std::future_error (no_state).
template <class T = void>
class Future {
 public:
  Future() noexcept = default;

  /// Waits, then returns the value, which stays in the shared state, or throws what was set. Throws Cancelled if it has
  /// to wait.
  std::add_lvalue_reference_t<const T> get() const {
    wait();
    if constexpr (std::is_void_v<T>) {
      static_cast<void>((*state_).value());
    } else {
      return (*state_).value();
    }
  }
  /// The same, but moves the value out: for the last who asks, and for what can not be copied.
  T take() {
    wait();
    if constexpr (std::is_void_v<T>) {
      static_cast<void>((*state_).value());
    } else {
      return std::move((*state_).value());
    }
  }
  /// Waits until a value or an error has been set. Throws Cancelled if it has to wait.
  void wait() const { (*state_).wait(TimePoint::max()); }
  /// The same for `limit` at most. Whether it has been set.
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(const std::chrono::duration<Rep, Period>& limit) const {
    return ready() || (*state_).wait(detail::limit_from_now(detail::saturating_duration(limit)));
  }
  template <class C, class D>
  [[nodiscard]] bool wait_until(const std::chrono::time_point<C, D>& when) const {
    return ready() || (*state_).wait(detail::loop_time(when));
  }

  /// Whether get() would not wait.
  [[nodiscard]] bool ready() const { return (*state_).is_set(); }
  /// The error that was set; null: a value was, or nothing yet.
  [[nodiscard]] std::exception_ptr error() const { return (*state_).error(); }
  /// Whether there is a state behind this handle.
  [[nodiscard]] bool valid() const noexcept { return state_.get() != nullptr; }

  /// A case of select(), see there.
  template <class F>
  [[nodiscard]] auto on_ready(F&& handler) const {
    return detail::FlagCase<detail::ResultState<T>&, std::decay_t<F>>(*state_, std::forward<F>(handler));
  }
  /// For wait_any and its kin.
  [[nodiscard]] bool is_set() const { return ready(); }
  [[nodiscard]] detail::WaitList& waiters() const { return (*state_).waiters(); }
  void rethrow_error() const {
    if ((*state_).failed()) std::rethrow_exception((*state_).error());
  }

 private:
  template <class U>
  friend class Promise;
  explicit Future(detail::ResultHandle<T> state) noexcept : state_(std::move(state)) {}

  detail::ResultHandle<T> state_;
};

/// The side that sets the result, once. Move-only. Dropped with nothing set, it sets std::future_error
/// (broken_promise). To set it again throws std::future_error (promise_already_satisfied). Setting does not wait, may
/// be done in callbacks, and wakes all who wait; when the value's constructor throws, nothing has been set.
template <class T = void>
class Promise {
 public:
  Promise() : state_(new detail::ResultState<T>) {}
  Promise(Promise&&) noexcept = default;
  Promise& operator=(Promise&& other) noexcept {
    Promise(std::move(other)).swap(*this);
    return *this;
  }
  ~Promise() {
    if (state_.get() == nullptr || (*state_).is_set()) return;
    (*state_).template set<2>(std::make_exception_ptr(std::future_error(std::future_errc::broken_promise)));
  }
  void swap(Promise& other) noexcept { std::swap(state_, other.state_); }

  /// As often as you like.
  [[nodiscard]] Future<T> future() const {
    static_cast<void>(*state_);
    return Future<T>(state_);
  }

  template <class... Args>
  void set_value(Args&&... args) {
    (*state_).template set<1>(std::forward<Args>(args)...);
  }
  /// Aborts with a sentence for a null pointer.
  void set_exception(std::exception_ptr error) {
    BIGHT_CHECK(error != nullptr, "a Promise is given an exception that is none");
    (*state_).template set<2>(std::move(error));
  }
  [[nodiscard]] bool is_set() const { return (*state_).is_set(); }

 private:
  detail::ResultHandle<T> state_;
};

}  // namespace bight
