// SPDX-License-Identifier: Apache-2.0
#include "loop.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <string>
#include <utility>

#include <bight/check.hpp>
#include <bight/detail/fiber_owner.hpp>
#include <bight/error.hpp>
#include <bight/log.hpp>

#include "fork_guard.hpp"
#include "forked_child.hpp"
#include "overflow.hpp"
#include "remote_queue.hpp"
#include "shards/loop_beat.hpp"
#include "spin.hpp"
#include "watchdog.hpp"

namespace bight::detail {

Loop::Loop(const RunOptions& options)
    : exceptions_(exception_state()),
      options_(options),
      buffers_(options.receive_buffers),
      splice_pipes_(options.splice_pipes),
      engine_(make_engine({descriptors_, buffers_, options_})),
      virtual_time_(engine_->virtual_time()),
      timers_(engine_->now()),
      stacks_(options.stacks_kept),
      remote_(std::make_shared<RemoteQueue>(*engine_, options_.posts_max)),
      signals_(*engine_) {
  BIGHT_CHECK(current() == nullptr, "this thread runs a loop already: run() does not nest");
  loops_to_forget().add(*this);
  serial = life_.get();
  current_loop = this;
  context_.notes = &thread_stack_;
  forget_loop_in_forked_children([] {
    current_loop = &no_loop;
    Watchdog::forget_in_forked_child();
  });
}

Loop::~Loop() {
  loops_to_forget().remove(*this);
  remote_->close();
  stacks_.for_each_owner([](const FiberControl&) {
    BIGHT_CHECK(false, "a Fiber handle outlives its loop: the fiber's outcome is on a stack that goes with the loop");
  });
  BIGHT_CHECK(coroutines_ == 0, "a Coroutine or Generator outlives its loop: its stack goes with the loop");
  // In a simulated world, what is left open is for testing::Sim::leaks() to tell.
  BIGHT_CHECK(virtual_time_ || descriptors_.owned_count() == 0,
              "a Socket (or stream, or listener) outlives its loop: it must not outlive run()");
  BIGHT_CHECK(buffers_.lent() == 0, "a Chunk outlives its loop, whose memory it refers to");
  current_loop = &no_loop;
}

void Loop::refuse_without_loop() noexcept {
  check_failed(__FILE__, __LINE__, "Loop::current() != nullptr",
               "there is no loop on this thread: call this inside run(), on its thread (and never in a child forked "
               "from inside it)");
}

FiberControl& Loop::require_fiber() const noexcept {
  BIGHT_CHECK(running_fiber != nullptr, "only a fiber can wait: callbacks (post, on_done) may spawn one");
  return *running_fiber;
}

// --- The fibers' side ------------------------------------------------------------------------------------------------

void Loop::add(FiberControl& fiber) noexcept {
  fiber.loop = this;
  fiber.id = next_id_++;
  stacks_.set_owner(fiber.stack_class, fiber.stack_index, &fiber);
  ++alive_;
  if (fiber.daemon) ++daemons_;
  ++counters_.fibers_spawned;
  make_ready(fiber);
}

void Loop::park(Parking& parking) noexcept {
  check_mutexes();
  FiberControl& self = *running_fiber;
  self.status = FiberStatus::parked;
  self.parking = &parking;
  switch_from(self);
}

void Loop::pass() noexcept {
  check_mutexes();
  FiberControl& self = *running_fiber;
  if (ready_.empty() && slice_left_ > 0) {
    --slice_left_;
    return;
  }
  make_ready(self);
  switch_from(self);
}

void Loop::switch_from(FiberControl& fiber) noexcept {
  FiberControl* next = next_in_slice();
  running_fiber = next;
  if (next == nullptr) {
    switch_context(fiber.context, context_, exceptions_);
    return;
  }
  next->status = FiberStatus::running;
  if (next != &fiber) switch_context(fiber.context, next->context, exceptions_);
}

FiberControl* Loop::next_in_slice() noexcept {
  if (--slice_left_ <= 0 && !extend_slice()) return nullptr;
  return ready_.pop();
}

TimePoint Loop::look_at_clock() noexcept {
  // In this order: the counter may then only be behind the time it stands for, which makes the time look older than it
  // is.
  looked_at_cycles_ = virtual_time_ ? 0 : sys::cycles();
  looked_ = engine_->now();
  return looked_;
}

/// The count has run out of its present step: grants another one unless the slice has used up its switches or its time.
bool Loop::extend_slice() noexcept {
  if (--slice_steps_ <= 0) return false;
  if (!virtual_time_ && look_at_clock() >= slice_end_) return false;
  slice_left_ = kSliceStep;
  return true;
}

void Loop::finish(FiberControl& fiber) noexcept {
  check_mutexes();
  if (fiber.owner != nullptr) fiber.owner->dismiss(fiber);
  fiber.joiners.wake_all();
  callbacks_.take(fiber.done_callbacks);
  --alive_;
  if (fiber.daemon) --daemons_;
  Context& gone = fiber.context;
  if (--fiber.references == 0) destroy(fiber);

  // The stack may belong to the pool again, but nobody can take it before the switch below is done.
  FiberControl* next = next_in_slice();
  running_fiber = next;
  if (next == nullptr) leave_context(gone, context_, exceptions_);
  next->status = FiberStatus::running;
  leave_context(gone, next->context, exceptions_);
}

void Loop::destroy(FiberControl& fiber) noexcept {
  if (fiber.error != nullptr && !fiber.observed) report_unhandled(fiber);
  const std::uint32_t size_class = fiber.stack_class;
  const std::uint32_t index = fiber.stack_index;
  const std::string* name = fiber.own_name;
  fiber.destroy(fiber);
  delete name;  // not before: what the result's destructor prints may have it in it
  stacks_.give_back(size_class, index);
}

// --- The loop's side -------------------------------------------------------------------------------------------------

int Loop::run(void (*main)(void*), void* argument) {
  OverflowReports overflow_reports(*this);
  StopSignals stop_signals(signals_, options_.stop_on_signals && !virtual_time_);
  Watchdog watchdog(*this, virtual_time_ ? Duration::zero() : watchdog_limit(options_));
  {
    SpawnOptions how;
    how.name = "main";
    how.stack_size = options_.main_stack_size;
    Fiber<void> first = bight::spawn(how, main, argument);
    stacks_.for_each_owner([this](const FiberControl& only) { main_ = &only; });
    do {
      while (alive_ > 0) turn();
      run_callbacks();
    } while (alive_ > 0 || !callbacks_.empty() || !remote_->close_if_empty());
    // Whatever main made of its cancellation: this is what there is to know.
    if (!deadlock_.empty()) throw Deadlock(deadlock_);
    try {
      first.get();
    } catch (const FiberCancelled&) {
      if (ended_by_signal_ == 0) throw;
    }
  }
  return ended_by_signal_ == 0 ? 0 : 128 + ended_by_signal_;
}

void Loop::beat() noexcept {
  beat_->turn();
  if (beat_->stats_due(rough_now())) beat_->publish(stats());
}

void Loop::turn() {
  if (beat_ != nullptr) beat();
  run_slice();
  look_at_main();
  run_callbacks();
  if (alive_ == 0) return;
  if (alive_ == daemons_ && !ending_) cancel_all();
  poll_engine(wait_limit());
  if (timers_.armed() != 0) counters_.timers_fired += timers_.expire(engine_->now());
  stacks_.trim();
}

/// An error in main, or its cancellation, is the end of all.
void Loop::look_at_main() noexcept {
  if (main_ == nullptr || !main_->finished()) return;
  if (std::exchange(main_, nullptr)->status != FiberStatus::done) cancel_all();
}

void Loop::run_slice() noexcept {
  FiberControl* next = ready_.pop();
  if (next == nullptr) return;
  slice_left_ = std::clamp(static_cast<int>(options_.slice_switches), 1, kSliceStep);
  slice_steps_ = std::max(1, static_cast<int>(options_.slice_switches) / kSliceStep);
  if (!virtual_time_) slice_end_ = look_at_clock() + options_.slice_time;
  running_fiber = next;
  next->status = FiberStatus::running;
  if constexpr (kWatchMutexes) mutexes_at_entry_ = mutexes_held();
  in_slice_.store(true, std::memory_order_relaxed);
  switch_context(context_, next->context, exceptions_);
  in_slice_.store(false, std::memory_order_relaxed);
}

TimePoint Loop::wait_limit() {
  if (!ready_.empty() || !callbacks_.empty() || remote_->pending()) return TimePoint::min();
  if (dead()) {
    report_deadlock();
    return TimePoint::min();
  }
  return timers_.next();
}

bool Loop::dead() const noexcept {
  // In this order: a thread may post and then drop the last Remote.
  return timers_.armed() == 0 && spinners_ == nullptr && !engine_->may_finish() && !remote_->has_users() &&
         !remote_->pending() && (stop_waiters_.empty() || !options_.stop_on_signals || virtual_time_) &&
         !signals_.awaited() && !signals_.pending();
}

void Loop::report_deadlock() {
  if (!deadlock_.empty()) log(LogLevel::error, deadlock_);
  BIGHT_CHECK(deadlock_.empty(),
              "fibers went on waiting (shielded?), for what can not come, after they were cancelled");
  deadlock_ = "deadlock: nothing can wake any of " + std::to_string(alive_) + " parked fibers\n" + dump_fibers();
  cancel_all();
}

void Loop::poll_engine(TimePoint until) noexcept {
  bool sleeps = until != TimePoint::min();
  bool timed = false;  // the sleep, for the judge
  if (spinners_ != nullptr && wake_spinners(sleeps, until)) {
    until = TimePoint::min();
    sleeps = false;
  }
  if (sleeps && remote_->expects_wakes() && !virtual_time_ && can_spin()) {
    timed = !spin_judge_.worth_it();
    if (!timed && spin_for_wake(until)) {
      until = TimePoint::min();
      sleeps = false;
    }
  }
  if (sleeps) {
    if (!remote_->begin_sleep()) until = TimePoint::min();
    ++counters_.sleeps;
  } else if (!engine_->has_work()) {
    take_signals();
    return;
  }
  ++counters_.turns;
  if (beat_ != nullptr && sleeps) beat_->rest();
  OpList finished;
  const TimePoint start = timed ? engine_->now() : TimePoint{};
  engine_->wait(until, finished);
  if (sleeps) remote_->end_sleep();
  if (timed && remote_->pending()) spin_judge_.slept(engine_->now() - start);
  take_signals();
  while (Op* op = finished.pop()) {
    --counters_.operations_in_flight;
    op->state = Op::State::done;
    op->done(*op);
  }
}

/// A fiber waits for another thread, which may be about to answer. Whether something came. Meanwhile nobody looks at
/// I/O, so this is short, and the engine is asked afterwards in any case.
bool Loop::spin_for_wake(TimePoint until) noexcept {
  const TimePoint start = engine_->now();
  const TimePoint limit = std::min(until, start + SpinJudge::kBudget);
  const bool came = spin_until(limit, [this] { return remote_->pending() || signals_.pending(); });
  came ? spin_judge_.hit(engine_->now() - start) : spin_judge_.miss();
  return came;
}

// --- Waits for other processes ---------------------------------------------------------------------------------------

const ParkingKind SpinWait::kKind{
    [](Parking& parking) noexcept { parking.fiber->loop->leave_spin(static_cast<SpinWait&>(parking)); },
    [](const Parking&, std::string& text) { text += "another process"; }};

void Loop::spin_for(SpinWait& wait) noexcept {
  wait.next = std::exchange(spinners_, &wait);
  park(wait);
}

void Loop::leave_spin(SpinWait& wait) noexcept {
  SpinWait** at = &spinners_;
  while (*at != &wait) at = &(*at)->next;
  *at = wait.next;
  make_ready(*wait.fiber);
}

bool Loop::any_spinner_over() const noexcept {
  for (const SpinWait* each = spinners_; each != nullptr; each = each->next) {
    if (each->over(*each)) return true;
  }
  return false;
}

/// Makes those ready whose wait is over; if there is none and the loop is about to sleep, all. Whether any was.
bool Loop::wake_spinners(bool sleeps, TimePoint until) noexcept {
  bool spun = false;
  if (sleeps && !any_spinner_over() && !remote_->pending() && can_spin() && process_spins_.worth_it()) {
    spun = true;
    const TimePoint start = engine_->now();
    const bool over = spin_until(std::min(until, start + SpinJudge::kBudget),
                                 [this] { return any_spinner_over() || remote_->pending() || signals_.pending(); });
    over ? process_spins_.hit(engine_->now() - start) : process_spins_.miss();
  }
  const bool all = sleeps && !any_spinner_over();
  bool any = false;
  for (SpinWait* each = spinners_; each != nullptr;) {
    SpinWait& wait = *std::exchange(each, each->next);
    wait.came = wait.over(wait);
    wait.spun = spun;
    if (!wait.came && !all) continue;
    leave_spin(wait);
    any = true;
  }
  return any;
}

void Loop::run_callbacks() noexcept {
  DoneCallbacks due;  // those that they add have their turn later
  due.take(callbacks_);
  while (!due.empty()) {
    const std::unique_ptr<DoneCallback> each(due.pop());
    run_callback(each->callback);
  }
  if (!remote_->pending()) return;
  RemoteWake* wakes = remote_->take(posted_);
  counters_.posts += posted_.size();
  for (Callback& each : posted_) run_callback(each);
  posted_.clear();
  while (wakes != nullptr) {
    RemoteWake& each = *std::exchange(wakes, wakes->next_wake);
    each.deliver(each);
  }
}

void Loop::run_callback(Callback& callback) noexcept {
  try {
    callback();
  } catch (const Cancelled&) {  // nobody to tell
  } catch (...) {
    report_unhandled(std::current_exception(), 0, "a callback");
  }
}

void Loop::cancel_all() noexcept {
  ending_ = true;
  // Those of a Scope are reached through the fiber that has it, unless that one shields them.
  stacks_.for_each_owner([](FiberControl& fiber) {
    if (!fiber.finished() && fiber.owner == nullptr) fiber.root.cancel();
  });
}

// --- Stops
// ----------

void Loop::request_stop() noexcept {
  stop_requested_ = true;
  stop_waiters_.wake_all();
}

void Loop::take_signals() noexcept {
  if (!signals_.pending()) return;
  signals_.dispatch();
  while (const int number = signals_.take_stop()) stop_by_signal(number);
}

void Loop::stop_by_signal(int number) noexcept {
  const SignalMask before = std::exchange(stops_seen_, stops_seen_ | signal_bit(number));
  // Ctrl-C reaches a shard twice, as SIGINT from the terminal and as SIGTERM from its supervisor. That is one wish.
  // Nor does the first one hurry a stop that the program itself has asked for.
  if (stop_requested_ && (before & signal_bit(number)) == 0) return;
  if (!stop_requested_ && !stop_waiters_.empty()) {
    request_stop();
    return;
  }
  end_by_signal(number);
}

void Loop::end_by_signal(int number) noexcept {
  ended_by_signal_ = number;
  stop_requested_ = true;
  cancel_all();
}

// --- Reports
// ----------

bool Loop::somebody_waits() const noexcept {
  // Any operation counts: whether it could be finished, only a look at the engine tells, and that is what does not
  // happen. Timers may be read at any moment: what they are made of lives until it has been unlinked.
  return !ready_.empty() || counters_.operations_in_flight != 0 || remote_->pending() || !callbacks_.empty() ||
         timers_.next() <= Clock::now();
}

LoopStats Loop::stats() const noexcept {
  LoopStats stats = counters_;
  stats.fibers_alive = alive_;
  stats.fibers_ready = ready_.pushed() - ready_.popped();
  stats.switches = ready_.popped();
  stats.timers_armed = timers_.armed();
  stats.descriptors_open = descriptors_.open_count();
  stats.stacks_reserved = stacks_.reserved();
  stats.stacks_cached = stacks_.cached();
  stats.receive_buffers_lent = buffers_.lent();
  engine_->add_stats(stats);
  return stats;
}

std::string Loop::dump_fibers() const {
  std::vector<const FiberControl*> fibers;
  stacks_.for_each_owner([&](const FiberControl& fiber) {
    if (!fiber.finished()) fibers.push_back(&fiber);
  });
  std::sort(fibers.begin(), fibers.end(), [](const auto* a, const auto* b) { return a->id < b->id; });
  std::string text;
  for (const FiberControl* fiber : fibers) describe_fiber(*fiber, text);
  return text;
}

}  // namespace bight::detail
