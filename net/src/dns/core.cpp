// SPDX-License-Identifier: Apache-2.0
#include "core.hpp"

#include <sys/random.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <stdexcept>

#include <bight/fiber.hpp>
#include <bight/run.hpp>

#include "order.hpp"

namespace bight::net::detail {
namespace {

constexpr std::size_t kFileMax = std::size_t{4} * 1024 * 1024;
constexpr std::size_t kAddressesMax = 128;  // of a name; what is beyond nobody will ever try
constexpr std::uint32_t kLoopbackTtl = 24 * 60 * 60;

bool simulated() noexcept { return this_loop::exists() && this_loop::engine_name() == "sim"; }

/// A fixed one where runs have to repeat.
std::array<std::uint64_t, 2> cache_key() noexcept {
  std::array<std::uint64_t, 2> key{0x243f6a8885a308d3, 0x13198a2e03707344};
  if (!simulated()) static_cast<void>(::getrandom(key.data(), sizeof key, GRND_NONBLOCK));
  return key;
}

/// What a name's addresses of a family are kept under, beside the kinds of records: these numbers no record has.
std::uint16_t kind_of(int family) noexcept {
  return static_cast<std::uint16_t>(0xff00 + (family == AF_INET ? 4 : family == AF_INET6 ? 6 : 0));
}

RecordType type_of(int family) noexcept { return family == AF_INET ? RecordType::a : RecordType::aaaa; }

/// Addresses as they came, of which there is nothing to put in order.
bool is_ordered(const DnsAnswer& answer) noexcept { return !answer.error && answer.addresses.size() == 1; }

/// What was found has to be kept under the host's name as well, since no record is.
bool kept_apart(int family, const DnsAnswer& answer) noexcept { return family == AF_UNSPEC || !is_ordered(answer); }

bool wants(int family, const Address& address) noexcept { return family == AF_UNSPEC || family == address.family(); }

AnswerPointer answer_of(std::vector<Address> addresses, std::string name, std::uint32_t ttl = 0) {
  auto answer = std::make_shared<DnsAnswer>();
  answer->addresses = std::move(addresses);
  answer->name = std::move(name);
  answer->ttl = ttl;
  return answer;
}

AnswerPointer numeric_answer(std::string_view host, int family, ResolveFailure& failure) {
  constexpr std::string_view kDigits = "0123456789abcdefABCDEF:[";
  if (host.empty() || kDigits.find(host.front()) == std::string_view::npos) return nullptr;
  const auto address = Address::try_parse(host, 0);
  if (!address) return nullptr;
  if (!wants(family, *address)) {
    failure.error = DnsError::no_data;
    return nullptr;
  }
  return answer_of({*address}, address->host());
}

/// An error of the network's or a server's, as one of ours where there is one that fits.
std::error_code summary_of(std::error_code error) noexcept {
  if (error.category() == dns_category()) return error;
  if (error == std::errc::timed_out) return DnsError::timed_out;
  if (error == std::errc::connection_refused) return DnsError::refused;
  if (error == std::errc::bad_message) return DnsError::malformed_answer;
  if (error == std::errc::connection_reset || error == std::errc::connection_aborted) return DnsError::server_failure;
  return error;
}

/// What to report when servers have failed in several ways: what may be better next time.
std::error_code summary_of(const DnsQuery& query) noexcept {
  std::error_code worst = DnsError::server_failure;
  for (const DnsQuery::Attempt& each : query.trail) {
    worst = summary_of(each.error);
    if (worst == DnsError::timed_out) break;
  }
  return worst;
}

/// " (asked A, B)", or with what each has answered, should that differ.
std::string trail_of(const DnsQuery& query) {
  if (query.trail.empty()) return {};
  const std::error_code all = summary_of(query);
  const bool same = std::all_of(query.trail.begin(), query.trail.end(),
                                [&](const DnsQuery::Attempt& each) { return summary_of(each.error) == all; });
  std::vector<std::string> texts;
  for (const DnsQuery::Attempt& each : query.trail) {
    std::string text = *query.channel->server_name(each.server);
    if (!same) text += ": " + summary_of(each.error).message();
    if (std::find(texts.begin(), texts.end(), text) == texts.end()) texts.push_back(std::move(text));
  }
  std::string list;
  for (const std::string& each : texts) list += (list.empty() ? " (asked " : same ? ", " : "; ") + each;
  return list + ")";
}

void check(bool condition, const char* complaint) {
  if (!condition) throw std::invalid_argument(std::string("Resolver: ") + complaint);
}

}  // namespace

// --- Waiting for a query ---------------------------------------------------------------------------------------------

class ResolverCore::Share {
 public:
  Share(ResolverCore& core, std::shared_ptr<DnsQuery> query) noexcept
      : core_(core.shared_from_this()), query_(std::move(query)) {
    if (query_ != nullptr) ++query_->waiters;
  }
  /// What was known already.
  Share(ResolverCore& core, AnswerPointer answer) noexcept
      : core_(core.shared_from_this()), known_(std::move(answer)) {}
  Share(const Share&) = delete;
  Share& operator=(const Share&) = delete;
  ~Share() {
    if (query_ != nullptr && --query_->waiters == 0 && !query_->done.is_set()) core_->abandon(query_);
  }

  /// Null: see `failure`. What the servers say there is not, is a failure, too.
  [[nodiscard]] AnswerPointer get(ResolveFailure& failure) {
    if (query_ != nullptr) {
      query_->done.wait();
      known_ = query_->answer;
      if (known_ == nullptr) {
        failure.error = query_->error;
        failure.detail = trail_of(*query_);
        return nullptr;
      }
    }
    if (!known_->error) return known_;
    failure.error = known_->error;
    failure.detail = " (asked " + *known_->asked + ")";
    return nullptr;
  }

 private:
  std::shared_ptr<ResolverCore> core_;
  std::shared_ptr<DnsQuery> query_;
  AnswerPointer known_;
};

// --- Beginning and end -----------------------------------------------------------------------------------------------

ResolverCore::ResolverCore(ResolverOptions options)
    : options_(std::move(options)), cache_(options_.cache_entries, cache_key()) {
  check(options_.queries_max > 0 && options_.queries_max <= 32'768, "queries_max is 0, or more than 32768");
  check(options_.tcp_max > 0 && options_.ports_max > 0 && options_.port_queries > 0, "a limit is 0");
  check(!options_.timeout || *options_.timeout > Duration::zero(), "the timeout is not above zero");
  check(!options_.tries || *options_.tries > 0, "tries is 0");
  for (const Address& server : options_.servers) check(server.port() != 0, "a server's port is 0");
  if (options_.backend == ResolverBackend::dns && default_backend() != ResolverBackend::dns) {
    throw std::system_error(std::make_error_code(std::errc::operation_not_supported),
                            "Resolver: this build has no c-ares");
  }
}

void ResolverCore::shut_down() noexcept {
  shut_down_ = true;
  const auto queries = std::exchange(in_flight_, {});
  backlog_.clear();
  for (const auto& [key, query] : queries) {
    query->error = DnsError::shut_down;
    query->done.set();
    // Also those of servers that are not asked any more.
    if (query->channel != nullptr) query->channel->shut_down();
    query->channel = nullptr;
    query->trail.clear();
  }
  if (channel_ != nullptr) channel_->shut_down();
  channel_ = nullptr;
}

/// Looks at the files, when it is time to. Returns what time it is.
TimePoint ResolverCore::refresh() {
  bound_.enter();
  const TimePoint time = now();
  if (configured_ && time < next_check_) return time;
  next_check_ = bight::detail::saturating_add(time, options_.config_check);
  const ResolverOptions defaults;
  const auto path_of = [](const std::string& path, const std::string& usual) {
    return simulated() && path == usual ? std::string() : path;  // this machine's names mean nothing there
  };
  const std::string conf = path_of(options_.resolv_conf, defaults.resolv_conf);
  const std::string hosts = path_of(options_.hosts, defaults.hosts);
  if (const FileStamp stamp = stamp_of(hosts); !configured_ || stamp != hosts_stamp_) {
    hosts_ = Hosts(read_small_file(hosts, kFileMax));
    hosts_stamp_ = stamp;
    cache_.clear();
  }
  const FileStamp stamp = stamp_of(conf);
  if (configured_ && stamp == conf_stamp_) return time;
  std::string text = read_small_file(conf, kFileMax);
  if (!conf.empty()) {  // as resolv.conf(5) has it
    if (const char* more = std::getenv("LOCALDOMAIN")) text.append("\nsearch ").append(more);
    if (const char* more = std::getenv("RES_OPTIONS")) text.append("\noptions ").append(more);
  }
  config_ = make_config(options_, text);
  conf_stamp_ = stamp;
  configured_ = true;
  cache_.clear();
  if (channel_ != nullptr) {
    past_.queries += channel_->stats().queries;
    past_.tcp_queries += channel_->stats().tcp_queries;
    past_.timeouts += channel_->stats().timeouts;
    past_.rejected += channel_->stats().rejected;
  }
  channel_ = nullptr;  // queries under way keep theirs
  return time;
}

// --- Hosts -----------------------------------------------------------------------------------------------------------

/// What was found lately, in one look.
AnswerPointer ResolverCore::find_fast(std::string_view host, int family, TimePoint time) {
  char lowered[kNameMax + 1];
  if (host.size() > sizeof lowered) return nullptr;
  std::transform(host.begin(), host.end(), lowered, [](char c) { return lower(c); });
  const std::string_view name(lowered, host.size());
  AnswerPointer answer;
  const DnsKey key = cache_.key_of(name, kind_of(family));
  if (family != AF_UNSPEC && count_dots(name) >= config_.ndots) {  // then it is first tried as it is
    answer = cache_.find(DnsCache::with_kind(key, static_cast<std::uint16_t>(type_of(family))), time);
    if (answer != nullptr && !is_ordered(*answer)) answer = nullptr;
  }
  if (answer == nullptr) answer = cache_.find(key, time);
  if (answer != nullptr) ++stats_.cache_hits;
  return answer;
}

/// What takes no servers.
AnswerPointer ResolverCore::find_local(const DnsName& name, int family, ResolveFailure& failure) {
  if (is_within(name.text, "localhost")) {
    std::vector<Address> addresses;
    if (family != AF_INET) addresses.push_back(Address::loopback_v6(0));
    if (family != AF_INET6) addresses.push_back(Address::loopback_v4(0));
    return answer_of(std::move(addresses), name.text, kLoopbackTtl);
  }
  if (is_within(name.text, "onion")) {
    failure.error = DnsError::no_such_name;
    return nullptr;
  }
  const Hosts::Entry* entry = hosts_.find(name.text);
  if (entry == nullptr) return nullptr;
  std::vector<Address> addresses;
  for (const Address& each : entry->addresses) {
    if (wants(family, each)) addresses.push_back(each);
  }
  if (addresses.empty()) return nullptr;  // of the other family only: the servers may know more
  return answer_of(std::move(addresses), entry->canonical_name);
}

/// Without waiting. Where that does not do, `name` is what to go on with.
AnswerPointer ResolverCore::find_known(std::string_view host, int family, DnsName& name, ResolveFailure& failure) {
  const TimePoint time = refresh();
  ++stats_.lookups;
  if (shut_down_) {
    failure.error = DnsError::shut_down;
    return nullptr;
  }
  if (AnswerPointer known = find_fast(host, family, time)) return known;
  AnswerPointer numeric = numeric_answer(host, family, failure);
  if (numeric != nullptr || failure.error) return numeric;
  name = parse_name(host, NameKind::host, failure.error);
  if (failure.error || options_.backend == ResolverBackend::system) return nullptr;
  return find_local(name, family, failure);
}

AnswerPointer ResolverCore::find_host(std::string_view host, int family, ResolveFailure& failure) {
  DnsName name;
  AnswerPointer answer = find_known(host, family, name, failure);
  if (failure.error) return nullptr;
  this_fiber::checkpoint();
  if (answer != nullptr) {
    if (answer->expires != TimePoint{} || answer->addresses.size() < 2) return answer;
    std::vector<Address> addresses = answer->addresses;  // of the hosts file, or localhost's
    if (!is_within(answer->name, "localhost")) sort_addresses(addresses);
    return answer_of(std::move(addresses), answer->name, *answer->ttl);
  }
  if (options_.backend == ResolverBackend::system) return system_find_host(name.text, family, failure);
  std::error_code no_data;
  std::string candidate;
  for (std::size_t i = 0; next_candidate(name, i, candidate); ++i) {
    failure = {};
    answer = find_name(std::move(candidate), family, failure);
    if (answer != nullptr) {
      if (kept_apart(family, *answer) && answer->expires > now())
        cache_.put(cache_.key_of(lower(host), kind_of(family)), answer, answer->expires);
      return answer;
    }
    if (failure.error == DnsError::no_data) no_data = failure.error;
    if (failure.error != DnsError::no_data && failure.error != DnsError::no_such_name) return nullptr;
  }
  if (no_data) failure.error = no_data;  // there is such a name, if not the last one
  return nullptr;
}

/// The full names to try: that of the given number. False: there are no more.
bool ResolverCore::next_candidate(const DnsName& name, std::size_t& number, std::string& candidate) const {
  const bool first = name.full || count_dots(name.text) >= config_.ndots;
  for (;; ++number) {
    const std::size_t domain = number - (first ? 1 : 0);
    if (first && number == 0) {
      candidate = name.text;
    } else if (!name.full && domain < config_.search.size()) {
      candidate.assign(name.text).append(1, '.').append(config_.search[domain]);
      if (candidate.size() > kNameMax) continue;
    } else if (!first && domain == config_.search.size()) {
      candidate = name.text;
    } else {
      return false;
    }
    return true;
  }
}

AnswerPointer ResolverCore::find_name(std::string name, int family, ResolveFailure& failure) {
  if (family == AF_UNSPEC) return find_both(std::move(name), failure);
  AnswerPointer answer = join(std::move(name), type_of(family)).get(failure);
  if (answer != nullptr && !is_ordered(*answer)) return merge({std::move(answer), nullptr}, true);
  return answer;
}

AnswerPointer ResolverCore::find_both(std::string name, ResolveFailure& failure) {
  std::array<AnswerPointer, 2> answers;
  std::array<ResolveFailure, 2> failures;
  {
    Share v6 = join(name, RecordType::aaaa);  // under way while the other one is waited for
    Share v4 = join(std::move(name), RecordType::a);
    answers[0] = v6.get(failures[0]);
    answers[1] = v4.get(failures[1]);
  }
  const auto is_certain = [](const ResolveFailure& each) {
    return !each.error || each.error == DnsError::no_data || each.error == DnsError::no_such_name;
  };
  if (answers[0] != nullptr || answers[1] != nullptr) {
    return merge(answers, is_certain(failures[0]) && is_certain(failures[1]));
  }
  const bool first = !is_certain(failures[0]) || (is_certain(failures[1]) && failures[0].error == DnsError::no_data);
  failure = failures[first ? 0 : 1];
  return nullptr;
}

/// The addresses of both families, in order. `whole`: that is all there is, and may be kept.
AnswerPointer ResolverCore::merge(const std::array<AnswerPointer, 2>& answers, bool whole) {
  auto merged = std::make_shared<DnsAnswer>();
  TimePoint expires = bight::detail::saturating_add(now(), options_.order_kept);
  merged->ttl = 0xffffffffU;
  for (const AnswerPointer& each : answers) {
    if (each == nullptr) continue;
    merged->name = each->name;
    merged->asked = each->asked;
    merged->ttl = std::min(*merged->ttl, each->ttl.value_or(0));
    expires = std::min(expires, each->expires);
    const std::size_t room = kAddressesMax - merged->addresses.size();
    const auto end = each->addresses.begin() + static_cast<std::ptrdiff_t>(std::min(room, each->addresses.size()));
    merged->addresses.insert(merged->addresses.end(), each->addresses.begin(), end);
  }
  sort_addresses(merged->addresses);
  merged->expires = whole ? std::max(expires, now()) : now();
  return merged;
}

// --- Other records ---------------------------------------------------------------------------------------------------

AnswerPointer ResolverCore::ask(std::string name, RecordType type, ResolveFailure& failure) {
  this_fiber::checkpoint();
  Share share = join(std::move(name), type);
  return share.get(failure);
}

AnswerPointer ResolverCore::find_records(std::string_view text, RecordType type, ResolveFailure& failure) {
  refresh();
  ++stats_.lookups;
  DnsName name = parse_name(text, NameKind::any, failure.error);
  if (shut_down_) failure.error = DnsError::shut_down;
  if (!failure.error && options_.backend == ResolverBackend::system) failure.error = DnsError::unsupported_query;
  return failure.error ? nullptr : ask(std::move(name.text), type, failure);
}

AnswerPointer ResolverCore::find_names(const Address& address, ResolveFailure& failure) {
  refresh();
  ++stats_.lookups;
  if (shut_down_) {
    failure.error = DnsError::shut_down;
    return nullptr;
  }
  if (options_.backend == ResolverBackend::system) return system_find_names(address, failure);
  auto local = std::make_shared<DnsAnswer>();
  local->names = hosts_.names_of(address);
  if (local->names.empty() && address.is_loopback()) local->names.emplace_back("localhost");
  if (!local->names.empty()) return local;
  return ask(reverse_name(address), RecordType::ptr, failure);
}

// --- Queries ---------------------------------------------------------------------------------------------------------

/// Has a part in the query that is under way, or begins one.
ResolverCore::Share ResolverCore::join(std::string name, RecordType type) {
  const DnsKey key = cache_.key_of(name, static_cast<std::uint16_t>(type));
  if (AnswerPointer known = cache_.find(key, now())) {
    ++stats_.cache_hits;
    return {*this, std::move(known)};
  }
  if (const std::shared_ptr<DnsQuery>* same = find_in_flight(key)) {
    ++stats_.shared;
    return {*this, *same};
  }
  auto query = std::make_shared<DnsQuery>();
  query->name = std::move(name);
  query->type = type;
  query->hash = key.hash;
  in_flight_.emplace(key.hash, query);
  try {
    Share share(*this, query);  // so it has somebody who waits before it can be over
    begin(query);
    return {*this, query};
  } catch (...) {
    forget_in_flight(*query);
    throw;
  }
}

std::shared_ptr<DnsQuery>* ResolverCore::find_in_flight(const DnsKey& key) noexcept {
  auto [at, end] = in_flight_.equal_range(key.hash);
  for (; at != end; ++at) {
    if (at->second->key() == key) return &at->second;
  }
  return nullptr;
}

void ResolverCore::forget_in_flight(const DnsQuery& query) noexcept {
  auto [at, end] = in_flight_.equal_range(query.hash);
  while (at != end && at->second.get() != &query) ++at;
  if (at != end) in_flight_.erase(at);
}

void ResolverCore::begin(const std::shared_ptr<DnsQuery>& query) {
  if (active_ >= options_.queries_max) {
    query->queued = true;
    backlog_.push_back(query);
    return;
  }
  if (channel_ == nullptr || channel_->closed()) {
    const TransportLimits limits{config_.timeout, options_.ports_max, options_.port_queries, options_.tcp_max};
    channel_ = std::make_shared<DnsChannel>(config_, limits, static_cast<QueryOwner&>(*this));
  }
  query->queued = false;
  query->channel = channel_;
  query->passes = 1;
  query->id = random_id();
  ++active_;
  bool sent = false;
  try {
    sent = query->channel->send(query);
  } catch (...) {
    --active_;
    throw;
  }
  if (!sent) finish(*query, nullptr, DnsError::invalid_name);
}

void ResolverCore::abandon(const std::shared_ptr<DnsQuery>& query) noexcept {
  query->abandoned = true;
  forget_in_flight(*query);
  if (query->channel != nullptr) query->channel->abandon(*query);
}

void ResolverCore::pass_ended(DnsQuery& query, PacketView reply) noexcept {
  try {
    if (!reply.empty()) return take_reply(query, reply);
    if (query.timed_out && !query.abandoned && query.passes < config_.tries) {
      ++query.passes;
      query.timed_out = false;
      const std::shared_ptr<DnsQuery>* same = find_in_flight(query.key());
      if (same != nullptr && query.channel->send(std::shared_ptr<DnsQuery>(*same))) return;
    }
    finish(query, nullptr, query.abandoned ? std::error_code(DnsError::timed_out) : summary_of(query));
  } catch (...) {
    finish(query, nullptr, std::make_error_code(std::errc::not_enough_memory));
  }
}

void ResolverCore::take_reply(DnsQuery& query, PacketView reply) {
  std::error_code error;
  auto answer = std::make_shared<DnsAnswer>(parse_answer(reply, query.name, query.type, error));
  if (error) {
    query.trail.push_back({query.asked, error});
    return finish(query, nullptr, error);
  }
  answer->asked = query.channel->server_name(query.asked);
  const TimePoint time = now();
  answer->expires = expiry_of(*answer, time);
  std::stable_sort(answer->mx.begin(), answer->mx.end(),
                   [](const MxRecord& a, const MxRecord& b) { return a.preference < b.preference; });
  std::stable_sort(answer->srv.begin(), answer->srv.end(),
                   [](const SrvRecord& a, const SrvRecord& b) { return a.priority < b.priority; });
  if (!query.abandoned) keep(query, answer, time);
  finish(query, std::move(answer), {});
}

TimePoint ResolverCore::expiry_of(const DnsAnswer& answer, TimePoint time) const noexcept {
  if (!answer.ttl) return {};
  const Duration max = answer.error ? options_.negative_ttl_max : options_.ttl_max;
  const Duration ttl = std::max<Duration>(std::chrono::seconds(*answer.ttl), options_.ttl_min);
  return bight::detail::saturating_add(time, std::min(ttl, max));
}

void ResolverCore::keep(DnsQuery& query, const AnswerPointer& answer, TimePoint time) {
  if (query.channel != channel_) return;  // what servers said that are not asked any more
  if (answer->expires > time) cache_.put(query.key(), answer, answer->expires);
}

void ResolverCore::finish(DnsQuery& query, AnswerPointer answer, std::error_code error) noexcept {
  --active_;
  query.answer = std::move(answer);
  query.error = error;
  query.done.set();
  forget_in_flight(query);
}

void ResolverCore::settled() noexcept {
  if (std::exchange(starting_, true)) return;
  while (!backlog_.empty() && active_ < options_.queries_max) {
    const std::shared_ptr<DnsQuery> query = std::move(backlog_.front());
    backlog_.pop_front();
    if (query->abandoned) continue;
    try {
      begin(query);
    } catch (...) {
      ++active_;
      finish(*query, nullptr, std::make_error_code(std::errc::not_enough_memory));
    }
  }
  starting_ = false;
}

std::uint16_t ResolverCore::random_id() {
  if (simulated()) return static_cast<std::uint16_t>((stats_.lookups + stats_.queries++) * 40503U);
  if (random_left_ == 0) {
    if (::getrandom(random_.data(), sizeof random_, 0) != static_cast<::ssize_t>(sizeof random_)) {
      throw std::system_error(errno, std::generic_category(), "get random numbers");
    }
    random_left_ = random_.size();
  }
  return random_[--random_left_];
}

ResolverStats ResolverCore::stats() const noexcept {
  ResolverStats stats = stats_;
  const TransportStats present = channel_ != nullptr ? channel_->stats() : TransportStats();
  stats.queries = past_.queries + present.queries;
  stats.tcp_queries = past_.tcp_queries + present.tcp_queries;
  stats.timeouts = past_.timeouts + present.timeouts;
  stats.rejected = past_.rejected + present.rejected;
  stats.in_flight = in_flight_.size();
  stats.cached = cache_.size();
  return stats;
}

const std::vector<Address>& ResolverCore::servers() {
  refresh();
  return config_.servers;
}

}  // namespace bight::net::detail
