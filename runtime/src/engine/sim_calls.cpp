// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_calls.hpp"

#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include <bight/check.hpp>

namespace bight::detail {
namespace {

constexpr int kBacklogMost = 4096;  // Linux's net.core.somaxconn

constexpr int kind_of(int type) noexcept { return type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC); }

int check_kind(int domain, int type, int protocol) noexcept {
  if (domain == AF_UNIX) {
    if (type != SOCK_STREAM && type != SOCK_DGRAM && type != SOCK_SEQPACKET) return -ESOCKTNOSUPPORT;
    return protocol == 0 ? 0 : -EPROTONOSUPPORT;
  }
  if (domain != AF_INET && domain != AF_INET6) return -EAFNOSUPPORT;
  if (type == SOCK_DGRAM) return protocol == 0 || protocol == IPPROTO_UDP ? 0 : -EPROTONOSUPPORT;
  if (type != SOCK_STREAM) return -ESOCKTNOSUPPORT;
  return protocol == 0 || protocol == IPPROTO_TCP ? 0 : -EPROTONOSUPPORT;
}

}  // namespace

int SimCalls::socket(int domain, int type, int protocol) noexcept {
  type = kind_of(type);
  if (const int error = check_kind(domain, type, protocol); error != 0) return error;
  SimSocket* made = make(domain, type);
  if (made == nullptr) return -EMFILE;
  if (domain == AF_UNIX) {
    unix_.open(*made);
  } else if (type == SOCK_DGRAM) {
    udp_.open(*made);
  }
  core_.note(SimNote::socket, made->fd, domain);
  return made->fd;
}

/// Null: there are too many, or the power is off: then no number may get a new meaning while old ones are to be closed.
SimSocket* SimCalls::make(int domain, int type) noexcept {
  if (!core_.powered()) return nullptr;
  const testing::SimOptions& options = core_.options();
  const SimSocketOptions buffers(options.send_buffer, options.receive_buffer);
  SimSocket* made = descriptors_.open(options.descriptors_max, domain, type, core_.next_serial(), buffers);
  core_.counters().descriptors_peak = std::max<std::uint64_t>(core_.counters().descriptors_peak, descriptors_.count());
  return made;
}

int SimCalls::pipe(int (&ends)[2]) noexcept {
  SimSocket* reader = make(AF_UNIX, SOCK_STREAM);
  SimSocket* writer = reader != nullptr ? make(AF_UNIX, SOCK_STREAM) : nullptr;
  if (writer == nullptr) {
    if (reader != nullptr) descriptors_.close(reader->fd);
    return -EMFILE;
  }
  reader->pipe = writer->pipe = std::make_shared<SimPipe>();
  reader->pipe->reader = reader;
  reader->pipe->writer = writer;
  ends[0] = reader->fd;
  ends[1] = writer->fd;
  core_.note(SimNote::pipe, reader->fd, writer->fd);
  return 0;
}

int SimCalls::socket_pair(int domain, int type, int protocol, int (&ends)[2]) noexcept {
  if (domain != AF_UNIX) return -EOPNOTSUPP;
  ends[0] = socket(domain, type, protocol);
  if (ends[0] < 0) return ends[0];
  ends[1] = socket(domain, type, protocol);
  if (ends[1] < 0) {
    close(ends[0]);
    return ends[1];
  }
  SimUnix::join(*descriptors_.find(ends[0]), *descriptors_.find(ends[1]));
  core_.note(SimNote::socket_pair, ends[0], ends[1]);
  return 0;
}

void SimCalls::close_pipe_end(SimSocket& end) noexcept {
  SimPipe& pipe = *end.pipe;
  const bool reading = pipe.reader == &end;
  (reading ? pipe.reader : pipe.writer) = nullptr;
  SimSocket* other = reading ? pipe.writer : pipe.reader;
  if (other != nullptr) sim_stir(core_, *other, reading ? SimDirection::out : SimDirection::in);
}

int SimCalls::bind(int fd, const ::sockaddr* address, ::socklen_t length) noexcept {
  SimSocket* socket = descriptors_.find(fd);
  if (socket == nullptr) return -EBADF;
  const int error = bind_to(*socket, address, length);
  core_.note(SimNote::bind, fd, error != 0 ? error : socket->local.port);
  return error;
}

int SimCalls::bind_to(SimSocket& socket, const ::sockaddr* address, ::socklen_t length) {
  if (socket.pipe != nullptr) return -ENOTSOCK;
  if (socket.unix_end != nullptr) return unix_.bind(socket, address, length);
  SimAddress wanted;
  if (const int error = SimAddress::read(address, length, socket.family, wanted); error != 0) return error;
  if (socket.bound || socket.end != nullptr) return -EINVAL;
  if (socket.family == AF_INET6 && socket.options.v6only() && wanted.is_v4()) return -EINVAL;
  return (socket.udp != nullptr ? udp_.ports() : net_.ports()).bind(socket, wanted);
}

int SimCalls::listen(int fd, int backlog) noexcept {
  SimSocket* socket = descriptors_.find(fd);
  if (socket == nullptr) return -EBADF;
  const int error = listen_on(*socket, backlog);
  core_.note(SimNote::listen, fd, error);
  return error;
}

int SimCalls::listen_on(SimSocket& socket, int backlog) {
  const int most = backlog < 0 ? kBacklogMost : std::min(backlog, kBacklogMost);
  if (socket.unix_end != nullptr) return unix_.listen(socket, most);
  if (socket.udp != nullptr) return -EOPNOTSUPP;
  if (socket.end != nullptr) return -EINVAL;
  if (!socket.bound) {
    if (const int error = net_.ports().bind(socket, SimAddress::any(socket.family)); error != 0) return error;
  }
  if (!socket.listening && net_.ports().in_the_way(socket)) return -EADDRINUSE;
  socket.listening = true;
  socket.backlog = static_cast<std::size_t>(most);
  return 0;
}

int SimCalls::shutdown(int fd, int how) noexcept {
  SimSocket* socket = descriptors_.find(fd);
  if (socket == nullptr) return -EBADF;
  if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) return -EINVAL;
  const int error = end_sides(*socket, how);
  core_.note(SimNote::shutdown, fd, error != 0 ? error : how);
  return error;
}

int SimCalls::end_sides(SimSocket& socket, int how) {
  if (socket.unix_end != nullptr) return unix_.shutdown(socket, how);
  if (socket.udp != nullptr) return udp_.shutdown(socket, how);
  if (socket.listening) {
    if (how == SHUT_WR) return 0;
    net_.stop_listening(socket);
    if (!socket.port_given) {
      net_.ports().unbind(socket);
      socket.local = SimAddress::any(socket.family);
    }
    net_.poke(socket, SimDirection::in);
    return 0;
  }
  if (socket.end == nullptr || socket.end->state == SimEnd::State::closed) return -ENOTCONN;
  if (socket.end->state == SimEnd::State::connecting) {
    net_.shut_write(*socket.end);
    return 0;
  }
  SimEnd& end = *socket.end;
  if (how != SHUT_WR) net_.shut_read(end);
  if (how != SHUT_RD) net_.shut_write(end);
  return 0;
}

int SimCalls::close(int fd) noexcept {
  SimSocket* socket = descriptors_.find(fd);
  if (socket == nullptr) return fd < SimDescriptors::kFirst && ::close(fd) == 0 ? 0 : -EBADF;
  BIGHT_CHECK(socket->slots[0].op == nullptr && socket->slots[1].op == nullptr,
              "a simulated descriptor was closed under an operation: Engine::forget() comes first");
  core_.note(SimNote::close, fd, 0);
  if (socket->pipe != nullptr) close_pipe_end(*socket);
  if (socket->unix_end != nullptr) {
    unix_.close(*socket);
  } else if (socket->udp != nullptr) {
    udp_.close(*socket);
  } else {
    net_.close(*socket);
  }
  descriptors_.close(fd);
  return 0;
}

int SimCalls::set_option(int fd, int level, int name, const void* value, ::socklen_t length) noexcept {
  SimSocket* socket = descriptors_.find(fd);
  if (socket == nullptr) return -EBADF;
  const bool v6only = level == IPPROTO_IPV6 && name == IPV6_V6ONLY;
  if (level == IPPROTO_IPV6 && socket->family != AF_INET6) return -ENOPROTOOPT;
  if (socket->udp != nullptr) {
    if (const int result = udp_.set_membership(*socket, level, name, value, length); result != SimUdp::kNoMembership)
      return result;
  }
  if (v6only && (socket->bound || socket->end != nullptr)) return -EINVAL;
  const int error = socket->options.set(level, name, value, length);
  if (error == 0 && socket->end != nullptr) {
    net_.apply_options(*socket->end);
  }
  return error;
}

namespace {

int take_error(SimSocket& socket) noexcept {
  if (socket.udp != nullptr) return std::exchange(socket.udp->error, 0);
  if (socket.unix_end != nullptr) return std::exchange(socket.unix_end->error, 0);
  return socket.end != nullptr ? std::exchange(socket.end->error, 0) : 0;
}

int protocol_of(const SimSocket& socket) noexcept {
  return socket.unix_end != nullptr ? 0 : (socket.udp != nullptr ? IPPROTO_UDP : IPPROTO_TCP);
}

}  // namespace

int SimCalls::get_option(int fd, int level, int name, void* value, ::socklen_t* length) noexcept {
  SimSocket* socket = descriptors_.find(fd);
  if (socket == nullptr) return -EBADF;
  if (level != SOL_SOCKET) return socket->options.get(level, name, value, length);
  switch (name) {
    case SO_ERROR: sim_give_option(take_error(*socket), value, length); return 0;
    case SO_TYPE: sim_give_option(socket->type, value, length); return 0;
    case SO_PROTOCOL: sim_give_option(protocol_of(*socket), value, length); return 0;
    case SO_PEERCRED: return socket->unix_end != nullptr ? SimUnix::credentials(*socket, value, length) : -ENOPROTOOPT;
    case SO_ACCEPTCONN:
      sim_give_option(socket->listening || (socket->unix_end != nullptr && socket->unix_end->listening) ? 1 : 0, value,
                      length);
      return 0;
    case SO_DOMAIN: sim_give_option(socket->family, value, length); return 0;
    default: return socket->options.get(level, name, value, length);
  }
}

int SimCalls::local_name(int fd, ::sockaddr* address, ::socklen_t* length) noexcept {
  const SimSocket* socket = descriptors_.find(fd);
  if (socket == nullptr) return -EBADF;
  if (socket->unix_end != nullptr) {
    sim_write_name(socket->unix_end->name, address, length);
    return 0;
  }
  (socket->end != nullptr ? socket->end->local : socket->local).write(socket->family, address, length);
  return 0;
}

int SimCalls::peer_name(int fd, ::sockaddr* address, ::socklen_t* length) noexcept {
  const SimSocket* socket = descriptors_.find(fd);
  if (socket == nullptr) return -EBADF;
  if (socket->unix_end != nullptr) return unix_.peer_name(*socket, address, length);
  if (socket->udp != nullptr) {
    if (!socket->udp->peer) return -ENOTCONN;
    socket->udp->peer->write(socket->family, address, length);
    return 0;
  }
  if (socket->end == nullptr || socket->end->state != SimEnd::State::established) return -ENOTCONN;
  const SimEnd& end = *socket->end;
  (end.side == 0 ? end.connection->server : end.connection->client).write(socket->family, address, length);
  return 0;
}

}  // namespace bight::detail
