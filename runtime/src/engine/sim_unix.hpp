// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/sim_bytes.hpp"
#include "engine/sim_core.hpp"
#include "engine/sim_socket.hpp"

namespace bight::detail {

/// A Unix socket of the kernel's, which may be there before its descriptor (in a listener's queue).
struct SimUnixEnd {
  struct Message {
    std::string from;
    std::vector<std::byte> data;
  };

  [[nodiscard]] std::string describe() const;
  [[nodiscard]] bool has_data() const noexcept { return !bytes.empty() || !messages.empty(); }

  std::uint64_t id = 0;
  int type = SOCK_STREAM;
  SimSocket* socket = nullptr;
  std::string name;  // as in sun_path, without a zero at the end; abstract: with the one at its beginning; empty: none
  std::weak_ptr<SimUnixEnd> peer;
  bool connected = false;  // has a peer, or had one that is gone
  bool listening = false;
  std::size_t backlog = 0;
  std::deque<std::shared_ptr<SimUnixEnd>> queue;
  SimBytes bytes;                // stream: what has come
  std::deque<Message> messages;  // the others
  std::size_t queued = 0;        // bytes of messages
  std::size_t send_limit = 0;
  bool peer_ended = false;  // stream, seqpacket: no more will come
  bool read_shut = false;
  bool write_shut = false;
  int error = 0;  // positive; told once
};

void sim_write_name(const std::string& name, ::sockaddr* address, ::socklen_t* length) noexcept;

/// Unix sockets: streams, datagrams, and streams of packets, within one host, so that everything arrives at once.
/// Path names are just texts, compared byte by byte. Descriptors can not be passed.
class SimUnix {
 public:
  SimUnix(SimCore& core, SimDescriptors& descriptors) noexcept : core_(core), descriptors_(descriptors) {}

  // What the system calls ask for: their results, -errno, or kSimWait.

  static void open(SimSocket& socket);
  static void join(SimSocket& a, SimSocket& b);
  [[nodiscard]] int bind(SimSocket& socket, const ::sockaddr* address, ::socklen_t length);
  [[nodiscard]] static int listen(SimSocket& socket, int backlog);
  [[nodiscard]] int connect(SimSocket& socket, const ::sockaddr* address, ::socklen_t length);
  /// Hands over the connection that waits longest, which there has to be.
  void accept(SimSocket& listener, SimSocket& into);
  [[nodiscard]] int send(SimSocket& socket, const ::msghdr& message);
  [[nodiscard]] int receive(SimSocket& socket, ::msghdr& message, int flags);
  [[nodiscard]] int shutdown(SimSocket& socket, int how);
  void close(SimSocket& socket);
  [[nodiscard]] int remove_name(const char* path) noexcept;
  [[nodiscard]] static int peer_name(const SimSocket& socket, ::sockaddr* address, ::socklen_t* length) noexcept;
  [[nodiscard]] static int credentials(const SimSocket& socket, void* value, ::socklen_t* length) noexcept;
  [[nodiscard]] static bool readable(const SimSocket& socket) noexcept;
  [[nodiscard]] bool writable(const SimSocket& socket) const noexcept;

 private:
  [[nodiscard]] int find(const std::string& name, int type, std::shared_ptr<SimUnixEnd>& found) const;
  [[nodiscard]] std::string unused_name();
  [[nodiscard]] int connect_stream(SimSocket& socket, const std::shared_ptr<SimUnixEnd>& listener);
  [[nodiscard]] int send_stream(SimUnixEnd& end, SimUnixEnd& peer, const ::msghdr& message);
  [[nodiscard]] int send_one(SimUnixEnd& end, SimUnixEnd& peer, const ::msghdr& message);
  [[nodiscard]] int target_of(SimUnixEnd& end, const ::msghdr& message, std::shared_ptr<SimUnixEnd>& target) const;
  [[nodiscard]] int receive_bytes(SimUnixEnd& end, ::msghdr& message, int flags);
  [[nodiscard]] int receive_one(SimUnixEnd& end, ::msghdr& message, int flags);
  void end_of(SimUnixEnd& end);
  [[nodiscard]] std::size_t shorten(std::size_t count, double probability, std::uint64_t& counter) noexcept;
  void stir(const SimUnixEnd& end, SimDirection direction);
  void stir_senders();

  SimCore& core_;
  SimDescriptors& descriptors_;
  std::map<std::string, std::weak_ptr<SimUnixEnd>> names_;  // a path's stays when its socket has gone
};

}  // namespace bight::detail
