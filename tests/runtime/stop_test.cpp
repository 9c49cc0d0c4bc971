// SPDX-License-Identifier: Apache-2.0
#include <bight/stop.hpp>

#include <csignal>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
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
using test::on_sim;

TEST(Stop, WakesAllWhoWaitForIt) {
  on_loop([] {
    std::vector<int> order;
    Scope scope;
    for (int i = 0; i < 3; ++i) {
      scope.spawn([&, i] {
        wait_for_stop();
        order.push_back(i);
      });
    }
    yield();
    EXPECT_FALSE(stop_requested());
    request_stop();
    EXPECT_TRUE(stop_requested());
    EXPECT_TRUE(order.empty());
    scope.join();
    EXPECT_EQ(order, (std::vector<int>{0, 1, 2}));
    wait_for_stop();  // it stays requested
    request_stop();
  });
  on_loop([] { EXPECT_FALSE(stop_requested()); });  // a new loop begins anew
}

TEST(Stop, WaitingForItMayTimeOut) {
  on_loop([] {
    EXPECT_FALSE(move_on_after(2ms, [] { wait_for_stop(); }));
    request_stop();
    EXPECT_TRUE(move_on_after(1h, [] { wait_for_stop(); }));
  });
}

/// The signals, where time is real: a simulated loop leaves them alone.
class StopSignals : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    bool sim = false;
    on_loop([&] { sim = on_sim(); });
    if (sim) GTEST_SKIP() << "signals are left alone in a simulated world";
  }
};
INSTANTIATE_TEST_SUITE_P(Stop, StopSignals, testing::Values(SIGTERM, SIGINT));

TEST_P(StopSignals, ASignalRequestsTheStop) {
  const auto ended = in_child([] {
    return run([] {
      auto server = spawn([] {
        wait_for_stop();
        sleep_for(5ms);  // what has begun is finished
        return 3;
      });
      yield();
      ::raise(GetParam());
      return server.get();
    });
  });
  EXPECT_TRUE(ended.with(3)) << describe(ended);
}

TEST_P(StopSignals, ItWakesASleepingLoop) {
  const auto ended = in_child([] {
    std::thread sender([signal = GetParam(), target = ::getpid()] { ::kill(target, signal); });
    const int code = run([] {
      wait_for_stop();
      return 4;
    });
    sender.join();
    return code;
  });
  // The signal may also come before the loop has begun to wait, or exists.
  EXPECT_TRUE(ended.with(4) || ended.with(128 + GetParam()) || ended.by(GetParam())) << describe(ended);
}

TEST_P(StopSignals, WithoutAnyoneWhoWaitsMainIsCancelled) {
  const auto ended = in_child([] {
    bool unwound = false;
    const int code = run([&] {
      struct Note {
        bool& flag;
        ~Note() { flag = true; }
      } note{unwound};
      auto other = spawn([] { sleep_for(1h); });
      ::raise(GetParam());
      sleep_for(1h);
    });
    return unwound ? code : 1;
  });
  EXPECT_TRUE(ended.with(128 + GetParam())) << describe(ended);
}

TEST_P(StopSignals, TheSecondOneCancels) {
  const auto ended = in_child([] {
    return run([] {
      auto server = spawn([] {
        wait_for_stop();
        sleep_for(1h);  // a drain that does not come to its end
      });
      yield();
      ::raise(GetParam());
      while (!stop_requested()) sleep_for(1ms);
      ::raise(GetParam());
      server.join();
      return 0;
    });
  });
  EXPECT_TRUE(ended.with(128 + GetParam())) << describe(ended);
}

TEST_P(StopSignals, ABusyLoopNoticesToo) {
  const auto ended = in_child([] {
    return run([] {
      ::raise(GetParam());
      for (;;) yield();
      return 0;
    });
  });
  EXPECT_TRUE(ended.with(128 + GetParam())) << describe(ended);
}

TEST_P(StopSignals, AResultThatIsNoIntIsAnErrorThen) {
  const auto ended = in_child([] {
    try {
      static_cast<void>(run([] {
        ::raise(GetParam());
        sleep_for(1h);
        return std::string("never");
      }));
    } catch (const FiberCancelled&) {
      return 5;
    }
    return 0;
  });
  EXPECT_TRUE(ended.with(5)) << describe(ended);
}

TEST_P(StopSignals, TheHandlersThatWereThereComeBack) {
  const auto ended = in_child([] {
    std::signal(GetParam(), [](int) { ::_exit(9); });
    run([] { yield(); });
    ::raise(GetParam());
    return 0;
  });
  EXPECT_TRUE(ended.with(9)) << describe(ended);
}

TEST_P(StopSignals, AreLeftAloneWhenAskedTo) {
  const auto ended = in_child([] {
    return run(RunOptions{.stop_on_signals = false}, [] {
      ::raise(GetParam());
      sleep_for(1h);
    });
  });
  EXPECT_TRUE(ended.by(GetParam())) << describe(ended);
}

TEST_P(StopSignals, OnlyTheFirstLoopGetsThem) {
  const auto ended = in_child([] {
    return run([] {
      std::thread([] {
        // Its end does not take the signals from the first loop.
        run([] { yield(); });
      }).join();
      auto server = spawn([] {
        wait_for_stop();
        return 6;
      });
      yield();
      ::raise(GetParam());
      return server.get();
    });
  });
  EXPECT_TRUE(ended.with(6)) << describe(ended);
}

TEST_P(StopSignals, WaitingForASignalIsNoDeadlock) {
  const auto ended = in_child([] {
    std::thread sender([signal = GetParam(), target = ::getpid()] {
      timespec pause{0, 30'000'000};
      ::clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
      ::kill(target, signal);
    });
    const int code = run([] {
      wait_for_stop();
      return 7;
    });
    sender.join();
    return code;
  });
  EXPECT_TRUE(ended.with(7)) << describe(ended);
}

TEST(Stop, TheFirstSignalDoesNotHurryAStopThatTheProgramAskedFor) {
  const auto ended = in_child([] {
    return run([] {
      if (test::on_sim()) return 77;
      auto server = spawn([] {
        wait_for_stop();
        sleep_for(20ms);  // drains
      });
      yield();
      request_stop();
      ::raise(SIGTERM);
      server.join();
      return server.status() == FiberStatus::done ? 0 : 3;
    });
  });
  if (ended.with(77)) GTEST_SKIP() << "signals are not simulated";
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

}  // namespace
}  // namespace bight
