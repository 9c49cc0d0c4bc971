// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_world.hpp"

#include <vector>

#include <bight/check.hpp>

namespace bight::detail {
namespace {

std::string describe(const SimSocket& socket) {
  std::string text = "descriptor " + std::to_string(socket.fd) + ": ";
  if (socket.pipe != nullptr) return text + (socket.pipe->reader == &socket ? "reads a pipe" : "writes a pipe");
  if (socket.unix_end != nullptr) return text + socket.unix_end->describe();
  if (socket.udp != nullptr) return text + "a datagram socket at " + socket.local.to_string();
  if (socket.listening) return text + "listens on " + socket.local.to_string();
  if (socket.end == nullptr) return text + (socket.bound ? "bound to " + socket.local.to_string() : "a new socket");
  const SimConnection& connection = *socket.end->connection;
  const bool client = socket.end->side == 0;
  return text + "from " + socket.end->local.to_string() + (client ? " connected to " : " accepted from ") +
         (client ? connection.server : connection.client).to_string();
}

}  // namespace

SimWorld::SimWorld(const testing::SimOptions& options)
    : core(options),
      net(core, descriptors),
      udp(core, descriptors),
      unix_sockets(core, descriptors),
      calls(core, descriptors, net, udp, unix_sockets),
      files(core, descriptors),
      file_attempts(core, files, descriptors) {}

void SimWorld::attach(SimOperations& operations) noexcept {
  BIGHT_CHECK(operations_ == nullptr, "a loop runs in this simulated world already: one at a time");
  operations_ = &operations;
  net.set_waker(&operations);
  udp.set_waker(&operations);
}

void SimWorld::detach() noexcept {
  operations_ = nullptr;
  core.set_powered(true);
  net.set_waker(nullptr);
  udp.set_waker(nullptr);
}

bool SimWorld::step(TimePoint until) noexcept {
  SimEvent event;
  if (!core.take_event(until, event)) return false;
  switch (event.kind) {
    case SimEvent::Kind::arrive: net.arrive(event.number, event.serial, event.side); break;
    case SimEvent::Kind::repeat_syn: net.repeat_syn(event.number, event.serial); break;
    case SimEvent::Kind::datagram: udp.arrive(event.number, event.serial); break;
    case SimEvent::Kind::retry:
    case SimEvent::Kind::expire:
    case SimEvent::Kind::file:
      if (operations_ != nullptr) operations_->on_time(event);
      break;
    case SimEvent::Kind::stir:
      if (SimSocket* socket = descriptors.find(static_cast<int>(event.number), event.serial)) {
        net.poke(*socket, static_cast<SimDirection>(event.side));
      }
      break;
  }
  return true;
}

void SimWorld::settle() noexcept {
  while (step(TimePoint::max())) {
  }
}

void SimWorld::crash() noexcept {
  crash_at_ = std::numeric_limits<std::uint64_t>::max();
  ++core.counters().crashes;
  core.note(SimNote::crashed, 0, 0);
  const bool in_run = operations_ != nullptr;
  if (in_run) operations_->lose_power();
  std::vector<int> sockets;
  descriptors.for_each([&](const SimSocket& socket) { sockets.push_back(socket.fd); });
  for (const int fd : sockets) calls.close(fd);
  const SimOutage outage(core.random());
  files.crash(core.random(), outage.names_kept, outage.survival);
  core.set_powered(!in_run);
  if (in_run && on_crash != nullptr) on_crash();
}

std::string SimWorld::leaks() const {
  std::string text;
  descriptors.for_each([&](const SimSocket& socket) { text += describe(socket) + "\n"; });
  descriptors.for_each_file([&](int fd, const SimDescription& file) {
    text += "descriptor " + std::to_string(fd) + ": the file " + file.path + "\n";
  });
  if (const std::size_t count = net.orphans(); count != 0) {
    text += std::to_string(count) + " connections that no descriptor stands for have not come to their end\n";
  }
  return text;
}

}  // namespace bight::detail
