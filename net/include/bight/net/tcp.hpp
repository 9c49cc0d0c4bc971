// SPDX-License-Identifier: Apache-2.0
#pragma once

/// TCP: streams, listeners, connecting, and a server loop. Every verb has two forms: one that throws std::system_error
/// with a text that says what was attempted, on what and why it failed ("read from 127.0.0.1:4711: Connection reset by
/// peer"), and one with a trailing std::error_code& that never throws. The thread, cancellation, closing and timeout
/// rules are those of bight::Socket (socket.hpp), but for one: a stream or listener has to stay where it is until the
/// calls under way on it have returned. To end them, close() it.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <sys/types.h>

#include <bight/chunk.hpp>
#include <bight/fd.hpp>
#include <bight/net/address.hpp>
#include <bight/net/detail/acceptor.hpp>
#include <bight/net/proxy_protocol.hpp>
#include <bight/net/serve_options.hpp>
#include <bight/shards.hpp>
#include <bight/socket.hpp>
#include <bight/time.hpp>

namespace bight::net {

/// TCP keep-alive probing: tcp(7).
struct KeepAlive {
  std::chrono::seconds idle{60};
  std::chrono::seconds interval{10};
  int probes = 6;
};

/// A connected byte stream. Move-only; closes when it goes. TCP_NODELAY is on from the start.
class TcpStream {
 public:
  TcpStream() noexcept = default;
  explicit TcpStream(Socket socket) noexcept : socket_(std::move(socket)) {}

  /// Waits for data: at least one byte into `buffer`; 0 when the peer has ended its side (or the buffer is empty).
  std::size_t read(std::span<std::byte> buffer);
  std::size_t read(std::span<std::byte> buffer, std::error_code& error);
  /// Waits for data without holding a buffer meanwhile: what came is in a Chunk lent by the loop; empty when the peer
  /// has ended its side.
  [[nodiscard]] Chunk read();
  [[nodiscard]] Chunk read(std::error_code& error);
  /// Fills `buffer` whole; end of stream before that is connection_aborted ("end of stream after N of M bytes" in the
  /// text).
  void read_exactly(std::span<std::byte> buffer);
  void read_exactly(std::span<std::byte> buffer, std::error_code& error);

  /// Some of `data`; returns how much.
  std::size_t write(std::span<const std::byte> data);
  std::size_t write(std::span<const std::byte> data, std::error_code& error);
  /// All of it.
  void write_all(std::span<const std::byte> data);
  void write_all(std::span<const std::byte> data, std::error_code& error);
  void write_all(std::string_view text);
  void write_all(std::string_view text, std::error_code& error);
  /// All pieces, in order, in as few packets as may be: up to 128 of them go out together.
  void write_all(std::span<const std::span<const std::byte>> pieces);
  void write_all(std::span<const std::span<const std::byte>> pieces, std::error_code& error);

  /// Ends this side: the peer reads end of stream after what was written; reading goes on.
  void shutdown_write();
  void shutdown_write(std::error_code& error) noexcept;
  /// Wakes who waits on the stream with bad_file_descriptor, and closes. With reset(), the peer is sent a reset instead
  /// of an end, and what has been written and not yet sent is dropped.
  void close() noexcept;
  void reset() noexcept;

  /// Limits for each single read, each write's progress; zero: none. set_timeout sets both. Expiry is
  /// std::errc::timed_out.
  void set_timeout(Duration limit) noexcept;
  void set_read_timeout(Duration limit) noexcept;
  void set_write_timeout(Duration limit) noexcept;

  void set_nodelay(bool on);
  void set_nodelay(bool on, std::error_code& error) noexcept;
  void set_keepalive(const KeepAlive& options);
  void set_keepalive(const KeepAlive& options, std::error_code& error) noexcept;

  [[nodiscard]] Address local_address() const;
  [[nodiscard]] Address local_address(std::error_code& error) const noexcept;
  /// Whom the connection comes from, by a PROXY header if it had one, else the system's word.
  [[nodiscard]] Address peer_address() const;
  [[nodiscard]] Address peer_address(std::error_code& error) const noexcept;
  /// The PROXY header that it began with (ServeOptions::proxy), or null.
  [[nodiscard]] const ProxyHeader* proxy_header() const noexcept { return proxy_.get(); }
  void set_proxy_header(ProxyHeader header) { proxy_ = std::make_unique<const ProxyHeader>(std::move(header)); }

  [[nodiscard]] bool is_open() const noexcept { return static_cast<bool>(socket_); }
  [[nodiscard]] Socket& socket() noexcept { return socket_; }

 private:
  Socket socket_;
  std::unique_ptr<const ProxyHeader> proxy_;
};

struct ConnectOptions {
  Duration timeout{0};             ///< zero: the kernel's, about two minutes
  std::optional<Address> local{};  ///< to connect from
};

/// Waits until the connection is made. A connection to itself, which Linux makes when a port nobody listens on happens
/// to be picked for this end too, is connection_refused.
[[nodiscard]] TcpStream connect(const Address& peer, const ConnectOptions& options = {});
[[nodiscard]] TcpStream connect(const Address& peer, std::error_code& error) noexcept;
[[nodiscard]] TcpStream connect(const Address& peer, const ConnectOptions& options, std::error_code& error) noexcept;
/// The same with a numeric "host:port" (Address::parse).
[[nodiscard]] TcpStream connect(std::string_view peer, const ConnectOptions& options = {});

struct ListenOptions {
  int backlog = 4096;  ///< the kernel takes the least of this and net.core.somaxconn
  bool reuse_address = true;
  bool reuse_port = false;      ///< several sockets on one address; the kernel spreads connections over them
  bool v6only = false;          ///< on an IPv6 address: no IPv4 clients
  unsigned accept_budget = 64;  ///< connections taken in a row before other fibers get their turn
  Duration exhausted_pause =
      std::chrono::milliseconds(10);  ///< how long accepting rests when descriptors or memory have run out
};

/// Listens for connections. Move-only; closes when it goes.
///
/// When descriptors (EMFILE, ENFILE) or socket memory (ENOBUFS, ENOMEM) run out, accept() does not fail and does not
/// spin: it uses a descriptor held in reserve to turn the waiting connection away, logs one line per outage, rests for
/// exhausted_pause and goes on. (An outage is over when accepting has gone well for a second.) Connections that were
/// gone before they were accepted (ECONNABORTED and the like: accept(2)) are skipped.
class TcpListener {
 public:
  TcpListener() noexcept = default;
  [[nodiscard]] static TcpListener bind(const Address& address, const ListenOptions& options = {});
  [[nodiscard]] static TcpListener bind(const Address& address, const ListenOptions& options,
                                        std::error_code& error) noexcept;
  [[nodiscard]] static TcpListener bind(std::string_view address, const ListenOptions& options = {});
  /// Takes over a socket that listens already (made before fork, or passed by a service manager). Only what is said
  /// about accepting in `options` counts. Throws std::system_error with invalid_argument for any other descriptor.
  [[nodiscard]] static TcpListener adopt(Fd listening, const ListenOptions& options = {});
  /// The same with one that other processes accept from, too: each of them is to have its share of the connections, so
  /// serve() leaves new ones to the others while this process has clearly more than they have (this_shard.hpp).
  [[nodiscard]] static TcpListener share(Fd listening, const ListenOptions& options = {});

  [[nodiscard]] TcpStream accept();
  [[nodiscard]] TcpStream accept(std::error_code& error);
  void close() noexcept;

  [[nodiscard]] Address local_address() const;
  [[nodiscard]] Address local_address(std::error_code& error) const noexcept;
  void set_timeout(Duration limit) noexcept;  ///< for each accept()
  [[nodiscard]] int backlog() const noexcept { return options_.backlog; }
  [[nodiscard]] bool is_shared() const noexcept { return shared_; }
  /// Whether a connection waits to be accepted. Does not wait.
  [[nodiscard]] bool has_waiting() const noexcept;
  [[nodiscard]] bool is_open() const noexcept { return static_cast<bool>(acceptor_.socket()); }
  [[nodiscard]] Socket& socket() noexcept { return acceptor_.socket(); }

 private:
  TcpListener(Socket socket, const ListenOptions& options) noexcept;

  detail::Acceptor acceptor_;
  ListenOptions options_;
  bool shared_ = false;
};

/// A listening socket for run_shards: one, made in the supervisor, from which all workers accept. So what is queued on
/// it outlives any worker, and is taken by whoever is there: a worker that hangs, dies or drains keeps nobody waiting.
/// The kernel wakes one worker per connection, and workers with more than their share hold back: docs/decisions/0008.
///
///     auto sockets = net::ShardedListener::bind(address);
///     return run_shards({.on_drain = [&] { sockets.close(); }},
///                       [&](Shard& shard) { net::serve(sockets.listener(shard), handler); });
///
/// The supervisor has to close it when all drain (ShardOptions::on_drain), for a queue that nobody empties is one that
/// clients hang in.
class ShardedListener {
 public:
  /// Takes the socket that was passed to this program for this address, by systemd (socket activation) or by its
  /// predecessor in a binary upgrade; else makes one. Port 0: a free one; the successor of a binary upgrade gets the
  /// same. Another port must not be in use by anybody else, unless options.reuse_port says that sharing it is meant.
  /// Before there are threads. Throws.
  [[nodiscard]] static ShardedListener bind(const Address& address, const ListenOptions& options = {});
  /// The socket that a service manager passed under this name (systemd: FileDescriptorName=, by default the socket
  /// unit's). Throws std::system_error with no_such_device_or_address when there is none.
  [[nodiscard]] static ShardedListener passed(std::string_view name, const ListenOptions& options = {});

  ShardedListener(ShardedListener&&) noexcept = default;
  ShardedListener& operator=(ShardedListener&&) = delete;
  ~ShardedListener() { close(); }

  [[nodiscard]] Address local_address() const noexcept { return address_; }
  /// A worker's listener. In a process forked since bind(): the socket itself, so it can be had once, and when workers
  /// and supervisor have closed theirs, nobody can connect to it any more. Where bind() was called: a duplicate, so the
  /// socket goes on listening when it is closed. Throws.
  [[nodiscard]] TcpListener listener(const Shard& shard);
  /// Closes what this process has of it. Harmless when repeated. Workers' listeners stay as they are.
  void close() noexcept;

 private:
  ShardedListener(Fd socket, const ListenOptions& options, std::string name);

  Address address_;
  ListenOptions options_;
  Fd socket_;
  ::pid_t owner_;  // where bind() was called
};

/// Runs `handler(TcpStream)` in a fiber of its own for every connection, until a stop is requested (stop.hpp), the
/// listener is closed or accepting fails for good. Then no more are accepted, handlers get `drain` to end, and are
/// cancelled. When the caller is cancelled, the handlers are, too, at once. Returns (or throws) when all have ended.
///
/// The listener stays open, so who connects during the drain and later is kept waiting for the next serve(), unless it
/// was passed as an rvalue: then, at a stop, those whom the system has let in already are accepted, too (as long as
/// there is room for them), and it is closed before the drain, so that later ones are refused. A shard that retires
/// while others go on leaves those to them.
///
/// The handler's stream is closed when the handler returns, unless it has been moved elsewhere. ServeOptions::control
/// is a handle to stop and start accepting by, to end this server alone, and to look at its figures.
///
/// Connections are counted for the supervisor, if there is one (this_shard.hpp).
///
/// A handler's std::system_error of a broken connection (reset, aborted, timed out, broken pipe, not connected) ends
/// that connection alone, silently; any other exception is reported like a detached fiber's and ends that connection
/// alone, too. A connection for which there is no fiber (memory, RunOptions::fibers_max) is closed, which is logged
/// once.
ServeStats serve(TcpListener& listener, const std::function<void(TcpStream)>& handler,
                 const ServeOptions& options = {});
ServeStats serve(TcpListener&& listener, const std::function<void(TcpStream)>& handler,
                 const ServeOptions& options = {});

}  // namespace bight::net
