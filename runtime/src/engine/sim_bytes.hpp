// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

namespace bight::detail {

/// A queue of bytes: a socket buffer.
class SimBytes {
 public:
  [[nodiscard]] std::size_t size() const noexcept { return bytes_.size() - head_; }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }

  void push(std::span<const std::byte> data) { bytes_.insert(bytes_.end(), data.begin(), data.end()); }

  /// Copies what fits into `buffer`. Returns how much that was.
  std::size_t peek(std::span<std::byte> buffer) const noexcept {
    const std::size_t count = std::min(buffer.size(), size());
    if (count != 0) std::memcpy(buffer.data(), bytes_.data() + head_, count);
    return count;
  }

  /// The same, and they are gone.
  std::size_t pop(std::span<std::byte> buffer) noexcept {
    const std::size_t count = peek(buffer);
    if (count == 0) return 0;
    head_ += count;
    compact();
    return count;
  }

  void clear() noexcept {
    bytes_.clear();
    head_ = 0;
  }

 private:
  void compact() noexcept {
    if (head_ == bytes_.size()) {
      clear();
    } else if (head_ > bytes_.size() / 2) {  // each byte is moved at most once per byte taken, so this stays linear
      bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(head_));
      head_ = 0;
    }
  }

  std::vector<std::byte> bytes_;
  std::size_t head_ = 0;
};

}  // namespace bight::detail
