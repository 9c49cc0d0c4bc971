// SPDX-License-Identifier: Apache-2.0
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>

#include <bight/net/udp.hpp>

#include "describe.hpp"

namespace bight::net {

/// Sets the option that means the same in the socket's family.
void UdpSocket::set(int v4_level, int v4_name, int v6_level, int v6_name, int value, std::error_code& error) noexcept {
  socket_.set_option(v6_ ? v6_level : v4_level, v6_ ? v6_name : v4_name, value, error);
}

void UdpSocket::set_membership(const Address& group, unsigned interface, bool joins, std::error_code& error) noexcept {
  if (group.is_v4()) {
    ::sockaddr_in native;
    std::memcpy(&native, group.native(), sizeof native);
    ::ip_mreqn request{};
    request.imr_multiaddr = native.sin_addr;
    request.imr_ifindex = static_cast<int>(interface);
    socket_.set_option(IPPROTO_IP, joins ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP, &request, sizeof request, error);
    return;
  }
  ::sockaddr_in6 native;
  std::memcpy(&native, group.native(), sizeof native);
  ::ipv6_mreq request{};
  request.ipv6mr_multiaddr = native.sin6_addr;
  request.ipv6mr_interface = interface != 0 ? interface : native.sin6_scope_id;
  socket_.set_option(IPPROTO_IPV6, joins ? IPV6_JOIN_GROUP : IPV6_LEAVE_GROUP, &request, sizeof request, error);
}

void UdpSocket::join(const Address& group, unsigned interface, std::error_code& error) noexcept {
  set_membership(group, interface, true, error);
}

void UdpSocket::join(const Address& group, unsigned interface) {
  std::error_code error;
  join(group, interface, error);
  if (error) detail::throw_with_local(error, "join the group " + group.host() + " with the socket at", socket_);
}

void UdpSocket::leave(const Address& group, unsigned interface, std::error_code& error) noexcept {
  set_membership(group, interface, false, error);
}

void UdpSocket::leave(const Address& group, unsigned interface) {
  std::error_code error;
  leave(group, interface, error);
  if (error) detail::throw_with_local(error, "leave the group " + group.host() + " with the socket at", socket_);
}

void UdpSocket::set_multicast_ttl(int hops, std::error_code& error) noexcept {
  set(IPPROTO_IP, IP_MULTICAST_TTL, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, hops, error);
}

void UdpSocket::set_multicast_ttl(int hops) {
  std::error_code error;
  set_multicast_ttl(hops, error);
  if (error) detail::throw_with_local(error, "set the multicast TTL of the socket at", socket_);
}

void UdpSocket::set_multicast_loop(bool on, std::error_code& error) noexcept {
  set(IPPROTO_IP, IP_MULTICAST_LOOP, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, on ? 1 : 0, error);
}

void UdpSocket::set_multicast_loop(bool on) {
  std::error_code error;
  set_multicast_loop(on, error);
  if (error) detail::throw_with_local(error, "set the multicast loop of the socket at", socket_);
}

void UdpSocket::set_multicast_interface(unsigned interface, std::error_code& error) noexcept {
  if (v6_) {
    socket_.set_option(IPPROTO_IPV6, IPV6_MULTICAST_IF, static_cast<int>(interface), error);
    return;
  }
  ::ip_mreqn request{};
  request.imr_ifindex = static_cast<int>(interface);
  socket_.set_option(IPPROTO_IP, IP_MULTICAST_IF, &request, sizeof request, error);
}

void UdpSocket::set_multicast_interface(unsigned interface) {
  std::error_code error;
  set_multicast_interface(interface, error);
  if (error) detail::throw_with_local(error, "set the multicast interface of the socket at", socket_);
}

void UdpSocket::set_broadcast(bool on, std::error_code& error) noexcept {
  socket_.set_option(SOL_SOCKET, SO_BROADCAST, on ? 1 : 0, error);
}

void UdpSocket::set_broadcast(bool on) {
  std::error_code error;
  set_broadcast(on, error);
  if (error) detail::throw_with_local(error, "set SO_BROADCAST of the socket at", socket_);
}

void UdpSocket::set_ttl(int hops, std::error_code& error) noexcept {
  set(IPPROTO_IP, IP_TTL, IPPROTO_IPV6, IPV6_UNICAST_HOPS, hops, error);
}

void UdpSocket::set_ttl(int hops) {
  std::error_code error;
  set_ttl(hops, error);
  if (error) detail::throw_with_local(error, "set the TTL of the socket at", socket_);
}

void UdpSocket::set_dont_fragment(bool on, std::error_code& error) noexcept {
  set(IPPROTO_IP, IP_MTU_DISCOVER, IPPROTO_IPV6, IPV6_MTU_DISCOVER, on ? IP_PMTUDISC_DO : IP_PMTUDISC_DONT, error);
  // A socket of both families sends IPv4, too, by its own setting; under v6only there is none.
  std::error_code none;
  if (v6_ && !error) socket_.set_option(IPPROTO_IP, IP_MTU_DISCOVER, on ? IP_PMTUDISC_DO : IP_PMTUDISC_DONT, none);
}

void UdpSocket::set_dont_fragment(bool on) {
  std::error_code error;
  set_dont_fragment(on, error);
  if (error) detail::throw_with_local(error, "set the path MTU discovery of the socket at", socket_);
}

std::size_t UdpSocket::path_mtu(std::error_code& error) const noexcept {
  const int mtu = socket_.option(v6_ ? IPPROTO_IPV6 : IPPROTO_IP, v6_ ? IPV6_MTU : IP_MTU, error);
  return error ? 0 : static_cast<std::size_t>(mtu);
}

std::size_t UdpSocket::path_mtu() const {
  std::error_code error;
  const std::size_t mtu = path_mtu(error);
  if (error) detail::throw_with_local(error, "find the path MTU of the socket at", socket_);
  return mtu;
}

void UdpSocket::set_tos(int tos, std::error_code& error) noexcept {
  set(IPPROTO_IP, IP_TOS, IPPROTO_IPV6, IPV6_TCLASS, tos, error);
}

void UdpSocket::set_tos(int tos) {
  std::error_code error;
  set_tos(tos, error);
  if (error) detail::throw_with_local(error, "set the type of service of the socket at", socket_);
}

}  // namespace bight::net
