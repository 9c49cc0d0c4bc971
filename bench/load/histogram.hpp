// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

namespace bench::load {

// Counts durations in buckets whose width grows with the value: every power of two is cut into 128 equal parts, so a
// reported quantile is off by less than 0.8 % of itself, and recording is a shift and an increment. Exact below 256.
class Histogram {
 public:
  void record(std::uint64_t value) {
    ++buckets_[index_of(std::min(value, kLargest))];
    ++count_;
    max_ = std::max(max_, value);
  }

  // The value that `fraction` of all records do not exceed; 0 when there are none.
  [[nodiscard]] std::uint64_t quantile(double fraction) const {
    const auto wanted = static_cast<std::uint64_t>(std::ceil(fraction * static_cast<double>(count_)));
    std::uint64_t seen = 0;
    for (std::uint32_t i = 0; i < buckets_.size(); ++i) {
      seen += buckets_[i];
      if (seen > 0 && seen >= wanted) return std::min(middle_of(i), max_);
    }
    return max_;
  }

  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] std::uint64_t max() const { return max_; }

 private:
  static constexpr std::uint32_t kPartBits = 7;
  static constexpr std::uint32_t kParts = 1u << kPartBits;
  static constexpr std::uint64_t kLargest = (1ull << 42) - 1;  // 73 minutes in nanoseconds

  // With `shift` dropped bits a value keeps its kPartBits + 1 highest ones: kParts..2*kParts-1.
  static constexpr std::uint32_t index_of(std::uint64_t value) {
    const auto width = static_cast<std::uint32_t>(std::bit_width(value));
    const std::uint32_t shift = width > kPartBits + 1 ? width - kPartBits - 1 : 0;
    return shift * kParts + static_cast<std::uint32_t>(value >> shift);
  }

  static constexpr std::uint64_t middle_of(std::uint32_t index) {
    if (index < 2 * kParts) return index;
    const std::uint32_t shift = index / kParts - 1;
    const std::uint64_t low = static_cast<std::uint64_t>(index - shift * kParts) << shift;
    return low + (1ull << shift) / 2;
  }

  std::vector<std::uint64_t> buckets_ = std::vector<std::uint64_t>(index_of(kLargest) + 1);
  std::uint64_t count_ = 0;
  std::uint64_t max_ = 0;
};

}  // namespace bench::load
