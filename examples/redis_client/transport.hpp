// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <system_error>
#include <utility>

#include <bight/net/byte_stream.hpp>
#include <bight/time.hpp>

#include "endpoint.hpp"

namespace redis {

/// What the bytes go through, whatever kind of stream that is. One fiber may read while another writes; close() wakes
/// both.
class Transport {
 public:
  Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;
  virtual ~Transport() = default;

  virtual std::size_t read(std::span<std::byte> buffer, std::error_code& error) = 0;
  virtual void write_all(std::span<const std::byte> data, std::error_code& error) = 0;
  virtual void close() noexcept = 0;
};

template <bight::net::ByteStream S>
class StreamTransport final : public Transport {
 public:
  explicit StreamTransport(S stream) noexcept : stream_(std::move(stream)) {}

  std::size_t read(std::span<std::byte> buffer, std::error_code& error) override { return stream_.read(buffer, error); }
  void write_all(std::span<const std::byte> data, std::error_code& error) override { stream_.write_all(data, error); }
  void close() noexcept override { stream_.close(); }

 private:
  S stream_;
};

/// Connects by TCP (with keep-alive probes, so that a server whose machine has gone is noticed) or to a Unix socket.
/// Throws std::system_error, Cancelled.
[[nodiscard]] std::unique_ptr<Transport> connect(const Endpoint& endpoint, bight::Duration timeout);

template <bight::net::ByteStream S>
[[nodiscard]] std::unique_ptr<Transport> transport_over(S stream) {
  return std::make_unique<StreamTransport<S>>(std::move(stream));
}

}  // namespace redis
