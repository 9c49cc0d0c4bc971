// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_content.hpp"

#include <algorithm>
#include <utility>

namespace bight::detail {
namespace {

// Beyond these the oldest changes are written back, so that a program that never syncs does not fill the memory.
constexpr std::size_t kChangesMost = 4096;
constexpr std::uint64_t kUnsyncedMost = std::uint64_t{64} << 20U;

}  // namespace

std::size_t SimContent::write(std::uint64_t offset, std::span<const std::byte> data) {
  const std::uint64_t count = now_.writable(offset, data.size(), space_->left());
  if (count == 0) return 0;
  const std::span<const std::byte> written = data.first(count);
  now_.write(offset, written);
  count_space();
  record({Change::Kind::write, offset, count, {written.begin(), written.end()}});
  return count;
}

void SimContent::resize(std::uint64_t size) {
  now_.resize(size);
  count_space();
  record({Change::Kind::resize, size});
}

void SimContent::punch(std::uint64_t offset, std::uint64_t length) {
  now_.punch(offset, length);
  count_space();
  record({Change::Kind::punch, offset, length});
}

bool SimContent::allocate(std::uint64_t offset, std::uint64_t length, bool grow) {
  if (now_.writable(offset, length, space_->left()) < length) return false;
  now_.allocate(offset, length);
  count_space();
  record({Change::Kind::allocate, offset, length});
  if (grow && offset + length > now_.size()) {
    now_.extend(offset + length);
    record({Change::Kind::grow, offset + length});
  }
  return true;
}

/// Brings the disk up to what everybody sees, page by page, where there were changes.
void SimContent::sync() {
  if (changes_.empty()) return;
  for (const Change& change : changes_) {
    if (change.kind == Change::Kind::resize) {
      disk_.drop_from(change.offset);
      disk_.share(now_, change.offset, 1);
    } else if (change.kind != Change::Kind::grow) {
      disk_.share(now_, change.offset, change.length);
    }
  }
  disk_.resize(now_.size());
  changes_.clear();
  unsynced_bytes_ = 0;
}

void SimContent::fail_sync(SimRandom& random, const SimSurvival& survival) { settle(random, survival); }

void SimContent::crash(SimRandom& random, const SimSurvival& survival) {
  settle(random, survival);
  now_ = disk_;
  given_back_ = false;
  count_space();
}

void SimContent::give_back() noexcept {
  space_->used -= counted_;
  counted_ = 0;
  given_back_ = true;
}

void SimContent::record(Change change) {
  unsynced_bytes_ += change.data.size();
  changes_.push_back(std::move(change));
  while (changes_.size() > kChangesMost || (unsynced_bytes_ > kUnsyncedMost && changes_.size() > 1)) {
    apply(disk_, changes_.front());
    unsynced_bytes_ -= changes_.front().data.size();
    changes_.pop_front();
  }
}

void SimContent::count_space() noexcept {
  if (given_back_) return;
  space_->used += now_.space() - counted_;
  counted_ = now_.space();
}

void SimContent::apply(SimBlocks& disk, const Change& change) {
  switch (change.kind) {
    case Change::Kind::write: disk.write(change.offset, change.data); break;
    case Change::Kind::resize: disk.resize(change.offset); break;
    case Change::Kind::punch: disk.punch(change.offset, change.length); break;
    case Change::Kind::allocate: disk.allocate(change.offset, change.length); break;
    case Change::Kind::grow: disk.extend(change.offset); break;
  }
}

/// Some of its sectors have arrived: those up to some point, or any. The size is the journal's to write, and may have
/// come without the bytes: then there are zeros.
void SimContent::tear(SimBlocks& disk, const Change& change, SimRandom& random, std::uint64_t sector) {
  const bool in_order = random.chance(0.5);
  if (random.chance(0.25)) disk.extend(change.offset + change.length);
  const std::span<const std::byte> data(change.data);
  std::uint64_t done = 0;
  while (done < data.size()) {
    const std::uint64_t at = change.offset + done;
    const std::uint64_t part = std::min<std::uint64_t>(data.size() - done, sector - at % sector);
    const bool arrived = random.chance(0.5);
    if (!arrived && in_order) break;
    if (arrived) disk.write(at, data.subspan(done, part));
    done += part;
  }
}

void SimContent::settle(SimRandom& random, const SimSurvival& survival) {
  for (const Change& change : changes_) {
    if (random.chance(survival.kept)) {
      apply(disk_, change);
    } else if (change.kind == Change::Kind::write && random.chance(survival.torn)) {
      tear(disk_, change, random, survival.sector);
    }
  }
  changes_.clear();
  unsynced_bytes_ = 0;
}

}  // namespace bight::detail
