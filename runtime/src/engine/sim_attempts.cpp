// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_attempts.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace bight::detail {
namespace {

using State = SimEnd::State;

constexpr int kWait = SimAttempts::kWait;

int as_result(std::size_t count) noexcept { return static_cast<int>(std::min<std::size_t>(count, INT_MAX)); }

/// How many bytes can be read; 0 at the end of the stream, -errno, or kWait.
int available(SimSocket& socket) noexcept {
  if (socket.end == nullptr) return -ENOTCONN;
  SimEnd& end = *socket.end;
  if (!end.received.empty()) return as_result(end.received.size());
  if (end.fin_received) return 0;
  if (end.error != 0) return -std::exchange(end.error, 0);
  if (end.state == State::connecting) return kWait;
  return end.read_ended() ? 0 : kWait;
}

/// What poll(2) calls hung up: nothing more to read nor to write.
bool hung_up(const SimSocket& socket) noexcept {
  if (socket.end == nullptr) return !socket.listening;
  const SimEnd& end = *socket.end;
  return end.error != 0 || end.state == State::closed || (end.read_ended() && end.write_shut);
}

bool readable(const SimSocket& socket) noexcept {
  if (hung_up(socket)) return true;
  if (socket.listening) return !socket.queue.empty();
  return socket.end->state != State::connecting && (socket.end->read_ended() || !socket.end->received.empty());
}

bool writable(const SimSocket& socket) noexcept {
  if (hung_up(socket)) return true;
  if (socket.listening || socket.end->state == State::connecting) return false;
  return socket.end->write_shut || socket.end->send_room() > 0;
}

}  // namespace

int SimAttempts::attempt(SimSocket& socket, Op& op) {
  if (socket.pipe != nullptr) return attempt_pipe(socket, op);
  if (socket.udp != nullptr || socket.unix_end != nullptr) return attempt_messages(socket, op);
  switch (op.kind) {
    case OpKind::recv:
    case OpKind::read: return receive(socket, {static_cast<std::byte*>(op.data), op.size});
    case OpKind::recv_lent: return receive_lent(socket, op);
    case OpKind::send:
    case OpKind::write: {
      const ::iovec whole{op.data, op.size};
      return send(socket, {&whole, 1});
    }
    case OpKind::send_message: {
      const auto& message = *static_cast<const ::msghdr*>(op.data);
      return send(socket, {message.msg_iov, message.msg_iovlen});
    }
    case OpKind::recv_message:
      return receive_message(socket, *static_cast<::msghdr*>(op.data), static_cast<int>(op.size));
    case OpKind::recv_many:
    case OpKind::send_many: return transfer_many(socket, op);
    case OpKind::accept: return accept(socket);
    case OpKind::connect: return connect(socket, op);
    case OpKind::poll_in: return readable(socket) ? 0 : kWait;
    case OpKind::poll_out: return writable(socket) ? 0 : kWait;
    case OpKind::file: break;  // see Engine::start_file
  }
  return -EINVAL;
}

/// What is sent in messages, or at least may be.
int SimAttempts::attempt_messages(SimSocket& socket, Op& op) {
  ::iovec whole{op.data, op.size};
  ::msghdr message{};
  message.msg_iov = &whole;
  message.msg_iovlen = 1;
  switch (op.kind) {
    case OpKind::recv:
    case OpKind::read: return receive_message(socket, message, 0);
    case OpKind::recv_lent: return lend_message(socket, op);
    case OpKind::recv_message:
      return receive_message(socket, *static_cast<::msghdr*>(op.data), static_cast<int>(op.size));
    case OpKind::send:
    case OpKind::write: return send_message(socket, message);
    case OpKind::send_message: return send_message(socket, *static_cast<const ::msghdr*>(op.data));
    case OpKind::recv_many:
    case OpKind::send_many: return transfer_many(socket, op);
    case OpKind::accept: return socket.udp != nullptr ? -EOPNOTSUPP : accept(socket);
    case OpKind::connect: {
      const auto* address = static_cast<const ::sockaddr*>(op.data);
      const auto length = static_cast<::socklen_t>(op.size);
      return socket.udp != nullptr ? world_.udp.connect(socket, address, length)
                                   : world_.unix_sockets.connect(socket, address, length);
    }
    case OpKind::poll_in:
      return (socket.udp != nullptr ? SimUdp::readable(socket) : world_.unix_sockets.readable(socket)) ? 0 : kWait;
    case OpKind::poll_out:
      return (socket.udp != nullptr ? SimUdp::writable(socket) : world_.unix_sockets.writable(socket)) ? 0 : kWait;
    case OpKind::file: break;
  }
  return -EINVAL;
}

int SimAttempts::receive_message(SimSocket& socket, ::msghdr& message, int flags) {
  if (socket.udp != nullptr) return world_.udp.receive(socket, message, flags);
  if (socket.unix_end != nullptr) return world_.unix_sockets.receive(socket, message, flags);
  // Of a TCP connection: bytes, and nothing else.
  const std::span<const ::iovec> pieces(message.msg_iov, message.msg_iovlen);
  const auto first = std::find_if(pieces.begin(), pieces.end(), [](const ::iovec& each) { return each.iov_len > 0; });
  if ((flags & ~(MSG_TRUNC | MSG_PEEK)) != 0) return -EOPNOTSUPP;
  const int count = first == pieces.end() ? 0
                                          : receive(socket, {static_cast<std::byte*>(first->iov_base), first->iov_len},
                                                    (flags & MSG_PEEK) != 0);
  if (count >= 0) message.msg_namelen = message.msg_controllen = static_cast<unsigned>(message.msg_flags = 0);
  return count;
}

int SimAttempts::send_message(SimSocket& socket, const ::msghdr& message) {
  if (socket.udp != nullptr) return world_.udp.send(socket, message);
  if (socket.unix_end != nullptr) return world_.unix_sockets.send(socket, message);
  return send(socket, {message.msg_iov, message.msg_iovlen});
}

/// As the kernel: an error ends the row, and is told at once only if it is the first one's.
int SimAttempts::transfer_many(SimSocket& socket, const Op& op) {
  auto* many = static_cast<::mmsghdr*>(op.data);
  for (std::size_t n = 0; n < op.size; ++n) {
    ::mmsghdr& each = many[n];
    const int count =
        op.kind == OpKind::recv_many ? receive_message(socket, each.msg_hdr, 0) : send_message(socket, each.msg_hdr);
    if (count < 0) return n > 0 ? as_result(n) : count;
    each.msg_len = static_cast<unsigned>(count);
  }
  return as_result(op.size);
}

int SimAttempts::lend_message(SimSocket& socket, Op& op) {
  const BufferPool::Buffer buffer = buffers_.take();
  if (buffer.data == nullptr) return -ENOMEM;
  ::iovec whole{buffer.data, buffer.size};
  ::msghdr message{};
  message.msg_iov = &whole;
  message.msg_iovlen = 1;
  const int count = receive_message(socket, message, 0);
  if (count > 0) {
    op.data = buffer.data;
    op.buffer_id = buffer.id;
  } else {
    buffers_.give_back(buffer.data, buffer.id);
  }
  return count;
}

int SimAttempts::attempt_pipe(SimSocket& socket, Op& op) {
  SimPipe& pipe = *socket.pipe;
  const bool reads = pipe.reader == &socket;
  switch (op.kind) {
    case OpKind::read: return reads ? read_pipe(pipe, {static_cast<std::byte*>(op.data), op.size}) : -EBADF;
    case OpKind::write: return reads ? -EBADF : write_pipe(pipe, {static_cast<const std::byte*>(op.data), op.size});
    case OpKind::poll_in: return reads && (!pipe.bytes.empty() || pipe.writer == nullptr) ? 0 : kWait;
    case OpKind::poll_out: return !reads && (pipe.room() >= PIPE_BUF || pipe.reader == nullptr) ? 0 : kWait;
    default: return -ENOTSOCK;
  }
}

int SimAttempts::read_pipe(SimPipe& pipe, std::span<std::byte> buffer) {
  if (pipe.bytes.empty()) return pipe.writer == nullptr || buffer.empty() ? 0 : kWait;
  std::size_t count = std::min(pipe.bytes.size(), buffer.size());
  count = shorten(count, core_.faults().short_read, core_.counters().short_reads);
  const std::size_t taken = pipe.bytes.pop(buffer.first(count));
  if (pipe.writer != nullptr) sim_stir(core_, *pipe.writer, SimDirection::out);
  return as_result(taken);
}

int SimAttempts::write_pipe(SimPipe& pipe, std::span<const std::byte> data) {
  if (pipe.reader == nullptr) return -EPIPE;
  if (!pipe.accepts(data.size())) return kWait;
  std::size_t count = std::min(pipe.room(), data.size());
  if (data.size() > PIPE_BUF) count = shorten(count, core_.faults().short_write, core_.counters().short_writes);
  pipe.bytes.push(data.first(count));
  sim_stir(core_, *pipe.reader, SimDirection::in);
  return as_result(count);
}

int SimAttempts::receive(SimSocket& socket, std::span<std::byte> buffer, bool peeks) {
  if (buffer.empty()) return 0;
  const int there = available(socket);
  if (there <= 0) return there;
  std::size_t count = std::min(static_cast<std::size_t>(there), buffer.size());
  count = shorten(count, core_.faults().short_read, core_.counters().short_reads);
  if (peeks) return as_result(socket.end->received.peek(buffer.first(count)));
  return as_result(net_.receive(*socket.end, buffer.first(count)));
}

int SimAttempts::receive_lent(SimSocket& socket, Op& op) {
  if (const int there = available(socket); there <= 0) return there;
  const BufferPool::Buffer buffer = buffers_.take();
  if (buffer.data == nullptr) return -ENOMEM;
  op.data = buffer.data;
  op.buffer_id = buffer.id;
  return receive(socket, {buffer.data, buffer.size});
}

int SimAttempts::send(SimSocket& socket, std::span<const ::iovec> pieces) {
  if (socket.end == nullptr) return -EPIPE;
  SimEnd& end = *socket.end;
  if (end.error != 0) return -std::exchange(end.error, 0);
  if (end.state == State::connecting) return kWait;
  if (end.write_shut || end.state == State::closed) return -EPIPE;
  std::size_t total = 0;
  for (const ::iovec& piece : pieces) total += piece.iov_len;
  if (total == 0) return 0;
  if (end.send_room() == 0) return kWait;
  const std::size_t most = std::min({total, end.send_room(), std::size_t{INT_MAX}});
  const std::size_t count = shorten(most, core_.faults().short_write, core_.counters().short_writes);
  net_.send(end, pieces, count);
  return as_result(count);
}

std::size_t SimAttempts::shorten(std::size_t count, double probability, std::uint64_t& counter) noexcept {
  if (count < 2 || !core_.strikes(probability)) return count;
  ++counter;
  return core_.some_of(count - 1);
}

int SimAttempts::accept(SimSocket& socket) {
  const bool is_unix = socket.unix_end != nullptr;
  if (is_unix ? !socket.unix_end->listening : !socket.listening) return -EINVAL;
  const std::size_t most = core_.options().descriptors_max;
  if (world_.descriptors.count() >= most) return -EMFILE;  // Linux takes the number before it looks for a connection
  if (is_unix ? socket.unix_end->queue.empty() : socket.queue.empty()) return kWait;
  if (const int error = accept_fault(socket); error != 0) return error;
  SimSocket* accepted = world_.descriptors.open(most, socket.family, socket.type, core_.next_serial(), socket.options);
  if (is_unix) {
    world_.unix_sockets.accept(socket, *accepted);
  } else {
    net_.accept(socket, *accepted);
  }
  auto& peak = core_.counters().descriptors_peak;
  peak = std::max<std::uint64_t>(peak, world_.descriptors.count());
  core_.note(SimNote::accepted, accepted->fd, is_unix ? 0 : accepted->end->connection->client.port);
  return accepted->fd;
}

int SimAttempts::accept_fault(SimSocket& socket) {
  const testing::Faults& faults = core_.faults();
  if (core_.strikes(faults.accept_exhausted)) {
    exhausted_until_ = core_.now() + core_.some_of(faults.exhausted_max);
    core_.note(SimNote::exhausted, socket.fd, 0);
  }
  if (core_.now() < exhausted_until_ && !core_.calm()) {
    ++core_.counters().accept_failures;
    return -EMFILE;
  }
  if (socket.unix_end != nullptr || !core_.strikes(faults.accept_abort)) return 0;
  ++core_.counters().accept_failures;
  net_.abort_first(socket);
  return -ECONNABORTED;
}

/// phase 0: not begun; 1: under way, its outcome shows in the end's state.
int SimAttempts::connect(SimSocket& socket, Op& op) {
  if (op.phase == 0) {
    if (const int error = begin_connect(socket, op); error != kWait) return error;
    op.phase = 1;
  }
  if (socket.end == nullptr) return -ECONNABORTED;
  SimEnd& end = *socket.end;
  if (end.state == State::connecting) return kWait;
  if (end.state == State::closed) return failed_connect(socket);
  socket.connect_reported = true;
  return 0;
}

int SimAttempts::begin_connect(SimSocket& socket, const Op& op) {
  if (socket.listening) return -EISCONN;
  if (socket.end != nullptr) {
    if (socket.end->state == State::connecting) return -EALREADY;
    if (socket.connect_reported) return -EISCONN;
    if (socket.end->state == State::closed) return failed_connect(socket);
    return kWait;
  }
  SimAddress peer;
  const auto length = static_cast<::socklen_t>(op.size);
  if (const int error = SimAddress::read(static_cast<const ::sockaddr*>(op.data), length, socket.family, peer);
      error != 0) {
    return error;
  }
  if (socket.options.v6only() && peer.is_v4()) return -ENETUNREACH;
  const int error = net_.connect(socket, peer);
  return error != 0 ? error : kWait;
}

int SimAttempts::failed_connect(SimSocket& socket) noexcept {
  const int error = std::exchange(socket.end->error, 0);
  net_.drop_failed(socket);
  return error != 0 ? -error : -ECONNABORTED;
}

}  // namespace bight::detail
