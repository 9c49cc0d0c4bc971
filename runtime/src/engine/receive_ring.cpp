// SPDX-License-Identifier: Apache-2.0
#include "engine/receive_ring.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <system_error>

namespace bight::detail {

std::string ReceiveRing::init(io_uring& ring, BufferPool& buffers) noexcept {
  if (buffers.count() == 0) return {};
  const auto entries = std::min<std::size_t>(std::bit_ceil(buffers.count()), 32768);
  bytes_ = entries * sizeof(io_uring_buf);
  void* memory = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return "mmap of the receive buffers' ring: " + std::generic_category().message(errno);
  io_uring_buf_reg registration{};
  registration.ring_addr = reinterpret_cast<std::uintptr_t>(memory);
  registration.ring_entries = static_cast<std::uint32_t>(entries);
  registration.bgid = kGroup;
  if (io_uring_register_buf_ring(&ring, &registration, 0) < 0) {
    ::munmap(memory, bytes_);
    return {};
  }
  ring_ = static_cast<io_uring_buf_ring*>(memory);
  mask_ = static_cast<int>(entries) - 1;
  buffers_ = &buffers;
  io_uring_buf_ring_init(ring_);
  for (std::size_t id = 0; id < std::min(entries, buffers.count()); ++id) give(static_cast<std::uint32_t>(id));
  buffers.hand_over(this, [](void* self, std::uint32_t id) noexcept { static_cast<ReceiveRing*>(self)->give(id); });
  return {};
}

void ReceiveRing::close(io_uring& ring, BufferPool& buffers) noexcept {
  if (ring_ == nullptr) return;
  buffers.take_back();
  io_uring_unregister_buf_ring(&ring, kGroup);
  ::munmap(ring_, bytes_);
  ring_ = nullptr;
}

void ReceiveRing::give(std::uint32_t id) noexcept {
  io_uring_buf_ring_add(ring_, buffers_->address(id), BufferPool::kSize, static_cast<unsigned short>(id), mask_, 0);
  io_uring_buf_ring_advance(ring_, 1);
}

}  // namespace bight::detail
