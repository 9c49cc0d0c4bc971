// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "tls/state.hpp"

namespace bight::net::detail {
namespace {

// A batch of records and some; larger ones are not kept.
constexpr std::size_t kKeptMax = std::size_t{96} * 1024;
constexpr std::size_t kKept = 4;

struct Spare {
  std::vector<std::byte> buffers[kKept];
  std::size_t count = 0;
};

// Fibers do not change threads. Not inlined, so that nobody keeps its address where they may.
[[gnu::noinline]] Spare& spare() noexcept {
  thread_local Spare all;
  return all;
}

}  // namespace

void TlsBuffers::take(std::vector<std::byte>& buffer) noexcept {
  Spare& all = spare();
  if (buffer.capacity() == 0 && all.count > 0) buffer.swap(all.buffers[--all.count]);
}

void TlsBuffers::give_back(std::vector<std::byte>& buffer) noexcept {
  buffer.clear();
  Spare& all = spare();
  if (buffer.capacity() > 0 && buffer.capacity() <= kKeptMax && all.count < kKept) {
    buffer.swap(all.buffers[all.count++]);
  }
  std::vector<std::byte>().swap(buffer);
}

}  // namespace bight::net::detail
