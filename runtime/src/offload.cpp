// SPDX-License-Identifier: Apache-2.0
#include <bight/offload.hpp>

#include <csignal>
#include <memory>
#include <stdexcept>
#include <thread>

#include <bight/check.hpp>
#include <bight/error.hpp>

#include "fork_guard.hpp"
#include "own_threads.hpp"
#include "spin.hpp"

namespace bight {
namespace {

using detail::CrossNotices;
using detail::CrossWaiter;
using detail::OffloadGroup;
using detail::OffloadJob;

/// Whose job this thread runs, if any.
thread_local constinit const OffloadPool* working_for = nullptr;

/// The default pool, and in a forked child the one of the parent, whose options the child's is to have.
std::atomic<OffloadPool*> shared_pool{nullptr};
std::atomic<OffloadPool*> parents_pool{nullptr};

OffloadOptions checked(OffloadOptions options) {
  if (options.threads_max == 0) throw std::invalid_argument("OffloadOptions::threads_max is 0: no job would ever run");
  if (options.threads_max < options.threads_min) {
    throw std::invalid_argument("OffloadOptions::threads_max is less than threads_min");
  }
  if (options.queue_max == 0) throw std::invalid_argument("OffloadOptions::queue_max is 0: no job could ever be taken");
  return options;
}

/// Makes `fresh` the default pool unless there is one. Null: there is.
OffloadPool* install(std::unique_ptr<OffloadPool> fresh) noexcept {
  [[maybe_unused]] static const int registered = ::pthread_atfork(nullptr, nullptr, [] {
    if (OffloadPool* pool = shared_pool.exchange(nullptr)) parents_pool = pool;
  });
  OffloadPool* none = nullptr;
  return shared_pool.compare_exchange_strong(none, fresh.get()) ? fresh.release() : nullptr;
}

}  // namespace

std::size_t detail::default_offload_threads() noexcept {
  return std::max<std::size_t>(4, std::size_t{4} * std::thread::hardware_concurrency());
}

OffloadPool::OffloadPool(OffloadOptions options)
    : options_(checked(std::move(options))), forks_(detail::forks_so_far()), threads_max_(options_.threads_max) {}

OffloadPool::~OffloadPool() {
  if (forks_ != detail::forks_so_far()) return;
  CrossWaiter last("the threads of an OffloadPool");
  CrossNotices notices;
  Lock lock(mutex_);
  closing_ = true;
  if (threads_ != 0) {
    closer_ = &last;
    while (CrossWaiter* waiter = idle_.pop()) {
      --idle_count_;
      ++coming_;
      notices.add(*waiter);
    }
    lock.unlock();
    notices.send();
    last.wait_certain();
    lock.lock();
  }
  if (any_gone_) ::pthread_join(gone_, nullptr);
}

OffloadPool& OffloadPool::shared() {
  for (;;) {
    if (OffloadPool* pool = shared_pool.load(std::memory_order_acquire)) return *pool;
    const OffloadPool* model = parents_pool.load(std::memory_order_acquire);
    install(std::make_unique<OffloadPool>(model != nullptr ? model->options_ : OffloadOptions{}));
  }
}

void OffloadPool::configure_shared(OffloadOptions options) {
  BIGHT_CHECK(install(std::make_unique<OffloadPool>(std::move(options))) != nullptr,
              "OffloadPool::configure_shared comes too late: the default pool has been used");
}

// --- The callers' side -----------------------------------------------------------------------------------------------

bool OffloadPool::on_own_thread() const noexcept { return working_for == this; }

void OffloadPool::check_process() const noexcept {
  BIGHT_CHECK(forks_ == detail::forks_so_far(),
              "an OffloadPool that was made before a fork is used in the child, where it has no threads: make one "
              "there, or use OffloadPool::shared()");
}

/// Queues the jobs, which are linked by `group_next`, and waits until none is queued or runs.
void OffloadPool::perform(OffloadGroup& group, OffloadJob& first) {
  detail::enter_cross_wait();
  check_process();
  std::size_t missing = 0;
  {
    CrossNotices notices;
    const Lock lock(mutex_);
    BIGHT_CHECK(!closing_, "an OffloadPool is used while it ends");
    for (OffloadJob* job = &first; job != nullptr; job = job->group_next) {
      jobs_.push(*job);
      ++group.open;
    }
    missing = match_demand(notices);
  }
  if (missing != 0) start_threads(missing);
  if (group.waiter.wait() == CrossWaiter::Outcome::cancelled) withdraw(group, first);
}

/// Takes the jobs back that have not begun, and waits for the others.
void OffloadPool::withdraw(OffloadGroup& group, OffloadJob& first) noexcept {
  group.cancelled.store(true, std::memory_order_relaxed);
  {
    const Lock lock(mutex_);
    const bool over = group.open == 0;  // then a notification is under way
    for (OffloadJob* job = &first; job != nullptr && !over; job = job->group_next) {
      if (!job->queued) continue;
      jobs_.remove(*job);
      --group.open;
      ++withdrawn_;
    }
    if (!over && group.open == 0) return;
  }
  group.waiter.wait_certain();
}

void OffloadPool::fail(const OffloadGroup& group) {
  if (group.refused) throw std::system_error(group.refused, "start a thread of an OffloadPool");
  throw Cancelled{};
}

void OffloadPool::set_threads_max(std::size_t threads) {
  if (threads == 0) throw std::invalid_argument("OffloadPool::set_threads_max: with 0 no job would ever run");
  if (threads < options_.threads_min) {
    throw std::invalid_argument("OffloadPool::set_threads_max: less than threads_min");
  }
  check_process();
  std::size_t missing = 0;
  {
    CrossNotices notices;
    const Lock lock(mutex_);
    threads_max_ = threads;
    for (std::size_t surplus = threads_ > threads ? threads_ - threads : 0; surplus > 0 && !idle_.empty(); --surplus) {
      notices.add(*idle_.pop());
      --idle_count_;
      ++coming_;
    }
    missing = match_demand(notices);
  }
  if (missing != 0) start_threads(missing);
}

std::size_t OffloadPool::threads_max() const noexcept {
  const Lock lock(mutex_);
  return threads_max_;
}

bool OffloadPool::has_room() const noexcept { return jobs_.size() < options_.queue_max; }

OffloadOptions OffloadPool::options() const {
  OffloadOptions options = options_;
  options.threads_max = threads_max();
  return options;
}

OffloadStats OffloadPool::stats() const noexcept {
  const Lock lock(mutex_);
  OffloadStats stats;
  stats.threads = threads_;
  stats.threads_idle = idle_count_;
  stats.running = running_;
  stats.queued = std::min(jobs_.size(), options_.queue_max);
  stats.waiting = jobs_.size() - stats.queued;
  stats.completed = completed_;
  stats.withdrawn = withdrawn_;
  stats.threads_started = threads_started_;
  return stats;
}

// --- Threads come and go ---------------------------------------------------------------------------------------------

/// Sees to it that there is a thread on its way for each job in the queue, as far as may be: wakes those that were idle
/// last, whose caches are warm, and returns how many are to be started.
std::size_t OffloadPool::match_demand(CrossNotices& notices) noexcept {
  wake_idle(notices);
  std::size_t missing = 0;
  while (in_demand() && threads_ < threads_max_) {
    ++threads_;
    ++coming_;
    ++missing;
  }
  return missing;
}

bool OffloadPool::in_demand() const noexcept { return jobs_.size() > coming_ + (spinning_ ? 1 : 0); }

void OffloadPool::wake_idle(CrossNotices& notices) noexcept {
  while (in_demand()) {
    CrossWaiter* sleeper = idle_.pop_last();
    if (sleeper == nullptr) return;
    --idle_count_;
    ++coming_;
    notices.add(*sleeper);
  }
}

void OffloadPool::start_threads(std::size_t count) noexcept {
  ::sigset_t all;
  ::sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);  // a thread inherits that
  for (; count > 0; --count) {
    pthread_t thread{};
    const int error = ::pthread_create(
        &thread, nullptr, [](void* pool) { return thread_main(pool); }, this);
    if (error != 0) give_up_thread(error);
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

/// One that was counted could not be started. Those that there are will do; only if there is none the jobs fail.
void OffloadPool::give_up_thread(int error) noexcept {
  CrossNotices notices;
  const Lock lock(mutex_);
  --threads_;
  --coming_;
  if (threads_ != 0) {
    wake_idle(notices);  // a thread that went idle counted on this one
    return;
  }
  while (OffloadJob* job = jobs_.pop()) {
    job->group->refused = std::error_code(error, std::generic_category());
    if (--job->group->open == 0) notices.add(job->group->waiter);
  }
}

void* OffloadPool::thread_main(void* pool) noexcept {
  const detail::OwnThread own;
  auto& self = *static_cast<OffloadPool*>(pool);
  ::pthread_setname_np(::pthread_self(), self.options_.name.substr(0, 15).c_str());
  self.work();
  return nullptr;
}

void OffloadPool::leave(Lock& lock) noexcept {
  --threads_;
  if (!closing_) {
    {
      CrossNotices notices;  // whom it has kept from being woken, when it was counted as coming
      wake_idle(notices);
      lock.unlock();
    }
    ::pthread_detach(::pthread_self());
    return;
  }
  // Each joins the one before, so that all have really ended when the last one has.
  const bool joins = std::exchange(any_gone_, true);
  const pthread_t before = std::exchange(gone_, ::pthread_self());
  CrossWaiter* closer = threads_ == 0 ? closer_ : nullptr;
  lock.unlock();
  if (joins) ::pthread_join(before, nullptr);
  if (closer != nullptr) closer->notify();
}

// --- The threads' side -----------------------------------------------------------------------------------------------

void OffloadPool::work() noexcept {
  OffloadGroup* finished = nullptr;  // to be told
  Lock lock(mutex_);
  ++threads_started_;
  --coming_;
  for (;;) {
    OffloadJob* job = threads_ <= threads_max_ ? jobs_.pop() : nullptr;
    if (job != nullptr || finished != nullptr) {
      // Without a job it will look again at once: or else a caller that comes back with its next job as soon as it is
      // told would have another thread started.
      std::size_t& counted_in = job != nullptr ? running_ : coming_;
      ++counted_in;
      lock.unlock();
      if (finished != nullptr) std::exchange(finished, nullptr)->waiter.notify();
      if (job != nullptr) {
        working_for = this;
        job->run(*job);
        working_for = nullptr;
      }
      lock.lock();
      --counted_in;
      if (job == nullptr) continue;
      ++completed_;
      if (--job->group->open == 0) finished = job->group;
    } else if (!idle(lock)) {
      break;
    }
  }
  leave(lock);
}

/// Waits for a job, perhaps in vain. False: the thread is to leave.
bool OffloadPool::idle(Lock& lock) noexcept {
  if (threads_ > threads_max_) return false;
  if (jobs_.size() != 0) return true;
  if (closing_) return false;
  bool spun = false;
  if (!spinning_ && detail::can_spin() && spin_judge_.worth_it()) {
    spin(lock);
    spun = true;
    if (jobs_.size() != 0 || closing_ || threads_ > threads_max_) return true;
  }
  CrossWaiter waiter("a job", CrossWaiter::AsThread{});
  idle_.push(waiter);
  ++idle_count_;
  const TimePoint start = Clock::now();
  const bool stays = threads_ <= options_.threads_min;
  const TimePoint until = stays ? TimePoint::max() : detail::saturating_add(start, options_.idle_timeout);
  if (detail::settle(waiter, idle_, lock, until) == CrossWaiter::Outcome::notified) {
    lock.lock();
    --coming_;
    if (!spun) spin_judge_.slept(Clock::now() - start);
    return true;
  }
  lock.lock();
  --idle_count_;
  return threads_ <= options_.threads_min || jobs_.size() != 0;
}

/// The next job may be there sooner than this thread could go to sleep and be woken. One thread at a time.
void OffloadPool::spin(Lock& lock) noexcept {
  spinning_ = true;
  lock.unlock();
  const TimePoint start = Clock::now();
  const bool came = detail::spin_until(start + detail::SpinJudge::kBudget, [this] { return jobs_.size() != 0; });
  const Duration time = Clock::now() - start;
  lock.lock();
  spinning_ = false;
  came ? spin_judge_.hit(time) : spin_judge_.miss();
}

// --- The queue -------------------------------------------------------------------------------------------------------

void OffloadPool::JobList::push(OffloadJob& job) noexcept {
  job.next = nullptr;
  job.previous = last_;
  job.queued = true;
  (last_ != nullptr ? last_->next : first_) = &job;
  last_ = &job;
  size_.store(size() + 1, std::memory_order_relaxed);
}

void OffloadPool::JobList::remove(OffloadJob& job) noexcept {
  (job.previous != nullptr ? job.previous->next : first_) = job.next;
  (job.next != nullptr ? job.next->previous : last_) = job.previous;
  job.queued = false;
  size_.store(size() - 1, std::memory_order_relaxed);
}

OffloadJob* OffloadPool::JobList::pop() noexcept {
  OffloadJob* popped = first_;
  if (popped != nullptr) remove(*popped);
  return popped;
}

}  // namespace bight
