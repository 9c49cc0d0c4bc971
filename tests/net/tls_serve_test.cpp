// SPDX-License-Identifier: Apache-2.0
#include <bight/net/tls_serve.hpp>

#include <vector>

#include <bight/net/dial.hpp>
#include <bight/stop.hpp>
#include <bight/time.hpp>

#include "tls_test.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::TcpListener;
using net::TlsContext;
using net::TlsError;
using net::TlsStream;

class TlsServe : public NetTest {};

void echo_one(TlsStream stream) {
  while (const Chunk chunk = stream.read()) stream.write_all(chunk);
}

/// A server under way; ends with the scope.
struct Server {
  explicit Server(net::TlsServeOptions options = {}, TlsContext served = server_context(),
                  std::function<void(TlsStream)> with = echo_one)
      : context(std::move(served)), handler(std::move(with)) {
    options.serve.control = &control;
    options.stats = &stats;
    fiber = spawn([this, options] { net::serve_tls(listener, context, handler, options); });
  }
  ~Server() {
    control.finish();
    fiber.join();
  }
  [[nodiscard]] net::Address address() const { return listener.local_address(); }
  [[nodiscard]] TlsStream connect() {
    return TlsStream::client(net::connect(address()), "localhost", client_context());
  }

  TcpListener listener = TcpListener::bind("127.0.0.1:0");
  TlsContext context;
  std::function<void(TlsStream)> handler;
  net::ServeControl control;
  net::TlsServeStats stats;
  Fiber<void> fiber;
};

TEST_F(TlsServe, EchoesAndSaysGoodbye) {
  on_loop([] {
    Server server({}, server_context(), [](TlsStream stream) { stream.write_all(stream.read()); });
    TlsStream client = server.connect();
    client.write_all("hello");
    EXPECT_EQ(read_text(client, 5), "hello");
    EXPECT_TRUE(client.read().empty());  // and not truncated
    client.close();
    EXPECT_EQ(server.stats.handshakes, 1U);
    EXPECT_EQ(server.stats.handshakes_failed, 0U);
  });
}

TEST_F(TlsServe, ConnectsByName) {
  on_loop([] {
    Server server;
    net::TlsConnectOptions options;
    options.context = client_context();
    options.name = "localhost";
    TlsStream client = net::connect_tls("127.0.0.1", server.address().port(), options);
    client.write_all("x");
    EXPECT_EQ(read_text(client, 1), "x");
    client.shutdown_write();
    EXPECT_TRUE(client.read().empty());
    options.name = "elsewhere";
    const Failure failure =
        failure_of([&] { static_cast<void>(net::connect_tls("127.0.0.1", server.address().port(), options)); });
    EXPECT_EQ(failure.code, TlsError::host_mismatch);
    EXPECT_TRUE(failure.text.starts_with("TLS handshake with elsewhere (127.0.0.1:")) << failure.text;
    std::error_code error;
    static_cast<void>(net::connect_tls("127.0.0.1", server.address().port(), options, error));
    EXPECT_EQ(error, TlsError::host_mismatch);
  });
}

TEST_F(TlsServe, SlowClientsKeepNobodyWaiting) {
  on_loop([] {
    net::TlsServeOptions options;
    options.handshake_timeout = 200ms;
    Server server(options);
    std::vector<net::TcpStream> silent;
    for (int n = 0; n < 50; ++n) silent.push_back(net::connect(server.address()));
    TlsStream client = server.connect();
    client.write_all("x");
    EXPECT_EQ(read_text(client, 1), "x");
    client.shutdown_write();
    EXPECT_TRUE(client.read().empty());
    while (server.stats.timed_out < silent.size()) sleep_for(10ms);
    EXPECT_EQ(server.stats.handshakes_failed, silent.size());
    EXPECT_EQ(server.stats.handshakes, 1U);
  });
}

TEST_F(TlsServe, ShedsTheOldestHandshake) {
  on_loop([] {
    net::TlsServeOptions options;
    options.handshakes_max = 10;
    std::vector<std::error_code> failures;
    options.on_handshake_failure = [&](const TlsStream&, std::error_code error) { failures.push_back(error); };
    Server server(options);
    std::vector<net::TcpStream> silent;
    for (int n = 0; n < 25; ++n) silent.push_back(net::connect(server.address()));
    while (server.stats.shed < 15) sleep_for(1ms);
    TlsStream client = server.connect();
    client.handshake();
    while (server.stats.shed < 16) yield();  // the one that has to go is told, and then gone
    EXPECT_EQ(server.stats.shed, 16U);
    EXPECT_EQ(failures, std::vector<std::error_code>(16, TlsError::shed));
    client.write_all("x");
    EXPECT_EQ(read_text(client, 1), "x");
    EXPECT_EQ(server.stats.handshaking, 9U);
    silent.clear();
    client.close();
  });
}

TEST_F(TlsServe, TellsWhyHandshakesFail) {
  on_loop([] {
    net::TlsServeOptions options;
    std::vector<std::string> failures;
    options.on_handshake_failure = [&](const TlsStream& stream, std::error_code) {
      failures.push_back(stream.failure());
    };
    Server server(options);
    net::TcpStream plain = net::connect(server.address());
    plain.write_all("GET / HTTP/1.0\r\n\r\n");
    while (plain.read()) {
    }
    EXPECT_EQ(failures, std::vector<std::string>{"plain HTTP, and not TLS"});
    EXPECT_EQ(server.stats.handshakes_failed, 1U);
  });
}

TEST_F(TlsServe, TruncationIsABrokenConnectionAndNoReport) {
  RunOptions options;
  int reports = 0;
  options.on_unhandled_error = [&](auto&&...) { ++reports; };
  on_loop(options, [] {
    Server server;
    TlsStream client = server.connect();
    client.write_all("x");
    EXPECT_EQ(read_text(client, 1), "x");
    client.tcp()->shutdown_write();
    while (server.control.stats().failed == 0) sleep_for(1ms);
    client.close();
  });
  EXPECT_EQ(reports, 0);
}

TEST_F(TlsServe, ManyAtATimeAndReloadsMeanwhile) {
  on_loop([] {
    TlsContext context = TlsContext::server(server_options());
    Server server({}, context);
    Scope scope;
    int done = 0;
    for (int n = 0; n < 100; ++n) {
      scope
          .spawn([&, n] {
            TlsStream client = server.connect();
            const std::string text = "client " + std::to_string(n);
            for (int round = 0; round < 5; ++round) {
              client.write_all(text);
              ASSERT_EQ(read_text(client, text.size()), text);
            }
            client.shutdown_write();
            EXPECT_TRUE(client.read().empty());
            ++done;
          })
          .detach();
    }
    scope
        .spawn([&] {
          for (int n = 0; n < 20; ++n) {
            context.reload();
            sleep_for(1ms);
          }
        })
        .detach();
    scope.join();
    EXPECT_EQ(done, 100);
    EXPECT_EQ(server.stats.handshakes, 100U);
  });
}

TEST_F(TlsServe, ADrainEndsHandshakesToo) {
  on_loop([] {
    net::TlsServeOptions options;
    options.serve.drain = 0ms;
    net::TcpStream silent;
    {
      Server server(options);
      silent = net::connect(server.address());
      while (server.stats.handshaking == 0) sleep_for(1ms);
    }
    EXPECT_TRUE(silent.read().empty());
  });
}

}  // namespace
}  // namespace bight::test
