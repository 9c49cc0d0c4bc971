// SPDX-License-Identifier: Apache-2.0
// Resolves many names with nothing but c-ares and epoll: what bight's resolver is compared with.

#include <ares.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <string>
#include <thread>

#include "dns_server.hpp"
#include "options.hpp"

namespace {

class Run {
 public:
  explicit Run(const bench::ResolveOptions& options) : options_(options), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    ares_options settings{};
    char lookups[] = "b";  // not the hosts file, which it would read anew for each name
    settings.lookups = lookups;
    settings.sock_state_cb = [](void* self, ares_socket_t fd, int readable, int writable) {
      static_cast<Run*>(self)->watch(fd, readable, writable);
    };
    settings.sock_state_cb_data = this;
    settings.socket_receive_buffer_size = 4 * 1024 * 1024;  // it has one socket, where more is lost than has room
    const int mask = ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB | ARES_OPT_SOCK_RCVBUF;
    if (ares_init_options(&channel_, &settings, mask) != ARES_SUCCESS) {
      bench::fail("set c-ares up", ENOMEM);
    }
    const std::string server = "127.0.0.1:" + std::to_string(options.port);
    if (ares_set_servers_ports_csv(channel_, server.c_str()) != ARES_SUCCESS) bench::fail("set the server", EINVAL);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run() {
    ares_destroy(channel_);
    ::close(epoll_);
  }

  unsigned go() {
    while (started_ < options_.names && under_way_ < options_.concurrency) start();
    while (under_way_ > 0) {
      ::timeval limit{};
      const ::timeval* next = ares_timeout(channel_, nullptr, &limit);
      const int wait = next != nullptr ? static_cast<int>(next->tv_sec * 1000 + next->tv_usec / 1000 + 1) : -1;
      std::array<::epoll_event, 64> events{};
      const int count = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), wait);
      for (int i = 0; i < count; ++i) {
        const ::epoll_event& event = events[static_cast<std::size_t>(i)];
        const bool reads = (event.events & ~static_cast<unsigned>(EPOLLOUT)) != 0;
        const bool writes = (event.events & EPOLLOUT) != 0;
        ares_process_fd(channel_, reads ? event.data.fd : ARES_SOCKET_BAD, writes ? event.data.fd : ARES_SOCKET_BAD);
      }
      if (count <= 0) ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
      while (started_ < options_.names && under_way_ < options_.concurrency) start();
    }
    return found_;
  }

 private:
  void start() {
    const std::string name = "host" + std::to_string(started_++) + ".example.com";
    ++under_way_;
    ares_addrinfo_hints hints{};
    hints.ai_family = options_.both ? AF_UNSPEC : AF_INET;
    hints.ai_flags = ARES_AI_NOSORT;
    ares_getaddrinfo(
        channel_, name.c_str(), nullptr, &hints,
        [](void* self, int status, int /*timeouts*/, ares_addrinfo* result) {
          auto& run = *static_cast<Run*>(self);
          --run.under_way_;
          if (status == ARES_SUCCESS && result != nullptr && result->nodes != nullptr) ++run.found_;
          if (result != nullptr) ares_freeaddrinfo(result);
        },
        this);
  }

  void watch(ares_socket_t fd, int readable, int writable) const {
    ::epoll_event event{};
    event.data.fd = fd;
    event.events = (readable != 0 ? EPOLLIN : 0U) | (writable != 0 ? EPOLLOUT : 0U);
    if (event.events == 0) {
      ::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
    } else if (::epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event) != 0) {
      ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
    }
  }

  const bench::ResolveOptions& options_;
  int epoll_;
  ares_channel channel_{};
  unsigned started_ = 0;
  unsigned under_way_ = 0;
  unsigned found_ = 0;
};

int resolve(bench::ResolveOptions options) {
  std::thread server;
  if (options.port == 0) {
    auto own = std::make_unique<bench::NameServer>(0);
    options.port = own->port();
    server = std::thread([own = std::move(own)] { own->serve(true); });
  }
  Run run(options);
  const bench::Watch watch;
  const unsigned found = run.go();
  bench::report("c-ares", options, found, watch.seconds(), watch.cpu());
  if (server.joinable()) server.join();
  return found == options.names ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::guarded("dns_cares", [&] { return resolve(bench::ResolveOptions::parse(argc, argv)); });
}
