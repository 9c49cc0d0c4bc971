// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_ports.hpp"

#include <algorithm>
#include <cerrno>

namespace bight::detail {
namespace {

// Linux's net.ipv4.ip_local_port_range and TCP_TIMEWAIT_LEN.
constexpr std::uint16_t kPortFirst = 32768;
constexpr std::uint16_t kPortLast = 60999;
constexpr unsigned kPorts = kPortLast - kPortFirst + 1;
constexpr Duration kTimeWait = std::chrono::seconds(60);

/// Whether a socket bound to `bound` gets what is sent to `address`.
bool covers(const SimAddress& bound, bool v6only, const SimAddress& address) noexcept {
  if (bound.ip == address.ip) return true;
  if (bound.is_any_v6()) return !v6only || !address.is_v4();
  return bound.is_any() && address.is_v4();
}

bool overlap(const SimSocket& a, const SimAddress& a_local, const SimSocket& b) noexcept {
  const bool a_only = a.options.v6only();
  const bool b_only = b.options.v6only();
  return covers(a_local, a_only, b.local) || covers(b.local, b_only, a_local);
}

/// From here on, a port range is walked round once.
std::uint16_t nth_port(std::uint64_t start, unsigned n) noexcept {
  return static_cast<std::uint16_t>(kPortFirst + (start + n) % kPorts);
}

}  // namespace

SimSharing sim_sharing(const SimSocket& socket) noexcept {
  return {socket.options.reuse_address(), socket.options.reuse_port()};
}

int SimPorts::bind(SimSocket& socket, const SimAddress& wanted) {
  SimAddress address = wanted;
  if (address.port == 0) address.port = free_port();
  if (address.port == 0 || conflicts(socket, address)) return -EADDRINUSE;
  bound_[address.port].push_back(&socket);
  socket.local = address;
  socket.bound = true;
  socket.port_given = wanted.port != 0;
  return 0;
}

void SimPorts::unbind(SimSocket& socket) noexcept {
  if (!socket.bound) return;
  const auto port = bound_.find(socket.local.port);
  std::erase(port->second, &socket);
  if (port->second.empty()) bound_.erase(port);
  socket.bound = false;
}

/// 0: not at all.
int SimPorts::fit(const SimSocket& socket, const SimAddress& destination) noexcept {
  if (!covers(socket.local, socket.options.v6only(), destination)) return 0;
  return socket.local.ip == destination.ip ? 3 : (socket.local.is_any_v6() ? 1 : 2);
}

SimSocket* SimPorts::listener_for(const SimAddress& destination) {
  int best = 0;
  std::vector<SimSocket*> candidates;
  for_each_bound(destination, [&](SimSocket& each, int score) {
    if (!each.listening) return;
    if (score > best) candidates.clear();
    best = std::max(best, score);
    if (score == best) candidates.push_back(&each);
  });
  if (candidates.empty()) return nullptr;
  return candidates[candidates.size() == 1 ? 0 : core_.random().between(0, candidates.size() - 1)];
}

std::uint16_t SimPorts::port_towards(const SimAddress& local, const SimAddress& peer) {
  const std::uint64_t start = core_.random().between(0, kPorts - 1);
  for (unsigned n = 0; n < kPorts; ++n) {
    const std::uint16_t port = nth_port(start, n);
    if (!bound_.contains(port) && !pairs_.contains({local.with_port(port), peer})) return port;
  }
  return 0;
}

void SimPorts::hold(const SimAddress& local, SimSharing sharing) {
  Use& use = uses_[local];
  ++use.connections;
  if (!sharing.address) ++use.unshared_address;
  if (!sharing.port) ++use.unshared_port;
}

void SimPorts::let_go(const SimAddress& local, SimSharing sharing, bool time_wait) noexcept {
  const auto found = uses_.find(local);
  Use& use = found->second;
  --use.connections;
  if (!sharing.address) --use.unshared_address;
  if (!sharing.port) --use.unshared_port;
  if (time_wait) {
    if (use.wait_until <= core_.now()) use.wait_sharing = {true, true};
    use.wait_until = core_.now() + kTimeWait;
    use.wait_sharing.address = use.wait_sharing.address && sharing.address;
    use.wait_sharing.port = use.wait_sharing.port && sharing.port;
  } else if (use.connections == 0 && use.wait_until <= core_.now()) {
    uses_.erase(found);
  }
}

bool SimPorts::conflicts(const SimSocket& socket, const SimAddress& wanted) const noexcept {
  const SimSharing sharing = sim_sharing(socket);
  if (const auto port = bound_.find(wanted.port); port != bound_.end()) {
    for (const SimSocket* other : port->second) {
      if (other == &socket || !overlap(socket, wanted, *other)) continue;
      const SimSharing others = sim_sharing(*other);
      if (sharing.port && others.port) continue;
      if (!sharing.address || !others.address || other->listening) return true;
    }
  }
  const bool v6only = socket.options.v6only();
  for (auto use = uses_.lower_bound(SimAddress{wanted.port}); use != uses_.end() && use->first.port == wanted.port;
       ++use) {
    if (covers(wanted, v6only, use->first) && conflicts(use->second, sharing)) return true;
  }
  return false;
}

bool SimPorts::conflicts(const Use& use, SimSharing sharing) const noexcept {
  const bool by_connection = use.connections > 0 && !(sharing.address && use.unshared_address == 0) &&
                             !(sharing.port && use.unshared_port == 0);
  const bool by_wait = use.wait_until > core_.now() && !(sharing.address && use.wait_sharing.address) &&
                       !(sharing.port && use.wait_sharing.port);
  return by_connection || by_wait;
}

bool SimPorts::unused(std::uint16_t port) const noexcept {
  if (bound_.contains(port)) return false;
  for (auto use = uses_.lower_bound(SimAddress{port}); use != uses_.end() && use->first.port == port; ++use) {
    if (use->second.connections > 0 || use->second.wait_until > core_.now()) return false;
  }
  return true;
}

std::uint16_t SimPorts::free_port() {
  const std::uint64_t start = core_.random().between(0, kPorts - 1);
  for (unsigned n = 0; n < kPorts; ++n) {
    if (const std::uint16_t port = nth_port(start, n); unused(port)) return port;
  }
  return 0;
}

}  // namespace bight::detail
