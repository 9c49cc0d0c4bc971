// SPDX-License-Identifier: Apache-2.0
#include "watchdog.hpp"

#include <execinfo.h>
#include <pthread.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <bight/log.hpp>

#include "describe.hpp"
#include "fork_guard.hpp"
#include "loop.hpp"
#include "own_threads.hpp"

namespace bight::detail {
namespace {

using namespace std::chrono_literals;

// As Go's scheduler does, and for its reasons: it is ignored unless somebody asks for it, debuggers let it pass, libc
// has no use for it, and who does ask for it must cope with one that says nothing.
constexpr int kSignal = SIGURG;

constexpr int kLooksPerLimit = 4;

#if defined(BIGHT_DEBUG)
constexpr Duration kDefault = 100ms;
#else
constexpr Duration kDefault = Duration::zero();
#endif

int handler_users = 0;  // protected by fork_mutex()
struct sigaction handler_before {};

std::optional<Duration> parse_limit(std::string_view text) noexcept {
  if (text == "off" || text == "0") return Duration::zero();
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{}) return std::nullopt;
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (unit == "us") return std::chrono::microseconds(number);
  if (unit == "ms") return std::chrono::milliseconds(number);
  if (unit == "s") return std::chrono::seconds(number);
  return std::nullopt;
}

const void* interrupted_at(const void* context) noexcept {
  [[maybe_unused]] const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  return reinterpret_cast<const void*>(machine.gregs[REG_RIP]);  // NOLINT(performance-no-int-to-ptr)
#elif defined(__aarch64__)
  return reinterpret_cast<const void*>(machine.pc);  // NOLINT(performance-no-int-to-ptr)
#else
  return nullptr;
#endif
}

std::string in_milliseconds(Duration time) {
  return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(time).count()) + " ms";
}

}  // namespace

Duration watchdog_limit(const RunOptions& options) noexcept {
  if (options.watchdog) return std::max(*options.watchdog, Duration::zero());
  const char* text = std::getenv("BIGHT_WATCHDOG");  // NOLINT(concurrency-mt-unsafe): read at start, never set by us
  if (text == nullptr) return kDefault;
  if (const auto limit = parse_limit(text)) return *limit;
  try {
    log(LogLevel::error, "BIGHT_WATCHDOG='" + std::string(text) +
                             "' is no time: say 500us, 50ms, 2s or off; the watchdog is as if nothing were set");
  } catch (const std::bad_alloc&) {  // the line is lost
  }
  return kDefault;
}

Watchdog::Watchdog(Loop& loop, Duration limit) noexcept : loop_(loop), limit_(limit) {
  if (limit_ == Duration::zero()) return;
  period_ = std::max<Duration>(limit_ / kLooksPerLimit, 1ms);
  process_ = ::getpid();
  looped_ = ::pthread_self();
  if (::pthread_getcpuclockid(looped_, &looped_clock_) != 0 || !take_signal()) {
    log_warning("the watchdog could not be set up");
    return;
  }
  std::array<void*, 1> unused{};
  static_cast<void>(::backtrace(unused.data(), 1));  // loads what it needs, which a handler may not
  loop_.watchdog() = this;
  // Signals are for the program's threads, which this is none of.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    thread_ = std::thread(&Watchdog::watch, this);
  } catch (const std::exception&) {  // no memory or no thread: the program goes on unwatched
    loop_.watchdog() = nullptr;
    release_signal();
    log_warning("the watchdog could not be started");
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Watchdog::~Watchdog() {
  if (!thread_.joinable()) return;
  loop_.watchdog() = nullptr;
  if (::getpid() != process_) {  // a forked child has a copy of this, but not of the thread
    thread_.detach();
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
  release_signal();
}

// --- The signal ------------------------------------------------------------------------------------------------------

bool Watchdog::take_signal() noexcept {
  const std::lock_guard lock(fork_mutex());
  if (handler_users++ > 0) return true;
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  if (::sigaction(kSignal, &action, &handler_before) == 0) return true;
  --handler_users;
  return false;
}

void Watchdog::release_signal() noexcept {
  const std::lock_guard lock(fork_mutex());
  if (--handler_users > 0) return;
  struct sigaction present {};
  ::sigaction(kSignal, nullptr, &present);
  // Unless the program has come to use it meanwhile.
  if (present.sa_sigaction == on_signal) ::sigaction(kSignal, &handler_before, nullptr);
}

void Watchdog::forget_in_forked_child() noexcept {
  if (std::exchange(handler_users, 0) > 0) ::sigaction(kSignal, &handler_before, nullptr);
}

/// To the handler from before.
void Watchdog::hand_on(int number, siginfo_t* info, void* context) noexcept {
  if ((handler_before.sa_flags & SA_SIGINFO) != 0) {
    handler_before.sa_sigaction(number, info, context);
  } else if (handler_before.sa_handler != SIG_DFL && handler_before.sa_handler != SIG_IGN) {
    handler_before.sa_handler(number);
  }
}

void Watchdog::on_signal(int number, siginfo_t* info, void* context) noexcept {
  const int error = errno;
  if (!answers(number, info, context)) hand_on(number, info, context);
  errno = error;
}

bool Watchdog::answers(int number, const siginfo_t* info, const void* context) noexcept {
  if (number != kSignal || info->si_code != SI_QUEUE) return false;
  Loop* loop = Loop::current();
  Watchdog* watchdog = loop != nullptr ? loop->watchdog() : nullptr;
  if (watchdog == nullptr || info->si_value.sival_ptr != watchdog) return false;
  watchdog->answer(interrupted_at(context));
  return true;
}

void Watchdog::answer(const void* interrupted_at) noexcept {
  auto expected = Question::asked;
  if (!question_.compare_exchange_strong(expected, Question::in_work)) return;  // too late
  const FiberControl* fiber = loop_.running();
  sighting_.guilty =
      fiber != nullptr && loop_.progress() == suspected_.load(std::memory_order_relaxed) && loop_.somebody_waits();
  if (sighting_.guilty) {
    ++loop_.counters().stalls;
    const std::string_view name = fiber->name();
    sighting_.id = fiber->id;
    sighting_.name_length = std::min(name.size(), sighting_.name.size());
    std::memcpy(sighting_.name.data(), name.data(), sighting_.name_length);
    sighting_.spawn_address = fiber->spawn_address;
    sighting_.spawn_site = fiber->spawn_site;
    sighting_.in_coroutine = fiber->coroutine != nullptr;
    sighting_.interrupted_at = interrupted_at;
    sighting_.frame_count = ::backtrace(sighting_.frames.data(), static_cast<int>(sighting_.frames.size()));
  }
  question_.store(Question::answered, std::memory_order_release);
}

// --- The thread ------------------------------------------------------------------------------------------------------

void Watchdog::watch() noexcept {
  const OwnThread own;
  ::pthread_setname_np(::pthread_self(), "bight-watchdog");
  std::unique_lock lock(mutex_);
  start_over(loop_.progress());
  while (!stop_) {
    wake_.wait_for(lock, period_);
    if (stop_) return;
    try {
      look(lock);
    } catch (const std::exception&) {  // no memory for a report
    }
  }
}

void Watchdog::start_over(std::uint64_t progress) noexcept {
  progress_ = progress;
  since_ = Clock::now();
  computed_before_ = computed();
  ask_after_ = limit_;
  looks_ = 0;
  reported_ = false;
}

void Watchdog::look(std::unique_lock<std::mutex>& lock) {
  const std::uint64_t progress = loop_.progress();
  if (!loop_.in_slice() || progress != progress_) {
    start_over(progress);
    return;
  }
  // Both: a process that was stopped for an hour has not run for one.
  if (reported_ || ++looks_ < kLooksPerLimit || Clock::now() - since_ < ask_after_) return;
  reported_ = ask(lock, progress);
  ask_after_ *= 2;  // nobody waits yet: do not disturb it all the time
  if (reported_) report();
}

/// Whether the loop's thread confesses. Also when it can not be asked, for then it is the one that waits for it.
bool Watchdog::ask(std::unique_lock<std::mutex>& lock, std::uint64_t progress) {
  suspected_.store(progress, std::memory_order_relaxed);
  sighting_ = Sighting{};
  question_.store(Question::asked);
  sigval value{};
  value.sival_ptr = this;
  const TimePoint patience = Clock::now() + 1s;
  bool hopeful = ::pthread_sigqueue(looped_, kSignal, value) == 0;
  while (hopeful && !stop_ && question_.load(std::memory_order_acquire) != Question::answered) {
    wake_.wait_for(lock, 1ms);
    hopeful = Clock::now() < patience;
  }
  auto expected = Question::asked;
  if (question_.compare_exchange_strong(expected, Question::none)) return !stop_ && loop_.progress() == progress;
  while (question_.load(std::memory_order_acquire) == Question::in_work) std::this_thread::yield();
  question_.store(Question::none, std::memory_order_relaxed);
  return sighting_.guilty;
}

Duration Watchdog::computed() const noexcept {
  timespec time{};
  ::clock_gettime(looped_clock_, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

std::string Watchdog::how_long() const {
  return "for " + in_milliseconds(Clock::now() - since_) + " (" + in_milliseconds(computed() - computed_before_) +
         " of them computing)";
}

void Watchdog::report() const {
  if (!sighting_.guilty) {
    log_warning("a fiber has kept its loop " + how_long() +
                "; its thread does not answer SIGURG (it is blocked, handled by somebody else, or the thread is in the "
                "kernel), so there is no more to say");
    return;
  }
  std::string text = "fiber #" + std::to_string(sighting_.id) + " '";
  text.append(sighting_.name.data(), sighting_.name_length).append("' has kept its loop ").append(how_long());
  text.append(" while others wait, spawned at ");
  describe_site(sighting_.spawn_site, sighting_.spawn_address, text);
  text.append(sighting_.in_coroutine ? "; in a coroutine, its stack is" : "; its stack is");
  const auto* const end = sighting_.frames.begin() + sighting_.frame_count;
  const auto* first = std::find(sighting_.frames.begin(), end, sighting_.interrupted_at);
  if (first == end) first = sighting_.frames.begin();  // with the handler's own
  for (const auto* each = first; each != end; ++each) {
    text.append("\n");
    // A return address is behind its call, which may have been the last thing in the function.
    describe_frame(each == first ? *each : static_cast<const char*>(*each) - 1, text);
  }
  log_warning(text);
}

}  // namespace bight::detail
