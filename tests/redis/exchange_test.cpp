// SPDX-License-Identifier: Apache-2.0
// Connection and Subscriber against a server that is made of memory: on every engine, and with the errors that a real
// server hardly ever makes.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/event.hpp>
#include <bight/net/memory_stream.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

#include "fake_server.hpp"
#include "on_loop.hpp"
#include "redis_client/connection.hpp"
#include "redis_client/print.hpp"
#include "redis_client/subscriber.hpp"

namespace redis {
namespace {

using namespace std::chrono_literals;
using bight::net::MemoryStream;
using bight::test::on_loop;
using test::bulk;
using test::serve_requests;
using test::Words;
using ::testing::HasSubstr;

std::string echo(const Words& words) { return words[0] == "HELLO" ? "%0\r\n" : bulk(words.back()); }

/// A connection whose other end is in a fiber.
class Rig {
 public:
  using Serve = std::function<void(MemoryStream&)>;

  explicit Rig(Serve serve, const ConnectionOptions& options = {}, std::size_t capacity = 64 * 1024) {
    auto [mine, theirs] = MemoryStream::pair(capacity);
    scope_
        .spawn([serve = std::move(serve), stream = std::move(theirs)]() mutable {
          serve(stream);
          stream.close();
        })
        .detach();
    redis_.emplace(transport_over(std::move(mine)), Endpoint{}, options);
  }
  explicit Rig(std::function<std::string(const Words&)> handler, const ConnectionOptions& options = {},
               std::size_t capacity = 64 * 1024)
      : Rig([handler = std::move(handler)](MemoryStream& stream) { serve_requests(stream, handler); }, options,
            capacity) {}

  Connection& operator*() { return *redis_; }
  Connection* operator->() { return &*redis_; }

 private:
  bight::Scope scope_;
  std::optional<Connection> redis_;
};

/// What a call ends with.
template <class Call>
std::string outcome(const Call& call) {
  try {
    call();
    return "well";
  } catch (const ConnectionLost& lost) {
    return std::string(lost.maybe_executed() ? "maybe: " : "not: ") + lost.what();
  }
}

TEST(RedisConnection, EachOfManyFibersGetsItsOwnReply) {
  on_loop([] {
    Rig redis(echo, {}, 100);  // so that nothing goes in one piece
    bight::Scope scope;
    for (int i = 0; i < 500; ++i) {
      scope.spawn([&, i] { EXPECT_EQ(redis->call("ECHO", i).text(), std::to_string(i)); }).detach();
    }
    scope.join();
    EXPECT_EQ(redis->unanswered(), 0U);
  });
}

TEST(RedisConnection, CallsOfTheSameMomentGoOutTogether) {
  on_loop([] {
    int reads = 0;
    Rig redis([&](MemoryStream& stream) {
      Parser parser;
      std::vector<std::byte> buffer(65536);
      std::error_code error;
      while (const std::size_t count = stream.read(std::span(buffer), error)) {
        ++reads;
        std::string_view bytes(reinterpret_cast<const char*>(buffer.data()), count);
        std::string replies;
        while (auto request = parser.next(bytes)) replies += echo(test::words_of(*request));
        stream.write_all(replies, error);
      }
    });
    reads = 0;
    bight::Scope scope;
    for (int i = 0; i < 100; ++i) scope.spawn([&] { redis->call("ECHO", "x"); }).detach();
    scope.join();
    EXPECT_EQ(reads, 1);
  });
}

TEST(RedisConnection, RepliesMayComeByteByByte) {
  on_loop([] {
    Rig redis([](MemoryStream& stream) {
      const std::string replies = "%0\r\n*2\r\n$3\r\nabc\r\n:7\r\n%1\r\n+k\r\n,0.5\r\n";
      std::error_code error;
      for (const char c : replies) {
        stream.write_all(std::string_view(&c, 1), error);
        bight::yield();
      }
      std::vector<std::byte> buffer(4096);
      while (stream.read(std::span(buffer), error) > 0) {
      }
    });
    Pipeline both;
    both.add("A").add("B");
    const std::vector<Value> replies = redis->call(both);
    EXPECT_EQ(pretty(replies[0]), "1) \"abc\"\n2) (integer) 7\n");
    EXPECT_EQ(pretty(replies[1]), "1# k => (double) 0.5\n");
  });
}

TEST(RedisConnection, ErrorsOfTheServerAreTheCallersAlone) {
  on_loop([] {
    Rig redis([](const Words& words) { return words[0] == "LPUSH" ? "-WRONGTYPE it is a text\r\n" : echo(words); });
    try {
      redis->call("LPUSH", "k", "v");
      ADD_FAILURE();
    } catch (const ServerError& error) {
      EXPECT_EQ(error.kind(), "WRONGTYPE");
    }
    Pipeline mixed;
    mixed.add("ECHO", 1).add("LPUSH", "k", "v").add("ECHO", 2);
    const std::vector<Value> replies = redis->call(mixed);
    EXPECT_EQ(replies[0].text(), "1");
    EXPECT_TRUE(replies[1].is_error());
    EXPECT_EQ(replies[2].text(), "2");
    EXPECT_THROW(redis->call("SUBSCRIBE", "x"), std::invalid_argument);
    EXPECT_TRUE(redis->alive());
    EXPECT_TRUE(redis->call(Pipeline()).empty());
  });
}

TEST(RedisConnection, ACancelledCallLeavesTheOthersTheirReplies) {
  on_loop([] {
    bight::Event answer;
    Rig redis([&](const Words& words) {
      if (words[0] == "ECHO") answer.wait();
      return echo(words);
    });
    auto first = bight::spawn([&] { return redis->call("ECHO", "first").take_text(); });
    auto second = bight::spawn([&] { return redis->call("ECHO", "second").take_text(); });
    auto third = bight::spawn([&] { return redis->call("ECHO", "third").take_text(); });
    bight::yield();
    second.cancel();
    second.join();
    EXPECT_EQ(redis->unanswered(), 3U) << "its reply is waited for";
    answer.set();
    EXPECT_EQ(first.get(), "first");
    EXPECT_EQ(third.get(), "third");
    EXPECT_THROW(second.get(), bight::FiberCancelled);
    EXPECT_EQ(redis->call("ECHO", "fourth").text(), "fourth");
    EXPECT_EQ(redis->unanswered(), 0U);
  });
}

TEST(RedisConnection, WhoIsCancelledBeforeItsTurnSendsNothing) {
  on_loop([] {
    int calls = 0;
    Rig redis([&](const Words& words) { return ++calls, echo(words); });
    calls = 0;
    auto caller = bight::spawn([&] {
      try {
        bight::sleep_for(1h);
      } catch (const bight::Cancelled&) {
      }
      redis->call("ECHO", "x");
    });
    bight::yield();
    caller.cancel();
    caller.join();
    EXPECT_EQ(redis->call("ECHO", "y").text(), "y");
    EXPECT_EQ(calls, 1);
  });
}

TEST(RedisConnection, WhenTheServerGoesEveryCallEnds) {
  on_loop([] {
    int answered = 0;
    Rig redis([&](const Words& words) { return words[0] == "HELLO" ? "%0\r\n" : ++answered > 2 ? "bye" : "+OK\r\n"; });
    std::vector<bight::Fiber<std::string>> callers;
    for (int i = 0; i < 5; ++i) {
      callers.push_back(bight::spawn([&] { return outcome([&] { redis->call("INCR", "n"); }); }));
    }
    EXPECT_EQ(callers[0].get(), "well");
    EXPECT_EQ(callers[1].get(), "well");
    for (int i = 2; i < 5; ++i) EXPECT_EQ(callers[i].get().substr(0, 35), "maybe: redis 127.0.0.1:6379: the se");
    EXPECT_FALSE(redis->alive());
    EXPECT_THAT(outcome([&] { redis->call("INCR", "n"); }), HasSubstr("not: redis"));
    EXPECT_TRUE(redis->pushes().closed());
  });
}

TEST(RedisConnection, WhatMakesNoSenseEndsIt) {
  on_loop([] {
    for (const auto& [reply, complaint] :
         std::vector<std::pair<std::string, std::string>>{{"?what\r\n", "a type that does not exist"},
                                                          {"$99999999999\r\n", "more bytes than allowed"},
                                                          {"+1\r\n+2\r\n", "a reply to no request"},
                                                          {"+1\r\n-ERR max clients\r\n", "ERR max clients"}}) {
      Rig redis([&, reply = reply](const Words& words) { return words[0] == "HELLO" ? "%0\r\n" : reply; });
      std::string all = outcome([&] { redis->call("GET", "x"); });
      bight::yield();
      all += outcome([&] { redis->call("GET", "x"); });
      EXPECT_THAT(all, HasSubstr(complaint));
    }
  });
}

// However impatient its callers are: none of them waits until it is due.
TEST(RedisConnection, AServerThatDoesNotReplyIsGivenUpWithoutAnybodyWaitingForIt) {
  on_loop([] {
    ConnectionOptions options;
    options.exchange.reply_timeout = 100ms;
    Rig redis([](const Words& words) { return words[0] == "HELLO" ? "%0\r\n" : ""; }, options);
    for (int i = 0; i < 20 && redis->alive(); ++i) {
      try {
        EXPECT_FALSE(bight::move_on_after(30ms, [&] { redis->call("GET", "x"); }));
      } catch (const ConnectionLost& lost) {
        EXPECT_THAT(lost.what(), HasSubstr("no reply in time"));
        EXPECT_FALSE(lost.maybe_executed());
      }
    }
    EXPECT_FALSE(redis->alive());
  });
}

TEST(RedisConnection, AServerThatDoesNotReplyIsGivenUp) {
  on_loop([] {
    ConnectionOptions options;
    options.exchange.reply_timeout = 50ms;
    bight::Event never;
    Rig redis(
        [&](MemoryStream& stream) {
          std::error_code error;
          stream.write_all("%0\r\n", error);
          std::vector<std::byte> buffer(64);
          while (stream.read(std::span(buffer), error) > 0) {
          }
        },
        options);
    EXPECT_FALSE(bight::move_on_after(200ms, [&] { redis->call(Command("BLPOP", "x", 0).blocking()); }));
    EXPECT_TRUE(redis->alive());
    EXPECT_THAT(outcome([&] { redis->call("GET", "x"); }), HasSubstr("maybe: redis 127.0.0.1:6379: no reply in time"));
    EXPECT_FALSE(redis->alive());
  });
}

TEST(RedisConnection, WhoSendsFasterThanTheServerReadsWaits) {
  on_loop([] {
    ConnectionOptions options;
    options.exchange.output_max = 1000;
    bight::Event read;
    Rig redis(
        [&](MemoryStream& stream) {
          std::error_code error;
          stream.write_all("%0\r\n", error);
          std::vector<std::byte> hello(std::string_view("*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n").size());
          for (std::size_t got = 0; got < hello.size();) got += stream.read(std::span(hello).subspan(got), error);
          read.wait();
          serve_requests(stream, echo);
        },
        options, 100);
    std::vector<bight::Fiber<>> callers;
    for (int i = 0; i < 200; ++i) {
      callers.push_back(bight::spawn([&, i] { EXPECT_EQ(redis->call("ECHO", i).text(), std::to_string(i)); }));
    }
    for (int i = 0; i < 10; ++i) bight::yield();
    EXPECT_LT(redis->unanswered(), 150U) << "the others wait for room";
    callers.back().cancel();
    callers.back().join();
    read.set();
    for (auto& caller : callers) caller.join();
    EXPECT_EQ(redis->call("ECHO", "after").text(), "after");
  });
}

TEST(RedisConnection, NumberOfUnansweredCallsIsBounded) {
  on_loop([] {
    ConnectionOptions options;
    options.exchange.calls_max = 3;
    std::size_t most = 0;
    Rig redis(echo, options);
    bight::Scope scope;
    for (int i = 0; i < 50; ++i) {
      scope
          .spawn([&, i] {
            EXPECT_EQ(redis->call("ECHO", i).text(), std::to_string(i));
            most = std::max(most, redis->unanswered());
          })
          .detach();
    }
    scope.join();
    EXPECT_LE(most, 3U);
  });
}

TEST(RedisConnection, ClosingItEndsTheCallsUnderWay) {
  on_loop([] {
    bight::Event never;
    Rig redis([&](const Words& words) {
      if (words[0] != "HELLO") never.wait();
      return echo(words);
    });
    auto caller = bight::spawn([&] { return outcome([&] { redis->call("GET", "x"); }); });
    bight::yield();
    redis->close();
    redis->close();
    EXPECT_THAT(caller.get(), HasSubstr("closed here"));
    never.set();
  });
}

TEST(RedisConnection, PushesComeThroughAChannelOfTheirOwn) {
  on_loop([] {
    ConnectionOptions options;
    options.pushes_max = 2;
    Rig redis(
        [](const Words& words) {
          const std::string push = ">2\r\n$10\r\ninvalidate\r\n*1\r\n" + bulk(words.back());
          return words[0] == "HELLO" ? "%0\r\n" : push + "+OK\r\n" + (words.back() == "b" ? push : "");
        },
        options);
    redis->call("SET", "a");
    redis->call("SET", "b");
    redis->call("SET", "c");
    EXPECT_EQ(redis->pushes().receive()->items()[1].items()[0].text(), "a");
    EXPECT_EQ(redis->pushes().receive()->items()[1].items()[0].text(), "b");
    EXPECT_FALSE(redis->pushes().try_receive());
    EXPECT_EQ(redis->pushes_dropped(), 2U);
  });
}

/// What a client says before its first call to a server that answers so.
std::vector<Words> greeting(const Endpoint& endpoint, const ConnectionOptions& options, const std::string& to_hello,
                            std::string* error = nullptr) {
  std::vector<Words> heard;
  auto [mine, theirs] = MemoryStream::pair();
  bight::Scope scope;
  scope
      .spawn([&, &theirs = theirs] {
        serve_requests(theirs, [&](const Words& words) {
          heard.push_back(words);
          return words[0] == "HELLO" ? to_hello : "+OK\r\n";
        });
      })
      .detach();
  try {
    Connection redis(transport_over(std::move(mine)), endpoint, options);
    if (error != nullptr) *error = redis.protocol() == Protocol::resp3 ? "3" : "2";
  } catch (const ServerError& refused) {
    if (error != nullptr) *error = refused.what();
  }
  scope.join();
  return heard;
}

TEST(RedisConnection, SaysHelloAsTheServerUnderstandsIt) {
  on_loop([] {
    const auto says = [](const std::string& url, const ConnectionOptions& options, const std::string& to_hello) {
      std::string outcome;
      std::string all;
      for (const Words& words : greeting(Endpoint::parse(url), options, to_hello, &outcome)) {
        for (const std::string& word : words) all += word + " ";
        all += "; ";
      }
      return all + outcome;
    };
    ConnectionOptions named;
    named.client_name = "me";
    ConnectionOptions two;
    two.protocol = Protocol::resp2;
    ConnectionOptions three;
    three.protocol = Protocol::resp3;
    const std::string too_old = "-ERR unknown command `HELLO`, with args\r\n";
    EXPECT_EQ(says("redis://h", {}, "%0\r\n"), "HELLO 3 ; 3");
    EXPECT_EQ(says("redis://:pw@h/4", named, "%0\r\n"), "HELLO 3 AUTH default pw ; SELECT 4 ; CLIENT SETNAME me ; 3");
    EXPECT_EQ(says("redis://u:pw@h", {}, too_old), "HELLO 3 AUTH u pw ; AUTH u pw ; 2");
    EXPECT_EQ(says("redis://:pw@h", {}, "-NOPROTO sorry\r\n"), "HELLO 3 AUTH default pw ; AUTH pw ; 2");
    EXPECT_EQ(says("redis://:pw@h", two, "%0\r\n"), "AUTH pw ; 2");
    EXPECT_EQ(says("redis://h", three, "-NOPROTO sorry\r\n"), "HELLO 3 ; NOPROTO sorry");
    EXPECT_EQ(says("redis://h", {}, "-NOAUTH required\r\n"), "HELLO 3 ; NOAUTH required");
  });
}

TEST(RedisConnection, ATransactionIsAllOrNothing) {
  on_loop([] {
    std::string exec = "*2\r\n:1\r\n-WRONGTYPE no\r\n";
    std::string queued = "+QUEUED\r\n";
    Rig redis([&](const Words& words) {
      if (words[0] == "HELLO") return std::string("%0\r\n");
      if (words[0] == "MULTI") return std::string("+OK\r\n");
      return words[0] == "EXEC" ? exec : queued;
    });
    Transaction both;
    both.add("INCR", "a").add("INCR", "b");
    const auto replies = redis->call(both);
    ASSERT_TRUE(replies);
    EXPECT_EQ((*replies)[0].integer(), 1);
    EXPECT_TRUE((*replies)[1].is_error());
    exec = "_\r\n";
    EXPECT_FALSE(redis->call(both));
    exec = "-EXECABORT Transaction discarded\r\n";
    queued = "-ERR unknown command\r\n";
    try {
      static_cast<void>(redis->call(both));
      ADD_FAILURE();
    } catch (const ServerError& error) {
      EXPECT_STREQ(error.what(), "ERR unknown command");
    }
    EXPECT_FALSE(redis->altered());
  });
}

// --- Subscriptions

/// A server that confirms, and publishes what it is told to.
class Publisher {
 public:
  explicit Publisher(std::string push, std::string hello = "%0\r\n")
      : push_(std::move(push)), hello_(std::move(hello)) {
    std::tie(mine_, theirs_) = MemoryStream::pair();
    scope_
        .spawn([this] {
          serve_requests(theirs_, [this](const Words& words) {
            if (words[0] == "HELLO") return hello_;
            if (words[0] == "PING") return push_ == "*" ? "*2\r\n+pong\r\n$0\r\n\r\n" : std::string("+PONG\r\n");
            if (words[1] == "forbidden") return std::string("-NOPERM no\r\n");
            std::string kind = words[0];
            for (char& c : kind) c = static_cast<char>(c | 0x20);
            return before_confirmation + push_ + "3\r\n" + bulk(kind) + bulk(words[1]) + ":1\r\n";
          });
          theirs_.close();
        })
        .detach();
  }
  std::unique_ptr<Transport> transport() { return transport_over(std::move(mine_)); }
  [[nodiscard]] std::string message(const std::string& text) const {
    return push_ + "3\r\n" + bulk("message") + bulk("news") + bulk(text);
  }
  void publish(const std::string& text) { theirs_.write_all(message(text)); }
  void close() { theirs_.close(); }

  std::string before_confirmation;

 private:
  std::string push_;
  std::string hello_;
  MemoryStream mine_;
  MemoryStream theirs_;
  bight::Scope scope_;
};

/// With RESP3's pushes, and with RESP2's arrays.
template <class Body>
void with_both(const Body& body) {
  on_loop([&] {
    body(">", "%0\r\n");
    body("*", "-ERR unknown command\r\n");
  });
}

TEST(RedisSubscriber, HearsWhatIsPublished) {
  with_both([](const char* push, const char* hello) {
    Publisher server(push, hello);
    Subscriber subscriber(server.transport(), Endpoint{});
    subscriber.subscribe("news");
    server.publish("one");
    server.publish("two");
    EXPECT_EQ(subscriber.messages().receive()->payload, "one");
    EXPECT_EQ(subscriber.messages().receive()->payload, "two");
    subscriber.ping();
    EXPECT_THROW(subscriber.subscribe("forbidden"), ServerError);
    server.publish("three");
    server.close();
    EXPECT_EQ(subscriber.messages().receive()->payload, "three");
    EXPECT_FALSE(subscriber.messages().receive());
    EXPECT_FALSE(subscriber.alive());
    EXPECT_THROW(subscriber.subscribe("news"), ConnectionLost);
  });
}

TEST(RedisSubscriber, SubscribesWhileMessagesWait) {
  with_both([](const char* push, const char* hello) {
    Publisher server(push, hello);
    SubscriberOptions options;
    options.messages_max = 2;
    Subscriber subscriber(server.transport(), Endpoint{}, options);
    subscriber.subscribe("news");
    for (int i = 0; i < 5; ++i) server.before_confirmation += server.message(std::to_string(i));
    subscriber.subscribe("more");  // its confirmation is behind five messages, for two of which there is room
    for (int i = 0; i < 5; ++i) EXPECT_EQ(subscriber.messages().receive()->payload, std::to_string(i));
    EXPECT_FALSE(subscriber.messages().try_receive());
  });
}

TEST(RedisSubscriber, ReadsNoMoreThanIsReceived) {
  with_both([](const char* push, const char* hello) {
    Publisher server(push, hello);
    SubscriberOptions options;
    options.messages_max = 4;
    Subscriber subscriber(server.transport(), Endpoint{}, options);
    subscriber.subscribe("news");
    int sent = 0;
    auto publisher = bight::spawn([&] {
      for (; sent < 3000; ++sent) server.publish(std::to_string(sent) + std::string(1000, 'x'));
    });
    for (int i = 0; i < 1000; ++i) bight::yield();
    EXPECT_LT(sent, 300) << "what is on the way is bounded";
    for (int i = 0; i < 3000; ++i) ASSERT_EQ(std::stoi(subscriber.messages().receive()->payload), i);
    publisher.join();
  });
}

TEST(RedisSubscriber, CanBeDroppedWithMessagesUnread) {
  with_both([](const char* push, const char* hello) {
    Publisher server(push, hello);
    SubscriberOptions options;
    options.messages_max = 1;
    Subscriber subscriber(server.transport(), Endpoint{}, options);
    subscriber.subscribe("news");
    for (int i = 0; i < 10; ++i) server.publish("x");
    for (int i = 0; i < 10; ++i) bight::yield();
  });
}

}  // namespace
}  // namespace redis
