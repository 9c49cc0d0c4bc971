// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

namespace bight::net::detail {

/// Where in TLS's records a flow of bytes is: five bytes that end with how long the rest is, and the rest.
class TlsFraming {
 public:
  static constexpr std::size_t kHeader = 5;

  /// Some more bytes of the flow.
  void pass(std::span<const std::byte> bytes) noexcept {
    while (!bytes.empty()) {
      std::size_t count = 1;
      if (header_ == 0 && bytes.size() >= kHeader) {  // as it nearly always is
        left_ =
            std::to_integer<std::size_t>(bytes[kHeader - 2]) << 8U | std::to_integer<std::size_t>(bytes[kHeader - 1]);
        header_ = partial_ = count = kHeader;
      } else if (header_ < kHeader) {
        if (header_ >= kHeader - 2) left_ = left_ << 8U | std::to_integer<std::size_t>(bytes.front());
        ++header_;
        ++partial_;
      } else {
        count = std::min(left_, bytes.size());
        left_ -= count;
        partial_ += count;
      }
      bytes = bytes.subspan(count);
      if (header_ == kHeader && left_ == 0) header_ = partial_ = 0;
    }
  }
  /// How many bytes of a record have passed, of which the rest has not.
  [[nodiscard]] std::size_t partial() const noexcept { return partial_; }

  /// How long the record is that `bytes` begin with; 0 if they are not all of it.
  [[nodiscard]] static std::size_t whole_record(std::span<const std::byte> bytes) noexcept {
    if (bytes.size() < kHeader) return 0;
    const std::size_t rest =
        std::to_integer<std::size_t>(bytes[kHeader - 2]) << 8U | std::to_integer<std::size_t>(bytes[kHeader - 1]);
    return bytes.size() >= kHeader + rest ? kHeader + rest : 0;
  }

 private:
  std::size_t header_ = 0;  // bytes of it that have passed
  std::size_t left_ = 0;    // of the rest
  std::size_t partial_ = 0;
};

}  // namespace bight::net::detail
