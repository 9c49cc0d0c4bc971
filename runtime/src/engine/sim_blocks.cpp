// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_blocks.hpp"

#include <algorithm>
#include <cstring>

namespace bight::detail {

std::uint64_t SimBlocks::writable(std::uint64_t offset, std::uint64_t length, std::uint64_t budget) const noexcept {
  std::uint64_t at = offset;
  const std::uint64_t end = offset + length;
  while (at < end) {
    if (pages_.count(at / kPage) == 0) {
      if (budget < kPage) break;
      budget -= kPage;
    }
    at = std::min(end, (at / kPage + 1) * kPage);
  }
  return at - offset;
}

std::uint64_t SimBlocks::next(std::uint64_t from, bool with_page) const noexcept {
  while (from < size_) {
    const auto page = pages_.lower_bound(from / kPage);
    const bool here = page != pages_.end() && page->first == from / kPage;
    if (here == with_page) return from;
    if (with_page) return page == pages_.end() ? size_ : std::min(size_, page->first * kPage);
    from = (from / kPage + 1) * kPage;
  }
  return size_;
}

std::size_t SimBlocks::read(std::uint64_t offset, std::span<std::byte> into) const noexcept {
  if (offset >= size_) return 0;
  const std::size_t count = std::min<std::uint64_t>(into.size(), size_ - offset);
  std::size_t done = 0;
  while (done < count) {
    const std::uint64_t at = offset + done;
    const std::size_t part = std::min<std::uint64_t>(count - done, kPage - at % kPage);
    const auto page = pages_.find(at / kPage);
    if (page != pages_.end()) {
      std::memcpy(into.data() + done, page->second->data() + at % kPage, part);
    } else {
      std::memset(into.data() + done, 0, part);
    }
    done += part;
  }
  return count;
}

void SimBlocks::write(std::uint64_t offset, std::span<const std::byte> data) {
  std::size_t done = 0;
  while (done < data.size()) {
    const std::uint64_t at = offset + done;
    const std::size_t part = std::min<std::uint64_t>(data.size() - done, kPage - at % kPage);
    std::memcpy(own(at / kPage).data() + at % kPage, data.data() + done, part);
    done += part;
  }
  if (!data.empty()) extend(offset + data.size());
}

void SimBlocks::resize(std::uint64_t size) {
  if (size < size_) {
    zero(size, (size + kPage - 1) / kPage * kPage - size);
    drop_from(size);
  }
  size_ = size;
}

void SimBlocks::punch(std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t end = offset + length;
  const std::uint64_t first = (offset + kPage - 1) / kPage;  // the first and one behind the last whole page
  const std::uint64_t last = end / kPage;
  if (first >= last) {
    const std::uint64_t border = std::min(end, first * kPage);
    zero(offset, border - offset);
    zero(border, end - border);
    return;
  }
  zero(offset, first * kPage - offset);
  pages_.erase(pages_.lower_bound(first), pages_.lower_bound(last));
  zero(last * kPage, end - last * kPage);
}

void SimBlocks::allocate(std::uint64_t offset, std::uint64_t length) {
  static const auto nothing = std::make_shared<Page>();
  for (std::uint64_t page = offset / kPage; page * kPage < offset + length; ++page) pages_.try_emplace(page, nothing);
}

void SimBlocks::share(const SimBlocks& from, std::uint64_t offset, std::uint64_t length) {
  if (length == 0) return;
  const std::uint64_t first = offset / kPage;
  const std::uint64_t last = (offset + length - 1) / kPage;
  pages_.erase(pages_.lower_bound(first), pages_.upper_bound(last));
  pages_.insert(from.pages_.lower_bound(first), from.pages_.upper_bound(last));
}

void SimBlocks::drop_from(std::uint64_t offset) noexcept {
  pages_.erase(pages_.lower_bound((offset + kPage - 1) / kPage), pages_.end());
}

SimBlocks::Page& SimBlocks::own(std::uint64_t number) {
  std::shared_ptr<Page>& page = pages_[number];
  if (page == nullptr) {
    page = std::make_shared<Page>();
  } else if (page.use_count() > 1) {
    page = std::make_shared<Page>(*page);
  }
  return *page;
}

/// Within one page.
void SimBlocks::zero(std::uint64_t offset, std::uint64_t length) {
  if (length == 0 || pages_.count(offset / kPage) == 0) return;
  std::memset(own(offset / kPage).data() + offset % kPage, 0, length);
}

}  // namespace bight::detail
