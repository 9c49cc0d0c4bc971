// SPDX-License-Identifier: Apache-2.0
#include "scan.hpp"

#include <bit>
#include <cstring>

namespace bight::http::detail {
namespace {

constexpr std::uint64_t kOnes = 0x0101010101010101;
constexpr std::uint64_t kHighs = 0x8080808080808080;

// 0x80 in the lowest byte that is a control character; above that one, bytes may be marked by mistake (the borrow of a
// subtraction).
constexpr std::uint64_t mark_controls(std::uint64_t eight) noexcept {
  const std::uint64_t del = eight ^ (0x7f * kOnes);
  return (((eight - 0x20 * kOnes) & ~eight) | ((del - kOnes) & ~del)) & kHighs;
}

constexpr bool is_control(char c) noexcept { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

// The place of the first control character from `at` on, or `size`. Eight bytes at a time: heads are mostly text.
std::size_t find_control(const char* data, std::size_t at, std::size_t size) noexcept {
  while (size - at >= sizeof(std::uint64_t)) {
    std::uint64_t eight = 0;
    std::memcpy(&eight, data + at, sizeof eight);
    if constexpr (std::endian::native == std::endian::big) eight = __builtin_bswap64(eight);
    if (const std::uint64_t marks = mark_controls(eight); marks != 0) {
      return at + static_cast<std::size_t>(__builtin_ctzll(marks)) / 8;
    }
    at += sizeof eight;
  }
  while (at < size && !is_control(data[at])) ++at;
  return at;
}

}  // namespace

BlockScan::Found BlockScan::next_line(const char* data, std::size_t size) noexcept {
  while (position_ < size) {
    if (position_ == line_start_ && (data[position_] == ' ' || data[position_] == '\t' || data[position_] == ':')) {
      return Found::illegal;
    }
    const std::size_t at = find_control(data, position_, size);
    position_ = at;
    if (at == size) break;
    if (data[at] == '\t') {
      ++position_;
      continue;
    }
    if (data[at] != '\r') return Found::illegal;
    if (at + 1 == size) break;
    if (data[at + 1] != '\n') return Found::illegal;
    const bool empty = at == line_start_;
    position_ = line_start_ = at + 2;
    if (empty) return Found::end;
    ++lines_;
    return Found::line;
  }
  return Found::more;
}

}  // namespace bight::http::detail
