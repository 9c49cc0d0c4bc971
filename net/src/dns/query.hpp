// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include <bight/event.hpp>

#include "answer.hpp"
#include "cache.hpp"

namespace bight::net::detail {

class DnsChannel;

/// A question that is under way, for everybody who asks it.
struct DnsQuery {
  /// What came of asking a server.
  struct Attempt {
    std::size_t server;
    std::error_code error;
  };

  std::string name;
  RecordType type = RecordType::a;
  std::uint64_t hash = 0;               // of both
  std::shared_ptr<DnsChannel> channel;  // the servers that are asked, also when others are asked from now on
  std::uint16_t id = 0;                 // on the wire, while it is sent
  unsigned passes = 0;                  // how often the servers have been asked
  bool timed_out = false;               // one of them, in this pass
  bool abandoned = false;
  bool queued = false;  // it has yet to be its turn
  std::size_t waiters = 0;
  std::vector<Attempt> trail;    // what has gone wrong
  std::size_t asked = 0;         // the last server that was
  std::size_t servers_left = 0;  // of this pass, with that one
  bool over_tcp = false;

  Event done;
  std::shared_ptr<const DnsAnswer> answer;  // null: there was none
  std::error_code error;

  [[nodiscard]] DnsKey key() const noexcept { return {name, static_cast<std::uint16_t>(type), hash}; }
};

}  // namespace bight::net::detail
