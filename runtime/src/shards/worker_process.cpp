// SPDX-License-Identifier: Apache-2.0
#include "shards/worker_process.hpp"

#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <string>

#include <bight/fiber.hpp>
#include <bight/log.hpp>
#include <bight/signal.hpp>

#include "describe.hpp"
#include "loop.hpp"
#include "shards/abort_dump.hpp"
#include "shards/loop_beat.hpp"

namespace bight::detail {
namespace {

/// SIGQUIT is the supervisor's way to say that there is no time to drain.
class QuitSignal final : public SignalSubscriber {
 public:
  explicit QuitSignal(Loop& loop) : SignalSubscriber(kNumbers), loop_(loop) { loop.signals().subscribe(*this); }
  QuitSignal(const QuitSignal&) = delete;
  QuitSignal& operator=(const QuitSignal&) = delete;
  ~QuitSignal() override { unsubscribe(); }

  void deliver(const Signal& signal) noexcept override { loop_.end_by_signal(signal.number); }
  [[nodiscard]] bool awaited() const noexcept override { return false; }  // it wakes no fiber that is stuck

 private:
  static constexpr std::array<int, 1> kNumbers{SIGQUIT};
  Loop& loop_;
};

void handle(int number, void (*handler)(int)) noexcept {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(number, &action, nullptr);
}

/// What is meant for the supervisor, and sent to all of its process group by a terminal or by a slip, is nothing to a
/// worker. Handlers rather than SIG_IGN: programs that it starts do not inherit them.
void install_handlers() noexcept {
  for (const int number : {SIGHUP, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU}) handle(number, [](int) {});
  install_abort_dump();
}

void pin_to_cpu(std::size_t index) noexcept {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  auto left = index % static_cast<std::size_t>(CPU_COUNT(&allowed));
  for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || left-- != 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (::sched_setaffinity(0, sizeof one, &one) != 0) {
      log_warning("shard " + std::to_string(index) + " could not be pinned to processor " + std::to_string(cpu));
    }
    return;
  }
}

/// Calls `reopen` at every SIGUSR1 from now on: in a fiber, for as long as the worker does anything else.
void reopen_at_signals(const std::function<void()>& reopen) {
  spawn({.name = "shard: reopen logs", .daemon = true}, [&reopen, signals = std::make_shared<Signals>(
                                                                      std::initializer_list<int>{SIGUSR1})] {
    while (true) {
      static_cast<void>(signals->receive());
      try {
        reopen();
      } catch (const std::exception& failure) {
        log(LogLevel::error, std::string("on_reopen_logs failed: ") + failure.what());
      }
    }
  }).detach();
}

/// The kernel kills this process when its parent ends.
void die_with(pid_t parent) noexcept {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) std::_Exit(1);  // it died before the line above
}

int run_worker(const WorkerContext& context) {
  Shard shard(context.index, context.count, context.options.drain);
  if (context.options.after_fork) context.options.after_fork(shard);
  die_with(context.parent);  // again: who becomes another user there is freed from it (prctl(2))
  LoopBeat beat(context.slot.beat, context.slot.loop);
  const int status = bight::run(context.options.run, [&] {
    Loop& loop = Loop::require();
    beat.turn();  // this one, which began unwatched
    loop.set_beat(&beat);
    const QuitSignal quit(loop);
    if (context.options.on_reopen_logs) reopen_at_signals(context.options.on_reopen_logs);
    context.signals.restore();  // not before the loop has its handlers: a signal to stop may be pending already
    context.main(shard);
  });
  return status;
}

}  // namespace

void work(const WorkerContext& context) noexcept {
  die_with(context.parent);
  install_handlers();
  if (context.options.pin_cpus) pin_to_cpu(context.index);
  context.table.enter(context.slot, context.requests_max);
  int status = 1;
  try {
    status = run_worker(context);
  } catch (...) {
    log(LogLevel::error,
        "shard " + std::to_string(context.index) + " failed: " + describe_error(std::current_exception()));
  }
  std::fflush(nullptr);
  std::_Exit(status);  // the parent's atexit handlers and static objects are the parent's
}

}  // namespace bight::detail
