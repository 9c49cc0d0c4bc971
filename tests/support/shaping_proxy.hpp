// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <bight/channel.hpp>
#include <bight/fiber.hpp>
#include <bight/net/tcp.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

namespace bight::test {

/// What a connection through a ShapingProxy is like, each way.
struct Shape {
  Duration delay{};                    ///< that everything comes later; the connection to the server, too
  std::uint64_t bytes_per_second = 0;  ///< 0: as many as may be
  std::uint64_t reset_after = 0;       ///< bytes of either way, and then both ends are reset; 0: never
};

/// A TCP proxy that makes a fast network a slow and unreliable one: in virtual time under the sim engine, and so to the
/// nanosecond; elsewhere at least so slow. Holds 256 KiB of each way at most, and lets the sender wait beyond that.
class ShapingProxy {
 public:
  ShapingProxy(net::Address server, const Shape& shape) : server_(server), shape_(shape) {
    fiber_ = spawn([this] {
      net::serve(listener_, [this](net::TcpStream client) { forward(std::move(client)); }, {.drain = Duration::zero()});
    });
  }
  ShapingProxy(const ShapingProxy&) = delete;
  ShapingProxy& operator=(const ShapingProxy&) = delete;
  /// Ends all connections through it. Waits.
  ~ShapingProxy() {
    listener_.close();
    fiber_.join();
  }

  [[nodiscard]] net::Address address() const { return address_; }
  /// For connections made from now on.
  void set_shape(const Shape& shape) noexcept { shape_ = shape; }

 private:
  static constexpr std::size_t kPiece = 4096;
  static constexpr std::size_t kPieces = 64;

  struct Piece {
    TimePoint due;
    std::vector<std::byte> data;  // none: the end
  };

  void forward(net::TcpStream client) const {
    const Shape shape = shape_;
    sleep_for(shape.delay);
    std::error_code error;
    net::TcpStream server = net::connect(server_, error);
    if (error) {
      client.reset();
      return;
    }
    std::uint64_t passed = 0;
    const auto lose = [&] {
      client.reset();
      server.reset();
    };
    Scope scope;
    for (const bool up : {true, false}) {
      net::TcpStream& from = up ? client : server;
      net::TcpStream& to = up ? server : client;
      const auto way = std::make_shared<Channel<Piece>>(kPieces);
      scope.spawn([&from, way, shape] { take(from, *way, shape); }).detach();
      scope
          .spawn([&to, &passed, &lose, way, shape] {
            if (!give(to, *way, shape, passed)) lose();
            way->close();
          })
          .detach();
    }
    scope.join();
  }

  static void take(net::TcpStream& from, Channel<Piece>& way, const Shape& shape) {
    std::error_code error;
    for (;;) {
      std::vector<std::byte> data(kPiece);
      data.resize(from.read(std::span(data), error));
      const bool over = error || data.empty();
      if (over) data.clear();
      try {
        way.send({now() + shape.delay, std::move(data)});
      } catch (const ChannelClosed&) {
        return;
      }
      if (over) return;
    }
  }

  /// False: the connection is to be lost.
  static bool give(net::TcpStream& to, Channel<Piece>& way, const Shape& shape, std::uint64_t& passed) {
    TimePoint free = now();
    std::error_code error;
    while (std::optional<Piece> piece = way.receive()) {
      if (piece->data.empty()) {
        sleep_until(std::max(piece->due, free));
        to.shutdown_write(error);
        return true;
      }
      if (shape.bytes_per_second != 0) {
        free = std::max(free, piece->due) + Duration(std::chrono::seconds(1)) *
                                                static_cast<std::int64_t>(piece->data.size()) /
                                                static_cast<std::int64_t>(shape.bytes_per_second);
      }
      sleep_until(std::max(piece->due, free));
      if (!error) to.write_all(std::span<const std::byte>(piece->data), error);  // and on, lest the other way waits
      passed += piece->data.size();
      if (shape.reset_after != 0 && passed >= shape.reset_after) return false;
    }
    return true;
  }

  net::Address server_;
  Shape shape_;
  net::TcpListener listener_ = net::TcpListener::bind("127.0.0.1:0");
  net::Address address_ = listener_.local_address();
  Fiber<void> fiber_;
};

}  // namespace bight::test
