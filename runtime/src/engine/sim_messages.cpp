// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_messages.hpp"

#include <algorithm>
#include <cstring>

namespace bight::detail {
namespace {

std::span<const ::iovec> pieces_of(const ::msghdr& message) noexcept {
  return {message.msg_iov, static_cast<std::size_t>(message.msg_iovlen)};
}

}  // namespace

std::size_t sim_size(const ::msghdr& message) noexcept {
  std::size_t size = 0;
  for (const ::iovec& piece : pieces_of(message)) size += piece.iov_len;
  return size;
}

std::vector<std::byte> sim_gather(const ::msghdr& message) {
  std::vector<std::byte> data;
  data.reserve(sim_size(message));
  for (const ::iovec& piece : pieces_of(message)) {
    const auto* begin = static_cast<const std::byte*>(piece.iov_base);
    data.insert(data.end(), begin, begin + piece.iov_len);
  }
  return data;
}

std::size_t sim_scatter(std::span<const std::byte> data, const ::msghdr& message) noexcept {
  std::size_t done = 0;
  for (const ::iovec& piece : pieces_of(message)) {
    const std::size_t count = std::min(piece.iov_len, data.size() - done);
    if (count > 0) std::memcpy(piece.iov_base, data.data() + done, count);
    done += count;
  }
  return done;
}

void SimControl::add(int level, int type, const void* value, std::size_t size) noexcept {
  if (room_ - message_.msg_controllen < CMSG_SPACE(size)) {
    message_.msg_flags |= MSG_CTRUNC;
    return;
  }
  ::cmsghdr header{};
  header.cmsg_len = CMSG_LEN(size);
  header.cmsg_level = level;
  header.cmsg_type = type;
  auto* to = static_cast<std::byte*>(message_.msg_control) + message_.msg_controllen;
  std::memset(to, 0, CMSG_SPACE(size));
  std::memcpy(to, &header, sizeof header);
  std::memcpy(to + CMSG_LEN(0), value, size);
  message_.msg_controllen += CMSG_SPACE(size);
}

}  // namespace bight::detail
