// SPDX-License-Identifier: Apache-2.0
#include <bight/codec.hpp>

#include <string>

namespace bight {

DecodeError::DecodeError(const std::string& what, std::size_t offset)
    : std::runtime_error("decode: " + what + ", at byte " + std::to_string(offset)), offset_(offset) {}

void Encoder::write_count(std::size_t count) {
  // Seven bits a byte, lowest first; the eighth says that more follow.
  while (count >= 0x80) {
    out_.push_back(static_cast<std::byte>(count | 0x80));
    count >>= 7;
  }
  out_.push_back(static_cast<std::byte>(count));
}

void Encoder::too_deep() {
  throw std::length_error("encode: values nested more than " + std::to_string(codec_depth_max) + " deep");
}

std::size_t Decoder::read_count(std::size_t least, const char* what) {
  const std::size_t start = offset_;
  std::size_t count = 0;
  for (unsigned shift = 0;; shift += 7) {
    const auto byte = std::to_integer<std::size_t>(read_bytes(1, "a count")[0]);
    const std::size_t bits = byte & 0x7f;
    // One way only to write a number, and none that does not fit.
    const bool overlong = byte == 0 && shift > 0;
    if (overlong || shift > 63 || (bits << shift) >> shift != bits) {
      offset_ = start;
      fail("a count that is malformed");
    }
    count |= bits << shift;
    if ((byte & 0x80) == 0) break;
  }
  if (least > 0 && count > remaining() / least) {
    throw DecodeError(
        std::to_string(count) + " " + what + " that " + std::to_string(remaining()) + " bytes can not hold", start);
  }
  return count;
}

void Decoder::finish() const {
  if (remaining() != 0) throw DecodeError(std::to_string(remaining()) + " bytes left over", offset_);
}

void Decoder::fail(const char* what) const { throw DecodeError(what, offset_); }

void Decoder::fail_short(std::size_t size, const char* what) const {
  throw DecodeError(
      std::string(what) + " of " + std::to_string(size) + " bytes where " + std::to_string(remaining()) + " are left",
      offset_);
}

}  // namespace bight
