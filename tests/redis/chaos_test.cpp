// SPDX-License-Identifier: Apache-2.0
// The pool, its connections and a server in simulated worlds in which everything fails that can: a call has its own
// reply or an error, and nothing is left behind.

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <system_error>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/log.hpp>
#include <bight/net/tcp.hpp>
#include <bight/scope.hpp>
#include <bight/testing.hpp>

#include "fake_server.hpp"
#include "redis_client/pool.hpp"

namespace redis {
namespace {

using namespace std::chrono_literals;

struct Counts {
  int replies = 0;
  int errors = 0;
};

void call_often(Pool& pool, Connection* shared, int fiber, Counts& counts) {
  for (int n = 0; n < 10; ++n) {
    const std::string text = std::to_string(fiber) + "." + std::to_string(n);
    try {
      static_cast<void>(bight::move_on_after(std::chrono::milliseconds(50 * (fiber % 7) + 5), [&] {
        const Value reply = shared != nullptr && n % 2 == 0 ? shared->call("ECHO", text) : pool.call("ECHO", text);
        EXPECT_EQ(reply.text(), text);
        ++counts.replies;
      }));
    } catch (const std::system_error&) {
      ++counts.errors;
    }
  }
}

Counts run_world(std::uint64_t seed) {
  Counts counts;
  bight::testing::SimOptions options;
  options.seed = seed;
  options.faults = bight::testing::Faults::chaotic();
  bight::testing::Sim sim(options);
  sim.run([&] {
    auto listener = bight::net::TcpListener::bind("127.0.0.1:6379");
    bight::net::ServeControl control;
    auto server = bight::spawn([&] {
      bight::net::serve(listener,
                        [](bight::net::TcpStream peer) {
                          test::serve_requests(peer, [](const test::Words& words) {
                            return words[0] == "HELLO" ? std::string("%0\r\n") : test::bulk(words.back());
                          });
                        },
                        {.drain = 1s, .control = &control});
    });
    {
      PoolOptions how;
      how.connections_max = 3;
      how.connection.connect_timeout = 2s;
      how.connection.exchange.reply_timeout = 3s;
      Pool pool(Endpoint{}, how);
      std::unique_ptr<Connection> shared;
      try {
        shared = std::make_unique<Connection>(Endpoint{}, how.connection);
      } catch (const std::system_error&) {
      }
      bight::Scope scope;
      for (int fiber = 0; fiber < 20; ++fiber) {
        scope.spawn([&, fiber] { call_often(pool, shared.get(), fiber, counts); }).detach();
      }
      scope.join();
      EXPECT_EQ(pool.stats().in_use, 0U);
    }
    control.finish();
    server.join();
  });
  EXPECT_EQ(sim.leaks(), "");
  return counts;
}

TEST(RedisChaos, EveryCallHasItsOwnReplyOrAnError) {
  bight::set_log_level(bight::LogLevel::error);
  Counts all;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(seed);
    const Counts counts = run_world(seed);
    all.replies += counts.replies;
    all.errors += counts.errors;
    if (HasFailure()) break;
  }
  EXPECT_GT(all.replies, 0);
  EXPECT_GT(all.errors, 0);
}

}  // namespace
}  // namespace redis
