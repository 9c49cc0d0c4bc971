// SPDX-License-Identifier: Apache-2.0
#include "subscriber.hpp"

#include <optional>
#include <utility>

#include <bight/deadline.hpp>
#include <bight/event.hpp>
#include <bight/fiber.hpp>

#include "within.hpp"

namespace redis {

/// Between the fiber that reads and those that receive: a queue, and a fiber that moves what is in it into the channel
/// as there is room. The reader waits while the channel is full and somebody is in the queue already; but not while
/// somebody waits for the server's word, which may stand behind messages that only he would receive.
struct Subscriber::Inbox {
  explicit Inbox(std::size_t size) : messages(size) {}

  void deliver(Value value) {
    auto message = read(value);
    if (!message || queue.closed()) return;
    static_cast<void>(queue.try_send(std::move(*message)));
    while (!queue.closed() && !queue.empty() && messages.full() && asking == 0) look.wait();
  }
  void move_on() {
    try {
      while (auto message = queue.receive()) {
        messages.send(std::move(*message));
        look.set();
      }
    } catch (const bight::ChannelClosed&) {  // nobody is there to receive them any more
    }
    messages.close();
  }
  void end() noexcept {
    queue.close();
    look.set();
  }
  static std::optional<Message> read(Value& value);

  bight::Channel<Message> messages;
  bight::Channel<Message> queue{bight::Channel<Message>::kUnbounded};
  std::size_t asking = 0;      // fibers that wait for the server's word
  bight::AutoResetEvent look;  // the reader's: things have changed
  bight::Fiber<> mover;
};

std::optional<Message> Subscriber::Inbox::read(Value& value) {
  Value::Items items = value.take_items();
  for (const Value& each : items) {
    if (!each.has_text()) return std::nullopt;
  }
  const std::string kind = items.empty() ? std::string() : items[0].text();
  if (items.size() == 3 && (kind == "message" || kind == "smessage")) {
    return Message{items[1].take_text(), items[2].take_text()};
  }
  if (items.size() == 4 && kind == "pmessage") {
    return Message{items[2].take_text(), items[3].take_text(), items[1].take_text()};
  }
  return std::nullopt;
}

Subscriber::Subscriber(const Endpoint& endpoint, const SubscriberOptions& options) {
  connect_within(options.connection.connect_timeout, endpoint,
                 [&] { open(connect(endpoint, bight::Duration::zero()), endpoint, options); });
}

Subscriber::Subscriber(std::unique_ptr<Transport> transport, const Endpoint& endpoint,
                       const SubscriberOptions& options) {
  connect_within(options.connection.connect_timeout, endpoint, [&] { open(std::move(transport), endpoint, options); });
}

void Subscriber::open(std::unique_ptr<Transport> transport, const Endpoint& endpoint,
                      const SubscriberOptions& options) {
  inbox_ = std::make_shared<Inbox>(options.messages_max);
  ExchangeOptions how = options.connection.exchange;
  how.subscriber = true;
  exchange_ = Exchange::start(
      std::move(transport), endpoint.to_string(), how,
      [inbox = inbox_](Value value) { inbox->deliver(std::move(value)); }, [inbox = inbox_] { inbox->end(); });
  try {
    inbox_->mover = bight::spawn({.name = "redis messages", .daemon = true}, [inbox = inbox_] { inbox->move_on(); });
    static_cast<void>(greet(*exchange_, endpoint, options.connection));
  } catch (...) {  // for a constructor that throws is followed by no destructor
    drop();
    throw;
  }
}

void Subscriber::drop() noexcept {
  if (exchange_ == nullptr) return;
  exchange_->close();
  inbox_->messages.close();
  exchange_->join();
  if (!bight::this_fiber::exists() || !inbox_->mover) return;
  const bight::Shield shield;  // soon: there is nobody it could wait for
  inbox_->mover.join();
}

void Subscriber::ask(const Command& command) {
  struct Asking {
    Inbox& inbox;
    ~Asking() { --inbox.asking; }
  };
  const auto inbox = inbox_;
  ++inbox->asking;
  const Asking asking{*inbox};
  inbox->look.set();
  exchange_->call(command).or_throw();
}

bight::Channel<Message>& Subscriber::messages() noexcept { return inbox_->messages; }

void Subscriber::close() noexcept {
  if (exchange_ != nullptr) exchange_->close();
}

}  // namespace redis
