// SPDX-License-Identifier: Apache-2.0
#include "reaper.hpp"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "own_threads.hpp"

namespace bight::detail {
namespace {

/// linux/pidfd.h of Linux 6.15, as far as it is needed.
struct PidfdInfo {
  std::uint64_t mask;
  std::uint64_t cgroup;
  std::uint32_t ids[11];  // NOLINT: the kernel's
  std::int32_t exit_code;
};
constexpr std::uint64_t kPidfdInfoExit = 1U << 3;
constexpr unsigned long kPidfdGetInfo = _IOWR(0xff, 11, PidfdInfo);

/// What the kernel remembers of a process that somebody else has reaped.
ExitStatus remembered(int pidfd) noexcept {
  PidfdInfo info{};
  info.mask = kPidfdInfoExit;
  if (::ioctl(pidfd, kPidfdGetInfo, &info) != 0 || (info.mask & kPidfdInfoExit) == 0) return {};
  return ExitStatus::from_wait(info.exit_code);
}

bool has_ended(int pidfd) noexcept {
  ::pollfd look{pidfd, POLLIN, 0};
  int count = 0;
  do count = ::poll(&look, 1, 0);
  while (count < 0 && errno == EINTR);
  return count == 1;
}

int wait_for_child(int pidfd, siginfo_t& info, int options) noexcept {
  int result = 0;
  do result = ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd), &info, WEXITED | options);
  while (result != 0 && errno == EINTR);
  return result;
}

/// Those whose end nobody waits for.
class Graveyard {
 public:
  void add(PrivateFd pidfd, bool killed) noexcept;

 private:
  void start();
  void work() noexcept;
  void wait_for_one(std::vector<PrivateFd>& mine);

  std::mutex mutex_;
  // Protected by mutex_:
  std::vector<PrivateFd> incoming_;
  PrivateFd bell_;
  bool working_ = false;
};

void Graveyard::add(PrivateFd pidfd, bool killed) noexcept {
  const std::lock_guard lock(mutex_);
  try {
    incoming_.reserve(incoming_.size() + 1);
    if (!working_) start();
    incoming_.push_back(std::move(pidfd));
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(bell_.get(), &one, sizeof one);
  } catch (const std::exception&) {  // no memory, or no thread
    siginfo_t info{};
    if (killed) static_cast<void>(wait_for_child(pidfd.get(), info, 0));
  }
}

void Graveyard::start() {
  if (bell_.get() < 0) {
    const int bell = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (bell < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
    bell_ = PrivateFd(bell);
  }
  // Signals are for the program's threads, which this is none of.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    std::thread(&Graveyard::work, this).detach();
  } catch (...) {
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  working_ = true;
}

void Graveyard::work() noexcept {
  const OwnThread own;
  ::pthread_setname_np(::pthread_self(), "bight-reaper");
  std::vector<PrivateFd> mine;
  for (;;) {
    try {
      {
        const std::lock_guard lock(mutex_);
        mine.reserve(mine.size() + incoming_.size());
        for (PrivateFd& each : incoming_) mine.push_back(std::move(each));
        incoming_.clear();
        working_ = !mine.empty();
        if (!working_) return;
      }
      wait_for_one(mine);
    } catch (const std::bad_alloc&) {  // one after the other, then
      siginfo_t info{};
      if (mine.empty()) continue;
      static_cast<void>(wait_for_child(mine.back().get(), info, 0));
      mine.pop_back();
    }
  }
}

/// Or for another one to come.
void Graveyard::wait_for_one(std::vector<PrivateFd>& mine) {
  std::vector<::pollfd> watched;
  watched.reserve(mine.size() + 1);
  for (const PrivateFd& each : mine) watched.push_back({each.get(), POLLIN, 0});
  watched.push_back({bell_.get(), POLLIN, 0});
  if (::poll(watched.data(), watched.size(), -1) <= 0) return;
  std::uint64_t count = 0;
  [[maybe_unused]] const auto read = ::read(bell_.get(), &count, sizeof count);
  std::erase_if(mine, [](const PrivateFd& each) { return reap_child(each.get()).has_value(); });
}

std::atomic<Graveyard*> the_graveyard{nullptr};  // never destroyed: its thread may outlive main

/// A forked child has none of these children, and not the thread.
Graveyard& graveyard() {
  [[maybe_unused]] static const int registered = ::pthread_atfork(nullptr, nullptr, [] { the_graveyard = nullptr; });
  Graveyard* present = the_graveyard.load();
  if (present != nullptr) return *present;
  auto* made = new Graveyard;
  if (the_graveyard.compare_exchange_strong(present, made)) return *made;
  delete made;
  return *present;
}

}  // namespace

std::optional<ExitStatus> reap_child(int pidfd) noexcept {
  siginfo_t info{};
  if (wait_for_child(pidfd, info, WNOHANG) == 0) {
    return info.si_pid != 0 ? std::optional(ExitStatus::from_wait(info)) : std::nullopt;
  }
  return has_ended(pidfd) ? std::optional(remembered(pidfd)) : std::nullopt;
}

void bury_later(PrivateFd pidfd, bool killed) noexcept {
  try {
    graveyard().add(std::move(pidfd), killed);
  } catch (const std::bad_alloc&) {
    siginfo_t info{};
    if (killed) static_cast<void>(wait_for_child(pidfd.get(), info, 0));
  }
}

}  // namespace bight::detail
