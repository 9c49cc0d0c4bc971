// SPDX-License-Identifier: Apache-2.0

// Both ends of a proxy: the server behind it and its clients, in one thread, which costs less than the proxy does. Says
// where the server listens; reads a line with the proxy's port and process; then measures, and prints a line of JSON:
// what went through, and the processor time that the proxy took for it.
//
//   stream     the server sends without end, the clients drop what comes, without a copy
//   messages   a client sends a message when the last one has come back; the server echoes

#include <sys/epoll.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "../common/arguments.hpp"
#include "../common/sockets.hpp"

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  bool messages = false;
  bool upload = false;
  unsigned connections = 0;  // 0: 4 streams, or 64 with messages
  std::size_t size = 64;     // of a message
  double seconds = 1;
  double warm_up = 0.2;
};

double cpu_seconds(pid_t process) {
  clockid_t clock{};
  timespec time{};
  if (::clock_getcpuclockid(process, &clock) != 0 || ::clock_gettime(clock, &time) != 0) fail("clock_gettime");
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

enum class Role { listener, source, sink, echo, pinger };

struct Peer {
  Role role = Role::listener;
  Descriptor fd;
  std::size_t waits_for = 0;  // bytes of the message that is on its way back
};

class Load {
 public:
  explicit Load(const Options& options)
      : options_(options), epoll_(::epoll_create1(EPOLL_CLOEXEC)), bytes_(std::size_t{256} * 1024) {
    const Endpoint any = Endpoint::of("127.0.0.1", 0);
    add(Role::listener, listen_on(any));
  }

  [[nodiscard]] std::uint16_t port() const { return ntohs(Endpoint::local_of(peers_[0]->fd.get()).address.sin_port); }

  void connect(std::uint16_t proxy) {
    for (unsigned n = 0; n < options_.connections; ++n) {
      Descriptor fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      const Endpoint endpoint = Endpoint::of("127.0.0.1", proxy);
      if (::connect(fd.get(), endpoint.raw(), Endpoint::raw_size()) != 0) fail("connect to the proxy");
      set_option(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1);
      Peer& peer = add(options_.messages ? Role::pinger : options_.upload ? Role::source : Role::sink, std::move(fd));
      if (options_.messages) ping(peer);
    }
  }

  void run_for(double seconds) {
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    while (Clock::now() < end) turn();
  }

  std::uint64_t done = 0;  // bytes, or messages

 private:
  Peer& add(Role role, Descriptor fd) {
    peers_.push_back(std::make_unique<Peer>());
    Peer& peer = *peers_.back();
    peer.role = role;
    peer.fd = std::move(fd);
    epoll_event event{};
    event.events = role == Role::source ? EPOLLOUT : EPOLLIN;
    event.data.ptr = &peer;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, peer.fd.get(), &event) != 0) fail("epoll_ctl");
    return peer;
  }

  void turn() {
    std::array<epoll_event, 128> events;
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 100);
    for (int n = 0; n < count; ++n) on_ready(*static_cast<Peer*>(events[static_cast<std::size_t>(n)].data.ptr));
  }

  void on_ready(Peer& peer) {
    switch (peer.role) {
      case Role::listener: accept(); break;
      case Role::source: ::send(peer.fd.get(), bytes_.data(), bytes_.size(), MSG_DONTWAIT | MSG_NOSIGNAL); break;
      case Role::sink: done += receive(peer, MSG_TRUNC); break;
      case Role::echo: {
        const std::size_t count = receive(peer, 0);
        if (::send(peer.fd.get(), bytes_.data(), count, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) fail("echo");
        break;
      }
      case Role::pinger:
        peer.waits_for -= receive(peer, 0);
        if (peer.waits_for != 0) break;
        ++done;
        ping(peer);
        break;
    }
  }

  void accept() {
    Descriptor fd(::accept4(peers_[0]->fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.get() < 0) return;
    add(options_.messages ? Role::echo : options_.upload ? Role::sink : Role::source, std::move(fd));
  }

  std::size_t receive(Peer& peer, int flags) {
    const ssize_t count = ::recv(peer.fd.get(), bytes_.data(), bytes_.size(), flags | MSG_DONTWAIT);
    if (count < 0 && errno == EAGAIN) return 0;
    if (count < 0) fail("receive");
    if (count == 0) throw std::runtime_error("the proxy has closed a connection");
    return static_cast<std::size_t>(count);
  }

  void ping(Peer& peer) {
    peer.waits_for = options_.size;
    if (::send(peer.fd.get(), bytes_.data(), options_.size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) fail("send");
  }

  const Options& options_;
  Descriptor epoll_;
  std::vector<std::unique_ptr<Peer>> peers_;
  std::vector<char> bytes_;
};

int run(int argc, char** argv) {
  Options options;
  Arguments arguments(argc, argv);
  while (arguments.next()) {
    if (arguments.is("--what")) {
      const std::string_view what = arguments.value();
      if (what != "stream" && what != "messages") throw UsageError("--what wants stream or messages");
      options.messages = what == "messages";
    } else if (arguments.is("--upload")) {
      options.upload = true;
    } else if (arguments.is("--connections")) {
      options.connections = arguments.number<unsigned>(1, 1000);
    } else if (arguments.is("--size")) {
      options.size = arguments.number<std::size_t>(1, 65'536);
    } else if (arguments.is("--milliseconds")) {
      options.seconds = arguments.number<unsigned>(1, 1'000'000) / 1e3;
    } else if (arguments.is("--help")) {
      std::puts(
          "usage: proxy_load [--what stream|messages] [--upload] [--connections N] [--size BYTES] [--milliseconds "
          "N]\n\n"
          "Prints the server's port; reads `PORT PROCESS` of the proxy; prints what went through, and at what cost.");
      return 0;
    } else {
      arguments.unknown();
    }
  }
  if (options.connections == 0) options.connections = options.messages ? 64 : 4;
  Load load(options);
  std::cout << load.port() << std::endl;
  std::uint16_t proxy = 0;
  pid_t process = 0;
  if (!(std::cin >> proxy >> process)) throw std::runtime_error("no proxy was named");
  load.connect(proxy);
  load.run_for(options.warm_up);
  const double cpu = cpu_seconds(process);
  const auto begin = Clock::now();
  load.done = 0;
  load.run_for(options.seconds);
  const double used = cpu_seconds(process) - cpu;
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  std::printf("{\"done\": %llu, \"cpu_seconds\": %.9f, \"seconds\": %.9f}\n",
              static_cast<unsigned long long>(load.done), used, seconds);
  return 0;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  try {
    return bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "proxy_load: %s\n", error.what());
    return 1;
  }
}
