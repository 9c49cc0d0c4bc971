// SPDX-License-Identifier: Apache-2.0
#include <bight/remote.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/time.hpp>

#include "build.hpp"
#include "child.hpp"
#include "engine/engine.hpp"
#include "on_loop.hpp"
#include "remote_queue.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::describe;
using test::in_child;
using test::on_loop;
using testing::ElementsAre;

constexpr int kPosts = test::this_many(20'000, 2'000);

/// Parks the calling fiber until wake() is called on the loop, be it from a callback.
class Signal {
 public:
  Signal() : waiting_(spawn([] { sleep_until(TimePoint::max()); })) {}
  void wake() { waiting_.cancel(); }
  void wait() { waiting_.join(); }

 private:
  Fiber<> waiting_;
};

// parity 17: from another thread, with no timer ticking
TEST(Remote, WakesASleepingLoop) {
  on_loop([] {
    for (int i = 0; i < 200; ++i) {
      Signal signal;
      std::thread thread([remote = Remote(), &signal] { EXPECT_TRUE(remote.post([&signal] { signal.wake(); })); });
      signal.wait();
      thread.join();
    }
  });
}

TEST(Remote, AllRunInOrderPerThread) {
  on_loop([] {
    constexpr int kThreads = 4;
    Signal signal;
    std::vector<std::vector<int>> seen(kThreads);
    int ended = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([remote = Remote(), &seen, &ended, &signal, t] {
        for (int i = 0; i < kPosts; ++i) {
          remote.post([&seen, t, i] { seen[static_cast<std::size_t>(t)].push_back(i); });
        }
        remote.post([&] {
          if (++ended == kThreads) signal.wake();
        });
      });
    }
    signal.wait();
    for (auto& thread : threads) thread.join();
    for (const auto& each : seen) {
      ASSERT_EQ(each.size(), static_cast<std::size_t>(kPosts));
      for (int i = 0; i < kPosts; ++i) ASSERT_EQ(each[static_cast<std::size_t>(i)], i);
    }
    EXPECT_GE(this_loop::stats().posts, static_cast<std::uint64_t>(kThreads) * kPosts);
  });
}

// A post and the loop's going to sleep at every distance from each other.
TEST(Remote, NoWakeUpIsLost) {
  on_loop([] {
    std::atomic<int> asked{0};
    std::atomic<int> answered{0};
    Signal done;
    std::thread thread([&, remote = Remote()] {
      for (int i = 1; i <= kPosts; ++i) {
        asked = i;
        remote.post([&answered, i] { answered = i; });
        for (int spin = 0; spin < i % 300; ++spin) std::atomic_signal_fence(std::memory_order_seq_cst);
        while (answered != i) std::this_thread::yield();
      }
      remote.post([&] { done.wake(); });
    });
    done.wait();
    thread.join();
    EXPECT_EQ(answered, kPosts);
  });
}

TEST(Remote, WhatThePosterDidIsVisible) {
  on_loop([] {
    std::vector<std::string> data;
    Signal signal;
    std::thread thread([&, remote = Remote()] {
      for (int i = 0; i < 100; ++i) data.push_back(std::to_string(i));
      remote.post([&signal] { signal.wake(); });
    });
    signal.wait();
    EXPECT_EQ(data.size(), 100U);
    EXPECT_EQ(data.back(), "99");
    thread.join();
  });
}

TEST(Remote, PostsFromTheLoopItself) {
  on_loop([] {
    std::vector<int> log;
    const Remote remote;
    remote.post([&] {
      log.push_back(1);
      EXPECT_FALSE(this_fiber::exists());
      remote.post([&] { log.push_back(2); });
    });
    EXPECT_TRUE(log.empty());
    while (log.size() < 2) yield();
    EXPECT_THAT(log, ElementsAre(1, 2));
  });
}

TEST(Remote, CallbacksMaySpawn) {
  on_loop([] {
    bool ran = false;
    const Remote remote;
    remote.post([&] {
      spawn([&] {
        sleep_for(1ms);
        ran = true;
      }).detach();
    });
    while (!ran) yield();
  });
}

TEST(Remote, MoveOnlyAndLargeCallbacks) {
  on_loop([] {
    const Remote remote;
    int sum = 0;
    remote.post([&sum, held = std::make_unique<int>(1)] { sum += *held; });
    std::array<char, 1000> large{};
    large[999] = 2;
    remote.post([&sum, large] { sum += large[999]; });
    while (sum != 3) yield();
  });
}

TEST(Remote, AfterTheEndPostSaysNo) {
  std::optional<Remote> kept;
  run([&] { kept.emplace(); });
  bool ran = false;
  auto held = std::make_shared<int>(1);
  EXPECT_FALSE(kept->post([&ran, held] { ran = true; }));
  EXPECT_FALSE(ran);
  EXPECT_EQ(held.use_count(), 1) << "the callback was dropped";
  const Remote copy = *kept;
  EXPECT_FALSE(copy.post([] {}));
}

TEST(Remote, AMovedFromOneIsRefused) {
  const auto ended = in_child([] {
    return run([] {
      Remote remote;
      const Remote taken = std::move(remote);
      remote.post([] {});  // NOLINT(bugprone-use-after-move)
    });
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("this Remote has been moved from")) << describe(ended);
}

TEST(Remote, ErrorsInCallbacksAreReported) {
  std::vector<std::string> errors;
  RunOptions options;
  options.on_unhandled_error = [&](const UnhandledError& error) {
    errors.push_back(std::string(error.fiber_name) + ": " + std::string(error.text));
  };
  on_loop(options, [] {
    const Remote remote;
    bool went_on = false;
    remote.post([] { throw std::runtime_error("posted"); });
    remote.post([&] { went_on = true; });
    while (!went_on) yield();
  });
  EXPECT_THAT(errors, ElementsAre("a callback: std::runtime_error: posted"));
}

// A thread keeps posting while the loop ends: what was accepted runs, what was not never does; callables never leak.
TEST(Remote, PostsDuringTheEnd) {
  for (int round = 0; round < 50; ++round) {
    auto token = std::make_shared<int>(0);
    std::atomic<int> ran{0};
    int accepted = 0;
    std::thread thread;
    RunOptions options;
    options.posts_max = 1000;
    run(options, [&] {
      thread = std::thread([&accepted, &ran, remote = Remote(), token] {
        for (bool open = true; open;) {
          try {
            open = remote.post([&ran, token] { ++ran; });
            if (open) ++accepted;
          } catch (const std::system_error&) {  // it is faster than the loop
            std::this_thread::yield();
          }
        }
      });
      while (ran < round) yield();
    });
    thread.join();
    EXPECT_EQ(token.use_count(), 1);
    EXPECT_EQ(accepted, ran);
  }
}

TEST(Remote, TooManyPostsAreRefused) {
  RunOptions options;
  options.posts_max = 10;
  on_loop(options, [] {
    const Remote remote;
    int ran = 0;
    for (int i = 0; i < 10; ++i) EXPECT_TRUE(remote.post([&ran] { ++ran; }));
    try {
      remote.post([&ran] { ++ran; });
      FAIL() << "an eleventh";
    } catch (const std::system_error& error) {
      EXPECT_EQ(error.code(), std::errc::resource_unavailable_try_again);
      EXPECT_THAT(error.what(), testing::HasSubstr("posts_max = 10"));
    }
    while (ran < 10) yield();
    EXPECT_TRUE(remote.post([&ran] { ++ran; }));
    while (ran < 11) yield();
  });
}

// The same with callbacks that start fibers: one that is started ends, too.
TEST(Remote, FibersStartedByPostsDuringTheEnd) {
  for (int round = 0; round < 200; ++round) {
    auto token = std::make_shared<int>(0);
    std::atomic<int> begun{0};
    std::atomic<bool> over{false};
    std::thread thread;
    run([&] {
      thread = std::thread([&begun, &over, remote = Remote(), token] {
        int posted = 0;
        while (remote.post([&begun, token] { spawn([&begun, token] { ++begun; }).detach(); })) {
          ++posted;
          while (begun < posted && !over) std::this_thread::yield();
        }
      });
      while (begun < 2) yield();
    });
    over = true;
    thread.join();
    EXPECT_EQ(token.use_count(), 1) << "a fiber was neither run nor unwound";
  }
}

TEST(Remote, WhileOneExistsTheLoopIsNotDeadlocked) {
  EXPECT_THROW(run([] {
                 Fiber<> left;
                 Fiber<> right;
                 left = spawn([&] { right.join(); });
                 right = spawn([&] { left.join(); });
                 std::thread thread;
                 {
                   Remote remote;
                   thread = std::thread([moved = std::move(remote)]() mutable {
                     timespec pause{0, 20'000'000};
                     ::clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
                     moved.post([] {});
                   });
                 }
                 struct Joins {
                   std::thread& thread;
                   ~Joins() { thread.join(); }
                 } joins{thread};
                 left.join();
               }),
               Deadlock);
}

TEST(Remote, TheLastOnesEndIsNoticed) {
  for (int round = 0; round < 300; ++round) {
    std::thread thread;
    EXPECT_THROW(run([&] {
                   Fiber<> left;
                   Fiber<> right;
                   left = spawn([&] { right.join(); });
                   right = spawn([&] { left.join(); });
                   thread = std::thread([remote = Remote(), round]() mutable {
                     for (int spin = 0; spin < round * 20; ++spin) std::atomic_signal_fence(std::memory_order_seq_cst);
                   });
                   left.join();
                 }),
                 Deadlock);
    thread.join();
  }
}

/// An engine that only counts how often it is woken.
class CountingEngine final : public detail::Engine {
 public:
  [[nodiscard]] std::string_view name() const noexcept override { return "counting"; }
  [[nodiscard]] bool start(detail::Op&) noexcept override { return true; }
  void cancel(detail::Op&) noexcept override {}
  void wait(TimePoint, detail::OpList&) noexcept override {}
  [[nodiscard]] bool has_work() const noexcept override { return false; }
  [[nodiscard]] bool may_finish() const noexcept override { return false; }
  void wake() noexcept override { ++woken; }
  void forget(int) noexcept override {}
  [[nodiscard]] TimePoint now() const noexcept override { return {}; }
  [[nodiscard]] detail::SocketCalls& sockets() noexcept override { std::abort(); }
  void add_stats(LoopStats&) const noexcept override {}
  int woken = 0;
};

TEST(RemoteQueue, WakesOnlyAnEngineThatSleeps) {
  CountingEngine engine;
  detail::RemoteQueue queue(engine);
  EXPECT_FALSE(queue.pending());
  EXPECT_TRUE(queue.post([] {}));
  EXPECT_TRUE(queue.pending());
  EXPECT_EQ(engine.woken, 0);
  EXPECT_FALSE(queue.begin_sleep()) << "something is queued";
  std::vector<detail::Callback> taken;
  queue.take(taken);
  EXPECT_EQ(taken.size(), 1U);
  EXPECT_FALSE(queue.pending());
  queue.add_user();
  EXPECT_TRUE(queue.begin_sleep());
  queue.post([] {});
  queue.post([] {});
  EXPECT_EQ(engine.woken, 1);
  queue.end_sleep();
  queue.post([] {});
  EXPECT_EQ(engine.woken, 1);
  queue.close();
  EXPECT_FALSE(queue.post([] {}));
}

// The loop asked has_users() (so it is no deadlock) and is about to sleep: the last user's end in between must not be
// slept through.
TEST(RemoteQueue, TheLastUsersEndJustBeforeTheSleepIsNotLost) {
  CountingEngine engine;
  detail::RemoteQueue queue(engine);
  queue.add_user();
  ASSERT_TRUE(queue.has_users());
  queue.drop_user();
  EXPECT_TRUE(engine.woken == 1 || !queue.begin_sleep());
}

}  // namespace
}  // namespace bight
