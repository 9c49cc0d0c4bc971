// SPDX-License-Identifier: Apache-2.0
#include "signal_port.hpp"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <mutex>
#include <thread>
#include <utility>

#include "engine/engine.hpp"
#include "watchdog.hpp"

namespace bight::detail {

/// What there is of it in a process. The mutex protects all but the list and the counts, which handlers read. They take
/// no lock: whom they interrupt may hold another (malloc's) that whoever has this one waits for.
struct SignalHandlers {
  static void on_signal(int number, siginfo_t* info, void* context) noexcept;
  static void pass_on(int number, siginfo_t* info) noexcept;
  static void install(int number, struct sigaction* old) noexcept;
  static void add(int number) noexcept;
  static void drop(int number) noexcept;
  static void before_fork() noexcept;
  static void after_fork_in_parent() noexcept;
  static void after_fork_in_child() noexcept;

  static std::mutex mutex;
  static std::array<std::atomic<int>, kSignalMax + 1> users;
  static std::array<struct sigaction, kSignalMax + 1> before;
  static SignalPort* stop_port;
  static sigset_t mask_before_fork;
  static std::atomic<SignalPort*> first_port;
};

constinit std::mutex SignalHandlers::mutex;
constinit std::array<std::atomic<int>, kSignalMax + 1> SignalHandlers::users{};
std::array<struct sigaction, kSignalMax + 1> SignalHandlers::before{};
constinit SignalPort* SignalHandlers::stop_port = nullptr;
sigset_t SignalHandlers::mask_before_fork;
constinit std::atomic<SignalPort*> SignalHandlers::first_port{nullptr};

namespace {

using Handlers = SignalHandlers;

constexpr SignalMask kStops = signal_bit(SIGTERM) | signal_bit(SIGINT);

template <class F>
void for_each_number(SignalMask numbers, F&& f) {
  for (; numbers != 0; numbers &= numbers - 1) f(std::countr_zero(numbers) + 1);
}

bool is_real_time(int number) noexcept { return number >= SIGRTMIN; }

/// Keeps signals off the calling thread. The registry's lock is held with none coming, for a handler that finds nobody
/// to tell changes dispositions, too.
class SignalsBlocked {
 public:
  SignalsBlocked() noexcept {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

bool is_ours(int number) noexcept {
  struct sigaction present {};
  ::sigaction(number, nullptr, &present);
  return (present.sa_flags & SA_SIGINFO) != 0 && present.sa_sigaction == Handlers::on_signal;
}

}  // namespace

// --- Handlers --------------------------------------------------------------------------------------------------------

void SignalHandlers::on_signal(int number, siginfo_t* info, void* context) noexcept {
  const int error = errno;
  if (!Watchdog::answers(number, info, context)) {
    bool taken = false;
    SignalPort* const first = first_port.load();
    for (SignalPort* each = first; each != nullptr; each = each->next_) {
      taken |= each->offer(each->wanted_, *info, false);
    }
    for (SignalPort* each = first; each != nullptr && !taken; each = each->next_) {
      taken = each->offer(each->stops_, *info, true);
    }
    if (!taken) pass_on(number, info);
  }
  errno = error;
}

/// The last one who wanted it has gone since the kernel chose this handler: it is for the disposition from before. That
/// one is there already, unless somebody who had changed it has put ours back; or another has come who wants it.
void SignalHandlers::pass_on(int number, siginfo_t* info) noexcept {
  const auto at = static_cast<std::size_t>(number);
  // Who comes is counted before it is installed, who goes until it is not: so without a user between two looks it is
  // nobody's; and if one comes right now it is made good.
  if (users[at] == 0 && is_ours(number) && users[at] == 0) {
    ::sigaction(number, &before[at], nullptr);
    if (users[at] != 0) install(number, nullptr);
  }
  ::syscall(SYS_rt_tgsigqueueinfo, ::getpid(), ::gettid(), number, info);
}

void SignalHandlers::install(int number, struct sigaction* old) noexcept {
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(number, &action, old);
}

void SignalHandlers::add(int number) noexcept {
  const auto at = static_cast<std::size_t>(number);
  if (users[at]++ > 0) return;
  struct sigaction old {};
  const bool again = is_ours(number);  // put back by somebody who had found it, and then nobody's
  install(number, &old);
  if (!again) before[at] = old;
}

void SignalHandlers::drop(int number) noexcept {
  const auto at = static_cast<std::size_t>(number);
  if (users[at] == 1 && is_ours(number)) ::sigaction(number, &before[at], nullptr);
  --users[at];
}

// --- Forks -----------------------------------------------------------------------------------------------------------

// The loops are the parent's, so a child goes back to what was there before; and no signal meets it on the way there.

void SignalHandlers::before_fork() noexcept {
  sigset_t all;
  sigset_t mask;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &mask);
  mutex.lock();
  mask_before_fork = mask;
}

void SignalHandlers::after_fork_in_parent() noexcept {
  const sigset_t mask = mask_before_fork;
  mutex.unlock();
  ::pthread_sigmask(SIG_SETMASK, &mask, nullptr);
}

void SignalHandlers::after_fork_in_child() noexcept {
  for (int number = 1; number <= kSignalMax; ++number) {
    const auto at = static_cast<std::size_t>(number);
    if (users[at] > 0 && is_ours(number)) ::sigaction(number, &before[at], nullptr);
    users[at] = 0;
  }
  stop_port = nullptr;
  for (SignalPort* each = first_port.load(); each != nullptr; each = each->next_) each->forget();
  after_fork_in_parent();
}

/// In a forked child: handlers of the parent's other threads may have been in the midst of it.
void SignalPort::forget() noexcept {
  wanted_ = 0;
  stops_ = 0;
  engine_ = nullptr;
  handlers_ = 0;
  pending_ = false;
  queued_ = 0;
  real_time_count_ = 0;
  overflowed_ = 0;
  tail_ = 0;
  head_ = 0;
  for (Slot& each : slots_) each.lap = 0;
}

// --- Ports -----------------------------------------------------------------------------------------------------------

SignalPort& SignalPort::acquire(Engine& engine) {
  [[maybe_unused]] static const int registered =
      ::pthread_atfork(Handlers::before_fork, Handlers::after_fork_in_parent, Handlers::after_fork_in_child);
  const SignalsBlocked blocked;
  const std::lock_guard lock(Handlers::mutex);
  SignalPort* port = Handlers::first_port.load();
  while (port != nullptr && port->engine_.load() != nullptr) port = port->next_;
  if (port == nullptr) {
    port = new SignalPort;
    port->next_ = Handlers::first_port.load();
    Handlers::first_port.store(port);
  }
  port->engine_.store(&engine);
  return *port;
}

void SignalPort::release() noexcept {
  const SignalsBlocked blocked;
  const std::lock_guard lock(Handlers::mutex);
  pending_.store(false);
  engine_.store(nullptr);
}

void SignalPort::want(SignalMask numbers) noexcept {
  const SignalsBlocked blocked;
  const std::lock_guard lock(Handlers::mutex);
  wanted_.fetch_or(numbers);
  for_each_number(numbers, Handlers::add);
}

void SignalPort::want_no_longer(SignalMask numbers) noexcept {
  {
    const SignalsBlocked blocked;
    const std::lock_guard lock(Handlers::mutex);
    // In this order: whoever finds that nobody wants it finds the disposition from before.
    for_each_number(numbers, Handlers::drop);
    wanted_.fetch_and(~numbers);
  }
  wait_for_handlers();
}

bool SignalPort::take_stops() noexcept {
  const SignalsBlocked blocked;
  const std::lock_guard lock(Handlers::mutex);
  if (Handlers::stop_port != nullptr) return false;
  Handlers::stop_port = this;
  stops_.store(kStops);
  for_each_number(kStops, Handlers::add);
  return true;
}

void SignalPort::leave_stops() noexcept {
  {
    const SignalsBlocked blocked;
    const std::lock_guard lock(Handlers::mutex);
    if (Handlers::stop_port != this) return;  // this is a forked child
    for_each_number(kStops, Handlers::drop);
    stops_.store(0);
    Handlers::stop_port = nullptr;
  }
  wait_for_handlers();
}

/// Those that come from now on see that they are not wanted, and leave the count alone.
void SignalPort::wait_for_handlers() const noexcept {
  while (handlers_.load() != 0) std::this_thread::yield();
}

bool SignalPort::offer(const std::atomic<SignalMask>& mask, const siginfo_t& info, bool stop) noexcept {
  const SignalMask bit = signal_bit(info.si_signo);
  if ((mask.load() & bit) == 0) return false;
  handlers_.fetch_add(1);
  const bool taken = (mask.load() & bit) != 0;
  if (taken) {
    push({info.si_signo, info.si_code, info.si_pid, info.si_uid, info.si_value.sival_int, stop});
    pending_.store(true);
    engine_.load()->wake();
  }
  handlers_.fetch_sub(1);
  return taken;
}

/// There is a free slot at the tail, since there are never more notes than slots. Interrupted by another handler here,
/// this note becomes visible when that one has returned, and the loop is woken after that.
void SignalPort::push(const SignalNote& note) noexcept {
  const SignalMask bit = signal_bit(note.number);
  if (!is_real_time(note.number)) {
    if ((queued_.fetch_or(bit) & bit) != 0) return;
  } else if (real_time_count_.fetch_add(1) >= kRealTimeMax) {
    real_time_count_.fetch_sub(1);
    overflowed_.fetch_or(bit);
    return;
  }
  const std::uint64_t position = tail_.fetch_add(1);
  Slot& slot = slots_[position % kSlots];
  const std::uint64_t lap = position / kSlots * 2;
  while (slot.lap.load(std::memory_order_acquire) != lap) {  // it is: this makes the compiler and the processor see it
  }
  slot.note = note;
  slot.lap.store(lap + 1, std::memory_order_release);
}

std::optional<SignalNote> SignalPort::pop() noexcept {
  Slot& slot = slots_[head_ % kSlots];
  const std::uint64_t lap = head_ / kSlots * 2;
  if (slot.lap.load(std::memory_order_acquire) == lap + 1) {
    const SignalNote note = slot.note;
    slot.lap.store(lap + 2, std::memory_order_release);
    ++head_;
    if (is_real_time(note.number)) {
      real_time_count_.fetch_sub(1);
    } else {
      queued_.fetch_and(~signal_bit(note.number));
    }
    return note;
  }
  const SignalMask late = overflowed_.load();
  if (late == 0) return std::nullopt;
  SignalNote note;
  note.number = std::countr_zero(late) + 1;
  overflowed_.fetch_and(~signal_bit(note.number));
  return note;
}

}  // namespace bight::detail
