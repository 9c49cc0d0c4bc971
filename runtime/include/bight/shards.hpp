// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Many processes, one service: a supervisor that has no loop and does no work, and workers that each run a loop.
///
///     auto sockets = net::ShardedListener::bind(net::Address::parse("0.0.0.0:8080"));
///     return run_shards({.on_drain = [&] { sockets.close(); }},
///                       [&](Shard& shard) { http::serve(sockets.listener(shard), answer); });
///
/// What each signal to the supervisor does:
///
///     SIGTERM, SIGINT  drain: workers end what they have begun, within `drain`, and all leave
///     SIGQUIT, or a second SIGINT   stop at once: workers are cancelled, and killed after `quit_grace`
///     SIGHUP           reload: each worker is replaced; the old one drains when the new one is ready
///     SIGUSR1          statistics to the log; on_reopen_logs everywhere
///     SIGUSR2          binary upgrade: the program's file is started anew and takes over the sockets; when its
///                      workers are ready, these drain
///     SIGTTIN, SIGTTOU one worker more, one less
///
/// docs/processes-and-shards.md tells the whole story.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <sys/types.h>

#include <bight/run.hpp>
#include <bight/this_shard.hpp>
#include <bight/time.hpp>

namespace bight {

/// How many processors this process may run on (its affinity mask, so taskset and cpusets count). At least 1.
[[nodiscard]] std::size_t cpu_count() noexcept;

/// One worker process of run_shards, as its `main` sees it.
class Shard {
 public:
  Shard(std::size_t index, std::size_t count, Duration drain) noexcept : index_(index), count_(count), drain_(drain) {}
  /// Its seat: 0 … count-1. A replacement has its predecessor's, and while one drains both have it.
  [[nodiscard]] std::size_t index() const noexcept { return index_; }
  /// How many seats there were when it was started.
  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  /// How long it has from the stop request to its end.
  [[nodiscard]] Duration drain() const noexcept { return drain_; }

  /// Tells the supervisor that this worker is up: a predecessor may leave, the service may be said to be started.
  /// Servers do it when they begin to accept (whatever calls wait_for_stop() does); a main that neither serves nor
  /// waits for a stop has to.
  void ready() const noexcept { this_shard::ready(); }

 private:
  std::size_t index_;
  std::size_t count_;
  Duration drain_;
};

/// How a worker ended: ShardOptions::on_worker_exit.
struct WorkerExit {
  std::size_t index = 0;
  ::pid_t pid = 0;
  int status = 0;         ///< as waitpid(2) gives it; -1: unknown, somebody else has been told
  bool expected = false;  ///< it had been asked to leave and did
  std::string cause;      ///< in words: "was killed by SIGSEGV", "ended with status 3", "hung for 30 s and was aborted"
  Duration lived{0};
};

/// All of it has a default that does. Times are limits, not waits. Hooks are called in the supervisor unless said
/// otherwise; they may throw (what then happens is said), must be quick, and there is no loop to wait in.
struct ShardOptions {
  // --- Workers
  std::size_t count = 0;        ///< worker processes; 0: cpu_count()
  std::size_t count_max = 256;  ///< SIGTTIN adds no more than up to this many
  bool pin_cpus = false;  ///< worker i runs on the i-th of the allowed processors (modulo how many there are) only

  // --- Ending
  Duration drain = std::chrono::seconds(10);  ///< what workers have from SIGTERM on to end
  Duration kill_after =
      std::chrono::seconds(2);  ///< from the end of that to SIGKILL: who drains to the last needs some time to leave
  Duration quit_grace = std::chrono::seconds(2);  ///< from SIGQUIT to SIGKILL

  // --- Crashes
  Duration back_off =
      std::chrono::milliseconds(50);  ///< before a worker that crashed is replaced; doubles with each crash in a row
  Duration back_off_max = std::chrono::seconds(10);  ///< at most this
  Duration healthy_after = std::chrono::seconds(1);  ///< a worker that lived this long ends the row of crashes
  unsigned crashes_max = 0;  ///< give up after so many crashes of a seat in a row, within crash_window; 0: never
  Duration crash_window = std::chrono::minutes(10);  ///< an older crash is no part of the row any more
  /// Give up after so many workers in a row of which none became ready, when none is ready: a service that can not
  /// start should say so. 0: never. When others serve, they go on, and the start is tried again and again.
  unsigned boots_max = 5;

  // --- Working
  RunOptions run{};  ///< of each worker's loop

  // --- Starting and reloading
  /// What a new worker has to become ready (Shard::ready). One that has not by then when it is to replace another is
  /// stopped, and the old one goes on; a first one is only warned about, unless it has no loop yet, when it is aborted.
  Duration ready_timeout = std::chrono::seconds(30);
  std::size_t reload_at_once = 1;                       ///< how many workers a reload replaces at a time
  Duration upgrade_timeout = std::chrono::seconds(60);  ///< what a new program has, at SIGUSR2, to become ready

  // --- Hanging
  /// A worker whose loop has not turned for this long, though it does not wait for the system, is sent SIGABRT, on
  /// which it prints where it is and all its fibers; SIGKILL follows abort_grace later. Zero: never. A worker (or
  /// machine) that is stopped or in a debugger does not count as hung. It says that the loop is alive, not that
  /// requests are answered: for those there are deadlines.
  Duration hang_timeout = std::chrono::seconds(30);
  Duration abort_grace = std::chrono::seconds(2);

  // --- Retiring
  /// A worker that has served so many requests (this_shard::note_request), and a random number up to requests_jitter
  /// more, is replaced: a successor is started first; if it fails, another one back_off_max later. 0: never.
  std::uint64_t requests_max = 0;
  std::uint64_t requests_jitter = 0;

  // --- Being operated
  /// File with the supervisor's process number; locked as long as it lives, so a second one with the same file does not
  /// start, while one that a crash left behind does no harm. Removed at the end; at an upgrade the old program's is
  /// renamed to "….oldpid". Empty: none.
  std::string pid_file{};
  /// Unix socket (mode 0600) that tells the state of all workers: to the program bight-shards, to shard_status(), to
  /// curl --unix-socket. Empty: none.
  std::string status_socket{};
  std::vector<std::string> counters{};  ///< names of the program's own counters, at most 16: this_shard::counter

  // --- Hooks
  std::function<void()> on_start{};        ///< before the first worker; throws: run_shards does
  std::function<void()> on_ready{};        ///< all workers are ready for the first time
  std::function<void()> on_reload{};       ///< before a reload: to read the configuration; throws: no reload
  std::function<void()> on_reopen_logs{};  ///< SIGUSR1, in the supervisor and in every worker (there in a fiber)
  std::function<void(std::size_t)> before_fork{};  ///< a worker for this seat will be forked; throws: as if fork failed
  /// In the worker, before its loop; throws: the worker ends. The place to become another user: later, in `main`, the
  /// worker would not end with its supervisor any more.
  std::function<void(Shard&)> after_fork{};
  std::function<void(const WorkerExit&)> on_worker_exit{};
  /// When the drain of all begins, before workers are sent SIGTERM, also by an upgrade. The place to close listening
  /// sockets (net::ShardedListener::close): as long as the supervisor has them open, clients can connect to where
  /// nobody accepts.
  std::function<void()> on_drain{};
};

/// Forks `count` worker processes and runs `main(shard)` in a loop of its own in each. What was opened before,
/// listening sockets above all, is open in every worker, and stays open in the parent, so that connections queued on it
/// outlive the worker. Call it before any thread or loop exists in the process (it checks both).
///
/// A worker that dies from a signal or exits with a status other than 0 is replaced; one that returns 0 before a stop
/// was requested is replaced too. Workers die with the parent. Returns 0 if every worker ended well after the stop,
/// also after an upgrade; 1 if one had to be killed, failed while draining, `crashes_max` or `boots_max` was reached.
/// With count 1 a single worker is forked all the same. Throws std::system_error when fork fails at the start, when the
/// pid file is another supervisor's, when the status socket can not be made.
///
/// systemd: with Type=notify it says READY=1 when all workers are ready, RELOADING=1, STOPPING=1, MAINPID= at an
/// upgrade, STATUS= in between, and WATCHDOG=1 when WatchdogSec= is set. In socket units' sockets are found by
/// net::ShardedListener.
int run_shards(const ShardOptions& options, const std::function<void(Shard&)>& main);

enum class StatusFormat : unsigned char { text, json };

/// Asks the supervisor behind a status socket. Blocks, for five seconds at most: for small tools. Throws
/// std::system_error.
[[nodiscard]] std::string shard_status(const std::string& socket_path, StatusFormat format = StatusFormat::text);

}  // namespace bight
