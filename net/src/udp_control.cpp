// SPDX-License-Identifier: Apache-2.0
#include "udp_control.hpp"

#include <cstring>

namespace bight::net::detail {
namespace {

std::size_t write(char* to, int level, int type, const void* value, std::size_t size) noexcept {
  ::cmsghdr header{};
  header.cmsg_len = CMSG_LEN(size);
  header.cmsg_level = level;
  header.cmsg_type = type;
  std::memset(to, 0, CMSG_SPACE(size));
  std::memcpy(to, &header, sizeof header);
  std::memcpy(to + CMSG_LEN(0), value, size);
  return CMSG_SPACE(size);
}

template <class T>
T value_of(const ::cmsghdr& piece) noexcept {
  T value{};
  std::memcpy(&value, CMSG_DATA(&piece), sizeof value);
  return value;
}

void read_v4(const ::cmsghdr& piece, UdpDatagram& into) noexcept {
  const auto info = value_of<::in_pktinfo>(piece);
  ::sockaddr_in native{};
  native.sin_family = AF_INET;
  native.sin_addr = info.ipi_spec_dst;  // which an answer may come from, and a group or a broadcast may not
  into.local = Address::from_native(reinterpret_cast<const ::sockaddr*>(&native), sizeof native);
  into.interface = static_cast<unsigned>(info.ipi_ifindex);
}

void read_v6(const ::cmsghdr& piece, UdpDatagram& into) noexcept {
  const auto info = value_of<::in6_pktinfo>(piece);
  ::sockaddr_in6 native{};
  native.sin6_family = AF_INET6;
  native.sin6_addr = info.ipi6_addr;
  if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr)) native.sin6_scope_id = info.ipi6_ifindex;
  into.local = Address::from_native(reinterpret_cast<const ::sockaddr*>(&native), sizeof native);
  into.interface = info.ipi6_ifindex;
}

}  // namespace

void read_control(const ::msghdr& message, UdpDatagram& into) noexcept {
  ::msghdr copy = message;
  for (::cmsghdr* piece = CMSG_FIRSTHDR(&copy); piece != nullptr; piece = CMSG_NXTHDR(&copy, piece)) {
    if (piece->cmsg_level == IPPROTO_IP && piece->cmsg_type == IP_PKTINFO) read_v4(*piece, into);
    if (piece->cmsg_level == IPPROTO_IPV6 && piece->cmsg_type == IPV6_PKTINFO) read_v6(*piece, into);
    if (piece->cmsg_level == IPPROTO_UDP && piece->cmsg_type == UDP_GRO) {
      into.segment_size = static_cast<std::size_t>(value_of<int>(*piece));
    }
  }
}

std::size_t write_segment_size(char* to, std::uint16_t size) noexcept {
  return write(to, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size);
}

std::size_t write_source(char* to, const Address& source) noexcept {
  if (source.is_v4()) {
    ::sockaddr_in native;
    std::memcpy(&native, source.native(), sizeof native);
    ::in_pktinfo info{};
    info.ipi_spec_dst = native.sin_addr;
    return write(to, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
  }
  ::sockaddr_in6 native;
  std::memcpy(&native, source.native(), sizeof native);
  ::in6_pktinfo info{};
  if (!IN6_IS_ADDR_MULTICAST(&native.sin6_addr)) info.ipi6_addr = native.sin6_addr;
  info.ipi6_ifindex = native.sin6_scope_id;
  return write(to, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
}

}  // namespace bight::net::detail
