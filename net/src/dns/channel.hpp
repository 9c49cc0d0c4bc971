// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <system_error>
#include <unordered_map>
#include <vector>

#include "answer.hpp"
#include "config.hpp"
#include "transport.hpp"

namespace bight::net::detail {

struct DnsQuery;

/// Told how queries have come out. May not wait.
class QueryOwner {
 public:
  /// Empty reply: no server has given an answer; the query's trail tells why.
  virtual void pass_ended(DnsQuery& query, PacketView reply) noexcept = 0;
  /// After that, when more can be sent.
  virtual void settled() noexcept = 0;

 protected:
  ~QueryOwner() = default;
};

/// Makes of messages with ids, of answers that may be cut or errors, and of several servers one answer to each query.
/// Each server is asked once (by UDP, and by TCP if the answer was cut, or if that is what is wanted); to ask them
/// again is the owner's business. How messages look is c-ares's to know, how they travel the Transport's.
class DnsChannel final : private TransportClient, public std::enable_shared_from_this<DnsChannel> {
 public:
  /// Throws std::bad_alloc.
  DnsChannel(const DnsConfig& config, const TransportLimits& limits, QueryOwner& owner);
  DnsChannel(const DnsChannel&) = delete;
  DnsChannel& operator=(const DnsChannel&) = delete;
  ~DnsChannel();
  /// Queries under way are dropped without a word; it is not to be used any more. Not from within pass_ended.
  void shut_down() noexcept;

  /// Sends it: message, id and trail are the query's. Returns false if the name has no encoding. Does not wait.
  [[nodiscard]] bool send(const std::shared_ptr<DnsQuery>& query);
  /// Nobody waits for it any more: it ends soon, and its owner is told.
  void abandon(DnsQuery& query) noexcept;

  /// The loop that it was made on ends, or has: make another.
  [[nodiscard]] bool closed() const noexcept { return transport_->closed(); }
  [[nodiscard]] const TransportStats& stats() const noexcept { return transport_->stats(); }
  [[nodiscard]] const std::vector<Address>& servers() const noexcept { return servers_; }
  /// The server as text.
  [[nodiscard]] const std::shared_ptr<const std::string>& server_name(std::size_t server) const noexcept {
    return server_names_[server];
  }

 private:
  void exchange_ended(const Exchange& exchange, PacketView reply, std::error_code error) noexcept override;
  void start_exchange(const DnsQuery& query, PacketView message);
  [[nodiscard]] bool ask_again(DnsQuery& query, std::error_code error) noexcept;

  std::vector<Address> servers_;
  std::vector<std::shared_ptr<const std::string>> server_names_;
  bool rotate_;
  bool use_tcp_;
  QueryOwner& owner_;
  std::shared_ptr<Transport> transport_;
  std::unordered_map<std::uint16_t, std::shared_ptr<DnsQuery>> queries_;  // by the id on the wire
  std::size_t first_ = 0;                                                 // the server to begin with
};

[[nodiscard]] ResolverBackend default_backend() noexcept;

}  // namespace bight::net::detail
