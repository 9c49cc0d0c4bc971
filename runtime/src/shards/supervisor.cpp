// SPDX-License-Identifier: Apache-2.0
#include "shards/supervisor.hpp"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <string>

#include <bight/log.hpp>

#include "describe.hpp"
#include "shards/handover.hpp"
#include "shards/status_report.hpp"

namespace bight::detail {
namespace {

// Of a seat at a time: one who works, one who is to follow, and those who drain, of which there is one as a rule.
constexpr std::size_t kSlotsPerSeat = 4;

constexpr Duration kLongestWait = std::chrono::seconds(60);

}  // namespace

Supervisor::Supervisor(const ShardOptions& options, const std::function<void(Shard&)>& main)
    : options_(options),
      main_(main),
      started_(now()),
      table_(kSlotsPerSeat * std::max(options.count, options.count_max)),
      pid_file_(options.pid_file),
      status_socket_(options.status_socket, predecessor().pid != 0),
      notify_(predecessor().pid != 0),
      random_(static_cast<std::uint64_t>(started_.time_since_epoch().count()) ^
              static_cast<std::uint64_t>(::getpid())) {
  for (std::size_t i = 0; i < options.count; ++i) {
    seats_.emplace_back();
    seats_.back().index = i;
  }
  if (notify_.watchdog() > Duration::zero()) watchdog_at_ = started_;
}

int Supervisor::run() {
  if (options_.on_start) options_.on_start();
  if (const std::size_t unwanted = close_untaken_sockets(); unwanted != 0) {
    log_warning(std::to_string(unwanted) +
                " listening sockets were passed to this program that it does not ask for: closed");
  }
  start_all();
  while (life_ == Life::running || !all_ended()) {
    wait();
    const std::uint64_t signals = signals_.take();
    table_.silence();
    hear_workers();
    heed(signals);  // before ends are looked at: Ctrl-C ends workers, too
    if (has_signal(signals, SIGCHLD)) reap();
    upgrade_.look(now());
    status_socket_.serve([this](StatusFormat format) { return status(format); }, now());
    settle();
  }
  upgrade_.stop(now());
  return failed_ ? 1 : 0;
}

void Supervisor::start_all() {
  try {
    for (Seat& seat : seats_) seat.worker = start(seat);
  } catch (...) {
    for_each_worker([](Seat&, Worker& worker) {
      static_cast<void>(signal(worker, SIGKILL));
      ::waitpid(worker.pid, nullptr, 0);
    });
    throw;
  }
  say_status();
}

void Supervisor::wait() {
  std::vector<pollfd> polled{{signals_.fd(), POLLIN, 0}, {table_.bell(), POLLIN, 0}};
  if (upgrade_.state() == BinaryUpgrade::State::starting) polled.push_back({upgrade_.fd(), POLLIN, 0});
  status_socket_.add_to(polled);
  const TimePoint until = next_event();
  int timeout = -1;
  if (until != TimePoint::max()) {
    const Duration left = std::clamp<Duration>(until - now(), Duration::zero(), kLongestWait);
    timeout = static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(left).count());
  }
  ::poll(polled.data(), polled.size(), timeout);
}

void Supervisor::heed(std::uint64_t signals) {
  if (has_signal(signals, SIGINT)) ++interrupts_;
  if (has_signal(signals, SIGQUIT) || interrupts_ > 1) {
    quit();
  } else if (has_signal(signals, SIGTERM) || has_signal(signals, SIGINT)) {
    begin_drain(false);
  }
  if (has_signal(signals, SIGUSR1)) {
    log(LogLevel::info, status(StatusFormat::text));
    reopen_logs();
  }
  if (life_ != Life::running) return;
  if (has_signal(signals, SIGHUP)) begin_reload();
  if (has_signal(signals, SIGTTIN)) add_seat();
  if (has_signal(signals, SIGTTOU)) remove_seat();
  if (has_signal(signals, SIGUSR2)) begin_upgrade();
}

/// Does what is due by now.
void Supervisor::settle() {
  const TimePoint time = now();
  for_each_worker([&](Seat& seat, Worker& worker) {
    look_for_hang(seat, worker, time);
    check_deadlines(worker, seat, time);
  });
  follow_upgrade();
  if (life_ == Life::running) {
    restart_due(time);
    renew_due();
    note_all_ready();
  }
  if (time >= watchdog_at_) {
    notify_.send("WATCHDOG=1");
    watchdog_at_ = saturating_add(time, notify_.watchdog() / 2);
  }
}

TimePoint Supervisor::next_event() const noexcept {
  TimePoint first = std::min({watchdog_at_, upgrade_.deadline(), status_socket_.next_event()});
  const auto look = [&](const Worker& worker) {
    first = std::min(first, worker.kill_at);
    if (options_.hang_timeout > Duration::zero()) first = std::min(first, worker.hang.next());
    if (!worker.ready && !worker.told_late)
      first = std::min(first, saturating_add(worker.started, options_.ready_timeout));
  };
  const TimePoint time = now();
  for (const Seat& seat : seats_) {
    if (life_ == Life::running && !seat.closed) first = std::min(first, seat.restart);
    if (seat.renewal_after > time) first = std::min(first, seat.renewal_after);
    if (seat.worker) look(*seat.worker);
    if (seat.successor) look(*seat.successor);
    for (const Worker& each : seat.leaving) look(each);
  }
  return first;
}

bool Supervisor::all_ended() const noexcept {
  return std::all_of(seats_.begin(), seats_.end(), [](const Seat& seat) { return seat.empty(); });
}

std::size_t Supervisor::open_seats() const noexcept {
  return static_cast<std::size_t>(
      std::count_if(seats_.begin(), seats_.end(), [](const Seat& seat) { return !seat.closed; }));
}

bool Supervisor::anybody_ready() const noexcept {
  return std::any_of(seats_.begin(), seats_.end(), [](const Seat& seat) { return seat.worker && seat.worker->ready; });
}

bool Supervisor::reloading() const noexcept {
  return std::any_of(seats_.begin(), seats_.end(), [](const Seat& seat) { return seat.in_reload; });
}

std::string Supervisor::state() const {
  if (life_ == Life::quitting) return "stopping";
  if (life_ == Life::draining) return "draining";
  if (upgrade_.state() == BinaryUpgrade::State::starting) return "upgrading";
  if (reloading()) return "reloading";
  return all_ready_ ? "running" : "starting";
}

std::string Supervisor::status(StatusFormat format) const {
  const StatusSource source{seats_, table_, options_.counters, state(), started_, restarts_, reloads_};
  return format == StatusFormat::json ? status_json(source) : status_text(source) + "\n";
}

void Supervisor::say_status() { notify_.send("STATUS=" + state() + ", " + std::to_string(open_seats()) + " shards"); }

void Supervisor::call(const char* name, const std::function<void()>& hook) {
  if (!hook) return;
  try {
    hook();
  } catch (...) {
    log(LogLevel::error, std::string(name) + " failed: " + describe_error(std::current_exception()));
  }
}

}  // namespace bight::detail
