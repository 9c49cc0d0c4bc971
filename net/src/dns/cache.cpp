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
  if (buckets_.empty()) return entries_.end();
  Entries::iterator entry = bucket_of(key.hash);
  while (entry != entries_.end() && (entry->hash != key.hash || entry->kind != key.kind || entry->name() != key.name)) {
    entry = entry->next;
  }
  return entry;
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
  if (entries_.size() * 2 >= buckets_.size()) widen();
  entries_.emplace_front(key, std::move(answer), expires);
  entries_.front().next = std::exchange(bucket_of(key.hash), entries_.begin());
}

void DnsCache::widen() {
  constexpr std::size_t kLeast = 16;
  std::vector<Entries::iterator> wider(std::max(kLeast, buckets_.size() * 2), entries_.end());
  buckets_.swap(wider);
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    entry->next = std::exchange(bucket_of(entry->hash), entry);
  }
}

void DnsCache::erase(Entries::iterator entry) noexcept {
  Entries::iterator* link = &bucket_of(entry->hash);
  while (*link != entry) link = &(*link)->next;
  *link = entry->next;
  entries_.erase(entry);
}

void DnsCache::clear() noexcept {
  entries_.clear();
  std::fill(buckets_.begin(), buckets_.end(), entries_.end());
}

}  // namespace bight::net::detail
