// SPDX-License-Identifier: Apache-2.0
// The cheapest epoll server we know how to write: what every layer above epoll has to be compared with.
//
// Edge-triggered, one epoll_ctl per connection, one recv and one send per message, a share of one epoll_wait: a read
// that was short of the buffer has drained the socket, so no second one asks.

#include "floor.hpp"

#include <memory>

#include <sys/epoll.h>

namespace bench::floors {
namespace {

constexpr const char* kHelp = R"(usage: epoll_floor [options]

A bare single-threaded epoll server: the floor that servers on an epoll engine are compared with.

  --host H           IPv4 address to listen on (127.0.0.1)
  --port P           port; 0 picks a free one (0)
  --mode echo|http   send back what comes, or answer every blank line with a fixed HTTP response (echo)
  --smoke            check a few exchanges with itself, and end
  --help             this text

Prints 'listening on ADDRESS:PORT' when ready; on SIGTERM or SIGINT prints 'served N' and ends. N counts answered
requests, or reads that were echoed.
)";

constexpr std::size_t kReceiveBuffer = 64 * 1024;  // one for all connections: it stays in the cache
constexpr int kAcceptRetry = 10;                   // milliseconds, while there are no descriptors left
constexpr std::uint32_t kHangup = EPOLLRDHUP | EPOLLHUP | EPOLLERR;

struct Connection {
  std::unique_ptr<Rest> rest;  // of an echo
  std::uint64_t owed = 0;      // bytes of HTTP answers
  BlankLines requests;
  bool hung_up = false;         // the peer sends no more; read on until the end shows
  bool unread = false;          // is among those to be read next turn
  bool watches_output = false;  // once blocked, always: a second epoll_ctl is rarer so than with going back
};

class EpollFloor {
 public:
  EpollFloor(Mode mode, Descriptor listener, const StopSignals& signals)
      : mode_(mode), listener_(std::move(listener)), buffer_(kReceiveBuffer) {
    if (epoll_.get() < 0) fail("epoll_create1");
    control(EPOLL_CTL_ADD, EPOLLIN, listener_.get());
    control(EPOLL_CTL_ADD, EPOLLIN, signals.fd());
    stop_fd_ = signals.fd();
  }

  std::uint64_t run() {
    while (!stopped_) turn();
    return served_;
  }

 private:
  void turn() {
    const int timeout = !unread_.empty() ? 0 : accepting_ ? -1 : kAcceptRetry;
    const int count = ::epoll_wait(epoll_.get(), events_.data(), static_cast<int>(events_.size()), timeout);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    if (mode_ == Mode::http) answers_.refresh(std::time(nullptr));
    read_on();
    for (int i = 0; i < count; ++i) handle(events_[static_cast<std::size_t>(i)]);
    if (!accepting_ && count == 0) watch_listener(true);
  }

  void handle(const epoll_event& event) {
    const int fd = event.data.fd;
    if (fd == listener_.get()) return accept_one();
    if (fd == stop_fd_) {
      stopped_ = true;
      return;
    }
    Connection& connection = connections_[static_cast<std::size_t>(fd)];
    if ((event.events & kHangup) != 0) connection.hung_up = true;
    if ((event.events & EPOLLOUT) != 0 && is_blocked(connection) && !flush(fd, connection)) return;
    if (!is_blocked(connection)) read_once(fd, connection);
  }

  // One per turn: an accept4 that finds nobody costs nearly as much as one that does, so asking until there is nobody
  // made a short connection 8 to 10 % dearer. Reading at once from a new connection gained nothing.
  void accept_one() {
    const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) watch_listener(false);
      return;
    }
    const auto place = static_cast<std::size_t>(fd);
    if (connections_.size() <= place) connections_.resize(place + place / 2 + 64);
    control(EPOLL_CTL_ADD, EPOLLIN | EPOLLRDHUP | EPOLLET, fd);
  }

  // Without a free descriptor a watched listener would be ready for ever.
  void watch_listener(bool accepting) {
    if (accepting_ == accepting) return;
    accepting_ = accepting;
    control(EPOLL_CTL_MOD, accepting ? EPOLLIN : 0u, listener_.get());
  }

  // One read per connection and turn, so that a peer that never pauses does not keep the others waiting.
  void read_on() {
    reading_.swap(unread_);
    for (const int fd : reading_) {
      Connection& connection = connections_[static_cast<std::size_t>(fd)];
      if (!std::exchange(connection.unread, false)) continue;  // closed since
      if (!is_blocked(connection)) read_once(fd, connection);
    }
    reading_.clear();
  }

  void read_next_turn(int fd, Connection& connection) {
    if (!std::exchange(connection.unread, true)) unread_.push_back(fd);
  }

  void read_once(int fd, Connection& connection) {
    const ssize_t size = ::recv(fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (size > 0) {
      const std::span<const char> bytes(buffer_.data(), static_cast<std::size_t>(size));
      const bool goes_on = mode_ == Mode::echo ? echo(fd, connection, bytes) : answer(fd, connection, bytes);
      if (goes_on && (bytes.size() == buffer_.size() || connection.hung_up)) read_next_turn(fd, connection);
      return;
    }
    if (size < 0 && errno == EINTR) return read_next_turn(fd, connection);
    if (size < 0 && errno == EAGAIN) return;
    close(fd, connection);
  }

  // These three return false when there is no reading on for now: the connection is closed, or blocked.

  bool echo(int fd, Connection& connection, std::span<const char> bytes) {
    ++served_;
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == static_cast<ssize_t>(bytes.size())) return true;
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return close(fd, connection);
    const auto rest = bytes.subspan(static_cast<std::size_t>(std::max<ssize_t>(sent, 0)));
    connection.rest = std::make_unique<Rest>(Rest{.bytes = {rest.begin(), rest.end()}, .sent = 0, .later = {}});
    return watch_output(fd, connection);
  }

  bool answer(int fd, Connection& connection, std::span<const char> bytes) {
    const std::uint32_t requests = connection.requests.count(bytes);
    served_ += requests;
    connection.owed += requests * answers_.size();
    return requests == 0 || flush(fd, connection);
  }

  bool flush(int fd, Connection& connection) {
    while (is_blocked(connection)) {
      const std::span<const char> bytes = pending(connection);
      const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0 && errno == EAGAIN) return watch_output(fd, connection);
      if (sent < 0 && errno != EINTR) return close(fd, connection);
      if (sent > 0) advance(connection, static_cast<std::size_t>(sent));
    }
    return true;
  }

  [[nodiscard]] static bool is_blocked(const Connection& connection) { return connection.owed > 0 || connection.rest; }

  [[nodiscard]] std::span<const char> pending(const Connection& connection) const {
    if (connection.rest) return connection.rest->pending();
    return answers_.next(connection.owed);
  }

  static void advance(Connection& connection, std::size_t sent) {
    if (!connection.rest) {
      connection.owed -= sent;
    } else if (!connection.rest->advance(sent)) {
      connection.rest.reset();
    }
  }

  bool watch_output(int fd, Connection& connection) {
    if (!connection.watches_output) control(EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, fd);
    connection.watches_output = true;
    return false;
  }

  bool close(int fd, Connection& connection) {
    ::close(fd);
    connection = {};
    watch_listener(true);
    return false;
  }

  void control(int operation, std::uint32_t events, int fd) {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    if (::epoll_ctl(epoll_.get(), operation, fd, &event) != 0) fail("epoll_ctl");
  }

  Mode mode_;
  Descriptor listener_;
  int stop_fd_ = -1;
  Descriptor epoll_{::epoll_create1(EPOLL_CLOEXEC)};
  std::vector<Connection> connections_;  // by descriptor
  std::vector<int> unread_;              // there may be more to read than was read
  std::vector<int> reading_;
  std::vector<char> buffer_;
  std::array<epoll_event, 512> events_;
  Answers answers_;
  std::uint64_t served_ = 0;
  bool accepting_ = true;
  bool stopped_ = false;
};

}  // namespace
}  // namespace bench::floors

int main(int argc, char** argv) {
  using namespace bench::floors;
  return floor_main(argc, argv, kHelp, [](const Options& options, bench::Descriptor listener, StopSignals& signals) {
    const std::uint64_t served = EpollFloor(options.mode, std::move(listener), signals).run();
    signals.take();
    return served;
  });
}
