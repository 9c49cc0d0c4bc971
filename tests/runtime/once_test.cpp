// SPDX-License-Identifier: Apache-2.0
#include <bight/once.hpp>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/event.hpp>
#include <bight/fiber.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

#include "child.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::describe;
using test::in_child;
using test::on_loop;
using testing::ElementsAre;

TEST(Once, IsDoneOnce) {
  on_loop([] {
    Once once;
    EXPECT_FALSE(once.done());
    int calls = 0;
    for (int i = 0; i < 3; ++i) once.call([&] { ++calls; });
    EXPECT_EQ(calls, 1);
    EXPECT_TRUE(once.done());
  });
}

TEST(Once, HandsOnArguments) {
  on_loop([] {
    Once once;
    int value = 0;
    const auto keep = [](std::unique_ptr<int> from, int& to) { to = *from; };
    once.call(keep, std::make_unique<int>(7), value);
    EXPECT_EQ(value, 7);
    auto kept = std::make_unique<int>(9);
    once.call(keep, std::move(kept), value);
    EXPECT_NE(kept, nullptr) << "a call that is not made takes nothing";
    EXPECT_EQ(value, 7);
  });
}

TEST(Once, OthersWaitUntilItIsDone) {
  on_loop([] {
    Once once;
    std::vector<std::string> log;
    Scope scope;
    for (const char* name : {"a", "b", "c"}) {
      scope.spawn([&, name] {
        once.call([&] {
          log.emplace_back("begins");
          sleep_for(1ms);
          log.emplace_back("ends");
        });
        log.emplace_back(name);
      });
    }
    scope.join();
    EXPECT_THAT(log, ElementsAre("begins", "ends", "a", "b", "c"));
  });
}

TEST(Once, AnExceptionLetsTheNextTry) {
  on_loop([] {
    Once once;
    int calls = 0;
    const auto attempt = [&] {
      once.call([&] {
        const int call = ++calls;
        sleep_for(1ms);
        if (call < 3) throw std::runtime_error("attempt " + std::to_string(call));
      });
    };
    std::vector<Fiber<>> fibers;
    for (int i = 0; i < 5; ++i) fibers.push_back(spawn(attempt));
    EXPECT_THROW(fibers[0].get(), std::runtime_error);
    EXPECT_FALSE(once.done());
    EXPECT_THROW(fibers[1].get(), std::runtime_error);
    for (std::size_t i = 2; i < 5; ++i) fibers[i].get();
    EXPECT_EQ(calls, 3);
    EXPECT_TRUE(once.done());
  });
}

TEST(Once, WhoIsCancelledInItLetsTheNextTry) {
  on_loop([] {
    Once once;
    int calls = 0;
    const auto attempt = [&] {
      once.call([&] {
        if (++calls == 1) sleep_for(1h);
      });
    };
    auto first = spawn(attempt);
    auto second = spawn(attempt);
    yield();
    first.cancel();
    first.join();
    EXPECT_EQ(first.status(), FiberStatus::cancelled);
    second.get();
    EXPECT_EQ(calls, 2);
    EXPECT_TRUE(once.done());
  });
}

TEST(Once, WhoIsCancelledWaitingForItLeavesTheOthers) {
  on_loop([] {
    Once once;
    int calls = 0;
    Event go;
    const auto attempt = [&] {
      once.call([&] {
        go.wait();
        ++calls;
      });
    };
    auto first = spawn(attempt);
    auto gone = spawn(attempt);
    auto last = spawn(attempt);
    yield();
    gone.cancel();
    EXPECT_THROW(with_timeout(1ms, attempt), TimedOut);
    gone.join();
    EXPECT_EQ(gone.status(), FiberStatus::cancelled);
    go.set();
    first.get();
    last.get();
    EXPECT_EQ(calls, 1);
  });
}

TEST(Once, ACancelledFiberNeedNotWaitForWhatIsDone) {
  on_loop([] {
    Once once;
    auto fiber = spawn([&] {
      try {
        sleep_for(1h);
      } catch (const Cancelled&) {
        once.call([] {});
        once.call([] { ADD_FAILURE(); });
        throw;
      }
    });
    yield();
    fiber.cancel();
    fiber.join();
    EXPECT_EQ(fiber.status(), FiberStatus::cancelled);
    EXPECT_TRUE(once.done());
  });
}

TEST(Once, MisuseAborts) {
  auto ended = in_child([] {
    return run([] {
      Once once;
      once.call([&] { once.call([] {}); });
    });
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("would wait for itself")) << describe(ended);
  ended = in_child([] {
    return run([] {
      auto once = std::make_unique<Once>();
      const auto call = [&] { once->call([] { sleep_for(1h); }); };
      auto first = spawn(call);
      auto second = spawn(call);
      yield();
      once.reset();
    });
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("is destroyed while fibers wait")) << describe(ended);
}

}  // namespace
}  // namespace bight
