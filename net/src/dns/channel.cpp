// SPDX-License-Identifier: Apache-2.0
#include "channel.hpp"

#include <new>
#include <utility>

#include "query.hpp"

namespace bight::net::detail {
namespace {

constexpr int kUdpSize = 1232;  // what fits into every network's packets (DNS flag day 2020)

/// What a reply says of the server rather than of the name.
std::error_code complaint_of(PacketView reply) noexcept {
  switch (static_cast<Rcode>(rcode_of(reply))) {
    case Rcode::ok:
    case Rcode::no_such_name: return {};
    case Rcode::refused: return DnsError::refused;
    default: return DnsError::server_failure;
  }
}

}  // namespace

DnsChannel::DnsChannel(const DnsConfig& config, const TransportLimits& limits, QueryOwner& owner)
    : servers_(config.servers),
      rotate_(config.rotate),
      use_tcp_(config.use_tcp),
      owner_(owner),
      transport_(std::make_shared<Transport>(config.servers, limits, static_cast<TransportClient&>(*this))) {
  server_names_.reserve(servers_.size());
  for (const Address& each : servers_) server_names_.push_back(std::make_shared<const std::string>(each.to_string()));
}

DnsChannel::~DnsChannel() { shut_down(); }

void DnsChannel::shut_down() noexcept {
  transport_->shut_down();
  queries_.clear();
}

bool DnsChannel::send(const std::shared_ptr<DnsQuery>& query) {
  std::uint16_t id = query->id;
  while (queries_.contains(id)) ++id;
  const EncodedQuery encoded(query->name, query->type, id, kUdpSize);
  if (encoded.view().empty()) return false;
  query->id = id;
  query->asked = first_;
  query->servers_left = servers_.size();
  query->over_tcp = use_tcp_;
  queries_.emplace(id, query);
  if (rotate_) first_ = (first_ + 1) % servers_.size();
  std::error_code error;
  try {
    start_exchange(*query, encoded.view());
  } catch (const std::system_error& failure) {  // no more fibers, or no memory for another's stack
    error = failure.code();
  } catch (...) {
    queries_.erase(id);
    throw;
  }
  if (error && !ask_again(*query, error)) {
    queries_.erase(id);
    owner_.pass_ended(*query, {});
  }
  return true;
}

void DnsChannel::start_exchange(const DnsQuery& query, PacketView message) {
  Exchange exchange;
  exchange.server = query.asked;
  exchange.tcp = query.over_tcp;
  exchange.query.assign(message.begin(), message.end());
  transport_->start(exchange);
}

void DnsChannel::abandon(DnsQuery& query) noexcept {
  query.abandoned = true;
  transport_->abandon(query.id);
}

void DnsChannel::exchange_ended(const Exchange& exchange, PacketView reply, std::error_code error) noexcept {
  const auto found = queries_.find(exchange.id);
  if (found == queries_.end()) return;
  const std::shared_ptr<DnsQuery> query = found->second;
  const std::shared_ptr<DnsChannel> kept = shared_from_this();  // the query that ends may be all that keeps it
  if (!error) error = complaint_of(reply);
  const bool cut = !error && !exchange.tcp && (is_truncated(reply) || reply.size() > kUdpSize);
  if (error || cut) {
    query->timed_out |= error == std::errc::timed_out;
    if (ask_again(*query, error)) return;
    reply = {};
  }
  queries_.erase(exchange.id);
  owner_.pass_ended(*query, reply);
  owner_.settled();
}

/// The same server over TCP, if its answer was cut (which is no error); else the next one, if there is any left.
bool DnsChannel::ask_again(DnsQuery& query, std::error_code error) noexcept {
  for (;;) {
    try {
      if (query.abandoned) return false;
      if (error) {
        query.trail.push_back({query.asked, error});
        if (--query.servers_left == 0) return false;
        query.asked = (query.asked + 1) % servers_.size();
      } else {
        query.over_tcp = true;
      }
      start_exchange(query, EncodedQuery(query.name, query.type, query.id, kUdpSize).view());
      return true;
    } catch (const std::bad_alloc&) {
      return false;
    } catch (const std::system_error& failure) {
      error = failure.code();
    }
  }
}

}  // namespace bight::net::detail
