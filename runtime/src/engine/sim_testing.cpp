// SPDX-License-Identifier: Apache-2.0
#include <bight/testing.hpp>

#include "engine/sim_world.hpp"

namespace bight::testing {

Faults Faults::chaotic() noexcept {
  Faults faults;
  faults.short_read = 0.2;
  faults.short_write = 0.2;
  faults.delay = 0.1;
  faults.spurious = 0.05;
  faults.reorder = 0.5;
  faults.cancel_race = 0.5;
  faults.refuse = 0.05;
  faults.syn_loss = 0.05;
  faults.reset = 0.005;
  faults.split = 0.2;
  faults.stall = 0.005;
  faults.datagram_loss = 0.1;
  faults.datagram_duplicate = 0.05;
  faults.datagram_reorder = 0.2;
  faults.accept_abort = 0.05;
  faults.accept_exhausted = 0.05;
  return faults;
}

Sim::Sim(const SimOptions& options) : world_(new detail::SimWorld(options)) {}

Sim::~Sim() = default;

void Sim::WorldDeleter::operator()(detail::SimWorld* world) const noexcept { delete world; }

void Sim::settle() noexcept { world_->settle(); }

void Sim::quiesce() noexcept { world_->core.calm_down(); }

TimePoint Sim::now() const noexcept { return world_->core.now(); }

std::uint64_t Sim::seed() const noexcept { return world_->core.options().seed; }

std::uint64_t Sim::trace_hash() const noexcept { return world_->core.hash(); }

const Counters& Sim::counters() const noexcept { return world_->core.counters(); }

std::string Sim::leaks() const { return world_->leaks(); }

std::vector<std::uint64_t> seeds(std::size_t count, std::uint64_t first) {
  if (const auto only = detail::sim_seed_from_environment()) return {*only};
  std::vector<std::uint64_t> all(count);
  for (std::uint64_t& seed : all) seed = first++;
  return all;
}

std::string replay_hint(std::uint64_t seed) {
  const std::string number = std::to_string(seed);
  return "seed " + number + "; to replay: BIGHT_SIM_SEED=" + number + " BIGHT_SIM_TRACE=1";
}

}  // namespace bight::testing
