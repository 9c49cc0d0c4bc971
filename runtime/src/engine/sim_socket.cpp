// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_socket.hpp"

#include <utility>

namespace bight::detail {

SimSocket* SimDescriptors::open(std::size_t most, int family, int type, std::uint64_t serial,
                                const SimSocketOptions& options) {
  if (open_ >= most) return nullptr;
  const int fd = take_number();
  auto& socket = places_[static_cast<std::size_t>(fd - kFirst)].socket;
  socket = std::make_unique<SimSocket>(fd, serial, family, type, options);
  return socket.get();
}

int SimDescriptors::open_file(std::size_t most, SimDescription file) {
  if (open_ >= most) return -1;
  const int fd = take_number();
  places_[static_cast<std::size_t>(fd - kFirst)].file = std::make_unique<SimDescription>(std::move(file));
  return fd;
}

int SimDescriptors::take_number() {
  if (free_.empty()) {
    free_.push(kFirst + static_cast<int>(places_.size()));
    places_.emplace_back();
  }
  const int fd = free_.top();
  free_.pop();
  ++open_;
  return fd;
}

void SimDescriptors::close(int fd) noexcept {
  places_[static_cast<std::size_t>(fd - kFirst)] = {};
  free_.push(fd);
  --open_;
}

}  // namespace bight::detail
