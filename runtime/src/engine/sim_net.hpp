// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/sim_address.hpp"
#include "engine/sim_bytes.hpp"
#include "engine/sim_core.hpp"
#include "engine/sim_ports.hpp"
#include "engine/sim_socket.hpp"

namespace bight::detail {

struct SimConnection;

/// What travels from one end of a connection to the other, in order.
struct SimSegment {
  enum class Kind : std::uint8_t { syn, syn_ack, open, data, acknowledge, fin, reset };

  Kind kind;
  bool fin = false;        // acknowledge: of the end of the stream as well
  std::size_t freed = 0;   // acknowledge: bytes that have arrived
  std::size_t credit = 0;  // syn, syn_ack, acknowledge: bytes that may be sent, in addition
  std::vector<std::byte> data{};
  TimePoint arrival{};
};

/// One end of a connection: a TCP socket of the kernel's, which may be there before its descriptor (in a listener's
/// queue) and after it (until the peer has everything).
struct SimEnd {
  enum class State : std::uint8_t {
    absent,       // the server's, before the request has come
    connecting,   // the client's, until it is answered
    handshaking,  // the server's, until the answer is acknowledged
    established,  // also when one side of it, or both, have been shut down
    closed,       // both sides ended and acknowledged, or reset, or refused
  };

  [[nodiscard]] SimEnd& peer() const noexcept;
  /// Whether the peer, or shutdown(2), has ended what there is to read. What has come before can still be read.
  [[nodiscard]] bool read_ended() const noexcept { return fin_received || read_shut || state == State::closed; }
  [[nodiscard]] std::size_t send_room() const noexcept {
    const std::size_t used = unsent.size() + unacknowledged;
    return used < send_limit ? send_limit - used : 0;
  }

  void size_buffers(const SimSocketOptions& options) noexcept {
    send_limit = options.send_buffer();
    receive_limit = options.receive_buffer();
    granted = receive_limit;
  }

  SimConnection* connection = nullptr;
  std::uint8_t side = 0;
  State state = State::absent;
  bool opened = false;  // has ever been established
  int error = 0;        // positive; told once, to whoever asks first

  SimSocket* socket = nullptr;
  bool queued = false;  // in a listener's queue
  int listener = -1;    // handshaking: whose queue it will go to
  std::uint64_t listener_serial = 0;
  std::optional<SimSocketOptions> inherited;  // from the listener, as they were when the connection was made
  SimAddress local;
  SimSharing sharing;

  // To the peer.
  SimBytes unsent;
  std::size_t unacknowledged = 0;  // bytes of data on the wire
  std::size_t credit = 0;          // bytes of data that the peer has room for
  std::size_t send_limit = 0;
  bool write_shut = false;
  bool fin_sent = false;
  bool fin_acknowledged = false;
  std::deque<SimSegment> wire;
  TimePoint wire_busy_until{};  // the last segment has left by then
  TimePoint last_arrival{};

  // From the peer.
  SimBytes received;
  std::size_t receive_limit = 0;
  std::size_t granted = 0;  // credit given to the peer that it has not used up, as far as has been seen here
  std::size_t freed = 0;    // bytes that arrived and are yet to be acknowledged
  bool fin_received = false;
  bool ended_first = false;  // and ours had been ended before: this end is the one to wait in TIME_WAIT
  bool fin_to_acknowledge = false;
  bool acknowledge_on_wire = false;
  bool read_shut = false;
};

struct SimConnection {
  std::uint64_t serial = 0;
  std::uint32_t number = 0;
  unsigned syns = 0;   // sent so far
  unsigned holds = 0;  // functions at work on it: not to be freed under them
  bool claimed = false;
  bool doomed = false;  // torn down on the way: nothing more is sent
  SimAddress client;
  SimAddress server;
  std::array<SimEnd, 2> ends;  // the client's, the server's
};

inline SimEnd& SimEnd::peer() const noexcept { return connection->ends[1U - side]; }

/// Who wants to know that a socket may have become readable or writable.
class SimWaker {
 public:
  virtual ~SimWaker() = default;
  virtual void poke(SimSocket& socket, SimDirection direction) noexcept = 0;
};

/// The TCP of the simulated kernel, and the network between its ends. Knows sockets, not system calls or operations.
///
/// A connection is two ends and a wire each way; all they know of each other they learn from segments, each of which
/// takes its time.
class SimNet {
 public:
  SimNet(SimCore& core, SimDescriptors& descriptors) noexcept : core_(core), descriptors_(descriptors), ports_(core) {}

  void set_waker(SimWaker* waker) noexcept { waker_ = waker; }
  [[nodiscard]] SimPorts& ports() noexcept { return ports_; }
  void poke(SimSocket& socket, SimDirection direction) noexcept {
    if (waker_ != nullptr) waker_->poke(socket, direction);
  }

  // What the system calls ask for.

  /// Sends the request; the outcome shows in the end's state. 0 or -errno.
  [[nodiscard]] int connect(SimSocket& socket, SimAddress peer);
  /// Forgets an attempt that has failed, so that the socket can try again.
  void drop_failed(SimSocket& socket) noexcept;
  /// Hands over the connection that waits longest, which there has to be.
  void accept(SimSocket& listener, SimSocket& into) noexcept;
  /// The same, but resets it.
  void abort_first(SimSocket& listener);
  /// The first `count` bytes of the pieces, which there has to be room for.
  void send(SimEnd& end, std::span<const ::iovec> pieces, std::size_t count);
  std::size_t receive(SimEnd& end, std::span<std::byte> buffer);
  void shut_write(SimEnd& end);
  void shut_read(SimEnd& end) noexcept;
  /// The descriptor goes away; the connection takes its course.
  void close(SimSocket& socket);
  void stop_listening(SimSocket& listener);
  /// The options of the end's socket have been changed.
  void apply_options(SimEnd& end);

  // What the clock brings.

  void arrive(std::uint32_t number, std::uint64_t serial, unsigned side);
  void repeat_syn(std::uint32_t number, std::uint64_t serial);

  /// Connections that no descriptor stands for any more, nor a place in a queue.
  [[nodiscard]] std::size_t orphans() const noexcept;

 private:
  /// Keeps a connection while a function works on it; frees it afterwards, if it has come to its end meanwhile. What is
  /// poked may do a lot.
  class Hold {
   public:
    Hold(SimNet& net, SimConnection& connection) noexcept : net_(net), connection_(connection) { ++connection.holds; }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    ~Hold() {
      if (--connection_.holds == 0) net_.free_if_over(connection_);
    }

   private:
    SimNet& net_;
    SimConnection& connection_;
  };

  SimConnection& make_connection();
  [[nodiscard]] SimConnection* find(std::uint32_t number, std::uint64_t serial) const noexcept;
  void free_if_over(SimConnection& connection) noexcept;

  void push(SimEnd& from, SimSegment segment);
  [[nodiscard]] TimePoint arrival_of(SimEnd& from, std::size_t bytes) noexcept;
  void open_client(SimConnection& connection, SimSocket& socket);
  void send_syn(SimConnection& connection);
  void repeat_syn_later(SimConnection& connection);
  void put(SimEnd& from, SimSegment&& segment, TimePoint arrival);
  void pump(SimEnd& end);
  void send_data(SimEnd& end);
  void acknowledge(SimEnd& end);
  void reset_peer(SimEnd& end);
  void inject_reset(SimConnection& connection);

  void on_segment(SimEnd& end, SimSegment& segment);
  void on_syn(SimEnd& end, const SimSegment& segment);
  void on_syn_ack(SimEnd& end, const SimSegment& segment);
  void on_open(SimEnd& end);
  void on_data(SimEnd& end, const SimSegment& segment);
  void on_acknowledge(SimEnd& end, const SimSegment& segment);
  void on_fin(SimEnd& end);
  void on_reset(SimEnd& end);

  void end_handshake(SimEnd& end) noexcept;
  void fail(SimEnd& end, int error) noexcept;
  void finish(SimEnd& end, bool time_wait) noexcept;
  void finish_if_done(SimEnd& end) noexcept;
  void release(SimEnd& end, bool with_reset);
  void poke(const SimEnd& end, SimDirection direction) noexcept {
    if (end.socket != nullptr) poke(*end.socket, direction);
  }
  void poke_both(SimEnd& end) noexcept;
  void note(SimNote what, const SimEnd& end, std::size_t amount) noexcept;

  SimCore& core_;
  SimDescriptors& descriptors_;
  SimPorts ports_;
  SimWaker* waker_ = nullptr;
  std::vector<std::unique_ptr<SimConnection>> connections_;
  std::vector<std::uint32_t> free_;
};

}  // namespace bight::detail
