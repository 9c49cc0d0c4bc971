// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include <bight/time.hpp>

#include "engine/sim_address.hpp"
#include "engine/sim_core.hpp"
#include "engine/sim_net.hpp"
#include "engine/sim_ports.hpp"
#include "engine/sim_socket.hpp"

namespace bight::detail {

struct SimDatagram {
  SimAddress from;
  SimAddress to;
  std::vector<std::byte> data;
};

/// What a UDP socket has beside its bound address.
struct SimUdpEnd {
  std::optional<SimAddress> peer;  // connected: sends to it, and hears nobody else
  int error = 0;                   // positive; told once
  bool read_shut = false;
  bool write_shut = false;
  std::deque<SimDatagram> queue;
  std::size_t queued = 0;   // bytes, with what the kernel's own bookkeeping takes
  std::size_t on_wire = 0;  // bytes that have been sent and are on their way
  std::vector<SimAddress> groups;
  TimePoint wire_busy_until{};
  TimePoint last_arrival{};
};

/// The UDP of the simulated kernel, and the network between its sockets. Everything is on one host, so whatever has
/// been sent arrives, unless a fault takes it, or there is no room for it where it arrives. Those who have joined a
/// group get what is sent to it, at any interface.
class SimUdp {
 public:
  static constexpr int kNoMembership = kSimWait;  // set_membership: it is some other option

  SimUdp(SimCore& core, SimDescriptors& descriptors) noexcept : core_(core), descriptors_(descriptors), ports_(core) {}

  void set_waker(SimWaker* waker) noexcept { waker_ = waker; }
  [[nodiscard]] SimPorts& ports() noexcept { return ports_; }

  // What the system calls ask for: their results, -errno, or kSimWait.

  void open(SimSocket& socket);
  [[nodiscard]] int connect(SimSocket& socket, const ::sockaddr* address, ::socklen_t length);
  [[nodiscard]] int send(SimSocket& socket, const ::msghdr& message);
  [[nodiscard]] int receive(SimSocket& socket, ::msghdr& message, int flags);
  [[nodiscard]] int shutdown(SimSocket& socket, int how);
  [[nodiscard]] static int set_membership(SimSocket& socket, int level, int name, const void* value,
                                          ::socklen_t length);
  void close(SimSocket& socket) { ports_.unbind(socket); }
  [[nodiscard]] static bool readable(const SimSocket& socket) noexcept;
  [[nodiscard]] static bool writable(const SimSocket& socket) noexcept;

  // What the clock brings.

  void arrive(std::uint32_t number, std::uint64_t serial);

 private:
  /// One on its way; or the news of its fate on the way back.
  struct Flight {
    std::uint64_t serial = 0;  // 0: free
    int sender = -1;
    std::uint64_t sender_serial = 0;
    bool came_back = false;
    bool counted = false;  // among the sender's on_wire
    SimDatagram datagram;
  };

  [[nodiscard]] int destination_of(SimSocket& socket, const ::msghdr& message, SimAddress& to) const;
  [[nodiscard]] int source_of(SimSocket& socket, const ::msghdr& message, SimAddress& from, const SimAddress& to);
  void launch(SimSocket& socket, SimDatagram datagram);
  void schedule(Flight flight, TimePoint when);
  void deliver(const Flight& flight);
  [[nodiscard]] std::vector<SimSocket*> receivers_of(const SimDatagram& datagram);
  void put(SimSocket& socket, const SimDatagram& datagram);
  void poke(SimSocket& socket, SimDirection direction) noexcept {
    if (waker_ != nullptr) waker_->poke(socket, direction);
  }

  SimCore& core_;
  SimDescriptors& descriptors_;
  SimPorts ports_;
  SimWaker* waker_ = nullptr;
  std::vector<Flight> flights_;
  std::vector<std::uint32_t> free_;
};

}  // namespace bight::detail
