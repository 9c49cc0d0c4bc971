// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace bight::detail {

class Engine;

/// Signal numbers as bits: number 1 is the lowest one.
using SignalMask = std::uint64_t;

constexpr int kSignalMax = 64;
static_assert(NSIG - 1 <= kSignalMax, "a SignalMask has a bit for each signal");

[[nodiscard]] constexpr SignalMask signal_bit(int number) noexcept { return SignalMask{1} << (number - 1); }

/// One signal on its way from a handler to a loop.
struct SignalNote {
  int number = 0;
  int code = 0;
  pid_t sender = 0;
  uid_t user = 0;
  int value = 0;
  bool stop = false;  // nobody subscribed to it: it is a request to stop
};

/// Where signal handlers leave what came, and one loop picks it up. Handlers of any thread push, at once and into each
/// other; one loop pops. Nothing here locks or allocates.
///
/// Ports are never freed, only used again, since a handler may look at one at any time. Of ordinary signals one of each
/// number is kept, as in the kernel, and up to kRealTimeMax real-time ones, beyond which these are kept as the others
/// are, without what came with them.
class SignalPort {
 public:
  static constexpr std::size_t kSlots = 1024;
  static constexpr std::size_t kRealTimeMax = kSlots - kSignalMax;  // there is always room for one of each other

  /// A port for a loop with this engine, which the handlers wake. Throws std::bad_alloc.
  [[nodiscard]] static SignalPort& acquire(Engine& engine);
  /// Nothing is wanted any more and all has been popped.
  void release() noexcept;

  /// From now on signals with these numbers, and no disposition but ours, come here. Counted over the process: the
  /// first one installs the handler.
  void want(SignalMask numbers) noexcept;
  /// The opposite: with the last one the disposition that was there before comes back, unless somebody has changed it
  /// meanwhile. Afterwards no handler is at work for this port any more.
  void want_no_longer(SignalMask numbers) noexcept;

  /// SIGTERM and SIGINT that nobody wants come here as requests to stop. False: they go to another port.
  [[nodiscard]] bool take_stops() noexcept;
  void leave_stops() noexcept;

  // The loop's thread.

  [[nodiscard]] bool pending() const noexcept { return pending_.load(std::memory_order_acquire); }
  /// Those that came, in their order; nothing when that is all.
  [[nodiscard]] std::optional<SignalNote> pop() noexcept;
  /// Before the first pop() of several.
  void begin_to_pop() noexcept { pending_.store(false); }

 private:
  friend struct SignalHandlers;

  struct Slot {
    std::atomic<std::uint64_t> lap{0};  // 2n: free in the n-th round; 2n + 1: filled in it
    SignalNote note;
  };

  [[nodiscard]] bool offer(const std::atomic<SignalMask>& mask, const siginfo_t& info, bool stop) noexcept;
  void push(const SignalNote& note) noexcept;
  void wait_for_handlers() const noexcept;
  void forget() noexcept;

  std::atomic<SignalMask> wanted_{0};
  std::atomic<SignalMask> stops_{0};
  std::atomic<Engine*> engine_{nullptr};  // null: the port is nobody's
  std::atomic<int> handlers_{0};          // at work here: the loop waits for them before it goes
  std::atomic<bool> pending_{false};

  std::atomic<SignalMask> queued_{0};            // ordinary ones, of which there is one in a slot
  std::atomic<std::size_t> real_time_count_{0};  // real-time ones in slots
  std::atomic<SignalMask> overflowed_{0};        // real-time ones that came when there were too many
  std::atomic<std::uint64_t> tail_{0};
  std::uint64_t head_ = 0;
  std::array<Slot, kSlots> slots_;
  SignalPort* next_ = nullptr;  // of all ports there are
};

static_assert(std::atomic<SignalMask>::is_always_lock_free && std::atomic<Engine*>::is_always_lock_free,
              "a signal handler may not lock");

}  // namespace bight::detail
