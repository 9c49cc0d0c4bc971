// SPDX-License-Identifier: Apache-2.0
#include "pool_server.hpp"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <bight/log.hpp>

#include "forked_child.hpp"

namespace bight::detail {
namespace {

constexpr auto kFinishPatience = std::chrono::seconds(5);

struct Child {
  std::uint32_t worker;
  pid_t pid;
  Fd pidfd;
};

class PoolServer {
 public:
  PoolServer(Connection& control, const ProcessPoolOptions& options) : control_(control), options_(options) {}

  int serve();

 private:
  void start(std::uint32_t worker, Message& order);
  [[noreturn]] void begin_worker(Message& order, pid_t parent);
  void reap_ended();
  void kill_all() noexcept;
  void report(PoolReport::Kind kind, std::uint32_t worker, int value) noexcept;
  [[nodiscard]] bool take_order();
  [[nodiscard]] int patience() const noexcept;

  Connection& control_;
  const ProcessPoolOptions& options_;
  std::vector<Child> children_;
  bool finishing_ = false;
  bool mute_ = false;  // the pool can not be told anything any more
  TimePoint finish_until_{};
};

int PoolServer::serve() {
  while (!mute_ && (!finishing_ || !children_.empty())) {
    std::vector<::pollfd> polled;
    polled.push_back({control_.fd(), POLLIN, 0});
    for (const Child& each : children_) polled.push_back({each.pidfd.get(), POLLIN, 0});
    const int count = ::poll(polled.data(), polled.size(), patience());
    if (count < 0 && errno != EINTR) return 1;
    if (count == 0) kill_all();  // they were to have finished
    reap_ended();
    if (count > 0 && polled[0].revents != 0 && !take_order()) break;
  }
  kill_all();
  while (!children_.empty()) {
    ::pollfd first{children_.front().pidfd.get(), POLLIN, 0};
    ::poll(&first, 1, -1);
    reap_ended();
  }
  return 0;
}

int PoolServer::patience() const noexcept {
  if (!finishing_) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(finish_until_ - Clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
}

/// False: the pool is gone.
bool PoolServer::take_order() {
  std::error_code error;
  std::optional<Message> message = control_.receive_message(error);
  if (!message || message->bytes.size() != sizeof(PoolOrder)) return false;
  const auto order = decode<PoolOrder>(message->bytes);
  switch (order.kind) {
    case PoolOrder::Kind::start: start(order.worker, *message); break;
    case PoolOrder::Kind::kill:
      for (const Child& each : children_) {
        if (each.worker == order.worker) ::kill(each.pid, SIGKILL);
      }
      break;
    case PoolOrder::Kind::finish:
      finishing_ = true;
      finish_until_ = Clock::now() + kFinishPatience;
      break;
  }
  return true;
}

void PoolServer::start(std::uint32_t worker, Message& order) {
  if (order.fds.size() != 2) {
    report(PoolReport::Kind::not_started, worker, EMFILE);
    return;
  }
  std::fflush(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) begin_worker(order, parent);
  Fd pidfd(pid < 0 ? -1 : static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) {
    const int error = errno;
    if (pid > 0) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
    report(PoolReport::Kind::not_started, worker, error);
    return;
  }
  children_.push_back({worker, pid, std::move(pidfd)});
  report(PoolReport::Kind::started, worker, pid);
}

void PoolServer::begin_worker(Message& order, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
  control_.close();
  children_.clear();
  run_worker(std::move(order.fds[0]), std::move(order.fds[1]), options_);
}

void PoolServer::reap_ended() {
  for (auto child = children_.begin(); child != children_.end();) {
    siginfo_t info{};
    const auto id = static_cast<id_t>(child->pidfd.get());
    const int result = ::waitid(static_cast<idtype_t>(P_PIDFD), id, &info, WEXITED | WNOHANG);
    if (result == 0 && info.si_pid == 0) {
      ++child;
      continue;
    }
    const int status = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
    const std::uint32_t worker = child->worker;
    child = children_.erase(child);
    report(PoolReport::Kind::ended, worker, status);
  }
}

void PoolServer::kill_all() noexcept {
  for (const Child& each : children_) ::kill(each.pid, SIGKILL);
}

void PoolServer::report(PoolReport::Kind kind, std::uint32_t worker, int value) noexcept {
  std::error_code error;
  control_.send(PoolReport{kind, worker, value}, error);
  // Gone, or to be told by the end of this process, for it would wait for ever otherwise.
  if (error) mute_ = true;
}

}  // namespace

int serve_pool(Connection& control, const ProcessPoolOptions& options) {
  // They go to whole groups and services; when to end is the pool's decision. A handler, and not "ignored", for that
  // would go on to the programs that a task runs.
  struct sigaction action {};
  action.sa_handler = [](int) {};
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  ::signal(SIGCHLD, SIG_DFL);  // ignored, it would take the exit statuses with it
  return PoolServer(control, options).serve();
}

}  // namespace bight::detail
