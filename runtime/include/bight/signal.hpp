// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Unix signals, as something to receive and as something that ends a piece of work.
///
///     bight::Signals reload({SIGHUP});
///     for (bight::Signal signal : reload) read_configuration();          // a fiber of its own, usually a daemon
///
///     if (auto number = bight::with_signals({SIGTERM, SIGINT}, serve))   // serve() is cancelled when one comes
///       say("ended by " + bight::signal_name(*number));
///
/// A signal goes to everybody who has subscribed to its number: each Signals, each with_signals, of each loop on each
/// thread. Handlers belong to the process. The first subscription to a number installs one, in the place of whatever
/// was there; with the end of the last one that comes back, unless somebody has changed it meanwhile. Signals must not
/// be blocked in all threads, or they do not arrive.
///
/// SIGTERM and SIGINT are a request to stop (stop.hpp) only while nobody in the process has subscribed to them.
///
/// As in the kernel, ordinary signals have no queue: of several with the same number, of which none has been received,
/// the first is kept. Different ones are kept in the order in which they arrived; so are real-time signals, of which
/// up to 960 wait, those with equal numbers too. Beyond that they are treated as ordinary ones are, and come last.
///
/// A loop is not deadlocked while a fiber waits for a signal, or is in a with_signals: it sleeps until one comes. It
/// ends, as ever, with its last fiber that is no daemon; a subscription alone keeps nothing alive.
///
/// A forked child has what was there before in place of the handlers, and no subscriptions. In a simulated world this
/// works as elsewhere: with raise(3) it is as repeatable as the rest.

#include <sys/types.h>

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include <bight/detail/cancel_scope.hpp>
#include <bight/detail/ring.hpp>
#include <bight/detail/select_case.hpp>
#include <bight/detail/wait_list.hpp>
#include <bight/error.hpp>
#include <bight/time.hpp>

namespace bight {

/// A signal that came.
struct Signal {
  int number = 0;
  int code = 0;      ///< si_code of sigaction(2): SI_USER for kill(2), SI_QUEUE for sigqueue(3) …
  pid_t sender = 0;  ///< process id, of the code's kinds that have one; 0: the kernel, or not known
  uid_t user = 0;    ///< the sender's real user id
  int value = 0;     ///< what sigqueue(3) was given
};

/// "SIGTERM", "SIGRTMIN+3"; "signal 99" for what there is not.
[[nodiscard]] std::string signal_name(int number);

namespace detail {

class Loop;

/// Somebody in a loop to whom signals are handed. Made and ended by the loop's thread.
class SignalSubscriber {
 public:
  /// Throws std::invalid_argument for numbers that can not be subscribed to, and std::bad_alloc.
  explicit SignalSubscriber(std::span<const int> numbers);
  SignalSubscriber(const SignalSubscriber&) = delete;
  SignalSubscriber& operator=(const SignalSubscriber&) = delete;
  virtual ~SignalSubscriber() = default;

  virtual void deliver(const Signal& signal) noexcept = 0;
  /// Whether a signal would have somebody go on.
  [[nodiscard]] virtual bool awaited() const noexcept = 0;
  [[nodiscard]] std::uint64_t numbers() const noexcept { return numbers_; }
  [[nodiscard]] bool real_time() const noexcept;

 protected:
  /// Has those handed out that have come and not been noticed yet. On the loop's own thread; else aborts with a
  /// sentence.
  void look() const noexcept;
  /// To be called once: what has come until now is delivered, nothing is afterwards.
  void unsubscribe() noexcept;

 private:
  friend class LoopSignals;

  std::uint64_t numbers_;
  Loop* loop_;
  std::uint32_t forks_;  // that lay behind the process
  SignalSubscriber* next_ = nullptr;
};

struct SignalLink : WaitLink {
  Signal signal;
};

/// The body of with_signals.
class SignalScope final : public SignalSubscriber {
 public:
  explicit SignalScope(std::span<const int> numbers);
  ~SignalScope() override {
    if (open_) close();
  }

  void deliver(const Signal& signal) noexcept override;
  [[nodiscard]] bool awaited() const noexcept override { return came_ == 0; }

  /// Ends it. Which signal came; 0: none did.
  [[nodiscard]] int finish() noexcept {
    close();
    return came_;
  }
  /// Whether a Cancelled that arrives at the boundary is its own.
  [[nodiscard]] bool absorbs() const noexcept { return scope_.absorbs(); }

 private:
  void close() noexcept;

  CancelScope scope_;
  int came_ = 0;
  bool open_ = true;
};

template <class S, class F>
class SignalCase;

}  // namespace detail

/// The signals of some numbers, for fibers of the loop that it was made on, to receive one by one. Several may: each
/// signal goes to one of them, the one that has waited longest. From the beginning of its life to the end signals with
/// these numbers do nothing else but arrive here; those not received by then are gone.
///
/// It is made and ended in the loop's thread, by a fiber or a callback, and must not outlive run(); used from elsewhere
/// it aborts with a sentence.
class Signals final : private detail::SignalSubscriber {
 public:
  /// Throws std::invalid_argument: a number is none, or one that the kernel (SIGKILL, SIGSTOP), the C library, or
  /// those whose next instruction would fail again (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS, SIGTRAP, SIGABRT) keep to
  /// themselves. std::bad_alloc.
  Signals(std::initializer_list<int> numbers) : Signals(std::span(numbers.begin(), numbers.size())) {}
  explicit Signals(std::span<const int> numbers);
  ~Signals() override;

  /// The next one. Throws Cancelled if it has to wait, having taken none.
  [[nodiscard]] Signal receive() { return *receive_by(TimePoint::max()); }
  /// Nothing: none came within `limit`.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<Signal> receive_for(const std::chrono::duration<Rep, Period>& limit) {
    return receive_by(detail::limit_from_now(detail::saturating_duration(limit)));
  }
  template <class C, class D>
  [[nodiscard]] std::optional<Signal> receive_until(const std::chrono::time_point<C, D>& when) {
    return receive_by(detail::loop_time(when));
  }
  /// Does not wait.
  [[nodiscard]] std::optional<Signal> try_receive() noexcept;

  /// A case of select(), see there. The handler takes the Signal, or nothing.
  template <class F>
  [[nodiscard]] auto on_receive(F&& handler) {
    return detail::SignalCase<Signals, std::decay_t<F>>(*this, std::forward<F>(handler));
  }

  /// `for (Signal signal : signals)` receives until the fiber is cancelled.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Signal;
    using difference_type = std::ptrdiff_t;
    using pointer = const Signal*;
    using reference = const Signal&;

    explicit Iterator(Signals& from) : from_(&from), signal_(from.receive()) {}
    [[nodiscard]] const Signal& operator*() const noexcept { return signal_; }
    [[nodiscard]] const Signal* operator->() const noexcept { return &signal_; }
    Iterator& operator++() {
      signal_ = from_->receive();
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const Iterator&, std::default_sentinel_t) noexcept { return false; }

   private:
    Signals* from_;
    Signal signal_;
  };
  [[nodiscard]] Iterator begin() { return Iterator(*this); }
  [[nodiscard]] static std::default_sentinel_t end() noexcept { return std::default_sentinel; }

  // For select.
  [[nodiscard]] bool is_set() noexcept;
  [[nodiscard]] detail::WaitList& waiters() noexcept { return waiters_; }

 private:
  [[nodiscard]] std::optional<Signal> receive_by(TimePoint until);
  void deliver(const Signal& signal) noexcept override;
  [[nodiscard]] bool awaited() const noexcept override { return !waiters_.empty(); }
  static void describe(const detail::WaitLink& link, std::string& text);

  detail::Ring<Signal> queue_;
  std::uint64_t queued_ = 0;  // ordinary ones that are in it
  std::uint64_t late_ = 0;    // real-time ones that there was no room for
  detail::WaitList waiters_;
};

/// Runs `body` until one of these signals comes: then its waits throw Cancelled, as at the end of a with_timeout, until
/// it is unwound. Returns the signal's number; nothing if none came before the body ended. (A body that finishes though
/// one came makes no difference to that: a signal is not to be overlooked. Its result is not returned: let it write to
/// a variable.) Exceptions of the body's pass through.
///
/// All that Deadline is true of holds here: it covers fibers of Scopes opened inside, a Shield inside holds it off, and
/// with an outer scope cancelled as well, Cancelled goes on to that. Of two nested ones for the same signal both end,
/// so it is the outer one that returns. Throws as the making of Signals does, before the body begins.
template <class F>
[[nodiscard]] std::optional<int> with_signals(std::span<const int> numbers, F&& body) {
  detail::SignalScope scope(numbers);
  try {
    static_cast<void>(std::invoke(std::forward<F>(body)));
  } catch (const Cancelled&) {
    if (!scope.absorbs()) throw;
  }
  const int came = scope.finish();
  return came != 0 ? std::optional(came) : std::nullopt;
}

template <class F>
[[nodiscard]] std::optional<int> with_signals(std::initializer_list<int> numbers, F&& body) {
  return with_signals(std::span(numbers.begin(), numbers.size()), std::forward<F>(body));
}

namespace detail {

template <class S, class F>
class SignalCase final : public SelectCase {
 public:
  template <class G>
  SignalCase(S& signals, G&& handler) : signals_(signals), handler_(std::forward<G>(handler)) {}

  bool ready() noexcept override { return signals_.is_set(); }
  void take() override { link_.signal = *signals_.try_receive(); }
  bool enlist(SelectWait& wait) noexcept override {
    link_.of = this;
    SelectLink::enlist(link_, signals_.waiters(), wait);
    return false;
  }
  void delist() noexcept override { SelectLink::delist(link_); }
  void run() override {
    if constexpr (std::is_invocable_v<F&, Signal>) {
      std::invoke(handler_, link_.signal);
    } else {
      std::invoke(handler_);
    }
  }

 private:
  S& signals_;
  F handler_;
  LinkOfCase<SignalLink> link_;
};

}  // namespace detail
}  // namespace bight
