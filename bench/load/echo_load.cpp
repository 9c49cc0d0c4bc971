// SPDX-License-Identifier: Apache-2.0
// Load generator for echo servers. See options.cpp for what it can do.

#include "connect_run.hpp"
#include "connecting.hpp"
#include "echo_run.hpp"
#include "idle_run.hpp"
#include "options.hpp"
#include "report.hpp"
#include "smoke.hpp"

#include <cstdio>
#include <iostream>

#include <poll.h>
#include <sys/prctl.h>

namespace bench::load {
namespace {

void say(const std::string& line) {
  std::puts(line.c_str());
  std::fflush(stdout);
}

// Reads standard input by hand: what iostreams keep in a buffer poll(2) does not see.
bool input_line() {
  char byte = 0;
  while (::read(STDIN_FILENO, &byte, 1) == 1) {
    if (byte == '\n') return true;
  }
  return false;
}

void wait_for_end_of_input(double seconds) {
  const Nanoseconds end = seconds > 0 ? now() + nanoseconds(seconds) : 0;
  for (;;) {
    pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    const timespec left = between(now(), end);
    const int ready = ::ppoll(&input, 1, seconds > 0 ? &left : nullptr, nullptr);
    if (ready == 0) return;
    char bytes[256];
    if (ready > 0 && ::read(STDIN_FILENO, bytes, sizeof bytes) <= 0) return;
  }
}

std::unique_ptr<Transport> make_transport(const Options& options, const Pattern& pattern) {
  const TransportOptions wanted{.pattern = pattern,
                                .burst = options.size * options.depth,
                                .one_answer_each = options.connect,
                                .resume = options.resume};
  if (options.tls) return make_tls_transport(wanted);
  if (options.engine != Engine::epoll) {
    if (auto transport = make_uring_transport(wanted)) return transport;
    if (options.engine == Engine::uring) fail("open an io_uring");
  }
  return make_epoll_transport(wanted);
}

int finish(const Measurement& measurement) {
  if (measurement.errors == 0) return 0;
  std::cerr << "echo_load: " << measurement.errors << " errors, the first: " << measurement.first_error << '\n';
  return 1;
}

template <class Run>
int load(const Options& options, Connecting::Sources sources) {
  const Pattern pattern;
  const Connecting connecting(Endpoint::of(options.host, options.port), sources);
  const auto transport = make_transport(options, pattern);
  Run run(options, connecting, pattern, *transport);
  if (options.warmup > 0) {
    const Measurement warmup = run.run_phase(nanoseconds(options.warmup));
    if (warmup.errors > 0) return finish(warmup);
  }
  if (options.steps) {
    say("ready");
    if (!input_line()) return 0;
  }
  const Measurement measurement = run.run_phase(nanoseconds(options.seconds));
  report(options, transport->name(), measurement);
  if (options.steps) wait_for_end_of_input(0);
  return finish(measurement);
}

int idle(const Options& options) {
  const Pattern pattern;
  const Connecting connecting(Endpoint::of(options.host, options.port), Connecting::Sources::many);
  const IdleRun run(options, connecting);
  say("opened " + std::to_string(options.idle));
  if (options.echo_once) {
    if (options.steps && !input_line()) return 0;
    run.echo_once(pattern);
    say("echoed " + std::to_string(options.idle));
  }
  wait_for_end_of_input(options.seconds);
  return 0;
}

}  // namespace

int run(const Options& options) {
  if (options.idle > 0) return idle(options);
  if (options.connect) return load<ConnectRun>(options, Connecting::Sources::many);
  return load<EchoRun>(options, options.conns > 20'000 ? Connecting::Sources::many : Connecting::Sources::one);
}

}  // namespace bench::load

int main(int argc, char** argv) {
  try {
    const auto options = bench::load::parse_options(argc, argv);
    if (options.help) {
      std::fputs(bench::load::help_text(), stdout);
      return 0;
    }
    bench::allow_many_descriptors();
    ::prctl(PR_SET_TIMERSLACK, 1);  // or every wait of --rate ends up to 50 us late
    return options.smoke ? bench::load::smoke() : bench::load::run(options);
  } catch (const bench::UsageError& error) {
    std::cerr << "echo_load: " << error.what() << "; see --help\n";
    return 2;
  } catch (const std::exception& error) {
    std::cerr << "echo_load: " << error.what() << '\n';
    return 1;
  }
}
