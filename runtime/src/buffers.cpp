// SPDX-License-Identifier: Apache-2.0
#include "buffers.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <new>
#include <system_error>

#include <bight/check.hpp>
#include <bight/chunk.hpp>

#include "loop.hpp"

namespace bight::detail {
namespace {

// Buffers 64 KiB apart would share the few cache sets that their first bytes fall into. A page and a line more spread
// them.
constexpr std::size_t kStride = BufferPool::kSize + 4096 + 64;

}  // namespace

BufferPool::BufferPool(std::size_t count) : bytes_(count * kStride), count_(count) {
  free_.reserve(count);
  for (std::size_t i = count; i > 0; --i) free_.push_back(static_cast<std::uint32_t>(i - 1));
  if (count == 0) return;
  void* memory = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "reserve receive buffers: mmap");
  memory_ = static_cast<std::byte*>(memory);
}

BufferPool::~BufferPool() {
  if (memory_ != nullptr) ::munmap(memory_, bytes_);
}

std::byte* BufferPool::address(std::uint32_t id) const noexcept { return memory_ + id * kStride; }

BufferPool::Buffer BufferPool::take() noexcept {
  if (on_return_ != nullptr || free_.empty()) return take_small();
  const std::uint32_t id = free_.back();
  free_.pop_back();
  ++lent_;
  return {address(id), kSize, id};
}

BufferPool::Buffer BufferPool::take_heap(std::uint32_t size) noexcept {
  auto* data =
      static_cast<std::byte*>(std::malloc(size));  // NOLINT(cppcoreguidelines-no-malloc): may fail without throwing
  if (data != nullptr) ++lent_;
  return {data, size, kOnHeap};
}

void BufferPool::give_back(std::byte* data, std::uint32_t id) noexcept {
  --lent_;
  if (id == kOnHeap) {
    std::free(data);  // NOLINT(cppcoreguidelines-no-malloc)
  } else if (on_return_ != nullptr) {
    on_return_(owner_, id);
  } else {
    free_.push_back(id);
  }
}

void BufferPool::hand_over(void* owner, OnReturn on_return) noexcept {
  owner_ = owner;
  on_return_ = on_return;
}

}  // namespace bight::detail

namespace bight {

void Chunk::give_back() noexcept { pool_->give_back(data_, id_); }

Chunk detail::make_chunk(std::size_t size) {
  BIGHT_CHECK(size > 0 && size <= std::size_t{1} << 30U, "a chunk has a byte at least, and 1 GiB at most");
  BufferPool& pool = Loop::require().buffers();
  const BufferPool::Buffer buffer = pool.take_heap(static_cast<std::uint32_t>(size));
  if (buffer.data == nullptr) throw std::bad_alloc();
  return {buffer.data, buffer.size, buffer.id, pool};
}

}  // namespace bight
