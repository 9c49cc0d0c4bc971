// SPDX-License-Identifier: Apache-2.0

// A message of 64 bytes to another process and back: through a Connection, whose ends fibers wait on, and, for
// comparison, through a bare socketpair on which two processes block. Both processes on one core, where a round trip is
// two switches between processes, or on two, where it is two interrupts of another core.

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <exception>
#include <stdexcept>
#include <system_error>
#include <tuple>
#include <vector>

#include <bight/connection.hpp>
#include <bight/fd.hpp>

#include "cores.hpp"
#include "harness.hpp"

namespace bench::micro {
namespace {

using Message = std::array<std::byte, 64>;

// A child process that runs `body` on its core, with this one on the first, until the end of the block.
class Partner {
 public:
  template <class Body>
  Partner(Cores cores, Body&& body) : all_(allowed_cores()) {
    pid_ = ::fork();
    if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
    if (pid_ == 0) {
      int status = 0;
      try {
        keep_to({all_[cores == Cores::two ? 1 : 0]});
        body();
      } catch (...) {
        status = 1;
      }
      ::_exit(status);
    }
    keep_to({all_[0]});
  }
  Partner(const Partner&) = delete;
  Partner& operator=(const Partner&) = delete;
  ~Partner() {
    keep_to(all_);
    ::waitpid(pid_, nullptr, 0);
  }

 private:
  std::vector<int> all_;
  pid_t pid_ = 0;
};

void bare(benchmark::State& state, Cores cores) try {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) throw std::runtime_error("socketpair");
  bight::Fd near(ends[0]);
  bight::Fd far(ends[1]);
  Message message{};
  const Partner partner(cores, [&] {
    near.reset();
    while (::read(far.get(), message.data(), message.size()) > 0) {
      if (::write(far.get(), message.data(), message.size()) < 0) return;
    }
  });
  far.reset();
  for (auto _ : state) {
    if (::write(near.get(), message.data(), message.size()) < 0 ||
        ::read(near.get(), message.data(), message.size()) != ssize_t{sizeof message}) {
      throw std::runtime_error("the partner has gone");
    }
  }
  near.reset();
} catch (const std::exception& error) {
  fail(state, error.what());
}

void connection(benchmark::State& state, Cores cores) try {
  bight::Connection near;
  bight::Connection far;
  std::tie(near, far) = bight::make_connection_pair();
  const Partner partner(cores, [&] {
    near.close();
    bight::run([&] {
      while (const auto message = far.receive<Message>()) far.send(*message);
      far.close();
    });
  });
  far.close();
  in_loop(state, [&] {
    const Message message{};
    for (auto _ : state) {
      near.send(message);
      if (!near.receive<Message>()) throw std::runtime_error("the partner has gone");
    }
    near.close();
  });
} catch (const std::exception& error) {
  fail(state, error.what());
}

void add(const Scale& scale) {
  const std::int64_t rounds = scale.of(50'000, 20);
  auto add_one = [&](const char* name, void (*function)(benchmark::State&, Cores), Cores cores) {
    benchmark::RegisterBenchmark(name, function, cores)->Iterations(rounds)->UseRealTime();
  };
  add_one("bare_pair/one_core", bare, Cores::one);
  add_one("connection/one_core", connection, Cores::one);
  if (allowed_cores().size() > 1) {
    add_one("bare_pair/two_cores", bare, Cores::two);
    add_one("connection/two_cores", connection, Cores::two);
  }
}

}  // namespace
}  // namespace bench::micro

int main(int argc, char** argv) { return bench::micro::run_program(argc, argv, bench::micro::add); }
