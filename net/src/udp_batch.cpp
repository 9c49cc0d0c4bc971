// SPDX-License-Identifier: Apache-2.0
#include <netinet/udp.h>

#include <algorithm>
#include <cstring>

#include <bight/check.hpp>
#include <bight/net/udp.hpp>

#include "udp_control.hpp"

namespace bight::net {

UdpBatch::UdpBatch(std::size_t capacity, std::size_t datagram_max)
    : datagram_max_(datagram_max),
      used_(capacity),
      bytes_(new std::byte[capacity * datagram_max]),
      headers_(capacity),
      pieces_(capacity),
      names_(capacity),
      controls_(capacity),
      segments_(capacity),
      rows_(capacity),
      row_sizes_(capacity) {
  BIGHT_CHECK(capacity > 0, "a batch has room for one datagram at least");
  for (std::size_t n = 0; n < capacity; ++n) {
    pieces_[n] = {bytes_.get() + n * datagram_max, 0};
    headers_[n].msg_hdr.msg_iov = &pieces_[n];
    headers_[n].msg_hdr.msg_iovlen = 1;
  }
}

UdpBatch::UdpBatch(UdpBatch&&) noexcept = default;
UdpBatch& UdpBatch::operator=(UdpBatch&&) noexcept = default;
UdpBatch::~UdpBatch() = default;

Address UdpBatch::address(std::size_t index) const noexcept {
  const ::msghdr& header = headers_[index].msg_hdr;
  return Address::from_native(reinterpret_cast<const ::sockaddr*>(&names_[index]), header.msg_namelen);
}

bool UdpBatch::add(std::span<const std::byte> data) noexcept {
  if (size_ == capacity() || data.size() > datagram_max_) return false;
  if (!data.empty()) std::memcpy(pieces_[size_].iov_base, data.data(), data.size());
  pieces_[size_].iov_len = data.size();
  segments_[size_] = 0;
  ::msghdr& header = headers_[size_].msg_hdr;
  header.msg_namelen = 0;
  header.msg_flags = 0;
  ++size_;
  used_ = std::max(used_, size_);
  return true;
}

bool UdpBatch::add(std::span<const std::byte> data, const Address& to) noexcept {
  if (!add(data)) return false;
  std::memcpy(&names_[size_ - 1], to.native(), to.native_size());
  headers_[size_ - 1].msg_hdr.msg_namelen = to.native_size();
  return true;
}

void UdpBatch::resize(std::size_t index, std::size_t bytes) noexcept {
  BIGHT_CHECK(index < size_ && bytes <= datagram_max_, "a batch has no datagram of that number, or no room for it");
  pieces_[index].iov_len = bytes;
}

void UdpBatch::begin_receiving(bool with_control) noexcept {
  // Those that were not touched since are as they have to be.
  for (std::size_t n = 0; n < used_; ++n) {
    pieces_[n].iov_len = datagram_max_;
    ::msghdr& header = headers_[n].msg_hdr;
    header.msg_name = &names_[n];
    header.msg_namelen = sizeof names_[n];
    header.msg_control = with_control ? controls_[n].bytes : nullptr;
    header.msg_controllen = with_control ? kControlSize : 0;
  }
  size_ = used_ = 0;
}

void UdpBatch::end_receiving(std::size_t count) noexcept {
  size_ = used_ = count;
  for (std::size_t n = 0; n < count; ++n) {
    ::msghdr& header = headers_[n].msg_hdr;
    pieces_[n].iov_len = headers_[n].msg_len;
    UdpDatagram info;
    if (header.msg_controllen != 0) detail::read_control(header, info);
    segments_[n] = static_cast<std::uint16_t>(info.segment_size < headers_[n].msg_len ? info.segment_size : 0);
  }
}

void UdpBatch::begin_sending(bool connected) noexcept {
  for (std::size_t n = 0; n < size_; ++n) {
    ::msghdr& header = headers_[n].msg_hdr;
    const bool has_address = !connected && header.msg_namelen != 0;
    header.msg_name = has_address ? &names_[n] : nullptr;
    if (!has_address) header.msg_namelen = 0;
    header.msg_control = nullptr;
    header.msg_controllen = 0;
    if (segments_[n] != 0) {
      header.msg_control = controls_[n].bytes;
      header.msg_controllen = detail::write_segment_size(controls_[n].bytes, segments_[n]);
    }
  }
}

/// Whether a datagram goes to whom the one before it goes to, and is no longer.
bool UdpBatch::continues_row(std::size_t index) const noexcept {
  const ::msghdr& header = headers_[index].msg_hdr;
  const ::msghdr& before = headers_[index - 1].msg_hdr;
  return segments_[index] == 0 && pieces_[index].iov_len > 0 && pieces_[index].iov_len <= pieces_[index - 1].iov_len &&
         header.msg_namelen == before.msg_namelen &&
         std::memcmp(&names_[index], &names_[index - 1], header.msg_namelen) == 0;
}

/// Makes rows of what is to be sent, from one on. Returns how many rows.
std::size_t UdpBatch::glue(std::size_t from) noexcept {
  constexpr std::size_t kMost = 64;  // segments, by the kernel: the least of all versions
  std::size_t rows = 0;
  for (std::size_t n = from; n < size_; ++rows) {
    const std::size_t first = n;
    const std::size_t size = pieces_[first].iov_len;
    const bool may_grow = segments_[first] == 0 && size > 0;
    std::size_t total = size;
    for (++n; may_grow && n < size_ && n - first < kMost && pieces_[n - 1].iov_len == size && continues_row(n); ++n) {
      total += pieces_[n].iov_len;
      if (total > kUdpPayloadMax) break;
    }
    rows_[rows] = headers_[first];
    row_sizes_[rows] = static_cast<std::uint16_t>(n - first);
    if (n - first == 1) continue;
    ::msghdr& header = rows_[rows].msg_hdr;
    header.msg_iovlen = n - first;
    header.msg_control = controls_[first].bytes;
    header.msg_controllen = detail::write_segment_size(controls_[first].bytes, static_cast<std::uint16_t>(size));
  }
  return rows;
}

}  // namespace bight::net
