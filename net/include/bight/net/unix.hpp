// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Unix sockets: streams and datagrams between processes of one host, with descriptors and credentials. The thread,
/// cancellation, closing and timeout rules are those of bight::Socket (socket.hpp); objects have to stay where they are
/// until the calls under way on them have returned. Every operation has two forms, as in tcp.hpp.

#include <compare>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include <bight/chunk.hpp>
#include <bight/fd.hpp>
#include <bight/net/detail/acceptor.hpp>
#include <bight/net/tcp.hpp>
#include <bight/socket.hpp>
#include <bight/time.hpp>

namespace bight::net {

/// The address of a Unix socket: a path, an abstract name, or none. A value. A path is used as it is given, relative
/// ones from the working directory.
class UnixAddress {
 public:
  /// The most bytes in a path, or in an abstract name.
  static constexpr std::size_t kNameMax = sizeof(::sockaddr_un::sun_path) - 1;

  /// Unnamed: what a socket has that was not bound.
  UnixAddress() noexcept = default;
  /// Throws std::system_error with filename_too_long beyond kNameMax bytes, with invalid_argument for an empty one, or
  /// one with a zero in it.
  [[nodiscard]] static UnixAddress path(std::string_view path);
  /// A name that is in no folder and goes with its socket; any bytes. Throws as path(), but for zeros.
  [[nodiscard]] static UnixAddress abstract(std::string_view name);
  /// "/run/x.sock" or "./x.sock" (any text with a slash), or "@name" for an abstract one; as to_string() gives it.
  /// Throws std::system_error.
  [[nodiscard]] static UnixAddress parse(std::string_view text);
  /// From what the kernel filled in. Anything but AF_UNIX gives UnixAddress().
  [[nodiscard]] static UnixAddress from_native(const ::sockaddr* address, ::socklen_t length);

  [[nodiscard]] bool is_unnamed() const noexcept { return name_.empty(); }
  [[nodiscard]] bool is_abstract() const noexcept { return !name_.empty() && name_.front() == '\0'; }
  [[nodiscard]] bool is_path() const noexcept { return !name_.empty() && name_.front() != '\0'; }
  /// The path, or the abstract name, or nothing.
  [[nodiscard]] std::string_view name() const noexcept {
    return is_abstract() ? std::string_view(name_).substr(1) : std::string_view(name_);
  }
  [[nodiscard]] std::string to_string() const;

  /// Fills in what the system takes, and returns how long it is.
  ::socklen_t to_native(::sockaddr_un& native) const noexcept;

  friend bool operator==(const UnixAddress&, const UnixAddress&) = default;
  friend std::strong_ordering operator<=>(const UnixAddress& a, const UnixAddress& b) noexcept {
    return a.name_ <=> b.name_;
  }

 private:
  explicit UnixAddress(std::string name) noexcept : name_(std::move(name)) {}
  std::string name_;  // as in sun_path, without a zero at a path's end
};

/// Who somebody is, or was when it connected.
struct Credentials {
  ::pid_t pid = 0;
  ::uid_t uid = 0;
  ::gid_t gid = 0;
};

/// The most descriptors that the kernel passes with one message.
inline constexpr std::size_t kPassedFdsMax = 253;

namespace detail {

/// The name that a socket was bound to, with the right to remove it if it is a path. Move-only; removes it when it
/// goes.
class BoundPath {
 public:
  BoundPath() noexcept = default;
  /// Of a socket that was just bound by this process. `removes`: the path, when it goes.
  BoundPath(const Socket& socket, bool removes, std::error_code& error);
  BoundPath(BoundPath&& other) noexcept { swap(other); }
  BoundPath& operator=(BoundPath&& other) noexcept {
    BoundPath(std::move(other)).swap(*this);
    return *this;
  }
  ~BoundPath() { remove(); }

  [[nodiscard]] const UnixAddress& address() const noexcept { return address_; }
  /// If this is the process that made it and it still leads to the same file.
  void remove() noexcept;

 private:
  void swap(BoundPath& other) noexcept {
    std::swap(address_, other.address_);
    std::swap(owner_, other.owner_);
    std::swap(device_, other.device_);
    std::swap(inode_, other.inode_);
  }

  UnixAddress address_;
  ::pid_t owner_ = 0;  // 0: nobody
  ::dev_t device_ = 0;
  ::ino_t inode_ = 0;
};

}  // namespace detail

/// A connected byte stream. Move-only; closes when it goes.
class UnixStream {
 public:
  UnixStream() noexcept = default;
  explicit UnixStream(Socket socket) noexcept : socket_(std::move(socket)) {}
  /// Waits until the listener has room in its queue; for `timeout` at most, if that is not zero. Nobody listens:
  /// connection_refused; nor ever has: no_such_file_or_directory.
  [[nodiscard]] static UnixStream connect(const UnixAddress& peer, Duration timeout = Duration::zero());
  [[nodiscard]] static UnixStream connect(const UnixAddress& peer, Duration timeout, std::error_code& error);
  /// Two that are connected to each other. Throws std::system_error.
  [[nodiscard]] static std::pair<UnixStream, UnixStream> pair();

  // As TcpStream's. A read here drops descriptors that come along.

  std::size_t read(std::span<std::byte> buffer);
  std::size_t read(std::span<std::byte> buffer, std::error_code& error);
  [[nodiscard]] Chunk read();
  [[nodiscard]] Chunk read(std::error_code& error);
  void read_exactly(std::span<std::byte> buffer);
  void read_exactly(std::span<std::byte> buffer, std::error_code& error);
  std::size_t write(std::span<const std::byte> data);
  std::size_t write(std::span<const std::byte> data, std::error_code& error);
  void write_all(std::span<const std::byte> data);
  void write_all(std::span<const std::byte> data, std::error_code& error);
  void write_all(std::string_view text);
  void write_all(std::string_view text, std::error_code& error);
  void write_all(std::span<const std::span<const std::byte>> pieces);
  void write_all(std::span<const std::span<const std::byte>> pieces, std::error_code& error);
  void shutdown_write();
  void shutdown_write(std::error_code& error) noexcept;
  void close() noexcept { socket_.close(); }

  /// All of `data`, at least one byte, with which go duplicates of `fds`, kPassedFdsMax at most. They stay the
  /// caller's, and open. Under the sim engine operation_not_supported.
  void send_with_fds(std::span<const std::byte> data, std::span<const int> fds);
  void send_with_fds(std::span<const std::byte> data, std::span<const int> fds, std::error_code& error);
  /// Waits for data, and puts what descriptors came with it into `fds`, whose old ones are closed: close-on-exec. What
  /// is read at a time ends before data that come with other descriptors. When they do not fit into this process any
  /// more: too_many_files_open; then none of them is kept.
  std::size_t receive_with_fds(std::span<std::byte> buffer, std::vector<Fd>& fds);
  std::size_t receive_with_fds(std::span<std::byte> buffer, std::vector<Fd>& fds, std::error_code& error);

  void set_timeout(Duration limit) noexcept { socket_.set_timeout(limit); }
  void set_read_timeout(Duration limit) noexcept { socket_.set_read_timeout(limit); }
  void set_write_timeout(Duration limit) noexcept { socket_.set_write_timeout(limit); }

  /// Of the process that connected, or that listens: as it was then.
  [[nodiscard]] Credentials peer_credentials() const;
  [[nodiscard]] Credentials peer_credentials(std::error_code& error) const noexcept;
  [[nodiscard]] UnixAddress local_address() const;
  [[nodiscard]] UnixAddress local_address(std::error_code& error) const;
  [[nodiscard]] UnixAddress peer_address() const;  ///< unnamed, for most clients
  [[nodiscard]] UnixAddress peer_address(std::error_code& error) const;

  /// The PROXY header that it began with (ServeOptions::proxy), or null.
  [[nodiscard]] const ProxyHeader* proxy_header() const noexcept { return proxy_.get(); }
  void set_proxy_header(ProxyHeader header) { proxy_ = std::make_unique<const ProxyHeader>(std::move(header)); }

  [[nodiscard]] bool is_open() const noexcept { return static_cast<bool>(socket_); }
  [[nodiscard]] Socket& socket() noexcept { return socket_; }

 private:
  Socket socket_;
  std::unique_ptr<const ProxyHeader> proxy_;
};

struct UnixListenOptions {
  int backlog = 4096;  ///< the kernel takes the least of this and net.core.somaxconn
  /// The permissions of the path: who may write to it may connect. Without: 0777 less the process's umask. They hold
  /// from the moment that the path is there.
  std::optional<::mode_t> mode{};
  /// When there is a socket at the path already that nobody listens on, as a server leaves one behind that was killed,
  /// it is removed. One that somebody listens on is address_in_use, as is a file of another kind. Two servers that do
  /// this at the same time may both succeed: then the first one is not found any more.
  bool remove_stale = true;
  bool remove_on_close = true;  ///< the path; unless it has become somebody else's meanwhile
  unsigned accept_budget = 64;  ///< as ListenOptions'
  Duration exhausted_pause = std::chrono::milliseconds(10);
};

/// Listens for connections. Move-only; closes when it goes. What TcpListener does when descriptors run out, this does.
class UnixListener {
 public:
  UnixListener() noexcept = default;
  [[nodiscard]] static UnixListener bind(const UnixAddress& address, const UnixListenOptions& options = {});
  [[nodiscard]] static UnixListener bind(const UnixAddress& address, const UnixListenOptions& options,
                                         std::error_code& error);

  [[nodiscard]] UnixStream accept();
  [[nodiscard]] UnixStream accept(std::error_code& error);
  void close() noexcept;

  [[nodiscard]] UnixAddress local_address() const { return path_.address(); }
  [[nodiscard]] UnixAddress local_address(std::error_code& error) const {
    error.clear();
    return path_.address();
  }
  void set_timeout(Duration limit) noexcept { acceptor_.socket().set_read_timeout(limit); }  ///< for each accept()
  [[nodiscard]] int backlog() const noexcept { return options_.backlog; }
  [[nodiscard]] bool is_open() const noexcept { return static_cast<bool>(acceptor_.socket()); }
  [[nodiscard]] Socket& socket() noexcept { return acceptor_.socket(); }

 private:
  UnixListener(Socket socket, detail::BoundPath path, const UnixListenOptions& options) noexcept;

  detail::Acceptor acceptor_;
  UnixListenOptions options_;
  detail::BoundPath path_;  // goes first, so that a server that comes next does not find what is about to go
};

struct UnixDatagramOptions {
  std::optional<::mode_t> mode{};  ///< as UnixListenOptions'
  bool remove_stale = true;
  bool remove_on_close = true;
  bool credentials = false;  ///< each datagram tells who sent it (SO_PASSCRED)
};

/// What is known of a datagram that has come.
struct UnixReceived {
  std::size_t size = 0;       ///< bytes in the buffer
  std::size_t full_size = 0;  ///< bytes it had
  UnixAddress peer{};         ///< unnamed, if it was not bound
  std::optional<Credentials> credentials{};

  [[nodiscard]] bool truncated() const noexcept { return full_size > size; }
};

/// A socket for datagrams, which here arrive, once and in order; a sender waits while the receiver has not room for
/// them. Move-only; closes when it goes.
class UnixDatagram {
 public:
  UnixDatagram() noexcept = default;
  /// Unnamed: can send, but nobody can answer.
  [[nodiscard]] static UnixDatagram open(const UnixDatagramOptions& options = {});
  [[nodiscard]] static UnixDatagram bind(const UnixAddress& address, const UnixDatagramOptions& options = {});
  [[nodiscard]] static UnixDatagram bind(const UnixAddress& address, const UnixDatagramOptions& options,
                                         std::error_code& error);
  [[nodiscard]] static std::pair<UnixDatagram, UnixDatagram> pair(const UnixDatagramOptions& options = {});
  /// From now on sends to it, and hears nobody else.
  void connect_to(const UnixAddress& peer);
  void connect_to(const UnixAddress& peer, std::error_code& error);

  // Each sends one datagram, whole or not at all, with duplicates of `fds`.

  void send(std::span<const std::byte> data, std::span<const int> fds = {});
  void send(std::span<const std::byte> data, std::span<const int> fds, std::error_code& error);
  void send(std::string_view text) { send(std::as_bytes(std::span(text))); }
  void send_to(std::span<const std::byte> data, const UnixAddress& peer, std::span<const int> fds = {});
  void send_to(std::span<const std::byte> data, const UnixAddress& peer, std::span<const int> fds,
               std::error_code& error);
  void send_to(std::string_view text, const UnixAddress& peer) { send_to(std::as_bytes(std::span(text)), peer); }

  /// Waits for one. Descriptors that come along go into `fds`, as with UnixStream::receive_with_fds, or, without, are
  /// closed.
  UnixReceived receive(std::span<std::byte> buffer, std::vector<Fd>* fds = nullptr);
  UnixReceived receive(std::span<std::byte> buffer, std::vector<Fd>* fds, std::error_code& error);

  void set_timeout(Duration limit) noexcept { socket_.set_timeout(limit); }
  void close() noexcept;
  [[nodiscard]] UnixAddress local_address() const { return path_.address(); }
  [[nodiscard]] bool is_open() const noexcept { return static_cast<bool>(socket_); }
  [[nodiscard]] Socket& socket() noexcept { return socket_; }

 private:
  void send_message(std::span<const std::byte> data, const UnixAddress* peer, std::span<const int> fds,
                    std::error_code& error);

  Socket socket_;
  detail::BoundPath path_;  // goes before the socket
};

/// As serve() of tcp.hpp, which see, for Unix sockets. Shards do not share such listeners.
ServeStats serve(UnixListener& listener, const std::function<void(UnixStream)>& handler,
                 const ServeOptions& options = {});
ServeStats serve(UnixListener&& listener, const std::function<void(UnixStream)>& handler,
                 const ServeOptions& options = {});

}  // namespace bight::net
