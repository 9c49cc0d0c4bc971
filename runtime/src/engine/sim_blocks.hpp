// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>

namespace bight::detail {

/// The bytes of a simulated file: pages, of which those that nobody has written are not there and read as zeros.
///
/// A copy shares its pages with the original until one of them changes: what the disk has and what the page cache has
/// are two of these, and mostly the same pages. Invariant: what is in a page beyond the size is zero.
class SimBlocks {
 public:
  static constexpr std::uint64_t kPage = 4096;

  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  /// Bytes of the pages that are there.
  [[nodiscard]] std::uint64_t space() const noexcept { return pages_.size() * kPage; }
  /// How much of [offset, offset + length) can be written with `budget` bytes of new pages.
  [[nodiscard]] std::uint64_t writable(std::uint64_t offset, std::uint64_t length, std::uint64_t budget) const noexcept;
  /// The first offset at or behind `from` that has a page (or has none), at most the size.
  [[nodiscard]] std::uint64_t next(std::uint64_t from, bool with_page) const noexcept;

  /// As much as there is, up to the size. Returns how much that was.
  std::size_t read(std::uint64_t offset, std::span<std::byte> into) const noexcept;
  void write(std::uint64_t offset, std::span<const std::byte> data);
  void resize(std::uint64_t size);
  /// Grows to `size`, if it is smaller. No page comes or goes.
  void extend(std::uint64_t size) noexcept {
    if (size > size_) size_ = size;
  }
  /// Makes the range read as zeros. Whole pages go.
  void punch(std::uint64_t offset, std::uint64_t length);
  /// Makes the pages of the range be there, beyond the size as well.
  void allocate(std::uint64_t offset, std::uint64_t length);

  /// Makes the pages that [offset, offset + length) touches those of `from`.
  void share(const SimBlocks& from, std::uint64_t offset, std::uint64_t length);
  /// Drops all pages that begin at or behind `offset`.
  void drop_from(std::uint64_t offset) noexcept;

 private:
  using Page = std::array<std::byte, kPage>;

  [[nodiscard]] Page& own(std::uint64_t number);
  void zero(std::uint64_t offset, std::uint64_t length);

  std::map<std::uint64_t, std::shared_ptr<Page>> pages_;
  std::uint64_t size_ = 0;
};

}  // namespace bight::detail
