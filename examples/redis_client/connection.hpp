// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <bight/channel.hpp>

#include "endpoint.hpp"
#include "exchange.hpp"
#include "pipeline.hpp"

namespace redis {

enum class Protocol : unsigned char {
  automatic,  ///< RESP3 if the server has it
  resp2,
  resp3,
};

struct ConnectionOptions {
  Protocol protocol = Protocol::automatic;
  bight::Duration connect_timeout = std::chrono::seconds(5);  ///< with the name and the first words; zero: none
  std::string client_name{};                                  ///< as CLIENT LIST shows it; empty: none
  std::size_t pushes_max = 1024;  ///< pushes that nobody has received; what comes beyond is dropped
  ExchangeOptions exchange{};
};

/// A connection to a server, for any number of fibers of one loop: each call gets its own reply, and calls that are
/// made at the same time go out together.
///
///     redis::Connection redis(redis::Endpoint::parse("redis://localhost"));
///     redis.call("SET", "key", 42);
///     std::string text = redis.call("GET", "key").take_text();
///
/// - Calls throw ServerError for the server's errors, ConnectionLost when the connection is not usable any more, and
///   Cancelled. A Pipeline's errors are among its replies.
/// - It never connects again by itself, and never sends anything twice: see Pool.
/// - A call that is cancelled or timed (bight::with_timeout) may have been done, or be done yet. Its reply is dropped
///   when it comes; the connection stays as good as before. But who waits behind a BLPOP that was cancelled, waits:
///   blocking commands (Command::blocking) want a connection of their own.
/// - SELECT, WATCH and the like concern all who share it. SUBSCRIBE, MONITOR and CLIENT REPLY are refused with
///   std::invalid_argument: see Subscriber.
///
/// Move-only. To destroy it ends the calls under way, and waits for a moment until its fibers have gone.
class Connection {
 public:
  /// Connects, says hello, authenticates, selects the database. Throws std::system_error (ConnectionLost with timed_out
  /// when it takes too long), ServerError (WRONGPASS ...), Cancelled.
  explicit Connection(const Endpoint& endpoint, const ConnectionOptions& options = {});
  /// The same through a stream that is there already.
  Connection(std::unique_ptr<Transport> transport, const Endpoint& endpoint, const ConnectionOptions& options = {});
  Connection(Connection&&) noexcept = default;
  Connection& operator=(Connection&& other) noexcept;
  ~Connection() { drop(); }

  Value call(const Command& command);
  template <class... Args>
  Value call(std::string_view name, const Args&... args) {
    return call(Command(name, args...));
  }
  /// As many replies as there are requests.
  [[nodiscard]] std::vector<Value> call(const Pipeline& pipeline);
  /// The replies of its requests. Nothing: not done, for a key that was watched has changed. A request that was refused
  /// from the start is a ServerError, and none is done.
  [[nodiscard]] std::optional<std::vector<Value>> call(const Transaction& transaction);

  /// Whether it is still of use, as far as is known here.
  [[nodiscard]] bool alive() const noexcept { return exchange_ != nullptr && exchange_->alive(); }
  [[nodiscard]] std::size_t unanswered() const noexcept { return exchange_->unanswered(); }
  /// Whether SELECT, WATCH or their like have been called, so that it may not be what it was.
  [[nodiscard]] bool altered() const noexcept { return altered_; }
  /// RESP3: what comes without having been asked for, such as invalidations of CLIENT TRACKING. Closed with the
  /// connection.
  [[nodiscard]] bight::Channel<Value>& pushes() noexcept { return inbox_->pushes; }
  [[nodiscard]] std::uint64_t pushes_dropped() const noexcept { return inbox_->dropped; }
  [[nodiscard]] Protocol protocol() const noexcept { return protocol_; }
  /// Wakes all calls with ConnectionLost. Harmless when repeated.
  void close() noexcept {
    if (exchange_ != nullptr) exchange_->close();
  }

 private:
  struct Inbox {
    explicit Inbox(std::size_t size) : pushes(size) {}
    bight::Channel<Value> pushes;
    std::uint64_t dropped = 0;
  };

  void open(std::unique_ptr<Transport> transport, const Endpoint& endpoint, const ConnectionOptions& options);
  void note(Effect effect, std::string_view what);
  void drop() noexcept;

  std::shared_ptr<Inbox> inbox_;
  std::shared_ptr<Exchange> exchange_;
  Protocol protocol_ = Protocol::resp2;
  bool altered_ = false;
};

/// Says hello: authenticates and selects the database, too. What both ends speak then.
[[nodiscard]] Protocol greet(Exchange& exchange, const Endpoint& endpoint, const ConnectionOptions& options);

}  // namespace redis
