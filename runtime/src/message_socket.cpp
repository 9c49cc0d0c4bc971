// SPDX-License-Identifier: Apache-2.0
#include "message_socket.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <new>

namespace bight::detail {
namespace {

using Header = MessageHeader;
using Kind = MessageKind;

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
constexpr std::size_t kFdsMax = connection_fds_max + 1;  // and the memory

std::error_code last_error() noexcept { return {errno, std::generic_category()}; }

/// Room for the descriptors of one message, aligned for its header.
union Control {
  cmsghdr header;
  std::array<std::byte, CMSG_SPACE(sizeof(int) * kFdsMax)> bytes;
};

void attach_fds(msghdr& message, Control& control, std::span<const int> fds, int last) noexcept {
  const std::size_t count = fds.size() + (last >= 0 ? 1 : 0);
  if (count == 0) return;
  message.msg_control = control.bytes.data();
  message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
  std::memset(control.bytes.data(), 0, message.msg_controllen);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int) * count);
  auto* data = CMSG_DATA(header);
  if (!fds.empty()) std::memcpy(data, fds.data(), fds.size_bytes());
  if (last >= 0) std::memcpy(data + fds.size_bytes(), &last, sizeof last);
}

/// Owns what the kernel has put into this process.
void collect_fds(msghdr& message, std::vector<Fd>& fds) {
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    const auto number = [data = CMSG_DATA(header)](std::size_t which) noexcept {
      int fd = -1;
      std::memcpy(&fd, data + which * sizeof fd, sizeof fd);
      return fd;
    };
    try {
      fds.reserve(fds.size() + count);
    } catch (...) {
      for (std::size_t i = 0; i < count; ++i) ::close(number(i));
      throw;
    }
    for (std::size_t i = 0; i < count; ++i) fds.emplace_back(number(i));
  }
}

bool write_whole(int fd, std::span<const std::byte> bytes) noexcept {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return true;
}

bool read_whole(int fd, std::span<std::byte> bytes) noexcept {
  off_t offset = 0;
  while (!bytes.empty()) {
    const ssize_t count = ::pread(fd, bytes.data(), bytes.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset += count;
  }
  return true;
}

/// A large message: its last descriptor is memory that nobody can change any more, of the size that was said.
void take_from_memory(std::size_t message_max, Received& received, std::error_code& error) {
  std::uint64_t size = 0;
  if (received.bytes.size() != sizeof size || received.fds.empty()) {
    error = std::make_error_code(std::errc::bad_message);
    return;
  }
  std::memcpy(&size, received.bytes.data(), sizeof size);
  const Fd memory = std::move(received.fds.back());
  received.fds.pop_back();
  if (size > message_max) {
    error = std::make_error_code(std::errc::message_size);
    return;
  }
  struct ::stat status {};
  const int seals = ::fcntl(memory.get(), F_GET_SEALS);
  const bool sealed = seals >= 0 && (seals & kSeals) == kSeals && ::fstat(memory.get(), &status) == 0 &&
                      status.st_size >= 0 && static_cast<std::uint64_t>(status.st_size) == size;
  received.large.resize(sealed ? size : 0);
  if (!sealed || !read_whole(memory.get(), received.large)) error = std::make_error_code(std::errc::bad_message);
  received.bytes = received.large;
}

}  // namespace

std::pair<Fd, Fd> make_message_sockets(std::error_code& error) noexcept {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    error = last_error();
    return {};
  }
  return {Fd(ends[0]), Fd(ends[1])};
}

// --- Sending ---------------------------------------------------------------------------------------------------------

OutgoingMessage::OutgoingMessage(std::span<const std::byte> bytes, std::span<const int> fds, std::error_code& error)
    : bytes_(bytes), fds_(fds) {
  if (fds.size() > connection_fds_max) {
    error = std::make_error_code(std::errc::argument_list_too_long);
  } else if (bytes.size() > connection_inline_max) {
    put_into_memory(error);
  }
}

void OutgoingMessage::put_into_memory(std::error_code& error) {
  memory_ = Fd(::memfd_create("bight message", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory_ || !write_whole(memory_.get(), bytes_) || ::fcntl(memory_.get(), F_ADD_SEALS, kSeals) != 0) {
    error = last_error();
  }
}

std::size_t OutgoingMessage::wire_size() const noexcept {
  return sizeof(Header) + (memory_ ? sizeof(std::uint64_t) : bytes_.size());
}

bool OutgoingMessage::try_send(int socket, std::error_code& error) {
  Header header{memory_ ? Kind::in_memory : Kind::whole, static_cast<std::uint8_t>(fds_.size()), 0};
  std::uint64_t size = bytes_.size();
  std::array<iovec, 2> pieces{iovec{&header, sizeof header}, iovec{&size, sizeof size}};
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): a send only reads
  if (!memory_) pieces[1] = {const_cast<std::byte*>(bytes_.data()), bytes_.size()};
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = pieces.size();
  Control control;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled as far as it is used
  attach_fds(message, control, fds_, memory_.get());
  for (;;) {
    if (::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return true;
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return false;
    if (errno == ECONNRESET) {  // the other end has gone without reading all
      errno = EPIPE;
    } else if (errno == EMSGSIZE && !memory_) {  // somebody has made the socket's buffer small
      put_into_memory(error);
      return !error && try_send(socket, error);
    }
    error = last_error();
    return false;
  }
}

// --- Receiving -------------------------------------------------------------------------------------------------------

Arrival IncomingBuffer::try_receive(int socket, std::size_t message_max, Received& received, std::error_code& error) {
  Look look;
  for (;;) {
    prepare(look);
    const ssize_t count = ::recvmsg(socket, &look.message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (count < 0 && errno == EAGAIN) return Arrival::nothing;
    const Arrival arrival = finish(look, count < 0 ? -errno : count, message_max, received, error);
    if (arrival != Arrival::nothing) return arrival;
  }
}

void IncomingBuffer::prepare(Look& look) {
  look.buffer = std::move(buffer_);
  if (look.buffer == nullptr) look.buffer.reset(new std::byte[connection_inline_max]);  // not touched before needed
  look.header = {};
  look.pieces = {iovec{&look.header, sizeof look.header}, iovec{look.buffer.get(), connection_inline_max}};
  look.message = {};
  look.message.msg_iov = look.pieces.data();
  look.message.msg_iovlen = look.pieces.size();
  look.message.msg_control = look.control.data();
  look.message.msg_controllen = look.control.size();
}

Arrival IncomingBuffer::finish(Look& look, std::ptrdiff_t result, std::size_t message_max, Received& received,
                               std::error_code& error) {
  buffer_ = std::move(look.buffer);
  // ECONNRESET: the other end has gone without reading all of ours; what it has sent can still be received.
  if (result == -EINTR || result == -ECONNRESET || result == -EAGAIN) return Arrival::nothing;
  if (result < 0) {
    error = {static_cast<int>(-result), std::generic_category()};
    return Arrival::failed;
  }
  if (look.message.msg_controllen > 0) collect_fds(look.message, received.fds);
  if (result == 0 && received.fds.empty()) return Arrival::end;  // an empty message may bring descriptors
  const auto size = static_cast<std::size_t>(result);
  const bool in_memory = look.header.kind == Kind::in_memory;
  const bool cut = (look.message.msg_flags & MSG_TRUNC) != 0;
  if (size < sizeof look.header || cut || (!in_memory && look.header.kind != Kind::whole)) {
    error = std::make_error_code(std::errc::bad_message);
  } else if (received.fds.size() != std::size_t{look.header.fds} + (in_memory ? 1 : 0)) {
    // Cut off by the kernel: no descriptor was free. Otherwise not ours.
    const bool fds_cut = (look.message.msg_flags & MSG_CTRUNC) != 0;
    error = std::make_error_code(fds_cut ? std::errc::too_many_files_open : std::errc::bad_message);
  } else {
    received.bytes = {buffer_.get(), size - sizeof look.header};
    if (in_memory) {
      take_from_memory(message_max, received, error);
    } else if (received.bytes.size() > message_max) {
      error = std::make_error_code(std::errc::message_size);
    }
  }
  return error ? Arrival::failed : Arrival::message;
}

}  // namespace bight::detail
