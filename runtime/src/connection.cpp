// SPDX-License-Identifier: Apache-2.0
#include <bight/connection.hpp>

#include <sys/socket.h>

#include <cerrno>
#include <new>
#include <string>
#include <utility>

#include <bight/check.hpp>
#include <bight/error.hpp>

#include "descriptor_wait.hpp"
#include "engine/op.hpp"
#include "fork_guard.hpp"
#include "message_socket.hpp"

namespace bight {
namespace detail {

/// One end as this process has it. Lives as long as the Connection, and the fibers that wait on it.
struct ConnectionState {
  explicit ConnectionState(Fd owned) : fd(std::move(owned)), forks(forks_so_far()) {}

  /// In a forked child the fibers that wait are the parent's.
  void enter() noexcept {
    if (forks == forks_so_far()) [[likely]]
      return;
    forks = forks_so_far();
    sending.forget();
    receiving.forget();
  }

  /// Whether to wait before the first look. Who asks and waits for the answer finds nothing when he looks at once, and
  /// such a look costs a quarter of the round trip; but now and then it is to be seen whether that has changed.
  [[nodiscard]] bool waits_first() noexcept { return in_vain && ++looks_saved % kLooksSaved != 0; }

  static constexpr unsigned kLooksSaved = 8;

  Fd fd;
  std::uint32_t forks;
  bool in_vain = false;  // the last look at once was
  unsigned looks_saved = 0;
  bool at_end = false;
  std::size_t message_max = connection_message_max;
  LazyWatch watch;
  Turn sending;
  Turn receiving;
  IncomingBuffer incoming;
};

namespace {

/// A fiber's turn at one direction, for the length of a block. Who does not wait at all needs none.
class TurnHeld {
 public:
  TurnHeld(Turn& turn, TimePoint until, DescribeWait describe, std::error_code& error) noexcept
      : turn_(until != TimePoint::min() && current_loop->running_fiber != nullptr && turn.take(until, describe, error)
                  ? &turn
                  : nullptr) {}
  TurnHeld(const TurnHeld&) = delete;
  TurnHeld& operator=(const TurnHeld&) = delete;
  ~TurnHeld() {
    if (turn_ != nullptr) turn_->give();
  }

 private:
  Turn* turn_;
};

/// Waits for a message, and in a loop, whose engine may do both at once, receives it.
Arrival wait_and_receive(ConnectionState& state, TimePoint until, Received& received, std::error_code& error) {
  if (current_loop->serial == 0) {
    error = wait_ready(state.watch, state.fd.get(), Readiness::readable, until);
    return Arrival::nothing;
  }
  if (state.watch.attach(state.fd.get(), error) == nullptr) return Arrival::failed;
  IncomingBuffer::Look look;
  state.incoming.prepare(look);
  Op op(OpKind::recv_message, state.fd.get());
  op.data = &look.message;
  const int result = state.watch.read(op, until);
  return state.incoming.finish(look, result, state.message_max, received, error);
}

void describe_sending(const WaitLink&, std::string& text) { text += "its turn to send through a connection"; }
void describe_receiving(const WaitLink&, std::string& text) { text += "its turn to receive from a connection"; }

std::error_code closed_error() noexcept { return std::make_error_code(std::errc::bad_file_descriptor); }

std::string text_of(const char* what, int fd, std::error_code error) {
  std::string text = what;
  if (fd >= 0) text += " (descriptor " + std::to_string(fd) + ")";
  if (error == std::errc::operation_not_supported) text += ": a simulated world has no other processes";
  return text;
}

}  // namespace
}  // namespace detail

using detail::Arrival;
using detail::ConnectionState;
using detail::Readiness;
using detail::Received;

Connection::Connection() noexcept = default;
Connection::Connection(Connection&&) noexcept = default;
Connection::~Connection() { close(); }

Connection& Connection::operator=(Connection&& other) noexcept {
  if (this != &other) {
    close();
    state_ = std::move(other.state_);
  }
  return *this;
}

Connection::Connection(Fd end) {
  int type = 0;
  int domain = 0;
  ::socklen_t length = sizeof type;
  std::error_code error;
  if (::getsockopt(end.get(), SOL_SOCKET, SO_TYPE, &type, &length) != 0 ||
      ::getsockopt(end.get(), SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0) {
    error = {errno, std::generic_category()};
  } else if (type != SOCK_SEQPACKET || domain != AF_UNIX) {
    error = std::make_error_code(std::errc::wrong_protocol_type);
  }
  if (error) throw std::system_error(error, detail::text_of("make a connection", end.get(), error));
  state_ = std::make_shared<ConnectionState>(std::move(end));
}

std::pair<Connection, Connection> make_connection_pair() {
  std::error_code error;
  auto [first, second] = detail::make_message_sockets(error);
  if (error) throw std::system_error(error, "make a pair of connections: socketpair");
  return {Connection(std::move(first)), Connection(std::move(second))};
}

void Connection::close() noexcept {
  if (state_ == nullptr) return;
  const Fd closing = release();
}

Fd Connection::release() noexcept {
  if (state_ == nullptr) return {};
  state_->enter();
  state_->watch.detach();
  Fd released = std::move(state_->fd);
  state_.reset();
  return released;
}

int Connection::fd() const noexcept { return state_ != nullptr ? state_->fd.get() : -1; }
bool Connection::at_end() const noexcept { return state_ != nullptr && state_->at_end; }
std::size_t Connection::message_max() const noexcept {
  return state_ != nullptr ? state_->message_max : connection_message_max;
}
void Connection::set_message_max(std::size_t bytes) noexcept {
  if (state_ != nullptr) state_->message_max = bytes;
}

// --- Sending ---------------------------------------------------------------------------------------------------------

void Connection::send_raw(std::span<const std::byte> bytes, std::span<const int> fds, TimePoint until,
                          std::error_code& error) {
  error.clear();
  const std::shared_ptr<ConnectionState> state = state_;  // this Connection may end meanwhile
  if (state == nullptr) error = detail::closed_error();
  if (!error && detail::cancelled_here()) error = std::make_error_code(std::errc::operation_canceled);
  if (!error && bytes.size() > state->message_max) error = std::make_error_code(std::errc::message_size);
  if (error) return;
  state->enter();
  detail::OutgoingMessage message(bytes, fds, error);
  if (error) return;
  const detail::TurnHeld turn(state->sending, until, detail::describe_sending, error);
  while (!error) {
    if (!state->fd) {
      error = detail::closed_error();
    } else if (message.try_send(state->fd.get(), error)) {
      detail::charge_here();
      return;
    } else if (!error) {
      error = detail::wait_ready(state->watch, state->fd.get(), Readiness::writable, until);
    }
  }
}

bool Connection::send_or_throw(std::span<const std::byte> bytes, std::span<const int> fds, TimePoint until) {
  std::error_code error;
  send_raw(bytes, fds, until, error);
  if (error == std::errc::timed_out) return false;
  if (error == std::errc::message_size) {
    throw std::system_error(error, "send " + std::to_string(bytes.size()) + " bytes through a connection for up to " +
                                       std::to_string(message_max()));
  }
  if (error) detail::throw_error(error, detail::text_of("send through a connection", fd(), error));
  return true;
}

// --- Receiving -------------------------------------------------------------------------------------------------------

std::optional<Received> Connection::receive_raw(TimePoint until, std::error_code& error) {
  error.clear();
  const std::shared_ptr<ConnectionState> state = state_;
  if (state == nullptr) error = detail::closed_error();
  if (!error && detail::cancelled_here()) error = std::make_error_code(std::errc::operation_canceled);
  if (error) return std::nullopt;
  state->enter();
  detail::charge_here();  // now, for when others run what has come may not stay where it is
  const detail::TurnHeld turn(state->receiving, until, detail::describe_receiving, error);
  const bool in_loop = detail::current_loop->serial != 0;
  std::optional<Received> received(std::in_place);
  bool waits = until != TimePoint::min() && state->waits_first();
  bool has_waited = false;
  while (!error) {
    if (!state->fd) {
      error = detail::closed_error();
      break;
    }
    Arrival arrival = Arrival::nothing;
    if (waits) {
      arrival = detail::wait_and_receive(*state, until, *received, error);
      has_waited = true;
    } else {
      arrival = state->incoming.try_receive(state->fd.get(), state->message_max, *received, error);
      if (!has_waited) state->in_vain = arrival == Arrival::nothing;
    }
    switch (arrival) {
      case Arrival::message:
        if (!state->fd && received->large.empty()) {  // closed while it was on its way: the buffer goes with us
          received->large.assign(received->bytes.begin(), received->bytes.end());
          received->bytes = received->large;
        }
        return received;
      case Arrival::end:
        state->at_end = true;
        if (!state->fd)
          error = detail::closed_error();  // both ends were closed here, and the wait saw the other's first
        return std::nullopt;
      case Arrival::failed: return std::nullopt;
      case Arrival::nothing: break;
    }
    if (until == TimePoint::min()) error = std::make_error_code(std::errc::timed_out);
    waits = in_loop || !waits;  // a thread without one waits, then looks
  }
  return std::nullopt;
}

std::optional<Received> Connection::receive_or_throw(TimePoint until) {
  std::error_code error;
  std::optional<Received> received = receive_raw(until, error);
  if (error && error != std::errc::timed_out) {
    detail::throw_error(error, detail::text_of("receive from a connection", fd(), error));
  }
  return received;
}

std::optional<std::vector<std::byte>> Connection::owned(std::optional<Received>&& received) {
  if (!received) return std::nullopt;
  if (!received->large.empty()) return std::move(received->large);
  return std::vector<std::byte>(received->bytes.begin(), received->bytes.end());
}

std::optional<Message> Connection::whole(std::optional<Received>&& received) {
  if (!received) return std::nullopt;
  std::vector<Fd> fds = std::move(received->fds);
  return Message{*owned(std::move(received)), std::move(fds)};
}

std::optional<std::vector<std::byte>> Connection::receive_bytes() { return owned(receive_or_throw(TimePoint::max())); }

std::optional<std::vector<std::byte>> Connection::receive_bytes(std::error_code& error) {
  return owned(receive_raw(TimePoint::max(), error));
}

std::optional<Message> Connection::receive_message() { return whole(receive_or_throw(TimePoint::max())); }

std::optional<Message> Connection::receive_message(std::error_code& error) {
  return whole(receive_raw(TimePoint::max(), error));
}

// --- Waiting for something to receive --------------------------------------------------------------------------------

bool Connection::poll_until(TimePoint until) {
  const std::shared_ptr<ConnectionState> state = state_;
  std::error_code error;
  if (state == nullptr) error = detail::closed_error();
  if (!error && detail::cancelled_here()) error = std::make_error_code(std::errc::operation_canceled);
  if (!error) {
    state->enter();
    if (detail::is_readable(state->fd.get())) return true;
    const detail::TurnHeld turn(state->receiving, until, detail::describe_receiving, error);
    if (!error && !state->fd) error = detail::closed_error();
    if (!error) error = detail::wait_ready(state->watch, state->fd.get(), Readiness::readable, until);
  }
  if (error && error != std::errc::timed_out) {
    detail::throw_error(error, detail::text_of("poll a connection", fd(), error));
  }
  return !error;
}

FdWatch& Connection::watch() {
  std::error_code error;
  FdWatch* watch = nullptr;
  if (state_ == nullptr) {
    error = detail::closed_error();
  } else {
    state_->enter();
    watch = state_->watch.attach(state_->fd.get(), error);
  }
  if (error) detail::throw_error(error, detail::text_of("wait for a connection", fd(), error));
  return *watch;
}

}  // namespace bight
