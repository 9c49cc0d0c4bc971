// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/net/tcp.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>

#include "net_test.hpp"
#include "on_loop.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::Address;
using net::TcpListener;
using net::TcpStream;

class ConnectTest : public NetTest {};

/// Where nobody listens: the port belongs to a connection, so nobody will, and it is not picked for the client's end
/// either.
struct Nobody {
  StreamPair pair = stream_pair();
  Address address = pair.client.local_address();
};

/// A listener that has let in all it can without accepting. More have to wait.
struct FullListener {
  TcpListener listener = TcpListener::bind(Address::loopback_v4(0), {.backlog = 1});
  std::vector<TcpStream> queued;

  FullListener() {
    std::error_code error;
    while (queued.size() < 64) {
      TcpStream stream = net::connect(listener.local_address(), {.timeout = 100ms}, error);
      if (error) break;
      queued.push_back(std::move(stream));
    }
    EXPECT_EQ(error, std::errc::timed_out);
  }
};

TEST_F(ConnectTest, RefusedNamesThePeer) {
  on_loop([] {
    const Nobody nobody;
    const Failure failure = failure_of([&] { static_cast<void>(net::connect(nobody.address)); });
    EXPECT_EQ(failure.code, std::errc::connection_refused);
    EXPECT_EQ(failure.text, "connect to " + nobody.address.to_string() + ": Connection refused");
    EXPECT_EQ(this_loop::stats().descriptors_open, 2U) << "those of the pair";
    std::error_code error;
    EXPECT_FALSE(net::connect(nobody.address, error).is_open());
    EXPECT_EQ(error, std::errc::connection_refused);
  });
}

TEST_F(ConnectTest, TakesATextForAnAddress) {
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    TcpStream stream = net::connect(listener.local_address().to_string());
    EXPECT_TRUE(stream.is_open());
    EXPECT_EQ(failure_of([] { static_cast<void>(net::connect("example.org:80")); }).code, std::errc::invalid_argument);
  });
}

TEST_F(ConnectTest, ConnectsFromTheAddressAskedFor) {
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    const Address local = Address::parse("127.0.0.2:0");
    TcpStream client = net::connect(listener.local_address(), {.local = local});
    TcpStream server = listener.accept();
    EXPECT_EQ(server.peer_address().host(), "127.0.0.2");
    EXPECT_EQ(server.peer_address(), client.local_address());

    const Address other_family = Address::loopback_v6(0);
    EXPECT_TRUE(
        failure_of([&] { static_cast<void>(net::connect(listener.local_address(), {.local = other_family})); }).code);
    // The port of another connection to the same peer.
    const Failure taken = failure_of(
        [&] { static_cast<void>(net::connect(listener.local_address(), {.local = client.local_address()})); });
    EXPECT_TRUE(taken.code);
    EXPECT_EQ(taken.text.substr(0, taken.text.find(": ")),
              "connect to " + listener.local_address().to_string() + " from " + client.local_address().to_string());
  });
}

TEST_F(ConnectTest, TimesOutWhenNobodyAnswers) {
  on_loop([] {
    FullListener full;
    const std::uint64_t before = this_loop::stats().descriptors_open;
    const TimePoint begin = now();
    const Address address = full.listener.local_address();
    const Failure failure = failure_of([&] { static_cast<void>(net::connect(address, {.timeout = 100ms})); });
    EXPECT_EQ(failure.code, std::errc::timed_out);
    EXPECT_EQ(failure.text, "connect to " + address.to_string() + ": Connection timed out");
    EXPECT_GE(now() - begin, 100ms);
    EXPECT_LT(now() - begin, 10s);
    EXPECT_EQ(this_loop::stats().descriptors_open, before);
  });
}

TEST_F(ConnectTest, TheLimitIsForConnectingOnly) {
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    TcpStream client = net::connect(listener.local_address(), {.timeout = 20ms});
    EXPECT_EQ(client.socket().write_timeout(), 0ms);
    EXPECT_EQ(client.socket().read_timeout(), 0ms);
  });
}

TEST_F(ConnectTest, CancelledClosesTheSocket) {
  on_loop([] {
    FullListener full;
    const std::uint64_t before = this_loop::stats().descriptors_open;
    const Address address = full.listener.local_address();
    EXPECT_FALSE(move_on_after(50ms, [&] { static_cast<void>(net::connect(address)); }));
    EXPECT_EQ(this_loop::stats().descriptors_open, before);
    Scope scope;
    auto connecting = scope.spawn([&] { return is_cancelled([&] { static_cast<void>(net::connect(address)); }); });
    yield();
    EXPECT_EQ(this_loop::stats().descriptors_open, before + 1);
    connecting.cancel();
    EXPECT_TRUE(connecting.get());
    EXPECT_EQ(this_loop::stats().descriptors_open, before);
    // Room again, and all is as ever.
    static_cast<void>(full.listener.accept());
    static_cast<void>(full.listener.accept());
    EXPECT_TRUE(net::connect(address).is_open());
  });
}

TEST_F(ConnectTest, ManyAtOnce) {
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    constexpr int kCount = 300;
    Scope scope;
    int connected = 0;
    for (int i = 0; i < kCount; ++i) {
      scope
          .spawn([&] {
            TcpStream stream = net::connect(listener.local_address());
            ++connected;
            EXPECT_FALSE(stream.read());
          })
          .detach();
    }
    std::vector<TcpStream> accepted;
    while (accepted.size() < kCount) accepted.push_back(listener.accept());
    accepted.clear();
    scope.join();
    EXPECT_EQ(connected, kCount);
  });
}

TEST_F(ConnectTest, AConnectionToItselfIsRefused) {
  on_loop([] {
    if (on_sim()) GTEST_SKIP() << "the simulated network has none";
    // By chance this happens when the system picks the peer's own port for the client's end.
    const Address free = TcpListener::bind("127.0.0.1:0").local_address();
    // An unspecified address leads here, too.
    for (const Address& peer : {free, Address::any_v4(free.port())}) {
      const Failure failure = failure_of([&] { static_cast<void>(net::connect(peer, {.local = free})); });
      EXPECT_EQ(failure.code, std::errc::connection_refused) << failure.text;
    }
    // Nothing of it is left, so the server that belongs there can have its port.
    EXPECT_EQ(TcpListener::bind(free, {.reuse_address = false}).local_address(), free);
  });
}

TEST_F(ConnectTest, EachWayOfFailingIsAnError) {
  on_loop([] {
    if (on_sim()) GTEST_SKIP() << "there every address exists";
    const Failure not_ours = failure_of(
        [] { static_cast<void>(net::connect(Address::loopback_v4(1), {.local = Address::parse("203.0.113.1:0")})); });
    EXPECT_EQ(not_ours.code, std::errc::address_not_available);
    EXPECT_EQ(not_ours.text, "connect to 127.0.0.1:1 from 203.0.113.1:0: Cannot assign requested address");
    const Failure nowhere = failure_of([] { static_cast<void>(net::connect("255.255.255.255:80")); });
    EXPECT_TRUE(nowhere.code);
  });
}

}  // namespace
}  // namespace bight::test
