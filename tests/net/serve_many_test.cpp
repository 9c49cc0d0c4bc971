// SPDX-License-Identifier: Apache-2.0
// Ten thousand connections at a time, and as many in a hurry. The clients are a process of their own, for each
// connection takes a descriptor at either end, and for what they do in one go is then seen in one go, too.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <system_error>
#include <vector>

#include <gtest/gtest.h>

#include <bight/net/tcp.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/stop.hpp>

#include "build.hpp"
#include "child.hpp"
#include "net_test.hpp"
#include "on_loop.hpp"

namespace bight::test {
namespace {

using net::Address;
using net::TcpListener;
using net::TcpStream;

constexpr std::size_t kWanted = test::thread_sanitized ? 2'000 : 10'000;
constexpr std::size_t kOthers = 100;  // descriptors for other purposes

class ServeManyTest : public NetTest {};

/// How many descriptors this process and its children may have from now on.
std::size_t raise_descriptor_limit() {
  ::rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

void check(bool fine, const char* what) {
  if (!fine) throw std::system_error(errno, std::generic_category(), what);
}

/// The clients, in the plainest way there is: all connect, then all are served twice, then all hang up.
void be_clients(const Address& server, std::size_t count) {
  std::vector<Fd> sockets;
  for (std::size_t i = 0; i < count; ++i) {
    sockets.emplace_back(::socket(server.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    check(static_cast<bool>(sockets.back()), "socket");
    check(::connect(sockets.back().get(), server.native(), server.native_size()) == 0, "connect");
  }
  for (int round = 0; round < 2; ++round) {
    for (const Fd& each : sockets) check(::send(each.get(), "ping", 4, MSG_NOSIGNAL) == 4, "send");
    for (const Fd& each : sockets) {
      std::array<char, 4> answer{};
      check(::recv(each.get(), answer.data(), answer.size(), MSG_WAITALL) == 4, "recv");
    }
  }
  // With a reset: else this many ends would stay in TIME_WAIT, and the next test would find no ports.
  const ::linger at_once{.l_onoff = 1, .l_linger = 0};
  for (const Fd& each : sockets) ::setsockopt(each.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

/// Clients that are gone as soon as they have said something: with an end (and they wait for the server's), or a reset.
void be_clients_in_a_hurry(const Address& server, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const Fd socket(::socket(server.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    check(::connect(socket.get(), server.native(), server.native_size()) == 0, "connect");
    if (i % 2 == 0) ::sched_yield();  // so that the server waits for data already, or not yet
    check(::send(socket.get(), "ping", 4, MSG_NOSIGNAL) == 4, "send");
    if (i % 4 < 2) {
      check(::shutdown(socket.get(), SHUT_WR) == 0, "shutdown");
      std::array<char, 5> answer{};
      check(::recv(socket.get(), answer.data(), answer.size(), MSG_WAITALL) == 4, "recv");
    }
    const ::linger at_once{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  }
}

/// Clients whose reset comes right behind what they say.
void be_clients_that_reset(const Address& server, std::size_t count) {
  const ::linger at_once{.l_onoff = 1, .l_linger = 0};
  for (std::size_t i = 0; i < count; ++i) {
    const Fd socket(::socket(server.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    check(::connect(socket.get(), server.native(), server.native_size()) == 0, "connect");
    ::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    if (i % 2 == 0) ::sched_yield();
    check(::send(socket.get(), "ping", 4, MSG_NOSIGNAL) == 4, "send");
  }
}

/// A child that runs `clients(address)` when it is told the address of the server.
class Clients {
 public:
  template <class Body>
  explicit Clients(Body&& clients) {
    std::array<int, 2> pipe{};
    check(::pipe(pipe.data()) == 0, "pipe");
    const Fd from_parent(pipe[0]);
    to_child_ = Fd(pipe[1]);
    child_.emplace([&] {  // forked before there is a loop
      to_child_.reset();
      Address server;
      check(::read(from_parent.get(), &server, sizeof server) == sizeof server, "read the server's address");
      clients(server);
      return 0;
    });
  }

  void begin(const Address& server) {
    check(::write(to_child_.get(), &server, sizeof server) == sizeof server, "write");
  }
  void expect_success() {
    const Ended ended = child_->wait();
    EXPECT_TRUE(ended.with(0)) << describe(ended);
  }

 private:
  Fd to_child_;
  std::optional<Child> child_;
};

TEST_F(ServeManyTest, ClientsInAHurryAreNotForgotten) {
  if (run([] { return on_sim(); })) GTEST_SKIP() << "needs a process beside";
  Clients clients([](const Address& server) { be_clients_in_a_hurry(server, kWanted); });
  on_loop([&] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    clients.begin(listener.local_address());
    std::size_t ended = 0;
    std::size_t forgotten = 0;
    const auto handler = [&](TcpStream stream) {
      stream.set_timeout(std::chrono::seconds(5));
      std::error_code error;
      while (const Chunk chunk = stream.read(error)) stream.write_all(chunk, error);
      if (error == std::errc::timed_out) ++forgotten;
      if (++ended == kWanted || forgotten != 0) request_stop();
    };
    net::serve(listener, handler);
    EXPECT_EQ(forgotten, 0U);
    EXPECT_EQ(ended, kWanted);
  });
  clients.expect_success();
}

// By those who only read, too: to a writer the next write would tell.
TEST_F(ServeManyTest, ResetsRightBehindDataAreNoticed) {
  if (run([] { return on_sim(); })) GTEST_SKIP() << "needs a process beside";
  Clients clients([](const Address& server) { be_clients_that_reset(server, kWanted); });
  on_loop([&] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    clients.begin(listener.local_address());
    std::size_t ended = 0;
    std::size_t forgotten = 0;
    net::serve(listener, [&](TcpStream stream) {
      stream.set_timeout(std::chrono::seconds(10));
      std::error_code error;
      while (const Chunk chunk = stream.read(error)) continue;
      if (error == std::errc::timed_out) ++forgotten;
      if (++ended == kWanted || forgotten != 0) request_stop();
    });
    EXPECT_EQ(forgotten, 0U);
    EXPECT_EQ(ended, kWanted);
  });
  clients.expect_success();
}

TEST_F(ServeManyTest, TenThousandConnectionsAtOnce) {
  if (run([] { return on_sim(); })) GTEST_SKIP() << "needs a process beside; see TenThousandInOneLoop";
  const std::size_t at_once = std::min(kWanted, raise_descriptor_limit() - kOthers);
  Clients clients([&](const Address& server) {
    for (std::size_t done = 0; done < kWanted; done += at_once) be_clients(server, std::min(at_once, kWanted - done));
  });
  on_loop([&] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    clients.begin(listener.local_address());
    std::size_t open = 0;
    std::size_t most = 0;
    std::size_t ended = 0;
    const auto handler = [&](TcpStream stream) {
      struct Count {
        std::size_t& open;
        std::size_t& ended;
        ~Count() {
          --open;
          if (++ended == kWanted) request_stop();
        }
      } const count{open, ended};
      most = std::max(most, ++open);
      echo(std::move(stream));
    };
    EXPECT_EQ(net::serve(listener, handler).accepted, kWanted);
    EXPECT_EQ(most, at_once);
    EXPECT_EQ(ended, kWanted);
  });
  clients.expect_success();
}

TEST_F(ServeManyTest, TenThousandInOneLoop) {
  if (!run([] { return on_sim(); })) GTEST_SKIP() << "needs both ends' descriptors in one process";
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    const Address address = listener.local_address();
    auto server = spawn([&] { return net::serve(listener, echo); });
    std::vector<TcpStream> clients(kWanted);
    {
      Scope scope;
      for (TcpStream& each : clients) {
        scope
            .spawn([&] {
              each = net::connect(address);
              EXPECT_EQ(ask(each, "ping"), "ping");
            })
            .detach();
      }
    }
    for (TcpStream& each : clients) EXPECT_EQ(ask(each, "pong"), "pong");
    clients.clear();
    request_stop();
    EXPECT_EQ(server.get().accepted, kWanted);
  });
}

}  // namespace
}  // namespace bight::test
