// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include <bight/detail/callback.hpp>
#include <bight/detail/fiber_control.hpp>
#include <bight/detail/loop_bound.hpp>
#include <bight/detail/loop_face.hpp>
#include <bight/detail/spin_judge.hpp>
#include <bight/fiber.hpp>
#include <bight/run.hpp>

#include "buffers.hpp"
#include "context.hpp"
#include "describe.hpp"
#include "engine/engine.hpp"
#include "fd_table.hpp"
#include "loop_signals.hpp"
#include "mutex_watch.hpp"
#include "splice_pipes.hpp"
#include "stack_pool.hpp"
#include "sys/cycle_counter.hpp"
#include "timers.hpp"

namespace bight::detail {

class LoopBeat;
class RemoteQueue;
class Watchdog;

/// Fibers that are ready, first in first out. Intrusive.
class RunQueue {
 public:
  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  [[nodiscard]] std::uint64_t pushed() const noexcept { return pushed_; }  // ever
  [[nodiscard]] std::uint64_t popped() const noexcept { return popped_; }
  [[nodiscard]] std::uint64_t progress() noexcept {  // popped(), for other threads
    return std::atomic_ref(popped_).load(std::memory_order_relaxed);
  }
  void push(FiberControl& fiber) noexcept {
    fiber.next = nullptr;
    (last_ != nullptr ? last_->next : first_) = &fiber;
    last_ = &fiber;
    ++pushed_;
  }
  FiberControl* pop() noexcept {
    FiberControl* fiber = first_;
    if (fiber != nullptr) {
      // Nobody else writes it, so this need not be one operation; but the watchdog's thread reads.
      std::atomic_ref(popped_).store(popped_ + 1, std::memory_order_relaxed);
      first_ = fiber->next;
      if (first_ == nullptr) last_ = nullptr;
    }
    return fiber;
  }

 private:
  FiberControl* first_ = nullptr;
  FiberControl* last_ = nullptr;
  std::uint64_t pushed_ = 0;
  std::uint64_t popped_ = 0;
};

/// A fiber that waits for what another process does to memory they share. As long as it waits the loop looks at it
/// between slices; rather than sleep it spins for a while, if that pays, and then has the fiber go and wait for a
/// descriptor.
struct SpinWait : Parking {
  using Over = bool (*)(const SpinWait&) noexcept;
  SpinWait(FiberControl& who, Over test) noexcept : Parking(who, kKind), over(test) {}

  static const ParkingKind kKind;
  Over over;
  SpinWait* next = nullptr;
  bool came = false;  // it is over; otherwise the loop is about to sleep,
  bool spun = false;  // having tried
};

/// One loop: the scheduler of one thread and all it owns. The loop's own turns (timers, I/O, callbacks) run on the
/// thread's stack; a fiber that waits switches straight to the next ready one, and to the loop only when there is none
/// or the slice is used up.
class Loop : public LoopFace {
 public:
  explicit Loop(const RunOptions& options);
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// The calling thread's loop, or null.
  [[nodiscard]] static Loop* current() noexcept {
    return current_loop == &no_loop ? nullptr : static_cast<Loop*>(current_loop);
  }
  /// The calling thread's loop; aborts with a sentence when there is none.
  [[nodiscard]] static Loop& require() noexcept {
    if (current_loop == &no_loop) [[unlikely]]
      refuse_without_loop();
    return static_cast<Loop&>(*current_loop);
  }

  /// Runs `main` and everything it leads to.
  int run(void (*main)(void*), void* argument);

  // Fibers.

  /// The fiber that runs, or null in a callback.
  [[nodiscard]] FiberControl* running() const noexcept { return running_fiber; }
  /// The same; aborts with a sentence outside a fiber.
  [[nodiscard]] FiberControl& require_fiber() const noexcept;
  void add(FiberControl& fiber) noexcept;
  [[nodiscard]] std::size_t alive() const noexcept { return alive_; }
  [[nodiscard]] bool ending() const noexcept { return ending_; }
  void make_ready(FiberControl& fiber) noexcept {
    fiber.status = FiberStatus::ready;
    fiber.parking = nullptr;  // woken: a cancel from now on is found out at the next wait
    ready_.push(fiber);
  }
  /// A mark in the run queue: behind all that are ready now.
  [[nodiscard]] std::uint64_t queue_mark() const noexcept { return ready_.pushed(); }
  /// Whether all that were ready when the mark was made have had their turn.
  [[nodiscard]] bool queue_passed(std::uint64_t mark) const noexcept { return ready_.popped() >= mark; }
  /// Switches away from the running fiber until somebody makes it ready. `parking` is what it waits in.
  void park(Parking& parking) noexcept;
  /// Parks the running fiber in `wait`, see there. Interrupted: it has been cancelled.
  void spin_for(SpinWait& wait) noexcept;
  void leave_spin(SpinWait& wait) noexcept;
  /// Whether to spin for other processes.
  [[nodiscard]] SpinJudge& process_spins() noexcept { return process_spins_; }
  /// Goes to the end of the run queue.
  void pass() noexcept;
  /// Counts an operation that completed at once against the slice, so that a fiber whose data is always there lets
  /// others run. `switches`: how many of them it took the time of.
  void charge(int switches = 1) noexcept {
    slice_left_ -= switches;
    if (slice_left_ <= 0) pass();
  }
  /// Ends the running fiber's local variables.
  void end_locals(FiberControl& fiber) noexcept;
  /// The end of the running fiber.
  [[noreturn]] void finish(FiberControl& fiber) noexcept;
  void destroy(FiberControl& fiber) noexcept;
  void report_unhandled(FiberControl& fiber) noexcept;
  void report_unhandled(const std::exception_ptr& error, std::uint64_t id, std::string_view name) noexcept;

  /// Xorshift64 (Marsaglia, 2003): for choices that are to be fair, not secret. Always the same sequence, so that what
  /// happens in a simulated world can happen again.
  [[nodiscard]] std::uint64_t random() noexcept {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    return random_ ^= random_ << 17;
  }

  // Callbacks, run by the loop outside any fiber.

  /// Those whose time has come.
  [[nodiscard]] DoneCallbacks& callbacks() noexcept { return callbacks_; }
  [[nodiscard]] const std::shared_ptr<RemoteQueue>& remote() const noexcept { return remote_; }

  // Stops.

  /// All fibers, but what they shield.
  void cancel_all() noexcept;
  void request_stop() noexcept;
  [[nodiscard]] bool stop_requested() const noexcept { return stop_requested_; }
  [[nodiscard]] WaitList& stop_waiters() noexcept { return stop_waiters_; }
  [[nodiscard]] LoopSignals& signals() noexcept { return signals_; }

  [[nodiscard]] TimePoint now() const noexcept { return engine_->now(); }
  /// The time at most kRoughness ago.
  [[nodiscard]] TimePoint rough_now() noexcept {
    const bool fresh =
        sys::kHasCycleCounter && sys::cycles() - looked_at_cycles_ < static_cast<std::uint64_t>(kRoughness.count());
    return fresh ? looked_ : look_at_clock();
  }
  static constexpr Duration kRoughness = std::chrono::microseconds(250);
  [[nodiscard]] Timers& timers() noexcept { return timers_; }
  [[nodiscard]] Engine& engine() noexcept { return *engine_; }
  [[nodiscard]] FdTable& descriptors() noexcept { return descriptors_; }
  [[nodiscard]] BufferPool& buffers() noexcept { return buffers_; }
  [[nodiscard]] SplicePipes& splice_pipes() noexcept { return splice_pipes_; }
  [[nodiscard]] StackPool& stacks() noexcept { return stacks_; }
  /// How many coroutines have one of those stacks.
  [[nodiscard]] std::size_t& coroutines() noexcept { return coroutines_; }
  [[nodiscard]] void* exceptions() const noexcept { return exceptions_; }
  [[nodiscard]] bool engine_is_virtual() const noexcept { return virtual_time_; }
  // Both async-signal-safe.
  [[nodiscard]] const FiberControl* owner_of_guard(const void* address) const noexcept {
    return stacks_.owner_of_guard(address);
  }
  [[nodiscard]] const std::byte* stack_top(const FiberControl& fiber) const noexcept { return stacks_.top(fiber); }
  [[nodiscard]] const RunOptions& options() const noexcept { return options_; }
  [[nodiscard]] LoopStats stats() const noexcept;
  [[nodiscard]] LoopStats& counters() noexcept { return counters_; }
  [[nodiscard]] std::string dump_fibers() const;

  // For the watchdog.

  /// What changes whenever a fiber begins or goes on; any thread.
  [[nodiscard]] std::uint64_t progress() noexcept { return ready_.progress(); }
  /// Whether a fiber runs, rather than the loop; any thread.
  [[nodiscard]] bool in_slice() const noexcept { return in_slice_.load(std::memory_order_relaxed); }
  /// Whether the running fiber keeps anybody waiting. Async-signal-safe.
  [[nodiscard]] bool somebody_waits() const noexcept;
  [[nodiscard]] Watchdog*& watchdog() noexcept { return watchdog_; }

  /// Cancels everything, also what drains; run() returns 128 + number.
  void end_by_signal(int number) noexcept;
  /// For a supervisor to see that the loop turns. Must outlive the loop's run.
  void set_beat(LoopBeat* beat) noexcept { beat_ = beat; }

 private:
  TimePoint look_at_clock() noexcept;

  static constexpr int kSliceStep = 32;  // switches between two looks at the clock

  void check_mutexes() const noexcept {
    if constexpr (kWatchMutexes) {
      if (mutexes_held() > mutexes_at_entry_) refuse_held_mutex();
    }
  }

  void turn();
  void beat() noexcept;
  void run_slice() noexcept;
  [[nodiscard]] FiberControl* next_in_slice() noexcept;
  [[nodiscard]] bool extend_slice() noexcept;
  void switch_from(FiberControl& fiber) noexcept;
  [[noreturn]] static void refuse_without_loop() noexcept;
  void look_at_main() noexcept;
  void run_callbacks() noexcept;
  void run_callback(Callback& callback) noexcept;
  void take_signals() noexcept;
  void stop_by_signal(int number) noexcept;
  [[nodiscard]] TimePoint wait_limit();
  [[nodiscard]] bool dead() const noexcept;
  void report_deadlock();
  void poll_engine(TimePoint until) noexcept;
  [[nodiscard]] bool spin_for_wake(TimePoint until) noexcept;
  [[nodiscard]] bool wake_spinners(bool sleeps, TimePoint until) noexcept;
  [[nodiscard]] bool any_spinner_over() const noexcept;

  // What a switch touches, first.
  RunQueue ready_;
  int slice_left_ = 0;
  int slice_steps_ = 0;
  void* exceptions_ = nullptr;
  Context context_;
  StackNotes thread_stack_;
  TimePoint slice_end_{};
  TimePoint looked_{};  // at the clock, and what the cycle counter showed then
  std::uint64_t looked_at_cycles_ = 0;

  const LoopSerial life_;
  const RunOptions options_;
  FdTable descriptors_;
  BufferPool buffers_;
  SplicePipes splice_pipes_;
  std::unique_ptr<Engine> engine_;
  bool virtual_time_;
  Timers timers_;
  StackPool stacks_;
  std::shared_ptr<RemoteQueue> remote_;
  SpinJudge spin_judge_;
  SpinJudge process_spins_;
  SpinWait* spinners_ = nullptr;
  DoneCallbacks callbacks_;
  std::vector<Callback> posted_;        // empty but while they run
  const FiberControl* main_ = nullptr;  // until its end has been seen
  std::uint64_t next_id_ = 1;
  std::uint64_t random_ = 0x9e3779b97f4a7c15;
  std::size_t alive_ = 0;
  std::size_t daemons_ = 0;
  std::size_t coroutines_ = 0;
  bool ending_ = false;  // everything has been cancelled
  bool stop_requested_ = false;
  WaitList stop_waiters_;
  LoopSignals signals_;
  SignalMask stops_seen_ = 0;  // that came as signals
  int ended_by_signal_ = 0;
  std::string deadlock_;
  int mutexes_at_entry_ = 0;  // held by the thread when the loop let fibers run
  std::atomic<bool> in_slice_{false};
  Watchdog* watchdog_ = nullptr;
  LoopBeat* beat_ = nullptr;
  LoopStats counters_;
};

}  // namespace bight::detail
