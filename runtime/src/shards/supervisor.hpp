// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <bight/shards.hpp>

#include "shards/binary_upgrade.hpp"
#include "shards/notify_socket.hpp"
#include "shards/pid_file.hpp"
#include "shards/shard_table.hpp"
#include "shards/status_socket.hpp"
#include "shards/supervisor_signals.hpp"
#include "shards/worker.hpp"

namespace bight::detail {

/// The parent of all workers. It has no loop and no threads: one poll(2) for signals, the workers' bell, the status
/// socket and the next deadline; then it does what is due, which never waits. All state is in the seats; what is to be
/// done is derived from it after each event (settle), so that nothing depends on which of two events is seen first.
class Supervisor {
 public:
  /// Throws std::system_error.
  Supervisor(const ShardOptions& options, const std::function<void(Shard&)>& main);

  int run();

 private:
  enum class Life : std::uint8_t { running, draining, quitting };

  // supervisor.cpp: events
  void start_all();
  void wait();
  void heed(std::uint64_t signals);
  void settle();
  [[nodiscard]] TimePoint next_event() const noexcept;
  [[nodiscard]] bool all_ended() const noexcept;
  void say_status();

  // supervisor_workers.cpp: starting them, and what becomes of them
  [[nodiscard]] Worker start(Seat& seat);
  [[nodiscard]] std::uint64_t requests_limit() noexcept;
  void close_in_worker() noexcept;
  void hear_workers();
  void look_at(Seat& seat, Worker& worker);
  void look_for_hang(Seat& seat, Worker& worker, TimePoint time);
  void check_deadlines(Worker& worker, const Seat& seat, TimePoint time);
  void reap();
  void on_leaver_end(const Seat& seat, const WorkerExit& exit);
  void on_worker_end(Seat& seat, const WorkerExit& exit, bool was_ready);
  void on_successor_end(Seat& seat, const WorkerExit& exit);
  void on_crash(Seat& seat, const std::string& how, bool was_ready, Duration lived);
  void restart_due(TimePoint time);
  void end(Worker& worker, int signal, Duration grace) noexcept;
  [[nodiscard]] static bool signal(Worker& worker, int number) noexcept;

  // supervisor_changes.cpp: reload, more, fewer, upgrade, stop
  void begin_reload();
  void renew_due();
  void take_over(Seat& seat);
  void abandon_successor(Seat& seat);
  void retire(Seat& seat);
  void add_seat();
  void remove_seat();
  void begin_upgrade();
  void follow_upgrade();
  void reopen_logs();
  void begin_drain(bool others_continue);
  void quit();
  void note_all_ready();
  void call(const char* name, const std::function<void()>& hook);

  template <class Visit>
  void for_each_worker(Visit&& visit) {
    for (Seat& seat : seats_) {
      if (seat.worker) visit(seat, *seat.worker);
      if (seat.successor) visit(seat, *seat.successor);
      for (Worker& each : seat.leaving) visit(seat, each);
    }
  }
  [[nodiscard]] std::size_t open_seats() const noexcept;
  [[nodiscard]] bool anybody_ready() const noexcept;
  [[nodiscard]] bool reloading() const noexcept;
  [[nodiscard]] std::string state() const;
  [[nodiscard]] std::string status(StatusFormat format) const;

  const ShardOptions options_;
  const std::function<void(Shard&)>& main_;
  const ProgramStart program_;
  const TimePoint started_;
  SupervisorSignals signals_;
  ShardTable table_;
  PidFile pid_file_;
  StatusSocket status_socket_;
  NotifySocket notify_;
  BinaryUpgrade upgrade_;
  std::vector<Seat> seats_;

  Life life_ = Life::running;
  bool failed_ = false;
  bool upgraded_ = false;      // a successor program serves on
  bool all_ready_ = false;     // have been, once
  bool reload_again_ = false;  // SIGHUP came while one was under way
  bool reload_said_ = false;   // RELOADING=1 has been, READY=1 is owed
  int interrupts_ = 0;         // SIGINTs
  std::uint64_t restarts_ = 0;
  std::uint64_t reloads_ = 0;
  std::uint64_t random_;
  TimePoint watchdog_at_ = TimePoint::max();
};

}  // namespace bight::detail
