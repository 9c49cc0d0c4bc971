// SPDX-License-Identifier: Apache-2.0
// How evenly processes get the connections of one port, and how fast, by the way in which they share it. Bare system
// calls, so that it is the kernel's ways that are compared; the library's own way is measured by
// tests/shards/under_load.py.
//
//     spread [--workers N] [--connections N] [--rounds N] [--json] [--smoke]
//
// reuseport    a socket for each worker (SO_REUSEPORT): the kernel picks one by a hash of the addresses
// steered      the same, picked by a BPF program (SO_ATTACH_REUSEPORT_CBPF): a random number modulo N
// herd         one socket, all workers are woken for each connection (epoll)
// exclusive    one socket, registered once with EPOLLEXCLUSIVE
// rotating     one socket, registered with EPOLLEXCLUSIVE for each accept: who had one goes to the end of the list
// balanced     the same, and a worker with more than its share (counts in shared memory) holds back
#include <linux/filter.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kWorkersMax = 64;
constexpr std::array<std::string_view, 6> kWays{"reuseport", "steered", "herd", "exclusive", "rotating", "balanced"};

struct Options {
  std::size_t workers = 2;
  std::size_t connections = 1000;
  int rounds = 20;
  bool json = false;
};

struct alignas(64) Count {
  std::atomic<std::uint64_t> open{0};
  std::atomic<std::uint64_t> wakes{0};
};

int checked(int result, const char* what) {
  if (result >= 0) return result;
  std::fprintf(stderr, "spread: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

int listen_on(sockaddr_in& address, bool reuse_port) {
  const int fd = checked(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
  const int on = 1;
  if (reuse_port) checked(::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on), "SO_REUSEPORT");
  checked(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), "bind");
  checked(::listen(fd, 4096), "listen");
  socklen_t length = sizeof address;
  checked(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length), "getsockname");
  return fd;
}

void steer(int fd, std::size_t workers) {
  std::array<sock_filter, 3> code{{
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_RANDOM)},
      {BPF_ALU | BPF_MOD | BPF_K, 0, 0, static_cast<std::uint32_t>(workers)},
      {BPF_RET | BPF_A, 0, 0, 0},
  }};
  const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  checked(::setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program), "SO_ATTACH_REUSEPORT_CBPF");
}

bool above_share(const Count* counts, std::size_t self, std::size_t workers) {
  std::uint64_t all = 0;
  for (std::size_t i = 0; i < workers; ++i) all += counts[i].open.load(std::memory_order_relaxed);
  return counts[self].open.load(std::memory_order_relaxed) * workers > all + std::max<std::uint64_t>(workers, all / 16);
}

/// Accepts for ever; each connection costs some work, as a first request would.
[[noreturn]] void work(int listener, std::string_view way, Count* counts, std::size_t self, std::size_t workers) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int set = checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  const bool each_time = way == "rotating" || way == "balanced";
  epoll_event event{};
  event.events = EPOLLIN;
  if (each_time || way == "exclusive") event.events |= EPOLLEXCLUSIVE;
  if (!each_time) checked(::epoll_ctl(set, EPOLL_CTL_ADD, listener, &event), "epoll_ctl");
  for (;;) {
    while (way == "balanced" && above_share(counts, self, workers)) {
      ::poll(nullptr, 0, 1);
      pollfd waiting{listener, POLLIN, 0};
      if (::poll(&waiting, 1, 0) > 0) break;
    }
    if (each_time) checked(::epoll_ctl(set, EPOLL_CTL_ADD, listener, &event), "epoll_ctl");
    epoll_event came{};
    ::epoll_wait(set, &came, 1, -1);
    if (each_time) checked(::epoll_ctl(set, EPOLL_CTL_DEL, listener, &event), "epoll_ctl");
    counts[self].wakes.fetch_add(1, std::memory_order_relaxed);
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) continue;
    [[maybe_unused]] const auto written = ::write(fd, "x", 1);
    counts[self].open.fetch_add(1, std::memory_order_relaxed);
  }
}

struct Round {
  double ratio;    // most to mean
  double seconds;  // until all were answered
  double wakes;    // a connection
};

Round measure(std::string_view way, const Options& options) {
  void* memory =
      ::mmap(nullptr, kWorkersMax * sizeof(Count), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) std::exit(1);
  Count* counts = ::new (memory) Count[kWorkersMax];
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool own = way == "reuseport" || way == "steered";
  std::vector<int> listeners;
  for (std::size_t i = 0; i < (own ? options.workers : 1); ++i) listeners.push_back(listen_on(address, own));
  if (way == "steered") steer(listeners.front(), options.workers);
  std::vector<pid_t> workers;
  for (std::size_t i = 0; i < options.workers; ++i) {
    const pid_t pid = checked(::fork(), "fork");
    if (pid == 0) work(listeners[own ? i : 0], way, counts, i, options.workers);
    workers.push_back(pid);
  }
  ::poll(nullptr, 0, 20);  // they get to their first wait
  const auto start = Clock::now();
  std::vector<int> clients;
  for (std::size_t i = 0; i < options.connections; ++i) {
    const int fd = checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    checked(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), "connect");
    clients.push_back(fd);
  }
  char answer = 0;
  for (const int fd : clients) checked(static_cast<int>(::read(fd, &answer, 1)), "read");
  const std::chrono::duration<double> took = Clock::now() - start;
  std::uint64_t most = 0;
  std::uint64_t wakes = 0;
  for (std::size_t i = 0; i < options.workers; ++i) {
    most = std::max(most, counts[i].open.load());
    wakes += counts[i].wakes.load();
  }
  for (const pid_t pid : workers) ::kill(pid, SIGKILL);
  for (const pid_t pid : workers) ::waitpid(pid, nullptr, 0);
  for (const int fd : clients) ::close(fd);
  for (const int fd : listeners) ::close(fd);
  ::munmap(memory, kWorkersMax * sizeof(Count));
  const auto all = static_cast<double>(options.connections);
  return {static_cast<double>(most) * static_cast<double>(options.workers) / all, took.count(),
          static_cast<double>(wakes) / all};
}

void report(std::string_view way, const Options& options, std::vector<Round> rounds) {
  std::sort(rounds.begin(), rounds.end(), [](const Round& a, const Round& b) { return a.ratio < b.ratio; });
  const Round& median = rounds[rounds.size() / 2];
  double seconds = 0;
  for (const Round& each : rounds) seconds += each.seconds;
  const double rate = static_cast<double>(options.connections) * static_cast<double>(rounds.size()) / seconds;
  const char* format =
      options.json ? "{\"way\":\"%.*s\",\"workers\":%zu,\"connections\":%zu,\"max_to_mean_median\":%.3f,"
                     "\"max_to_mean_worst\":%.3f,\"connections_per_second\":%.0f,\"wakes_per_connection\":%.2f}\n"
                   : "%-10.*s %zu workers, %zu connections: max/mean %.3f (worst %.3f), %.0f/s, %.2f wakes each\n";
  std::printf(format, static_cast<int>(way.size()), way.data(), options.workers, options.connections, median.ratio,
              rounds.back().ratio, rate, median.wakes);
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    const auto number = [&] { return ++i < argc ? std::strtoul(argv[i], nullptr, 10) : 0UL; };
    if (option == "--workers") {
      options.workers = std::clamp<std::size_t>(number(), 1, kWorkersMax);
    } else if (option == "--connections") {
      options.connections = std::max<std::size_t>(number(), 1);
    } else if (option == "--rounds") {
      options.rounds = std::max(static_cast<int>(number()), 1);
    } else if (option == "--json") {
      options.json = true;
    } else if (option == "--smoke") {
      options.connections = 50;
      options.rounds = 1;
    } else {
      std::fprintf(stderr, "usage: spread [--workers N] [--connections N] [--rounds N] [--json] [--smoke]\n");
      std::exit(2);
    }
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  for (const std::string_view way : kWays) {
    std::vector<Round> rounds;
    for (int i = 0; i < options.rounds; ++i) rounds.push_back(measure(way, options));
    report(way, options, std::move(rounds));
  }
}
