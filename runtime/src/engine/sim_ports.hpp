// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "engine/sim_address.hpp"
#include "engine/sim_core.hpp"
#include "engine/sim_socket.hpp"

namespace bight::detail {

/// Whether others may have the same address and port: SO_REUSEADDR, SO_REUSEPORT.
struct SimSharing {
  bool address = false;
  bool port = false;
};

[[nodiscard]] SimSharing sim_sharing(const SimSocket& socket) noexcept;

/// Who has which address and port, and who may have it as well: bind(2)'s rules. Bound sockets, connections, and
/// connections that were closed from this side less than a minute ago (TIME_WAIT) are in each other's way.
class SimPorts {
 public:
  explicit SimPorts(SimCore& core) noexcept : core_(core) {}

  /// Port 0 gets a free one. 0 or -EADDRINUSE.
  [[nodiscard]] int bind(SimSocket& socket, const SimAddress& wanted);
  void unbind(SimSocket& socket) noexcept;

  /// Whether somebody is in the way of this bound socket's listening: asked again, for options may have changed since
  /// it was bound.
  [[nodiscard]] bool in_the_way(const SimSocket& socket) const noexcept { return conflicts(socket, socket.local); }
  /// Who gets a connection to this address: who is bound to it exactly before who is bound to all; one of several by
  /// chance. Or null.
  [[nodiscard]] SimSocket* listener_for(const SimAddress& destination);

  /// Calls `visit` with each socket that gets what is sent to this address, and how well it fits: the higher the
  /// better.
  template <class F>
  void for_each_bound(const SimAddress& destination, F&& visit) const {
    const auto port = bound_.find(destination.port);
    if (port == bound_.end()) return;
    for (SimSocket* each : port->second) {
      if (const int score = fit(*each, destination); score > 0) visit(*each, score);
    }
  }

  /// A port to connect from, such that no connection with the same four numbers exists; 0 when there is none.
  [[nodiscard]] std::uint16_t port_towards(const SimAddress& local, const SimAddress& peer);

  // Connections: the client's end is the one that makes the four numbers unique.
  [[nodiscard]] bool claim(const SimAddress& local, const SimAddress& peer) {
    return pairs_.emplace(local, peer).second;
  }
  void give_up(const SimAddress& local, const SimAddress& peer) noexcept { pairs_.erase({local, peer}); }
  void hold(const SimAddress& local, SimSharing sharing);
  void let_go(const SimAddress& local, SimSharing sharing, bool time_wait) noexcept;

 private:
  /// The connections from one local address.
  struct Use {
    unsigned connections = 0;
    unsigned unshared_address = 0;  // of those, how many do not share it
    unsigned unshared_port = 0;
    TimePoint wait_until{};
    SimSharing wait_sharing{true, true};
  };

  [[nodiscard]] static int fit(const SimSocket& socket, const SimAddress& destination) noexcept;
  [[nodiscard]] bool conflicts(const SimSocket& socket, const SimAddress& wanted) const noexcept;
  [[nodiscard]] bool conflicts(const Use& use, SimSharing sharing) const noexcept;
  [[nodiscard]] bool unused(std::uint16_t port) const noexcept;
  [[nodiscard]] std::uint16_t free_port();

  SimCore& core_;
  std::map<std::uint16_t, std::vector<SimSocket*>> bound_;
  std::map<SimAddress, Use> uses_;
  std::set<std::pair<SimAddress, SimAddress>> pairs_;
};

}  // namespace bight::detail
