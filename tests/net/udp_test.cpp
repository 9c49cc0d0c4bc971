// SPDX-License-Identifier: Apache-2.0

#include <bight/net/udp.hpp>

#include <array>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <bight/deadline.hpp>
#include <bight/event.hpp>
#include <bight/scope.hpp>
#include <bight/stop.hpp>

#include "net_test.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using net::Address;
using net::UdpBatch;
using net::UdpDatagram;
using net::UdpOptions;
using net::UdpSocket;
using test::bytes_of;
using test::failure_of;
using test::on_loop;

class Udp : public test::NetTest {};

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Receives one, as text.
std::string take(UdpSocket& socket, UdpDatagram* info = nullptr) {
  std::array<std::byte, 2048> buffer;
  socket.set_receive_timeout(10s);
  const UdpDatagram got = socket.receive(buffer);
  if (info != nullptr) *info = got;
  return text_of(std::span(buffer).first(got.size));
}

TEST_F(Udp, SendsAndRepliesOverBothFamilies) {
  on_loop([] {
    for (const char* where : {"127.0.0.1:0", "[::1]:0"}) {
      auto server = UdpSocket::bind(where);
      auto client = UdpSocket::bind(where);
      client.send_to("ping", server.local_address());
      UdpDatagram info;
      EXPECT_EQ(take(server, &info), "ping");
      EXPECT_EQ(info.peer, client.local_address());
      EXPECT_FALSE(info.truncated());
      EXPECT_FALSE(info.local);
      server.reply(info, "pong");
      EXPECT_EQ(take(client, &info), "pong");
      EXPECT_EQ(info.peer, server.local_address());
    }
  });
}

TEST_F(Udp, EmptyDatagramsAreDatagrams) {
  on_loop([] {
    auto server = UdpSocket::bind("127.0.0.1:0");
    auto client = UdpSocket::connect(server.local_address());
    client.send("");
    UdpDatagram info;
    EXPECT_EQ(take(server, &info), "");
    EXPECT_EQ(info.peer, client.local_address());
  });
}

TEST_F(Udp, TruncationIsTold) {
  on_loop([] {
    auto server = UdpSocket::bind("127.0.0.1:0");
    auto client = UdpSocket::connect(server.local_address());
    client.send("0123456789");
    std::array<std::byte, 4> small;
    const UdpDatagram got = server.receive(small);
    EXPECT_TRUE(got.truncated());
    EXPECT_EQ(got.size, 4U);
    EXPECT_EQ(got.full_size, 10U);
    client.send("next");
    EXPECT_EQ(take(server), "next") << "the rest is gone";
  });
}

TEST_F(Udp, TheConnectedHearOnlyTheirPeer) {
  on_loop([] {
    auto server = UdpSocket::bind("127.0.0.1:0");
    auto client = UdpSocket::connect(server.local_address());
    auto stranger = UdpSocket::bind("127.0.0.1:0");
    EXPECT_EQ(client.peer_address(), server.local_address());
    stranger.send_to("not for you", client.local_address());
    client.send("hello");
    UdpDatagram info;
    EXPECT_EQ(take(server, &info), "hello");
    server.reply(info, "answer");
    EXPECT_EQ(take(client), "answer");
    std::error_code error;
    EXPECT_EQ(server.peer_address(error), Address());
    EXPECT_EQ(error, std::errc::not_connected);
  });
}

TEST_F(Udp, ConnectionRefusedIsToldWhenNobodyIsThere) {
  on_loop([] {
    Address gone;
    {
      auto server = UdpSocket::bind("127.0.0.1:0");
      gone = server.local_address();
    }
    auto client = UdpSocket::connect(gone);
    client.send("anybody?");
    const auto failure = failure_of([&] { take(client); });
    EXPECT_EQ(failure.code, std::errc::connection_refused);
    EXPECT_EQ(failure.text, "receive on " + client.local_address().to_string() + ": Connection refused");
    // Those without a peer are not told.
    auto other = UdpSocket::bind("127.0.0.1:0");
    other.send_to("anybody?", gone);
    other.set_timeout(20ms);
    std::array<std::byte, 8> buffer;
    EXPECT_EQ(failure_of([&] { other.receive(buffer); }).code, std::errc::timed_out);
  });
}

TEST_F(Udp, ErrorsSayWhatWasAttempted) {
  on_loop([] {
    auto first = UdpSocket::bind("127.0.0.1:0");
    const std::string where = first.local_address().to_string();
    EXPECT_EQ(failure_of([&] { auto second = UdpSocket::bind(where); }).text,
              "bind " + where + ": Address already in use");
    const std::vector<std::byte> large(70'000);
    EXPECT_EQ(failure_of([&] { first.send_to(large, first.local_address()); }).text,
              "send to " + where + ": Message too long");
    EXPECT_EQ(failure_of([&] { first.send_to("x", Address::parse("255.255.255.255:9")); }).code,
              std::errc::permission_denied);
    first.close();
    EXPECT_EQ(failure_of([&] { take(first); }).code, std::errc::bad_file_descriptor);
  });
}

TEST_F(Udp, WaitsEndByCancelTimeoutAndClose) {
  on_loop([] {
    auto server = UdpSocket::bind("127.0.0.1:0");
    std::array<std::byte, 8> buffer;
    auto cancelled = spawn([&] { return test::is_cancelled([&] { server.receive(buffer); }); });
    yield();
    cancelled.cancel();
    EXPECT_TRUE(cancelled.get());
    server.set_timeout(5ms);
    EXPECT_EQ(failure_of([&] { server.receive(buffer); }).code, std::errc::timed_out);
    server.set_timeout(0ms);
    EXPECT_FALSE(move_on_after(5ms, [&] {
      UdpBatch batch(4);
      server.receive_many(batch);
    }));
    auto closed = spawn([&] { return failure_of([&] { server.receive(buffer); }).code; });
    yield();
    server.close();
    EXPECT_EQ(closed.get(), std::errc::bad_file_descriptor);
  });
}

TEST_F(Udp, OneReceivesWhileAnotherSends) {
  on_loop([] {
    auto server = UdpSocket::bind("127.0.0.1:0");
    auto client = UdpSocket::connect(server.local_address());
    auto receiving = spawn([&] {
      for (int n = 0; n < 20; ++n) EXPECT_EQ(take(client), std::to_string(n));
    });
    for (int n = 0; n < 20; ++n) {
      client.send(std::to_string(n));
      UdpDatagram info;
      const std::string text = take(server, &info);
      server.reply(info, text);
    }
    receiving.join();
  });
}

TEST_F(Udp, PacketInfoTellsWhereItWasSentTo) {
  on_loop([] {
    auto server = UdpSocket::bind(Address::any_v4(0), UdpOptions{.packet_info = true});
    auto client = UdpSocket::bind("127.0.0.1:0");
    const Address second = Address::parse("127.0.0.2", server.local_address().port());
    client.send_to("hello", second);
    UdpDatagram info;
    EXPECT_EQ(take(server, &info), "hello");
    ASSERT_TRUE(info.local);
    EXPECT_EQ(info.local->host(), "127.0.0.2");
    EXPECT_NE(info.interface, 0U);
    server.reply(info, "from the second");
    EXPECT_EQ(take(client, &info), "from the second");
    EXPECT_EQ(info.peer, second);
  });
}

TEST_F(Udp, PacketInfoOverIPv6) {
  on_loop([] {
    auto server = UdpSocket::bind(Address::any_v6(0), UdpOptions{.packet_info = true});
    auto client = UdpSocket::bind("[::1]:0");
    client.send_to("hello", Address::loopback_v6(server.local_address().port()));
    UdpDatagram info;
    EXPECT_EQ(take(server, &info), "hello");
    ASSERT_TRUE(info.local);
    EXPECT_EQ(info.local->host(), "::1");
    server.reply(info, "back");
    EXPECT_EQ(take(client), "back");
    auto old = UdpSocket::bind("127.0.0.1:0");
    old.send_to("from IPv4", Address::loopback_v4(server.local_address().port()));
    EXPECT_EQ(take(server, &info), "from IPv4");
    EXPECT_TRUE(info.peer.is_v6()) << "mapped";
    server.reply(info, "to IPv4");
    EXPECT_EQ(take(old), "to IPv4");
  });
}

TEST_F(Udp, BatchesGoOutAndComeInTogether) {
  on_loop([] {
    auto server = UdpSocket::bind("127.0.0.1:0");
    auto client = UdpSocket::bind("127.0.0.1:0");
    UdpBatch out(16, 64);
    for (int n = 0; n < 16; ++n) {
      EXPECT_TRUE(out.add(bytes_of("number " + std::to_string(n)), server.local_address()));
    }
    EXPECT_FALSE(out.add(bytes_of("one too many"), server.local_address()));
    EXPECT_EQ(client.send_many(out), 16U);
    UdpBatch in(32, 64);
    int next = 0;
    while (next < 16) {
      server.receive_many(in);
      for (std::size_t n = 0; n < in.size(); ++n) {
        EXPECT_EQ(text_of(in[n]), "number " + std::to_string(next++));
        EXPECT_EQ(in.address(n), client.local_address());
        EXPECT_FALSE(in.truncated(n));
      }
      server.send_many(in);  // back to whom they came from
    }
    for (int n = 0; n < 16; ++n) EXPECT_EQ(take(client), "number " + std::to_string(n));
  });
}

// Neighbours of one size and peer leave together; nobody who receives them can tell.
TEST_F(Udp, BatchesOfAllSizesToSeveralPeers) {
  on_loop([] {
    auto sender = UdpSocket::bind("127.0.0.1:0");
    auto first = UdpSocket::bind("127.0.0.1:0");
    auto second = UdpSocket::bind("127.0.0.1:0");
    std::vector<std::string> to_first;
    std::vector<std::string> to_second;
    UdpBatch batch(150, 64);
    for (std::size_t n = 0; n < 150; ++n) {
      const bool goes_first = n < 100 || n % 3 == 0;
      const std::string text(n < 80 ? 8 : n % 7, static_cast<char>('a' + n % 26));
      (goes_first ? to_first : to_second).push_back(text);
      ASSERT_TRUE(batch.add(bytes_of(text), goes_first ? first.local_address() : second.local_address()));
    }
    EXPECT_EQ(sender.send_many(batch), 150U);
    for (const std::string& text : to_first) EXPECT_EQ(take(first), text);
    for (const std::string& text : to_second) EXPECT_EQ(take(second), text);
  });
}

TEST_F(Udp, BatchesTellOfTruncationAndOfTheirLimits) {
  on_loop([] {
    auto server = UdpSocket::bind("127.0.0.1:0");
    auto client = UdpSocket::connect(server.local_address());
    UdpBatch batch(4, 4);
    EXPECT_FALSE(batch.add(bytes_of("12345")));
    EXPECT_TRUE(batch.add(bytes_of("1234")));
    batch.resize(0, 2);
    EXPECT_EQ(client.send_many(batch), 1U);
    EXPECT_EQ(take(server), "12");
    client.send("123456");
    server.receive_many(batch);
    ASSERT_EQ(batch.size(), 1U);
    EXPECT_TRUE(batch.truncated(0));
    EXPECT_EQ(text_of(batch[0]), "1234");
    batch.clear();
    EXPECT_EQ(client.send_many(batch), 0U) << "nothing to send";
  });
}

TEST_F(Udp, SegmentsArriveOneByOne) {
  on_loop([] {
    auto server = UdpSocket::bind("127.0.0.1:0");
    auto client = UdpSocket::bind("127.0.0.1:0");
    std::string text;
    for (int n = 0; n < 150; ++n) text += "segment " + std::to_string(1000 + n);
    client.send_segments(bytes_of(text), 12, server.local_address());
    for (int n = 0; n < 150; ++n) EXPECT_EQ(take(server), "segment " + std::to_string(1000 + n));
    auto connected = UdpSocket::connect(server.local_address());
    connected.send_segments(bytes_of("aaabbbc"), 3);
    EXPECT_EQ(take(server), "aaa");
    EXPECT_EQ(take(server), "bbb");
    EXPECT_EQ(take(server), "c");
  });
}

TEST_F(Udp, GluedSegmentsAreTold) {
  on_loop([] {
    auto server = UdpSocket::bind(Address::loopback_v4(0), UdpOptions{.receive_segments = true});
    auto client = UdpSocket::connect(server.local_address());
    server.set_timeout(10s);
    client.send_segments(bytes_of("aaabbbccc"), 3);
    std::string all;
    std::vector<std::byte> buffer(net::kUdpBufferMax);
    while (all.size() < 9) {
      const UdpDatagram got = server.receive(buffer);
      EXPECT_TRUE(got.segment_size == 3 || (got.segment_size == 0 && got.size == 3));
      all += text_of(std::span(buffer).first(got.size));
    }
    EXPECT_EQ(all, "aaabbbccc");
    // And back, as they came.
    client.send_segments(bytes_of("dddeee"), 3);
    UdpBatch batch(4, net::kUdpBufferMax);
    int came_back = 0;
    while (came_back < 2) {
      server.receive_many(batch);
      server.send_many(batch);
      for (std::size_t n = 0; n < batch.size(); ++n) came_back += static_cast<int>(batch[n].size() / 3);
    }
    EXPECT_EQ(take(client), "ddd");
    EXPECT_EQ(take(client), "eee");
  });
}

TEST_F(Udp, MulticastReachesItsMembers) {
  on_loop([] {
    const auto try_group = [](const char* group_text, Address any, Address from, unsigned interface) {
      auto member = UdpSocket::bind(any, UdpOptions{.reuse_address = true});
      auto stranger = UdpSocket::bind(any.with_port(0), {});
      const Address group = Address::parse(group_text, member.local_address().port());
      std::error_code error;
      member.join(group, interface, error);
      if (error == std::errc::no_such_device) return;  // no route for groups in here
      EXPECT_FALSE(error) << error;
      member.join(group, interface, error);
      EXPECT_EQ(error, std::errc::address_in_use);
      auto sender = UdpSocket::bind(from);
      sender.set_multicast_interface(interface);
      sender.set_multicast_loop(true);
      sender.set_multicast_ttl(0);
      sender.send_to(bytes_of("to all"), group, error);
      if (error == std::errc::network_unreachable) return;  // the same
      EXPECT_FALSE(error) << error;
      EXPECT_EQ(take(member), "to all");
      member.leave(group, interface);
      EXPECT_EQ(failure_of([&] { member.leave(group, interface); }).code, std::errc::address_not_available);
    };
    try_group("239.1.2.3", Address::any_v4(0), Address::loopback_v4(0), 1);
    try_group("ff01::1234", Address::any_v6(0), Address::loopback_v6(0), 1);
    auto socket = UdpSocket::bind("127.0.0.1:0");
    EXPECT_EQ(failure_of([&] { socket.join(Address::parse("10.0.0.1:1")); }).code, std::errc::invalid_argument);
  });
}

TEST_F(Udp, SettingsReachTheSystem) {
  on_loop([] {
    auto socket = UdpSocket::bind(Address::loopback_v4(0), UdpOptions{.receive_buffer = 50'000, .send_buffer = 40'000});
    EXPECT_EQ(socket.receive_buffer(), 100'000);
    EXPECT_EQ(socket.send_buffer(), 80'000);
    socket.set_ttl(5);
    socket.set_tos(0x10);
    socket.set_broadcast(true);
    std::error_code error;
    EXPECT_EQ(socket.socket().option(IPPROTO_IP, IP_TTL, error), 5);
    EXPECT_EQ(socket.socket().option(IPPROTO_IP, IP_TOS, error), 0x10);
    EXPECT_EQ(socket.socket().option(SOL_SOCKET, SO_BROADCAST, error), 1);
  });
}

TEST_F(Udp, PortsCanBeShared) {
  on_loop([] {
    auto first = UdpSocket::bind(Address::loopback_v4(0), UdpOptions{.reuse_port = true});
    auto second = UdpSocket::bind(first.local_address(), UdpOptions{.reuse_port = true});
    EXPECT_EQ(first.local_address(), second.local_address());
    EXPECT_EQ(failure_of([&] { auto third = UdpSocket::bind(first.local_address()); }).code, std::errc::address_in_use);
  });
}

// --- Servers ---------------------------------------------------------------------------------------------------------

class DatagramServers : public test::NetTest {};

/// A server in a fiber of its own, until the end of the block.
template <class Handler>
struct Serving {
  UdpSocket socket = UdpSocket::bind("127.0.0.1:0");
  Fiber<net::DatagramServeStats> fiber;

  explicit Serving(Handler handler, net::DatagramServeOptions options = {})
      : fiber(spawn([this, handler, options] { return net::serve_datagrams(socket, handler, options); })) {}
  net::DatagramServeStats end() {
    socket.close();
    return fiber.get();
  }
};

TEST_F(DatagramServers, AnswerEachInAFiberOfItsOwn) {
  on_loop([] {
    Serving server([](const net::UdpRequest& request) {
      if (text_of(request.data) == "slow") sleep_for(20ms);
      request.reply("you said: " + text_of(request.data));
    });
    auto client = UdpSocket::connect(server.socket.local_address());
    client.send("slow");
    client.send("quick");
    EXPECT_EQ(take(client), "you said: quick");
    EXPECT_EQ(take(client), "you said: slow");
    const auto stats = server.end();
    EXPECT_EQ(stats.received, 2U);
    EXPECT_EQ(stats.dropped, 0U);
  });
}

TEST_F(DatagramServers, ManyHandlersReplyAtOnce) {
  on_loop([] {
    Serving server([](const net::UdpRequest& request) {
      yield();
      request.reply(request.data);
    });
    auto client = UdpSocket::connect(server.socket.local_address());
    for (int n = 0; n < 50; ++n) client.send(std::to_string(n));
    std::set<std::string> answers;
    for (int n = 0; n < 50; ++n) answers.insert(take(client));
    EXPECT_EQ(answers.size(), 50U);
    EXPECT_EQ(server.end().failed, 0U);
  });
}

TEST_F(DatagramServers, DropWhatTheyHaveNoHandlerFor) {
  on_loop([] {
    Event go;
    Serving server(
        [&](const net::UdpRequest& request) {
          go.wait();
          request.reply(request.data);
        },
        {.handlers_max = 2, .datagram_max = 8});
    auto client = UdpSocket::connect(server.socket.local_address());
    for (const char* text : {"one", "two", "three", "much too long"}) client.send(text);
    sleep_for(20ms);
    go.set();
    EXPECT_EQ(take(client), "one");
    EXPECT_EQ(take(client), "two");
    client.send("four");
    EXPECT_EQ(take(client), "four");
    const auto stats = server.end();
    EXPECT_EQ(stats.received, 5U);
    EXPECT_EQ(stats.dropped, 1U);
    EXPECT_EQ(stats.oversized, 1U);
  });
}

TEST_F(DatagramServers, SurviveTheirHandlersErrors) {
  on_loop([] {
    Serving server([](const net::UdpRequest& request) {
      if (text_of(request.data) == "bad") throw std::runtime_error("as the test wants it");
      request.reply("fine");
    });
    auto client = UdpSocket::connect(server.socket.local_address());
    client.send("bad");
    client.send("good");
    EXPECT_EQ(take(client), "fine");
    EXPECT_EQ(server.end().failed, 1U);
  });
}

TEST_F(DatagramServers, DrainAtAStopAndThenCancel) {
  on_loop([] {
    int finished = 0;
    int cancelled = 0;
    Serving server(
        [&](const net::UdpRequest& request) {
          try {
            sleep_for(text_of(request.data) == "short" ? 10ms : Duration(1h));
            ++finished;
          } catch (const Cancelled&) {
            ++cancelled;
            throw;
          }
        },
        {.drain = 500ms});
    auto client = UdpSocket::connect(server.socket.local_address());
    client.send("short");
    client.send("long");
    sleep_for(5ms);
    request_stop();
    EXPECT_EQ(server.fiber.get().received, 2U);
    EXPECT_EQ(finished, 1);
    EXPECT_EQ(cancelled, 1);
  });
}

}  // namespace
}  // namespace bight
