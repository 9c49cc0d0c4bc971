// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#include <bight/chunk.hpp>
#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/net/byte_stream.hpp>
#include <bight/net/tcp.hpp>
#include <bight/time.hpp>

namespace bight::net::detail {

/// What TLS runs over, whatever stream it is. A virtual call is nothing beside what a record costs.
class TlsTransport {
 public:
  TlsTransport() = default;
  TlsTransport(const TlsTransport&) = delete;
  TlsTransport& operator=(const TlsTransport&) = delete;
  virtual ~TlsTransport() = default;

  [[nodiscard]] virtual Chunk read(std::error_code& error) = 0;
  /// Some of `data`. With an error nothing has been taken.
  virtual std::size_t write(std::span<const std::byte> data, std::error_code& error) = 0;
  /// What it takes without waiting.
  virtual std::size_t write_now(std::span<const std::byte> data) noexcept = 0;
  virtual void close() noexcept = 0;
  virtual void reset() noexcept = 0;
  virtual void set_read_timeout(Duration limit) noexcept = 0;
  virtual void set_write_timeout(Duration limit) noexcept = 0;
  [[nodiscard]] virtual bool is_open() const noexcept = 0;
  /// The stream, if it is one of TCP's.
  [[nodiscard]] virtual TcpStream* tcp() noexcept { return nullptr; }
  /// The stream, whatever it is.
  [[nodiscard]] virtual void* stream() noexcept = 0;
  [[nodiscard]] virtual std::string describe_peer() const = 0;
};

[[nodiscard]] std::string describe_tls_peer(Socket& socket);

/// How much a stream without Chunks is asked for at a time: a record and what belongs to it.
inline constexpr std::size_t kTlsReadSize = std::size_t{16} * 1024 + 512;

template <class S>
concept HasSocket = requires(S& stream) {
  { stream.socket() } -> std::same_as<Socket&>;
};
template <class S>
concept HasChunks = requires(S& stream, std::error_code& error) {
  { stream.read(error) } -> std::same_as<Chunk>;
};
template <class S>
concept HasTimeouts = requires(S& stream, Duration limit) {
  stream.set_read_timeout(limit);
  stream.set_write_timeout(limit);
};

/// `body(error)` for `limit` at most, if that is not zero: then timed_out.
template <class F>
auto within(Duration limit, std::error_code& error, F&& body) {
  if (limit == Duration::zero()) return body(error);
  decltype(body(error)) result{};
  try {
    const bool in_time = move_on_after(limit, [&] {
      result = body(error);
      if (error == std::errc::operation_canceled) this_fiber::checkpoint();
    });
    if (!in_time) error = std::make_error_code(std::errc::timed_out);
  } catch (const Cancelled&) {
    error = std::make_error_code(std::errc::operation_canceled);
  }
  return result;
}

template <class S>
class TlsTransportOver final : public TlsTransport {
 public:
  explicit TlsTransportOver(S stream) noexcept : stream_(std::move(stream)) {}

  [[nodiscard]] Chunk read(std::error_code& error) override {
    if constexpr (HasChunks<S> && HasTimeouts<S>) {
      return stream_.read(error);
    } else {
      return limited(read_timeout_, error, [this](std::error_code& why) { return read_chunk(why); });
    }
  }
  std::size_t write(std::span<const std::byte> data, std::error_code& error) override {
    if constexpr (HasTimeouts<S>) {
      return stream_.write(data, error);
    } else {
      return limited(write_timeout_, error, [&](std::error_code& why) { return stream_.write(data, why); });
    }
  }
  std::size_t write_now(std::span<const std::byte> data) noexcept override {
    std::error_code error;
    if constexpr (HasSocket<S>) {
      return stream_.socket().try_write(data, error);
    } else if constexpr (requires { stream_.try_write(data, error); }) {
      return stream_.try_write(data, error);
    } else {
      return 0;
    }
  }
  void close() noexcept override { stream_.close(); }
  void reset() noexcept override {
    if constexpr (requires { stream_.reset(); }) {
      stream_.reset();
    } else {
      stream_.close();
    }
  }
  void set_read_timeout(Duration limit) noexcept override {
    read_timeout_ = limit;
    if constexpr (HasTimeouts<S>) stream_.set_read_timeout(limit);
  }
  void set_write_timeout(Duration limit) noexcept override {
    write_timeout_ = limit;
    if constexpr (HasTimeouts<S>) stream_.set_write_timeout(limit);
  }
  [[nodiscard]] bool is_open() const noexcept override { return stream_.is_open(); }
  [[nodiscard]] TcpStream* tcp() noexcept override {
    if constexpr (std::is_same_v<S, TcpStream>) {
      return &stream_;
    } else {
      return nullptr;
    }
  }
  [[nodiscard]] void* stream() noexcept override { return &stream_; }
  [[nodiscard]] std::string describe_peer() const override {
    if constexpr (HasSocket<S>) {
      return describe_tls_peer(const_cast<S&>(stream_).socket());  // NOLINT(cppcoreguidelines-pro-type-const-cast)
    } else {
      return {};
    }
  }

 private:
  [[nodiscard]] Chunk read_chunk(std::error_code& error) {
    if constexpr (HasChunks<S>) {
      return stream_.read(error);
    } else {
      Chunk chunk = bight::detail::make_chunk(kTlsReadSize);
      chunk.shrink(stream_.read(std::span(chunk.data(), chunk.size()), error));
      return chunk;
    }
  }
  template <class F>
  auto limited(Duration limit, std::error_code& error, F&& body) {
    return within(limit, error, body);
  }

  S stream_;
  Duration read_timeout_{0};
  Duration write_timeout_{0};
};

}  // namespace bight::net::detail
