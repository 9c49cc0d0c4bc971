// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <system_error>
#include <utility>

#include <bight/log.hpp>

#include "describe.hpp"
#include "shards/handover.hpp"
#include "shards/supervisor.hpp"

namespace bight::detail {

// --- Reload ----------------------------------------------------------------------------------------------------------

void Supervisor::begin_reload() {
  if (reloading()) {
    reload_again_ = true;
    return;
  }
  reload_again_ = false;
  ++reloads_;
  notify_.send("RELOADING=1\n" + monotonic_usec());
  reload_said_ = true;
  log(LogLevel::info, "reloading " + std::to_string(open_seats()) + " shards");
  try {
    if (options_.on_reload) options_.on_reload();
  } catch (...) {
    log(LogLevel::error, "no reload, on_reload failed: " + describe_error(std::current_exception()));
    return;
  }
  for (Seat& seat : seats_) seat.renew = seat.in_reload = !seat.closed;
}

/// Starts successors where there are to be some, as many at a time as there may be. A seat whose last worker still
/// drains has to wait: otherwise reloads that come faster than drains end would fill the machine.
void Supervisor::renew_due() {
  auto under_way = static_cast<std::size_t>(
      std::count_if(seats_.begin(), seats_.end(), [](const Seat& seat) { return seat.successor.has_value(); }));
  for (Seat& seat : seats_) {
    if (!seat.renew) continue;
    if (!seat.worker) {  // the next one is new anyway; it need not wait for the end of a back-off
      seat.restart = std::min(seat.restart, now());
      seat.renew = seat.in_reload = false;
    } else if (!seat.successor && seat.leaving.empty() &&
               under_way < std::max<std::size_t>(options_.reload_at_once, 1)) {
      seat.renew = false;
      try {
        seat.successor = start(seat);
        ++under_way;
      } catch (...) {
        log(LogLevel::error, describe_error(std::current_exception()) + "; the old one goes on");
        seat.in_reload = false;
        seat.renewal_after = saturating_add(now(), options_.back_off_max);
      }
    }
  }
  if (reloading()) return;
  if (reload_again_) {
    begin_reload();
    renew_due();  // once: it is either under way now or over
  } else if (std::exchange(reload_said_, false)) {
    notify_.send("READY=1");
    say_status();
  }
}

/// The successor is ready.
void Supervisor::take_over(Seat& seat) {
  log(LogLevel::info, "shard " + std::to_string(seat.index) + ": process " + std::to_string(seat.successor->pid) +
                          (seat.worker ? " takes over from " + std::to_string(seat.worker->pid) : " begins"));
  if (seat.worker) retire(seat);
  seat.worker = std::exchange(seat.successor, std::nullopt);
  seat.in_reload = false;
  ++restarts_;
}

/// Asks the seat's worker to leave while the others go on.
void Supervisor::retire(Seat& seat) {
  Worker worker = std::move(*seat.worker);
  seat.worker.reset();
  worker.slot->retiring.store(true);
  end(worker, SIGTERM, options_.drain + options_.kill_after);
  seat.leaving.push_back(std::move(worker));
}

/// The new one did not come up. So would others not: what is left of the reload is called off.
void Supervisor::abandon_successor(Seat& seat) {
  if (seat.successor) {
    log(LogLevel::error, "the new shard " + std::to_string(seat.index) + " was not ready in time; the old one goes on");
    end(*seat.successor, SIGTERM, options_.drain + options_.kill_after);
    seat.leaving.push_back(std::move(*seat.successor));
    seat.successor.reset();
  }
  seat.renewal_after = saturating_add(now(), options_.back_off_max);
  const bool was_reload = std::exchange(seat.in_reload, false);
  for (Seat& each : seats_) {
    if (was_reload && each.in_reload && each.renew) each.in_reload = each.renew = false;
  }
}

void Supervisor::on_successor_end(Seat& seat, const WorkerExit& exit) {
  log(LogLevel::error,
      "the new shard " + std::to_string(seat.index) + " " + exit.cause + " before it was ready; the old one goes on");
  abandon_successor(seat);
}

// --- More and fewer --------------------------------------------------------------------------------------------------

void Supervisor::add_seat() {
  if (open_seats() >= std::max(options_.count_max, options_.count)) {
    log_warning("no shard is added: there are count_max already");
    return;
  }
  auto seat = std::find_if(seats_.begin(), seats_.end(), [](const Seat& each) { return each.closed; });
  if (seat == seats_.end()) {
    seats_.emplace_back();
    seats_.back().index = seats_.size() - 1;
    seat = std::prev(seats_.end());
  }
  seat->closed = false;
  seat->crashes.clear();
  seat->restart = now();
  log(LogLevel::info, "shard " + std::to_string(seat->index) + " is added");
  say_status();
}

void Supervisor::remove_seat() {
  if (open_seats() <= 1) {
    log_warning("the last shard stays");
    return;
  }
  const auto seat = std::find_if(seats_.rbegin(), seats_.rend(), [](const Seat& each) { return !each.closed; });
  seat->closed = true;
  seat->renew = seat->in_reload = false;
  seat->restart = TimePoint::max();
  if (seat->worker) retire(*seat);
  if (seat->successor) {
    seat->worker = std::exchange(seat->successor, std::nullopt);
    retire(*seat);
  }
  log(LogLevel::info, "shard " + std::to_string(seat->index) + " is removed");
  say_status();
}

// --- Upgrade ---------------------------------------------------------------------------------------------------------

void Supervisor::begin_upgrade() {
  if (::getpid() == 1) {
    log(LogLevel::error, "no upgrade: this is process 1, and with it the container would end");
    return;
  }
  if (upgrade_.state() != BinaryUpgrade::State::none) {
    log_warning("an upgrade is under way already");
    return;
  }
  pid_file_.step_aside();
  try {
    upgrade_.start(program_, signals_, saturating_add(now(), options_.upgrade_timeout));
    log(LogLevel::info, "upgrade: started " + program_.file() + " as process " + std::to_string(upgrade_.pid()));
  } catch (...) {
    pid_file_.step_back();
    log(LogLevel::error, "no upgrade: " + describe_error(std::current_exception()));
  }
  say_status();
}

void Supervisor::follow_upgrade() {
  if (upgrade_.state() == BinaryUpgrade::State::ready && !upgraded_) {
    upgraded_ = true;
    log(LogLevel::info, "upgrade: process " + std::to_string(upgrade_.pid()) + " has taken over");
    notify_.send("MAINPID=" + std::to_string(upgrade_.pid()));
    begin_drain(true);
  } else if (upgrade_.state() == BinaryUpgrade::State::failed) {
    upgrade_.forget();
    if (life_ != Life::running) return;
    pid_file_.step_back();
    status_socket_.step_back();
    log(LogLevel::error, "upgrade: the new program did not come up; this one goes on");
    say_status();
  }
}

/// All workers of this program are up.
void Supervisor::note_all_ready() {
  if (all_ready_) return;
  const bool all = std::all_of(seats_.begin(), seats_.end(),
                               [](const Seat& seat) { return seat.closed || (seat.worker && seat.worker->ready); });
  if (!all) return;
  all_ready_ = true;
  call("on_ready", options_.on_ready);
  notify_.send("READY=1\nMAINPID=" + std::to_string(::getpid()));
  say_status();
  if (Fd& ready = predecessor().ready) {
    [[maybe_unused]] const auto written = ::write(ready.get(), "1", 1);
    ready.reset();
  }
}

// --- The end ---------------------------------------------------------------------------------------------------------

void Supervisor::reopen_logs() {
  if (!options_.on_reopen_logs) return;
  call("on_reopen_logs", options_.on_reopen_logs);
  for_each_worker([](Seat&, Worker& worker) { ::kill(worker.pid, SIGUSR1); });
}

/// `others_continue`: the sockets are a successor's by now; who comes is not turned away.
void Supervisor::begin_drain(bool others_continue) {
  if (life_ != Life::running) return;
  life_ = Life::draining;
  if (!others_continue) {
    notify_.send("STOPPING=1");
    upgrade_.stop(now());
  }
  try {
    if (options_.on_drain) options_.on_drain();
  } catch (...) {  // workers are to be told all the same
    failed_ = true;
    log(LogLevel::error, "on_drain failed: " + describe_error(std::current_exception()));
  }
  for_each_worker([&](Seat&, Worker& worker) {
    worker.slot->retiring.store(others_continue);
    if (worker.sent == 0) end(worker, SIGTERM, options_.drain + options_.kill_after);
  });
  if (!others_continue) say_status();  // what is said of the service by now is the successor's
}

void Supervisor::quit() {
  begin_drain(false);
  if (std::exchange(life_, Life::quitting) == Life::quitting) return;
  for_each_worker([&](Seat&, Worker& worker) {
    if (worker.sent != SIGABRT && worker.sent != SIGKILL) end(worker, SIGQUIT, options_.quit_grace);
  });
}

}  // namespace bight::detail
