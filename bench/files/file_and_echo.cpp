// SPDX-License-Identifier: Apache-2.0

// What a fiber that works on files all the time does to the others on its loop: an echo server's round trips, seen by a
// client thread, in turns without and with a neighbour that writes, syncs and reads a file.

#include "../common/arguments.hpp"
#include "../load/histogram.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <bight/fiber.hpp>
#include <bight/file.hpp>
#include <bight/offload.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/socket.hpp>
#include <bight/temporary.hpp>

namespace bench::files {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string folder = bight::fs::temporary_directory_path();
  std::size_t connections = 16;
  std::size_t piece = std::size_t{1} << 20;
  std::size_t size = std::size_t{64} << 20;
  unsigned rounds = 5;
  unsigned milliseconds = 1000;
  unsigned workers = 1;
  bool json = false;
};

Options parse(int argc, char** argv) {
  Options options;
  Arguments arguments(argc, argv);
  while (arguments.next()) {
    if (arguments.is("--folder")) {
      options.folder = arguments.value();
    } else if (arguments.is("--connections")) {
      options.connections = arguments.number<std::size_t>(1, 1000);
    } else if (arguments.is("--piece")) {
      options.piece = arguments.number<std::size_t>(1, std::size_t{1} << 26);
    } else if (arguments.is("--rounds")) {
      options.rounds = arguments.number<unsigned>(1, 1000);
    } else if (arguments.is("--milliseconds")) {
      options.milliseconds = arguments.number<unsigned>(1, 3600000);
    } else if (arguments.is("--workers")) {
      options.workers = arguments.number<unsigned>(1, 1000);
    } else if (arguments.is("--json")) {
      options.json = true;
    } else if (arguments.is("--smoke")) {
      options.rounds = 1;
      options.milliseconds = 30;
      options.size = std::size_t{1} << 20;
      options.piece = std::size_t{64} << 10;
    } else {
      arguments.unknown();
    }
  }
  return options;
}

void echo(bight::Socket socket) {
  std::error_code error;
  for (;;) {
    const bight::Chunk chunk = socket.read(error);
    if (error || chunk.empty()) return;
    socket.write_all(std::span<const std::byte>(chunk), error);
  }
}

/// Writes, syncs and reads a file over and over.
void work(const Options& options, const std::string& path, const bool& over, std::uint64_t& bytes) {
  bight::File file = bight::File::open(path, {.read = true, .write = true, .create = true});
  std::vector<std::byte> piece(options.piece, std::byte{0x5a});
  while (!over) {
    for (std::uint64_t at = 0; at < options.size && !over; at += piece.size()) {
      bytes += file.write_all_at(piece, at);
      if (at / piece.size() % 16 == 15) file.data_sync();
    }
    for (std::uint64_t at = 0; at < options.size && !over; at += piece.size()) bytes += file.read_at(piece, at);
  }
}

/// The client's side, on a thread of its own: asks on all connections, then waits for all answers.
std::uint64_t p99_of_round_trips(const std::vector<int>& sockets, std::chrono::milliseconds time) {
  load::Histogram trips;
  std::array<char, 64> message{};
  const auto end = Clock::now() + time;
  std::vector<Clock::time_point> sent(sockets.size());
  for (auto now = Clock::now(); now < end; now = Clock::now()) {
    for (std::size_t i = 0; i < sockets.size(); ++i) {
      sent[i] = Clock::now();
      if (::send(sockets[i], message.data(), message.size(), MSG_NOSIGNAL) < 0) throw std::runtime_error("send");
    }
    for (std::size_t i = 0; i < sockets.size(); ++i) {
      if (::recv(sockets[i], message.data(), message.size(), MSG_WAITALL) <= 0) throw std::runtime_error("recv");
      trips.record(static_cast<std::uint64_t>((Clock::now() - sent[i]).count()));
    }
    std::this_thread::sleep_for(std::chrono::microseconds(200));  // a client that thinks: the loop is not saturated
  }
  return trips.quantile(0.99);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void compare(const Options& options) {
  const bight::fs::TemporaryDirectory directory("bight-bench-", options.folder);
  std::vector<int> clients;
  bight::Scope scope;
  for (std::size_t i = 0; i < options.connections; ++i) {
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0) throw std::runtime_error("socketpair");
    clients.push_back(pair[0]);
    scope.spawn([socket = bight::Socket(pair[1])]() mutable { echo(std::move(socket)); });
  }
  const std::chrono::milliseconds time(options.milliseconds);
  std::vector<double> alone;
  std::vector<double> beside;
  std::uint64_t bytes = 0;
  for (unsigned round = 0; round < options.rounds; ++round) {
    alone.push_back(static_cast<double>(bight::offload([&] { return p99_of_round_trips(clients, time); })) / 1e3);
    bool over = false;
    bight::Scope workers;
    for (unsigned i = 0; i < options.workers; ++i) {
      workers.spawn([&, i] { work(options, directory / ("file" + std::to_string(i)), over, bytes); });
    }
    beside.push_back(static_cast<double>(bight::offload([&] { return p99_of_round_trips(clients, time); })) / 1e3);
    over = true;
    workers.join();
  }
  for (const int client : clients) ::close(client);
  scope.join();
  const double rate = static_cast<double>(bytes) / 1e6 / (options.rounds * options.milliseconds / 1e3);
  const std::string engine(bight::this_loop::engine_name());
  std::printf(options.json
                  ? R"({"engine":"%s","p99_alone_us":%.0f,"p99_beside_us":%.0f,"file_megabytes_per_second":%.0f})"
                    "\n"
                  : "%s: p99 of round trips %.0f us alone, %.0f us beside file work of %.0f MB/s (medians)\n",
              engine.c_str(), median(alone), median(beside), rate);
}

}  // namespace
}  // namespace bench::files

int main(int argc, char** argv) {
  using namespace bench::files;
  try {
    const Options options = parse(argc, argv);
    bight::run([&] { compare(options); });
    return 0;
  } catch (const bench::UsageError& error) {
    std::fprintf(stderr, "file_and_echo: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "file_and_echo: %s\n", error.what());
    return 1;
  }
}
