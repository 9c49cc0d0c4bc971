// SPDX-License-Identifier: Apache-2.0
#include <bight/aligned_buffer.hpp>

#include <limits>
#include <new>
#include <stdexcept>

namespace bight {

AlignedBuffer::AlignedBuffer(std::size_t size, std::size_t alignment) : alignment_(alignment) {
  if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
    throw std::invalid_argument("AlignedBuffer: the alignment is no power of two");
  }
  if (size > std::numeric_limits<std::size_t>::max() - alignment) throw std::bad_alloc();
  size_ = (size + alignment - 1) & ~(alignment - 1);
  data_ = static_cast<std::byte*>(::operator new (size_, std::align_val_t{alignment_}));
}

AlignedBuffer::~AlignedBuffer() {
  if (data_ != nullptr) ::operator delete (data_, std::align_val_t{alignment_});
}

}  // namespace bight
