// SPDX-License-Identifier: Apache-2.0
// Every limit of ServerOptions: what is within is served, what is beyond is answered, and the connection closes.

#include <bight/http/server.hpp>

#include <csignal>
#include <fstream>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <unistd.h>

#include <gtest/gtest.h>

#include <bight/time.hpp>

#include "build.hpp"
#include "child.hpp"
#include "corpus.hpp"
#include "support.hpp"

namespace bight::http::testing {
namespace {

void expect_answer(const ServerOptions& options, const std::string& bytes, unsigned status) {
  with_server(describe, options, [&](const net::Address& server) {
    Client client(server);
    const Reply reply = client.exchange(bytes);
    EXPECT_EQ(reply.status, status) << reply.body;
    if (status == 200) {
      EXPECT_EQ(reply.header("Connection"), "-");
    } else {
      EXPECT_EQ(reply.header("Connection"), "close");
      EXPECT_EQ(client.read_end(), "end");
    }
  });
}

TEST(ServerLimits, DefaultsAreAsDocumented) {
  const ServerOptions options;
  const std::string host = "Host: x\r\n";
  expect_answer(options, line("GET /" + std::string(8191, 'a') + " HTTP/1.1"), 200);
  expect_answer(options, line("GET /" + std::string(8192, 'a') + " HTTP/1.1"), 414);
  expect_answer(options, get_with("A: " + std::string(16384 - host.size() - 5, 'a') + "\r\n"), 200);
  expect_answer(options, get_with("A: " + std::string(16385 - host.size() - 5, 'a') + "\r\n"), 431);
  std::string lines;
  for (int i = 0; i < 99; ++i) lines += "A:\r\n";
  expect_answer(options, get_with(lines), 200);
  expect_answer(options, get_with(lines + "A:\r\n"), 431);
  expect_answer(options, post_with("Content-Length: 1048577\r\n", ""), 413);
  expect_answer(options, chunked("100001\r\n"), 413);
  expect_answer(options, chunked("1;" + std::string(255, 'a') + "\r\nx\r\n0\r\n\r\n"), 200);
  expect_answer(options, chunked("1;" + std::string(256, 'a') + "\r\nx\r\n0\r\n\r\n"), 400);
}

// More than the sockets hold, so that the client is still sending when the answer comes.
TEST(ServerLimits, ClientsThatStillSendGetTheAnswer) {
  with_server(describe, [](const net::Address& server) {
    constexpr std::size_t size = 16 * 1024 * 1024;
    Client client(server);
    client.send(post_with("Content-Length: " + std::to_string(size) + "\r\n", std::string(size, 'a')));
    EXPECT_EQ(client.read_reply().status, 413U);
    EXPECT_EQ(client.read_end(), "end");
  });
}

TEST(ServerLimits, LingeringIsLimited) {
  ServerOptions options;
  options.linger_timeout = 50ms;
  with_server(describe, options, [](const net::Address& server) {
    Client client(server);
    client.send("GARBAGE\r\n\r\n");
    EXPECT_EQ(client.read_reply().status, 400U);
    EXPECT_EQ(client.read_end(), "end");
    const TimePoint start = now();
    std::error_code error;
    while (!error && now() - start < 5s) {  // until the server has closed for good
      client.stream().write_all("more", error);
      sleep_for(5ms);
    }
    EXPECT_TRUE(error);
    EXPECT_GE(now() - start, 40ms);
  });
  options.linger_timeout = 10s;
  options.linger_bytes_max = 1000;
  with_server(describe, options, [](const net::Address& server) {
    Client client(server);
    client.send("GARBAGE\r\n\r\n");
    EXPECT_EQ(client.read_reply().status, 400U);
    const TimePoint start = now();
    std::error_code error;
    while (!error && now() - start < 5s) {
      client.stream().write_all(std::string_view("some more of the same"), error);
      sleep_for(1ms);
    }
    EXPECT_TRUE(error);
    EXPECT_LT(now() - start, 5s);
  });
}

// Sends a byte every 20 ms until the answer comes, which is expected to be 408 after `limit`.
void expect_408_for_trickle(const net::Address& server, const std::string& at_once, const std::string& slowly,
                            Duration limit, bool answer_first = false) {
  Client client(server);
  client.send(at_once);
  if (answer_first) {
    EXPECT_EQ(client.read_reply().status, 200U);
  }
  const TimePoint start = now();
  std::size_t sent = 0;
  {
    Scope scope;
    auto sender = scope.spawn([&] {
      for (; sent < slowly.size(); ++sent) {
        client.send(std::string_view(slowly).substr(sent, 1));
        sleep_for(20ms);
      }
    });
    EXPECT_EQ(client.read_reply().status, 408U);
    EXPECT_GE(now() - start, limit);
    EXPECT_LT(sent, slowly.size());
    sender.cancel();
  }
  EXPECT_EQ(client.read_end(), "end");
}

TEST(ServerLimits, HeaderTimeIsInAllAndNotPerByte) {
  ServerOptions options;
  options.header_timeout = 100ms;
  with_server(describe, options, [](const net::Address& server) {
    expect_408_for_trickle(server, "", get_with("A: " + std::string(1000, 'a') + "\r\n"), 100ms);
    expect_408_for_trickle(server, get_with(""), get_with("A: " + std::string(1000, 'a') + "\r\n"), 100ms, true);
  });
}

TEST(ServerLimits, BodyTimeIsInAllAndNotPerByte) {
  ServerOptions options;
  options.header_timeout = 10ms;
  options.body_timeout = 100ms;
  with_server(describe, options, [](const net::Address& server) {
    const std::string slowly(1000, 'a');
    expect_408_for_trickle(server, post_with("Content-Length: 1000\r\n", ""), slowly, 100ms);
    expect_408_for_trickle(server, chunked("3e8\r\n"), slowly, 100ms);
    expect_408_for_trickle(server, chunked("0\r\n"), slowly, 100ms);
  });
}

TEST(ServerLimits, IdleTimeEndsConnectionsWithoutAWord) {
  ServerOptions options;
  options.idle_timeout = 100ms;
  options.header_timeout = 10s;
  with_server(describe, options, [](const net::Address& server) {
    const TimePoint start = now();
    Client fresh(server);
    Client used(server);
    EXPECT_EQ(used.exchange(get_with("")).status, 200U);
    // A request that came in pieces leaves its own limits behind.
    used.send("GET / HT");
    sleep_for(10ms);
    EXPECT_EQ(used.exchange("TP/1.1\r\nHost: x\r\n\r\n").status, 200U);
    const TimePoint last = now();
    EXPECT_EQ(fresh.read_end(), "end");
    EXPECT_GE(now() - start, 90ms);
    EXPECT_EQ(used.read_end(), "end");
    EXPECT_GE(now() - last, 90ms);
  });
}

TEST(ServerLimits, ZeroIsNoTimeLimit) {
  ServerOptions options;
  options.idle_timeout = options.header_timeout = options.body_timeout = options.write_timeout = Duration::zero();
  with_server(describe, options, [](const net::Address& server) {
    Client client(server);
    for (const std::string_view part : {"POST / HTTP/1.1\r\n", "Host: x\r\nContent-Length: 2\r\n", "\r\n", "a", "b"}) {
      client.send(part);
      sleep_for(5ms);
    }
    EXPECT_EQ(client.read_reply().body, "POST / ab");
  });
}

TEST(ServerLimits, ClientsThatDoNotReadAreGivenUp) {
  ServerOptions options;
  options.write_timeout = 100ms;
  const ServerStats stats =
      with_server([](Request& /*request*/) { return text(std::string(32 * 1024 * 1024, 'x')); }, options,
                  [](const net::Address& server) {
                    Client client(server);
                    client.send(get_with("") + get_with(""));
                    std::array<std::byte, 1> one;
                    client.stream().read(std::span(one));  // so that its fiber is there
                    const std::uint64_t fibers = this_loop::stats().fibers_alive;
                    while (this_loop::stats().fibers_alive == fibers) sleep_for(10ms);
                    std::size_t size = 1;
                    std::error_code error;
                    for (;;) {
                      const Chunk chunk = client.stream().read(error);
                      if (chunk.empty()) break;
                      size += chunk.size();
                    }
                    EXPECT_LT(size, 32U * 1024 * 1024);
                    // Not offered to it for minutes to come, either.
                    EXPECT_EQ(error, std::errc::connection_reset);
                  });
  EXPECT_EQ(stats.requests, 1U);
}

// What a client takes is progress, however many megabytes the system would have room for.
TEST(ServerLimits, ClientsThatReadSlowlyAreNotGivenUp) {
  static constexpr std::size_t size = 16 * 1024 * 1024;
  static constexpr std::size_t portion = 16 * 1024;
  ServerOptions options;
  options.write_timeout = 800ms;
  with_server([](Request& /*request*/) { return text(std::string(size, 'x')); }, options,
              [](const net::Address& server) {
                Client client(server);
                std::error_code error;
                client.stream().socket().set_option(SOL_SOCKET, SO_RCVBUF, 64 * 1024, error);
                client.send(get_with("Connection: close\r\n"));
                std::array<std::byte, portion> buffer;
                std::size_t taken = 0;
                for (int i = 0; i < 125; ++i) {  // for more than twice the timeout
                  taken += client.stream().read(buffer);
                  sleep_for(20ms);
                }
                while (const std::size_t count = client.stream().read(buffer, error)) taken += count;
                EXPECT_FALSE(error) << error.message();
                EXPECT_GT(taken, size);
              });
}

TEST(ServerLimits, RequestsPerConnection) {
  ServerOptions options;
  options.requests_per_connection_max = 3;
  with_server(describe, options, [](const net::Address& server) {
    Client client(server);
    client.send(get_with("") + get_with("") + get_with("") + get_with(""));
    EXPECT_EQ(client.read_reply().header("Connection"), "-");
    EXPECT_EQ(client.read_reply().header("Connection"), "-");
    EXPECT_EQ(client.read_reply().header("Connection"), "close");
    EXPECT_EQ(client.read_end(), "end");
  });
}

TEST(ServerLimits, ConnectionsBeyondTheLimitAreTurnedAway) {
  ServerOptions options;
  options.connections_max = 2;
  const ServerStats stats = with_server(describe, options, [](const net::Address& server) {
    {
      Client first(server);
      Client second(server);
      EXPECT_EQ(first.exchange(get_with("")).status, 200U);
      EXPECT_EQ(second.exchange(get_with("")).status, 200U);
      for (int i = 0; i < 3; ++i) {
        Client third(server);
        const Reply reply = third.exchange(get_with(""));
        EXPECT_EQ(reply.status, 503U);
        EXPECT_EQ(reply.header("Retry-After"), "1");
        EXPECT_EQ(reply.header("Connection"), "close");
        EXPECT_EQ(third.read_end(), "end");
      }
      EXPECT_EQ(first.exchange(get_with("")).status, 200U);
    }
    sleep_for(5ms);
    EXPECT_EQ(Client(server).exchange(get_with("")).status, 200U);
  });
  EXPECT_EQ(stats.shed, 3U);
  EXPECT_EQ(stats.connections, 6U);
}

// One that is being turned away takes no place that another could have.
TEST(ServerLimits, ThoseTurnedAwayDoNotCount) {
  ServerOptions options;
  options.connections_max = 1;
  options.linger_timeout = 1h;
  const ServerStats stats = with_server(describe, options, [](const net::Address& server) {
    std::vector<Client> turned_away;
    {
      Client first(server);
      EXPECT_EQ(first.exchange(get_with("")).status, 200U);
      for (int i = 0; i < 3; ++i) {
        turned_away.emplace_back(server);
        EXPECT_EQ(turned_away.back().exchange(get_with("")).status, 503U);
      }
    }
    sleep_for(5ms);
    EXPECT_EQ(Client(server).exchange(get_with("")).status, 200U);
  });
  EXPECT_EQ(stats.shed, 3U);
}

TEST(ServerLimits, AsManyConnectionsAsCanBe) {
  ServerOptions options;
  options.connections_max = std::numeric_limits<std::size_t>::max();
  const ServerStats stats = with_server(describe, options, [](const net::Address& server) {
    EXPECT_EQ(Client(server).exchange(get_with("")).status, 200U);
  });
  EXPECT_EQ(stats.shed, 0U);
}

TEST(ServerLimits, RequestsOfGigabytesAreNotForThis) {
  ServerOptions options;
  options.limits.body_bytes_max = std::size_t{4} << 30U;
  const auto ended =
      test::in_child([&] { return run([&] { serve(net::TcpListener::bind("127.0.0.1:0"), describe, options); }); });
  EXPECT_TRUE(ended.by(SIGABRT)) << test::describe(ended);
  EXPECT_TRUE(ended.says("must add up to less than 4 GiB")) << test::describe(ended);
}

// Old clients send an empty line behind a body. It is no request of which the rest is late.
TEST(ServerLimits, AnEmptyLineIsNoRequest) {
  for (const std::string_view behind : {"\r", "\r\n"}) {
    ServerOptions options;
    options.idle_timeout = 100ms;
    options.header_timeout = 10ms;
    const std::string request = post_with("Content-Length: 4\r\n", "body").append(behind);
    const ServerStats stats = with_server(describe, options, [&](const net::Address& server) {
      Client idle(server);
      Client ends(server);
      ends.send(request);
      ends.end();
      EXPECT_EQ(ends.read_reply().body, "POST / body");
      EXPECT_EQ(ends.read_end(), "end");
      EXPECT_EQ(idle.exchange(request).body, "POST / body");
      const TimePoint start = now();
      EXPECT_EQ(idle.read_end(), "end");
      EXPECT_GE(now() - start, 90ms);
      Client goes_on(server);
      EXPECT_EQ(goes_on.exchange(request).body, "POST / body");
      sleep_for(20ms);
      const std::string rest = behind.size() == 1 ? "\n" + request : request;
      EXPECT_EQ(goes_on.exchange(rest).body, "POST / body");
      sleep_for(20ms);
      request_stop();
      EXPECT_EQ(goes_on.read_end(), "end");
    });
    EXPECT_EQ(stats.refused, 0U);
  }
}

std::size_t resident_bytes() {
  std::size_t size = 0;
  std::size_t resident = 0;
  std::ifstream("/proc/self/statm") >> size >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

// A client that asks and asks and does not read. The server stops reading when the client stops; so what is in the
// sockets' buffers on the way is all there is, whatever is still to come.
TEST(ServerLimits, PipeliningWithoutReadingIsBounded) {
  RunOptions run_options;
  run_options.receive_buffers = 16;  // 64 KiB each, of which io_uring uses one after the other
  const ServerStats stats = with_server(run_options, describe, {}, [](const net::Address& server) {
    constexpr std::size_t count = 100'000;
    Client client(server);
    client.stream().set_timeout(0s);
    std::string requests;
    for (std::size_t i = 0; i < count; ++i) requests += get_with("X: " + std::string(300, 'x') + "\r\n");
    std::size_t sent = 0;
    Scope scope;
    scope
        .spawn([&] {
          while (sent < requests.size()) {
            const std::string_view rest = std::string_view(requests).substr(sent);
            sent += client.stream().write(std::as_bytes(std::span(rest)));
          }
          client.end();
        })
        .detach();
    const std::size_t before = resident_bytes();
    std::size_t last = 1;
    while (last != sent) {
      last = sent;
      sleep_for(50ms);
    }
    EXPECT_LT(sent, requests.size());
    // In a simulated network, what is in the sockets is in this process.
    if (!test::on_sim() && !test::sanitized) {
      EXPECT_LT(resident_bytes(), before + 4 * 1024 * 1024);
    }
    std::size_t answers = 0;
    while (client.read_reply().status == 200) ++answers;
    EXPECT_EQ(answers, count);
    scope.join();
  });
  EXPECT_EQ(stats.requests, 100'000U);
}

}  // namespace
}  // namespace bight::http::testing
