// SPDX-License-Identifier: Apache-2.0
#include <bight/fiber_local.hpp>

#include <array>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <bight/fiber.hpp>
#include <bight/scope.hpp>

#include "child.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using test::describe;
using test::in_child;
using test::on_loop;

FiberLocal<int> number;
FiberLocal<std::string> text;

TEST(FiberLocal, EachFiberHasItsOwn) {
  on_loop([] {
    Scope scope;
    *number = -1;
    for (int i = 0; i < 10; ++i) {
      scope.spawn([i] {
        EXPECT_FALSE(number.exists());
        EXPECT_EQ(*number, 0);
        *number = i;
        *text = std::to_string(i);
        yield();
        EXPECT_EQ(*number, i);
        EXPECT_EQ(text->size(), 1U);
        EXPECT_TRUE(number.exists());
      });
    }
    scope.join();
    EXPECT_EQ(*number, -1);
    EXPECT_FALSE(text.exists());
  });
}

std::vector<std::string> ended;

struct Traced {
  std::string name = "?";
  ~Traced() { ended.push_back(name); }
};

FiberLocal<Traced> first;
FiberLocal<Traced> second;

// parity 29: ended with the fiber, even while handles on it exist
TEST(FiberLocal, EndsWithTheFiberLastMadeFirst) {
  ended.clear();
  on_loop([] {
    auto fiber = spawn([] {
      first->name = "first";
      second->name = "second";
    });
    fiber.join();
    EXPECT_EQ(ended, (std::vector<std::string>{"second", "first"}));
    auto cancelled = spawn([] {
      first->name = "cancelled's";
      for (;;) yield();
    });
    yield();
    cancelled.cancel();
    cancelled.join();
    EXPECT_EQ(ended.back(), "cancelled's");
  });
}

struct MakesAnother {
  ~MakesAnother() { first->name = "made late"; }
};
FiberLocal<MakesAnother> maker;

TEST(FiberLocal, OneMadeWhileTheyEndIsEndedToo) {
  ended.clear();
  on_loop([] {
    spawn([] { static_cast<void>(*maker); }).join();
    EXPECT_EQ(ended, (std::vector<std::string>{"made late"}));
  });
}

struct WaitsAtItsEnd {
  ~WaitsAtItsEnd() {
    yield();
    yield();
    ended.emplace_back("waited");
  }
};
FiberLocal<WaitsAtItsEnd> waiter;

// DESIGN 3: parking inside a destructor is legal
TEST(FiberLocal, MayWaitAtItsEnd) {
  ended.clear();
  on_loop([] {
    auto others = spawn([] {
      for (int i = 0; i < 10; ++i) yield();
    });
    auto fiber = spawn([] {
      static_cast<void>(*waiter);
      return std::string("result");
    });
    fiber.join();
    others.join();
    EXPECT_EQ(ended, (std::vector<std::string>{"waited"}));
    EXPECT_TRUE(fiber.done());
    EXPECT_EQ(fiber.status(), FiberStatus::done);
    EXPECT_EQ(fiber.get(), "result");
  });
}

TEST(FiberLocal, ManyInOneFiber) {
  on_loop([] {
    static std::array<FiberLocal<int>, 100> many;
    spawn([] {
      for (int i = 0; i < 100; ++i) *many[static_cast<std::size_t>(i)] = i;
      yield();
      for (int i = 0; i < 100; ++i) EXPECT_EQ(*many[static_cast<std::size_t>(i)], i);
    }).join();
  });
}

TEST(FiberLocal, OutsideAFiberIsRefused) {
  const auto child = in_child([] {
    *number = 1;
    return 0;
  });
  EXPECT_TRUE(child.by(SIGABRT)) << describe(child);
  EXPECT_TRUE(child.says("there is no loop on this thread")) << describe(child);
}

TEST(FiberLocal, ANewOneAtTheSameAddressIsAnother) {
  on_loop([] {
    std::optional<FiberLocal<int>> local(std::in_place);
    local->get() = 5;
    local.reset();
    local.emplace();
    EXPECT_FALSE(local->exists());
    EXPECT_EQ(local->get(), 0);
  });
}

}  // namespace
}  // namespace bight
