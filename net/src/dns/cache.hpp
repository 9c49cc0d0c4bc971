// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <bight/time.hpp>

#include "answer.hpp"

namespace bight::net::detail {

/// SipHash-2-4: what strangers choose as names can not be made to collide without the key.
[[nodiscard]] std::uint64_t sip_hash(const std::array<std::uint64_t, 2>& key, std::string_view text) noexcept;

/// A name and what is asked for it, with the hash of both: who has several uses for that makes it once.
struct DnsKey {
  std::string_view name;
  std::uint16_t kind = 0;
  std::uint64_t hash = 0;
  friend bool operator==(const DnsKey&, const DnsKey&) = default;
};

/// Answers by name and what was asked, each until its time. Bounded: the one not used for longest goes first.
class DnsCache {
 public:
  /// `secret` is to be random where there are strangers.
  DnsCache(std::size_t entries_max, const std::array<std::uint64_t, 2>& secret) : max_(entries_max), secret_(secret) {}
  DnsCache(const DnsCache&) = delete;
  DnsCache& operator=(const DnsCache&) = delete;

  [[nodiscard]] DnsKey key_of(std::string_view name, std::uint16_t kind) noexcept;
  /// The key of the same name and another kind.
  [[nodiscard]] static DnsKey with_kind(const DnsKey& key, std::uint16_t kind) noexcept {
    constexpr std::uint64_t kSpread = 0x9e3779b97f4a7c15;
    return {key.name, kind, key.hash + static_cast<std::uint64_t>(kind - key.kind) * kSpread};
  }

  /// Null if there is none, or it is past its time.
  [[nodiscard]] std::shared_ptr<const DnsAnswer> find(const DnsKey& key, TimePoint now);
  void put(const DnsKey& key, std::shared_ptr<const DnsAnswer> answer, TimePoint expires);
  void clear() noexcept;
  [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }

 private:
  struct Entry {
    Entry(const DnsKey& key, std::shared_ptr<const DnsAnswer> what, TimePoint until)
        : hash(key.hash), kind(key.kind), answer(std::move(what)), expires(until) {
      if (answer->name != key.name) alias = key.name;
    }
    [[nodiscard]] bool is(const DnsKey& key) const noexcept {
      return kind == key.kind && (alias.empty() ? answer->name : alias) == key.name;
    }

    std::uint64_t hash;
    std::uint16_t kind;
    std::string alias;  // what was asked for, if that is not the answer's name
    std::shared_ptr<const DnsAnswer> answer;
    TimePoint expires;
  };
  using Entries = std::list<Entry>;  // the last one used first

  /// With the hash, so that entries are not looked at but to be found: they are all over the memory.
  struct Slot {
    std::uint64_t hash = 0;
    Entries::iterator entry;  // end(): free
  };

  [[nodiscard]] std::size_t next(std::size_t slot) const noexcept { return (slot + 1) & (slots_.size() - 1); }
  [[nodiscard]] std::size_t home_of(std::uint64_t hash) const noexcept { return hash & (slots_.size() - 1); }
  [[nodiscard]] bool is_free(std::size_t slot) noexcept { return slots_[slot].entry == entries_.end(); }
  [[nodiscard]] Entries::iterator locate(const DnsKey& key) noexcept;
  void place(const Slot& slot) noexcept;
  void erase(Entries::iterator entry) noexcept;
  void widen();

  std::size_t max_;
  std::array<std::uint64_t, 2> secret_;
  std::array<char, 256> hashed_{};  // the name that was hashed last, as it is often hashed again
  std::size_t hashed_size_ = 0;
  std::uint64_t hash_ = 0;
  Entries entries_;
  std::vector<Slot> slots_;  // a power of two, a quarter of them free; where one is taken, the next is tried
};

}  // namespace bight::net::detail
