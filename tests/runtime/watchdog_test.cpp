// SPDX-License-Identifier: Apache-2.0
#include "watchdog.hpp"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>

#include <gtest/gtest.h>

#include <bight/coroutine.hpp>
#include <bight/fiber.hpp>
#include <bight/run.hpp>
#include <bight/signal.hpp>
#include <bight/time.hpp>

#include "child.hpp"
#include "on_loop.hpp"
#include "socket_pair.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::describe;
using test::Ended;
using test::in_child;

constexpr Duration kLimit = 10ms;

RunOptions watched(std::optional<Duration> limit = kLimit) {
  RunOptions options;
  options.stop_on_signals = false;
  options.watchdog = limit;
  return options;
}

/// Whatever else there is to do: until the watchdog has barked. Gives up in the end, so that a dog that does not bark
/// fails a test, and does not hang it.
void hog() {
  const std::uint64_t before = this_loop::stats().stalls;
  const auto end = Clock::now() + 30s;
  while (this_loop::stats().stalls == before && Clock::now() < end) continue;
}

/// For that long, on a machine that has nothing else to do.
void compute_for(Duration time) {
  const auto end = Clock::now() + time;
  while (Clock::now() < end) continue;
}

int count_of(const Ended& ended, std::string_view text) {
  int count = 0;
  for (auto at = ended.errors.find(text); at != std::string::npos; at = ended.errors.find(text, at + 1)) ++count;
  return count;
}

class Watchdog : public testing::Test {
 protected:
  void SetUp() override {
    const char* engine = std::getenv("BIGHT_ENGINE");
    if (engine != nullptr && std::string_view(engine) == "sim")
      GTEST_SKIP() << "its time stands still while a fiber runs";
  }
};

// parity 40: TestPeriodicMonitorBlocking
TEST_F(Watchdog, NamesTheFiberThatKeepsAnotherFromRunning) {
  const Ended ended = in_child([] {
    run(watched(), [] {
      auto greedy = spawn({.name = "greedy"}, [] { hog(); });
      auto patient = spawn({.name = "patient"}, [] {});
      greedy.join();
      patient.join();
    });
    return 0;
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_EQ(count_of(ended, "warning: fiber #2 'greedy' has kept its loop for "), 1) << describe(ended);
  EXPECT_TRUE(ended.says("watchdog_test.cpp:")) << describe(ended);
  EXPECT_TRUE(ended.says("; its stack is\n")) << describe(ended);
  EXPECT_TRUE(ended.says("runtime_watchdog_test+0x")) << describe(ended);
  EXPECT_FALSE(ended.says("patient")) << describe(ended);
}

TEST_F(Watchdog, ReportsOncePerOffence) {
  const Ended ended = in_child([] {
    run(watched(), [] {
      auto greedy = spawn({.name = "greedy"}, [] {
        hog();
        compute_for(10 * kLimit);
        yield();
        hog();
      });
      auto patient = spawn([] {
        for (int i = 0; i < 3; ++i) yield();
      });
      greedy.join();
      patient.join();
    });
    return 0;
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_EQ(count_of(ended, "'greedy' has kept its loop"), 2) << describe(ended);
}

// parity 40: TestAssertSwitches, over and under
TEST_F(Watchdog, WhoKeepsNobodyWaitingIsLeftAlone) {
  const Ended ended = in_child([] {
    return run(watched(), [] {
      auto sleeps = spawn([] { sleep_for(1h); });
      auto waits_for_me = spawn([&] { sleeps.join(); });
      yield();
      compute_for(20 * kLimit);
      sleeps.cancel();
      return static_cast<int>(this_loop::stats().stalls);
    });
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_EQ(count_of(ended, "has kept its loop"), 0) << describe(ended);
}

TEST_F(Watchdog, ATimerThatIsDueWaits) {
  const Ended ended = in_child([] {
    run(watched(), [] {
      auto sleeps = spawn([] { sleep_for(1ms); });
      yield();
      hog();
      sleeps.join();
    });
    return 0;
  });
  EXPECT_TRUE(ended.says("fiber #1 'main' has kept its loop")) << describe(ended);
}

TEST_F(Watchdog, AnOperationUnderWayWaits) {
  const Ended ended = in_child([] {
    run(watched(), [] {
      test::LoopbackListener listener;
      auto accepts = spawn([&] {
        std::error_code error;
        static_cast<void>(listener.socket.accept(error));
      });
      yield();
      hog();
      accepts.cancel();
      accepts.join();
    });
    return 0;
  });
  EXPECT_TRUE(ended.says("fiber #1 'main' has kept its loop")) << describe(ended);
}

TEST_F(Watchdog, FindsAFiberThatBlocks) {
  const Ended ended = in_child([] {
    return run(watched(), [] {
      auto patient = spawn([] {});
      const int result = ::poll(nullptr, 0, 30'000);  // which the signal ends: that is documented
      patient.join();
      return result == -1 && errno == EINTR ? 0 : 1;
    });
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_TRUE(ended.says("'main' has kept its loop")) << describe(ended);
  EXPECT_TRUE(ended.says("poll")) << describe(ended);
}

TEST_F(Watchdog, AndTheProgramMayReceiveSigurgBesides) {
  const Ended ended = in_child([] {
    return run(watched(), [] {
      Signals signals({SIGURG});
      auto greedy = spawn({.name = "greedy"}, [] { hog(); });
      auto patient = spawn([] {});
      greedy.join();
      if (signals.try_receive()) return 1;  // that was the watchdog's
      ::raise(SIGURG);
      return signals.try_receive() ? 0 : 2;
    });
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_EQ(count_of(ended, "'greedy' has kept its loop"), 1) << describe(ended);
}

TEST_F(Watchdog, SaysWhenTheThreadDoesNotAnswer) {
  const Ended ended = in_child([] {
    std::array<int, 2> pipe{};
    if (::pipe(pipe.data()) != 0) return 1;
    const int errors = ::dup(STDERR_FILENO);
    ::dup2(pipe[1], STDERR_FILENO);
    std::string said;
    run(watched(), [&] {
      sigset_t blocked;
      ::sigemptyset(&blocked);
      ::sigaddset(&blocked, SIGURG);
      ::pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
      auto patient = spawn([] {});
      std::array<char, 4096> buffer{};
      const ssize_t count = ::read(pipe[0], buffer.data(), buffer.size());  // blocks until it is said
      said.assign(buffer.data(), count > 0 ? static_cast<std::size_t>(count) : 0);
      patient.join();
    });
    ::dup2(errors, STDERR_FILENO);
    return said.find("its thread does not answer SIGURG") != std::string::npos ? 0 : 2;
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

TEST_F(Watchdog, SaysThatItIsInACoroutine) {
  const Ended ended = in_child([] {
    run(watched(), [] {
      auto patient = spawn([] {});
      Coroutine<void, void>([](auto&) { hog(); }).resume();
      patient.join();
    });
    return 0;
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_TRUE(ended.says("in a coroutine, its stack is")) << describe(ended);
}

TEST_F(Watchdog, WatchesTheLoopsOfAllThreads) {
  const Ended ended = in_child([] {
    const auto watch_one = [](const char* name) {
      run(watched(), [name] {
        auto greedy = spawn({.name = name}, [] { hog(); });
        auto patient = spawn([] {});
        greedy.join();
        patient.join();
      });
    };
    std::thread other([&] { watch_one("there"); });
    watch_one("here");
    other.join();
    return 0;
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_TRUE(ended.says("'here' has kept its loop")) << describe(ended);
  EXPECT_TRUE(ended.says("'there' has kept its loop")) << describe(ended);
}

volatile std::sig_atomic_t urgent = 0;

TEST_F(Watchdog, LeavesAHandlerOfTheProgramsItsOwnSignals) {
  const Ended ended = in_child([] {
    struct sigaction mine {};
    mine.sa_handler = [](int) { urgent = urgent + 1; };
    ::sigaction(SIGURG, &mine, nullptr);
    run(watched(), [] {
      auto patient = spawn([] {});
      ::raise(SIGURG);
      hog();
      patient.join();
    });
    struct sigaction after {};
    ::sigaction(SIGURG, nullptr, &after);
    return urgent == 1 && after.sa_handler == mine.sa_handler ? 0 : 1;
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_TRUE(ended.says("'main' has kept its loop")) << describe(ended);
}

TEST_F(Watchdog, PutsTheDefaultBackInPlace) {
  const Ended ended = in_child([] {
    run(watched(), [] {});
    struct sigaction after {};
    ::sigaction(SIGURG, nullptr, &after);
    return after.sa_handler == SIG_DFL ? 0 : 1;
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

TEST_F(Watchdog, IsSetByTheEnvironment) {
  const auto with = [](const char* setting, std::optional<Duration> option, Duration compute) {
    return in_child([=] {
      ::setenv("BIGHT_WATCHDOG", setting, 1);
      return run(watched(option), [=] {
        auto patient = spawn([] {});
        compute == 0ms ? hog() : compute_for(compute);
        patient.join();
        return static_cast<int>(this_loop::stats().stalls);
      });
    });
  };
  EXPECT_TRUE(with("10ms", std::nullopt, 0ms).with(1));
  EXPECT_TRUE(with("500us", std::nullopt, 0ms).with(1));
  EXPECT_TRUE(with("off", std::nullopt, 200ms).with(0));
  EXPECT_TRUE(with("0", std::nullopt, 200ms).with(0));
  EXPECT_TRUE(with("10ms", Duration::zero(), 200ms).with(0)) << "the option overrides it";
  for (const char* wrong : {"soon", "", "10", "-1ms", "10 ms", "10minutes", "99999999999ms"}) {
    const Ended ended = with(wrong, std::nullopt, 1us);
    EXPECT_TRUE(ended.says("is no time: say 500us, 50ms, 2s or off")) << wrong << ": " << describe(ended);
  }
}

TEST(WatchdogSim, NeverWatchesVirtualTime) {
  const Ended ended = in_child([] {
    RunOptions options = watched(1ms);
    options.engine = EngineChoice::sim;
    return run(options, [] {
      auto patient = spawn([] {});
      compute_for(100ms);
      patient.join();
      return static_cast<int>(this_loop::stats().stalls);
    });
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

}  // namespace
}  // namespace bight
