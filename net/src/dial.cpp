// SPDX-License-Identifier: Apache-2.0
#include <bight/net/dial.hpp>

#include <algorithm>
#include <new>
#include <utility>
#include <vector>

#include <bight/error.hpp>
#include <bight/event.hpp>
#include <bight/fiber.hpp>
#include <bight/group.hpp>

#include "dns/core.hpp"
#include "dns/order.hpp"

namespace bight::net {
namespace {

using detail::ResolveFailure;

std::error_code timed_out() noexcept { return std::make_error_code(std::errc::timed_out); }

/// The two kinds of addresses in turn, each in its order, after `count` of the first kind.
std::vector<Address> take_turns(const std::vector<Address>& sorted, int first, unsigned count) {
  std::vector<Address> ours;
  std::vector<Address> others;
  for (const Address& each : sorted) (each.family() == first ? ours : others).push_back(each);
  std::vector<Address> result;
  std::size_t other = 0;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    if (i >= count && other < others.size()) result.push_back(others[other++]);
    result.push_back(ours[i]);
  }
  result.insert(result.end(), others.begin() + static_cast<std::ptrdiff_t>(other), others.end());
  return result;
}

/// What came of it, and the text of the error, but for the reason that an exception adds itself.
struct Outcome {
  TcpStream stream;
  std::error_code error;
  std::string text;
  bool complete = false;  // the text has the reason already
};

/// One connect(), with the fibers that it takes. They are done when it is.
class Dialer {
 public:
  Dialer(std::string_view host, std::uint16_t port, const DialOptions& options)
      : host_(host),
        port_(port),
        options_(options),
        resolver_(options.resolver != nullptr ? *options.resolver : this_loop_resolver()),
        deadline_(options.timeout > Duration::zero() ? bight::detail::saturating_add(now(), options.timeout)
                                                     : TimePoint::max()) {
    if (options_.local) options_.family = options_.local->family();
    if (options_.first_family_count == 0) options_.first_family_count = 1;
  }

  /// Waits; throws Cancelled.
  Outcome run() {
    look_up();
    while (!stream_.is_open()) {
      take_news();
      if (stream_.is_open()) break;
      if (names_over() && waiting_.empty() && running_ == 0) return failure(false);
      const bool may_begin =
          !waiting_.empty() && (names_over() || !attempts_.empty() || lookups_[0].done || now() >= resolution_end_);
      if (may_begin && (running_ == 0 || now() >= next_attempt_)) {
        if (names_over() && waiting_.size() == 1 && running_ == 0) {
          try_last();
        } else {
          begin(waiting_.front());
        }
        continue;
      }
      TimePoint until = deadline_;
      if (!waiting_.empty()) until = std::min(until, may_begin ? next_attempt_ : resolution_end_);
      if (!news_.wait_until(until) && now() >= deadline_) return failure(true);
    }
    return {std::move(stream_), {}, {}, false};
  }

 private:
  struct Lookup {
    bool done = false;
    bool taken = false;
    std::vector<Address> addresses;
    ResolveFailure failure;
  };
  struct Attempt {
    Address address;
    std::error_code error;
    bool over = false;
  };

  [[nodiscard]] bool names_over() const noexcept { return lookups_[0].taken && lookups_[1].taken; }

  /// What is known at once takes no fibers. Otherwise IPv6 and IPv4 are asked for apart.
  void look_up() {
    this_fiber::checkpoint();
    detail::ResolverCore& core = resolver_.core();
    ResolveFailure failure;
    const auto known = core.find_host_now(host_, options_.family, failure);
    const bool both = options_.family == AF_UNSPEC;
    if (known != nullptr || failure.error) {
      find(lookups_[0], options_.family);
      lookups_[1].done = lookups_[1].taken = true;
      return;
    }
    group_.spawn([this, both] { find(lookups_[0], both ? AF_INET6 : options_.family); }).detach();
    lookups_[1].done = lookups_[1].taken = !both;
    if (both) group_.spawn([this] { find(lookups_[1], AF_INET); }).detach();
  }

  void find(Lookup& lookup, int family) {
    try {
      const auto answer = resolver_.core().find_host(host_, family, lookup.failure);
      if (answer != nullptr) lookup.addresses = answer->addresses;
    } catch (const std::system_error& error) {
      lookup.failure.error = error.code();
    } catch (const std::bad_alloc&) {
      lookup.failure.error = std::make_error_code(std::errc::not_enough_memory);
    }
    lookup.done = true;
    news_.set();
  }

  /// Takes in addresses that have come since.
  void take_news() {
    bool more = false;
    for (Lookup& lookup : lookups_) {
      if (!lookup.done || std::exchange(lookup.taken, true)) continue;
      for (const Address& each : lookup.addresses) waiting_.push_back(each.with_port(port_));
      more |= !lookup.addresses.empty();
    }
    if (!more) return;
    // IPv4 came first: IPv6 gets a moment.
    if (!lookups_[0].taken) resolution_end_ = bight::detail::saturating_add(now(), options_.resolution_delay);
    const bool mixed = std::any_of(waiting_.begin(), waiting_.end(),
                                   [&](const Address& each) { return each.family() != waiting_.front().family(); });
    if (!mixed) return;
    if (!lookups_[1].addresses.empty() && !lookups_[0].addresses.empty()) detail::sort_addresses(waiting_);
    int first = waiting_.front().family();
    unsigned count = options_.first_family_count;
    if (!attempts_.empty()) {  // the other kind's turn
      first = attempts_.back().address.is_v4() ? AF_INET6 : AF_INET;
      count = 1;
    }
    waiting_ = take_turns(waiting_, first, count);
  }

  [[nodiscard]] ConnectOptions how(Duration timeout) const { return {.timeout = timeout, .local = options_.local}; }

  /// Nothing else can come of it, so this very fiber may wait.
  void try_last() {
    Attempt& attempt = attempts_.emplace_back(Attempt{waiting_.front(), {}, true});
    waiting_.clear();
    const Duration left = deadline_ == TimePoint::max() ? Duration::zero() : std::max(Duration(1), deadline_ - now());
    stream_ = net::connect(attempt.address, how(left), attempt.error);
    if (attempt.error == std::errc::operation_canceled) this_fiber::checkpoint();
  }

  void begin(const Address& address) {
    const std::size_t index = attempts_.size();
    attempts_.push_back({address, {}, false});
    waiting_.erase(waiting_.begin());
    next_attempt_ = bight::detail::saturating_add(now(), options_.attempt_delay);
    ++running_;
    try {
      group_.spawn([this, index] { attempt(index); }).detach();
    } catch (const std::system_error& error) {  // no more fibers
      --running_;
      attempts_[index].error = error.code();
      attempts_[index].over = true;
      next_attempt_ = now();
    }
  }

  void attempt(std::size_t index) {
    std::error_code error;
    const Address address = attempts_[index].address;  // the others move when more begin
    TcpStream stream = net::connect(address, how(Duration::zero()), error);
    attempts_[index].error = error;
    attempts_[index].over = true;
    --running_;
    if (!error && !stream_.is_open()) stream_ = std::move(stream);
    news_.set();
  }

  [[nodiscard]] std::string target() const {
    const bool bare_v6 = host_.find(':') != std::string::npos && host_.front() != '[';
    return (bare_v6 ? '[' + host_ + ']' : detail::printable(host_)) + ':' + std::to_string(port_);
  }

  /// The text ends without the last reason, which is the error.
  Outcome failure(bool late) {
    Outcome outcome;
    outcome.text = "connect " + target();
    if (attempts_.empty() && !late) {
      const bool first = lookups_[0].failure.error && lookups_[0].failure.error != DnsError::no_data;
      const ResolveFailure& why = lookups_[first || !lookups_[1].failure.error ? 0 : 1].failure;
      outcome.error = why.error;
      outcome.text += ": " + why.error.message() + why.detail;
      outcome.complete = true;
      return outcome;
    }
    std::stable_partition(attempts_.begin(), attempts_.end(), [](const Attempt& each) { return each.over; });
    std::string reason;  // of the one before
    const auto append = [&](const std::string& what, std::error_code error) {
      outcome.text += reason + (reason.empty() ? ": " : "; ") + what;
      reason = ": " + error.message();
      outcome.error = error;
    };
    for (const Attempt& each : attempts_) {
      const bool same = attempts_.size() == 1 && !late && each.address.to_string() == target();
      if (!same) append(each.address.to_string(), each.over ? each.error : timed_out());
      if (same) outcome.error = each.error;
    }
    if (late && (!names_over() || running_ == 0)) append("finding its addresses", timed_out());
    return outcome;
  }

  const std::string host_;
  const std::uint16_t port_;
  DialOptions options_;
  Resolver& resolver_;
  const TimePoint deadline_;
  TimePoint resolution_end_{};
  TimePoint next_attempt_{};
  Lookup lookups_[2];  // IPv6, or both; IPv4
  std::vector<Address> waiting_;
  std::vector<Attempt> attempts_;
  std::size_t running_ = 0;
  TcpStream stream_;
  AutoResetEvent news_;
  Group group_;  // the last, so its fibers end before what they use
};

Outcome connect_by_name(std::string_view host, const Service& service, const DialOptions& options) {
  std::error_code error;
  const std::uint16_t port = service.port(error);
  if (error) {
    const std::string text = "connect " + detail::printable(host) + ':' + detail::printable(service.to_string());
    return {{}, error, text + ": no such port", true};
  }
  return Dialer(host, port, options).run();
}

bool split(std::string_view endpoint, std::string_view& host, std::string_view& service) noexcept {
  const std::size_t colon = endpoint.rfind(':');
  if (colon == std::string_view::npos || colon == 0 || colon + 1 == endpoint.size()) return false;
  host = endpoint.substr(0, colon);
  service = endpoint.substr(colon + 1);
  return host.front() == '[' ? host.back() == ']' : host.find(':') == std::string_view::npos;
}

}  // namespace

TcpStream connect(std::string_view host, const Service& service, const DialOptions& options) {
  Outcome outcome = connect_by_name(host, service, options);
  if (outcome.error && outcome.complete) throw ResolveError(outcome.error, outcome.text);
  if (outcome.error) bight::detail::throw_error(outcome.error, outcome.text);
  return std::move(outcome.stream);
}

TcpStream connect(std::string_view host, const Service& service, const DialOptions& options, std::error_code& error) {
  try {
    Outcome outcome = connect_by_name(host, service, options);
    error = outcome.error;
    return std::move(outcome.stream);
  } catch (const Cancelled&) {
    error = std::make_error_code(std::errc::operation_canceled);
  } catch (const std::bad_alloc&) {
    error = std::make_error_code(std::errc::not_enough_memory);
  } catch (const std::system_error& thrown) {
    error = thrown.code();
  }
  return {};
}

TcpStream dial(std::string_view endpoint, const DialOptions& options) {
  std::string_view host;
  std::string_view service;
  if (!split(endpoint, host, service)) {
    bight::detail::throw_error(std::make_error_code(std::errc::invalid_argument),
                               "connect " + detail::printable(endpoint) + ": not a host and a port (host:port)");
  }
  return connect(host, service, options);
}

TcpStream dial(std::string_view endpoint, const DialOptions& options, std::error_code& error) {
  std::string_view host;
  std::string_view service;
  if (split(endpoint, host, service)) return connect(host, service, options, error);
  error = std::make_error_code(std::errc::invalid_argument);
  return {};
}

}  // namespace bight::net
