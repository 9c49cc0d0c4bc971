// SPDX-License-Identifier: Apache-2.0
#include "chunked.hpp"

#include <algorithm>
#include <cstring>

namespace bight::http::detail {
namespace {

constexpr std::size_t kSizeDigitsMax = 16;

int hex_value(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool may_be_in_extension(char c) noexcept { return c == '\t' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f); }

}  // namespace

ChunkedBody::Step ChunkedBody::advance(char* data, std::size_t size, const Limits& limits) noexcept {
  for (;;) {
    Step step = Step::end;
    switch (state_) {
      case State::size_line:
        step = read_size_line(data, size, limits);
        if (step == Step::end && last_) return Step::end;
        break;
      case State::data:
        move_data(data, size);
        if (left_ > 0) return Step::more;
        state_ = State::data_end;
        break;
      case State::data_end: step = read_data_end(data, size); break;
    }
    if (step != Step::end) return step;
  }
}

// A line that is not whole is read again from its beginning: it is short.
ChunkedBody::Step ChunkedBody::read_size_line(const char* data, std::size_t size, const Limits& limits) noexcept {
  std::uint64_t chunk = 0;
  std::size_t at = read_;
  for (; at < size && hex_value(data[at]) >= 0; ++at) {
    if (at - read_ == kSizeDigitsMax) return Step::bad;
    chunk = chunk * 16 + static_cast<std::uint64_t>(hex_value(data[at]));
  }
  if (at == size) return Step::more;
  if (at == read_) return Step::bad;

  std::size_t extension = 0;
  if (data[at] == ';') {
    for (; at < size && data[at] != '\r'; ++at) {
      if (!may_be_in_extension(data[at]) || ++extension > limits.chunk_extension_bytes_max) return Step::bad;
    }
    if (at == size) return Step::more;
  }
  if (data[at] != '\r') return Step::bad;
  if (at + 1 == size) return Step::more;
  if (data[at + 1] != '\n') return Step::bad;

  extension_bytes_ += extension;
  if (extension_bytes_ > limits.chunk_extension_bytes_total_max) return Step::bad;
  const std::size_t body = write_ - begin_;
  if (chunk > limits.body_bytes_max || chunk > limits.body_bytes_max - body) return Step::too_large;
  read_ = at + 2;
  left_ = static_cast<std::size_t>(chunk);
  last_ = chunk == 0;
  state_ = State::data;
  return Step::end;
}

ChunkedBody::Step ChunkedBody::read_data_end(const char* data, std::size_t size) noexcept {
  if (read_ == size) return Step::more;
  if (data[read_] != '\r') return Step::bad;
  if (read_ + 1 == size) return Step::more;
  if (data[read_ + 1] != '\n') return Step::bad;
  read_ += 2;
  state_ = State::size_line;
  return Step::end;
}

void ChunkedBody::move_data(char* data, std::size_t size) noexcept {
  const std::size_t count = std::min(left_, size - read_);
  if (read_ != write_) std::memmove(data + write_, data + read_, count);
  read_ += count;
  write_ += count;
  left_ -= count;
}

}  // namespace bight::http::detail
