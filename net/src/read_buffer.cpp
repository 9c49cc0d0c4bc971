// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <string>

#include <bight/error.hpp>
#include <bight/net/buffered.hpp>

namespace bight::net::detail {

std::span<std::byte> ReadBuffer::room(std::size_t wanted) {
  const std::size_t unread = end_ - begin_;
  if (unread >= most_ || wanted > most_) return {};
  if (begin_ > 0 && (unread == 0 || begin_ + wanted > bytes_.size() || end_ == bytes_.size())) {
    std::memmove(bytes_.data(), bytes_.data() + begin_, unread);
    begin_ = 0;
    end_ = unread;
  }
  if (end_ == bytes_.size() || begin_ + wanted > bytes_.size()) {
    // By doubling, so that each byte is moved a few times at most.
    bytes_.resize(std::min(most_, std::max({least_, wanted, 2 * unread})));
  }
  return std::span(bytes_).subspan(end_);
}

void throw_buffered(std::error_code error, const char* attempt) {
  bight::detail::throw_error(error, std::string(attempt) + " with a buffer");
}

}  // namespace bight::net::detail
