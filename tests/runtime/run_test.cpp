// SPDX-License-Identifier: Apache-2.0
#include <bight/run.hpp>

#include <dirent.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/remote.hpp>
#include <bight/scope.hpp>
#include <bight/socket.hpp>
#include <bight/time.hpp>

#include "build.hpp"
#include "child.hpp"
#include "on_loop.hpp"
#include "socket_pair.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::describe;
using test::in_child;
using test::on_loop;

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

TEST(Run, ReturnsWhatMainReturns) {
  EXPECT_EQ(run([] {}), 0);
  EXPECT_EQ(run([] { return 7; }), 7);
  EXPECT_EQ(run([] { return std::string("text"); }), "text");
  EXPECT_EQ(*run([] { return std::make_unique<int>(3); }), 3);
  EXPECT_EQ(run(RunOptions{}, [] { return 8; }), 8);
}

TEST(Run, TakesCallablesOfEveryKind) {
  struct Program {
    int calls = 0;
    void operator()() { ++calls; }
  };
  Program program;
  run(program);
  run(program);
  EXPECT_EQ(program.calls, 2) << "it is called, not a copy of it";
  void (*function)() = [] {};
  run(function);
  std::function<void()> erased = [] { yield(); };
  run(erased);
  const auto constant = [] {};
  run(constant);
  const std::function<int()> returning = [] { return 3; };
  EXPECT_EQ(run(returning), 3);
}

TEST(Run, ReturnsWhenAllFibersHaveEnded) {
  std::vector<int> log;
  run([&] {
    spawn([&] {
      sleep_for(2ms);
      spawn([&] {
        sleep_for(2ms);
        log.push_back(3);
      }).detach();
      log.push_back(2);
    }).detach();
    log.push_back(1);
  });
  EXPECT_EQ(log, (std::vector<int>{1, 2, 3}));
}

TEST(Run, ThrowsWhatMainThrowsWhenTheOthersAreUnwound) {
  std::vector<std::string> log;
  try {
    run([&] {
      spawn([&] {
        try {
          sleep_for(1h);
        } catch (const Cancelled&) {
          log.emplace_back("unwound");
          throw;
        }
      }).detach();
      yield();
      throw std::out_of_range("main's");
    });
    FAIL() << "no error";
  } catch (const std::out_of_range& error) {
    EXPECT_STREQ(error.what(), "main's");
  }
  EXPECT_EQ(log, (std::vector<std::string>{"unwound"}));
  EXPECT_FALSE(this_loop::exists());
  EXPECT_THROW(run([] { throw 5; }), int);
}

TEST(Run, WithoutALoopNothingExists) {
  EXPECT_FALSE(this_loop::exists());
  EXPECT_FALSE(this_fiber::exists());
  on_loop([] {
    EXPECT_TRUE(this_loop::exists());
    EXPECT_TRUE(this_fiber::exists());
  });
  EXPECT_FALSE(this_loop::exists());
}

TEST(Run, OneAfterTheOtherLeavesNothing) {
  on_loop([] { yield(); });
  const std::size_t before = open_descriptors();
  for (int i = 0; i < 50; ++i) {
    on_loop([] { spawn([] { sleep_for(10us); }).join(); });
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Run, DoesNotNest) {
  const auto ended = in_child([] { return run([] { run([] {}); }); });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("run() does not nest")) << describe(ended);
}

TEST(Run, OneLoopPerThread) {
  std::atomic<int> ready{0};
  std::vector<long> sums(4);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      on_loop([&, t] {
        ++ready;
        Scope scope;
        for (int i = 0; i < 200; ++i) {
          scope.spawn([&, t, i] {
            for (int k = 0; k < 5; ++k) yield();
            sleep_for(1us * i);
            try {
              yield();
              throw i;
            } catch (int caught) {
              yield();
              sums[t] += caught;
            }
          });
        }
        scope.join();
      });
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(ready, 4);
  for (const long sum : sums) EXPECT_EQ(sum, 199 * 200 / 2);
}

TEST(Run, TwoLoopsTalkByPosts) {
  std::atomic<int> rounds{0};
  on_loop([&] {
    Fiber<> never = spawn([] { sleep_until(TimePoint::max()); });
    std::thread other([&, home = Remote()] {
      on_loop([&] {
        for (int i = 0; i < 100; ++i) {
          bool answered = false;
          const Remote here;
          home.post([&, here] {
            ++rounds;
            here.post([&] { answered = true; });
          });
          while (!answered) yield();
        }
        home.post([&] { never.cancel(); });
      });
    });
    never.join();
    other.join();
  });
  EXPECT_EQ(rounds, 100);
}

TEST(Run, AHandleUsedOnAnotherThreadIsRefused) {
  const auto ended = in_child([] {
    return run([] {
      auto fiber = spawn([] { sleep_for(1h); });
      std::thread([&] { run([&] { fiber.join(); }); }).join();
    });
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("used on another thread than its loop's")) << describe(ended);
  const auto cancelled = in_child([] {
    return run([] {
      auto fiber = spawn([] { sleep_for(1h); });
      std::thread([&] { fiber.cancel(); }).join();
    });
  });
  EXPECT_TRUE(cancelled.by(SIGABRT)) << describe(cancelled);
  EXPECT_TRUE(cancelled.says("use Remote::post")) << describe(cancelled);
}

TEST(Run, StackSizesAreOptions) {
  if (test::sanitized) GTEST_SKIP() << "sanitizer builds give every fiber four times the stack";
  RunOptions options;
  options.stack_size = 128 * 1024;
  options.main_stack_size = 512 * 1024;
  on_loop(options, [] {
    EXPECT_GT(this_fiber::stack_left(), 480U * 1024);
    auto fiber = spawn([] { return this_fiber::stack_left(); });
    const std::size_t left = fiber.get();
    EXPECT_GT(left, 100U * 1024);
    EXPECT_LT(left, 128U * 1024);
  });
}

TEST(Run, ReceiveBuffersMayBeNone) {
  RunOptions options;
  options.receive_buffers = 0;
  on_loop(options, [] { yield(); });
}

TEST(Run, MoveOnlyResultsOfFibersAtTheEnd) {
  // The last fiber's result goes with its handle, inside the loop.
  auto result = run([] {
    auto fiber = spawn([] { return std::make_unique<std::string>("kept"); });
    return fiber.get();
  });
  EXPECT_EQ(*result, "kept");
}

TEST(Run, SocketsAndChunksMayNotOutliveIt) {
  const auto socket = in_child([] {
    Socket kept;
    run([&] {
      std::error_code error;
      kept = Socket::open(AF_INET, SOCK_STREAM, 0, error);
    });
    return 0;
  });
  EXPECT_TRUE(socket.by(SIGABRT)) << describe(socket);
  EXPECT_TRUE(socket.says("must not outlive run()")) << describe(socket);
  const auto chunk = in_child([] {
    Chunk kept;
    run([&] {
      auto [client, server] = test::connect_pair();
      std::error_code error;
      client.write(test::bytes_of("x"), error);
      kept = server.read(error);
    });
    return 0;
  });
  EXPECT_TRUE(chunk.by(SIGABRT)) << describe(chunk);
  EXPECT_TRUE(chunk.says("a Chunk outlives its loop")) << describe(chunk);
}

}  // namespace
}  // namespace bight
