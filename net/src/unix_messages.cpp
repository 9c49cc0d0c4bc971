// SPDX-License-Identifier: Apache-2.0
#include "unix_messages.hpp"

#include <array>
#include <cstring>

#include <sys/uio.h>

namespace bight::net::detail {
namespace {

/// Descriptors as they come, before there is memory for a list of them.
class Caught {
 public:
  void add(const ::cmsghdr& piece) noexcept {
    const std::size_t count = (piece.cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t n = 0; n < count; ++n) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(&piece) + n * sizeof fd, sizeof fd);
      Fd owned(fd);
      if (count_ < fds_.size()) fds_[count_++] = std::move(owned);
    }
  }
  void move_to(std::vector<Fd>& list) {
    list.reserve(count_);
    for (std::size_t n = 0; n < count_; ++n) list.push_back(std::move(fds_[n]));
  }

 private:
  std::array<Fd, kPassedFdsMax> fds_;
  std::size_t count_ = 0;
};

constexpr std::size_t kRoom = CMSG_SPACE(kPassedFdsMax * sizeof(int)) + CMSG_SPACE(sizeof(::ucred));

}  // namespace

std::size_t send_with_fds(Socket& socket, std::span<const std::byte> data, const UnixAddress* peer,
                          std::span<const int> fds, std::error_code& error) {
  error.clear();
  if (fds.size() > kPassedFdsMax) {
    error = std::make_error_code(std::errc::argument_list_too_long);
    return 0;
  }
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): an iovec is for receiving, too
  ::iovec piece{const_cast<std::byte*>(data.data()), data.size()};
  ::sockaddr_un name;
  ::msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (peer != nullptr) {
    message.msg_namelen = peer->to_native(name);
    message.msg_name = &name;
  }
  alignas(::cmsghdr) char control[CMSG_SPACE(kPassedFdsMax * sizeof(int))];
  if (!fds.empty()) {
    ::cmsghdr header{};
    header.cmsg_len = CMSG_LEN(fds.size_bytes());
    header.cmsg_level = SOL_SOCKET;
    header.cmsg_type = SCM_RIGHTS;
    std::memcpy(control, &header, sizeof header);
    std::memcpy(control + CMSG_LEN(0), fds.data(), fds.size_bytes());
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
  }
  return socket.send_message(message, error);
}

std::size_t receive_with_ancillary(Socket& socket, std::span<std::byte> buffer, int flags, Ancillary& along,
                                   std::error_code& error) {
  ::iovec piece{buffer.data(), buffer.size()};
  ::sockaddr_un name{};
  alignas(::cmsghdr) char control[kRoom];
  ::msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_name = &name;
  message.msg_namelen = sizeof name;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const std::size_t size = socket.receive_message(message, flags, error);
  if (error) return 0;
  Caught caught;
  for (::cmsghdr* each = CMSG_FIRSTHDR(&message); each != nullptr; each = CMSG_NXTHDR(&message, each)) {
    if (each->cmsg_level != SOL_SOCKET) continue;
    if (each->cmsg_type == SCM_RIGHTS) caught.add(*each);
    if (each->cmsg_type == SCM_CREDENTIALS) {
      ::ucred from;
      std::memcpy(&from, CMSG_DATA(each), sizeof from);
      along.credentials = Credentials{from.pid, from.uid, from.gid};
    }
  }
  if ((message.msg_flags & MSG_CTRUNC) != 0) {  // there is room for all that can come: the process has no more numbers
    error = std::make_error_code(std::errc::too_many_files_open);
    return 0;
  }
  along.peer = UnixAddress::from_native(reinterpret_cast<const ::sockaddr*>(&name), message.msg_namelen);
  caught.move_to(along.fds);
  return size;
}

}  // namespace bight::net::detail
