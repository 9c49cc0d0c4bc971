// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Reading and writing with a buffer in between, for protocols whose messages do not come in the pieces that the
/// network makes. (For lines and nothing else there is bight::LineReader.)
///
///     net::BufferedReader reader(stream);
///     net::BufferedWriter writer(stream);
///     while (auto line = reader.read_line()) writer.write(answer(*line)), writer.flush();
///
/// Every operation has two forms, as in tcp.hpp.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

#include <bight/net/byte_stream.hpp>

namespace bight::net {

namespace detail {

/// Bytes that have been read and not yet taken.
class ReadBuffer {
 public:
  ReadBuffer(std::size_t least, std::size_t most) noexcept : least_(least), most_(most) {}

  [[nodiscard]] std::span<const std::byte> unread() const noexcept {
    return std::span(bytes_).subspan(begin_, end_ - begin_);
  }
  /// Where to read to: what `wanted` bytes in all need, or some, as far as it may grow. Throws std::bad_alloc.
  [[nodiscard]] std::span<std::byte> room(std::size_t wanted);
  void filled(std::size_t count) noexcept { end_ += count; }
  void consume(std::size_t count) noexcept { begin_ += count; }
  [[nodiscard]] std::size_t most() const noexcept { return most_; }

 private:
  std::size_t least_;
  std::size_t most_;
  std::vector<std::byte> bytes_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

[[noreturn]] void throw_buffered(std::error_code error, const char* attempt);

[[nodiscard]] inline std::string_view text_of(std::span<const std::byte> bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace detail

struct BufferedReaderOptions {
  std::size_t buffer_size = std::size_t{16} * 1024;   ///< to begin with
  std::size_t buffer_max = std::size_t{1024} * 1024;  ///< for the longest line, record or view
};

/// Reads from a stream by way of a buffer. Refers to the stream; for one fiber at a time. Reads ahead, so nobody else
/// should read from the stream; buffered() is what is left when one goes on by other means.
///
/// Views are into the buffer and good until the next call. What was read before an error or a cancellation is kept, so
/// that the operation can be repeated. More than buffer_max bytes at a time, or a line longer than its limit, is
/// message_size; then the stream is of no use for this any more but to be closed. Takes no memory until it reads.
template <ByteReader S>
class BufferedReader {
 public:
  using View = std::span<const std::byte>;

  explicit BufferedReader(S& stream, const BufferedReaderOptions& options = {}) noexcept
      : stream_(&stream), buffer_(options.buffer_size, options.buffer_max) {}

  /// Waits until `count` bytes are there and returns all there are, without taking them; fewer: the stream ends.
  [[nodiscard]] View peek(std::size_t count, std::error_code& error) {
    error.clear();
    while (buffer_.unread().size() < count && fill(count, error)) {
    }
    return buffer_.unread();
  }
  [[nodiscard]] View peek(std::size_t count = 1) {
    return throwing("peek", [&](std::error_code& error) { return peek(count, error); });
  }
  /// Takes what was peeked at: no more than that.
  void consume(std::size_t count) noexcept { buffer_.consume(count); }

  /// Waits for something and takes all there is. Empty: the end.
  [[nodiscard]] View read_available(std::error_code& error) {
    const View all = peek(1, error);
    buffer_.consume(all.size());
    return all;
  }
  [[nodiscard]] View read_available() {
    return throwing("read", [&](std::error_code& error) { return read_available(error); });
  }

  /// Waits for something and takes as much as fits: makes this a ByteReader itself.
  std::size_t read(std::span<std::byte> into, std::error_code& error) {
    error.clear();
    if (into.empty()) return 0;
    if (buffer_.unread().empty() && into.size() >= buffer_.most()) return stream_->read(into, error);
    const View all = peek(1, error);
    const std::size_t count = copy(all, into);
    buffer_.consume(count);
    return count;
  }
  std::size_t read(std::span<std::byte> into) {
    return throwing("read", [&](std::error_code& error) { return read(into, error); });
  }

  /// Fills `into` whole; end of stream before that is connection_aborted.
  void read_exactly(std::span<std::byte> into, std::error_code& error) {
    error.clear();
    const std::size_t there = copy(buffer_.unread(), into);
    buffer_.consume(there);
    for (into = into.subspan(there); !into.empty() && !error;) {
      const std::size_t count = stream_->read(into, error);  // past the buffer, which is empty
      if (!error && count == 0) error = std::make_error_code(std::errc::connection_aborted);
      into = into.subspan(count);
    }
  }
  void read_exactly(std::span<std::byte> into) {
    throwing("read", [&](std::error_code& error) { read_exactly(into, error); });
  }
  /// The same as a view, of buffer_max bytes at most.
  [[nodiscard]] View read_exactly(std::size_t count, std::error_code& error) {
    const View all = peek(count, error);
    if (error) return {};
    if (all.size() < count) {
      error = std::make_error_code(std::errc::connection_aborted);
      return {};
    }
    buffer_.consume(count);
    return all.first(count);
  }
  [[nodiscard]] View read_exactly(std::size_t count) {
    return throwing("read", [&](std::error_code& error) { return read_exactly(count, error); });
  }

  /// Takes what is before the next `delimiter`, and that, too, which the view leaves out. Nothing: the stream has ended
  /// there; if it does with bytes before it: connection_aborted. The delimiter is not empty.
  [[nodiscard]] std::optional<View> read_until(std::string_view delimiter, std::size_t limit, std::error_code& error) {
    View record;
    if (cut(delimiter, limit, record, error)) return record;
    if (!error && !buffer_.unread().empty()) error = std::make_error_code(std::errc::connection_aborted);
    return std::nullopt;
  }
  [[nodiscard]] std::optional<View> read_until(std::string_view delimiter, std::size_t limit) {
    return throwing("read", [&](std::error_code& error) { return read_until(delimiter, limit, error); });
  }

  /// The next line, without its end ("\n" or "\r\n"). Nothing: the stream has ended; the last line may do without an
  /// end. `limit`: bytes, with a "\r".
  [[nodiscard]] std::optional<std::string_view> read_line(std::size_t limit, std::error_code& error) {
    View line;
    if (cut("\n", limit, line, error)) {
      std::string_view text = detail::text_of(line);
      if (!text.empty() && text.back() == '\r') text.remove_suffix(1);
      return text;
    }
    const View rest = buffer_.unread();
    if (error || rest.empty()) return std::nullopt;
    buffer_.consume(rest.size());
    return detail::text_of(rest);
  }
  [[nodiscard]] std::optional<std::string_view> read_line(std::size_t limit = kLineMax) {
    return throwing("read a line", [&](std::error_code& error) { return read_line(limit, error); });
  }
  static constexpr std::size_t kLineMax = std::size_t{64} * 1024;

  /// What has been read and not taken.
  [[nodiscard]] View buffered() const noexcept { return buffer_.unread(); }
  [[nodiscard]] S& stream() noexcept { return *stream_; }

 private:
  /// Takes what is before the next delimiter, and that. False: an error, or without one the stream's end, with at most
  /// `limit` bytes before it.
  bool cut(std::string_view delimiter, std::size_t limit, View& record, std::error_code& error) {
    error.clear();
    for (std::size_t searched = 0;;) {
      const View all = buffer_.unread();
      const std::size_t at = detail::text_of(all).find(delimiter, searched);
      const bool found = at != std::string_view::npos;
      if (found && at <= limit) {
        buffer_.consume(at + delimiter.size());
        record = all.first(at);
        return true;
      }
      searched = all.size() >= delimiter.size() ? all.size() - delimiter.size() + 1 : 0;
      const bool too_long = found || all.size() > limit + delimiter.size();
      if (!too_long && fill(all.size() + 1, error)) continue;
      if (too_long || (!error && all.size() > limit)) error = std::make_error_code(std::errc::message_size);
      return false;
    }
  }
  /// False: the stream has ended, or an error.
  bool fill(std::size_t wanted, std::error_code& error) {
    const std::span<std::byte> room = buffer_.room(wanted);
    if (room.empty()) {
      error = std::make_error_code(std::errc::message_size);
      return false;
    }
    const std::size_t count = stream_->read(room, error);
    if (error) return false;
    buffer_.filled(count);
    return count > 0;
  }
  static std::size_t copy(View from, std::span<std::byte> into) noexcept {
    const std::size_t count = from.size() < into.size() ? from.size() : into.size();
    for (std::size_t n = 0; n < count; ++n) into[n] = from[n];
    return count;
  }
  template <class F>
  static auto throwing(const char* attempt, F&& f) {
    std::error_code error;
    if constexpr (std::is_void_v<decltype(f(error))>) {
      f(error);
      if (error) detail::throw_buffered(error, attempt);
    } else {
      auto result = f(error);
      if (error) detail::throw_buffered(error, attempt);
      return result;
    }
  }

  S* stream_;
  detail::ReadBuffer buffer_;
};

struct BufferedWriterOptions {
  /// When so many bytes wait, a write sends them before it returns: what a slow peer does not take holds its writer up.
  std::size_t high_water = std::size_t{16} * 1024;
};

/// Gathers what is written into pieces worth sending. Refers to the stream; for one fiber at a time. Nothing is sent by
/// itself: flush() before waiting for an answer, and at the end; what has not been flushed when it goes is dropped, for
/// a destructor can not wait. After an error the stream is of no use but to be closed.
template <ByteWriter S>
class BufferedWriter {
 public:
  explicit BufferedWriter(S& stream, const BufferedWriterOptions& options = {}) noexcept
      : stream_(&stream), options_(options) {}

  void write(std::span<const std::byte> data, std::error_code& error) {
    error.clear();
    if (data.size() >= options_.high_water) {  // not worth a copy
      flush(error);
      if (!error) stream_->write_all(data, error);
      return;
    }
    bytes_.insert(bytes_.end(), data.begin(), data.end());
    if (bytes_.size() >= options_.high_water) flush(error);
  }
  void write(std::span<const std::byte> data) {
    std::error_code error;
    write(data, error);
    if (error) detail::throw_buffered(error, "write");
  }
  void write(std::string_view text, std::error_code& error) { write(std::as_bytes(std::span(text)), error); }
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

  /// Sends what waits.
  void flush(std::error_code& error) {
    error.clear();
    if (bytes_.empty()) return;
    stream_->write_all(std::span<const std::byte>(bytes_), error);
    bytes_.clear();
  }
  void flush() {
    std::error_code error;
    flush(error);
    if (error) detail::throw_buffered(error, "flush");
  }

  /// How many bytes wait.
  [[nodiscard]] std::size_t pending() const noexcept { return bytes_.size(); }
  [[nodiscard]] S& stream() noexcept { return *stream_; }

  // As other ByteWriters'.
  void write_all(std::span<const std::byte> data, std::error_code& error) { write(data, error); }

 private:
  S* stream_;
  BufferedWriterOptions options_;
  std::vector<std::byte> bytes_;
};

// --- Frames: four bytes that say how long it is, the highest first, and as many bytes

/// How long frames may be unless something else is said; a reader's buffer_max is a limit, too.
inline constexpr std::size_t kFrameMax = std::size_t{1024} * 1024 - 4;

/// The next frame, a view as BufferedReader's. Nothing: the stream has ended. Within a frame: connection_aborted;
/// longer than `limit`: message_size.
template <ByteReader S>
[[nodiscard]] std::optional<std::span<const std::byte>> read_frame(BufferedReader<S>& reader, std::size_t limit,
                                                                   std::error_code& error) {
  constexpr std::size_t kHead = 4;
  const auto head = reader.peek(kHead, error);
  if (error || head.empty()) return std::nullopt;
  std::size_t size = 0;
  for (const std::byte each : head.first(head.size() < kHead ? head.size() : kHead)) {
    size = size << 8U | std::to_integer<std::size_t>(each);
  }
  if (head.size() < kHead) {
    error = std::make_error_code(std::errc::connection_aborted);
  } else if (size > limit) {
    error = std::make_error_code(std::errc::message_size);
  }
  if (error) return std::nullopt;
  const auto whole = reader.read_exactly(kHead + size, error);
  if (error) return std::nullopt;
  return whole.subspan(kHead);
}
template <ByteReader S>
[[nodiscard]] std::optional<std::span<const std::byte>> read_frame(BufferedReader<S>& reader,
                                                                   std::size_t limit = kFrameMax) {
  std::error_code error;
  auto frame = read_frame(reader, limit, error);
  if (error) detail::throw_buffered(error, "read a frame");
  return frame;
}

/// Writes a frame, of 4 GiB - 1 bytes at most (message_size beyond). To a BufferedWriter: does not flush.
template <ByteWriter S>
void write_frame(S& stream, std::span<const std::byte> data, std::error_code& error) {
  error.clear();
  if (data.size() > UINT32_MAX) {
    error = std::make_error_code(std::errc::message_size);
    return;
  }
  std::byte head[4];
  for (unsigned n = 0; n < 4; ++n) head[n] = static_cast<std::byte>(data.size() >> (24U - 8 * n) & 0xffU);
  if constexpr (requires(std::span<const std::span<const std::byte>> pieces) { stream.write_all(pieces, error); }) {
    const std::span<const std::byte> pieces[] = {head, data};
    stream.write_all(std::span<const std::span<const std::byte>>(pieces), error);
  } else {
    stream.write_all(std::span<const std::byte>(head), error);
    if (!error) stream.write_all(data, error);
  }
}
template <ByteWriter S>
void write_frame(S& stream, std::span<const std::byte> data) {
  std::error_code error;
  write_frame(stream, data, error);
  if (error) detail::throw_buffered(error, "write a frame");
}

}  // namespace bight::net
