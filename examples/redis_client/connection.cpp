// SPDX-License-Identifier: Apache-2.0
#include "connection.hpp"

#include <stdexcept>
#include <utility>

#include "within.hpp"

namespace redis {

namespace {

/// Whether it does not know RESP3, or HELLO at all, as before Redis 6; other errors are errors.
bool is_too_old(const Value& answer) {
  return answer.is_error() &&
         (answer.text().starts_with("NOPROTO") || answer.text().starts_with("ERR unknown command"));
}

const std::string& user_of(const Endpoint& endpoint) {
  static const std::string default_user = "default";
  return endpoint.user.empty() ? default_user : endpoint.user;
}

}  // namespace

Protocol greet(Exchange& exchange, const Endpoint& endpoint, const ConnectionOptions& options) {
  Protocol protocol = Protocol::resp2;
  if (options.protocol != Protocol::resp2) {
    Command hello("HELLO", 3);
    if (!endpoint.password.empty()) hello.add("AUTH").add(user_of(endpoint)).add(endpoint.password);
    Value answer = exchange.call(hello);
    if (options.protocol == Protocol::resp3 || !is_too_old(answer)) {
      answer.or_throw();
      protocol = Protocol::resp3;
    }
  }
  if (protocol == Protocol::resp2 && !endpoint.password.empty()) {
    Command auth("AUTH");
    if (!endpoint.user.empty()) auth.add(endpoint.user);
    exchange.call(auth.add(endpoint.password)).or_throw();
  }
  if (endpoint.database != 0) exchange.call(Command("SELECT", endpoint.database)).or_throw();
  if (!options.client_name.empty()) exchange.call(Command("CLIENT", "SETNAME", options.client_name)).or_throw();
  return protocol;
}

Connection::Connection(const Endpoint& endpoint, const ConnectionOptions& options) {
  connect_within(options.connect_timeout, endpoint,
                 [&] { open(connect(endpoint, bight::Duration::zero()), endpoint, options); });
}

Connection::Connection(std::unique_ptr<Transport> transport, const Endpoint& endpoint,
                       const ConnectionOptions& options) {
  connect_within(options.connect_timeout, endpoint, [&] { open(std::move(transport), endpoint, options); });
}

Connection& Connection::operator=(Connection&& other) noexcept {
  if (this != &other) {
    drop();
    inbox_ = std::move(other.inbox_);
    exchange_ = std::move(other.exchange_);
    protocol_ = other.protocol_;
    altered_ = other.altered_;
  }
  return *this;
}

void Connection::open(std::unique_ptr<Transport> transport, const Endpoint& endpoint,
                      const ConnectionOptions& options) {
  inbox_ = std::make_shared<Inbox>(options.pushes_max);
  const auto on_push = [inbox = inbox_](Value value) {
    if (inbox->pushes.closed() || !inbox->pushes.try_send(std::move(value))) ++inbox->dropped;
  };
  exchange_ = Exchange::start(std::move(transport), endpoint.to_string(), options.exchange, on_push,
                              [inbox = inbox_] { inbox->pushes.close(); });
  try {
    protocol_ = greet(*exchange_, endpoint, options);
  } catch (...) {  // for a constructor that throws is followed by no destructor
    drop();
    throw;
  }
}

void Connection::drop() noexcept {
  if (exchange_ == nullptr) return;
  exchange_->close();
  exchange_->join();
  exchange_.reset();
}

void Connection::note(Effect effect, std::string_view what) {
  if (effect == Effect::takes_over) {
    throw std::invalid_argument("redis: " + std::string(what) + " is not for a connection with calls and replies");
  }
  altered_ = altered_ || effect == Effect::alters;
}

Value Connection::call(const Command& command) {
  note(command.effect(), command.name());
  Value reply = exchange_->call(command);
  reply.or_throw();
  return reply;
}

std::vector<Value> Connection::call(const Pipeline& pipeline) {
  note(pipeline.effect(), "something in this pipeline");
  return exchange_->call(pipeline.requests(), pipeline.size(), pipeline.is_blocking());
}

std::optional<std::vector<Value>> Connection::call(const Transaction& transaction) {
  const Pipeline& body = transaction.pipeline();
  if (body.effect() == Effect::takes_over) note(body.effect(), "something in this transaction");
  std::string requests = body.requests();
  Command("EXEC").append_to(requests);
  std::vector<Value> replies = exchange_->call(requests, body.size() + 1, false);
  Value& result = replies.back();
  if (result.is_error()) {
    for (Value& each : replies) each.or_throw();  // the reason comes first, EXECABORT last
  }
  if (result.is_nil()) return std::nullopt;
  return result.take_items();
}

}  // namespace redis
