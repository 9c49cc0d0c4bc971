// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: the codec over arbitrary bytes. Whatever they are, it reads none that is not there (a sanitizer's
// to see), takes no memory for what has not come (libFuzzer's limit to see), and what it makes of them it also makes of
// the encoding of that.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include <bight/codec.hpp>

#include "codec_sample.hpp"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data, size));
  try {
    const auto encoded = bight::encode(bight::decode<bight::test::Sample>(bytes));
    require(encoded.size() == size);
    require(bight::encode(bight::decode<bight::test::Sample>(encoded)) == encoded);
  } catch (const bight::DecodeError& error) {
    require(error.offset() <= size);
  }
  try {
    static_cast<void>(bight::decode<bight::test::List>(bytes));
  } catch (const bight::DecodeError&) {
  }
  return 0;
}
