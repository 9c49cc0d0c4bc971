// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string_view>
#include <system_error>

#include <bight/chunk.hpp>
#include <bight/fiber.hpp>
#include <bight/http/server.hpp>
#include <bight/net/tcp.hpp>
#include <bight/time.hpp>

#include "answer.hpp"
#include "exchange.hpp"

namespace bight::http::detail {

class Connection;

/// What the connections of one serve() share.
struct ServerState {
  ServerState(const Handler& to_call, const ServerOptions& how);
  ServerState(const ServerState&) = delete;
  ServerState& operator=(const ServerState&) = delete;
  ~ServerState();

  void link(Connection& connection) noexcept;
  void unlink(Connection& connection) noexcept;
  /// Has no connection wait for another request, but for what is on its way. Requests that have begun are read and
  /// answered as ever, and clients told that there can be no others.
  void stop();
  /// Ends the waits for another request.
  void close_idle() noexcept;

  const Handler& handler;
  const ServerOptions& options;
  ServerStats stats;
  ExchangePool exchanges;
  AnswerWriter writer;
  Connection* first = nullptr;
  std::size_t admitted = 0;  // of connections_max; those that are turned away do not count
  bool stopping = false;
  TimePoint idle_until{};  // once stopping: how long connections may wait for another request
  Fiber<void> grace;       // ends those waits
};

/// One client. Lives on its fiber's stack, and is small: between requests, this is nearly all there is of it.
class Connection {
 public:
  Connection(ServerState& server, net::TcpStream stream) noexcept;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection();

  /// Answers requests until there are no more. Throws what a handler threw, after having answered for it.
  void run();
  /// Turns the client away: 503.
  void shed();

 private:
  friend struct ServerState;

  /// How the requests that came in one go have ended: the connection goes on, can be closed as it is, or only with care
  /// for an answer that the client has perhaps not read yet.
  enum class Next : std::uint8_t { go_on, close, linger };

  class Conversation;

  /// One of connections_max.
  struct Place {
    explicit Place(ServerState& of) noexcept : server(of) { ++server.admitted; }
    ~Place() { --server.admitted; }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    ServerState& server;
  };

  Chunk wait_for_request();
  Next converse(Chunk& chunk);
  void linger();
  template <class Data>
  void send(const Data& data, std::error_code& error);

  ServerState& server_;
  net::TcpStream stream_;
  Connection* previous_ = nullptr;
  Connection* next_ = nullptr;
  std::uint64_t requests_ = 0;
  bool waiting_ = false;  // for a request of which nothing has come yet
  std::exception_ptr failure_;
};

}  // namespace bight::http::detail
