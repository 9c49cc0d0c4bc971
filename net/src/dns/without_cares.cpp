// SPDX-License-Identifier: Apache-2.0
// Instead of dns_cares.cpp in builds without c-ares: a Resolver then never gets as far as to make a channel.
#include "answer.hpp"
#include "channel.hpp"

namespace bight::net::detail {

DnsAnswer parse_answer(PacketView /*reply*/, const std::string& /*name*/, RecordType /*type*/, std::error_code& error) {
  error = DnsError::malformed_answer;
  return {};
}

EncodedQuery::EncodedQuery(const std::string& /*name*/, RecordType /*type*/, std::uint16_t /*id*/, int /*udp_size*/) {}
EncodedQuery::~EncodedQuery() = default;

ResolverBackend default_backend() noexcept { return ResolverBackend::system; }

}  // namespace bight::net::detail
