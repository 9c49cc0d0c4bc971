// SPDX-License-Identifier: Apache-2.0
#include "smoke.hpp"

#include "../common/sockets.hpp"
#include "histogram.hpp"

#include <cmath>
#include <functional>
#include <iostream>
#include <vector>

#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>

namespace bench::load {
namespace {

enum class Manners { good, flips_a_bit, hangs_up };

// As simple as can be: blocking sends, for its clients always read.
void serve(int listener, Manners manners) {
  std::vector<pollfd> polled{{.fd = listener, .events = POLLIN, .revents = 0}};
  std::vector<char> buffer(64 * 1024);
  for (;;) {
    ::poll(polled.data(), polled.size(), -1);
    for (std::size_t i = polled.size(); i-- > 1;) {
      if (polled[i].revents == 0) continue;
      const ssize_t size = ::recv(polled[i].fd, buffer.data(), buffer.size(), 0);
      if (size > 0 && manners == Manners::flips_a_bit) buffer[0] ^= 1;
      if (size > 0 && manners != Manners::hangs_up) {
        ::send(polled[i].fd, buffer.data(), static_cast<std::size_t>(size), MSG_NOSIGNAL);
        continue;
      }
      ::close(polled[i].fd);
      polled.erase(polled.begin() + static_cast<std::ptrdiff_t>(i));
    }
    if (polled[0].revents == 0) continue;
    if (const int fd = ::accept(listener, nullptr, nullptr); fd >= 0) polled.push_back({fd, POLLIN, 0});
  }
}

// A server in a child process that dies with this object, or with its parent.
class Server {
 public:
  explicit Server(Manners manners) {
    const Descriptor listener = listen_on(Endpoint::of("127.0.0.1", 0));
    port_ = ntohs(Endpoint::local_of(listener.get()).address.sin_port);
    child_ = ::fork();
    if (child_ < 0) fail("fork");
    if (child_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      serve(listener.get(), manners);
    }
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }

  [[nodiscard]] Options options() const {
    Options options;
    options.port = port_;
    options.conns = 8;
    options.seconds = 0.05;
    options.warmup = 0.02;
    return options;
  }

 private:
  std::uint16_t port_ = 0;
  pid_t child_ = -1;
};

using Change = std::function<void(Options&)>;

const std::vector<std::pair<const char*, Change>> kModes = {
    {"echo", [](Options&) {}},
    {"echo of 100 kB", [](Options& o) { o.size = 100'000; }},
    {"echo, 16 under way", [](Options& o) { o.depth = 16; }},
    {"fixed rate", [](Options& o) { o.rate = 2000; }},
    {"connect and close", [](Options& o) { o.connect = true; }},
    {"connect and reset", [](Options& o) { o.connect = o.reset = true; }},
    {"JSON", [](Options& o) { o.json = true; }},
};

bool succeeds(const char* what, const Options& options) {
  std::cout << "-- " << what << std::endl;
  if (run(options) == 0) return true;
  std::cerr << "smoke: failed: " << what << '\n';
  return false;
}

bool fails(const char* what, Manners manners, Engine engine) {
  const Server server(manners);
  Options options = server.options();
  options.engine = engine;
  try {
    if (run(options) != 0) return true;
  } catch (const std::exception&) {
    return true;
  }
  std::cerr << "smoke: not noticed: " << what << '\n';
  return false;
}

bool quantiles_are_close(std::uint64_t step) {
  constexpr std::uint64_t kCount = 100'000;
  Histogram histogram;
  for (std::uint64_t i = 1; i <= kCount; ++i) histogram.record(i * step);
  for (const double fraction : {0.001, 0.5, 0.99, 0.999, 1.0}) {
    const double right = fraction * static_cast<double>(kCount * step);
    const auto got = static_cast<double>(histogram.quantile(fraction));
    if (std::abs(got - right) <= 0.008 * right) continue;
    std::cerr << "smoke: failed: quantile " << fraction << " is " << got << " instead of " << right << '\n';
    return false;
  }
  return true;
}

}  // namespace

int smoke() {
  bool good = quantiles_are_close(1) && quantiles_are_close(977) && quantiles_are_close(1'000'003);
  for (const Engine engine : {Engine::automatic, Engine::epoll}) {
    const Server server(Manners::good);
    for (const auto& [name, change] : kModes) {
      Options options = server.options();
      options.engine = engine;
      change(options);
      good &= succeeds(name, options);
    }
    good &= fails("an echo with a wrong bit", Manners::flips_a_bit, engine);
    good &= fails("a server that hangs up", Manners::hangs_up, engine);
  }
  const Server server(Manners::good);
  Options idle = server.options();
  idle.idle = 20;
  idle.echo_once = true;
  good &= succeeds("idle", idle);
  return good ? 0 : 1;
}

}  // namespace bench::load
