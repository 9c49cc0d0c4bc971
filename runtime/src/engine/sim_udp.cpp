// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_udp.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "engine/sim_messages.hpp"

namespace bight::detail {
namespace {

constexpr std::size_t kV4Most = 65'507;  // 64 KiB - 1, without the headers
constexpr std::size_t kV6Most = 65'527;
constexpr std::size_t kOverhead = 512;  // what the kernel takes of a socket's buffer for each, beside the data
constexpr std::size_t kV4 = 12;         // where the IPv4 part of a mapped address begins

bool is_broadcast(const SimAddress& address) noexcept {
  return address.is_v4() && std::all_of(address.ip.begin() + kV4, address.ip.end(), [](auto b) { return b == 255; });
}

bool is_multicast(const SimAddress& address) noexcept {
  return address.is_v4() ? (address.ip[kV4] & 0xf0U) == 0xe0 : address.ip[0] == 0xff;
}

bool same_host(const SimAddress& a, const SimAddress& b) noexcept { return a.ip == b.ip; }

/// The address that what is sent to `peer` leaves from, as Linux chooses it when everything is local.
SimAddress source_towards(const SimAddress& peer) noexcept {
  const bool to_itself = !peer.is_loopback() && !is_multicast(peer) && !is_broadcast(peer);
  return (to_itself ? peer : sim_loopback(peer.is_v4())).with_port(0);
}

SimAddress from_v4(const ::in_addr& address) noexcept {
  SimAddress made = SimAddress::any(AF_INET);
  std::memcpy(&made.ip[kV4], &address, sizeof address);
  return made;
}

SimAddress from_v6(const ::in6_addr& address) noexcept {
  SimAddress made;
  std::memcpy(made.ip.data(), &address, sizeof address);
  return made;
}

bool loops_back(const SimSocket& socket) noexcept {
  return socket.family == AF_INET6 ? socket.options.number(IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 1) != 0
                                   : socket.options.number(IPPROTO_IP, IP_MULTICAST_LOOP, 1) != 0;
}

void add_packet_info(const SimSocket& socket, const SimDatagram& datagram, SimControl& control) noexcept {
  constexpr unsigned kLoopbackInterface = 1;
  if (socket.family == AF_INET6) {
    if (socket.options.number(IPPROTO_IPV6, IPV6_RECVPKTINFO, 0) == 0) return;
    ::in6_pktinfo info{};
    std::memcpy(&info.ipi6_addr, datagram.to.ip.data(), sizeof info.ipi6_addr);
    info.ipi6_ifindex = kLoopbackInterface;
    control.add(IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
  } else if (socket.options.number(IPPROTO_IP, IP_PKTINFO, 0) != 0) {
    ::in_pktinfo info{};
    std::memcpy(&info.ipi_addr, &datagram.to.ip[kV4], sizeof info.ipi_addr);
    const bool to_many = is_multicast(datagram.to) || is_broadcast(datagram.to);
    const SimAddress own = to_many ? sim_loopback(true) : datagram.to;
    std::memcpy(&info.ipi_spec_dst, &own.ip[kV4], sizeof info.ipi_spec_dst);
    info.ipi_ifindex = kLoopbackInterface;
    control.add(IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
  }
}

}  // namespace

// --- What the system calls ask for -----------------------------------------------------------------------------------

void SimUdp::open(SimSocket& socket) { socket.udp = std::make_shared<SimUdpEnd>(); }

int SimUdp::connect(SimSocket& socket, const ::sockaddr* address, ::socklen_t length) {
  if (length >= sizeof address->sa_family && address->sa_family == AF_UNSPEC) {
    socket.udp->peer.reset();
    return 0;
  }
  SimAddress peer;
  if (const int error = SimAddress::read(address, length, socket.family, peer); error != 0) return error;
  if (socket.options.v6only() && peer.is_v4()) return -ENETUNREACH;
  if (peer.is_any()) peer = sim_loopback(peer.is_v4()).with_port(peer.port);
  if (is_broadcast(peer) && socket.options.number(SOL_SOCKET, SO_BROADCAST, 0) == 0) return -EACCES;
  if (!socket.bound) {
    if (const int error = ports_.bind(socket, SimAddress::any(socket.family)); error != 0) return -EAGAIN;
  }
  if (socket.local.is_any()) socket.local = source_towards(peer).with_port(socket.local.port);
  socket.udp->peer = peer;
  socket.udp->error = 0;
  return 0;
}

int SimUdp::destination_of(SimSocket& socket, const ::msghdr& message, SimAddress& to) const {
  if (message.msg_name == nullptr) {
    if (!socket.udp->peer) return -EDESTADDRREQ;
    to = *socket.udp->peer;
    return 0;
  }
  const auto* name = static_cast<const ::sockaddr*>(message.msg_name);
  if (const int error = SimAddress::read(name, message.msg_namelen, socket.family, to); error != 0) return error;
  if (to.port == 0) return -EINVAL;
  if (socket.options.v6only() && to.is_v4()) return -ENETUNREACH;
  if (to.is_any()) to = sim_loopback(to.is_v4()).with_port(to.port);
  if (is_broadcast(to) && socket.options.number(SOL_SOCKET, SO_BROADCAST, 0) == 0) return -EACCES;
  return 0;
}

int SimUdp::source_of(SimSocket& socket, const ::msghdr& message, SimAddress& from, const SimAddress& to) {
  if (!socket.bound) {
    if (const int error = ports_.bind(socket, SimAddress::any(socket.family)); error != 0) return -EAGAIN;
  }
  from = socket.local;
  bool known = true;
  const bool sound = sim_for_each_control(message, [&](const ::cmsghdr& each) {
    if (each.cmsg_level == IPPROTO_UDP) known = false;
    if (each.cmsg_level == IPPROTO_IP && each.cmsg_type == IP_PKTINFO) {
      ::in_pktinfo info;
      std::memcpy(&info, CMSG_DATA(&each), sizeof info);
      if (info.ipi_spec_dst.s_addr != 0) from = from_v4(info.ipi_spec_dst).with_port(from.port);
    } else if (each.cmsg_level == IPPROTO_IPV6 && each.cmsg_type == IPV6_PKTINFO) {
      ::in6_pktinfo info;
      std::memcpy(&info, CMSG_DATA(&each), sizeof info);
      if (!IN6_IS_ADDR_UNSPECIFIED(&info.ipi6_addr)) from = from_v6(info.ipi6_addr).with_port(from.port);
    }
  });
  if (!sound || !known) return -EINVAL;
  if (from.is_any()) from = source_towards(to).with_port(from.port);
  return 0;
}

int SimUdp::send(SimSocket& socket, const ::msghdr& message) {
  SimUdpEnd& end = *socket.udp;
  if (end.error != 0) return -std::exchange(end.error, 0);
  if (end.write_shut) return -EPIPE;
  const std::size_t size = sim_size(message);
  if (size > (socket.family == AF_INET6 ? kV6Most : kV4Most)) return -EMSGSIZE;
  SimDatagram datagram;
  if (const int error = destination_of(socket, message, datagram.to); error != 0) return error;
  if (datagram.to.is_v4() && size > kV4Most) return -EMSGSIZE;
  if (const int error = source_of(socket, message, datagram.from, datagram.to); error != 0) return error;
  if (end.on_wire > 0 && end.on_wire + size > socket.options.send_buffer()) return kSimWait;
  datagram.data = sim_gather(message);
  if (is_multicast(datagram.to) && !loops_back(socket)) return static_cast<int>(size);  // there are no other hosts
  launch(socket, std::move(datagram));
  return static_cast<int>(size);
}

int SimUdp::receive(SimSocket& socket, ::msghdr& message, int flags) {
  SimUdpEnd& end = *socket.udp;
  if (end.error != 0) return -std::exchange(end.error, 0);
  if (end.queue.empty()) return end.read_shut ? 0 : kSimWait;
  const SimDatagram& first = end.queue.front();
  const std::size_t size = first.data.size();
  const std::size_t copied = sim_scatter(first.data, message);
  message.msg_flags = copied < size ? MSG_TRUNC : 0;
  if (message.msg_name != nullptr) {
    first.from.write(socket.family, static_cast<::sockaddr*>(message.msg_name), &message.msg_namelen);
  } else {
    message.msg_namelen = 0;
  }
  SimControl control(message);
  add_packet_info(socket, first, control);
  if ((flags & MSG_PEEK) == 0) {
    end.queued -= size + kOverhead;
    end.queue.pop_front();
  }
  return static_cast<int>((flags & MSG_TRUNC) != 0 ? size : copied);
}

int SimUdp::shutdown(SimSocket& socket, int how) {
  if (!socket.udp->peer) return -ENOTCONN;
  if (how != SHUT_WR) socket.udp->read_shut = true;
  if (how != SHUT_RD) socket.udp->write_shut = true;
  sim_stir(core_, socket, SimDirection::in);
  sim_stir(core_, socket, SimDirection::out);
  return 0;
}

int SimUdp::set_membership(SimSocket& socket, int level, int name, const void* value, ::socklen_t length) {
  const bool v4 = level == IPPROTO_IP && (name == IP_ADD_MEMBERSHIP || name == IP_DROP_MEMBERSHIP);
  const bool v6 = level == IPPROTO_IPV6 && (name == IPV6_JOIN_GROUP || name == IPV6_LEAVE_GROUP);
  if (!v4 && !v6) return kNoMembership;
  if (length < (v4 ? sizeof(::ip_mreq) : sizeof(::ipv6_mreq))) return -EINVAL;
  SimAddress group;
  if (v4) {
    ::in_addr address;
    std::memcpy(&address, value, sizeof address);  // what ip_mreq and ip_mreqn begin with
    group = from_v4(address);
  } else {
    ::in6_addr address;
    std::memcpy(&address, value, sizeof address);
    group = from_v6(address);
  }
  if (!is_multicast(group)) return -EINVAL;
  std::vector<SimAddress>& groups = socket.udp->groups;
  const auto found = std::find(groups.begin(), groups.end(), group);
  if (name == (v4 ? IP_ADD_MEMBERSHIP : IPV6_JOIN_GROUP)) {
    if (found != groups.end()) return -EADDRINUSE;
    groups.push_back(group);
    return 0;
  }
  if (found == groups.end()) return -EADDRNOTAVAIL;
  groups.erase(found);
  return 0;
}

bool SimUdp::readable(const SimSocket& socket) noexcept {
  return socket.udp->error != 0 || socket.udp->read_shut || !socket.udp->queue.empty();
}

bool SimUdp::writable(const SimSocket& socket) noexcept {
  return socket.udp->error != 0 || socket.udp->write_shut || socket.udp->on_wire < socket.options.send_buffer();
}

// --- The network -----------------------------------------------------------------------------------------------------

void SimUdp::launch(SimSocket& socket, SimDatagram datagram) {
  const testing::SimOptions& options = core_.options();
  const auto size = static_cast<std::int64_t>(datagram.data.size());
  if (core_.strikes(core_.faults().datagram_loss)) {
    ++core_.counters().datagrams_lost;
    core_.note(SimNote::datagram_lost, socket.fd, size);
    return;
  }
  SimUdpEnd& end = *socket.udp;
  TimePoint leaves = std::max(core_.now(), end.wire_busy_until);
  if (options.bandwidth != 0) leaves += Duration(size * 1'000'000'000 / static_cast<std::int64_t>(options.bandwidth));
  end.wire_busy_until = leaves;
  const auto latency = core_.random().between(static_cast<std::uint64_t>(options.latency_min.count()),
                                              static_cast<std::uint64_t>(options.latency_max.count()));
  TimePoint arrival = std::max(end.last_arrival, leaves + Duration(static_cast<Duration::rep>(latency)));
  if (core_.strikes(core_.faults().datagram_reorder)) {
    arrival += core_.some_of(core_.faults().datagram_delay_max);
    ++core_.counters().datagrams_late;
    core_.note(SimNote::datagram_late, socket.fd, size);
  } else {
    end.last_arrival = arrival;
  }
  Flight flight;
  flight.sender = socket.fd;
  flight.sender_serial = socket.serial;
  flight.datagram = std::move(datagram);
  if (core_.strikes(core_.faults().datagram_duplicate)) {
    ++core_.counters().datagrams_doubled;
    core_.note(SimNote::datagram_doubled, socket.fd, size);
    schedule(flight, arrival + core_.some_of(core_.faults().datagram_delay_max));
  }
  flight.counted = true;
  end.on_wire += flight.datagram.data.size();
  schedule(std::move(flight), arrival);
}

void SimUdp::schedule(Flight flight, TimePoint when) {
  if (free_.empty()) {
    free_.push_back(static_cast<std::uint32_t>(flights_.size()));
    flights_.emplace_back();
  }
  const std::uint32_t number = free_.back();
  free_.pop_back();
  flight.serial = core_.next_serial();
  SimEvent event;
  event.kind = SimEvent::Kind::datagram;
  event.when = when;
  event.number = number;
  event.serial = flight.serial;
  flights_[number] = std::move(flight);
  core_.schedule(event);
}

void SimUdp::arrive(std::uint32_t number, std::uint64_t serial) {
  if (number >= flights_.size() || flights_[number].serial != serial) return;
  const Flight flight = std::exchange(flights_[number], Flight{});
  free_.push_back(number);
  SimSocket* sender = descriptors_.find(flight.sender, flight.sender_serial);
  if (!flight.came_back) {
    if (sender != nullptr && flight.counted) {
      sender->udp->on_wire -= flight.datagram.data.size();
      sim_stir(core_, *sender, SimDirection::out);
    }
    deliver(flight);
  } else if (sender != nullptr && sender->udp->peer == flight.datagram.to) {
    // Only a connected socket is told: of an unconnected one's many datagrams it could not be said which.
    core_.note(SimNote::unreachable, sender->fd, 0);
    sender->udp->error = ECONNREFUSED;
    poke(*sender, SimDirection::in);
    poke(*sender, SimDirection::out);
  }
}

void SimUdp::deliver(const Flight& flight) {
  const SimDatagram& datagram = flight.datagram;
  const std::vector<SimSocket*> receivers = receivers_of(datagram);
  const bool to_many = is_multicast(datagram.to) || is_broadcast(datagram.to);
  if (receivers.empty() && !to_many) {
    ++core_.counters().datagrams_unreachable;
    Flight news;
    news.sender = flight.sender;
    news.sender_serial = flight.sender_serial;
    news.came_back = true;
    news.datagram.to = datagram.to;
    schedule(std::move(news), core_.now() + core_.options().latency_min);
    return;
  }
  for (SimSocket* each : receivers) put(*each, datagram);
}

/// Who gets it: of a group or a broadcast, all; else who fits best, and of several such one by chance if they share the
/// port for that (SO_REUSEPORT), or the last that has bound.
std::vector<SimSocket*> SimUdp::receivers_of(const SimDatagram& datagram) {
  const bool group = is_multicast(datagram.to);
  const bool to_many = group || is_broadcast(datagram.to);
  constexpr int kConnected = 4;  // more than any address can add
  int best = 0;
  std::vector<SimSocket*> found;
  ports_.for_each_bound(datagram.to, [&](SimSocket& each, int score) {
    const SimUdpEnd& end = *each.udp;
    if (end.peer && *end.peer != datagram.from) return;
    if (group && std::none_of(end.groups.begin(), end.groups.end(),
                              [&](const SimAddress& joined) { return same_host(joined, datagram.to); })) {
      return;
    }
    if (end.peer) score += kConnected;
    if (!to_many && score > best) found.clear();
    best = std::max(best, score);
    if (to_many || score == best) found.push_back(&each);
  });
  if (to_many || found.size() < 2) return found;
  const bool shared = found.back()->options.reuse_port();
  return {shared ? found[core_.random().between(0, found.size() - 1)] : found.back()};
}

void SimUdp::put(SimSocket& socket, const SimDatagram& datagram) {
  SimUdpEnd& end = *socket.udp;
  const auto size = static_cast<std::int64_t>(datagram.data.size());
  // As the kernel has it: one may go over the limit.
  if (end.read_shut || end.queued > socket.options.receive_buffer()) {
    ++core_.counters().datagrams_dropped;
    core_.note(SimNote::datagram_dropped, socket.fd, size);
    return;
  }
  ++core_.counters().datagrams;
  core_.note(SimNote::datagram, socket.fd, size);
  end.queued += datagram.data.size() + kOverhead;
  end.queue.push_back(datagram);
  poke(socket, SimDirection::in);
}

}  // namespace bight::detail
