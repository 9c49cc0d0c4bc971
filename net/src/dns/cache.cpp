// SPDX-License-Identifier: Apache-2.0
#include "cache.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace bight::net::detail {
namespace {

struct Sip {
  std::uint64_t a, b, c, d;

  void round() noexcept {
    a += b;
    b = std::rotl(b, 13) ^ a;
    a = std::rotl(a, 32);
    c += d;
    d = std::rotl(d, 16) ^ c;
    a += d;
    d = std::rotl(d, 21) ^ a;
    c += b;
    b = std::rotl(b, 17) ^ c;
    c = std::rotl(c, 32);
  }
  void take(std::uint64_t word) noexcept {
    d ^= word;
    round();
    round();
    a ^= word;
  }
};

}  // namespace

std::uint64_t sip_hash(const std::array<std::uint64_t, 2>& key, std::string_view text) noexcept {
  Sip sip{key[0] ^ 0x736f6d6570736575U, key[1] ^ 0x646f72616e646f6dU, key[0] ^ 0x6c7967656e657261U,
          key[1] ^ 0x7465646279746573U};
  const std::uint64_t length = static_cast<std::uint64_t>(text.size()) << 56U;
  for (; text.size() >= sizeof(std::uint64_t); text.remove_prefix(sizeof(std::uint64_t))) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data(), sizeof word);
    sip.take(word);
  }
  std::uint64_t last = 0;
  if (!text.empty()) std::memcpy(&last, text.data(), text.size());
  sip.take(length | last);
  sip.c ^= 0xff;
  for (int i = 0; i < 4; ++i) sip.round();
  return sip.a ^ sip.b ^ sip.c ^ sip.d;
}

DnsKey DnsCache::key_of(std::string_view name, std::uint16_t kind) noexcept {
  if (name.empty() || name != std::string_view(hashed_.data(), hashed_size_)) {
    hash_ = sip_hash(secret_, name);
    hashed_size_ = name.size() <= hashed_.size() ? name.size() : 0;
    if (hashed_size_ > 0) std::memcpy(hashed_.data(), name.data(), hashed_size_);
  }
  return with_kind({name, 0, hash_}, kind);
}

DnsCache::Entries::iterator DnsCache::locate(const DnsKey& key) noexcept {
  if (slots_.empty()) return entries_.end();
  for (std::size_t slot = home_of(key.hash); !is_free(slot); slot = next(slot)) {
    if (slots_[slot].hash == key.hash && slots_[slot].entry->is(key)) return slots_[slot].entry;
  }
  return entries_.end();
}

std::shared_ptr<const DnsAnswer> DnsCache::find(const DnsKey& key, TimePoint now) {
  const Entries::iterator entry = locate(key);
  if (entry == entries_.end()) return nullptr;
  if (entry->expires <= now) {
    erase(entry);
    return nullptr;
  }
  if (entry != entries_.begin()) entries_.splice(entries_.begin(), entries_, entry);
  return entry->answer;
}

void DnsCache::put(const DnsKey& key, std::shared_ptr<const DnsAnswer> answer, TimePoint expires) {
  if (max_ == 0) return;
  if (const Entries::iterator entry = locate(key); entry != entries_.end()) {
    erase(entry);
  }
  if (entries_.size() >= max_) erase(std::prev(entries_.end()));
  if (entries_.size() * 4 >= slots_.size() * 3) widen();
  entries_.emplace_front(key, std::move(answer), expires);
  place({key.hash, entries_.begin()});
}

void DnsCache::place(const Slot& slot) noexcept {
  std::size_t at = home_of(slot.hash);
  while (!is_free(at)) at = next(at);
  slots_[at] = slot;
}

void DnsCache::widen() {
  constexpr std::size_t kLeast = 16;
  std::vector<Slot> narrow(std::max(kLeast, slots_.size() * 2), Slot{0, entries_.end()});
  slots_.swap(narrow);
  for (const Slot& each : narrow) {
    if (each.entry != entries_.end()) place(each);
  }
}

void DnsCache::erase(Entries::iterator entry) noexcept {
  std::size_t hole = home_of(entry->hash);
  while (slots_[hole].entry != entry) hole = next(hole);
  // Those behind it move up, but none before its own place.
  for (std::size_t slot = next(hole); !is_free(slot); slot = next(slot)) {
    const std::size_t home = home_of(slots_[slot].hash);
    const bool stays = hole <= slot ? hole < home && home <= slot : hole < home || home <= slot;
    if (stays) continue;
    slots_[hole] = slots_[slot];
    hole = slot;
  }
  slots_[hole].entry = entries_.end();
  entries_.erase(entry);
}

void DnsCache::clear() noexcept {
  entries_.clear();
  std::fill(slots_.begin(), slots_.end(), Slot{0, entries_.end()});
}

}  // namespace bight::net::detail
