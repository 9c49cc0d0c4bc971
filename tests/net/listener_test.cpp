// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/log.hpp>
#include <bight/net/tcp.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>

#include "child.hpp"
#include "net_test.hpp"
#include "on_loop.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::Address;
using net::TcpListener;
using net::TcpStream;

class ListenerTest : public NetTest {};

// --- Binding ---------------------------------------------------------------------------------------------------------

TEST_F(ListenerTest, PicksAFreePort) {
  on_loop([] {
    for (const auto* text : {"127.0.0.1:0", "[::1]:0", "*:0", ":0"}) {
      auto listener = TcpListener::bind(text);
      EXPECT_TRUE(listener.is_open());
      EXPECT_NE(listener.local_address().port(), 0);
      EXPECT_EQ(listener.local_address().with_port(0), Address::parse(text));
    }
  });
}

TEST_F(ListenerTest, APortInUseIsAnErrorWithItsAddress) {
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    const Address address = listener.local_address();
    const std::uint64_t before = this_loop::stats().descriptors_open;
    const Failure failure = failure_of([&] { static_cast<void>(TcpListener::bind(address)); });
    EXPECT_EQ(failure.code, std::errc::address_in_use);
    EXPECT_EQ(failure.text, "bind " + address.to_string() + ": Address already in use");
    std::error_code error;
    EXPECT_FALSE(TcpListener::bind(address, {}, error).is_open());
    EXPECT_EQ(error, std::errc::address_in_use);
    EXPECT_EQ(this_loop::stats().descriptors_open, before);
    listener.close();
    EXPECT_TRUE(TcpListener::bind(address).is_open()) << "free again";
  });
}

TEST_F(ListenerTest, APortCanBeTakenAgainWhileOldConnectionsLinger) {
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    const Address address = listener.local_address();
    StreamPair pair = connect_to(listener);
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    server.close();  // first, so that its end is the one in TIME_WAIT
    EXPECT_FALSE(client.read());
    client.close();
    listener.close();
    EXPECT_EQ(failure_of([&] { static_cast<void>(TcpListener::bind(address, {.reuse_address = false})); }).code,
              std::errc::address_in_use);
    EXPECT_TRUE(TcpListener::bind(address).is_open());
  });
}

TEST_F(ListenerTest, AForbiddenPortIsAnErrorWithItsAddress) {
  std::string lowest(16, '\0');
  const Fd file(::open("/proc/sys/net/ipv4/ip_unprivileged_port_start", O_RDONLY | O_CLOEXEC));
  int free_from = 0;
  const auto size = ::read(file.get(), lowest.data(), lowest.size());
  if (size > 0) std::from_chars(lowest.data(), lowest.data() + size, free_from);
  if (free_from <= 80) GTEST_SKIP() << "everybody may use port 80 here";
  const Ended ended = in_child([] {
    if (::geteuid() == 0 && ::setuid(65534) != 0) return 1;
    return run([] {
      if (on_sim()) return 77;
      const Failure failure = failure_of([] { static_cast<void>(TcpListener::bind("127.0.0.1:80")); });
      std::fprintf(stderr, "%s\n", failure.text.c_str());
      return failure.code == std::errc::permission_denied ? 0 : 2;
    });
  });
  if (ended.with(77)) GTEST_SKIP() << "the simulated system knows no users";
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_TRUE(ended.says("bind 127.0.0.1:80: Permission denied")) << describe(ended);
}

TEST_F(ListenerTest, AnAddressOfOthersIsAnError) {
  on_loop([] {
    if (on_sim()) GTEST_SKIP() << "there every address is ours";
    const Failure failure = failure_of([] { static_cast<void>(TcpListener::bind("203.0.113.1:0")); });
    EXPECT_EQ(failure.code, std::errc::address_not_available);
    EXPECT_EQ(failure.text, "bind 203.0.113.1:0: Cannot assign requested address");
  });
}

TEST_F(ListenerTest, Ipv6TakesIpv4UnlessToldNotTo) {
  on_loop([] {
    auto both = TcpListener::bind("[::]:0");
    TcpStream client = net::connect(Address::loopback_v4(both.local_address().port()));
    EXPECT_EQ(both.accept().peer_address().host(), "::ffff:127.0.0.1");
    auto v6 = TcpListener::bind(Address::any_v6(0), {.v6only = true});
    const Address v4 = Address::any_v4(v6.local_address().port());
    EXPECT_TRUE(TcpListener::bind(v4).is_open()) << "the same port";
  });
}

TEST_F(ListenerTest, ReusePortSharesAPort) {
  on_loop([] {
    auto first = TcpListener::bind(Address::loopback_v4(0), {.reuse_port = true});
    auto second = TcpListener::bind(first.local_address(), {.reuse_port = true});
    EXPECT_EQ(first.local_address(), second.local_address());
    EXPECT_EQ(failure_of([&] { static_cast<void>(TcpListener::bind(first.local_address())); }).code,
              std::errc::address_in_use);
  });
}

TEST_F(ListenerTest, AdoptsOnlyWhatListens) {
  on_loop([] {
    if (on_sim()) GTEST_SKIP() << "the process's descriptors mean nothing to the simulated system";
    Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int number = socket.get();
    const Failure failure = failure_of([&] { static_cast<void>(TcpListener::adopt(std::move(socket))); });
    EXPECT_EQ(failure.code, std::errc::invalid_argument);
    EXPECT_EQ(failure.text, "adopt descriptor " + std::to_string(number) + " as a listener: Invalid argument");
    EXPECT_FALSE(socket);  // NOLINT(bugprone-use-after-move): it has been closed
    EXPECT_EQ(failure_of([] { static_cast<void>(TcpListener::adopt(Fd())); }).code, std::errc::bad_file_descriptor);

    Fd listening(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));  // blocking, as others make them
    ASSERT_EQ(::listen(listening.get(), 8), 0);
    auto listener = TcpListener::adopt(std::move(listening));
    const Address address = Address::loopback_v4(listener.local_address().port());
    TcpStream client = net::connect(address);
    TcpStream server = listener.accept();
    std::error_code error;
    EXPECT_NE(server.socket().option(IPPROTO_TCP, TCP_NODELAY, error), 0);
    EXPECT_FALSE(move_on_after(10ms, [&] { static_cast<void>(listener.accept()); })) << "it does not block the thread";
  });
}

// --- Accepting -------------------------------------------------------------------------------------------------------

TEST_F(ListenerTest, AcceptsInTheOrderOfArrival) {
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    std::vector<TcpStream> clients;
    clients.reserve(100);
    for (int i = 0; i < 100; ++i) clients.push_back(net::connect(listener.local_address()));
    for (const TcpStream& client : clients) EXPECT_EQ(listener.accept().peer_address(), client.local_address());
  });
}

TEST_F(ListenerTest, WaitsForAConnection) {
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    Scope scope;
    auto accepting = scope.spawn([&] { return listener.accept(); });
    yield();
    TcpStream client = net::connect(listener.local_address());
    EXPECT_EQ(accepting.get().peer_address(), client.local_address());
  });
}

TEST_F(ListenerTest, TimesOut) {
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    listener.set_timeout(20ms);
    const TimePoint begin = now();
    const Failure failure = failure_of([&] { static_cast<void>(listener.accept()); });
    EXPECT_EQ(failure.code, std::errc::timed_out);
    EXPECT_EQ(failure.text, "accept on " + listener.local_address().to_string() + ": Connection timed out");
    EXPECT_GE(now() - begin, 20ms);
    TcpStream client = net::connect(listener.local_address());
    EXPECT_TRUE(listener.accept().is_open()) << "usable afterwards";
  });
}

TEST_F(ListenerTest, CancellingLosesNoConnection) {
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    Scope scope;
    for (int i = 0; i < 50; ++i) {
      auto accepting = scope.spawn([&] {
        std::error_code error;
        TcpStream stream = listener.accept(error);
        EXPECT_TRUE(stream.is_open() || error == std::errc::operation_canceled) << error;
        return stream;
      });
      yield();
      TcpStream client = net::connect(listener.local_address());
      accepting.cancel();  // it may have come too late
      TcpStream server = accepting.get();
      if (!server.is_open()) server = listener.accept();
      EXPECT_EQ(server.peer_address(), client.local_address());
    }
  });
}

TEST_F(ListenerTest, ClosingWakesTheAcceptor) {
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    const Address address = listener.local_address();
    Scope scope;
    auto accepting = scope.spawn([&] { return failure_of([&] { static_cast<void>(listener.accept()); }); });
    yield();
    listener.close();
    const Failure failure = accepting.get();
    EXPECT_EQ(failure.code, std::errc::bad_file_descriptor);
    EXPECT_EQ(failure.text, "accept on a closed socket: Bad file descriptor");
    EXPECT_EQ(failure_of([&] { static_cast<void>(listener.accept()); }).code, std::errc::bad_file_descriptor);
    EXPECT_EQ(failure_of([&] { static_cast<void>(listener.local_address()); }).code, std::errc::bad_file_descriptor);
    EXPECT_FALSE(listener.is_open());
    listener.close();  // harmless
    EXPECT_EQ(failure_of([&] { static_cast<void>(net::connect(address)); }).code, std::errc::connection_refused);
  });
}

TEST_F(ListenerTest, ASecondAcceptorIsRefused) {
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    Scope scope;
    auto accepting = scope.spawn([&] { return listener.accept(); });
    yield();
    EXPECT_EQ(failure_of([&] { static_cast<void>(listener.accept()); }).code, std::errc::device_or_resource_busy);
    TcpStream client = net::connect(listener.local_address());
    EXPECT_TRUE(accepting.get().is_open());
  });
}

TEST_F(ListenerTest, AConnectionThatIsGoneAgainDoesNoHarm) {
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    for (int i = 0; i < 20; ++i) net::connect(listener.local_address()).reset();
    TcpStream client = net::connect(listener.local_address());
    client.write_all("alive");
    // Linux hands out the dead ones, too; other systems skip them.
    for (;;) {
      TcpStream server = listener.accept();
      std::error_code error;
      const Chunk chunk = server.read(error);
      if (chunk.text() == "alive") break;
      EXPECT_EQ(error, std::errc::connection_reset);
    }
  });
}

TEST_F(ListenerTest, OthersGetTheirTurnWhileManyAreAccepted) {
  on_loop([] {
    auto listener = TcpListener::bind(Address::loopback_v4(0), {.accept_budget = 10});
    std::vector<TcpStream> clients;
    clients.reserve(100);
    for (int i = 0; i < 100; ++i) clients.push_back(net::connect(listener.local_address()));
    Scope scope;
    int turns = 0;
    auto other = scope.spawn([&] {
      for (;; ++turns) yield();
    });
    for (int i = 0; i < 100; ++i) static_cast<void>(listener.accept());
    EXPECT_GE(turns, 9);
    other.cancel();
  });
}

// --- Out of descriptors ----------------------------------------------------------------------------------------------

/// Lets the process have so many descriptors more than it has now; undone at the end.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(int more) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    int highest = 0;
    for (int fd = 0; fd < static_cast<int>(std::min<rlim_t>(before_.rlim_cur, 65'536)); ++fd) {
      if (::fcntl(fd, F_GETFD) >= 0) highest = fd;
    }
    // The limit is one on numbers, so no lower ones may be free.
    for (Fd filler(::dup(0)); filler.get() < highest; filler = Fd(::dup(0))) fillers_.push_back(std::move(filler));
    ::rlimit lowered = before_;
    lowered.rlim_cur = static_cast<rlim_t>(highest) + 1 + static_cast<rlim_t>(more);
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &lowered), 0);
  }
  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;
  ~DescriptorLimit() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  ::rlimit before_{};
  std::vector<Fd> fillers_;
};

std::vector<Socket> unconnected(std::size_t count) {
  std::vector<Socket> sockets;
  std::error_code error;
  while (sockets.size() < count && !error) sockets.push_back(Socket::open(AF_INET, SOCK_STREAM, 0, error));
  EXPECT_FALSE(error) << error;
  return sockets;
}

TcpStream connect_with(Socket socket, const Address& address) {
  std::error_code error;
  socket.connect(address.native(), address.native_size(), error);
  // Who is turned away at once may hear of it here.
  EXPECT_TRUE(!error || error == std::errc::connection_reset) << error;
  return TcpStream(std::move(socket));
}

bool is_served(TcpStream& client) {
  std::error_code error;
  client.write_all("x", error);
  const Chunk chunk = client.read(error);
  EXPECT_NE(error, std::errc::timed_out) << "neither served nor turned away";
  return !error && chunk.text() == "x";
}

TEST_F(ListenerTest, RunningOutOfDescriptorsTurnsTheRestAway) {
  if (run([] { return on_sim(); })) GTEST_SKIP() << "needs descriptors of the system";
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    const Address address = listener.local_address();
    Scope scope;
    auto server = scope.spawn([&] { return net::serve(listener, echo).accepted; });
    TcpStream old = net::connect(address);
    EXPECT_TRUE(is_served(old));
    std::vector<Socket> sockets = unconnected(24);
    const DescriptorLimit limit(4);
    std::vector<TcpStream> served;
    for (Socket& each : sockets) {
      TcpStream client = connect_with(std::move(each), address);
      client.set_timeout(10s);
      if (is_served(client)) served.push_back(std::move(client));
      EXPECT_TRUE(is_served(old)) << "who is in stays in";
    }
    // The clients that were turned away give theirs back, so there is room again from time to time.
    EXPECT_GE(served.size(), 4U);
    EXPECT_LT(served.size(), 24U) << "nobody was turned away: this test does not reach the limit";
    served.clear();
    TcpStream later = net::connect(address);
    later.set_timeout(10s);
    EXPECT_TRUE(is_served(later)) << "accepting resumes";
    listener.close();
    old.close();
    later.close();
    EXPECT_LT(server.get(), 26U);
  });
}

TEST_F(ListenerTest, WaitingForDescriptorsDoesNotSpin) {
  if (run([] { return on_sim(); })) GTEST_SKIP() << "needs descriptors of the system";
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    std::vector<Socket> sockets = unconnected(8);
    const DescriptorLimit limit(0);
    Scope scope;
    auto accepting = scope.spawn([&] { return listener.accept(); });
    std::vector<TcpStream> clients;
    clients.reserve(sockets.size());
    for (Socket& each : sockets) clients.push_back(connect_with(std::move(each), listener.local_address()));
    const LoopStats before = this_loop::stats();
    sleep_for(200ms);
    const LoopStats after = this_loop::stats();
    EXPECT_FALSE(accepting.done());
    EXPECT_LT(after.operations_started - before.operations_started, 100U);
    EXPECT_LT(after.turns - before.turns, 200U);
    clients.erase(clients.begin(), clients.begin() + 4);  // room, for this one and later ones
    TcpStream late = net::connect(listener.local_address());
    TcpStream accepted = accepting.get();
    EXPECT_TRUE(accepted.is_open());
  });
}

TEST_F(ListenerTest, TheLimitOfAcceptHoldsWithoutDescriptors) {
  if (run([] { return on_sim(); })) GTEST_SKIP() << "needs descriptors of the system";
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    std::vector<Socket> sockets = unconnected(1);
    const DescriptorLimit limit(0);
    listener.set_timeout(50ms);
    EXPECT_EQ(failure_of([&] { static_cast<void>(listener.accept()); }).code, std::errc::timed_out);
    TcpStream client = connect_with(std::move(sockets[0]), listener.local_address());
    client.set_timeout(20s);
    EXPECT_EQ(failure_of([&] { static_cast<void>(listener.accept()); }).code, std::errc::timed_out);
    EXPECT_FALSE(is_served(client)) << "who came later is turned away, too";
    listener.set_timeout(0ms);
    EXPECT_FALSE(move_on_after(50ms, [&] { static_cast<void>(listener.accept()); }))
        << "nor does cancelling have to wait";
    Scope scope;
    auto accepting = scope.spawn([&] { return failure_of([&] { static_cast<void>(listener.accept()); }).code; });
    yield();
    listener.close();
    EXPECT_EQ(accepting.get(), std::errc::bad_file_descriptor);
  });
}

TEST_F(ListenerTest, AnOutageIsLoggedOnce) {
  const Ended ended = in_child([] {
    RunOptions quiet;
    quiet.stop_on_signals = false;
    return run(quiet, [] {
      if (on_sim()) return 77;
      set_log_level(LogLevel::warning);
      auto listener = TcpListener::bind("127.0.0.1:0");
      std::vector<Socket> sockets = unconnected(8);
      const DescriptorLimit limit(0);
      listener.set_timeout(200ms);
      Scope scope;
      auto accepting = scope.spawn([&] {
        std::error_code error;
        return listener.accept(error);
      });
      std::vector<TcpStream> clients;
      clients.reserve(sockets.size());
      for (Socket& each : sockets) clients.push_back(connect_with(std::move(each), listener.local_address()));
      accepting.join();
      return 0;
    });
  });
  if (ended.with(77)) GTEST_SKIP() << "needs descriptors of the system";
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  const std::string line = "Too many open files: connections have to wait or are turned away";
  const std::size_t first = ended.errors.find(line);
  EXPECT_NE(first, std::string::npos) << describe(ended);
  EXPECT_EQ(ended.errors.find(line, first + 1), std::string::npos) << describe(ended);
}

}  // namespace
}  // namespace bight::test
