// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace bight::detail {

/// xoshiro256** (Blackman and Vigna). Our own, for the standard library's distributions differ from one library to the
/// next, and a seed has to mean the same everywhere.
class SimRandom {
 public:
  explicit SimRandom(std::uint64_t seed) noexcept {
    for (std::uint64_t& word : state_) {  // splitmix64, so that seeds close to each other give streams far apart
      seed += 0x9e3779b97f4a7c15;
      std::uint64_t z = seed;
      z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9;
      z = (z ^ (z >> 27U)) * 0x94d049bb133111eb;
      word = z ^ (z >> 31U);
    }
  }

  [[nodiscard]] std::uint64_t next() noexcept {
    const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const std::uint64_t shifted = state_[1] << 17U;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

  /// From low to high, both included. The modulo's bias is far below anything a test could see.
  [[nodiscard]] std::uint64_t between(std::uint64_t low, std::uint64_t high) noexcept {
    const std::uint64_t span = high - low + 1;
    return span == 0 ? next() : low + next() % span;
  }

  [[nodiscard]] bool chance(double probability) noexcept {
    return static_cast<double>(next() >> 11U) * 0x1.0p-53 < probability;
  }

 private:
  std::array<std::uint64_t, 4> state_{};
};

}  // namespace bight::detail
