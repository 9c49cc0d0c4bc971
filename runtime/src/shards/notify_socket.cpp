// SPDX-License-Identifier: Apache-2.0
#include "shards/notify_socket.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>

#include <bight/log.hpp>

namespace bight::detail {
namespace {

const char* environment(const char* name) noexcept {
  return std::getenv(name);  // NOLINT(concurrency-mt-unsafe): there are no threads yet
}

std::optional<std::uint64_t> number_in(const char* name) noexcept {
  const char* text = environment(name);
  if (text == nullptr) return std::nullopt;
  std::uint64_t number = 0;
  const char* last = text + std::strlen(text);
  const auto [end, error] = std::from_chars(text, last, number);
  if (error != std::errc{} || end != last) return std::nullopt;
  return number;
}

}  // namespace

NotifySocket::NotifySocket(bool upgraded) noexcept {
  const char* path = environment("NOTIFY_SOCKET");
  if (path == nullptr || (path[0] != '/' && path[0] != '@') || path[1] == '\0') return;
  if (std::strlen(path) >= sizeof(sockaddr_un::sun_path)) {
    log_warning("NOTIFY_SOCKET names a path that is too long for a socket: nobody is told how the service does");
    return;
  }
  try {
    path_ = path;
  } catch (...) {
    return;
  }
  socket_ = Fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto pid = number_in("WATCHDOG_PID");
  if (pid && !upgraded && *pid != static_cast<std::uint64_t>(::getpid())) return;
  if (const auto period = number_in("WATCHDOG_USEC")) watchdog_ = std::chrono::microseconds(*period);
}

void NotifySocket::send(std::string_view lines) const noexcept {
  if (!socket_) return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path_.copy(address.sun_path, sizeof address.sun_path - 1);
  std::size_t length = offsetof(sockaddr_un, sun_path) + path_.size();
  if (path_.front() == '@') {
    address.sun_path[0] = '\0';
  } else {
    ++length;
  }
  [[maybe_unused]] const auto sent =
      ::sendto(socket_.get(), lines.data(), lines.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address),
               static_cast<socklen_t>(length));
}

std::string monotonic_usec() {
  const auto time = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now().time_since_epoch());
  return "MONOTONIC_USEC=" + std::to_string(time.count());
}

}  // namespace bight::detail
