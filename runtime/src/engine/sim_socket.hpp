// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>

#include <climits>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <queue>
#include <vector>

#include "engine/sim_address.hpp"
#include "engine/sim_core.hpp"
#include "engine/sim_description.hpp"
#include "engine/sim_options.hpp"
#include "engine/sim_pipe.hpp"

namespace bight::detail {

struct Op;
struct SimEnd;
struct SimUdpEnd;
struct SimUnixEnd;

inline constexpr int kSimWait = INT_MIN;  // an attempt's outcome: not yet

/// The operation that waits on a socket in one direction.
struct SimSlot {
  Op* op = nullptr;
  std::uint32_t ticket = 0;  // counts the delays of this slot, so that an event meant for an earlier one can be told
  bool delayed = false;      // not to be tried again before its retry event
};

/// What a descriptor of the simulated kernel stands for, unless it is a file.
struct SimSocket {
  SimSocket(int number, std::uint64_t nth, int address_family, int socket_type, const SimSocketOptions& with) noexcept
      : fd(number),
        family(address_family),
        type(socket_type),
        serial(nth),
        options(with),
        local(SimAddress::any(address_family)) {}

  [[nodiscard]] SimSlot& slot(SimDirection direction) noexcept { return slots[static_cast<std::size_t>(direction)]; }

  const int fd;
  const int family;
  const int type;  // SOCK_STREAM …
  const std::uint64_t serial;
  SimSocketOptions options;
  SimSlot slots[2];

  // Bound: `local` has a port that is registered.
  bool bound = false;
  bool port_given = false;  // by the program; one that the kernel has found is lost when the socket ceases to listen
  SimAddress local;

  // Listening.
  bool listening = false;
  std::size_t backlog = 0;
  std::size_t handshakes = 0;  // connections on their way into the queue
  std::deque<SimEnd*> queue;

  // Connecting, connected, or having been.
  SimEnd* end = nullptr;
  bool connect_reported = false;  // somebody has been told that it is connected

  // What a datagram socket has, what a Unix socket has; of TCP's, only the bound address is used beside the former.
  std::shared_ptr<SimUdpEnd> udp;
  std::shared_ptr<SimUnixEnd> unix_end;

  // One end of a pipe, and not a socket at all.
  std::shared_ptr<SimPipe> pipe;
};

/// Has whoever waits on the socket look at it anew, as soon as what happens now has happened.
inline void sim_stir(SimCore& core, const SimSocket& socket, SimDirection direction) {
  SimEvent event;
  event.kind = SimEvent::Kind::stir;
  event.when = core.now();
  event.number = static_cast<std::uint32_t>(socket.fd);
  event.serial = socket.serial;
  event.side = static_cast<std::uint8_t>(direction);
  core.schedule(event);
}

/// The open descriptors: like the kernel's, a new one gets the lowest free number, so that a number's old and new
/// meaning get mixed up here if they ever do. Sockets and files share the numbers.
class SimDescriptors {
 public:
  static constexpr int kFirst = 1000;

  /// Null: there are `most` of them already.
  SimSocket* open(std::size_t most, int family, int type, std::uint64_t serial, const SimSocketOptions& options);
  /// The number; -1 for the same reason.
  int open_file(std::size_t most, SimDescription file);
  void close(int fd) noexcept;

  [[nodiscard]] SimSocket* find(int fd) const noexcept {
    const auto index = static_cast<std::size_t>(fd - kFirst);
    return fd >= kFirst && index < places_.size() ? places_[index].socket.get() : nullptr;
  }
  [[nodiscard]] SimDescription* find_file(int fd) const noexcept {
    const auto index = static_cast<std::size_t>(fd - kFirst);
    return fd >= kFirst && index < places_.size() ? places_[index].file.get() : nullptr;
  }
  /// The same, unless the number has changed hands since.
  [[nodiscard]] SimSocket* find(int fd, std::uint64_t serial) const noexcept {
    SimSocket* socket = find(fd);
    return socket != nullptr && socket->serial == serial ? socket : nullptr;
  }
  [[nodiscard]] std::size_t count() const noexcept { return open_; }

  template <class F>
  void for_each(F&& visit) const {
    for (const Place& each : places_) {
      if (each.socket != nullptr) visit(*each.socket);
    }
  }
  /// With the number, and the file.
  template <class F>
  void for_each_file(F&& visit) const {
    int fd = kFirst;
    for (const Place& each : places_) {
      if (each.file != nullptr) visit(fd, *each.file);
      ++fd;
    }
  }

 private:
  struct Place {  // one of the two, or neither
    std::unique_ptr<SimSocket> socket;
    std::unique_ptr<SimDescription> file;
  };

  [[nodiscard]] int take_number();

  std::vector<Place> places_;
  std::priority_queue<int, std::vector<int>, std::greater<>> free_;
  std::size_t open_ = 0;
};

}  // namespace bight::detail
