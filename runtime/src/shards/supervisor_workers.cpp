// SPDX-License-Identifier: Apache-2.0
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <string>
#include <system_error>
#include <utility>

#include <bight/log.hpp>

#include "describe.hpp"
#include "shards/death.hpp"
#include "shards/handover.hpp"
#include "shards/supervisor.hpp"
#include "shards/worker_process.hpp"

namespace bight::detail {
namespace {

std::string name_of(const Seat& seat) { return "shard " + std::to_string(seat.index); }

std::string in_milliseconds(Duration time) {
  return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(time).count()) + " ms";
}

std::string in_seconds(Duration time) {
  if (time < std::chrono::seconds(1)) return in_milliseconds(time);
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(time).count()) + " s";
}

/// How a worker ends that was told to: well, or as run() does when it is cancelled by a signal.
bool ends_in_order(int status) noexcept {
  if (!WIFEXITED(status)) return false;
  const int code = WEXITSTATUS(status);
  return code == 0 || code == 128 + SIGTERM || code == 128 + SIGINT || code == 128 + SIGQUIT;
}

}  // namespace

// --- Starting --------------------------------------------------------------------------------------------------------

Worker Supervisor::start(Seat& seat) {
  if (options_.before_fork) options_.before_fork(seat.index);
  Worker worker;
  worker.slot = table_.take();
  const std::string what = "start " + name_of(seat) + ": ";
  if (worker.slot == nullptr)
    throw std::system_error(EAGAIN, std::generic_category(), what + "too many workers are still leaving");
  worker.slot->state.store(WorkerState::starting, std::memory_order_relaxed);
  worker.started = now();
  const std::uint64_t limit = requests_limit();
  const std::size_t count = open_seats();
  const pid_t parent = ::getpid();
  std::fflush(nullptr);  // what waits in stdio's buffers would be printed by the shard, too
  worker.pid = ::fork();
  if (worker.pid < 0) {
    const int error = errno;
    table_.give_back(*worker.slot);
    throw std::system_error(error, std::generic_category(), what + "fork");
  }
  if (worker.pid == 0) {
    close_in_worker();
    work({options_, main_, signals_, table_, *worker.slot, seat.index, count, limit, parent});
  }
  seat.restart = TimePoint::max();
  return worker;
}

std::uint64_t Supervisor::requests_limit() noexcept {
  if (options_.requests_max == 0) return 0;
  random_ ^= random_ << 13;
  random_ ^= random_ >> 7;
  random_ ^= random_ << 17;
  const std::uint64_t jitter = options_.requests_jitter == 0 ? 0 : random_ % (options_.requests_jitter + 1);
  return options_.requests_max + jitter;
}

void Supervisor::close_in_worker() noexcept {
  signals_.close();
  pid_file_.forget();
  status_socket_.forget();
  notify_.close();
  upgrade_.close();
  predecessor().ready.reset();
}

void Supervisor::restart_due(TimePoint time) {
  // A worker that can not be started may be the end; then no other is, for it would not be told to stop.
  for (Seat& seat : seats_) {
    if (life_ != Life::running) return;
    if (seat.closed || seat.worker || seat.restart > time) continue;
    try {
      seat.worker = start(seat);
      ++restarts_;
    } catch (...) {
      on_crash(seat, describe_error(std::current_exception()), false, Duration::zero());
    }
  }
}

// --- News of the living ----------------------------------------------------------------------------------------------

void Supervisor::hear_workers() {
  for (Seat& seat : seats_) {
    if (seat.worker) look_at(seat, *seat.worker);
    if (!seat.successor) continue;
    look_at(seat, *seat.successor);
    if (seat.successor->ready && life_ == Life::running) take_over(seat);
  }
}

void Supervisor::look_at(Seat& seat, Worker& worker) {
  const bool may_have_successor =
      life_ == Life::running && !seat.closed && !seat.renew && !seat.successor && now() >= seat.renewal_after;
  if (may_have_successor && worker.sent == 0 && worker.slot->wants_successor.load(std::memory_order_relaxed)) {
    log(LogLevel::info, name_of(seat) + " has served " + std::to_string(worker.slot->counters.requests.load()) +
                            " requests; it is replaced");
    seat.renew = true;
  }
  if (worker.ready || !worker.slot->ready.load()) return;
  worker.ready = true;
  seat.boots_failed = 0;
  if (worker.sent == 0) worker.slot->state.store(WorkerState::ready, std::memory_order_relaxed);
}

void Supervisor::look_for_hang(Seat& seat, Worker& worker, TimePoint time) {
  if (options_.hang_timeout <= Duration::zero()) return;
  if (!worker.hang.look(worker.slot->beat.load(std::memory_order_relaxed), time, options_.hang_timeout)) return;
  if (worker.sent == SIGABRT || worker.sent == SIGKILL) return;
  if (is_stopped_or_traced(worker.pid)) {
    worker.hang.start_over();
    return;
  }
  worker.verdict = "hung for " + in_seconds(options_.hang_timeout) + " and was aborted";
  log(LogLevel::error, name_of(seat) + " (pid " + std::to_string(worker.pid) + ") hangs: its loop has not turned for " +
                           in_seconds(options_.hang_timeout) + "; it is aborted");
  end(worker, SIGABRT, options_.abort_grace);
}

void Supervisor::check_deadlines(Worker& worker, const Seat& seat, TimePoint time) {
  if (time >= worker.kill_at) {
    log_warning(name_of(seat) + " (pid " + std::to_string(worker.pid) + ") did not end within " +
                (worker.sent == SIGTERM ? "its drain time" : "the grace it had") + " and is killed");
    if (worker.verdict.empty()) worker.verdict = "did not end in time and was killed";
    if (life_ != Life::running) failed_ = true;
    static_cast<void>(signal(worker, SIGKILL));
    worker.kill_at = TimePoint::max();
  }
  if (worker.ready || worker.told_late || time < saturating_add(worker.started, options_.ready_timeout)) return;
  worker.told_late = true;
  if (worker.sent != 0) return;
  const std::string late = name_of(seat) + " is not ready after " + in_seconds(options_.ready_timeout);
  if (worker.slot->beat.load(std::memory_order_relaxed) == 0) {
    log(LogLevel::error, late + ", it has not even a loop; it is aborted");
    worker.verdict = "had no loop after " + in_seconds(options_.ready_timeout) + " and was aborted";
    end(worker, SIGABRT, options_.abort_grace);
  } else if (seat.successor && &*seat.successor == &worker) {
    abandon_successor(seats_[seat.index]);
  } else {
    log_warning(late + "; if its main neither serves nor waits for a stop, it is to call Shard::ready()");
  }
}

/// The process may have ended; then the signal does nothing, for it has not been waited for yet.
bool Supervisor::signal(Worker& worker, int number) noexcept {
  worker.sent = number;
  return ::kill(worker.pid, number) == 0;
}

void Supervisor::end(Worker& worker, int number, Duration grace) noexcept {
  static_cast<void>(signal(worker, number));
  worker.kill_at = std::min(worker.kill_at, saturating_add(now(), grace));
  worker.slot->state.store(WorkerState::leaving, std::memory_order_relaxed);
}

// --- Ends ------------------------------------------------------------------------------------------------------------

namespace {

struct EndedWorker {
  enum class Role : unsigned char { working, following, leaving };
  Role role;
  Seat& seat;
  Worker worker;
  WorkerExit exit;
};

/// Whether the process has ended: waits for it without waiting.
bool take_end(const Seat& seat, const Worker& worker, WorkerExit& exit) {
  int status = 0;
  const pid_t ended = ::waitpid(worker.pid, &status, WNOHANG);
  if (ended == 0 || (ended < 0 && errno != ECHILD)) return false;
  exit.index = seat.index;
  exit.pid = worker.pid;
  exit.status = ended > 0 ? status : -1;
  exit.lived = now() - worker.started;
  exit.expected = worker.sent != 0 && worker.verdict.empty() && ended > 0 &&
                  (ends_in_order(status) || (WIFSIGNALED(status) && WTERMSIG(status) == worker.sent));
  exit.cause = ended > 0 ? describe_death(status, worker.sent) : "ended and somebody else was told how";
  if (!worker.verdict.empty()) exit.cause = worker.verdict + " (" + exit.cause + ")";
  return true;
}

std::vector<EndedWorker> take_ended(std::vector<Seat>& seats) {
  using Role = EndedWorker::Role;
  std::vector<EndedWorker> ended;
  for (Seat& seat : seats) {
    WorkerExit exit;
    if (seat.worker && take_end(seat, *seat.worker, exit)) {
      ended.push_back({Role::working, seat, std::move(*seat.worker), exit});
      seat.worker.reset();
    }
    if (seat.successor && take_end(seat, *seat.successor, exit)) {
      ended.push_back({Role::following, seat, std::move(*seat.successor), exit});
      seat.successor.reset();
    }
    for (std::size_t i = 0; i < seat.leaving.size();) {
      if (!take_end(seat, seat.leaving[i], exit)) {
        ++i;
        continue;
      }
      ended.push_back({Role::leaving, seat, std::move(seat.leaving[i]), exit});
      seat.leaving.erase(seat.leaving.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  return ended;
}

/// As process 1 of a container this inherits whatever others leave behind. One of `ours` that has ended meanwhile stays
/// for its own turn.
template <class Ours>
void reap_strangers(Ours&& ours) {
  siginfo_t info{};
  while (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0) {
    const pid_t pid = std::exchange(info.si_pid, 0);
    int status = 0;
    if (ours(pid) || ::waitpid(pid, &status, WNOHANG) != pid) return;
  }
}

}  // namespace

void Supervisor::reap() {
  for (EndedWorker& each : take_ended(seats_)) {
    const bool was_ready = each.worker.ready || each.worker.slot->ready.load();
    table_.give_back(*each.worker.slot);
    if (each.role == EndedWorker::Role::leaving || life_ != Life::running) {
      on_leaver_end(each.seat, each.exit);
    } else if (each.role == EndedWorker::Role::following) {
      on_successor_end(each.seat, each.exit);
    } else {
      on_worker_end(each.seat, each.exit, was_ready);
    }
    if (!options_.on_worker_exit) continue;
    call("on_worker_exit", [&] { options_.on_worker_exit(each.exit); });
  }
  int status = 0;
  if (upgrade_.pid() != 0 && ::waitpid(upgrade_.pid(), &status, WNOHANG) != 0) {
    log(LogLevel::error, "the new program " + describe_death(status, 0));
    upgrade_.on_end();
  }
  if (::getpid() != 1) return;
  reap_strangers([this](pid_t pid) {
    bool ours = pid == upgrade_.pid();
    for_each_worker([&](Seat&, const Worker& worker) { ours |= worker.pid == pid; });
    return ours;
  });
}

/// Of one that was told to go.
void Supervisor::on_leaver_end(const Seat& seat, const WorkerExit& exit) {
  // Expected is a death by that very signal, too: the loop was over when it came. Until then workers have a handler.
  if (exit.status == -1 || exit.expected || ends_in_order(exit.status)) return;
  if (life_ != Life::running) failed_ = true;
  log_warning(name_of(seat) + " " + exit.cause + " while draining");
}

void Supervisor::on_worker_end(Seat& seat, const WorkerExit& exit, bool was_ready) {
  if (exit.status != -1 && WIFEXITED(exit.status) && WEXITSTATUS(exit.status) == 0) {
    on_crash(seat, name_of(seat) + " ended before it was asked to", was_ready, exit.lived);
  } else {
    on_crash(seat, name_of(seat) + " " + exit.cause, was_ready, exit.lived);
  }
}

/// `lived`: how long the worker did; one that could not even be forked, not at all.
void Supervisor::on_crash(Seat& seat, const std::string& how, bool was_ready, Duration lived) {
  const TimePoint time = now();
  const bool healthy = lived > Duration::zero() && lived >= options_.healthy_after;
  if (healthy) seat.crashes.clear();
  std::erase_if(seat.crashes, [&](TimePoint each) { return time - each > options_.crash_window; });
  seat.crashes.push_back(time);
  seat.boots_failed = was_ready || healthy ? 0 : seat.boots_failed + 1;
  const auto crashes = static_cast<unsigned>(seat.crashes.size());
  std::string end;
  if (options_.crashes_max != 0 && crashes >= options_.crashes_max) {
    end = ", the " + std::to_string(crashes) + "th time in a row: giving up";
  } else if (options_.boots_max != 0 && seat.boots_failed >= options_.boots_max && !anybody_ready()) {
    end = " before it was ready, the " + std::to_string(seat.boots_failed) +
          "th time in a row, and no other shard is ready: giving up";
  }
  if (!end.empty()) {
    log(LogLevel::error, how + end);
    failed_ = true;
    begin_drain(false);
    return;
  }
  if (seat.successor) {
    log_warning(how + "; its successor is starting already");
    seat.worker = std::exchange(seat.successor, std::nullopt);
    seat.in_reload = false;
    return;
  }
  const unsigned doublings = std::min(crashes - 1, 20U);
  const Duration pause = std::min(options_.back_off * (1U << doublings), options_.back_off_max);
  seat.restart = saturating_add(time, pause);
  log_warning(how + "; it is replaced in " + in_milliseconds(pause));
}

}  // namespace bight::detail
