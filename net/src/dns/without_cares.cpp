// SPDX-License-Identifier: Apache-2.0
// Instead of dns_cares.cpp in builds without c-ares: a Resolver then never gets as far as to make a channel.
#include "channel.hpp"
#include "query.hpp"

namespace bight::net::detail {

struct DnsChannel::Cares {};

DnsChannel::DnsChannel(const DnsConfig& config, const TransportLimits& /*limits*/, QueryOwner& owner)
    : servers_(config.servers), owner_(owner) {}
DnsChannel::~DnsChannel() = default;
void DnsChannel::shut_down() noexcept {}
bool DnsChannel::send(const std::shared_ptr<DnsQuery>& /*query*/) { return false; }
void DnsChannel::abandon(DnsQuery& /*query*/) noexcept {}
void DnsChannel::exchange_ended(const Exchange& /*exchange*/, PacketView /*reply*/,
                                std::error_code /*error*/) noexcept {}

DnsAnswer parse_answer(PacketView /*reply*/, const std::string& /*name*/, RecordType /*type*/, std::error_code& error) {
  error = DnsError::malformed_answer;
  return {};
}

Packet encode_query(const std::string& /*name*/, RecordType /*type*/, std::uint16_t /*id*/, int /*udp_size*/) {
  return {};
}

ResolverBackend default_backend() noexcept { return ResolverBackend::system; }

}  // namespace bight::net::detail
