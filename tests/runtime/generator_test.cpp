// SPDX-License-Identifier: Apache-2.0
#include <bight/generator.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/time.hpp>

#include "build.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::on_loop;

static_assert(std::input_iterator<Generator<int>::Iterator>);
static_assert(std::sentinel_for<std::default_sentinel_t, Generator<int>::Iterator>);

Generator<int> up_to(int most) {
  return [most](auto& yield) {
    for (int i = 1; i <= most; ++i) yield(i);
  };
}

template <class T>
std::vector<T> all_of(Generator<T> generator) {
  std::vector<T> all;
  for (T& each : generator) all.push_back(std::move(each));
  return all;
}

TEST(Generator, GivesWhatItsBodyYields) {
  on_loop([] {
    EXPECT_EQ(all_of(up_to(4)), (std::vector{1, 2, 3, 4}));
    EXPECT_EQ(all_of(up_to(0)), (std::vector<int>{}));
    EXPECT_EQ(all_of(Generator<int>{}), (std::vector<int>{}));
  });
}

TEST(Generator, IsLazy) {
  on_loop([] {
    int made = 0;
    Generator<int> numbers([&](auto& yield) {
      for (;;) yield(++made);
    });
    EXPECT_EQ(made, 0);
    EXPECT_EQ(*numbers.next(), 1);
    EXPECT_EQ(*numbers.next(), 2);
    EXPECT_EQ(made, 2);
  });
}

TEST(Generator, EndsForGood) {
  on_loop([] {
    Generator<int> one = up_to(1);
    EXPECT_NE(one.next(), nullptr);
    EXPECT_EQ(one.next(), nullptr);
    EXPECT_EQ(one.next(), nullptr);
    EXPECT_TRUE(one.begin() == one.end());
  });
}

TEST(Generator, GoesOnAfterALoopThatWasLeft) {
  on_loop([] {
    Generator<int> numbers = up_to(5);
    for (const int each : numbers) {
      if (each == 2) break;
    }
    std::vector<int> rest;
    for (const int each : numbers) rest.push_back(each);
    EXPECT_EQ(rest, (std::vector{3, 4, 5}));
  });
}

TEST(Generator, LeavingTheLoopUnwindsTheBody) {
  on_loop([] {
    bool unwound = false;
    struct Flag {
      bool& set;
      ~Flag() { set = true; }
    };
    for (const int each : Generator<int>([&](auto& yield) {
           const Flag flag{unwound};
           for (int i = 0;; ++i) yield(i);
         })) {
      EXPECT_FALSE(unwound);
      if (each == 3) break;
    }
    EXPECT_TRUE(unwound);
  });
}

TEST(Generator, ExceptionsReachTheConsumer) {
  on_loop([] {
    Generator<int> failing([](auto& yield) {
      yield(1);
      throw std::runtime_error("no more");
    });
    std::vector<int> seen;
    const auto consume = [&] {
      for (const int each : failing) seen.push_back(each);
    };
    EXPECT_THROW(consume(), std::runtime_error);
    EXPECT_EQ(seen, (std::vector{1}));
    EXPECT_EQ(failing.next(), nullptr);
  });
}

TEST(Generator, ValuesMayBeMoveOnly) {
  on_loop([] {
    Generator<std::unique_ptr<int>> pointers([](auto& yield) {
      for (int i = 0; i < 3; ++i) yield(std::make_unique<int>(i));
    });
    int sum = 0;
    for (std::unique_ptr<int>& each : pointers) {
      const std::unique_ptr<int> taken = std::move(each);
      sum += *taken;
    }
    EXPECT_EQ(sum, 3);
  });
}

TEST(Generator, TheConsumerMayChangeACopyOnly) {
  on_loop([] {
    const std::string constant = "as it was";
    Generator<std::string> strings([&](auto& yield) {
      yield(constant);
      std::string mine = "mine";
      yield(mine);
      EXPECT_EQ(mine, "mine");
    });
    for (std::string& each : strings) each += " and changed";
    EXPECT_EQ(constant, "as it was");
  });
}

TEST(Generator, ReferencesAreNotCopied) {
  on_loop([] {
    std::array<std::string, 2> rows{"a", "b"};
    Generator<std::string&> each_row([&](auto& yield) {
      for (std::string& row : rows) yield(row);
    });
    for (std::string& row : each_row) row += "!";
    EXPECT_EQ(rows[0] + rows[1], "a!b!");
    Generator<const std::string&> read_only([&](auto& yield) {
      for (const std::string& row : rows) yield(row);
    });
    std::size_t at = 0;
    for (const std::string& row : read_only) EXPECT_EQ(&row, &rows[at++]);
    EXPECT_EQ(at, 2U);
  });
}

struct Tree {
  int value = 0;
  std::unique_ptr<Tree> left;
  std::unique_ptr<Tree> right;
};

std::unique_ptr<Tree> make_tree(int first, int last) {
  if (first > last) return nullptr;
  const int middle = (first + last) / 2;
  return std::make_unique<Tree>(Tree{middle, make_tree(first, middle - 1), make_tree(middle + 1, last)});
}

void walk(const Tree* tree, Generator<int>::Yield& yield) {
  if (tree == nullptr) return;
  walk(tree->left.get(), yield);
  yield(tree->value);
  walk(tree->right.get(), yield);
}

TEST(Generator, ABodyMayRecurse) {
  on_loop([] {
    const auto tree = make_tree(1, 100);
    int expected = 0;
    for (const int each : Generator<int>([&](auto& yield) { walk(tree.get(), yield); })) EXPECT_EQ(each, ++expected);
    EXPECT_EQ(expected, 100);
  });
}

Generator<int> walk_by_generators(const Tree* tree) {
  return [tree](auto& yield) {
    if (tree == nullptr) return;
    yield.all(walk_by_generators(tree->left.get()));
    yield(tree->value);
    yield.all(walk_by_generators(tree->right.get()));
  };
}

TEST(Generator, YieldsAllOfARange) {
  on_loop([] {
    const std::vector<int> some{7, 8};
    const Generator<int>::Yield* leaked = nullptr;
    EXPECT_EQ(all_of(Generator<int>([&](auto& yield) {
                leaked = &yield;
                yield.all(some);
                yield.all(up_to(2));
              })),
              (std::vector{7, 8, 1, 2}));
    EXPECT_NE(leaked, nullptr);
    const auto tree = make_tree(1, 50);
    int expected = 0;
    for (const int each : walk_by_generators(tree.get())) EXPECT_EQ(each, ++expected);
    EXPECT_EQ(expected, 50);
  });
}

TEST(Generator, YieldsAllOfAnotherThatMakesWhatCanOnlyBeMoved) {
  on_loop([] {
    const auto make = [] {
      return Generator<std::unique_ptr<int>>([](auto& yield) {
        for (int i = 1; i <= 3; ++i) yield(std::make_unique<int>(i));
      });
    };
    int sum = 0;
    for (auto& each : Generator<std::unique_ptr<int>>([&](auto& yield) {
           yield.all(make());
           yield.all(make());
         })) {
      sum += *each;
    }
    EXPECT_EQ(sum, 12);
  });
}

Generator<int> one_more_than(Generator<int> inner) {
  return [inner = std::move(inner)](auto& yield) mutable {
    for (const int each : inner) yield(each + 1);
  };
}

TEST(Generator, NestsAThousandDeep) {
  on_loop([] {
    Generator<int> deep = up_to(3);
    for (int i = 0; i < 1000; ++i) deep = one_more_than(std::move(deep));
    EXPECT_EQ(*deep.next(), 1001);
    EXPECT_EQ(*deep.next(), 1002);
    // and is unwound while it is not at its end
  });
}

TEST(Generator, ItsBodyMayWait) {
  on_loop([] {
    std::vector<int> order;
    Generator<int> slow([&](auto& yield) {
      for (int i = 1; i <= 2; ++i) {
        sleep_for(1ms);
        yield(i);
      }
    });
    auto other = spawn([&] { order.push_back(0); });
    for (const int each : slow) order.push_back(each);
    other.join();
    EXPECT_EQ(order, (std::vector{0, 1, 2}));
  });
}

TEST(Generator, TimesOutInside) {
  on_loop([] {
    Generator<int> stuck([](auto& yield) {
      yield(1);
      sleep_for(1h);
    });
    const auto consume = [&] {
      for (const int each : stuck) EXPECT_EQ(each, 1);
    };
    EXPECT_THROW(with_timeout(5ms, consume), TimedOut);
    EXPECT_EQ(stuck.next(), nullptr);
  });
}

TEST(Generator, FibersTakeTurnsAtOne) {
  on_loop([] {
    Generator<int> numbers = up_to(10);
    std::vector<int> seen;
    const auto take = [&] {
      for (const int each : numbers) {
        seen.push_back(each);
        yield();
      }
    };
    auto one = spawn(take);
    auto two = spawn(take);
    one.join();
    two.join();
    EXPECT_EQ(seen, (std::vector{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}));
  });
}

TEST(Generator, ManyAtOnce) {
  on_loop([] {
    std::vector<Generator<int>> all;
    const int count = test::this_many(5000, 300);
    for (int i = 0; i < count; ++i) all.push_back(up_to(i % 7));
    int sum = 0;
    for (Generator<int>& each : all) {
      for (const int value : each) sum += value;
    }
    int expected = 0;
    for (int i = 0; i < count; ++i) expected += (i % 7) * (i % 7 + 1) / 2;
    EXPECT_EQ(sum, expected);
  });
}

}  // namespace
}  // namespace bight
