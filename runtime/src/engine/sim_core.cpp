// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_core.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string_view>

#include <bight/check.hpp>

namespace bight::detail {
namespace {

constexpr TimePoint kStart{std::chrono::seconds(1)};  // not the epoch: zero should look wrong

constexpr std::array<std::string_view, 65> kNames{"socket",
                                                  "bind",
                                                  "listen",
                                                  "shutdown",
                                                  "close",
                                                  "accepted",
                                                  "pipe",
                                                  "recv",
                                                  "recv_lent",
                                                  "send",
                                                  "send_message",
                                                  "accept",
                                                  "connect",
                                                  "poll_in",
                                                  "poll_out",
                                                  "syn",
                                                  "syn_ack",
                                                  "open",
                                                  "data",
                                                  "acknowledge",
                                                  "fin",
                                                  "reset",
                                                  "syn_lost",
                                                  "refused",
                                                  "reset_injected",
                                                  "stalled",
                                                  "delayed",
                                                  "cancelled",
                                                  "exhausted",
                                                  "recv_message",
                                                  "recv_many",
                                                  "send_many",
                                                  "socket_pair",
                                                  "datagram",
                                                  "datagram_lost",
                                                  "datagram_dropped",
                                                  "datagram_doubled",
                                                  "datagram_late",
                                                  "unreachable",
                                                  "crashed",
                                                  "file_open",
                                                  "file_close",
                                                  "file_read",
                                                  "file_write",
                                                  "file_seek",
                                                  "file_sync",
                                                  "file_data_sync",
                                                  "file_allocate",
                                                  "file_truncate",
                                                  "file_advise",
                                                  "file_lock",
                                                  "file_stat",
                                                  "file_set_mode",
                                                  "file_set_owner",
                                                  "file_set_times",
                                                  "file_rename",
                                                  "file_unlink",
                                                  "file_make_dir",
                                                  "file_symlink",
                                                  "file_link",
                                                  "file_read_link",
                                                  "file_read_dir",
                                                  "file_splice",
                                                  "file_copy_range",
                                                  "file_send_file"};
static_assert(kNames.size() == static_cast<std::size_t>(SimNote::file_send_file) + 1);

/// For heaps, whose greatest element comes first.
constexpr auto kLater = [](const SimEvent& a, const SimEvent& b) noexcept {
  return a.when != b.when ? a.when > b.when : a.sequence > b.sequence;
};

bool wants_trace() noexcept {
  const char* text = std::getenv("BIGHT_SIM_TRACE");  // NOLINT(concurrency-mt-unsafe): never set by us
  return text != nullptr && *text != '\0' && *text != '0';
}

void check_options(const testing::SimOptions& options) noexcept {
  BIGHT_CHECK(options.latency_min >= Duration::zero() && options.latency_min <= options.latency_max,
              "SimOptions: latency_min has to be from 0 to latency_max");
  BIGHT_CHECK(options.file_latency_min >= Duration::zero() && options.file_latency_min <= options.file_latency_max,
              "SimOptions: file_latency_min has to be from 0 to file_latency_max");
  BIGHT_CHECK(options.send_buffer > 0 && options.receive_buffer > 0,
              "SimOptions: a socket buffer holds at least one byte");
}

}  // namespace

std::optional<std::uint64_t> sim_seed_from_environment() noexcept {
  const char* text = std::getenv("BIGHT_SIM_SEED");  // NOLINT(concurrency-mt-unsafe): never set by us
  if (text == nullptr || *text == '\0') return std::nullopt;
  return std::strtoull(text, nullptr, 0);
}

SimCore::SimCore(const testing::SimOptions& options)
    : options_(options),
      random_(options.seed),
      now_(kStart),
      calm_from_(saturating_add(kStart, options.faults_until)),
      hash_(options.seed),
      trace_(options.trace != nullptr ? options.trace : (wants_trace() ? &std::cerr : nullptr)) {
  check_options(options);
}

void SimCore::schedule(SimEvent event) {
  event.sequence = ++sequence_;
  events_.push_back(event);
  std::push_heap(events_.begin(), events_.end(), kLater);
}

bool SimCore::take_event(TimePoint until, SimEvent& event) noexcept {
  if (events_.empty() || events_.front().when > std::max(until, now_)) return false;
  std::pop_heap(events_.begin(), events_.end(), kLater);
  event = events_.back();
  events_.pop_back();
  advance(event.when);
  ++counters_.events;
  return true;
}

bool SimCore::strikes(double probability) noexcept { return probability > 0 && !calm() && random_.chance(probability); }

Duration SimCore::some_of(Duration most) noexcept {
  return Duration(static_cast<Duration::rep>(
      random_.between(1, std::max<std::uint64_t>(1, static_cast<std::uint64_t>(most.count())))));
}

void SimCore::note(SimNote what, std::int64_t who, std::int64_t amount) noexcept {
  fold(static_cast<std::uint64_t>(now_.time_since_epoch().count()));
  fold(static_cast<std::uint64_t>(what));
  fold(static_cast<std::uint64_t>(who));
  fold(static_cast<std::uint64_t>(amount));
  if (trace_ != nullptr) print(what, who, amount);
}

void SimCore::fold(std::uint64_t value) noexcept {
  hash_ = (std::rotl(hash_, 29) ^ value) * 0x9e3779b97f4a7c15;
  hash_ ^= hash_ >> 32U;
}

void SimCore::print(SimNote what, std::int64_t who, std::int64_t amount) noexcept {
  char line[96];
  const auto time = static_cast<long long>(now_.time_since_epoch().count());
  const std::string_view name = kNames[static_cast<std::size_t>(what)];
  std::snprintf(line, sizeof line, "%lld.%09lld %-14.*s %5lld %lld\n", time / 1'000'000'000, time % 1'000'000'000,
                static_cast<int>(name.size()), name.data(), static_cast<long long>(who),
                static_cast<long long>(amount));
  *trace_ << line;
}

}  // namespace bight::detail
