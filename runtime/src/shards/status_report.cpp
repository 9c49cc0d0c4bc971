// SPDX-License-Identifier: Apache-2.0
#include "shards/status_report.hpp"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <string_view>
#include <utility>

namespace bight::detail {
namespace {

using Numbers = std::vector<std::pair<std::string_view, std::uint64_t>>;

std::uint64_t load(const std::atomic<std::uint64_t>& number) noexcept { return number.load(std::memory_order_relaxed); }

std::uint64_t seconds_since(TimePoint start) {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(now() - start).count());
}

const char* state_of(const Worker& worker) noexcept {
  switch (worker.slot->state.load(std::memory_order_relaxed)) {
    case WorkerState::starting: return "starting";
    case WorkerState::ready: return "ready";
    case WorkerState::leaving: return "leaving";
    case WorkerState::none: break;
  }
  return "none";
}

template <class Visit>
void for_each_worker(const std::vector<Seat>& seats, Visit&& visit) {
  for (const Seat& seat : seats) {
    if (seat.worker) visit(seat, *seat.worker);
    if (seat.successor) visit(seat, *seat.successor);
    for (const Worker& each : seat.leaving) visit(seat, each);
  }
}

std::string quoted(std::string_view text) {
  std::string all = "\"";
  for (const char c : text) {
    std::array<char, 8> escaped{};
    if (c == '"' || c == '\\') {
      all += '\\';
      all += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      std::snprintf(escaped.data(), escaped.size(), "\\u%04x", static_cast<unsigned>(c));
      all += escaped.data();
    } else {
      all += c;
    }
  }
  return all += '"';
}

std::string members(const Numbers& numbers) {
  std::string text;
  for (const auto& [name, number] : numbers) {
    if (!text.empty()) text += ",";
    text += quoted(name) + ":" + std::to_string(number);
  }
  return text;
}

Numbers loop_numbers(const LoopStats& loop) {
  return {{"fibers_alive", loop.fibers_alive},
          {"fibers_spawned", loop.fibers_spawned},
          {"timers_armed", loop.timers_armed},
          {"descriptors_open", loop.descriptors_open},
          {"operations_in_flight", loop.operations_in_flight},
          {"switches", loop.switches},
          {"turns", loop.turns},
          {"sleeps", loop.sleeps},
          {"unhandled_errors", loop.unhandled_errors},
          {"stalls", loop.stalls}};
}

template <class Load>
Numbers user_numbers(const std::vector<std::string>& names, Load&& number) {
  Numbers all;
  for (std::size_t i = 0; i < names.size() && i < kUserCounters; ++i) all.emplace_back(names[i], number(i));
  return all;
}

struct Total {
  ShardTable::Sums sums;
  std::uint64_t open = 0;
  std::uint64_t ready = 0;
};

Total total_of(const StatusSource& source) {
  Total total{source.table.gone()};
  for_each_worker(source.seats, [&](const Seat&, const Worker& worker) {
    total.sums.add(*worker.slot);
    total.open += load(worker.slot->counters.connections_open);
    if (worker.slot->state.load(std::memory_order_relaxed) == WorkerState::ready) ++total.ready;
  });
  return total;
}

}  // namespace

std::string status_text(const StatusSource& source) {
  const Total total = total_of(source);
  std::string text = "supervisor " + std::to_string(::getpid()) + " " + source.state + ", up " +
                     std::to_string(seconds_since(source.started)) + " s, " + std::to_string(source.restarts) +
                     " restarts, " + std::to_string(source.reloads) + " reloads; " + std::to_string(total.ready) +
                     " workers ready, " + std::to_string(total.open) + " connections open, " +
                     std::to_string(total.sums.accepted) + " accepted, " + std::to_string(total.sums.requests) +
                     " requests";
  for (const auto& [name, number] : user_numbers(source.counters, [&](std::size_t i) { return total.sums.user[i]; }))
    text.append(", ").append(std::to_string(number)).append(" ").append(name);
  for_each_worker(source.seats, [&](const Seat& seat, const Worker& worker) {
    const WorkerSlot& slot = *worker.slot;
    std::array<char, 256> line{};
    std::snprintf(line.data(), line.size(),
                  "\nshard %zu: pid %d %s, up %llu s, %llu open, %llu accepted, %llu requests, %llu fibers", seat.index,
                  worker.pid, state_of(worker), static_cast<unsigned long long>(seconds_since(worker.started)),
                  static_cast<unsigned long long>(load(slot.counters.connections_open)),
                  static_cast<unsigned long long>(load(slot.counters.accepted)),
                  static_cast<unsigned long long>(load(slot.counters.requests)),
                  static_cast<unsigned long long>(slot.loop.fibers_alive));
    text += line.data();
    for (const auto& [name, number] : user_numbers(source.counters, [&](std::size_t i) { return load(slot.user[i]); }))
      text.append(", ").append(std::to_string(number)).append(" ").append(name);
  });
  return text;
}

std::string status_json(const StatusSource& source) {
  const Total total = total_of(source);
  std::string workers;
  for_each_worker(source.seats, [&](const Seat& seat, const Worker& worker) {
    const WorkerSlot& slot = *worker.slot;
    if (!workers.empty()) workers += ",";
    workers += "\n{" +
               members({{"shard", seat.index},
                        {"pid", static_cast<std::uint64_t>(worker.pid)},
                        {"up_seconds", seconds_since(worker.started)},
                        {"connections_open", load(slot.counters.connections_open)},
                        {"accepted", load(slot.counters.accepted)},
                        {"requests", load(slot.counters.requests)}}) +
               ",\"state\":" + quoted(state_of(worker)) + ",\"loop\":{" + members(loop_numbers(slot.loop)) +
               "},\"counters\":{" +
               members(user_numbers(source.counters, [&](std::size_t i) { return load(slot.user[i]); })) + "}}";
  });
  return "{\"state\":" + quoted(source.state) + "," +
         members({{"pid", static_cast<std::uint64_t>(::getpid())},
                  {"up_seconds", seconds_since(source.started)},
                  {"restarts", source.restarts},
                  {"reloads", source.reloads},
                  {"workers_ready", total.ready},
                  {"connections_open", total.open},
                  {"accepted", total.sums.accepted},
                  {"requests", total.sums.requests}}) +
         ",\"counters\":{" + members(user_numbers(source.counters, [&](std::size_t i) { return total.sums.user[i]; })) +
         "},\"workers\":[" + workers + "]}\n";
}

}  // namespace bight::detail
