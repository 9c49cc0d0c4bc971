// SPDX-License-Identifier: Apache-2.0
// A shard that retires while others go on: what becomes of connections that clients keep.
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <string>

#include <gtest/gtest.h>

#include <bight/fiber.hpp>
#include <bight/http/server.hpp>
#include <bight/log.hpp>
#include <bight/net/tcp.hpp>
#include <bight/run.hpp>
#include <bight/shards.hpp>
#include <bight/time.hpp>

#include "child.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::TcpStream;

/// One worker that answers with its process number.
Child serve(net::ShardedListener& shared, const http::ServerOptions& how) {
  return Child([&] {
    set_log_level(LogLevel::warning);
    ShardOptions options;
    options.count = 1;
    options.on_drain = [&] { shared.close(); };
    return run_shards(options, [&](Shard& shard) {
      http::serve(
          shared.listener(shard), [](http::Request&) { return http::text("pid " + std::to_string(::getpid()) + "."); },
          how);
    });
  });
}

std::string ask(TcpStream& stream) {
  stream.set_timeout(20s);
  stream.write_all("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  std::string answer;
  while (answer.empty() || answer.back() != '.') {
    const Chunk part = stream.read();
    if (!part) break;
    answer += part.text();
  }
  return answer;
}

std::string pid_in(const std::string& answer) { return answer.substr(answer.rfind(' ') + 1); }

/// Reloads, and waits until another process answers.
void reload(pid_t supervisor, const net::Address& address, const std::string& before) {
  ::kill(supervisor, SIGHUP);
  std::string after = before;
  while (after == before) {
    TcpStream stream = net::connect(address);
    after = pid_in(ask(stream));
    sleep_for(1ms);
  }
}

TEST(HttpRetire, AnIdleConnectionHearsOfTheEndWithItsNextAnswer) {
  auto shared = net::ShardedListener::bind(net::Address::loopback_v4(0));
  Child server = serve(shared, {.keep_alive_grace = 10s});
  run({.engine = EngineChoice::epoll}, [&] {
    TcpStream kept = net::connect(shared.local_address());
    const std::string first = ask(kept);
    EXPECT_EQ(first.find("onnection: close"), std::string::npos) << first;
    reload(server.pid(), shared.local_address(), pid_in(first));
    const std::string last = ask(kept);
    EXPECT_EQ(pid_in(last), pid_in(first)) << "the old one is still there for it";
    EXPECT_NE(last.find("Connection: close"), std::string::npos) << last;
    EXPECT_FALSE(kept.read()) << "and closes";
  });
  ::kill(server.pid(), SIGTERM);
  const Ended ended = server.wait();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_EQ(ended.errors, "");
}

TEST(HttpRetire, ForNoLongerThanTheGrace) {
  for (const Duration grace : {Duration(0ms), Duration(50ms)}) {
    auto shared = net::ShardedListener::bind(net::Address::loopback_v4(0));
    Child server = serve(shared, {.keep_alive_grace = grace});
    run({.engine = EngineChoice::epoll}, [&] {
      TcpStream kept = net::connect(shared.local_address());
      const std::string first = ask(kept);
      reload(server.pid(), shared.local_address(), pid_in(first));
      EXPECT_FALSE(kept.read()) << "closed without a word";
    });
    ::kill(server.pid(), SIGTERM);
    const Ended ended = server.wait();
    EXPECT_TRUE(ended.with(0)) << describe(ended);
  }
}

}  // namespace
}  // namespace bight::test
