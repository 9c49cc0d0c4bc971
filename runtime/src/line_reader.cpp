// SPDX-License-Identifier: Apache-2.0
#include <bight/line_reader.hpp>

#include <algorithm>
#include <cstring>
#include <utility>

#include <bight/error.hpp>

namespace bight::detail {

LineBuffer::Outcome LineBuffer::take(std::string_view& line) {
  for (;;) {
    const char* start = text_.data() + scanned_;
    const void* found = scanned_ == end_ ? nullptr : std::memchr(start, '\n', end_ - scanned_);
    if (found == nullptr) {
      scanned_ = end_;
      if (skipping_) begin_ = end_;
      // One byte more may be the "\r" of its end.
      if (end_ - begin_ <= options_.line_max + 1) return Outcome::wants_more;
      skipping_ = true;
      begin_ = end_;
      return Outcome::too_long;
    }
    const auto size = static_cast<std::size_t>(static_cast<const char*>(found) - (text_.data() + begin_));
    line = {text_.data() + begin_, size};
    scanned_ = begin_ += size + 1;
    if (std::exchange(skipping_, false)) continue;
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line.size() <= options_.line_max ? Outcome::line : Outcome::too_long;
  }
}

std::span<std::byte> LineBuffer::room() {
  if (begin_ != 0) {  // what was given is no longer needed
    std::memmove(text_.data(), text_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    scanned_ -= begin_;
    begin_ = 0;
  }
  if (text_.size() - end_ < std::max<std::size_t>(options_.read_size / 2, 1)) {
    text_.resize(std::max(2 * text_.size(), end_ + std::max<std::size_t>(options_.read_size, 1)));
  }
  return std::as_writable_bytes(std::span(text_)).subspan(end_);
}

std::optional<std::string_view> LineBuffer::take_rest() noexcept {
  if (begin_ == end_ || !options_.partial_at_end) return std::nullopt;
  const std::string_view line = rest();
  scanned_ = begin_ = end_;
  return line;
}

void throw_line_error(std::error_code error, std::size_t line_max) {
  const bool long_line = error == std::errc::message_size;
  throw_error(error,
              long_line ? "read a line: it is longer than " + std::to_string(line_max) + " bytes" : "read a line");
}

}  // namespace bight::detail
