// SPDX-License-Identifier: Apache-2.0
#include "shards/binary_upgrade.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

#include "shards/handover.hpp"

namespace bight::detail {
namespace {

namespace fs = std::filesystem;

constexpr Duration kStopGrace = std::chrono::seconds(2);

/// Where a program of this name is found, as execvp(3) does.
std::string find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) {
    std::error_code error;
    return fs::absolute(name, error).string();
  }
  const char* path = std::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): there are no threads
  std::string left = path != nullptr ? path : "/bin:/usr/bin";
  while (!left.empty()) {
    const std::size_t end = std::min(left.find(':'), left.size());
    const fs::path candidate = fs::path(left.substr(0, end)) / name;
    left.erase(0, std::min(end + 1, left.size()));
    std::error_code error;
    if (::access(candidate.c_str(), X_OK) == 0) return fs::absolute(candidate, error).string();
  }
  return {};
}

bool is_this_program(const std::string& file) noexcept {
  struct stat here {};
  struct stat there {};
  return !file.empty() && ::stat("/proc/self/exe", &here) == 0 && ::stat(file.c_str(), &there) == 0 &&
         here.st_dev == there.st_dev && here.st_ino == there.st_ino;
}

/// The environment of the new program: this one's, and what it inherits.
std::vector<std::string> environment_with(const std::string& handover) {
  std::vector<std::string> all;
  const std::string prefix = std::string(kHandoverVariable) + "=";
  for (char** each = environ; *each != nullptr; ++each) {
    if (std::strncmp(*each, prefix.c_str(), prefix.size()) != 0) all.emplace_back(*each);
  }
  all.push_back(prefix + handover);
  return all;
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& each : texts) pointers.push_back(each.data());
  pointers.push_back(nullptr);
  return pointers;
}

bool inherit(int fd) noexcept {
  const int flags = ::fcntl(fd, F_GETFD);
  return flags >= 0 && ::fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC) == 0;
}

}  // namespace

ProgramStart::ProgramStart() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  const std::string all((std::istreambuf_iterator<char>(file)), {});
  for (std::size_t at = 0; at < all.size();) {
    const std::size_t end = std::min(all.find('\0', at), all.size());
    arguments_.push_back(all.substr(at, end - at));
    at = end + 1;
  }
  if (!arguments_.empty()) file_ = find_program(arguments_.front());
  if (is_this_program(file_)) return;
  std::error_code error;  // the folder or the name has been changed: what is left is what the kernel knows
  file_ = fs::read_symlink("/proc/self/exe", error).string();
}

void BinaryUpgrade::start(const ProgramStart& program, const SupervisorSignals& signals, TimePoint deadline) {
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC | O_NONBLOCK) != 0)
    throw std::system_error(errno, std::generic_category(), "start the new program: pipe");
  Fd word(pipe[0]);
  const Fd other_end(pipe[1]);
  std::string handover = std::to_string(::getpid()) + ";" + std::to_string(other_end.get());
  for (const OfferedSocket& each : offered_sockets()) handover += ";" + std::to_string(each.fd) + "=" + each.name;
  std::vector<std::string> arguments = program.arguments();
  std::vector<std::string> environment = environment_with(handover);
  const std::vector<char*> argv = pointers_to(arguments);
  const std::vector<char*> envp = pointers_to(environment);
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) throw std::system_error(errno, std::generic_category(), "start the new program: fork");
  if (pid == 0) {
    bool inherited = inherit(other_end.get());
    for (const OfferedSocket& each : offered_sockets()) inherited = inherit(each.fd) && inherited;
    signals.restore();
    if (inherited) ::execve(program.file().c_str(), argv.data(), envp.data());
    const int error = errno;
    std::fprintf(stderr, "bight: error: start %s: %s\n", program.file().c_str(), std::strerror(error));
    std::_Exit(127);
  }
  pid_ = pid;
  word_ = std::move(word);
  deadline_ = deadline;
  state_ = State::starting;
}

void BinaryUpgrade::look(TimePoint time) noexcept {
  if (state_ == State::stopping && time >= deadline_) {
    ::kill(pid_, SIGKILL);
    deadline_ = TimePoint::max();
  }
  if (state_ != State::starting) return;
  char word = 0;
  const ssize_t count = ::read(word_.get(), &word, 1);
  if (count == 1) {
    state_ = State::ready;
    word_.reset();
    deadline_ = TimePoint::max();
  } else if (count == 0 || time >= deadline_) {  // it has gone, or closed its end without a word
    stop(time);
  }
}

void BinaryUpgrade::on_end() noexcept {
  pid_ = 0;
  word_.reset();
  deadline_ = TimePoint::max();
  if (state_ != State::ready) state_ = State::failed;
}

void BinaryUpgrade::stop(TimePoint time) noexcept {
  if (state_ != State::starting) return;
  ::kill(pid_, SIGTERM);
  word_.reset();
  deadline_ = saturating_add(time, kStopGrace);
  state_ = State::stopping;
}

void BinaryUpgrade::forget() noexcept { *this = BinaryUpgrade(); }

}  // namespace bight::detail
