// SPDX-License-Identifier: Apache-2.0
#include <new>
#include <optional>
#include <utility>

#include <bight/check.hpp>
#include <bight/detail/loop_face.hpp>
#include <bight/error.hpp>
#include <bight/net/dns.hpp>

#include "core.hpp"

namespace bight::net {
namespace {

using detail::AnswerPointer;
using detail::RecordType;
using detail::ResolveFailure;
using detail::ResolverCore;

/// What the error_code forms have in common. What `find` throws becomes an error.
template <class Find>
AnswerPointer settle(std::error_code& error, Find&& find) {
  ResolveFailure failure;
  AnswerPointer answer;
  try {
    answer = find(failure);
  } catch (const Cancelled&) {
    failure.error = std::make_error_code(std::errc::operation_canceled);
  } catch (const std::bad_alloc&) {
    failure.error = std::make_error_code(std::errc::not_enough_memory);
  } catch (const std::system_error& thrown) {
    failure.error = thrown.code();
  }
  error = failure.error;
  return answer;
}

/// What the throwing forms have.
template <class Find>
AnswerPointer require(std::string_view attempt, std::string_view what, Find&& find) {
  ResolveFailure failure;
  AnswerPointer answer = find(failure);
  if (failure.error) {
    std::string text(attempt);
    text.append(1, ' ').append(detail::printable(what)).append(": ").append(failure.error.message());
    throw ResolveError(failure.error, text + failure.detail);
  }
  return answer;
}

std::vector<Address> with_port(const std::vector<Address>& addresses, std::uint16_t port) {
  std::vector<Address> result = addresses;
  if (port != 0) {
    for (Address& each : result) each = each.with_port(port);
  }
  return result;
}

HostInfo info_of(const detail::DnsAnswer& answer, std::uint16_t port) {
  HostInfo info{with_port(answer.addresses, port), answer.name, std::chrono::seconds(answer.ttl.value_or(0))};
  const auto left = std::chrono::floor<std::chrono::seconds>(answer.expires - now());
  if (answer.expires != TimePoint{}) info.ttl = std::max(std::chrono::seconds(0), std::min(info.ttl, left));
  return info;
}

struct LoopResolver {
  std::uint64_t loop = 0;  // its serial number
  std::optional<ResolverOptions> options;
  std::unique_ptr<Resolver> resolver;
};

LoopResolver& loop_resolver() {
  static thread_local LoopResolver mine;
  return mine;
}

}  // namespace

ResolverBackend default_resolver_backend() noexcept { return detail::default_backend(); }

Resolver::Resolver(ResolverOptions options) : core_(std::make_shared<ResolverCore>(std::move(options))) {}

Resolver::~Resolver() { core_->shut_down(); }

// --- Addresses -------------------------------------------------------------------------------------------------------

std::vector<Address> Resolver::resolve(std::string_view host, const ResolveOptions& options) {
  const auto answer = require("resolve", host,
                              [&](ResolveFailure& failure) { return core_->find_host(host, options.family, failure); });
  return with_port(answer->addresses, options.port);
}

std::vector<Address> Resolver::resolve(std::string_view host, const ResolveOptions& options, std::error_code& error) {
  const auto answer =
      settle(error, [&](ResolveFailure& failure) { return core_->find_host(host, options.family, failure); });
  return error ? std::vector<Address>() : with_port(answer->addresses, options.port);
}

std::vector<Address> Resolver::resolve(std::string_view host, std::error_code& error) {
  return resolve(host, {}, error);
}

HostInfo Resolver::lookup(std::string_view host, const ResolveOptions& options) {
  const auto answer = require("resolve", host,
                              [&](ResolveFailure& failure) { return core_->find_host(host, options.family, failure); });
  return info_of(*answer, options.port);
}

HostInfo Resolver::lookup(std::string_view host, const ResolveOptions& options, std::error_code& error) {
  const auto answer =
      settle(error, [&](ResolveFailure& failure) { return core_->find_host(host, options.family, failure); });
  return error ? HostInfo() : info_of(*answer, options.port);
}

std::vector<std::string> Resolver::reverse(const Address& address) {
  return require("find the names of", address.host(),
                 [&](ResolveFailure& failure) { return core_->find_names(address, failure); })
      ->names;
}

std::vector<std::string> Resolver::reverse(const Address& address, std::error_code& error) {
  const auto answer = settle(error, [&](ResolveFailure& failure) { return core_->find_names(address, failure); });
  return error ? std::vector<std::string>() : answer->names;
}

// --- Records ---------------------------------------------------------------------------------------------------------

namespace {

AnswerPointer require_records(ResolverCore& core, std::string_view attempt, std::string_view name, RecordType type) {
  return require(attempt, name, [&](ResolveFailure& failure) { return core.find_records(name, type, failure); });
}

AnswerPointer settle_records(ResolverCore& core, std::string_view name, RecordType type, std::error_code& error) {
  return settle(error, [&](ResolveFailure& failure) { return core.find_records(name, type, failure); });
}

}  // namespace

std::vector<MxRecord> Resolver::mx(std::string_view name) {
  return require_records(*core_, "find the MX records of", name, RecordType::mx)->mx;
}

std::vector<MxRecord> Resolver::mx(std::string_view name, std::error_code& error) {
  const auto answer = settle_records(*core_, name, RecordType::mx, error);
  return error ? std::vector<MxRecord>() : answer->mx;
}

std::vector<SrvRecord> Resolver::srv(std::string_view name) {
  return require_records(*core_, "find the SRV records of", name, RecordType::srv)->srv;
}

std::vector<SrvRecord> Resolver::srv(std::string_view name, std::error_code& error) {
  const auto answer = settle_records(*core_, name, RecordType::srv, error);
  return error ? std::vector<SrvRecord>() : answer->srv;
}

std::vector<std::string> Resolver::txt(std::string_view name) {
  return require_records(*core_, "find the TXT records of", name, RecordType::txt)->names;
}

std::vector<std::string> Resolver::txt(std::string_view name, std::error_code& error) {
  const auto answer = settle_records(*core_, name, RecordType::txt, error);
  return error ? std::vector<std::string>() : answer->names;
}

std::vector<std::string> Resolver::ns(std::string_view name) {
  return require_records(*core_, "find the NS records of", name, RecordType::ns)->names;
}

std::vector<std::string> Resolver::ns(std::string_view name, std::error_code& error) {
  const auto answer = settle_records(*core_, name, RecordType::ns, error);
  return error ? std::vector<std::string>() : answer->names;
}

std::vector<std::string> Resolver::ptr(std::string_view name) {
  return require_records(*core_, "find the PTR records of", name, RecordType::ptr)->names;
}

std::vector<std::string> Resolver::ptr(std::string_view name, std::error_code& error) {
  const auto answer = settle_records(*core_, name, RecordType::ptr, error);
  return error ? std::vector<std::string>() : answer->names;
}

std::string Resolver::cname(std::string_view name) {
  return require_records(*core_, "find the CNAME record of", name, RecordType::cname)->names.front();
}

std::string Resolver::cname(std::string_view name, std::error_code& error) {
  const auto answer = settle_records(*core_, name, RecordType::cname, error);
  return error ? std::string() : answer->names.front();
}

// --- The rest --------------------------------------------------------------------------------------------------------

void Resolver::clear_cache() noexcept { core_->clear_cache(); }

ResolverStats Resolver::stats() const noexcept { return core_->stats(); }

std::vector<Address> Resolver::servers() { return core_->servers(); }

Resolver& this_loop_resolver() {
  LoopResolver& mine = loop_resolver();
  const std::uint64_t loop = bight::detail::current_loop->serial;
  if (mine.resolver == nullptr || mine.loop != loop) {
    mine.resolver = nullptr;  // of a loop that has ended
    mine.resolver = std::make_unique<Resolver>(mine.options.value_or(ResolverOptions()));
    mine.loop = loop;
  }
  return *mine.resolver;
}

void set_resolver_options(ResolverOptions options) {
  LoopResolver& mine = loop_resolver();
  BIGHT_CHECK(mine.resolver == nullptr || mine.loop != bight::detail::current_loop->serial || mine.loop == 0,
              "set_resolver_options: this loop has its resolver already");
  mine.options = std::move(options);
}

std::vector<Address> resolve(std::string_view host, const ResolveOptions& options) {
  return this_loop_resolver().resolve(host, options);
}

std::vector<Address> resolve(std::string_view host, const ResolveOptions& options, std::error_code& error) {
  return this_loop_resolver().resolve(host, options, error);
}

}  // namespace bight::net
