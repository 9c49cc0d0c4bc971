// SPDX-License-Identifier: Apache-2.0
// A client library that does its own non-blocking I/O, hiredis, in fibers, against a real Redis.
#include <hiredis/hiredis.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/fd_watch.hpp>
#include <bight/fiber.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

#include "on_loop.hpp"
#include "redis_server.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::on_loop;
using test::on_sim;

/// What a program would write around hiredis: its calls as they are, and a wait wherever it would block.
class Redis {
 public:
  explicit Redis(const std::string& path) : context_(::redisConnectUnixNonBlock(path.c_str())), watch_(context_->fd) {
    check();
  }

  std::string call(const std::vector<std::string>& words) {
    std::vector<const char*> texts;
    std::vector<std::size_t> sizes;
    for (const std::string& word : words) {
      texts.push_back(word.data());
      sizes.push_back(word.size());
    }
    ::redisAppendCommandArgv(context_.get(), static_cast<int>(words.size()), texts.data(), sizes.data());
    for (int done = 0; done == 0;) {
      watch_.wait_writable();
      ::redisBufferWrite(context_.get(), &done);
      check();
    }
    void* reply = nullptr;
    for (;;) {
      ::redisGetReplyFromReader(context_.get(), &reply);
      check();
      if (reply != nullptr) break;
      watch_.wait_readable();
      ::redisBufferRead(context_.get());
      check();
    }
    const std::unique_ptr<void, void (*)(void*)> owner(reply, ::freeReplyObject);
    return describe(*static_cast<::redisReply*>(reply));
  }

 private:
  static std::string describe(const ::redisReply& reply) {
    switch (reply.type) {
      case REDIS_REPLY_INTEGER: return std::to_string(reply.integer);
      case REDIS_REPLY_NIL: return "nil";
      case REDIS_REPLY_ARRAY: {
        std::string all;
        for (std::size_t i = 0; i < reply.elements; ++i) all += (i == 0 ? "" : " ") + describe(*reply.element[i]);
        return all;
      }
      default: return {reply.str, static_cast<std::size_t>(reply.len)};
    }
  }

  void check() const {
    if (context_->err != 0) throw std::runtime_error(std::string("redis: ") + context_->errstr);
  }

  struct Free {
    void operator()(::redisContext* context) const noexcept { ::redisFree(context); }
  };
  std::unique_ptr<::redisContext, Free> context_;
  FdWatch watch_;  // goes before the descriptor does
};

template <class Body>
void with_redis(Body&& body) {
  const test::RedisServer server;
  on_loop([&] {
    if (on_sim()) GTEST_SKIP() << "real descriptors can not be waited on in a simulated world";
    if (!server.runs()) GTEST_SKIP() << "no Redis here";
    body(server.path());
  });
}

TEST(ForeignLibrary, ManyFibersShareAServerEachWithAConnection) {
  with_redis([](const std::string& path) {
    Scope scope;
    for (int fiber = 0; fiber < 50; ++fiber) {
      scope
          .spawn([&] {
            Redis redis(path);
            for (int i = 0; i < 20; ++i) redis.call({"INCR", "count"});
          })
          .detach();
    }
    scope.join();
    EXPECT_EQ(Redis(path).call({"GET", "count"}), "1000");
  });
}

TEST(ForeignLibrary, OneThatWaitsKeepsNobody) {
  with_redis([](const std::string& path) {
    auto waiting = spawn([&] { return Redis(path).call({"BLPOP", "list", "0"}); });
    Redis other(path);
    EXPECT_EQ(other.call({"SET", "key", "value"}), "OK");
    EXPECT_EQ(other.call({"GET", "key"}), "value");
    EXPECT_EQ(other.call({"RPUSH", "list", "pushed"}), "1");
    EXPECT_EQ(waiting.get(), "list pushed");
  });
}

TEST(ForeignLibrary, LargeValuesWaitForRoomAndForData) {
  with_redis([](const std::string& path) {
    Redis redis(path);
    const std::string large(8'000'000, 'x');
    EXPECT_EQ(redis.call({"SET", "large", large}), "OK");
    EXPECT_EQ(redis.call({"GET", "large"}), large);
  });
}

TEST(ForeignLibrary, ACallCanBeCancelledAndTimed) {
  with_redis([](const std::string& path) {
    EXPECT_FALSE(move_on_after(20ms, [&] { Redis(path).call({"BLPOP", "nothing", "0"}); }));
    EXPECT_EQ(Redis(path).call({"PING"}), "PONG");
  });
}

}  // namespace
}  // namespace bight
