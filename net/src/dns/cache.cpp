// SPDX-License-Identifier: Apache-2.0
#include "cache.hpp"

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

std::shared_ptr<const DnsAnswer> DnsCache::find(std::string_view name, std::uint16_t kind, TimePoint now) {
  const auto found = index_.find(Key{name, kind});
  if (found == index_.end()) return nullptr;
  const Entries::iterator entry = found->second;
  if (entry->expires <= now) {
    erase(entry);
    return nullptr;
  }
  if (entry != entries_.begin()) entries_.splice(entries_.begin(), entries_, entry);
  return entry->answer;
}

void DnsCache::put(std::string name, std::uint16_t kind, std::shared_ptr<const DnsAnswer> answer, TimePoint expires) {
  if (max_ == 0) return;
  if (const auto found = index_.find(Key{name, kind}); found != index_.end()) erase(found->second);
  if (entries_.size() >= max_) erase(std::prev(entries_.end()));
  entries_.push_front(Entry{std::move(name), kind, std::move(answer), expires});
  try {
    index_.emplace(Key{entries_.front().name, kind}, entries_.begin());
  } catch (...) {
    entries_.pop_front();
    throw;
  }
}

void DnsCache::erase(Entries::iterator entry) noexcept {
  index_.erase(Key{entry->name, entry->kind});
  entries_.erase(entry);
}

void DnsCache::clear() noexcept {
  index_.clear();
  entries_.clear();
}

}  // namespace bight::net::detail
