// SPDX-License-Identifier: Apache-2.0
#include "idle_run.hpp"

#include <algorithm>

#include <sys/time.h>

namespace bench::load {
namespace {

constexpr time_t kPatience = 10;  // seconds for one step of one connection

void limit_waiting(int fd) {
  const timeval limit{.tv_sec = kPatience, .tv_usec = 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

}  // namespace

IdleRun::IdleRun(const Options& options, const Connecting& connecting) : options_(options) {
  sockets_.reserve(options.idle);
  for (std::uint32_t id = 0; id < options.idle; ++id) {
    sockets_.push_back(connecting.connected(id));
    limit_waiting(sockets_.back().get());
  }
}

void IdleRun::echo_once(const Pattern& pattern) const {
  for (std::uint32_t id = 0; id < sockets_.size(); ++id) echo(pattern, id);
}

// Sends and receives in pieces that fit socket buffers, for a blocking peer could otherwise wait for us as we for it.
void IdleRun::echo(const Pattern& pattern, std::uint32_t id) const {
  constexpr std::uint64_t kPiece = 16 * 1024;
  const int fd = sockets_[id].get();
  std::vector<char> answer(std::min(options_.size, kPiece));
  for (std::uint64_t position = 0; position < options_.size;) {
    const std::size_t length = std::min(options_.size - position, kPiece);
    const std::string where = "connection " + std::to_string(id) + ": ";
    if (::send(fd, pattern.at(id, position), length, MSG_NOSIGNAL) != static_cast<ssize_t>(length))
      fail(where + "send");
    const ssize_t received = ::recv(fd, answer.data(), length, MSG_WAITALL);
    if (received < 0) fail(where + "receive the echo");
    const std::span<const char> bytes(answer.data(), static_cast<std::size_t>(received));
    if (bytes.size() < length) throw std::runtime_error(where + "closed by the server before the whole echo");
    if (!pattern.matches(id, position, bytes)) throw std::runtime_error(where + "the echo differs from what was sent");
    position += length;
  }
}

}  // namespace bench::load
