// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_socket.hpp"

namespace bight::detail {

SimSocket* SimDescriptors::open(std::size_t most, int family, int type, std::uint64_t serial,
                                const SimSocketOptions& options) {
  if (open_ >= most) return nullptr;
  if (free_.empty()) {
    free_.push(kFirst + static_cast<int>(sockets_.size()));
    sockets_.emplace_back();
  }
  const int fd = free_.top();
  auto& place = sockets_[static_cast<std::size_t>(fd - kFirst)];
  place = std::make_unique<SimSocket>(fd, serial, family, type, options);
  free_.pop();
  ++open_;
  return place.get();
}

void SimDescriptors::close(int fd) noexcept {
  sockets_[static_cast<std::size_t>(fd - kFirst)].reset();
  free_.push(fd);
  --open_;
}

}  // namespace bight::detail
