// SPDX-License-Identifier: Apache-2.0
// The C++ runtime's exception state belongs to a fiber, not to the thread.
#include "context.hpp"

#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/scope.hpp>

#include "on_loop.hpp"

namespace bight {
namespace {

using test::on_loop;

std::string what_of(const std::exception_ptr& error) {
  try {
    if (error == nullptr) return "nothing";
    std::rethrow_exception(error);
  } catch (const std::exception& known) {
    return known.what();
  }
}

// parity 11: suspend inside catch
TEST(Context, ParkingInsideCatchKeepsTheException) {
  on_loop([] {
    Scope scope;
    for (int i = 0; i < 8; ++i) {
      scope.spawn([i] {
        const std::string mine = "error " + std::to_string(i);
        try {
          for (int k = 0; k < i; ++k) yield();
          throw std::runtime_error(mine);
        } catch (const std::runtime_error& error) {
          for (int k = 0; k < 10 - i; ++k) {
            yield();
            EXPECT_EQ(error.what(), mine);
            EXPECT_EQ(what_of(std::current_exception()), mine);
            EXPECT_EQ(std::uncaught_exceptions(), 0);
          }
          try {
            yield();
            throw;
          } catch (const std::runtime_error& again) {
            yield();
            EXPECT_EQ(again.what(), mine);
          }
        }
        EXPECT_EQ(std::current_exception(), nullptr);
      });
    }
    scope.join();
  });
}

// parity 11: nested handlers, left in any order by the fibers
TEST(Context, NestedHandlersInterleave) {
  on_loop([] {
    Scope scope;
    for (int i = 0; i < 4; ++i) {
      scope.spawn([i] {
        try {
          throw i;
        } catch (int outer) {
          yield();
          try {
            throw i + 100;
          } catch (int inner) {
            for (int k = 0; k <= i; ++k) yield();
            EXPECT_EQ(inner, i + 100);
          }
          yield();
          EXPECT_EQ(outer, i);
          try {
            throw;
          } catch (int again) {
            EXPECT_EQ(again, i);
          }
        }
      });
    }
    scope.join();
  });
}

struct YieldsInDestructor {
  ~YieldsInDestructor() {
    const int before = std::uncaught_exceptions();
    for (int k = 0; k < times; ++k) {
      yield();
      EXPECT_EQ(std::uncaught_exceptions(), before);
    }
  }
  int times;
};

// parity 48: suspend inside a destructor, while an exception is in flight
TEST(Context, ParkingInADestructorDuringUnwinding) {
  on_loop([] {
    Scope scope;
    for (int i = 0; i < 6; ++i) {
      scope.spawn([i] {
        EXPECT_EQ(std::uncaught_exceptions(), 0);
        try {
          const YieldsInDestructor waits{i + 1};
          throw std::runtime_error(std::to_string(i));
        } catch (const std::runtime_error& error) {
          EXPECT_EQ(error.what(), std::to_string(i));
        }
        yield();
        EXPECT_EQ(std::uncaught_exceptions(), 0);
      });
    }
    scope.spawn([] {
      for (int k = 0; k < 20; ++k) {
        EXPECT_EQ(std::uncaught_exceptions(), 0);
        EXPECT_EQ(std::current_exception(), nullptr);
        yield();
      }
    });
    scope.join();
  });
}

void noexcept_wait() noexcept { yield(); }

// parity 48: wait inside noexcept
TEST(Context, ParkingInANoexceptFunction) {
  on_loop([] {
    Scope scope;
    for (int i = 0; i < 3; ++i) {
      scope.spawn([] {
        try {
          noexcept_wait();
          throw 1;
        } catch (int) {
          noexcept_wait();
        }
      });
    }
    scope.join();
  });
}

// parity 11: test__exc_info
TEST(Context, AFiberSpawnedInsideCatchStartsWithoutAnException) {
  on_loop([] {
    Fiber<bool> child;
    try {
      throw std::runtime_error("parent's");
    } catch (const std::runtime_error&) {
      child = spawn([] {
        const bool clean = std::current_exception() == nullptr && std::uncaught_exceptions() == 0;
        try {
          throw std::runtime_error("child's");
        } catch (const std::runtime_error&) {
          yield();
        }
        return clean;
      });
      EXPECT_TRUE(child.get());
      try {
        throw;
      } catch (const std::runtime_error& error) {
        EXPECT_STREQ(error.what(), "parent's");
      }
    }
  });
}

TEST(Context, AFiberThatEndsInsideACatchLeavesNothingBehind) {
  on_loop([] {
    for (int i = 0; i < 100; ++i) {
      auto fiber = spawn([] {
        try {
          throw std::runtime_error("lost");
        } catch (const std::runtime_error&) {
          yield();
          return;
        }
      });
      fiber.join();
      EXPECT_EQ(std::current_exception(), nullptr);
      EXPECT_EQ(std::uncaught_exceptions(), 0);
    }
  });
}

TEST(Context, AnExceptionPointerCrossesFibers) {
  on_loop([] {
    std::exception_ptr stored;
    auto thrower = spawn([&] {
      try {
        throw std::runtime_error("travels");
      } catch (const std::runtime_error&) {
        stored = std::current_exception();
        yield();
      }
    });
    yield();
    EXPECT_EQ(what_of(stored), "travels");
    thrower.join();
    EXPECT_EQ(what_of(stored), "travels");
  });
}

TEST(Context, FloatingPointModeAndValuesSurviveSwitches) {
  on_loop([] {
    Scope scope;
    for (int i = 1; i <= 4; ++i) {
      scope.spawn([i] {
        double sum = 0;
        long whole = 0;
        for (int k = 0; k < 100; ++k) {
          sum += 1.0 / i;
          whole += i;
          yield();
        }
        EXPECT_NEAR(sum, 100.0 / i, 1e-9);
        EXPECT_EQ(whole, 100L * i);
      });
    }
    scope.join();
  });
}

}  // namespace
}  // namespace bight
