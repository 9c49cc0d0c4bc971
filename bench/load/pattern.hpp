// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace bench::load {

// The bytes a connection sends and expects back: an endless stream without self-similarity, so that lost, repeated,
// swapped or foreign bytes show. It repeats every kPeriod bytes, and is laid out several times in a row, so that
// sending needs no copy and checking is one memcmp.
class Pattern {
 public:
  static constexpr std::size_t kPeriod = 64 * 1024;
  static constexpr std::size_t kRun = 4 * kPeriod;  // contiguous from any position on

  Pattern() : bytes_(kPeriod + kRun) {
    std::uint64_t state = 0x9e3779b97f4a7c15;
    for (std::size_t i = 0; i < kPeriod; ++i) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      bytes_[i] = static_cast<char>(state >> 32);
    }
    for (std::size_t i = kPeriod; i < bytes_.size(); ++i) bytes_[i] = bytes_[i - kPeriod];
  }

  // kRun bytes of connection `id`'s stream from `position` on. Connections start at different places.
  [[nodiscard]] const char* at(std::uint32_t id, std::uint64_t position) const {
    return bytes_.data() + (position + std::uint64_t{id} * 4099) % kPeriod;
  }

  [[nodiscard]] bool matches(std::uint32_t id, std::uint64_t position, std::span<const char> bytes) const {
    while (!bytes.empty()) {
      const std::size_t length = std::min(bytes.size(), kRun);
      if (std::memcmp(at(id, position), bytes.data(), length) != 0) return false;
      position += length;
      bytes = bytes.subspan(length);
    }
    return true;
  }

 private:
  std::vector<char> bytes_;
};

}  // namespace bench::load
