// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace bight::http::detail {

/// Looks over a block of lines that an empty line ends (a request's head, or trailers), in whatever pieces it comes,
/// before anything is made of it. Lines end in CR LF and in nothing else, hold no control characters, are not folded,
/// and do not begin with a colon: the places where servers that read the same bytes have come to differ. It keeps no
/// text; the caller keeps the block together.
class BlockScan {
 public:
  enum class Found : std::uint8_t { more, line, end, illegal };

  /// Goes on where the last call stopped: to the end of the next line (position() is then behind it), to the end of the
  /// block, to what may not be there, or to the end of what there is. `data` is the block from its beginning.
  Found next_line(const char* data, std::size_t size) noexcept;

  /// How far it has come.
  [[nodiscard]] std::size_t position() const noexcept { return position_; }
  /// How many lines it has passed, the empty one that ends the block not counted.
  [[nodiscard]] std::size_t lines() const noexcept { return lines_; }

 private:
  std::size_t position_ = 0;
  std::size_t line_start_ = 0;
  std::size_t lines_ = 0;
};

}  // namespace bight::http::detail
