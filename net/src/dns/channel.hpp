// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <system_error>
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

/// c-ares: makes of messages with ids, of answers that may be cut or errors, and of several servers one answer to each
/// query. Its sockets are not the system's: what it sends becomes an exchange of the Transport, which has its own
/// sockets, source ports and time limits, and what it receives is how those came out. So it makes no system call, and
/// its clock, which is not the loop's, does not matter: to c-ares a server that has not answered in time is one that
/// has failed.
///
/// Each server is asked once (by UDP, and by TCP if the answer was cut); to ask them again is the owner's business.
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

 private:
  struct Cares;
  friend struct Cares;

  void exchange_ended(const Exchange& exchange, PacketView reply, std::error_code error) noexcept override;

  std::vector<Address> servers_;
  [[maybe_unused]] QueryOwner& owner_;  // in builds without c-ares
  std::shared_ptr<Transport> transport_;
  std::unique_ptr<Cares> cares_;
};

[[nodiscard]] ResolverBackend default_backend() noexcept;

}  // namespace bight::net::detail
