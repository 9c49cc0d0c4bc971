// SPDX-License-Identifier: Apache-2.0

// What the network tells of datagrams that were not delivered: the socket's error queue (ip(7), IP_RECVERR).
//
// The queue is emptied whenever a call has failed, into errors_: as long as there is anything in it poll(2) calls the
// socket ready, and whoever waits for a datagram would be woken for nothing, again and again.

#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>  // NOLINT(modernize-deprecated-headers): the next one needs its timespec

#include <linux/errqueue.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <bight/net/udp.hpp>

namespace bight::net {
namespace {

constexpr std::size_t kErrorsMax = 64;
constexpr std::size_t kBeginningMax = 128;
constexpr unsigned kAttempts = 3;

bool is_error_report(const ::cmsghdr& piece) noexcept {
  return (piece.cmsg_level == IPPROTO_IP && piece.cmsg_type == IP_RECVERR) ||
         (piece.cmsg_level == IPPROTO_IPV6 && piece.cmsg_type == IPV6_RECVERR);
}

/// The address behind the report proper, where there is one: SO_EE_OFFENDER.
std::optional<Address> reporter_of(const ::cmsghdr& piece) {
  const std::size_t size = piece.cmsg_len - CMSG_LEN(0);
  ::sockaddr_in6 name{};
  if (size <= sizeof(::sock_extended_err)) return std::nullopt;
  const std::size_t room = size - sizeof(::sock_extended_err);
  const auto length = room < sizeof name ? room : sizeof name;
  std::memcpy(&name, CMSG_DATA(&piece) + sizeof(::sock_extended_err), length);
  const auto* native = reinterpret_cast<const ::sockaddr*>(&name);
  if (native->sa_family == AF_UNSPEC) return std::nullopt;
  return Address::from_native(native, static_cast<::socklen_t>(length)).with_port(0);
}

/// False: it is no error of the network's (a time stamp, a zero-copy notice).
bool read_report(::msghdr& message, UdpError& into) {
  for (::cmsghdr* piece = CMSG_FIRSTHDR(&message); piece != nullptr; piece = CMSG_NXTHDR(&message, piece)) {
    ::sock_extended_err report{};
    if (!is_error_report(*piece) || piece->cmsg_len < CMSG_LEN(sizeof report)) continue;
    std::memcpy(&report, CMSG_DATA(piece), sizeof report);
    const bool remote = report.ee_origin == SO_EE_ORIGIN_ICMP || report.ee_origin == SO_EE_ORIGIN_ICMP6;
    if (!remote && report.ee_origin != SO_EE_ORIGIN_LOCAL) continue;
    into.error.assign(static_cast<int>(report.ee_errno), std::generic_category());
    if (report.ee_errno == EMSGSIZE) into.mtu = report.ee_info;
    if (remote) into.reporter = reporter_of(*piece);
    return true;
  }
  return false;
}

}  // namespace

void UdpSocket::gather_errors() {
  std::array<char, kBeginningMax> data;
  alignas(::cmsghdr) std::array<char, 256> control;
  for (;;) {
    ::iovec piece{data.data(), data.size()};
    ::sockaddr_in6 name{};
    ::msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_name = &name;
    message.msg_namelen = sizeof name;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    std::error_code none;
    const std::size_t size = socket_.receive_error(message, none);
    if (none) return;
    UdpError report;
    if (!read_report(message, report)) continue;
    report.peer = Address::from_native(reinterpret_cast<const ::sockaddr*>(&name), message.msg_namelen);
    report.beginning.assign(data.data(), size);
    // This host's own refusal, of one that was tried again.
    const bool repeated = !report.reporter && !errors_.empty() && errors_.back().error == report.error &&
                          errors_.back().peer == report.peer && errors_.back().beginning == report.beginning;
    if (repeated) continue;
    if (errors_.size() == kErrorsMax) errors_.pop_front();
    errors_.push_back(std::move(report));
  }
}

std::optional<UdpError> UdpSocket::take_error() {
  if (report_errors_ && is_open()) gather_errors();
  if (errors_.empty()) return std::nullopt;
  UdpError oldest = std::move(errors_.front());
  errors_.pop_front();
  return oldest;
}

/// A send has failed: maybe with what became known of an earlier datagram, of which a socket with many peers must not
/// make the present one suffer. Told once, that error is gone; one that is the datagram's own comes back.
bool UdpSocket::try_again(std::error_code& error, unsigned attempt) {
  if (!report_errors_ || !is_open()) return false;
  gather_errors();
  if (connected_ || attempt >= kAttempts) return false;
  const int code = error.value();
  return code == ECONNREFUSED || code == EHOSTUNREACH || code == ENETUNREACH || code == EPROTO || code == EACCES ||
         code == EMSGSIZE || code == EHOSTDOWN || code == ENOPROTOOPT || code == EOPNOTSUPP;
}

std::size_t UdpSocket::send_some(std::span<::mmsghdr> messages, std::error_code& error) {
  std::size_t sent = 0;
  unsigned attempt = 0;
  do sent = socket_.send_messages(messages, error);
  while (error && try_again(error, ++attempt));
  return sent;
}

}  // namespace bight::net
