// SPDX-License-Identifier: Apache-2.0
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>

#include <bight/check.hpp>
#include <bight/error.hpp>
#include <bight/net/udp.hpp>

#include "bytes.hpp"
#include "describe.hpp"
#include "udp_control.hpp"

namespace bight::net {
namespace {

using detail::throw_with_local;
using detail::throw_with_peer;

constexpr const char* kReceive = "receive on";
constexpr const char* kSend = "send to";
// What the kernel takes with one UDP_SEGMENT: that many segments (the least of all versions), in one datagram's room.
constexpr std::size_t kSegmentsMax = 64;

::iovec piece_of(std::span<const std::byte> data) noexcept {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): an iovec is for receiving, too
  return {const_cast<std::byte*>(data.data()), data.size()};
}

void set_name(::msghdr& message, const Address* peer) noexcept {
  if (peer == nullptr) return;
  message.msg_name = const_cast<::sockaddr*>(peer->native());  // NOLINT(cppcoreguidelines-pro-type-const-cast)
  message.msg_namelen = peer->native_size();
}

[[noreturn]] void throw_with(std::error_code error, std::string_view attempt, const Address& address) {
  const bool nothing = error == std::errc::operation_canceled;
  bight::detail::throw_error(error, nothing ? std::string() : std::string(attempt) + ' ' + address.to_string());
}

[[noreturn]] void throw_not_sent(std::error_code error, const Socket& socket, const Address& peer) {
  if (error == std::errc::bad_file_descriptor) throw_with_peer(error, kSend, socket);
  throw_with(error, kSend, peer);
}

}  // namespace

// --- Making one ------------------------------------------------------------------------------------------------------

UdpSocket UdpSocket::open(int family, const UdpOptions& options, std::error_code& error) noexcept {
  UdpSocket made;
  made.socket_ = Socket::open(family, SOCK_DGRAM, IPPROTO_UDP, error);
  if (error) return made;
  made.v6_ = family == AF_INET6;
  made.with_control_ = options.packet_info || options.receive_segments;
  const auto set = [&](bool wanted, int level, int name, int value) {
    if (wanted && !error) made.socket_.set_option(level, name, value, error);
  };
  set(options.reuse_address, SOL_SOCKET, SO_REUSEADDR, 1);
  set(options.reuse_port, SOL_SOCKET, SO_REUSEPORT, 1);
  set(made.v6_, IPPROTO_IPV6, IPV6_V6ONLY, options.v6only ? 1 : 0);
  set(options.broadcast, SOL_SOCKET, SO_BROADCAST, 1);
  set(options.receive_buffer != 0, SOL_SOCKET, SO_RCVBUF, options.receive_buffer);
  set(options.send_buffer != 0, SOL_SOCKET, SO_SNDBUF, options.send_buffer);
  set(options.packet_info && made.v6_, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
  set(options.packet_info && !made.v6_, IPPROTO_IP, IP_PKTINFO, 1);
  made.report_errors_ = options.report_errors;
  set(options.report_errors && made.v6_, IPPROTO_IPV6, IPV6_RECVERR, 1);
  set(options.report_errors && (!made.v6_ || !options.v6only), IPPROTO_IP, IP_RECVERR, 1);
  if (options.receive_segments && !error) {
    std::error_code unknown;
    made.socket_.set_option(IPPROTO_UDP, UDP_GRO, 1, unknown);
    made.receives_segments_ = !unknown;
  }
  return made;
}

UdpSocket UdpSocket::bind(const Address& local, const UdpOptions& options, std::error_code& error) noexcept {
  UdpSocket made = open(local.family(), options, error);
  if (!error) made.socket_.bind(local.native(), local.native_size(), error);
  return error ? UdpSocket() : std::move(made);
}

UdpSocket UdpSocket::bind(const Address& local, const UdpOptions& options) {
  std::error_code error;
  UdpSocket made = bind(local, options, error);
  if (error) throw_with(error, "bind", local);
  return made;
}

UdpSocket UdpSocket::bind(std::string_view local, const UdpOptions& options) {
  return bind(Address::parse(local), options);
}

UdpSocket UdpSocket::connect(const Address& peer, const UdpOptions& options, std::error_code& error) noexcept {
  UdpSocket made = open(peer.family(), options, error);
  if (!error && options.local) made.socket_.bind(options.local->native(), options.local->native_size(), error);
  if (!error) made.connect_to(peer, error);
  return error ? UdpSocket() : std::move(made);
}

UdpSocket UdpSocket::connect(const Address& peer, const UdpOptions& options) {
  std::error_code error;
  UdpSocket made = connect(peer, options, error);
  if (error) throw_with(error, "connect to", peer);
  return made;
}

UdpSocket UdpSocket::connect(std::string_view peer, const UdpOptions& options) {
  return connect(Address::parse(peer), options);
}

void UdpSocket::connect_to(const Address& peer, std::error_code& error) noexcept {
  socket_.connect(peer.native(), peer.native_size(), error);
  if (!error) connected_ = true;
}

void UdpSocket::connect_to(const Address& peer) {
  std::error_code error;
  connect_to(peer, error);
  if (error) throw_with(error, "connect to", peer);
}

// --- One at a time ---------------------------------------------------------------------------------------------------

void UdpSocket::send_message(std::span<const std::byte> data, const Address* peer, const UdpDatagram* answered,
                             std::error_code& error) {
  ::iovec piece = piece_of(data);
  ::msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  set_name(message, peer);
  alignas(::cmsghdr) char control[detail::kControlRoom];
  if (answered != nullptr && answered->local) {
    message.msg_control = control;
    message.msg_controllen = detail::write_source(control, *answered->local);
  }
  unsigned attempt = 0;
  do socket_.send_message(message, error);
  while (error && try_again(error, ++attempt));
}

void UdpSocket::send(std::span<const std::byte> data, std::error_code& error) {
  send_message(data, nullptr, nullptr, error);
}

void UdpSocket::send(std::span<const std::byte> data) {
  std::error_code error;
  send(data, error);
  if (error) throw_with_peer(error, kSend, socket_);
}

void UdpSocket::send(std::string_view text) { send(bytes_of(text)); }

void UdpSocket::send_to(std::span<const std::byte> data, const Address& peer, std::error_code& error) {
  send_message(data, &peer, nullptr, error);
}

void UdpSocket::send_to(std::span<const std::byte> data, const Address& peer) {
  std::error_code error;
  send_to(data, peer, error);
  if (error) throw_not_sent(error, socket_, peer);
}

void UdpSocket::send_to(std::string_view text, const Address& peer) { send_to(bytes_of(text), peer); }

void UdpSocket::reply(const UdpDatagram& to, std::span<const std::byte> data, std::error_code& error) {
  send_message(data, connected_ ? nullptr : &to.peer, &to, error);
}

void UdpSocket::reply(const UdpDatagram& to, std::span<const std::byte> data) {
  std::error_code error;
  reply(to, data, error);
  if (error) throw_not_sent(error, socket_, to.peer);
}

void UdpSocket::reply(const UdpDatagram& to, std::string_view text) { reply(to, bytes_of(text)); }

UdpDatagram UdpSocket::receive(std::span<std::byte> buffer, std::error_code& error) {
  ::iovec piece{buffer.data(), buffer.size()};
  ::sockaddr_in6 name{};
  alignas(::cmsghdr) char control[detail::kControlRoom];
  ::msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_name = &name;
  message.msg_namelen = sizeof name;
  if (with_control_) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
  }
  UdpDatagram got;
  got.full_size = socket_.receive_message(message, MSG_TRUNC, error);
  if (error) {
    if (report_errors_) gather_errors();
    return {};
  }
  got.size = std::min(got.full_size, buffer.size());
  got.peer = Address::from_native(reinterpret_cast<const ::sockaddr*>(&name), message.msg_namelen);
  if (message.msg_controllen != 0) detail::read_control(message, got);
  if (got.segment_size >= got.full_size) got.segment_size = 0;  // it is one
  return got;
}

UdpDatagram UdpSocket::receive(std::span<std::byte> buffer) {
  std::error_code error;
  UdpDatagram got = receive(buffer, error);
  if (error) throw_with_local(error, kReceive, socket_);
  return got;
}

// --- Many ------------------------------------------------------------------------------------------------------------

void UdpSocket::receive_many(UdpBatch& batch, std::error_code& error) {
  batch.begin_receiving(with_control_);
  batch.end_receiving(socket_.receive_messages(batch.headers_, error));
  if (error && report_errors_) gather_errors();
}

void UdpSocket::receive_many(UdpBatch& batch) {
  std::error_code error;
  receive_many(batch, error);
  if (error) throw_with_local(error, kReceive, socket_);
}

std::size_t UdpSocket::send_many(UdpBatch& batch, std::error_code& error) {
  error.clear();
  batch.begin_sending(connected_);
  const std::size_t done = batch.size() > 1 && sends_segments() ? send_rows(batch, error) : 0;
  std::span<::mmsghdr> left = std::span(batch.headers_).first(batch.size()).subspan(done);
  while (!left.empty() && !error) left = left.subspan(send_some(left, error));
  return batch.size() - left.size();
}

/// Returns how many datagrams went out; without an error, the others have to be sent one by one.
std::size_t UdpSocket::send_rows(UdpBatch& batch, std::error_code& error) {
  std::span<::mmsghdr> left = std::span(batch.rows_).first(batch.glue(0));
  std::size_t row = 0;
  std::size_t done = 0;
  while (!left.empty() && !error) {
    const std::size_t count = send_some(left, error);
    for (const std::size_t end = row + count; row < end; ++row) done += batch.row_sizes_[row];
    left = left.subspan(count);
  }
  if (error && batch.row_sizes_[row] > 1 && (error.value() == EIO || error.value() == EINVAL)) {
    if (error.value() == EIO) sends_segments_ = false;  // the device makes no checksums
    error.clear();
  }
  return done;
}

std::size_t UdpSocket::send_many(UdpBatch& batch) {
  std::error_code error;
  const std::size_t sent = send_many(batch, error);
  if (error && connected_) throw_with_peer(error, kSend, socket_);
  if (error) throw_not_sent(error, socket_, batch.address(sent));
  return sent;
}

bool UdpSocket::sends_segments() noexcept {
  if (!sends_segments_) {
    std::error_code error;
    socket_.set_option(IPPROTO_UDP, UDP_SEGMENT, 0, error);  // which is how it is anyway
    sends_segments_ = !error;
  }
  return *sends_segments_;
}

/// False: the device can not do it, and nothing was sent.
bool UdpSocket::send_glued(std::span<const std::byte> data, std::size_t segment_size, const Address* peer,
                           std::error_code& error) {
  ::iovec piece = piece_of(data);
  ::msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  set_name(message, peer);
  alignas(::cmsghdr) char control[detail::kControlRoom];
  message.msg_control = control;
  message.msg_controllen = detail::write_segment_size(control, static_cast<std::uint16_t>(segment_size));
  unsigned attempt = 0;
  do socket_.send_message(message, error);
  while (error && try_again(error, ++attempt));
  // EIO: a device without checksums of its own; EINVAL: segments larger than its packets, which go in fragments.
  return error.value() != EIO && error.value() != EINVAL;
}

void UdpSocket::send_split(std::span<const std::byte> data, std::size_t segment_size, const Address* peer,
                           std::error_code& error) {
  std::array<::mmsghdr, 32> messages{};
  std::array<::iovec, 32> pieces{};
  while (!data.empty() && !error) {
    std::size_t count = 0;
    for (; count < messages.size() && !data.empty(); ++count) {
      const auto segment = data.first(std::min(segment_size, data.size()));
      pieces[count] = piece_of(segment);
      messages[count].msg_hdr.msg_iov = &pieces[count];
      messages[count].msg_hdr.msg_iovlen = 1;
      set_name(messages[count].msg_hdr, peer);
      data = data.subspan(segment.size());
    }
    std::span<::mmsghdr> left(messages.data(), count);
    while (!left.empty() && !error) left = left.subspan(send_some(left, error));
  }
}

void UdpSocket::send_segments(std::span<const std::byte> data, std::size_t segment_size,
                              const std::optional<Address>& peer, std::error_code& error) {
  BIGHT_CHECK(segment_size > 0, "a segment has one byte at least");
  error.clear();
  if (segment_size > kUdpBufferMax) error = std::make_error_code(std::errc::message_size);
  const Address* to = peer ? &*peer : nullptr;
  const std::size_t at_once = std::min(kSegmentsMax, kUdpPayloadMax / segment_size) * segment_size;
  while (!data.empty() && !error) {
    const auto part = data.first(std::min(data.size(), std::max(at_once, segment_size)));
    const bool several = part.size() > segment_size;
    if (!several || !sends_segments() || !send_glued(part, segment_size, to, error)) {
      if (several && *sends_segments_) sends_segments_ = false;
      error.clear();
      send_split(part, segment_size, to, error);
    }
    data = data.subspan(part.size());
  }
}

void UdpSocket::send_segments(std::span<const std::byte> data, std::size_t segment_size,
                              const std::optional<Address>& peer) {
  std::error_code error;
  send_segments(data, segment_size, peer, error);
  if (error && peer) throw_not_sent(error, socket_, *peer);
  if (error) throw_with_peer(error, kSend, socket_);
}

// --- Questions -------------------------------------------------------------------------------------------------------

int UdpSocket::receive_buffer() const noexcept {
  std::error_code ignored;
  return socket_.option(SOL_SOCKET, SO_RCVBUF, ignored);
}

int UdpSocket::send_buffer() const noexcept {
  std::error_code ignored;
  return socket_.option(SOL_SOCKET, SO_SNDBUF, ignored);
}

Address UdpSocket::local_address(std::error_code& error) const noexcept {
  ::sockaddr_storage address{};
  const ::socklen_t length = socket_.local_name(address, error);
  return error ? Address() : Address::from_native(reinterpret_cast<const ::sockaddr*>(&address), length);
}

Address UdpSocket::local_address() const {
  std::error_code error;
  const Address address = local_address(error);
  if (error) bight::detail::throw_error(error, "find the address of a datagram socket");
  return address;
}

Address UdpSocket::peer_address(std::error_code& error) const noexcept {
  ::sockaddr_storage address{};
  const ::socklen_t length = socket_.peer_name(address, error);
  return error ? Address() : Address::from_native(reinterpret_cast<const ::sockaddr*>(&address), length);
}

Address UdpSocket::peer_address() const {
  std::error_code error;
  const Address address = peer_address(error);
  if (error) throw_with_local(error, "find the peer's address of the socket at", socket_);
  return address;
}

}  // namespace bight::net
