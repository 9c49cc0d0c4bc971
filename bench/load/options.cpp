// SPDX-License-Identifier: Apache-2.0
#include "options.hpp"

#include "../common/arguments.hpp"

namespace bench::load {
namespace {

constexpr double kLongest = 24 * 3600;  // seconds

Engine parse_engine(std::string_view name) {
  if (name == "auto") return Engine::automatic;
  if (name == "uring") return Engine::uring;
  if (name == "epoll") return Engine::epoll;
  throw UsageError("--engine is auto, uring or epoll, not '" + std::string(name) + "'");
}

void check(const Options& options) {
  if (options.help || options.smoke) return;
  if (options.port == 0) throw UsageError("--port is missing");
  if (options.connect && options.idle > 0) throw UsageError("--connect and --idle exclude each other");
  if (options.rate > 0 && (options.connect || options.idle > 0)) throw UsageError("--rate is for plain echo only");
  if (options.depth > 1 && (options.connect || options.idle > 0)) throw UsageError("--depth is for plain echo only");
  if (options.reset && !options.connect) throw UsageError("--reset goes with --connect");
  if (options.tls && options.idle > 0) throw UsageError("--tls and --idle exclude each other");
  if (options.resume && !options.tls) throw UsageError("--resume goes with --tls");
  if (options.echo_once && options.idle == 0) throw UsageError("--echo-once goes with --idle");
  if (options.seconds == 0 && options.idle == 0) throw UsageError("--seconds 0 goes with --idle only");
}

}  // namespace

Options parse_options(int argc, char** argv) {
  Options options;
  bool seconds_given = false;
  Arguments arguments(argc, argv);
  while (arguments.next()) {
    if (arguments.is("--host")) {
      options.host = arguments.value();
    } else if (arguments.is("--port")) {
      options.port = arguments.number<std::uint16_t>(1, 65535);
    } else if (arguments.is("--conns")) {
      options.conns = arguments.number<std::uint32_t>(1, 1'000'000);
    } else if (arguments.is("--size")) {
      options.size = arguments.number<std::uint64_t>(1, 1 << 30);
    } else if (arguments.is("--depth")) {
      options.depth = arguments.number<std::uint32_t>(1, 65536);
    } else if (arguments.is("--seconds")) {
      options.seconds = arguments.number<double>(0, kLongest);
      seconds_given = true;
    } else if (arguments.is("--warmup")) {
      options.warmup = arguments.number<double>(0, kLongest);
    } else if (arguments.is("--rate")) {
      options.rate = arguments.number<double>(0.001, 1e8);
    } else if (arguments.is("--connect")) {
      options.connect = true;
    } else if (arguments.is("--reset")) {
      options.reset = true;
    } else if (arguments.is("--idle")) {
      options.idle = arguments.number<std::uint32_t>(1, 10'000'000);
    } else if (arguments.is("--echo-once")) {
      options.echo_once = true;
    } else if (arguments.is("--tls")) {
      options.tls = true;
    } else if (arguments.is("--resume")) {
      options.resume = true;
    } else if (arguments.is("--engine")) {
      options.engine = parse_engine(arguments.value());
    } else if (arguments.is("--steps")) {
      options.steps = true;
    } else if (arguments.is("--json")) {
      options.json = true;
    } else if (arguments.is("--smoke")) {
      options.smoke = true;
    } else if (arguments.is("--help") || arguments.is("-h")) {
      options.help = true;
    } else {
      arguments.unknown();
    }
  }
  if (options.idle > 0 && !seconds_given) options.seconds = 0;
  check(options);
  return options;
}

const char* help_text() {
  return R"(usage: echo_load --port P [options]

Loads an echo server from one thread, checks every byte that comes back, and reports operations, throughput, errors and
latency quantiles (off by less than 1 %). Ends with 0, with 1 when something failed, with 2 on a wrong command line.

  --host H       IPv4 address of the server (127.0.0.1)
  --port P       its port
  --conns N      connections (64)
  --size BYTES   bytes of one message (64)
  --depth D      messages under way on each connection (1)
  --seconds S    how long to measure (3)
  --warmup S     how long to run before that (0.3)
  --rate R       open loop: R messages a second on a fixed schedule, spread over the connections. Latency counts from
                 the moment a message was due, so a server that stalls cannot hide the messages it kept waiting.
                 Those still waiting at the end are reported as never sent, and count with the time they waited

  --connect      an operation is connect, one echo, close; --conns of them are under way. On loopback, source addresses
                 are spread over 127.0.0.x, or closed connections would use up the ports
  --reset        with --connect: close by RST (SO_LINGER 0) instead of FIN

  --idle N       open N connections, from several source addresses; print 'opened N'; hold them until standard input
                 ends or --seconds are over
  --echo-once    with --idle: then send one message on each, check the answers, print 'echoed N', and hold

  --tls          over TLS 1.3 (TLS_AES_128_GCM_SHA256, X25519) on epoll, whatever the certificate; with --connect, an
                 operation includes a full handshake
  --resume       with --tls: take up the session of an earlier connection

  --engine E     auto, uring or epoll: how the load itself does its I/O (auto: uring where it is allowed)
  --steps        be driven through standard input: after connecting and warming up print 'ready' and wait for a line;
                 after the report, with all answers in, wait for the end of input. With --idle: wait for a line before
                 --echo-once. So the server's CPU time can be read at rest, before and after exactly what was measured
  --json         report as one JSON object
  --smoke        run every mode briefly against a small server of its own
  --help         this text
)";
}

}  // namespace bench::load
