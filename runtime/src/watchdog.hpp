// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ctime>

#include <array>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include <bight/detail/call_site.hpp>
#include <bight/run.hpp>
#include <bight/time.hpp>

namespace bight::detail {

class Loop;

/// How long a fiber may run: the option, else the environment's, else the default; zero for ever. Logs an error about a
/// BIGHT_WATCHDOG that is none.
[[nodiscard]] Duration watchdog_limit(const RunOptions& options) noexcept;

/// While it lives, a fiber of `loop` that runs for longer than `limit` while others wait is reported, once each time it
/// does.
///
/// A thread looks four times per limit at what the loop counts anyway. When that has stood still it sends the loop's
/// thread a signal, whose handler notes the fiber and its stack; what that means is put into words by the thread. So
/// the loop pays for nothing but the handler. Made and ended by the loop's thread.
class Watchdog {
 public:
  Watchdog(Loop& loop, Duration limit) noexcept;
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// There are none in the child: the handler that was there before comes back.
  static void forget_in_forked_child() noexcept;
  /// For handlers that have taken SIGURG from it: whether this one was its, and has been answered. Async-signal-safe.
  static bool answers(int number, const siginfo_t* info, const void* context) noexcept;

 private:
  enum class Question : std::uint8_t { none, asked, in_work, answered };

  /// What the handler has seen: plain data, for it may not allocate.
  struct Sighting {
    bool guilty = false;
    bool in_coroutine = false;
    std::uint64_t id = 0;
    std::array<char, 128> name{};
    std::size_t name_length = 0;
    const void* spawn_address = nullptr;
    CallSite spawn_site;
    std::array<void*, 48> frames{};
    int frame_count = 0;
    const void* interrupted_at = nullptr;
  };

  static void on_signal(int number, siginfo_t* info, void* context) noexcept;
  static void hand_on(int number, siginfo_t* info, void* context) noexcept;
  static bool take_signal() noexcept;
  static void release_signal() noexcept;

  void answer(const void* interrupted_at) noexcept;  // in the handler

  // In the thread.
  void watch() noexcept;
  void look(std::unique_lock<std::mutex>& lock);
  void start_over(std::uint64_t progress) noexcept;
  [[nodiscard]] bool ask(std::unique_lock<std::mutex>& lock, std::uint64_t progress);
  [[nodiscard]] Duration computed() const noexcept;
  [[nodiscard]] std::string how_long() const;
  void report() const;

  Loop& loop_;
  const Duration limit_;
  Duration period_{};
  pid_t process_ = 0;
  pthread_t looped_{};
  clockid_t looped_clock_{};

  // The thread's.
  std::uint64_t progress_ = 0;
  TimePoint since_{};
  Duration computed_before_{};
  Duration ask_after_{};
  int looks_ = 0;
  bool reported_ = false;

  std::atomic<std::uint64_t> suspected_{0};
  std::atomic<Question> question_{Question::none};
  Sighting sighting_;  // the handler's while the question is in work, the thread's otherwise

  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;  // protected by mutex_
  std::thread thread_;
};

}  // namespace bight::detail
