// SPDX-License-Identifier: Apache-2.0
// What ServeOptions::control and ServeOptions::proxy do to serve().

#include <string>
#include <vector>

#include <bight/deadline.hpp>
#include <bight/event.hpp>

#include "net_test.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using net::Address;
using net::ServeControl;
using net::TcpListener;
using net::TcpStream;
using test::on_loop;

class ServeControls : public test::NetTest {};

std::string read_all(TcpStream& stream) {
  std::string text;
  while (const Chunk chunk = stream.read()) text.append(reinterpret_cast<const char*>(chunk.data()), chunk.size());
  return text;
}

struct Serving {
  ServeControl control;
  TcpListener listener = TcpListener::bind("127.0.0.1:0");
  Address address = listener.local_address();
  Fiber<net::ServeStats> fiber;

  template <class Handler>
  explicit Serving(Handler handler, net::ServeOptions options = {}) {
    options.control = &control;
    fiber = spawn([this, handler, options] { return net::serve(listener, handler, options); });
    yield();
    yield();
  }
};

TEST_F(ServeControls, StopAndStartAccepting) {
  on_loop([] {
    Serving server([](TcpStream peer) { peer.write_all("served"); });
    auto first = net::connect(server.address);
    EXPECT_EQ(read_all(first), "served");
    server.control.stop_accepting();
    EXPECT_FALSE(server.control.is_accepting());
    sleep_for(5ms);                              // until the accept under way has ended
    auto second = net::connect(server.address);  // into the queue
    second.set_timeout(20ms);
    std::error_code error;
    EXPECT_FALSE(second.read(error));
    EXPECT_EQ(error, std::errc::timed_out);
    server.control.start_accepting();
    second.set_timeout(10s);
    EXPECT_EQ(read_all(second), "served");
    server.control.finish();
    EXPECT_EQ(server.fiber.get().accepted, 2U);
  });
}

TEST_F(ServeControls, PausedFromTheBeginningAndClosedMeanwhile) {
  on_loop([] {
    ServeControl control;
    control.stop_accepting();
    auto listener = TcpListener::bind("127.0.0.1:0");
    auto fiber = spawn([&] { return net::serve(listener, [](TcpStream) {}, {.control = &control}); });
    auto client = net::connect(listener.local_address());
    sleep_for(5ms);
    EXPECT_EQ(control.stats().accepted, 0U);
    listener.close();
    EXPECT_EQ(fiber.get().accepted, 0U);
  });
}

TEST_F(ServeControls, FinishDrainsThisServerAlone) {
  on_loop([] {
    Event go;
    Serving server([&](TcpStream peer) {
      go.wait();
      peer.write_all("finished");
    });
    Serving other([](TcpStream peer) { peer.write_all("other"); });
    auto client = net::connect(server.address);
    while (server.control.stats().active == 0) yield();
    server.control.finish();
    sleep_for(5ms);
    EXPECT_EQ(server.control.stats().active, 1U) << "the handler has time to end";
    go.set();
    EXPECT_EQ(read_all(client), "finished");
    server.fiber.join();
    auto more = net::connect(other.address);
    EXPECT_EQ(read_all(more), "other");
    other.control.finish();
    other.fiber.join();
  });
}

TEST_F(ServeControls, FinishBeforeServeAndUseAgain) {
  on_loop([] {
    ServeControl control;
    control.finish();
    auto listener = TcpListener::bind("127.0.0.1:0");
    EXPECT_EQ(net::serve(listener, [](TcpStream) {}, {.control = &control}).accepted, 0U);
    auto fiber = spawn([&] { return net::serve(listener, [](TcpStream) {}, {.control = &control}); });
    auto client = net::connect(listener.local_address());
    EXPECT_FALSE(client.read());
    control.finish();
    EXPECT_EQ(fiber.get().accepted, 1U);
    EXPECT_EQ(control.stats().accepted, 1U);
  });
}

TEST_F(ServeControls, FiguresAreLive) {
  on_loop([] {
    Serving server([](TcpStream peer) {
      while (peer.read()) {
      }
    });
    auto first = net::connect(server.address);
    auto second = net::connect(server.address);
    while (server.control.stats().active < 2) yield();
    first.close();
    while (server.control.stats().active > 1) yield();
    second.close();
    while (server.control.stats().active > 0) yield();
    const auto stats = server.control.stats();
    EXPECT_EQ(stats.accepted, 2U);
    EXPECT_EQ(stats.peak, 2U);
    server.control.finish();
    server.fiber.join();
  });
}

TEST_F(ServeControls, AHandlersReturnClosesItsStream) {
  on_loop([] {
    Serving server([](const TcpStream& peer) { static_cast<void>(peer); });
    auto client = net::connect(server.address);
    client.set_timeout(10s);
    EXPECT_FALSE(client.read());
    server.control.finish();
    server.fiber.join();
  });
}

// --- The PROXY protocol ----------------------------------------------------------------------------------------------

void tell_peer(TcpStream peer) {
  const std::string who = peer.peer_address().to_string();
  const Chunk chunk = peer.read();
  peer.write_all(who + " said " + std::string(reinterpret_cast<const char*>(chunk.data()), chunk.size()));
}

TEST_F(ServeControls, ProxiesSayWhomTheConnectionComesFrom) {
  on_loop([] {
    Serving server(tell_peer, {.proxy = net::ProxyProtocol::required});
    const Address from = Address::parse("192.0.2.1:1234");
    const Address to = Address::parse("198.51.100.1:80");
    for (const std::string& header : {net::proxy_header_v1(from, to), net::proxy_header_v2(from, to)}) {
      for (const bool in_pieces : {false, true}) {
        auto client = net::connect(server.address);
        if (in_pieces) {
          for (const char c : header) {
            client.write_all(std::string_view(&c, 1));
            yield();
          }
          client.write_all("hello");
        } else {
          client.write_all(header + "hello");
        }
        EXPECT_EQ(read_all(client), "192.0.2.1:1234 said hello");
      }
    }
    auto client = net::connect(server.address);
    client.write_all("PROXY UNKNOWN\r\nhello");
    EXPECT_EQ(read_all(client), client.local_address().to_string() + " said hello");
    server.control.finish();
    EXPECT_EQ(server.fiber.get().rejected, 0U);
  });
}

TEST_F(ServeControls, WithoutAHeaderThereIsNoConversation) {
  on_loop([] {
    Serving server(tell_peer, {.proxy = net::ProxyProtocol::required, .proxy_timeout = 20ms});
    const auto is_closed_after = [&](std::string_view text) {
      auto client = net::connect(server.address);
      client.set_timeout(10s);
      if (!text.empty()) client.write_all(text);
      std::error_code error;
      const Chunk chunk = client.read(error);
      return !chunk && (!error || error == std::errc::connection_reset);
    };
    EXPECT_TRUE(is_closed_after("GET / HTTP/1.1\r\n\r\n"));
    EXPECT_TRUE(is_closed_after("PROXY TCP4 1.2.3.4 nonsense\r\n"));
    EXPECT_TRUE(is_closed_after("PROXY TCP4 "));
    EXPECT_TRUE(is_closed_after(""));
    server.control.finish();
    const auto stats = server.fiber.get();
    EXPECT_EQ(stats.rejected, 4U);
    EXPECT_EQ(stats.failed, 0U);
  });
}

TEST_F(ServeControls, HeadersMayBeOptionalButOnlyFromThoseWhoAreTrusted) {
  on_loop([] {
    const std::string header = net::proxy_header_v1(Address::parse("192.0.2.1:1234"), Address::parse("192.0.2.2:80"));
    bool trusted = true;
    std::string asked;
    net::ServeOptions options;
    options.proxy = net::ProxyProtocol::optional;
    options.proxy_timeout = 100ms;
    options.proxy_trusted = [&](const Address& peer) {
      asked = peer.to_string();
      return trusted;
    };
    Serving server(tell_peer, options);
    const auto answer_to = [&](std::string_view text) {
      auto client = net::connect(server.address);
      client.set_timeout(10s);
      client.write_all(text);
      const std::string own = client.local_address().to_string();
      EXPECT_EQ(read_all(client).substr(0, 200),
                (text == header + "hello" && trusted ? "192.0.2.1:1234" : own) + " said " +
                    (trusted && text == header + "hello" ? "hello" : std::string(text)));
      EXPECT_EQ(asked, own);
    };
    answer_to(header + "hello");
    answer_to("hello");
    answer_to("P");  // it may become one
    answer_to("PROPFIND / HTTP/1.1");
    answer_to("\r\n\r\n");
    trusted = false;
    answer_to(header + "hello");
    trusted = true;
    auto broken = net::connect(server.address);
    broken.write_all("PROXY TCP4 nonsense\r\nhello");
    std::error_code error;
    EXPECT_FALSE(broken.read(error));
    server.control.finish();
    const net::ServeStats stats = server.fiber.get();
    EXPECT_EQ(stats.rejected, 1U);
    EXPECT_EQ(stats.failed, 0U);
  });
}

TEST_F(ServeControls, AHeaderThatComesInPieces) {
  on_loop([] {
    net::ServeOptions options;
    options.proxy = net::ProxyProtocol::optional;
    options.proxy_trusted = [](const Address& peer) { return peer.is_loopback(); };
    Serving server(tell_peer, options);
    const Address from = Address::parse("[2001:db8::1]:1234");
    for (const std::string& header : {net::proxy_header_v1(from, from), net::proxy_header_v2(from, from)}) {
      auto client = net::connect(server.address);
      for (const char c : header) {
        client.write_all(std::string_view(&c, 1));
        sleep_for(1ms);
      }
      client.write_all("hello");
      EXPECT_EQ(read_all(client), "[2001:db8::1]:1234 said hello");
    }
    server.control.finish();
    EXPECT_EQ(server.fiber.get().rejected, 0U);
  });
}

TEST_F(ServeControls, WhoWaitsToBeSpokenToHasNoHeader) {
  on_loop([] {
    net::ServeOptions options;
    options.proxy = net::ProxyProtocol::optional;
    options.proxy_timeout = 20ms;
    options.proxy_trusted = [](const Address&) { return true; };
    Serving server([](TcpStream peer) { peer.write_all("220 welcome"); }, options);
    auto client = net::connect(server.address);
    EXPECT_EQ(read_all(client), "220 welcome");
    server.control.finish();
    server.fiber.join();
  });
}

TEST_F(ServeControls, RequiredOfThoseWhoAreTrusted) {
  on_loop([] {
    net::ServeOptions options;
    options.proxy = net::ProxyProtocol::required;
    options.proxy_trusted = [](const Address&) { return false; };
    Serving server(tell_peer, options);
    auto client = net::connect(server.address);
    client.write_all(net::proxy_header_v1(client.local_address(), server.address) + "hello");
    std::error_code error;
    EXPECT_FALSE(client.read(error));
    server.control.finish();
    EXPECT_EQ(server.fiber.get().rejected, 1U);
  });
}

TEST_F(ServeControls, OptionalForEverybodyIsRefused) {
  EXPECT_DEATH(run([] {
                 auto listener = TcpListener::bind("127.0.0.1:0");
                 net::serve(listener, tell_peer, {.proxy = net::ProxyProtocol::optional});
               }),
               "whom to believe");
}

}  // namespace
}  // namespace bight
