// SPDX-License-Identifier: Apache-2.0

// Datagrams in networks that these tests make for themselves: several interfaces, small packets, hosts that are not
// there.

#include <net/if.h>

#include <array>
#include <string>
#include <string_view>

#include <bight/net/udp.hpp>

#include "net_test.hpp"
#include "network_namespace.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using net::Address;
using net::UdpDatagram;
using net::UdpError;
using net::UdpOptions;
using net::UdpSocket;
using test::kNoNamespace;
using test::require;

class UdpNetwork : public test::NetTest {
 protected:
  /// Two hosts' worth of interfaces in one: what goes out by one of a pair comes in by the other.
  static constexpr const char* kTwoPairs =
      "ip link add a0 type veth peer name a1; ip link add b0 type veth peer name b1;"
      "ip addr add 10.1.0.1/24 dev a0; ip addr add 10.1.0.2/24 dev a1;"
      "ip addr add 10.2.0.1/24 dev b0; ip addr add 10.2.0.2/24 dev b1;"
      "for i in a0 a1 b0 b1; do echo 0 > /proc/sys/net/ipv4/conf/$i/rp_filter;"
      "  echo 1 > /proc/sys/net/ipv4/conf/$i/accept_local; ip link set $i up; done;"
      "echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter";

  template <class Body>
  static void in_network(const std::string& setup, Body&& body) {
    if (run([] { return test::on_sim(); })) GTEST_SKIP() << "needs a network of the kernel's";
    const test::Ended ended = test::in_namespace(setup, [&] { run(body); });
    if (ended.with(kNoNamespace)) GTEST_SKIP() << "no network namespaces here: " << ended.errors;
    EXPECT_TRUE(ended.with(0)) << test::describe(ended);
  }
};

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The next datagram, or "" when none comes for a while.
std::string take(UdpSocket& socket, Duration limit = 10s, UdpDatagram* info = nullptr) {
  std::array<std::byte, 4096> buffer;
  socket.set_receive_timeout(limit);
  std::error_code error;
  const UdpDatagram got = socket.receive(buffer, error);
  if (error == std::errc::timed_out) return {};
  require(!error, "received: " + error.message());
  if (info != nullptr) *info = got;
  return text_of(std::span(buffer).first(got.size));
}

std::string refusal(UdpSocket& socket) {
  std::array<std::byte, 64> buffer;
  socket.set_receive_timeout(10s);
  std::error_code error;
  static_cast<void>(socket.receive(buffer, error));
  return error.message();
}

TEST_F(UdpNetwork, MulticastByTheInterfaceAskedFor) {
  in_network(kTwoPairs, [] {
    const Address group = Address::parse("239.7.7.7:7777");
    auto by_a = UdpSocket::bind(Address::any_v4(7777), UdpOptions{.reuse_address = true, .packet_info = true});
    by_a.join(group, ::if_nametoindex("a1"));
    auto sender = UdpSocket::bind(Address::any_v4(0));
    sender.set_multicast_interface(::if_nametoindex("b0"));
    sender.send_to("by b", group);
    sender.set_multicast_interface(::if_nametoindex("a0"));
    sender.send_to("by a", group);
    UdpDatagram info;
    const std::string text = take(by_a, 10s, &info);
    require(text == "by a", "the member hears its own interface only, not: " + text);
    require(info.interface == ::if_nametoindex("a1"), "it came in by a1");

    by_a.join(group, ::if_nametoindex("b1"));
    sender.set_multicast_interface(::if_nametoindex("b0"));
    sender.send_to("by b again", group);
    require(take(by_a) == "by b again", "a member by two interfaces hears both");
    by_a.leave(group, ::if_nametoindex("b1"));
    by_a.leave(group, ::if_nametoindex("a1"));
    sender.send_to("to nobody", group);
    require(take(by_a, 50ms).empty(), "who has left hears nothing");
  });
}

TEST_F(UdpNetwork, MulticastLoopAndTtl) {
  in_network(kTwoPairs, [] {
    const Address group = Address::parse("239.7.7.8:7778");
    auto here = UdpSocket::bind(Address::any_v4(7778), UdpOptions{.reuse_address = true});
    here.join(group, ::if_nametoindex("a0"));  // where the sender is
    auto there = UdpSocket::bind(Address::any_v4(7778), UdpOptions{.reuse_address = true});
    std::error_code error;
    there.socket().set_option(IPPROTO_IP, IP_MULTICAST_ALL, 0, error);
    there.join(group, ::if_nametoindex("a1"));
    here.socket().set_option(IPPROTO_IP, IP_MULTICAST_ALL, 0, error);
    auto sender = UdpSocket::bind(Address::any_v4(0));
    sender.set_multicast_interface(::if_nametoindex("a0"));

    sender.send_to("to both", group);
    require(take(here) == "to both", "looped back");
    require(take(there) == "to both", "and sent");
    sender.set_multicast_loop(false);
    sender.send_to("not back", group);
    require(take(there) == "not back", "sent");
    require(take(here, 50ms).empty(), "not looped back");
    sender.set_multicast_loop(true);
    sender.set_multicast_ttl(0);
    sender.send_to("not out", group);
    require(take(here) == "not out", "looped back");
    require(take(there, 50ms).empty(), "with no hops it stays on the host");
  });
}

TEST_F(UdpNetwork, MulticastOverIPv6) {
  const std::string setup = std::string(kTwoPairs) +
                            "; for i in a0 a1; do echo 0 > /proc/sys/net/ipv6/conf/$i/accept_dad || true; done;"
                            "ip -6 addr add fd00:1::1/64 dev a0 nodad; ip -6 addr add fd00:1::2/64 dev a1 nodad";
  in_network(setup, [] {
    const Address group = Address::parse("[ff05::77]:7779");
    auto member = UdpSocket::bind(Address::any_v6(7779), UdpOptions{.packet_info = true});
    member.join(group, ::if_nametoindex("a1"));
    auto sender = UdpSocket::bind(Address::parse("[fd00:1::1]:0"));
    sender.set_multicast_interface(::if_nametoindex("a0"));
    sender.set_multicast_ttl(3);
    sender.send_to("hello", group);
    UdpDatagram info;
    require(take(member, 10s, &info) == "hello", "it arrives");
    require(info.interface == ::if_nametoindex("a1"), "by a1");
  });
}

TEST_F(UdpNetwork, ErrorsTellWhoWasUnreachable) {
  in_network("ip addr add 10.3.0.1/32 dev lo; ip route add unreachable 10.9.0.0/16", [] {
    auto open = UdpSocket::bind("127.0.0.1:0");
    auto socket = UdpSocket::bind(Address::any_v4(0), UdpOptions{.report_errors = true});
    require(!socket.take_error(), "nothing yet");
    const Address nobody = Address::parse("10.3.0.1:9");
    socket.send_to("is anybody there?", nobody);
    require(refusal(socket) == "Connection refused", "a receive says that there is something to look at");
    std::optional<UdpError> error = socket.take_error();
    require(error.has_value(), "it is told");
    require(error->error == std::errc::connection_refused, error->error.message());
    require(error->peer == nobody, error->peer.to_string());
    require(error->reporter && error->reporter->host() == "10.3.0.1", "who says so");
    require(error->beginning == "is anybody there?", "what was sent: " + error->beginning);
    require(!socket.take_error(), "once");

    // Many that fail do not keep others from being reached, and each is told.
    for (std::uint16_t port = 10; port < 15; ++port) {
      socket.send_to("x", nobody.with_port(port));
      socket.send_to("hello", open.local_address());
      require(take(open) == "hello", "others are reached");
    }
    for (std::uint16_t port = 10; port < 15; ++port) {
      error = socket.take_error();
      require(error && error->peer.port() == port, "the one at port " + std::to_string(port));
    }
    // Nor do they disturb who waits.
    auto waiting = spawn([&] { return take(socket, 10s); });
    yield();
    open.send_to("to you", Address::loopback_v4(socket.local_address().port()));
    require(waiting.get() == "to you", "received");

    std::error_code own;
    socket.send_to(test::bytes_of("far"), Address::parse("10.9.0.1:1"), own);
    require(own == std::errc::host_unreachable, "the datagram's own error is its sender's: " + own.message());
  });
}

TEST_F(UdpNetwork, ErrorsOverIPv6AndOfConnectedSockets) {
  in_network("", [] {
    auto six = UdpSocket::bind(Address::loopback_v6(0), UdpOptions{.report_errors = true});
    six.send_to("x", Address::loopback_v6(9));
    require(refusal(six) == "Connection refused", "v6");
    const std::optional<UdpError> error = six.take_error();
    require(error && error->peer == Address::loopback_v6(9), "to whom");
    require(error->reporter && error->reporter->host() == "::1", "by whom");
    auto connected = UdpSocket::connect(Address::loopback_v4(9), UdpOptions{.report_errors = true});
    connected.send("x");
    require(refusal(connected) == "Connection refused", "connected");
    require(connected.take_error().has_value(), "told there, too");
  });
}

// What has become known of one peer disturbs neither what goes to another in segments, nor who waits afterwards.
TEST_F(UdpNetwork, ErrorsAreNoMatterOfSegmentsForOthers) {
  in_network("", [] {
    auto open = UdpSocket::bind("127.0.0.1:0");
    auto socket = UdpSocket::bind(Address::loopback_v4(0), UdpOptions{.report_errors = true});
    socket.send_to("x", Address::loopback_v4(9));
    std::error_code error;
    socket.send_segments(test::bytes_of("hello, world"), 6, open.local_address(), error);
    require(!error, "sent to another: " + error.message());
    require(take(open) == "hello,", "the first segment");
    require(take(open) == " world", "the second one");
    const auto turns = this_loop::stats().turns;
    socket.set_receive_timeout(100ms);
    std::array<std::byte, 16> buffer;
    static_cast<void>(socket.receive(buffer, error));
    require(error == std::errc::timed_out, "nothing comes: " + error.message());
    require(this_loop::stats().turns < turns + 50, "and nobody looks again and again");
    require(socket.take_error().has_value(), "it is told");
  });
}

TEST_F(UdpNetwork, ThePathMtuIsFound) {
  in_network("ip link set lo mtu 1500", [] {
    auto socket = UdpSocket::bind(Address::loopback_v4(0), UdpOptions{.report_errors = true});
    const std::string large(2000, 'x');
    socket.send_to(large, socket.local_address());
    require(take(socket).size() == large.size(), "it goes in fragments");
    socket.set_dont_fragment(true);
    std::error_code error;
    socket.send_to(test::bytes_of(large), socket.local_address(), error);
    require(error == std::errc::message_size, "it is refused: " + error.message());
    const std::optional<UdpError> report = socket.take_error();
    require(report && report->error == std::errc::message_size && report->mtu == 1500, "and told what would go");
    require(!report->reporter, "by this host");
    require(!socket.take_error(), "once");
    socket.connect_to(socket.local_address());
    require(socket.path_mtu() == 1500, std::to_string(socket.path_mtu()));
  });
}

}  // namespace
}  // namespace bight
