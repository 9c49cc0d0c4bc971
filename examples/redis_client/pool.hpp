// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <bight/fiber.hpp>
#include <bight/semaphore.hpp>
#include <bight/time.hpp>

#include "connection.hpp"

namespace redis {

struct PoolOptions {
  std::size_t connections_max = 8;
  bight::Duration acquire_timeout{0};  ///< how long to wait for a connection that is free; zero: as long as it takes
  bight::Duration idle_max = std::chrono::minutes(5);  ///< unused for so long: closed
  bight::Duration check_after =
      std::chrono::seconds(30);  ///< unused for so long: asked whether it is alive (PING) first
  bight::Duration check_timeout = std::chrono::seconds(1);
  unsigned tries = 3;  ///< to connect, and to send a request that has not been done for sure
  bight::Duration retry_pause = std::chrono::milliseconds(50);  ///< before the second; each one twice as long
  ConnectionOptions connection{};
};

struct PoolStats {
  std::uint64_t opened = 0;
  std::uint64_t dropped = 0;  ///< broken, altered, or with a call that was given up
  std::uint64_t expired = 0;  ///< unused for too long
  std::size_t idle = 0;
  std::size_t in_use = 0;
};

/// Up to so many connections to a server, each lent to one fiber at a time, first come, first served.
///
///     redis::Pool pool(endpoint, {.connections_max = 8});
///     pool.call("INCR", "hits");                          // with whichever connection is free
///     auto redis = pool.acquire();                        // or one for some time: for WATCH, BLPOP, ...
///     redis->call("WATCH", "stock");
///
/// What is tried again, by call(): a connection that can not be made, up to `tries` times; and a request of which
/// nothing had been sent when its connection was lost. A request that may have been done is tried again only if it says
/// that it may be (Command::idempotent): whether a lost INCR has counted nobody can know, and so it is the caller who
/// is told. Nothing else is ever sent twice, nor is anything that was sent through a connection of acquire().
///
/// Goes back into the pool: a connection that is as it was. Dropped: one that is broken, on which a call was cancelled
/// before its reply had come, or that was altered (Connection::altered).
///
/// Not movable; must outlive its leases. To destroy it closes what is idle.
class Pool {
 public:
  class Lease;

  explicit Pool(Endpoint endpoint, const PoolOptions& options = {});
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool();

  /// Waits for a connection that is free and alive, or makes one. Throws std::system_error with timed_out
  /// (acquire_timeout), what Connection's constructor throws, Cancelled.
  [[nodiscard]] Lease acquire();

  Value call(const Command& command);
  template <class... Args>
  Value call(std::string_view name, const Args&... args) {
    return call(Command(name, args...));
  }
  /// As Connection's. Tried again only while nothing was sent.
  [[nodiscard]] std::vector<Value> call(const Pipeline& pipeline);
  [[nodiscard]] std::optional<std::vector<Value>> call(const Transaction& transaction);

  /// Closes what is idle now.
  void close_idle() noexcept;
  [[nodiscard]] PoolStats stats() const noexcept;

 private:
  struct Idle {
    std::unique_ptr<Connection> connection;
    bight::TimePoint since;
  };

  [[nodiscard]] std::unique_ptr<Connection> take_idle();
  [[nodiscard]] std::unique_ptr<Connection> open();
  [[nodiscard]] bool answers(Connection& connection) const;
  void give_back(std::unique_ptr<Connection> connection) noexcept;
  void expire_idle();
  template <class Call>
  auto retrying(bool idempotent, const Call& call);

  Endpoint endpoint_;
  PoolOptions options_;
  bight::Semaphore permits_;
  std::vector<Idle> idle_;  // the one used last at the end
  PoolStats stats_;
  bight::Fiber<> janitor_;
};

/// A connection that is nobody else's for as long as this exists.
class Pool::Lease {
 public:
  Lease(Lease&& other) noexcept : pool_(other.pool_), connection_(std::move(other.connection_)) {}
  Lease& operator=(Lease&&) = delete;
  ~Lease() {
    if (connection_ != nullptr) pool_->give_back(std::move(connection_));
  }

  [[nodiscard]] Connection& operator*() const noexcept { return *connection_; }
  [[nodiscard]] Connection* operator->() const noexcept { return connection_.get(); }
  /// It is not to be used again.
  void drop() noexcept { connection_->close(); }

 private:
  friend class Pool;
  Lease(Pool& pool, std::unique_ptr<Connection> connection) noexcept
      : pool_(&pool), connection_(std::move(connection)) {}

  Pool* pool_;
  std::unique_ptr<Connection> connection_;
};

}  // namespace redis
