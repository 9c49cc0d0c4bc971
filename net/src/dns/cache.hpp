// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include <bight/time.hpp>

#include "answer.hpp"

namespace bight::net::detail {

/// SipHash-2-4: what strangers choose as names can not be made to collide without the key.
[[nodiscard]] std::uint64_t sip_hash(const std::array<std::uint64_t, 2>& key, std::string_view text) noexcept;

/// Answers by name and what was asked, each until its time. Bounded: the one not used for longest goes first.
class DnsCache {
 public:
  /// `key` is to be random where there are strangers.
  DnsCache(std::size_t entries_max, const std::array<std::uint64_t, 2>& key)
      : max_(entries_max), index_(0, Hash{key}) {}
  DnsCache(const DnsCache&) = delete;
  DnsCache& operator=(const DnsCache&) = delete;

  /// Null if there is none, or it is past its time.
  [[nodiscard]] std::shared_ptr<const DnsAnswer> find(std::string_view name, std::uint16_t kind, TimePoint now);
  void put(std::string name, std::uint16_t kind, std::shared_ptr<const DnsAnswer> answer, TimePoint expires);
  void clear() noexcept;
  [[nodiscard]] std::size_t size() const noexcept { return index_.size(); }

 private:
  struct Key {
    std::string_view name;
    std::uint16_t kind;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct Hash {
    std::array<std::uint64_t, 2> key;
    // Not noexcept: so the library keeps the hashes, rather than make them again for each neighbour that it looks at.
    std::size_t operator()(const Key& of) const {
      return static_cast<std::size_t>(sip_hash(key, of.name) + of.kind * 0x9e3779b97f4a7c15U);
    }
  };
  struct Entry {
    std::string name;
    std::uint16_t kind;
    std::shared_ptr<const DnsAnswer> answer;
    TimePoint expires;
  };
  using Entries = std::list<Entry>;  // the last one used first

  void erase(Entries::iterator entry) noexcept;

  std::size_t max_;
  Entries entries_;
  std::unordered_map<Key, Entries::iterator, Hash> index_;  // keys look into the entries
};

}  // namespace bight::net::detail
