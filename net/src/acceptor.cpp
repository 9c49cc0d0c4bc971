// SPDX-License-Identifier: Apache-2.0
#include <bight/net/detail/acceptor.hpp>

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/log.hpp>

#include "describe.hpp"

namespace bight::net::detail {
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

/// Resets it: without a trace, as a TIME_WAIT would need memory.
void turn_away(Socket accepted) noexcept {
  if (!accepted) return;
  const ::linger at_once{.l_onoff = 1, .l_linger = 0};
  std::error_code ignored;
  accepted.set_option(SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once, ignored);
}

}  // namespace

Acceptor::Acceptor(Socket socket, unsigned budget, Duration pause) noexcept
    : socket_(std::move(socket)), reserve_(make_reserve()), budget_(budget), pause_(pause) {}

Socket Acceptor::accept(std::error_code& error) {
  if (accepted_in_a_row_ >= budget_) {
    accepted_in_a_row_ = 0;
    settle([] { yield(); }, error);
    if (error) return {};
  }
  TimePoint expiry{};  // of the timeout; what is spent on resting counts, too
  for (;;) {
    Socket accepted = socket_.accept(error);
    if (!error) {
      ++accepted_in_a_row_;
      return accepted;
    }
    if (concerns_the_connection(error)) continue;
    if (!is_passing(error)) return {};
    if (expiry == TimePoint{} && socket_.read_timeout() > Duration::zero()) {
      expiry = bight::detail::saturating_add(now(), socket_.read_timeout());
    }
    accepted = ride_out(error);
    if (error || accepted) return accepted;
    if (expiry != TimePoint{} && now() >= expiry) {
      error = std::make_error_code(std::errc::timed_out);
      return {};
    }
  }
}

/// Accepting has just failed for want of descriptors or memory. Returns a connection after all, or an error that is not
/// of that kind, or neither, after a rest: then it is time to try again.
Socket Acceptor::ride_out(std::error_code& error) {
  note_exhaustion(error);
  if (lacks_descriptors(error)) {
    // The system asks for a descriptor before it looks for a connection. So there may be none, and this may wait for
    // the next one.
    reserve_.close();
    Socket accepted = socket_.accept(error);
    if (socket_) reserve_ = make_reserve();  // also for an outage that this one does not live to see
    if (error && !is_passing(error)) return {};
    if (accepted && reserve_) return accepted;  // there are descriptors again
    turn_away(std::move(accepted));
    if (!reserve_) reserve_ = make_reserve();
  }
  settle([this] { sleep_for(pause_); }, error);
  return {};
}

void Acceptor::note_exhaustion(std::error_code error) noexcept {
  const TimePoint time = now();
  const bool known = time < outage_over_;
  outage_over_ = time + kCalm;
  if (known) return;
  try {
    bight::detail::log_warning("accept on " + describe_local(socket_) + ": " + error.message() +
                               ": connections have to wait or are turned away");
  } catch (...) {
    bight::detail::log_warning("accept: out of memory: connections have to wait");
  }
}

void Acceptor::close() noexcept {
  socket_.close();
  reserve_.close();
}

}  // namespace bight::net::detail
