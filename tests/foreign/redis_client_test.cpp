// SPDX-License-Identifier: Apache-2.0
// The client of examples/redis_client against a real Redis.

#include <chrono>
#include <cmath>
#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/group.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

#include "on_loop.hpp"
#include "redis_client/pool.hpp"
#include "redis_client/print.hpp"
#include "redis_client/subscriber.hpp"
#include "redis_server.hpp"

namespace redis {
namespace {

using namespace std::chrono_literals;
using bight::test::RedisServer;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr Protocol kBoth[] = {Protocol::resp2, Protocol::resp3};

Endpoint at(const RedisServer& server) {
  Endpoint endpoint;
  endpoint.unix_path = server.path();
  return endpoint;
}

ConnectionOptions speaking(Protocol protocol) {
  ConnectionOptions options;
  options.protocol = protocol;
  return options;
}

template <class Body>
void with_redis(const std::vector<std::string>& arguments, Body&& body) {
  RedisServer server(arguments);
  bight::test::on_loop([&] {
    if (bight::test::on_sim()) GTEST_SKIP() << "a simulated world has no other programs";
    if (!server.runs()) GTEST_SKIP() << "no Redis here (Debian: redis-server or redis-tools)";
    body(server);
  });
}

template <class Body>
void with_redis(Body&& body) {
  with_redis({}, std::forward<Body>(body));
}

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const ServerError& error) {
    return error.what();
  }
  return "";
}

TEST(RedisClient, EveryTypeInBothProtocols) {
  with_redis({"--enable-debug-command", "yes"}, [](const RedisServer& server) {
    Connection two(at(server), speaking(Protocol::resp2));
    Connection three(at(server));
    EXPECT_EQ(two.protocol(), Protocol::resp2);
    EXPECT_EQ(three.protocol(), Protocol::resp3);
    const auto ask = [](Connection& redis, const char* type) {
      Pipeline pipeline;
      return pretty(redis.call(pipeline.add("DEBUG", "PROTOCOL", type)).front());
    };
    EXPECT_EQ(ask(three, "string"), "\"Hello World\"\n");
    EXPECT_EQ(ask(three, "integer"), "(integer) 12345\n");
    EXPECT_EQ(ask(two, "double"), "\"3.141\"\n");
    EXPECT_THAT(ask(three, "double"), StartsWith("(double) 3.14"));
    EXPECT_EQ(ask(two, "null"), "(nil)\n");
    EXPECT_EQ(ask(three, "null"), "(nil)\n");
    EXPECT_EQ(ask(three, "array"), "1) (integer) 0\n2) (integer) 1\n3) (integer) 2\n");
    EXPECT_EQ(ask(two, "set"), "1) (integer) 0\n2) (integer) 1\n3) (integer) 2\n");
    EXPECT_EQ(ask(three, "set"), "1~ (integer) 0\n2~ (integer) 1\n3~ (integer) 2\n");
    EXPECT_EQ(ask(three, "map"), "1# (integer) 0 => (false)\n2# (integer) 1 => (true)\n3# (integer) 2 => (false)\n");
    EXPECT_EQ(ask(three, "true"), "(true)\n");
    EXPECT_EQ(ask(two, "false"), "(integer) 0\n");
    EXPECT_EQ(ask(three, "bignum"), "(big number) 1234567999999999999999999999999999999\n");
    EXPECT_EQ(ask(three, "verbatim"), "This is a verbatim\nstring\n");
    const Value attributed = three.call("DEBUG", "PROTOCOL", "attrib");
    EXPECT_EQ(attributed.text(), "Some real reply following the attribute");
    EXPECT_FALSE(attributed.attributes().empty());
    EXPECT_THAT(ask(three, "nonsense"), StartsWith("(error) ERR Wrong protocol type"));
  });
}

TEST(RedisClient, WhatProgramsDoWithIt) {
  with_redis([](const RedisServer& server) {
    for (const Protocol protocol : kBoth) {
      Connection redis(at(server), speaking(protocol));
      redis.call("FLUSHALL");
      const std::string bytes("\0\r\n\xff", 4);
      EXPECT_EQ(redis.call("SET", bytes, bytes).text(), "OK");
      EXPECT_EQ(redis.call("GET", bytes).text(), bytes);
      EXPECT_TRUE(redis.call("GET", "none").is_nil());
      EXPECT_EQ(redis.call("INCRBY", "n", -7).integer(), -7);
      redis.call("HSET", "h", "a", 1, "b", "two");
      const Value hash = redis.call("HGETALL", "h");
      EXPECT_EQ(hash.find("b")->text(), "two");
      redis.call("RPUSH", "l", 1, 2, 3);
      EXPECT_EQ(redis.call("LRANGE", "l", 0, -1).items().size(), 3U);
      EXPECT_EQ(redis.call("EVAL", "return {1,{2,{3,'x'}},false}", 0).items()[1].items()[1].items()[1].text(), "x");
      EXPECT_THAT(refusal([&] { redis.call("LPUSH", "n", "x"); }), StartsWith("WRONGTYPE"));
      EXPECT_THAT(refusal([&] { redis.call("NO_SUCH", "n", "x"); }), StartsWith("ERR unknown command"));
      EXPECT_EQ(redis.call("PING").text(), "PONG");
    }
  });
}

TEST(RedisClient, AuthenticatesAndSelectsByUrl) {
  const std::uint16_t port = bight::test::free_port();
  with_redis({"--requirepass", "p@ss", "--bind", "127.0.0.1", "--port", std::to_string(port)}, [&](const RedisServer&) {
    const std::string where = "127.0.0.1:" + std::to_string(port);
    std::optional<Connection> redis;
    // The Unix socket is there first, the port a moment later.
    for (int i = 0; i < 100 && !redis; ++i) {
      try {
        redis.emplace(Endpoint::parse("redis://:p%40ss@" + where + "/3"));
      } catch (const std::system_error&) {
        bight::sleep_for(10ms);
      }
    }
    ASSERT_TRUE(redis);
    EXPECT_THAT(redis->call("CLIENT", "INFO").text(), HasSubstr(" db=3 "));
    Connection two(Endpoint::parse("redis://default:p%40ss@localhost:" + std::to_string(port)),
                   speaking(Protocol::resp2));
    EXPECT_EQ(two.call("PING").text(), "PONG");
    for (const Protocol protocol : kBoth) {
      EXPECT_THAT(refusal([&] { Connection(Endpoint::parse("redis://:wrong@" + where), speaking(protocol)); }),
                  StartsWith("WRONGPASS"));
    }
    EXPECT_THAT(refusal([&] { Connection(Endpoint::parse("redis://" + where)); }), StartsWith("NOAUTH"));
    EXPECT_THAT(refusal([&] { Connection(Endpoint::parse("redis://:p%40ss@" + where + "/999")); }),
                StartsWith("ERR DB index"));
  });
}

TEST(RedisClient, AThousandFibersShareEightConnections) {
  with_redis([](const RedisServer& server) {
    Pool pool(at(server), {.connections_max = 8});
    bight::Scope scope;
    for (int i = 0; i < 1000; ++i) {
      scope
          .spawn([&, i] {
            pool.call("INCR", "count");
            EXPECT_EQ(pool.call("ECHO", i).text(), std::to_string(i));
          })
          .detach();
    }
    scope.join();
    EXPECT_EQ(pool.call("GET", "count").text(), "1000");
    EXPECT_LE(pool.stats().opened, 8U);
    EXPECT_EQ(pool.stats().in_use, 0U);
    EXPECT_EQ(pool.stats().dropped, 0U);
  });
}

TEST(RedisClient, AThousandFibersShareOneConnection) {
  with_redis([](const RedisServer& server) {
    for (const Protocol protocol : kBoth) {
      Connection redis(at(server), speaking(protocol));
      bight::Scope scope;
      for (int i = 0; i < 1000; ++i) {
        scope.spawn([&, i] { EXPECT_EQ(redis.call("ECHO", i).text(), std::to_string(i)); }).detach();
      }
      scope.join();
    }
  });
}

TEST(RedisClient, PublishesAndSubscribesInBothProtocols) {
  with_redis([](const RedisServer& server) {
    Connection publisher(at(server));
    for (const Protocol protocol : kBoth) {
      SubscriberOptions options;
      options.connection = speaking(protocol);
      Subscriber subscriber(at(server), options);
      subscriber.subscribe("news");
      subscriber.subscribe_pattern("w*");
      EXPECT_EQ(publisher.call("PUBLISH", "news", "one").integer(), 1);
      publisher.call("PUBLISH", "weather", std::string("a\0b", 3));
      const auto one = subscriber.messages().receive();
      EXPECT_EQ(one->channel + "/" + one->payload + "/" + one->pattern, "news/one/");
      const auto two = subscriber.messages().receive();
      EXPECT_EQ(two->channel + "/" + two->payload + "/" + two->pattern, "weather/" + std::string("a\0b", 3) + "/w*");
      subscriber.ping();
      subscriber.unsubscribe("news");
      EXPECT_EQ(publisher.call("PUBLISH", "news", "unheard").integer(), 0);
      subscriber.unsubscribe_pattern("w*");
      EXPECT_FALSE(subscriber.messages().try_receive());
    }
  });
}

TEST(RedisClient, ASubscriberThatFallsBehindLosesNothing) {
  with_redis([](const RedisServer& server) {
    SubscriberOptions options;
    options.messages_max = 10;
    Subscriber subscriber(at(server), options);
    subscriber.subscribe("news");
    auto publishing = bight::spawn([&] {
      Connection publisher(at(server));
      for (int batch = 0; batch < 50; ++batch) {
        Pipeline pipeline;
        for (int i = 0; i < 100; ++i) pipeline.add("PUBLISH", "news", batch * 100 + i);
        static_cast<void>(publisher.call(pipeline));
      }
    });
    publishing.join();
    for (int i = 0; i < 5000; ++i) ASSERT_EQ(subscriber.messages().receive()->payload, std::to_string(i));
  });
}

TEST(RedisClient, TransactionsAreDoneWholeOrNotAtAll) {
  with_redis([](const RedisServer& server) {
    Pool pool(at(server));
    // Each adds one, if nobody else has meanwhile.
    bight::Scope scope;
    for (int i = 0; i < 20; ++i) {
      scope
          .spawn([&] {
            for (bool done = false; !done;) {
              auto redis = pool.acquire();
              redis->call("WATCH", "n");
              const Value old = redis->call("GET", "n");
              Transaction set;
              set.add("SET", "n", old.is_nil() ? 1 : std::stoi(old.text()) + 1);
              done = redis->call(set).has_value();
            }
          })
          .detach();
    }
    scope.join();
    EXPECT_EQ(pool.call("GET", "n").text(), "20");
    EXPECT_GT(pool.stats().dropped, 0U) << "those that were watching are not used again";
    Transaction wrong;
    wrong.add("SET", "m", 1).add("NO_SUCH");
    EXPECT_THAT(refusal([&] { static_cast<void>(pool.call(wrong)); }), StartsWith("ERR unknown command"));
    EXPECT_TRUE(pool.call("GET", "m").is_nil());
  });
}

TEST(RedisClient, AServerThatIsKilledWithinAPipelineEndsEveryCall) {
  with_redis([](RedisServer& server) {
    Connection redis(at(server));
    int lost = 0;
    bight::Scope scope;
    for (int i = 0; i < 100; ++i) {
      scope
          .spawn([&] {
            try {
              for (;;) {
                Pipeline pipeline;
                for (int n = 0; n < 100; ++n) pipeline.add("INCR", "n");
                static_cast<void>(redis.call(pipeline));
              }
            } catch (const ConnectionLost&) {
              ++lost;
            }
          })
          .detach();
    }
    bight::sleep_for(20ms);
    server.stop();
    bight::with_timeout(30s, [&] { scope.join(); });
    EXPECT_EQ(lost, 100);
    EXPECT_FALSE(redis.alive());
  });
}

TEST(RedisClient, AServerThatComesBackIsConnectedToAgain) {
  with_redis([](RedisServer& server) {
    Pool pool(at(server), {.connections_max = 3, .retry_pause = 1ms});
    bight::Scope scope;
    for (int i = 0; i < 3; ++i) scope.spawn([&] { pool.call("SET", "key", "before"); }).detach();
    scope.join();
    EXPECT_EQ(pool.stats().idle, 3U);
    server.stop();
    EXPECT_THROW(pool.call("GET", "key"), std::system_error);
    server.start();
    EXPECT_TRUE(pool.call("GET", "key").is_nil());
    EXPECT_EQ(pool.stats().dropped, 3U);
  });
}

TEST(RedisClient, OnlyWhatMayBeDoneTwiceIsSentTwice) {
  with_redis([](const RedisServer& server) {
    Connection other(at(server));
    const auto kill_the_rest = [&] { other.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"); };
    Pool pool(at(server), {.connections_max = 1, .retry_pause = 1ms});
    const auto blocked = [&](const Command& command) {
      auto call = bight::spawn([&, command] { return pool.call(command); });
      while (other.call("INFO", "clients").text().find("blocked_clients:1") == std::string::npos) bight::sleep_for(1ms);
      kill_the_rest();
      return call;
    };
    EXPECT_THROW(blocked(Command("BLPOP", "list", 0).blocking()).get(), ConnectionLost);
    auto again = blocked(Command("BLPOP", "list", 0).blocking().idempotent());
    other.call("RPUSH", "list", "x");
    EXPECT_EQ(again.get().items()[1].text(), "x");
  });
}

TEST(RedisClient, CancelledCallsNeverMixRepliesUp) {
  with_redis([](const RedisServer& server) {
    Connection shared(at(server));
    Pool pool(at(server), {.connections_max = 4});
    bight::Scope scope;
    for (int i = 0; i < 200; ++i) {
      scope
          .spawn([&, i] {
            for (int n = 0; n < 20; ++n) {
              const std::string text = std::to_string(i) + "." + std::to_string(n);
              static_cast<void>(bight::move_on_after(std::chrono::microseconds(37 * (i % 50)), [&] {
                EXPECT_EQ(shared.call("ECHO", text).text(), text);
                EXPECT_EQ(pool.call("ECHO", text).text(), text);
              }));
            }
          })
          .detach();
    }
    scope.join();
    EXPECT_EQ(shared.call("ECHO", "last").text(), "last");
    EXPECT_EQ(pool.call("ECHO", "last").text(), "last");
  });
}

TEST(RedisClient, ACancelledBlockingCallCostsThePoolItsConnection) {
  with_redis([](const RedisServer& server) {
    Pool pool(at(server), {.connections_max = 1});
    EXPECT_FALSE(bight::move_on_after(20ms, [&] { pool.call(Command("BLPOP", "list", 0).blocking()); }));
    EXPECT_EQ(pool.stats().dropped, 1U);
    EXPECT_EQ(pool.call("RPUSH", "list", "x").integer(), 1) << "nobody waits for it any more";
    EXPECT_EQ(pool.call("LLEN", "list").integer(), 1);
  });
}

TEST(RedisClient, RepliesThatAreTooLargeEndTheConnection) {
  with_redis([](const RedisServer& server) {
    Connection redis(at(server));
    redis.call("SET", "large", std::string(2'000'000, 'x'));
    for (int i = 0; i < 10; ++i) {
      Pipeline pipeline;
      for (int n = 0; n < 1000; ++n) pipeline.add("RPUSH", "list", n);
      static_cast<void>(redis.call(pipeline));
    }
    EXPECT_EQ(redis.call("GET", "large").text().size(), 2'000'000U);
    for (const char* command : {"GET large", "LRANGE list 0 -1"}) {
      ConnectionOptions options;
      options.exchange.limits = {.bulk_max = 1'000'000, .elements_max = 9'999};
      Connection bounded(at(server), options);
      const auto words = *split_words(command);
      Command call(words[0]);
      for (std::size_t i = 1; i < words.size(); ++i) call.add(words[i]);
      try {
        bounded.call(call);
        ADD_FAILURE() << command;
      } catch (const ConnectionLost& lost) {
        EXPECT_THAT(lost.what(), HasSubstr("than allowed"));
      }
      EXPECT_FALSE(bounded.alive());
    }
  });
}

TEST(RedisClient, LargeValuesGoBothWays) {
  with_redis([](const RedisServer& server) {
    Connection redis(at(server));
    const std::string large(20'000'000, 'y');
    bight::Scope scope;
    for (int i = 0; i < 3; ++i) {
      scope
          .spawn([&, i] {
            redis.call("SET", "large" + std::to_string(i), large);
            EXPECT_EQ(redis.call("GET", "large" + std::to_string(i)).text(), large);
          })
          .detach();
    }
    scope.join();
  });
}

TEST(RedisClient, InvalidationsArePushed) {
  with_redis([](const RedisServer& server) {
    Connection redis(at(server));
    redis.call("CLIENT", "TRACKING", "ON");
    EXPECT_TRUE(redis.altered());
    redis.call("GET", "key");
    Connection(at(server)).call("SET", "key", 1);
    const auto push = redis.pushes().receive();
    ASSERT_TRUE(push);
    EXPECT_EQ(push->items()[0].text(), "invalidate");
    EXPECT_EQ(push->items()[1].items()[0].text(), "key");
  });
}

TEST(RedisPool, WhoComesFirstIsServedFirstAndWaitingIsBounded) {
  with_redis([](const RedisServer& server) {
    Pool pool(at(server), {.connections_max = 1, .acquire_timeout = 30ms});
    std::optional<Pool::Lease> held(pool.acquire());
    EXPECT_EQ(pool.stats().in_use, 1U);
    try {
      static_cast<void>(pool.acquire());
      ADD_FAILURE();
    } catch (const std::system_error& error) {
      EXPECT_EQ(error.code(), std::errc::timed_out);
      EXPECT_THAT(error.what(), HasSubstr("none of 1 connections has become free"));
    }
    held.reset();
    static_cast<void>(pool.acquire());
    EXPECT_EQ(pool.stats().opened, 1U);
  });
}

TEST(RedisPool, IdleConnectionsAreCheckedAndExpire) {
  with_redis([](const RedisServer& server) {
    Pool pool(at(server), {.connections_max = 2, .idle_max = 200ms, .check_after = 0ms});
    pool.call("PING");
    pool.call("PING");
    EXPECT_EQ(pool.stats().opened, 1U);
    EXPECT_EQ(pool.stats().idle, 1U);
    while (pool.stats().idle > 0) bight::sleep_for(10ms);
    EXPECT_EQ(pool.stats().expired, 1U);
    pool.call("PING");
    EXPECT_EQ(pool.stats().opened, 2U);
    ::kill(server.pid(), SIGSTOP);
    auto call = bight::spawn([&] { return pool.call("PING").take_text(); });  // asks the idle one, and gives it up
    while (pool.stats().dropped == 0) bight::sleep_for(10ms);
    ::kill(server.pid(), SIGCONT);
    EXPECT_EQ(call.get(), "PONG");
    EXPECT_EQ(pool.stats().opened, 3U);
  });
}

TEST(RedisPool, WhatWasAlteredIsNotLentAgain) {
  with_redis([](const RedisServer& server) {
    Pool pool(at(server), {.connections_max = 1});
    pool.acquire()->call("SELECT", 5);
    EXPECT_THAT(pool.call("CLIENT", "INFO").text(), HasSubstr(" db=0 "));
    pool.acquire().drop();
    EXPECT_EQ(pool.stats().idle, 0U);
    EXPECT_EQ(pool.call("PING").text(), "PONG");
    pool.close_idle();
    EXPECT_EQ(pool.stats().idle, 0U);
  });
}

}  // namespace
}  // namespace redis
