// SPDX-License-Identifier: Apache-2.0
#include <bight/testing.hpp>

#include <algorithm>
#include <cerrno>
#include <span>
#include <system_error>

#include "engine/sim_world.hpp"
#include "loop.hpp"

namespace bight::testing {

namespace {

[[noreturn]] void fail(int error, const char* what, const std::string& path) {
  throw std::system_error(-error, std::generic_category(), std::string(what) + " " + path + " in the simulated world");
}

detail::SimInode& find(detail::SimWorld& world, const char* what, const std::string& path) {
  detail::SimInode* node = nullptr;
  if (const int error = world.files.find(path, node); error != 0) fail(error, what, path);
  return *node;
}

}  // namespace

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
  faults.file_error = 0.01;
  faults.no_space = 0.01;
  faults.file_delay = 0.1;
  faults.open_exhausted = 0.02;
  return faults;
}

Sim::Sim(const SimOptions& options) : world_(new detail::SimWorld(options)) {
  world_->on_crash = []() noexcept { detail::Loop::require().cancel_all(); };
}

Sim::~Sim() = default;

void Sim::WorldDeleter::operator()(detail::SimWorld* world) const noexcept { delete world; }

void Sim::settle() noexcept { world_->settle(); }

void Sim::crash() noexcept {
  world_->crash();
  if (!world_->in_run()) settle();
}

void Sim::crash_after(std::uint64_t operations) noexcept { world_->crash_after(operations); }

void Sim::quiesce() noexcept { world_->core.calm_down(); }

TimePoint Sim::now() const noexcept { return world_->core.now(); }

std::uint64_t Sim::seed() const noexcept { return world_->core.options().seed; }

std::uint64_t Sim::trace_hash() const noexcept { return world_->core.hash(); }

const Counters& Sim::counters() const noexcept { return world_->core.counters(); }

std::string Sim::leaks() const { return world_->leaks(); }

void SimDisk::write(const std::string& path, std::string_view bytes) {
  const int error = world_->files.put(path, std::as_bytes(std::span(bytes.data(), bytes.size())));
  if (error != 0) fail(error, "write", path);
}

std::string SimDisk::read(const std::string& path) const {
  const detail::SimInode& node = find(*world_, "read", path);
  if (!node.is_regular()) fail(node.is_directory() ? -EISDIR : -EINVAL, "read", path);
  std::string bytes(node.content.size(), '\0');
  node.content.now().read(0, std::as_writable_bytes(std::span(bytes.data(), bytes.size())));
  return bytes;
}

bool SimDisk::exists(const std::string& path) const {
  detail::SimInode* node = nullptr;
  return world_->files.find(path, node) == 0;
}

std::vector<std::string> SimDisk::list(const std::string& path) const {
  const detail::SimInode& node = find(*world_, "list", path);
  if (!node.is_directory()) fail(-ENOTDIR, "list", path);
  std::vector<std::string> names;
  node.names.for_each([&](const std::string& name, const detail::SimInode&) { names.push_back(name); });
  std::sort(names.begin(), names.end());
  return names;
}

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
