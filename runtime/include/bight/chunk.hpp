// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

namespace bight {

class Chunk;

namespace detail {
class BufferPool;
[[nodiscard]] Chunk make_chunk(std::size_t size);
}  // namespace detail

/// What one read delivered, in a buffer lent by the loop and given back when the Chunk goes. A connection that waits
/// for data in this way holds no buffer meanwhile. Empty: the peer has ended its side. Move-only; ends on the loop's
/// thread, before the loop does. Converts to a span, so it can be written as it is. Holding many at a time is allowed:
/// beyond RunOptions::receive_buffers they come in 4 KiB pieces.
class [[nodiscard]] Chunk {
 public:
  Chunk() noexcept = default;
  Chunk(Chunk&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        id_(other.id_),
        pool_(other.pool_) {}
  Chunk& operator=(Chunk&& other) noexcept {
    Chunk(std::move(other)).swap(*this);
    return *this;
  }
  ~Chunk() {
    if (data_ != nullptr) give_back();
  }

  void swap(Chunk& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(id_, other.id_);
    std::swap(pool_, other.pool_);
  }

  /// Keeps the first `size` bytes, for who has put something else into it; no more than there are. Of none it is empty,
  /// and gives its buffer back.
  void shrink(std::size_t size) noexcept {
    if (size == 0) {
      *this = Chunk();
    } else if (size < size_) {
      size_ = static_cast<std::uint32_t>(size);
    }
  }

  [[nodiscard]] const std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::byte* data() noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  explicit operator bool() const noexcept { return size_ != 0; }
  // NOLINTNEXTLINE(google-explicit-constructor): a Chunk goes where bytes go
  operator std::span<const std::byte>() const noexcept { return {data_, size_}; }
  [[nodiscard]] std::string_view text() const noexcept { return {reinterpret_cast<const char*>(data_), size_}; }

 private:
  friend class Socket;
  friend Chunk detail::make_chunk(std::size_t size);
  Chunk(std::byte* data, std::uint32_t size, std::uint32_t id, detail::BufferPool& pool) noexcept
      : data_(data), size_(size), id_(id), pool_(&pool) {}
  void give_back() noexcept;

  std::byte* data_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t id_ = 0;
  detail::BufferPool* pool_ = nullptr;
};

namespace detail {

/// One of the running loop's with room for `size` bytes, from 1 to 1 GiB, that are yet to be written: for streams that
/// make their data rather than receive it. Throws std::bad_alloc.
[[nodiscard]] Chunk make_chunk(std::size_t size);

}  // namespace detail

}  // namespace bight
