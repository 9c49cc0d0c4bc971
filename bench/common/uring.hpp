// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "error.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include <liburing.h>
#include <sys/mman.h>

namespace bench {

// A ring for one thread: completions are run only inside its own enters, and one enter per turn submits and waits.
class Ring {
 public:
  struct Sizes {
    unsigned submissions = 1024;
    unsigned completions = 16 * 1024;  // multishot operations post in bursts
  };

  // Nothing when the kernel, its configuration or a sandbox does not offer io_uring, or not the flags above
  // (Linux 6.1); errno says why.
  static std::optional<Ring> open(Sizes sizes) {
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                   IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    params.cq_entries = sizes.completions;
    Ring ring;
    if (const int result = ::io_uring_queue_init_params(sizes.submissions, &ring.ring_, &params); result < 0) {
      errno = -result;
      return std::nullopt;
    }
    ring.open_ = true;
    ::io_uring_register_ring_fd(&ring.ring_);  // saves a descriptor look-up per enter; without it all still works
    return ring;
  }

  Ring(Ring&& other) noexcept : ring_(other.ring_), open_(std::exchange(other.open_, false)) {}
  Ring& operator=(Ring&&) = delete;
  ~Ring() {
    if (open_) ::io_uring_queue_exit(&ring_);
  }

  [[nodiscard]] io_uring* raw() { return &ring_; }

  // A cleared place in the submission queue; what is queued goes out early when there is none left.
  io_uring_sqe* entry() {
    for (;;) {
      if (io_uring_sqe* entry = ::io_uring_get_sqe(&ring_)) return entry;
      if (const int result = ::io_uring_submit(&ring_); result < 0 && result != -EINTR && result != -EBUSY) {
        fail("submit to io_uring", -result);
      }
    }
  }

  // Calls `finish` with every completion that is there, and frees their places in the queue.
  template <class Finish>
  void reap(Finish finish) {
    unsigned head = 0;
    unsigned count = 0;
    io_uring_cqe* completion = nullptr;
    io_uring_for_each_cqe(&ring_, head, completion) {
      ++count;
      finish(*completion);
    }
    ::io_uring_cq_advance(&ring_, count);
  }

 private:
  Ring() = default;

  io_uring ring_{};
  bool open_ = false;
};

// Equal buffers that the kernel picks from when bytes arrive. Registered by hand: liburing got a helper for it in 2.4.
class BufferRing {
 public:
  static constexpr std::uint16_t kGroup = 0;

  struct Shape {
    std::uint32_t size;   // bytes of one buffer
    std::uint32_t count;  // a power of two, at most 32768
  };

  BufferRing(Ring& ring, Shape shape)
      : shape_(shape),
        // One cache line more than the size, or the hot first lines of all buffers would fall into the same few cache
        // sets.
        stride_(shape.size + 64),
        table_size_(shape.count * sizeof(io_uring_buf)),
        table_(static_cast<io_uring_buf_ring*>(map(table_size_))),
        memory_size_(std::size_t{shape.count} * stride_),
        memory_(static_cast<char*>(map(memory_size_))) {
    ::io_uring_buf_ring_init(table_);
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uint64_t>(table_);
    registration.ring_entries = shape.count;
    registration.bgid = kGroup;
    if (const int result = ::io_uring_register_buf_ring(ring.raw(), &registration, 0); result < 0) {
      fail("register a buffer ring", -result);
    }
    for (std::uint32_t id = 0; id < shape.count; ++id) give_back(static_cast<std::uint16_t>(id));
    publish();
  }
  BufferRing(const BufferRing&) = delete;
  BufferRing& operator=(const BufferRing&) = delete;
  ~BufferRing() {
    ::munmap(table_, table_size_);
    ::munmap(memory_, memory_size_);
  }

  static std::uint16_t id_of(const io_uring_cqe& completion) {
    return static_cast<std::uint16_t>(completion.flags >> IORING_CQE_BUFFER_SHIFT);
  }

  [[nodiscard]] char* at(std::uint16_t id) const { return memory_ + std::size_t{id} * stride_; }
  [[nodiscard]] std::uint32_t size() const { return shape_.size; }

  // The kernel may use the buffer again after the next publish().
  void give_back(std::uint16_t id) {
    ::io_uring_buf_ring_add(table_, at(id), shape_.size, id, static_cast<int>(shape_.count - 1), returned_++);
  }

  void publish() {
    if (returned_ > 0) ::io_uring_buf_ring_advance(table_, returned_);
    returned_ = 0;
  }

 private:
  static void* map(std::size_t size) {
    void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fail("map " + std::to_string(size) + " bytes");
    return memory;
  }

  Shape shape_;
  std::size_t stride_;
  std::size_t table_size_;
  io_uring_buf_ring* table_;
  std::size_t memory_size_;
  char* memory_;
  int returned_ = 0;
};

}  // namespace bench
