// SPDX-License-Identifier: Apache-2.0
#include <bight/passed_sockets.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "shards/handover.hpp"

// The environment is read and changed here, which is for programs without threads: run_shards checks that.
// NOLINTBEGIN(concurrency-mt-unsafe)

namespace bight {
namespace detail {
namespace {

constexpr int kFirstPassed = 3;  // SD_LISTEN_FDS_START
constexpr int kPassedMax = 4096;

struct Came {
  std::string name;
  Fd fd;
  bool from_manager;
};

struct Registry {
  Registry();
  std::vector<Came> came;
  std::vector<OfferedSocket> offered;
  Predecessor predecessor;

 private:
  void read_systemd();
  void read_predecessor();
};

template <class Number>
std::optional<Number> number_from(std::string_view text) noexcept {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::optional<std::string> take_from_environment(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  std::string value = text;
  ::unsetenv(name);
  return value;
}

/// The part before the next `separator`, which goes with it.
std::string_view next_part(std::string_view& text, char separator) noexcept {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

bool keep_to_ourselves(int fd) noexcept {
  const int flags = ::fcntl(fd, F_GETFD);
  return flags >= 0 && ::fcntl(fd, F_SETFD, flags | FD_CLOEXEC) == 0;
}

Registry::Registry() {
  read_systemd();
  read_predecessor();
}

/// sd_listen_fds(3): LISTEN_PID says for whom, LISTEN_FDS how many from 3 on, LISTEN_FDNAMES what they are called.
void Registry::read_systemd() {
  const auto pid = take_from_environment("LISTEN_PID");
  const auto count = take_from_environment("LISTEN_FDS");
  const std::string names = take_from_environment("LISTEN_FDNAMES").value_or("");
  if (!pid || !count || number_from<pid_t>(*pid) != ::getpid()) return;
  const int how_many = std::clamp(number_from<int>(*count).value_or(0), 0, kPassedMax);
  std::string_view left = names;
  for (int fd = kFirstPassed; fd < kFirstPassed + how_many; ++fd) {
    const std::string_view name = next_part(left, ':');
    if (keep_to_ourselves(fd)) came.push_back({std::string(name), Fd(fd), true});
  }
}

/// What Predecessor's text in the environment says: "PID;READY_FD;FD=NAME;FD=NAME".
void Registry::read_predecessor() {
  const auto text = take_from_environment(kHandoverVariable);
  if (!text) return;
  std::string_view left = *text;
  const auto pid = number_from<pid_t>(next_part(left, ';'));
  const auto ready = number_from<int>(next_part(left, ';'));
  if (!pid || !ready || *pid != ::getppid()) return;  // meant for somebody else
  predecessor.pid = *pid;
  if (keep_to_ourselves(*ready)) predecessor.ready = Fd(*ready);
  while (!left.empty()) {
    std::string_view name = next_part(left, ';');
    const auto fd = number_from<int>(next_part(name, '='));
    if (fd && keep_to_ourselves(*fd)) came.push_back({std::string(name), Fd(*fd), false});
  }
}

Registry& registry() {
  static Registry all;
  return all;
}

}  // namespace

Predecessor& predecessor() { return registry().predecessor; }

const std::vector<OfferedSocket>& offered_sockets() { return registry().offered; }

std::size_t close_untaken_sockets() {
  const std::size_t count = registry().came.size();
  registry().came.clear();
  return count;
}

}  // namespace detail

namespace passed_sockets {
namespace {

template <class Fits>
Fd take_first(Fits&& fits) {
  auto& came = detail::registry().came;
  const auto found = std::find_if(came.begin(), came.end(), fits);
  if (found == came.end()) return {};
  Fd fd = std::move(found->fd);
  came.erase(found);
  return fd;
}

}  // namespace

Fd take(std::string_view name) {
  return take_first([&](const detail::Came& each) { return each.name == name; });
}

Fd take_if(const std::function<bool(int fd)>& fits) {
  return take_first([&](const detail::Came& each) { return each.from_manager && fits(each.fd.get()); });
}

void offer(std::string name, int fd) { detail::registry().offered.push_back({std::move(name), fd}); }

void withdraw(int fd) noexcept {
  std::erase_if(detail::registry().offered, [fd](const auto& each) { return each.fd == fd; });
}

}  // namespace passed_sockets
}  // namespace bight

// NOLINTEND(concurrency-mt-unsafe)
