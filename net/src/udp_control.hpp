// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include <netinet/udp.h>
#include <sys/socket.h>

#include <bight/net/address.hpp>
#include <bight/net/udp.hpp>

// Of Linux 4.18 and 5.0, which older headers do not know.
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

namespace bight::net::detail {

/// Takes what the control data of a received datagram say.
void read_control(const ::msghdr& message, UdpDatagram& into) noexcept;

// Write one piece of control data, and return how long it is. `to` is aligned for a cmsghdr.
std::size_t write_segment_size(char* to, std::uint16_t size) noexcept;
std::size_t write_source(char* to, const Address& source) noexcept;

/// Room for any of those.
inline constexpr std::size_t kControlRoom =
    CMSG_SPACE(sizeof(::in6_pktinfo)) + CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(std::uint16_t));

}  // namespace bight::net::detail
