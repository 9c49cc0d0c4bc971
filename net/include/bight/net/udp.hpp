// SPDX-License-Identifier: Apache-2.0
#pragma once

/// UDP: sockets for datagrams, many at a time, and a server that has a fiber for each. The thread, cancellation,
/// closing and timeout rules are those of bight::Socket (socket.hpp): one fiber may receive while another sends. A
/// socket has to stay where it is until the calls under way on it have returned. To end them, close() it.
///
/// Every operation has two forms, as in tcp.hpp. Texts of the throwing ones say what was attempted, and with whom:
/// "send to 192.0.2.1:53: Network is unreachable".
///
/// Datagrams may be lost, arrive twice, or in another order; what a receiver has no room for is dropped without a word.
/// Not here: source-specific multicast.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <bight/net/address.hpp>
#include <bight/socket.hpp>
#include <bight/time.hpp>

namespace bight::net {

/// The most bytes that a datagram can carry over IPv4, and a size of buffer that no datagram is too large for.
inline constexpr std::size_t kUdpPayloadMax = 65'507;
inline constexpr std::size_t kUdpBufferMax = 65'536;

struct UdpOptions {
  std::optional<Address> local{};  ///< connect(): to send from
  bool reuse_address = false;      ///< on one address with others who say so, too: for multicast
  bool reuse_port = false;         ///< the same; the kernel spreads the senders over them
  bool v6only = false;             ///< on an IPv6 address: no IPv4 datagrams
  bool broadcast = false;          ///< may be sent to broadcast addresses
  /// What the network answers about datagrams that could not be delivered is kept, with whom it concerns: take_error().
  /// Under the sim engine nothing is ever answered to a socket without a peer.
  bool report_errors = false;
  bool packet_info = false;  ///< each datagram tells which of this host's addresses it was sent to
  /// Datagrams of one size from one sender may be received glued together (UDP_GRO), which is cheaper by far; see
  /// UdpDatagram::segment_size. Use buffers of kUdpBufferMax with it. Without effect where the kernel does not have it.
  bool receive_segments = false;
  int receive_buffer = 0;  ///< bytes to ask the system for (SO_RCVBUF, SO_SNDBUF); 0: its default
  int send_buffer = 0;
};

/// What is known of a datagram that has come.
struct UdpDatagram {
  std::size_t size = 0;  ///< bytes in the buffer
  std::size_t full_size =
      0;           ///< bytes it had: more than `size` if the buffer was too small for it, and the rest is gone
  Address peer{};  ///< who sent it
  /// UdpOptions::receive_segments: if not 0, there are several datagrams in the buffer, all of this size but for the
  /// last, which may be shorter.
  std::size_t segment_size = 0;
  /// UdpOptions::packet_info: where it was sent to, with port 0; of a multicast or broadcast over IPv4, the address of
  /// this host's to answer from.
  std::optional<Address> local{};
  unsigned interface = 0;  ///< the same: the number of the interface that it came in by

  [[nodiscard]] bool truncated() const noexcept { return full_size > size; }
};

/// What became known of a datagram that was sent and did not arrive: UdpOptions::report_errors.
struct UdpError {
  std::error_code error{};            ///< connection_refused: nobody at the port; host_unreachable; message_size …
  Address peer{};                     ///< to whom it was sent
  std::optional<Address> reporter{};  ///< the host that says so, with port 0; nothing: this one
  std::size_t mtu = 0;                ///< with message_size: bytes in the largest packet that gets through there
  std::string beginning{};            ///< of the datagram, as far as it was quoted, 128 bytes at most
};

class UdpSocket;

/// Room for many datagrams, to receive them and to send them with one call each: UdpSocket::receive_many, send_many. A
/// batch that was received can be sent as it is, each datagram to whom it came from, without being copied. Move-only.
class UdpBatch {
 public:
  /// Takes about capacity * (datagram_max + 300) bytes. Throws std::bad_alloc.
  explicit UdpBatch(std::size_t capacity = 64, std::size_t datagram_max = 2048);
  UdpBatch(UdpBatch&&) noexcept;
  UdpBatch& operator=(UdpBatch&&) noexcept;
  ~UdpBatch();

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] std::size_t capacity() const noexcept { return headers_.size(); }
  [[nodiscard]] std::size_t datagram_max() const noexcept { return datagram_max_; }

  [[nodiscard]] std::span<std::byte> operator[](std::size_t index) noexcept {
    return {static_cast<std::byte*>(pieces_[index].iov_base), pieces_[index].iov_len};
  }
  [[nodiscard]] Address address(std::size_t index) const noexcept;  ///< from whom it came, or to whom it goes
  [[nodiscard]] bool truncated(std::size_t index) const noexcept {
    return (headers_[index].msg_hdr.msg_flags & MSG_TRUNC) != 0;
  }
  /// As UdpDatagram's.
  [[nodiscard]] std::size_t segment_size(std::size_t index) const noexcept { return segments_[index]; }

  /// Puts one in: a copy of `data`, to `to`, or without one to whom the socket is connected to. False: it is full, or
  /// `data` is longer than datagram_max.
  [[nodiscard]] bool add(std::span<const std::byte> data, const Address& to) noexcept;
  [[nodiscard]] bool add(std::span<const std::byte> data) noexcept;
  /// Changes how many of its bytes count: datagram_max at most.
  void resize(std::size_t index, std::size_t bytes) noexcept;
  void clear() noexcept { size_ = 0; }

 private:
  friend class UdpSocket;
  static constexpr std::size_t kControlSize = 96;
  struct alignas(::cmsghdr) Control {
    char bytes[kControlSize];
  };

  void begin_receiving(bool with_control) noexcept;
  void end_receiving(std::size_t count) noexcept;
  void begin_sending(bool connected) noexcept;
  [[nodiscard]] bool continues_row(std::size_t index) const noexcept;
  [[nodiscard]] std::size_t glue(std::size_t from) noexcept;

  std::size_t datagram_max_ = 0;
  std::size_t size_ = 0;
  std::size_t used_ = 0;  // slots that are not as receiving wants them
  std::unique_ptr<std::byte[]> bytes_;
  std::vector<::mmsghdr> headers_;
  std::vector<::iovec> pieces_;
  std::vector<::sockaddr_in6> names_;
  std::vector<Control> controls_;
  std::vector<std::uint16_t> segments_;
  std::vector<::mmsghdr> rows_;  // of datagrams that go out glued together
  std::vector<std::uint16_t> row_sizes_;
};

/// A socket for datagrams. Move-only; closes when it goes.
class UdpSocket {
 public:
  UdpSocket() noexcept = default;

  /// On a local address, port 0: any. Receives from everybody.
  [[nodiscard]] static UdpSocket bind(const Address& local, const UdpOptions& options = {});
  [[nodiscard]] static UdpSocket bind(const Address& local, const UdpOptions& options, std::error_code& error) noexcept;
  [[nodiscard]] static UdpSocket bind(std::string_view local, const UdpOptions& options = {});
  /// For one peer: sends to it, hears nobody else, and learns by connection_refused that nobody is there, with the send
  /// or receive after that becomes known. Does not wait, and sends nothing.
  [[nodiscard]] static UdpSocket connect(const Address& peer, const UdpOptions& options = {});
  [[nodiscard]] static UdpSocket connect(const Address& peer, const UdpOptions& options,
                                         std::error_code& error) noexcept;
  [[nodiscard]] static UdpSocket connect(std::string_view peer, const UdpOptions& options = {});
  /// The same with a socket that is there, also one that has another peer.
  void connect_to(const Address& peer);
  void connect_to(const Address& peer, std::error_code& error) noexcept;

  // Each sends one datagram, whole or not at all. Too large for one is message_size. They wait when the socket's buffer
  // is full.

  void send(std::span<const std::byte> data);
  void send(std::span<const std::byte> data, std::error_code& error);
  void send(std::string_view text);
  void send_to(std::span<const std::byte> data, const Address& peer);
  void send_to(std::span<const std::byte> data, const Address& peer, std::error_code& error);
  void send_to(std::string_view text, const Address& peer);
  /// To whom `to` came from, and, where that is known, from where it had been sent to.
  void reply(const UdpDatagram& to, std::span<const std::byte> data);
  void reply(const UdpDatagram& to, std::span<const std::byte> data, std::error_code& error);
  void reply(const UdpDatagram& to, std::string_view text);

  /// Waits for one. What the buffer has no room for is lost: see UdpDatagram::full_size.
  UdpDatagram receive(std::span<std::byte> buffer);
  UdpDatagram receive(std::span<std::byte> buffer, std::error_code& error);

  /// UdpOptions::report_errors: takes the oldest of what became known of datagrams sent before, of which the last 64
  /// are kept. Nothing: nothing more is known. Does not wait. A receive() without anything to receive fails with such
  /// an error, so that somebody looks here; sending to others is not disturbed by it.
  [[nodiscard]] std::optional<UdpError> take_error();

  // Many with one call: for those who have some thousands a second and more.

  /// Waits for one and takes what there is beside it, as far as the batch has room. What was in the batch is gone.
  void receive_many(UdpBatch& batch);
  void receive_many(UdpBatch& batch, std::error_code& error);
  /// Sends all, waiting for room in between. Those with a segment_size are sent in segments of it; datagrams of one
  /// size that stand one behind the other and go to one peer are handed over together where the kernel has UDP_SEGMENT.
  /// Returns how many went out before an error.
  std::size_t send_many(UdpBatch& batch);
  std::size_t send_many(UdpBatch& batch, std::error_code& error);
  /// Sends `data` as datagrams of `segment_size` bytes (the last may be shorter): with UDP_SEGMENT where the kernel has
  /// it, which does for many datagrams what was done for each; else one by one. Without `peer`, to whom it is connected
  /// to.
  void send_segments(std::span<const std::byte> data, std::size_t segment_size,
                     const std::optional<Address>& peer = std::nullopt);
  void send_segments(std::span<const std::byte> data, std::size_t segment_size, const std::optional<Address>& peer,
                     std::error_code& error);

  // Settings. `interface`: its number (if_nametoindex); 0 leaves the choice to the system.

  /// Receives what is sent to a multicast group. The port to receive on is the socket's own: bind to any_v4(port).
  void join(const Address& group, unsigned interface = 0);
  void join(const Address& group, unsigned interface, std::error_code& error) noexcept;
  void leave(const Address& group, unsigned interface = 0);
  void leave(const Address& group, unsigned interface, std::error_code& error) noexcept;
  void set_multicast_ttl(int hops);  ///< 1, the default: not beyond this network
  void set_multicast_ttl(int hops, std::error_code& error) noexcept;
  void set_multicast_loop(bool on);  ///< whether members on this host get it; the default
  void set_multicast_loop(bool on, std::error_code& error) noexcept;
  void set_multicast_interface(unsigned interface);
  void set_multicast_interface(unsigned interface, std::error_code& error) noexcept;
  void set_broadcast(bool on);
  void set_broadcast(bool on, std::error_code& error) noexcept;
  void set_ttl(int hops);
  void set_ttl(int hops, std::error_code& error) noexcept;
  void set_tos(int tos);  ///< IP_TOS, or IPv6's traffic class: DSCP and ECN
  void set_tos(int tos, std::error_code& error) noexcept;
  /// Datagrams that are larger than a packet on the way can be are not sent in fragments, but refused with message_size
  /// as soon as that is known (path MTU discovery: ip(7)). Off: fragments where they are needed.
  void set_dont_fragment(bool on);
  void set_dont_fragment(bool on, std::error_code& error) noexcept;
  /// Bytes in the largest packet that gets to the peer it is connected to, headers included, as far as is known.
  [[nodiscard]] std::size_t path_mtu() const;
  [[nodiscard]] std::size_t path_mtu(std::error_code& error) const noexcept;
  [[nodiscard]] int receive_buffer() const noexcept;  ///< as the system tells, which is twice what it was asked for
  [[nodiscard]] int send_buffer() const noexcept;
  [[nodiscard]] bool receives_segments() const noexcept { return receives_segments_; }

  /// For each receive, each send; zero: none. Expiry is std::errc::timed_out.
  void set_timeout(Duration limit) noexcept { socket_.set_timeout(limit); }
  void set_receive_timeout(Duration limit) noexcept { socket_.set_read_timeout(limit); }
  void set_send_timeout(Duration limit) noexcept { socket_.set_write_timeout(limit); }

  [[nodiscard]] Address local_address() const;
  [[nodiscard]] Address local_address(std::error_code& error) const noexcept;
  [[nodiscard]] Address peer_address() const;  ///< not_connected, if it has none
  [[nodiscard]] Address peer_address(std::error_code& error) const noexcept;

  /// Wakes who waits on it with bad_file_descriptor, and closes.
  void close() noexcept { socket_.close(); }
  [[nodiscard]] bool is_open() const noexcept { return static_cast<bool>(socket_); }
  [[nodiscard]] Socket& socket() noexcept { return socket_; }

 private:
  [[nodiscard]] static UdpSocket open(int family, const UdpOptions& options, std::error_code& error) noexcept;
  void set(int v4_level, int v4_name, int v6_level, int v6_name, int value, std::error_code& error) noexcept;
  void set_membership(const Address& group, unsigned interface, bool joins, std::error_code& error) noexcept;
  void send_message(std::span<const std::byte> data, const Address* peer, const UdpDatagram* answered,
                    std::error_code& error);
  void send_split(std::span<const std::byte> data, std::size_t segment_size, const Address* peer,
                  std::error_code& error);
  [[nodiscard]] std::size_t send_rows(UdpBatch& batch, std::error_code& error);
  [[nodiscard]] bool sends_segments() noexcept;
  void gather_errors();
  [[nodiscard]] bool try_again(std::error_code& error, unsigned attempt);
  [[nodiscard]] std::size_t send_some(std::span<::mmsghdr> messages, std::error_code& error);
  [[nodiscard]] bool send_glued(std::span<const std::byte> data, std::size_t segment_size, const Address* peer,
                                std::error_code& error);

  Socket socket_;
  bool v6_ = false;
  bool connected_ = false;
  bool with_control_ = false;
  bool receives_segments_ = false;
  bool report_errors_ = false;
  std::deque<UdpError> errors_;
  std::optional<bool> sends_segments_;  // once it has been asked for
};

/// A datagram of a server's, for its handler.
struct UdpRequest {
  UdpSocket& socket;  ///< the server's; to send, use reply(): handlers take turns with it
  std::span<const std::byte> data;
  const UdpDatagram& datagram;
  /// Sends an answer. Throws std::system_error, Cancelled.
  const std::function<void(const UdpDatagram&, std::span<const std::byte>)>& send;

  void reply(std::span<const std::byte> answer) const { send(datagram, answer); }
  void reply(std::string_view answer) const { reply(std::as_bytes(std::span(answer))); }
};

struct DatagramServeOptions {
  std::size_t handlers_max = 10'000;          ///< beyond this, datagrams are dropped until one ends
  std::size_t datagram_max = kUdpBufferMax;   ///< longer ones are dropped
  Duration drain = std::chrono::seconds(10);  ///< from the stop request to the cancelling of what still runs
  std::size_t stack_size = 0;                 ///< of the handlers' fibers; 0: the loop's default
};

struct DatagramServeStats {
  std::uint64_t received = 0;
  std::uint64_t dropped = 0;    ///< for want of handlers, fibers or memory
  std::uint64_t oversized = 0;  ///< dropped, for they were longer than datagram_max
  std::uint64_t failed = 0;     ///< handlers that ended with an error
};

/// Runs `handler(const UdpRequest&)` in a fiber of its own for each datagram, until a stop is requested (stop.hpp), the
/// socket is closed or receiving fails for good. Then no more are received, handlers get `drain` to end, and are
/// cancelled. When the caller is cancelled, the handlers are, too, at once. Returns (or throws) when all have ended.
///
/// An exception of a handler's is reported like a detached fiber's and ends that handler alone. What a request refers
/// to lasts until its handler returns.
DatagramServeStats serve_datagrams(UdpSocket& socket, const std::function<void(const UdpRequest&)>& handler,
                                   const DatagramServeOptions& options = {});

}  // namespace bight::net
