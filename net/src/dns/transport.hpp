// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <system_error>
#include <vector>

#include <bight/fiber.hpp>
#include <bight/net/address.hpp>
#include <bight/semaphore.hpp>
#include <bight/socket.hpp>
#include <bight/time.hpp>

#include "answer.hpp"

namespace bight::net::detail {

/// One message to one server, and the wait for what it answers.
struct Exchange {
  std::size_t server = 0;
  bool tcp = false;
  std::uint16_t id = 0;  // the query's
  Packet query;
  TimePoint deadline{};
  bool opt_dropped = false;  // sent again without its OPT record
};

/// Told how exchanges have come out. May not wait; may start others.
class TransportClient {
 public:
  /// With a reply that is one to the query, or with an error: timed_out, operation_canceled, or the network's.
  virtual void exchange_ended(const Exchange& exchange, PacketView reply, std::error_code error) noexcept = 0;

 protected:
  ~TransportClient() = default;
};

struct TransportLimits {
  Duration timeout = std::chrono::seconds(2);
  std::size_t ports_max = 16;
  std::size_t port_queries = 256;
  std::size_t tcp_max = 64;
};

struct TransportStats {
  std::uint64_t queries = 0;
  std::uint64_t tcp_queries = 0;
  std::uint64_t timeouts = 0;
  std::uint64_t rejected = 0;
};

/// Carries messages to servers and brings back the replies, over sockets of the loop's.
///
/// UDP: a `Port` is a connected socket, so with a random number that the system picks, and a fiber that reads from it
/// as long as an answer is due. A query gets a port of its own, unless there are as many as may be: then it shares one
/// of those. What comes from elsewhere the system drops; what is no reply to a query sent from this very port, the
/// port. What is to be sent from all of them waits until the fibers that are ready have had their turn, and goes out in
/// batches, by one fiber; it comes in batches, too. TCP: a connection and a fiber for each exchange, so that a server
/// that dribbles holds up nothing else.
///
/// The fibers are daemons. When they are cancelled, as at the loop's end, their exchanges end, too.
class Transport : public std::enable_shared_from_this<Transport> {
 public:
  Transport(std::vector<Address> servers, const TransportLimits& limits, TransportClient& client);
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;
  ~Transport();

  /// Takes the exchange; or throws what spawn throws, having started nothing, and leaves it.
  void start(Exchange& exchange);
  /// Ends the exchange of a query, if there is one, with operation_canceled.
  void abandon(std::uint16_t id) noexcept;
  /// Drops all of them without a word; the client is not called any more.
  void shut_down() noexcept;

  /// Its fibers were cancelled by others, so the loop ends: it starts no more.
  [[nodiscard]] bool closed() const noexcept { return closed_; }
  [[nodiscard]] const TransportStats& stats() const noexcept { return stats_; }

 private:
  struct Port;
  struct Call;
  using Ports = std::list<std::shared_ptr<Port>>;
  using Calls = std::list<std::shared_ptr<Call>>;

  /// Keeps a port, or a call, on its list as long as its fiber has not ended, also if that never runs.
  template <class Each>
  struct Listed;
  struct Sender;
  class Inbox;

  void start_udp(Exchange& exchange);
  void start_tcp(Exchange& exchange);
  [[nodiscard]] std::shared_ptr<Port> shared_port(std::size_t server) noexcept;
  void run_port(const std::shared_ptr<Port>& port);
  [[nodiscard]] std::error_code serve_port(const std::shared_ptr<Port>& port);
  [[nodiscard]] std::error_code receive(const std::shared_ptr<Port>& port, Inbox& inbox);
  [[nodiscard]] bool is_busy() const noexcept;
  void flush(const std::shared_ptr<Port>& port);
  void send_all();
  void stop_sending() noexcept;
  void send_queued(Port& port);
  [[nodiscard]] std::size_t send_some(Port& port, std::error_code& error);
  void take(const std::shared_ptr<Port>& port, PacketView packet);
  void expire(Port& port);
  void run_call(const std::shared_ptr<Call>& call);
  [[nodiscard]] Packet converse(Call& call, std::error_code& error);
  void end(const Exchange& exchange, PacketView reply, std::error_code error) noexcept;

  std::vector<Address> servers_;
  TransportLimits limits_;
  TransportClient* client_;  // null: shut down
  TransportStats stats_;
  Ports ports_;
  std::deque<std::shared_ptr<Port>> unsent_;  // those with queries that are yet to be sent
  std::vector<unsigned char> outbox_;         // what is being sent, since the queries may end meanwhile
  bool sending_ = false;                      // there is a fiber that does
  Calls calls_;
  Semaphore tcp_permits_;
  std::size_t shared_in_a_row_ = 0;
  std::vector<std::unique_ptr<Inbox>> inboxes_;  // that no port has just now
  bool closed_ = false;
};

}  // namespace bight::net::detail
