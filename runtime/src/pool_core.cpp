// SPDX-License-Identifier: Apache-2.0
#include "pool_core.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <bight/error.hpp>
#include <bight/log.hpp>
#include <bight/shards.hpp>
#include <bight/time.hpp>

#include "describe.hpp"
#include "loop.hpp"

namespace bight::detail {
namespace {

ProcessPoolOptions completed(ProcessPoolOptions options) {
  if (options.workers == 0) options.workers = cpu_count();
  return options;
}

std::string how_it_ended(int status) {
  if (status >= 0) return "ended with status " + std::to_string(status);
  const char* name = ::sigdescr_np(-status);
  return "was killed by signal " + std::to_string(-status) + (name != nullptr ? " (" + std::string(name) + ")" : "");
}

std::exception_ptr closed_error(const char* what) { return std::make_exception_ptr(PoolClosed(what)); }

constexpr const char* kTerminated = "the ProcessPool has been terminated";

}  // namespace

PoolCore::PoolCore(ProcessPoolOptions options)
    : options_(completed(std::move(options))), room_(static_cast<std::ptrdiff_t>(options_.queue_max)) {
  drained_.set();
  start_server();
  fibers_.spawn({.name = "pool server"}, [this] { listen(); }).detach();
  for (std::size_t i = 0; i < options_.workers; ++i) start_worker();
}

PoolCore::~PoolCore() { terminate(); }

// --- The server ------------------------------------------------------------------------------------------------------

void PoolCore::start_server() {
  auto [mine, theirs] = make_connection_pair();
  struct Serve {
    Connection& mine;
    Connection& theirs;
    const ProcessPoolOptions& options;
  } serve{mine, theirs, options_};
  const ProcessBody body{[](void* argument) {
                           auto& self = *static_cast<Serve*>(argument);
                           self.mine.close();
                           return serve_pool(self.theirs, self.options);
                         },
                         &serve, true};
  std::error_code error;
  ProcessOptions how;
  how.name = options_.name + " server";
  how.daemon = true;
  server_ = Process::start_body(std::move(how), body, error);
  if (error) {
    std::string what = "make process pool '" + options_.name + "'";
    if (error == std::errc::operation_not_supported) what += ", in a simulated world, where there are no processes";
    if (error == std::errc::operation_not_permitted) what += ", in a daemon, which may have no children";
    throw_error(error, what);
  }
  control_ = std::move(mine);
}

/// The life of the fiber that listens to the server.
void PoolCore::listen() {
  try {
    while (take_report()) {
    }
  } catch (const Cancelled&) {
    if (terminated_) return;
    broken_ = closed_error("the fiber whose ProcessPool it is has been cancelled");
    fail_all(broken_);
  } catch (...) {
    give_up(describe_error(std::current_exception()));
  }
}

/// False: there are no more.
bool PoolCore::take_report() {
  std::error_code error;
  const std::optional<PoolReport> report = control_.receive<PoolReport>(error);
  if (error == std::errc::operation_canceled) throw Cancelled{};
  if (terminated_) return false;
  if (!report) {
    if (finishing_) return false;
    on_server_lost();
    return broken_ == nullptr;
  }
  const SeatPtr seat = find(report->worker);
  if (seat == nullptr) return true;
  switch (report->kind) {
    case PoolReport::Kind::started:
      seat->pid = report->value;
      ++counts_.workers_started;
      break;
    case PoolReport::Kind::not_started: {
      const std::string why = "fork: " + std::generic_category().message(report->value);
      settle(*seat, "could not be started (" + why + ")", 0);
      replace(false, why);
      break;
    }
    case PoolReport::Kind::ended: on_ended(report->worker, report->value); break;
  }
  return true;
}

/// Its workers have died with it.
void PoolCore::on_server_lost() {
  log(LogLevel::warning, "the server of process pool '" + options_.name + "' is gone; there will be another one");
  std::vector<SeatPtr> lost;
  lost.swap(seats_);
  for (const SeatPtr& each : lost) settle(*each, "was lost with the pool's server", 0);
  counts_.workers_lost += lost.size();
  control_.close();  // nobody is to ask it for a worker any more
  if (++unfit_ >= kUnfitMax) return give_up("its server does not stay alive");
  sleep_for(kBackOff * (1U << unfit_));
  if (finishing_) return;
  server_.kill();  // it has let go of its end, and is to be gone before there is another one
  start_server();
  for (std::size_t i = 0; i < options_.workers; ++i) start_worker();
}

// --- Workers ---------------------------------------------------------------------------------------------------------

void PoolCore::start_worker() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    throw_error({errno, std::generic_category()}, "make a lane to a worker: socketpair");
  Fd mine(ends[0]);
  const Fd theirs(ends[1]);
  const Fd memory = LaneMapping::make();
  const auto seat = std::make_shared<Seat>(next_worker_++, std::move(mine), memory, options_.message_max);
  seats_.push_back(seat);
  fibers_.spawn({.name = "pool worker"}, [this, seat] { attend(*seat); }).detach();
  const PoolOrder order{PoolOrder::Kind::start, seat->id};
  const std::array<int, 2> fds{theirs.get(), memory.get()};
  std::error_code error;
  control_.send_with_fds(std::as_bytes(std::span(&order, 1)), fds, error);
  if (error == std::errc::operation_canceled) throw Cancelled{};
  if (error) lose_server();
  if (!terminated_) feed();
}

/// A worker has ended; `served`: not before it was ready.
void PoolCore::replace(bool served, const std::string& why) {
  unfit_ = served ? 0 : unfit_ + 1;
  if (unfit_ >= kUnfitMax) return give_up(why);
  if (closing_ && pending_ == 0) return;
  fibers_
      .spawn({.name = "pool replacement"},
             [this, pause = unfit_ == 0 ? Duration::zero() : kBackOff * (1U << unfit_)] {
               if (pause > Duration::zero()) sleep_for(pause);
               if (terminated_ || finishing_ || broken_ != nullptr) return;
               if (!control_ || seats_.size() >= options_.workers) return;  // with another server come all of them
               try {
                 start_worker();
               } catch (const std::system_error& error) {
                 replace(false, error.what());
               }
             })
      .detach();
}

void PoolCore::on_ended(std::uint32_t worker, int status) {
  const SeatPtr seat = find(worker);
  const std::string how = how_it_ended(status);
  settle(*seat, how, status < 0 ? -status : 0);
  if (finishing_) return;
  const bool as_expected = status == 0 && seat->ready && options_.tasks_per_child_max != 0;
  if (!as_expected) ++counts_.workers_lost;
  replace(seat->ready, seat->unfit.empty() ? "a worker " + how : "its initializer threw " + seat->unfit);
}

/// What becomes of the tasks of a worker that is gone.
void PoolCore::settle(Seat& seat, const std::string& how, int signal) {
  static_cast<void>(take_results(seat));  // what it has said before
  seat.gone = true;
  seat.lane.close();
  std::erase_if(seats_, [&](const SeatPtr& each) { return each.get() == &seat; });
  std::deque<Seat::Sent> sent;
  sent.swap(seat.sent);
  for (; !sent.empty(); sent.pop_back()) {
    Seat::Sent& last = sent.back();
    // Not only looked at: a worker that dies with the server may have a moment left in which it would begin it.
    if (seat.lane.claim(last.ticket).withdraw()) {
      queue_.push_front(std::move(last.task));
      ++queued_;
    } else {
      const std::string who = "worker " + std::to_string(seat.pid) + " of process pool '" + options_.name + "' ";
      finish(*last.task, std::make_exception_ptr(WorkerLost(who + how + " while it ran the task", seat.pid, signal)));
    }
  }
  feed();
}

PoolCore::SeatPtr PoolCore::find(std::uint32_t worker) const noexcept {
  const auto found = std::find_if(seats_.begin(), seats_.end(), [&](const auto& each) { return each->id == worker; });
  return found != seats_.end() ? *found : nullptr;
}

/// The life of a worker's fiber. How the worker has ended, the server tells.
void PoolCore::attend(Seat& seat) {
  try {
    bool there = true;
    while (there) {
      there = seat.lane.wait(Lane::Want::message);
      if (seat.gone) return;
      if (!take_results(seat)) {
        log(LogLevel::error, "a worker of process pool '" + options_.name + "' wrote nonsense, and is killed");
        return kill(seat);
      }
      go_on_writing(seat);
      feed();
    }
  } catch (const Cancelled&) {                // the pool ends
  } catch (const std::system_error& error) {  // no memory to listen to it with, say
    log(LogLevel::error, "a worker of process pool '" + options_.name + "' is killed: " + error.what());
    kill(seat);
  } catch (...) {
    give_up(describe_error(std::current_exception()));
  }
}

void PoolCore::kill(const Seat& seat) {
  std::error_code error;
  control_.send(PoolOrder{PoolOrder::Kind::kill, seat.id}, error);
  if (error) lose_server();
}

/// It can not be told what to do, or is gone already: then whoever listens to it finds out.
void PoolCore::lose_server() noexcept {
  if (control_) ::shutdown(control_.fd(), SHUT_RDWR);
}

// --- Tasks -----------------------------------------------------------------------------------------------------------

void PoolCore::check_open() const {
  if (terminated_) throw PoolClosed(kTerminated);
  if (closing_) throw PoolClosed("the ProcessPool has been closed");
  if (broken_ != nullptr) std::rethrow_exception(broken_);
}

void PoolCore::submit(std::shared_ptr<PoolTask> task) {
  check_open();
  if (task->payload.size() > options_.message_max) {
    throw std::system_error(
        std::make_error_code(std::errc::message_size),
        "give process pool '" + options_.name + "' a task of " + std::to_string(task->payload.size()) + " bytes");
  }
  if (!room_.try_acquire()) {
    if (!this_fiber::exists()) {
      throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again),
                              "give process pool '" + options_.name + "' a task in a callback: queue_max are waiting");
    }
    room_.acquire();
    try {
      check_open();
    } catch (...) {
      room_.release();
      throw;
    }
  }
  task->holds_room = true;
  queue_.push_back(std::move(task));
  ++queued_;
  ++pending_;
  drained_.clear();
  feed();
}

/// It need not be done, if it has not begun.
void PoolCore::withdraw(PoolTask& task) noexcept {
  if (task.over) return;
  for (const SeatPtr& seat : seats_) {
    const auto sent = std::find_if(seat->sent.begin(), seat->sent.end(),
                                   [&](const Seat::Sent& each) { return each.task.get() == &task; });
    if (sent == seat->sent.end()) continue;
    if (!seat->lane.claim(sent->ticket).withdraw()) return;
    seat->sent.erase(sent);
    --seat->given;
    end(task);
    // Of those that are left, a result will come, and with it their turn for those that wait.
    if (seat->sent.empty()) feed();
    return;
  }
  --queued_;  // it stays in the queue until its turn comes
  if (std::exchange(task.holds_room, false)) room_.release();
  end(task);
}

bool PoolCore::take_results(Seat& seat) {
  for (;;) {
    Lane::Message message;
    switch (seat.lane.receive(message)) {
      case Lane::Got::nothing: return true;
      case Lane::Got::nonsense: return false;
      case Lane::Got::message:
        if (!on_message(seat, message)) return false;
        break;
    }
  }
}

/// False: it was nonsense.
bool PoolCore::on_message(Seat& seat, const Lane::Message& message) {
  if (message.kind == LaneKind::kReady) {
    seat.ready = true;
    unfit_ = 0;
    return true;
  }
  if (message.kind == LaneKind::kUnfit) {
    try {
      const auto failure = decode<RemoteFailure>(message.bytes);
      seat.unfit = failure.type + ": " + failure.what;
    } catch (const DecodeError&) {
      return false;
    }
    return true;
  }
  const auto sent = std::find_if(seat.sent.begin(), seat.sent.end(),
                                 [&](const Seat::Sent& each) { return each.ticket == message.ticket; });
  if (sent == seat.sent.end()) return false;
  const std::shared_ptr<PoolTask> task = std::move(sent->task);
  seat.sent.erase(sent);
  ++counts_.completed;
  // A lane that it was taken back from may be in the middle of it.
  const bool being_sent =
      std::any_of(seats_.begin(), seats_.end(), [&](const auto& of) { return of->partial == task; });
  if (!being_sent) std::vector<std::byte>().swap(task->payload);
  try {
    if (message.kind == LaneKind::kError) {
      finish(*task, as_error(decode<RemoteFailure>(message.bytes)));
    } else {
      task->succeed(message.bytes);
      end(*task);
    }
  } catch (...) {
    finish(*task, std::current_exception());
  }
  return true;
}

bool PoolCore::has_room(const Seat& seat) const noexcept {
  return seat.partial == nullptr && seat.sent.size() < kAhead &&
         (options_.tasks_per_child_max == 0 || seat.given < options_.tasks_per_child_max) &&
         (seat.sent.empty() || seat.next_ticket - seat.sent.front().ticket < LaneMemory::kTasks);
}

PoolWorkerSeat* PoolCore::freest() noexcept {
  Seat* best = nullptr;
  const auto load = [](const Seat& seat) { return 2 * seat.sent.size() + (seat.ready ? 0 : 1); };
  for (const SeatPtr& each : seats_) {
    if (has_room(*each) && (best == nullptr || load(*each) < load(*best))) best = each.get();
  }
  return best;
}

/// Sends workers what they have room for. Does not wait.
void PoolCore::feed() {
  while (queued_ > 0) {
    Seat* const seat = freest();
    if (seat == nullptr) break;
    const std::shared_ptr<PoolTask> task = std::move(queue_.front());
    queue_.pop_front();
    if (task->over) continue;
    --queued_;
    if (std::exchange(task->holds_room, false)) room_.release();
    offer(*seat, task);
  }
  if (queued_ == 0) {
    queue_.clear();
    steal_for_idle();
  }
  for (const SeatPtr& each : seats_) each->lane.publish();
}

void PoolCore::offer(Seat& seat, std::shared_ptr<PoolTask> task) {
  const std::uint64_t ticket = seat.next_ticket++;
  seat.sent.push_back({ticket, task});
  ++seat.given;
  seat.lane.claim(ticket).offer();
  seat.sending = {LaneKind::kTask, ticket, task->payload};
  seat.partial = std::move(task);
  go_on_writing(seat);
}

void PoolCore::go_on_writing(Seat& seat) noexcept {
  if (seat.partial == nullptr) return;
  if (!seat.lane.write(seat.sending)) {
    seat.lane.want_room(true);
    if (!seat.lane.write(seat.sending)) return;
  }
  seat.lane.want_room(false);
  seat.partial.reset();
}

/// A worker that has nothing to do gets of what others have before them: these may be at something long.
void PoolCore::steal_for_idle() {
  for (const SeatPtr& idle : seats_) {
    if (!idle->ready || !idle->sent.empty() || !has_room(*idle)) continue;
    Seat* busiest = nullptr;
    for (const SeatPtr& each : seats_) {
      if (busiest == nullptr || each->sent.size() > busiest->sent.size()) busiest = each.get();
    }
    const std::size_t count = busiest->ready ? busiest->sent.size() / 2 : busiest->sent.size();
    std::deque<std::shared_ptr<PoolTask>> taken;
    while (taken.size() < count && busiest->lane.claim(busiest->sent.back().ticket).withdraw()) {
      taken.push_front(std::move(busiest->sent.back().task));
      busiest->sent.pop_back();
      --busiest->given;
    }
    while (!taken.empty() && has_room(*idle)) {
      offer(*idle, std::move(taken.front()));
      taken.pop_front();
    }
    for (; !taken.empty(); taken.pop_back()) {
      queue_.push_front(std::move(taken.back()));
      ++queued_;
    }
  }
}

// --- Ends ------------------------------------------------------------------------------------------------------------

void PoolCore::end(PoolTask& task) noexcept {
  task.over = true;
  if (--pending_ == 0) drained_.set();
}

void PoolCore::finish(PoolTask& task, const std::exception_ptr& error) noexcept {
  if (task.over) return;
  try {
    task.fail(error);
  } catch (...) {
    log_warning("the error of a task of a process pool could not be delivered");
  }
  end(task);
}

void PoolCore::fail_all(const std::exception_ptr& error) noexcept {
  std::deque<std::shared_ptr<PoolTask>> all;
  all.swap(queue_);
  queued_ = 0;
  for (const auto& each : all) {
    if (std::exchange(each->holds_room, false)) room_.release();
    finish(*each, error);
  }
  for (const SeatPtr& seat : seats_) {
    std::deque<Seat::Sent> sent;
    sent.swap(seat->sent);
    for (const Seat::Sent& each : sent) finish(*each.task, error);
  }
}

void PoolCore::give_up(const std::string& why) {
  if (broken_ != nullptr || terminated_) return;
  const std::string what = "process pool '" + options_.name + "' gives up, for its workers do not live: " + why;
  log(LogLevel::error, what);
  broken_ = std::make_exception_ptr(WorkerLost(what, 0, 0));
  fail_all(broken_);
}

void PoolCore::close() noexcept { closing_ = true; }

void PoolCore::terminate() noexcept {
  if (std::exchange(terminated_, true)) return;
  fail_all(closed_error(kTerminated));
  for (const SeatPtr& each : seats_) {
    each->gone = true;
    each->lane.close();
  }
  // Not only closed: other children of this process may have copies of it.
  lose_server();
  control_.close();
  fibers_.cancel_all();
}

void PoolCore::join() {
  if (!closing_ && !terminated_) {
    throw std::system_error(std::make_error_code(std::errc::operation_not_permitted),
                            "join process pool '" + options_.name + "', which is neither closed nor terminated");
  }
  while (pending_ != 0) drained_.wait();
  if (!terminated_ && !finishing_) {
    std::error_code error;
    control_.send(PoolOrder{PoolOrder::Kind::finish, 0}, error);
    if (error == std::errc::operation_canceled) throw Cancelled{};  // and can be called again
    finishing_ = true;
    if (error) lose_server();
    for (const SeatPtr& each : seats_) each->lane.close();
  }
  server_.join();
}

ProcessPoolStats PoolCore::stats() const noexcept {
  ProcessPoolStats stats = counts_;
  stats.workers = seats_.size();
  stats.queued = queued_;
  for (const SeatPtr& each : seats_) stats.sent += each->sent.size();
  return stats;
}

std::vector<pid_t> PoolCore::worker_pids() const {
  std::vector<pid_t> pids;
  for (const SeatPtr& each : seats_) {
    if (each->pid != 0) pids.push_back(each->pid);
  }
  return pids;
}

}  // namespace bight::detail

namespace bight {

ProcessPool::ProcessPool(ProcessPoolOptions options) : core_(std::make_unique<detail::PoolCore>(std::move(options))) {}
ProcessPool::~ProcessPool() = default;

void ProcessPool::submit(std::shared_ptr<detail::PoolTask> task) { core_->submit(std::move(task)); }
void ProcessPool::withdraw(detail::PoolTask& task) noexcept { core_->withdraw(task); }
void ProcessPool::close() noexcept { core_->close(); }
void ProcessPool::terminate() noexcept { core_->terminate(); }
void ProcessPool::join() { core_->join(); }
std::size_t ProcessPool::workers() const noexcept { return core_->options().workers; }
ProcessPoolStats ProcessPool::stats() const noexcept { return core_->stats(); }
std::vector<pid_t> ProcessPool::worker_pids() const { return core_->worker_pids(); }

}  // namespace bight
