// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <bight/detail/loop_bound.hpp>
#include <bight/net/dns.hpp>

#include "answer.hpp"
#include "cache.hpp"
#include "channel.hpp"
#include "config.hpp"
#include "name.hpp"
#include "query.hpp"

namespace bight::net::detail {

/// Why, and the end of the text about it: " (asked 127.0.0.1:53)", or empty.
struct ResolveFailure {
  std::error_code error;
  std::string detail;
};

using AnswerPointer = std::shared_ptr<const DnsAnswer>;

/// What a Resolver is. Shared with the fibers that wait in it, so that it may be destroyed meanwhile.
class ResolverCore final : public std::enable_shared_from_this<ResolverCore>, private QueryOwner {
 public:
  explicit ResolverCore(ResolverOptions options);
  ResolverCore(const ResolverCore&) = delete;
  ResolverCore& operator=(const ResolverCore&) = delete;
  ~ResolverCore() = default;
  void shut_down() noexcept;

  // Wait; throw Cancelled. Null: see `failure`.

  /// Addresses in order, without ports.
  [[nodiscard]] AnswerPointer find_host(std::string_view host, int family, ResolveFailure& failure);
  [[nodiscard]] AnswerPointer find_names(const Address& address, ResolveFailure& failure);
  [[nodiscard]] AnswerPointer find_records(std::string_view name, RecordType type, ResolveFailure& failure);
  /// Does not wait: an answer, or a failure, or neither, which means that it would have to wait.
  [[nodiscard]] AnswerPointer find_host_now(std::string_view host, int family, ResolveFailure& failure) {
    DnsName name;
    return find_known(host, family, name, failure);
  }

  void clear_cache() noexcept { cache_.clear(); }
  [[nodiscard]] ResolverStats stats() const noexcept;
  [[nodiscard]] const std::vector<Address>& servers();

 private:
  class Share;  // one waiter's in a query
  friend class Share;

  void pass_ended(DnsQuery& query, PacketView reply) noexcept override;
  void settled() noexcept override;

  TimePoint refresh();
  [[nodiscard]] AnswerPointer find_known(std::string_view host, int family, DnsName& name, ResolveFailure& failure);
  [[nodiscard]] AnswerPointer find_fast(std::string_view host, int family, TimePoint time);
  [[nodiscard]] AnswerPointer find_local(const DnsName& name, int family, ResolveFailure& failure);
  [[nodiscard]] AnswerPointer find_name(std::string name, int family, ResolveFailure& failure);
  [[nodiscard]] AnswerPointer find_both(std::string name, ResolveFailure& failure);
  [[nodiscard]] AnswerPointer merge(const std::array<AnswerPointer, 2>& answers, bool whole);
  [[nodiscard]] bool next_candidate(const DnsName& name, std::size_t& number, std::string& candidate) const;
  [[nodiscard]] AnswerPointer ask(std::string name, RecordType type, ResolveFailure& failure);

  [[nodiscard]] Share join(std::string name, RecordType type);
  void begin(const std::shared_ptr<DnsQuery>& query);
  void abandon(const std::shared_ptr<DnsQuery>& query) noexcept;
  void take_reply(DnsQuery& query, PacketView reply);
  void finish(DnsQuery& query, AnswerPointer answer, std::error_code error) noexcept;
  void keep(DnsQuery& query, const AnswerPointer& answer, TimePoint time);
  [[nodiscard]] TimePoint expiry_of(const DnsAnswer& answer, TimePoint time) const noexcept;
  [[nodiscard]] std::uint16_t random_id();

  [[nodiscard]] std::shared_ptr<DnsQuery>* find_in_flight(const DnsKey& key) noexcept;
  void forget_in_flight(const DnsQuery& query) noexcept;

  struct SameHash {
    std::size_t operator()(std::uint64_t hash) const noexcept { return hash; }
  };

  ResolverOptions options_;
  bight::detail::LoopBound bound_;
  DnsConfig config_;
  Hosts hosts_;
  FileStamp conf_stamp_;
  FileStamp hosts_stamp_;
  TimePoint next_check_{};
  bool configured_ = false;
  bool shut_down_ = false;
  bool starting_ = false;
  std::shared_ptr<DnsChannel> channel_;
  DnsCache cache_;
  std::unordered_multimap<std::uint64_t, std::shared_ptr<DnsQuery>, SameHash> in_flight_;  // by DnsQuery::hash
  std::deque<std::shared_ptr<DnsQuery>> backlog_;
  std::size_t active_ = 0;
  ResolverStats stats_;
  TransportStats past_;  // of channels that are gone
  std::array<std::uint16_t, 64> random_{};
  std::size_t random_left_ = 0;
};

/// getaddrinfo and getnameinfo, on other threads: system.cpp.
[[nodiscard]] AnswerPointer system_find_host(const std::string& host, int family, ResolveFailure& failure);
[[nodiscard]] AnswerPointer system_find_names(const Address& address, ResolveFailure& failure);

}  // namespace bight::net::detail
