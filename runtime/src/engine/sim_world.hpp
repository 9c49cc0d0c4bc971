// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include <bight/testing.hpp>

#include "engine/sim_calls.hpp"
#include "engine/sim_core.hpp"
#include "engine/sim_file_attempts.hpp"
#include "engine/sim_files.hpp"
#include "engine/sim_net.hpp"
#include "engine/sim_socket.hpp"
#include "engine/sim_udp.hpp"
#include "engine/sim_unix.hpp"

namespace bight::detail {

/// The engine that runs in a world, as the world sees it.
class SimOperations : public SimWaker {
 public:
  /// A retry, expire or file event.
  virtual void on_time(const SimEvent& event) noexcept = 0;
  /// Ends all that is under way.
  virtual void lose_power() noexcept = 0;
};

/// A simulated kernel and its network. Outlives the loops that run in it, one at a time.
class SimWorld {
 public:
  explicit SimWorld(const testing::SimOptions& options);

  void attach(SimOperations& operations) noexcept;
  void detach() noexcept;
  [[nodiscard]] bool in_run() const noexcept { return operations_ != nullptr; }

  /// Lets the next thing happen, if that is due by `until`. False: nothing is.
  bool step(TimePoint until) noexcept;
  /// With no loop in it: lets everything happen that is under way.
  void settle() noexcept;

  /// The power fails: descriptors and connections are gone, and of the files there is what the disk has. A loop that
  /// runs in the world finds that nothing works any more.
  void crash() noexcept;
  /// The same, when so many more operations on files have been carried out; in a run.
  void crash_after(std::uint64_t operations) noexcept { crash_at_ = core.counters().file_operations + operations; }
  [[nodiscard]] bool crash_is_due() const noexcept { return core.counters().file_operations >= crash_at_; }
  /// Who is told of a crash in a run, to end it.
  void (*on_crash)() noexcept = nullptr;

  [[nodiscard]] std::string leaks() const;

  SimCore core;
  SimDescriptors descriptors;
  SimNet net;
  SimUdp udp;
  SimUnix unix_sockets;
  SimCalls calls;
  SimFiles files;
  SimFileAttempts file_attempts;

 private:
  SimOperations* operations_ = nullptr;
  std::uint64_t crash_at_ = std::numeric_limits<std::uint64_t>::max();
};

}  // namespace bight::detail
