// SPDX-License-Identifier: Apache-2.0
#include <poll.h>

#include <cerrno>

#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/log.hpp>
#include <bight/net/tcp.hpp>

#include "describe.hpp"
#include "listening.hpp"

namespace bight::net {
namespace {

constexpr Duration kCalm = std::chrono::seconds(1);  // without exhaustion, after which the next one is logged again

/// A descriptor for its own sake, from where those of connections come from. None when there are none.
Socket make_reserve() noexcept {
  std::error_code error;
  return Socket::open(AF_INET, SOCK_STREAM, IPPROTO_TCP, error);
}

/// Errors of a connection rather than of accepting: accept(2), "Error handling".
bool concerns_the_connection(std::error_code error) noexcept {
  switch (error.value()) {
    case ECONNABORTED:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case EINTR:
    case ENETDOWN:
    case ENETUNREACH:
    case ENONET:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case EPERM:  // a firewall's doing
    case EPROTO: return true;
    default: return false;
  }
}

bool lacks_descriptors(std::error_code error) noexcept { return error.value() == EMFILE || error.value() == ENFILE; }

/// ENOSPC: the user's epoll sets watch as many descriptors as fs.epoll.max_user_watches allows.
bool lacks_memory(std::error_code error) noexcept {
  return error.value() == ENOBUFS || error.value() == ENOMEM || error.value() == ENOSPC;
}

bool is_passing(std::error_code error) noexcept {
  return concerns_the_connection(error) || lacks_descriptors(error) || lacks_memory(error);
}

auto option_setter(Socket& socket) noexcept {
  return [&socket](int level, int name, int value) {
    std::error_code error;
    socket.set_option(level, name, value, error);
    return error;
  };
}

/// yield(), sleep_for() and the like in the error_code form.
template <class Wait>
void settle(Wait&& wait, std::error_code& error) {
  error.clear();
  try {
    wait();
  } catch (const Cancelled&) {
    error = std::make_error_code(std::errc::operation_canceled);
  }
}

}  // namespace

// --- Making one ------------------------------------------------------------------------------------------------------

TcpListener::TcpListener(Socket socket, const ListenOptions& options) noexcept
    : socket_(std::move(socket)), reserve_(make_reserve()), options_(options) {}

TcpListener TcpListener::bind(const Address& address, const ListenOptions& options, std::error_code& error) noexcept {
  Socket socket = Socket::open(address.family(), SOCK_STREAM, IPPROTO_TCP, error);
  if (error) return {};
  error = detail::set_listening_options(options, address.family(), option_setter(socket));
  if (!error) socket.bind(address.native(), address.native_size(), error);
  if (!error) socket.listen(options.backlog, error);
  if (error) return {};
  return {std::move(socket), options};
}

TcpListener TcpListener::bind(const Address& address, const ListenOptions& options) {
  std::error_code error;
  TcpListener listener = bind(address, options, error);
  if (error) bight::detail::throw_error(error, "bind " + address.to_string());
  return listener;
}

TcpListener TcpListener::bind(std::string_view address, const ListenOptions& options) {
  return bind(Address::parse(address), options);
}

TcpListener TcpListener::adopt(Fd listening, const ListenOptions& options) {
  const std::string what = "adopt descriptor " + std::to_string(listening.get()) + " as a listener";
  if (!listening) bight::detail::throw_error(std::make_error_code(std::errc::bad_file_descriptor), what);
  Socket socket(listening.get());
  static_cast<void>(listening.release());
  std::error_code error;
  if (socket.option(SOL_SOCKET, SO_ACCEPTCONN, error) == 0 && !error) {
    error = std::make_error_code(std::errc::invalid_argument);
  }
  if (error) bight::detail::throw_error(error, what);
  // A Unix socket has no such options and needs none.
  static_cast<void>(detail::set_inherited_options(option_setter(socket)));
  return {std::move(socket), options};
}

TcpListener TcpListener::share(Fd listening, const ListenOptions& options) {
  TcpListener listener = adopt(std::move(listening), options);
  listener.shared_ = true;
  return listener;
}

// --- Accepting -------------------------------------------------------------------------------------------------------

TcpStream TcpListener::accept() {
  std::error_code error;
  TcpStream stream = accept(error);
  if (error) detail::throw_with_local(error, "accept on", socket_);
  return stream;
}

TcpStream TcpListener::accept(std::error_code& error) {
  if (accepted_in_a_row_ >= options_.accept_budget) {
    accepted_in_a_row_ = 0;
    settle([] { yield(); }, error);
    if (error) return {};
  }
  TimePoint expiry{};  // of the timeout; what is spent on resting counts, too
  for (;;) {
    Socket accepted = socket_.accept(error);
    if (!error) {
      ++accepted_in_a_row_;
      return TcpStream(std::move(accepted));
    }
    if (concerns_the_connection(error)) continue;
    if (!is_passing(error)) return {};
    if (expiry == TimePoint{} && socket_.read_timeout() > Duration::zero()) {
      expiry = bight::detail::saturating_add(now(), socket_.read_timeout());
    }
    TcpStream stream = ride_out(error);
    if (error || stream.is_open()) return stream;
    if (expiry != TimePoint{} && now() >= expiry) {
      error = std::make_error_code(std::errc::timed_out);
      return {};
    }
  }
}

/// Accepting has just failed for want of descriptors or memory. Returns a connection after all, or an error that is not
/// of that kind, or neither, after a rest: then it is time to try again.
TcpStream TcpListener::ride_out(std::error_code& error) {
  note_exhaustion(error);
  if (lacks_descriptors(error)) {
    // The system asks for a descriptor before it looks for a connection. So there may be none, and this may wait for
    // the next one.
    reserve_.close();
    Socket accepted = socket_.accept(error);
    if (socket_) reserve_ = make_reserve();  // also for an outage that this one does not live to see
    if (error && !is_passing(error)) return {};
    if (accepted && reserve_) return TcpStream(std::move(accepted));  // there are descriptors again
    TcpStream(std::move(accepted)).reset();                           // without a trace: a TIME_WAIT would need memory
    if (!reserve_) reserve_ = make_reserve();
  }
  settle([this] { sleep_for(options_.exhausted_pause); }, error);
  return {};
}

void TcpListener::note_exhaustion(std::error_code error) noexcept {
  const TimePoint time = now();
  const bool known = time < outage_over_;
  outage_over_ = time + kCalm;
  if (known) return;
  try {
    bight::detail::log_warning("accept on " + detail::describe_local(socket_) + ": " + error.message() +
                               ": connections have to wait or are turned away");
  } catch (...) {
    bight::detail::log_warning("accept: out of memory: connections have to wait");
  }
}

// --- The rest --------------------------------------------------------------------------------------------------------

void TcpListener::close() noexcept {
  socket_.close();
  reserve_.close();
}

Address TcpListener::local_address() const {
  std::error_code error;
  const Address address = local_address(error);
  if (error) bight::detail::throw_error(error, "find the address of a listener");
  return address;
}

Address TcpListener::local_address(std::error_code& error) const noexcept {
  ::sockaddr_storage address{};
  const ::socklen_t length = socket_.local_name(address, error);
  return error ? Address() : Address::from_native(reinterpret_cast<const ::sockaddr*>(&address), length);
}

bool TcpListener::has_waiting() const noexcept {
  ::pollfd poll{socket_.fd(), POLLIN, 0};
  return socket_ && ::poll(&poll, 1, 0) > 0;
}

void TcpListener::set_timeout(Duration limit) noexcept { socket_.set_read_timeout(limit); }

}  // namespace bight::net
