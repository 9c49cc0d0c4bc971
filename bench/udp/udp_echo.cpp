// SPDX-License-Identifier: Apache-2.0

// What an echo of small datagrams costs a server, in CPU time: a bare epoll loop of recvfrom(2) and sendto(2), the
// floor, beside the library, one datagram at a time, in batches, and with segments glued together, on each engine. The
// servers take turns; each is a process of its own, and this one is the load.

#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <netinet/udp.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <bight/net/udp.hpp>
#include <bight/run.hpp>

#include "../common/arguments.hpp"
#include "../common/sockets.hpp"

namespace bench {
namespace {

namespace net = bight::net;

struct Options {
  std::uint64_t messages = 400'000;
  unsigned rounds = 5;
  unsigned clients = 8;
  std::size_t size = 64;
  std::size_t window = 32;  // messages that a client has on their way
  bool json = false;
  bool segments = false;  // the load sends its windows glued together
};

constexpr std::size_t kWindowMax = 32;

// --- Servers. Each tells its port through `tell`, and runs until it is killed.
// -----------------------------------------

using Tell = std::function<void(std::uint16_t)>;

void serve_bare(const Tell& tell) {
  const Descriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const Endpoint any = Endpoint::of("127.0.0.1", 0);
  if (::bind(socket.get(), any.raw(), sizeof any.address) != 0) fail("bind");
  tell(ntohs(Endpoint::local_of(socket.get()).address.sin_port));
  const Descriptor epoll(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN;
  ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, socket.get(), &event);
  std::array<char, 2048> buffer;
  for (;;) {
    if (::epoll_wait(epoll.get(), &event, 1, -1) < 0) continue;
    for (;;) {
      sockaddr_storage peer;
      socklen_t length = sizeof peer;
      const ssize_t count =
          ::recvfrom(socket.get(), buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&peer), &length);
      if (count < 0) break;
      ::sendto(socket.get(), buffer.data(), static_cast<std::size_t>(count), 0, reinterpret_cast<sockaddr*>(&peer),
               length);
    }
  }
}

enum class Way { single, batch, segments };

void serve_bight(bight::EngineChoice engine, Way way, const Tell& tell) {
  bight::RunOptions run;
  run.engine = engine;
  run.stop_on_signals = false;
  bight::run(run, [&] {
    net::UdpOptions options;
    options.receive_segments = way == Way::segments;
    auto socket = net::UdpSocket::bind(net::Address::loopback_v4(0), options);
    tell(socket.local_address().port());
    if (way == Way::single) {
      std::array<std::byte, 2048> buffer;
      for (;;) {
        const net::UdpDatagram got = socket.receive(buffer);
        socket.reply(got, std::span(buffer).first(got.size));
      }
    }
    net::UdpBatch batch(64, way == Way::segments ? net::kUdpBufferMax : 2048);
    for (;;) {
      socket.receive_many(batch);
      socket.send_many(batch);
    }
  });
}

struct Kind {
  const char* name;
  std::function<void(const Tell&)> serve;
};

const std::vector<Kind>& kinds() {
  using bight::EngineChoice;
  static const std::vector<Kind> all{
      {"floor: epoll recvfrom sendto", serve_bare},
      {"epoll, one at a time", [](const Tell& tell) { serve_bight(EngineChoice::epoll, Way::single, tell); }},
      {"uring, one at a time", [](const Tell& tell) { serve_bight(EngineChoice::uring, Way::single, tell); }},
      {"epoll, batches", [](const Tell& tell) { serve_bight(EngineChoice::epoll, Way::batch, tell); }},
      {"uring, batches", [](const Tell& tell) { serve_bight(EngineChoice::uring, Way::batch, tell); }},
      {"epoll, batches of segments", [](const Tell& tell) { serve_bight(EngineChoice::epoll, Way::segments, tell); }},
      {"uring, batches of segments", [](const Tell& tell) { serve_bight(EngineChoice::uring, Way::segments, tell); }},
  };
  return all;
}

// --- The load
// ----------------------------------------------------------------------------------------------------------

// One socket with a window of messages on their way.
class Client {
 public:
  Client(std::uint16_t port, std::size_t size, std::size_t window, bool segments)
      : fd_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)), bytes_(size * window), window_(window) {
    const Endpoint server = Endpoint::of("127.0.0.1", port);
    if (::connect(fd_.get(), server.raw(), sizeof server.address) != 0) fail("connect");
    for (std::size_t n = 0; n < window; ++n) {
      pieces_[n] = {bytes_.data() + n * size, size};
      messages_[n].msg_hdr = {};
      messages_[n].msg_hdr.msg_iov = &pieces_[n];
      messages_[n].msg_hdr.msg_iovlen = 1;
    }
    const int segment = static_cast<int>(size);
    if (segments && ::setsockopt(fd_.get(), IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment) != 0)
      fail("UDP_SEGMENT");
    glued_ = segments;
  }

  void send() {
    if (glued_) {
      if (::send(fd_.get(), bytes_.data(), bytes_.size(), 0) < 0) fail("send");
      awaited_ = window_;
      return;
    }
    const int sent = ::sendmmsg(fd_.get(), messages_.data(), static_cast<unsigned>(window_), 0);
    if (sent < 0) fail("sendmmsg");
    awaited_ = static_cast<std::size_t>(sent);
  }
  // Waits for all answers, or a fifth of a second for the next. How many came.
  std::size_t receive() {
    std::size_t received = 0;
    while (received < awaited_) {
      pollfd poll{fd_.get(), POLLIN, 0};
      if (::poll(&poll, 1, 200) <= 0) break;
      const int count = ::recvmmsg(fd_.get(), messages_.data(), static_cast<unsigned>(window_), MSG_DONTWAIT, nullptr);
      if (count > 0) received += static_cast<std::size_t>(count);
    }
    return received;
  }

 private:
  Descriptor fd_;
  std::vector<char> bytes_;
  std::array<iovec, kWindowMax> pieces_{};
  std::array<mmsghdr, kWindowMax> messages_{};
  std::size_t window_;
  std::size_t awaited_ = 0;
  bool glued_ = false;
};

double cpu_seconds(pid_t process) {
  clockid_t clock{};
  timespec time{};
  if (::clock_getcpuclockid(process, &clock) != 0 || ::clock_gettime(clock, &time) != 0) fail("clock_gettime");
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

// CPU nanoseconds of the server for each message.
double measure(const Kind& kind, const Options& options) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) fail("pipe");
  const pid_t server = ::fork();
  if (server == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    try {
      kind.serve([&](std::uint16_t port) {
        if (::write(ends[1], &port, sizeof port) != sizeof port) std::_Exit(1);
      });
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s: %s\n", kind.name, error.what());
    }
    std::_Exit(1);
  }
  ::close(ends[1]);
  std::uint16_t port = 0;
  const bool runs = ::read(ends[0], &port, sizeof port) == sizeof port;
  ::close(ends[0]);
  double result = -1;
  if (runs) {
    std::vector<Client> clients;
    clients.reserve(options.clients);  // what a client hands to the kernel points into it, so it must not move
    for (unsigned n = 0; n < options.clients; ++n)
      clients.emplace_back(port, options.size, options.window, options.segments);
    std::uint64_t done = 0;
    double before = 0;
    for (std::uint64_t turn = 0; done < options.messages; ++turn) {
      if (turn == 1) {  // the first turn warms up
        before = cpu_seconds(server);
        done = 0;
      }
      for (Client& each : clients) each.send();
      std::uint64_t came = 0;
      for (Client& each : clients) came += each.receive();
      done += came;
      if (came == 0) throw std::runtime_error(std::string(kind.name) + ": no answers");
      if (turn == 0) continue;
    }
    result = (cpu_seconds(server) - before) * 1e9 / static_cast<double>(done);
  }
  ::kill(server, SIGKILL);
  ::waitpid(server, nullptr, 0);
  return result;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

int run(int argc, char** argv) {
  Options options;
  Arguments arguments(argc, argv);
  while (arguments.next()) {
    if (arguments.is("--messages")) {
      options.messages = arguments.number<std::uint64_t>(1, 1'000'000'000);
    } else if (arguments.is("--rounds")) {
      options.rounds = arguments.number<unsigned>(1, 1000);
    } else if (arguments.is("--clients")) {
      options.clients = arguments.number<unsigned>(1, 1000);
    } else if (arguments.is("--size")) {
      options.size = arguments.number<std::size_t>(1, 1400);
    } else if (arguments.is("--window")) {
      options.window = arguments.number<std::size_t>(1, kWindowMax);
    } else if (arguments.is("--json")) {
      options.json = true;
    } else if (arguments.is("--segments")) {
      options.segments = true;
    } else if (arguments.is("--smoke")) {
      options.messages = 2'000;
      options.rounds = 1;
    } else if (arguments.is("--help")) {
      std::puts(
          "usage: udp_echo [--messages N] [--rounds N] [--clients N] [--window N] [--size BYTES] [--segments] [--json] "
          "[--smoke]\n\n"
          "CPU nanoseconds of a server for each datagram that it sends back: medians, and the floor's over them.");
      return 0;
    } else {
      arguments.unknown();
    }
  }
  std::map<std::string, std::vector<double>> figures;
  std::map<std::string, std::vector<double>> ratios;  // within a round
  for (unsigned round = 0; round < options.rounds; ++round) {
    double floor = 0;
    for (const Kind& kind : kinds()) {
      const double figure = measure(kind, options);
      if (figure < 0) continue;  // this engine is not to be had here
      if (&kind == &kinds().front()) floor = figure;
      figures[kind.name].push_back(figure);
      ratios[kind.name].push_back(floor / figure);
    }
  }
  if (options.json) std::printf("{");
  const char* separator = "";
  for (const Kind& kind : kinds()) {
    if (figures[kind.name].empty()) continue;
    const double figure = median(figures[kind.name]);
    const double ratio = median(ratios[kind.name]);
    if (options.json) {
      std::printf("%s\"%s\": {\"cpu_ns\": %.1f, \"floor_over_it\": %.3f}", separator, kind.name, figure, ratio);
      separator = ", ";
    } else {
      std::printf("%-30s %8.0f ns   %.2fx the floor\n", kind.name, figure, ratio);
    }
  }
  if (options.json) std::puts("}");
  return 0;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  try {
    return bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "udp_echo: %s\n", error.what());
    return 1;
  }
}
