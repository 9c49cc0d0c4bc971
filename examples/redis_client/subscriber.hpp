// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include <bight/channel.hpp>

#include "connection.hpp"

namespace redis {

/// What was published.
struct Message {
  std::string channel;
  std::string payload;
  std::string pattern{};  ///< by which it was subscribed; empty: by the channel's name
};

struct SubscriberOptions {
  std::size_t messages_max = 1024;  ///< that nobody has received; while there are so many, no more are read
  ConnectionOptions connection{};
};

/// A connection for subscriptions. Messages come out of a channel, in order, until the connection ends:
///
///     redis::Subscriber news(endpoint);
///     news.subscribe("weather");
///     for (redis::Message& each : news.messages()) print(each.payload);
///
/// Who does not keep up is first waited for; then the server's buffer fills, and it closes the connection
/// (client-output-buffer-limit). It never connects again by itself: what was published meanwhile is lost, so what to do
/// about that is for its user to say. messages() then ends; make another Subscriber.
///
/// Move-only; any number of fibers.
class Subscriber {
 public:
  /// Throws as Connection does.
  explicit Subscriber(const Endpoint& endpoint, const SubscriberOptions& options = {});
  Subscriber(std::unique_ptr<Transport> transport, const Endpoint& endpoint, const SubscriberOptions& options = {});
  Subscriber(Subscriber&&) noexcept = default;
  Subscriber& operator=(Subscriber&&) = delete;
  ~Subscriber() { drop(); }

  /// Each waits for the server's word: what is published from then on is heard. Also while messages wait to be
  /// received. Throw ServerError (NOPERM), ConnectionLost, Cancelled.
  void subscribe(std::string_view channel) { ask(Command("SUBSCRIBE", channel)); }
  void unsubscribe(std::string_view channel) { ask(Command("UNSUBSCRIBE", channel)); }
  void subscribe_pattern(std::string_view pattern) { ask(Command("PSUBSCRIBE", pattern)); }
  void unsubscribe_pattern(std::string_view pattern) { ask(Command("PUNSUBSCRIBE", pattern)); }
  /// Whether the server is still there: waits for its answer.
  void ping() { ask(Command("PING")); }

  [[nodiscard]] bight::Channel<Message>& messages() noexcept;
  [[nodiscard]] bool alive() const noexcept { return exchange_ != nullptr && exchange_->alive(); }
  void close() noexcept;

 private:
  struct Inbox;

  void open(std::unique_ptr<Transport> transport, const Endpoint& endpoint, const SubscriberOptions& options);
  void ask(const Command& command);
  void drop() noexcept;

  std::shared_ptr<Inbox> inbox_;
  std::shared_ptr<Exchange> exchange_;
};

}  // namespace redis
