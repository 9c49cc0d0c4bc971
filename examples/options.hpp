// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the example servers share: a command line, and running in this process or in several.

#include <atomic>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include <sys/mman.h>

#include <bight/net/tcp.hpp>
#include <bight/run.hpp>
#include <bight/shards.hpp>

namespace example {

struct Options {
  std::string name;  // of the program, for messages
  bight::net::Address address;
  std::size_t shards = 1;
  std::string pid_file;       // empty: none
  std::string status_socket;  // empty: none
  bight::EngineChoice engine = bight::EngineChoice::automatic;
};

[[noreturn]] inline void give_up(const std::string& name, const std::string& why, int status) {
  std::fprintf(stderr, "%s: %s\n", name.c_str(), why.c_str());
  std::exit(status);
}

[[noreturn]] inline void print_status(const Options& options) try {
  if (options.status_socket.empty()) give_up(options.name, "--status needs --status-socket", 2);
  std::fputs(bight::shard_status(options.status_socket).c_str(), stdout);
  std::exit(0);
} catch (const std::exception& error) {
  give_up(options.name, error.what(), 1);
}

inline Options parse_options(int argc, char** argv, const char* name, const char* what_it_does, std::uint16_t port) {
  const auto usage = [=](const std::string& why) { give_up(name, why + " (--help lists the options)", 2); };
  const auto number = [&](const std::string& option, std::string_view text, unsigned min, unsigned max) {
    unsigned value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < min || value > max) {
      usage(option + " takes a number from " + std::to_string(min) + " to " + std::to_string(max) + ", not '" +
            std::string(text) + "'");
    }
    return value;
  };

  Options options;
  options.name = name;
  bool status = false;
  std::string host = "127.0.0.1";
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--help" || option == "-h") {
      std::printf(
          "usage: %s [--host H] [--port P] [--shards N] [--engine auto|uring|epoll]\n"
          "       [--pid-file F] [--status-socket F [--status]]\n\n%s\n\n"
          "  --host H    the address to listen on (127.0.0.1)\n"
          "  --port P    the port; 0 picks a free one (%u)\n"
          "  --shards N  so many processes (1)\n"
          "  --engine E  what moves the bytes (auto: io_uring where it can be had)\n"
          "  --pid-file F       a file with the process number in it, for as long as it runs\n"
          "  --status-socket F  a Unix socket that tells how the processes do\n"
          "  --status           ask there, print the answer, and that is all\n",
          name, what_it_does, static_cast<unsigned>(port));
      std::exit(0);
    }
    if (option == "--status") {
      status = true;
      continue;
    }
    if (option != "--host" && option != "--port" && option != "--shards" && option != "--engine" &&
        option != "--pid-file" && option != "--status-socket")
      usage("unknown option '" + option + "'");
    if (++i == argc) usage(option + " needs a value");
    const std::string value = argv[i];
    if (option == "--host") host = value;
    if (option == "--port") port = static_cast<std::uint16_t>(number(option, value, 0, 65535));
    if (option == "--pid-file") options.pid_file = value;
    if (option == "--status-socket") options.status_socket = value;
    if (option == "--shards") options.shards = number(option, value, 1, 1024);
    if (option == "--engine") {
      const auto engine = bight::parse_engine(value);
      if (!engine || *engine == bight::EngineChoice::sim)
        usage("--engine takes auto, uring or epoll, not '" + value + "'");
      options.engine = *engine;
    }
  }
  if (status) print_status(options);
  if (host.empty()) usage("--host takes an IP address, or * for all of this machine's");  // empty, it would be a slip
  const auto address = bight::net::Address::try_parse(host, port);
  if (!address) usage("--host takes an IP address, not '" + host + "'");
  options.address = *address;
  return options;
}

/// Whether a supervisor is asked for: it can reload, upgrade, tell how things are, also with one worker.
inline bool supervised(const Options& options) {
  return options.shards != 1 || !options.pid_file.empty() || !options.status_socket.empty();
}

/// Listens, says where, and runs `server`, which returns how many requests it has served: in a loop of this process, or
/// in one of each of several processes that accept from the same socket.
inline int run_server(const Options& options, const std::function<std::uint64_t(bight::net::TcpListener)>& server) try {
  const auto say_where = [](const bight::net::Address& address) {
    std::printf("listening on %s\n", address.to_string().c_str());
    std::fflush(stdout);  // also because a process that is forked would print it again
  };
  const auto say_how_many = [](std::uint64_t served) {
    std::printf("served %llu\n", static_cast<unsigned long long>(served));
  };
  bight::RunOptions run;
  run.engine = options.engine;

  if (!supervised(options)) {
    return bight::run(run, [&] {
      auto listener = bight::net::TcpListener::bind(options.address);
      say_where(listener.local_address());
      say_how_many(server(std::move(listener)));
    });
  }
  // Each process adds what it has served to a number in memory that they share.
  using Count = std::atomic<std::uint64_t>;
  void* shared = ::mmap(nullptr, sizeof(Count), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) throw std::bad_alloc();
  auto* served = ::new (shared) Count(0);
  auto socket = bight::net::ShardedListener::bind(options.address);
  say_where(socket.local_address());
  const auto worker = [&](bight::Shard& shard) { *served += server(socket.listener(shard)); };
  bight::ShardOptions shards;
  shards.count = options.shards;
  shards.crashes_max = 20;
  shards.run = run;
  shards.pid_file = options.pid_file;
  shards.status_socket = options.status_socket;
  shards.on_drain = [&] { socket.close(); };
  const int status = bight::run_shards(shards, worker);
  say_how_many(*served);
  return status;
} catch (const std::exception& error) {
  give_up(options.name, error.what(), 1);
}

}  // namespace example
