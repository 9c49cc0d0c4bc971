// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Messages between two processes: multiprocessing's Pipe.
///
///     auto [mine, theirs] = make_connection_pair();
///     Process child([theirs = std::move(theirs)]() mutable {
///       while (std::optional<Job> job = theirs.receive<Job>()) theirs.send(run(*job));
///     });
///     mine.send(job);
///     std::optional<Result> result = mine.receive<Result>();

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include <bight/codec.hpp>
#include <bight/fd.hpp>
#include <bight/fd_watch.hpp>
#include <bight/time.hpp>

namespace bight {

namespace detail {
struct ConnectionState;

/// A limit as the time when it ends, in a loop or without one.
template <class Rep, class Period>
[[nodiscard]] TimePoint end_of_limit(const std::chrono::duration<Rep, Period>& limit) noexcept {
  return limit <= limit.zero() ? TimePoint::min() : saturating_add(now(), saturating_duration(limit));
}

/// A message as it has come.
struct Received {
  std::span<const std::byte> bytes;  // until the connection's next receive
  std::vector<std::byte> large;      // what `bytes` are of, if it is not the connection's buffer
  std::vector<Fd> fds;
};

}  // namespace detail

/// What has come, with the descriptors that came along: close-on-exec, and closed with the message unless taken out.
struct Message {
  std::vector<std::byte> bytes;
  std::vector<Fd> fds;
};

/// One end of a pair that messages go through both ways, in order. A message arrives whole or not at all, also if its
/// sender is killed on the way.
///
/// The two ends are made before the fork and one is used on each side; or an end is sent to another process through a
/// third connection (release() and send_with_fds() here, a Connection made of the Fd there). After a fork both
/// processes have both ends: each should close() the one it does not use, or it will never see the end of the messages.
/// That end, nothing is received any more, comes when the last copy of the other end has been closed, by whatever
/// death.
///
/// Up to connection_inline_max bytes a message goes through a socket (SOCK_SEQPACKET); a larger one is put into memory
/// of its own (a sealed memfd) and its descriptor sent, so that it costs no more copies, and a socket's buffer is no
/// limit. Many messages may be on the way; how many, the socket's buffer decides, some hundred small ones. A sender
/// waits when it is full.
///
/// Fibers wait in their loop, a thread without a loop in poll(2). Everything waits unless said otherwise, and throws
/// Cancelled in a cancelled fiber, also if there was nothing to wait for; then nothing was sent, or received. Fibers of
/// one loop may share an end: those that send take turns, and so do those that receive, first come, first served. One
/// loop or thread of a process at a time. Under the sim engine there are no other processes: waiting is
/// operation_not_supported.
///
/// The forms with a std::error_code report what the others throw as std::system_error: broken_pipe when the other end
/// is gone (there is no SIGPIPE), message_size beyond message_max(), bad_message when what has come is no message of a
/// Connection, or no T, too_many_files_open when there was no room for its descriptors (the message is lost then),
/// bad_file_descriptor after close(), by whomever. A value that can not be decoded throws DecodeError where errors are
/// thrown.
class Connection {
 public:
  Connection() noexcept;
  /// Takes over an end that was received as a descriptor. Throws std::system_error unless it is such a socket.
  explicit Connection(Fd end);
  Connection(Connection&&) noexcept;
  Connection& operator=(Connection&&) noexcept;
  ~Connection();

  /// Wakes who waits on it here, then closes this process's copy of the end. Does not wait.
  void close() noexcept;
  [[nodiscard]] explicit operator bool() const noexcept { return fd() >= 0; }
  [[nodiscard]] int fd() const noexcept;
  /// Gives the end away as a descriptor; nobody may wait on it.
  [[nodiscard]] Fd release() noexcept;

  // Sending.

  template <class T>
  void send(const T& value) {
    with_bytes(value, [this](std::span<const std::byte> bytes) { send_or_throw(bytes, {}, TimePoint::max()); });
  }
  template <class T>
  void send(const T& value, std::error_code& error) {
    with_bytes(value, [&](std::span<const std::byte> bytes) { send_raw(bytes, {}, TimePoint::max(), error); });
  }
  /// Waits for `limit` at most. Whether it was sent.
  template <class T, class Rep, class Period>
  [[nodiscard]] bool send_for(const T& value, const std::chrono::duration<Rep, Period>& limit) {
    return with_bytes(
        value, [&](std::span<const std::byte> bytes) { return send_or_throw(bytes, {}, detail::end_of_limit(limit)); });
  }
  /// Does not wait. Whether there was room.
  template <class T>
  [[nodiscard]] bool try_send(const T& value) {
    return send_for(value, Duration::zero());
  }
  /// Bytes as they are, which may be none.
  void send_bytes(std::span<const std::byte> bytes) { send_or_throw(bytes, {}, TimePoint::max()); }
  void send_bytes(std::span<const std::byte> bytes, std::error_code& error) {
    send_raw(bytes, {}, TimePoint::max(), error);
  }
  template <class Rep, class Period>
  [[nodiscard]] bool send_bytes_for(std::span<const std::byte> bytes, const std::chrono::duration<Rep, Period>& limit) {
    return send_or_throw(bytes, {}, detail::end_of_limit(limit));
  }
  /// With copies of descriptors, connection_fds_max at most (more are argument_list_too_long); the caller keeps its
  /// own.
  void send_with_fds(std::span<const std::byte> bytes, std::span<const int> fds) {
    send_or_throw(bytes, fds, TimePoint::max());
  }
  void send_with_fds(std::span<const std::byte> bytes, std::span<const int> fds, std::error_code& error) {
    send_raw(bytes, fds, TimePoint::max(), error);
  }

  // Receiving. Nothing: the other end is gone, and all it sent has been received.

  template <class T>
  [[nodiscard]] std::optional<T> receive() {
    return decoded<T>(receive_or_throw(TimePoint::max()));
  }
  template <class T>
  [[nodiscard]] std::optional<T> receive(std::error_code& error) {
    std::optional<T> value;
    try {
      value = decoded<T>(receive_raw(TimePoint::max(), error));
    } catch (const DecodeError&) {
      error = std::make_error_code(std::errc::bad_message);
    }
    return value;
  }
  /// Waits for `limit` at most. Nothing: none came, or never will (at_end()).
  template <class T, class Rep, class Period>
  [[nodiscard]] std::optional<T> receive_for(const std::chrono::duration<Rep, Period>& limit) {
    return decoded<T>(receive_or_throw(detail::end_of_limit(limit)));
  }
  /// Does not wait. Nothing: none is there, or never will (at_end()).
  template <class T>
  [[nodiscard]] std::optional<T> try_receive() {
    return receive_for<T>(Duration::zero());
  }
  /// Descriptors that came with it are closed.
  [[nodiscard]] std::optional<std::vector<std::byte>> receive_bytes();
  [[nodiscard]] std::optional<std::vector<std::byte>> receive_bytes(std::error_code& error);
  template <class Rep, class Period>
  [[nodiscard]] std::optional<std::vector<std::byte>> receive_bytes_for(
      const std::chrono::duration<Rep, Period>& limit) {
    return owned(receive_or_throw(detail::end_of_limit(limit)));
  }
  /// With the descriptors that came along.
  [[nodiscard]] std::optional<Message> receive_message();
  [[nodiscard]] std::optional<Message> receive_message(std::error_code& error);
  template <class Rep, class Period>
  [[nodiscard]] std::optional<Message> receive_message_for(const std::chrono::duration<Rep, Period>& limit) {
    return whole(receive_or_throw(detail::end_of_limit(limit)));
  }

  /// Whether the other end has been found gone, and nothing is left to receive.
  [[nodiscard]] bool at_end() const noexcept;
  /// Waits for `limit` at most until a message, or the end, is there to be received, and whether it is. Receives
  /// nothing. Throws Cancelled; poll(0ms) does not wait.
  template <class Rep, class Period>
  [[nodiscard]] bool poll(const std::chrono::duration<Rep, Period>& limit) {
    return poll_until(detail::end_of_limit(limit));
  }
  /// A case of select(): a message, or the end, is there. Receive it in the handler. While the select waits nobody else
  /// of this process may wait to receive.
  template <class F>
  [[nodiscard]] auto on_readable(F&& handler) {
    return watch().on_readable(std::forward<F>(handler));
  }

  /// Messages beyond that many bytes are not sent, and not received. connection_message_max unless set.
  void set_message_max(std::size_t bytes) noexcept;
  [[nodiscard]] std::size_t message_max() const noexcept;

 private:
  template <class T, class Use>
  static auto with_bytes(const T& value, Use&& use) {
    if constexpr (detail::kCopiedAtOnce<T>) {
      return use(std::as_bytes(std::span(&value, 1)));
    } else {
      return use(encode(value));
    }
  }
  template <class T>
  static std::optional<T> decoded(const std::optional<detail::Received>& received) {
    if (!received) return std::nullopt;
    return std::optional<T>(decode<T>(received->bytes));
  }
  static std::optional<std::vector<std::byte>> owned(std::optional<detail::Received>&& received);
  static std::optional<Message> whole(std::optional<detail::Received>&& received);

  void send_raw(std::span<const std::byte> bytes, std::span<const int> fds, TimePoint until, std::error_code& error);
  bool send_or_throw(std::span<const std::byte> bytes, std::span<const int> fds, TimePoint until);
  std::optional<detail::Received> receive_raw(TimePoint until, std::error_code& error);
  std::optional<detail::Received> receive_or_throw(TimePoint until);
  [[nodiscard]] bool poll_until(TimePoint until);
  [[nodiscard]] FdWatch& watch();

  std::shared_ptr<detail::ConnectionState> state_;  // shared with who waits; null: closed
};

/// Beyond that many bytes a message travels in memory of its own.
inline constexpr std::size_t connection_inline_max = 64 * 1024;
/// The largest message, unless set_message_max() says otherwise.
inline constexpr std::size_t connection_message_max = std::size_t{256} * 1024 * 1024;
/// How many descriptors may come with one message.
inline constexpr std::size_t connection_fds_max = 64;

/// Two ends. Throws std::system_error.
[[nodiscard]] std::pair<Connection, Connection> make_connection_pair();

}  // namespace bight
