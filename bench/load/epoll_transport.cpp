// SPDX-License-Identifier: Apache-2.0
#include "transport.hpp"

#include "../common/sockets.hpp"

#include <array>
#include <vector>

#include <sys/epoll.h>

namespace bench::load {
namespace {

constexpr std::size_t kReceiveBuffer = 256 * 1024;

// Edge-triggered: the kernel need not look again at a socket that was read until it was short of bytes.
constexpr std::uint32_t kInput = EPOLLIN | EPOLLRDHUP | EPOLLET;
constexpr std::uint32_t kHangup = EPOLLRDHUP | EPOLLHUP | EPOLLERR;

class EpollTransport final : public Transport {
 public:
  explicit EpollTransport(const TransportOptions& options) : pattern_(options.pattern), buffer_(kReceiveBuffer) {
    if (epoll_.get() < 0) fail("epoll_create1");
  }

  [[nodiscard]] const char* name() const override { return "epoll"; }

  void open(Link& link) override { control(EPOLL_CTL_ADD, kInput, link); }

  void send(Link& link, std::uint64_t bytes) override {
    link.unsent += bytes;
    if (!link.sending) push(link);
  }

  void close(Link& link) override {
    ::close(link.fd);
    link.fd = -1;
    link.sending = false;
    link.send_error = 0;
  }

  void wait(Nanoseconds deadline, Observer& observer) override {
    const timespec timeout = between(now(), deadline);
    const int count = ::epoll_pwait2(epoll_.get(), events_.data(), static_cast<int>(events_.size()), &timeout, nullptr);
    if (count < 0 && errno != EINTR) fail("epoll_pwait2");
    for (int i = 0; i < count; ++i) {
      Link& link = *static_cast<Link*>(events_[static_cast<std::size_t>(i)].data.ptr);
      const std::uint32_t what = events_[static_cast<std::size_t>(i)].events;
      if (link.sending && (what & EPOLLOUT) != 0) push(link);
      if ((what & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0) pull(link, (what & kHangup) != 0, observer);
    }
  }

 private:
  void control(int operation, std::uint32_t events, Link& link) {
    epoll_event event{};
    event.events = events;
    event.data.ptr = &link;
    if (::epoll_ctl(epoll_.get(), operation, link.fd, &event) != 0) fail("epoll_ctl");
  }

  // That the link ended is left to recv(2) to report, after the last answer.
  void push(Link& link) {
    while (link.unsent > 0) {
      const std::size_t length = std::min<std::uint64_t>(link.unsent, Pattern::kRun);
      const ssize_t taken = ::send(link.fd, pattern_.at(link.id, link.sent), length, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (taken < 0) {
        if (errno != EAGAIN && errno != EINTR && link.send_error == 0) link.send_error = errno;
        break;
      }
      link.sent += static_cast<std::uint64_t>(taken);
      link.unsent -= static_cast<std::uint64_t>(taken);
    }
    const bool blocked = link.unsent > 0;
    if (blocked == link.sending) return;
    link.sending = blocked;
    control(EPOLL_CTL_MOD, blocked ? kInput | EPOLLOUT : kInput, link);
  }

  // The observer may close the link, or open it anew, while it is told of bytes.
  void pull(Link& link, bool hung_up, Observer& observer) {
    for (const int fd = link.fd; link.fd == fd;) {
      const ssize_t length = ::recv(fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
      if (length < 0 && errno == EINTR) continue;
      if (length < 0 && errno == EAGAIN) return;
      if (length <= 0) return observer.on_lost(link, error_of(link, length == 0 ? 0 : errno));
      const auto size = static_cast<std::size_t>(length);
      observer.on_bytes(link, {buffer_.data(), size});
      if (size < buffer_.size() && !hung_up) return;
    }
  }

  const Pattern& pattern_;
  Descriptor epoll_{::epoll_create1(EPOLL_CLOEXEC)};
  std::array<epoll_event, 256> events_;
  std::vector<char> buffer_;
};

}  // namespace

std::unique_ptr<Transport> make_epoll_transport(const TransportOptions& options) {
  return std::make_unique<EpollTransport>(options);
}

}  // namespace bench::load
