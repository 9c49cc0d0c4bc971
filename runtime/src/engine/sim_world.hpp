// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include <bight/testing.hpp>

#include "engine/sim_calls.hpp"
#include "engine/sim_core.hpp"
#include "engine/sim_net.hpp"
#include "engine/sim_socket.hpp"
#include "engine/sim_udp.hpp"
#include "engine/sim_unix.hpp"

namespace bight::detail {

/// The engine that runs in a world, as the world sees it.
class SimOperations : public SimWaker {
 public:
  /// A retry or expire event.
  virtual void on_time(const SimEvent& event) noexcept = 0;
};

/// A simulated kernel and its network. Outlives the loops that run in it, one at a time.
class SimWorld {
 public:
  explicit SimWorld(const testing::SimOptions& options);

  void attach(SimOperations& operations) noexcept;
  void detach() noexcept;

  /// Lets the next thing happen, if that is due by `until`. False: nothing is.
  bool step(TimePoint until) noexcept;
  /// With no loop in it: lets everything happen that is under way.
  void settle() noexcept;

  [[nodiscard]] std::string leaks() const;

  SimCore core;
  SimDescriptors descriptors;
  SimNet net;
  SimUdp udp;
  SimUnix unix_sockets;
  SimCalls calls;

 private:
  SimOperations* operations_ = nullptr;
};

}  // namespace bight::detail
