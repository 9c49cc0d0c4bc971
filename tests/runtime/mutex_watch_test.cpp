// SPDX-License-Identifier: Apache-2.0
#include "mutex_watch.hpp"

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include <bight/coroutine.hpp>
#include <bight/fiber.hpp>
#include <bight/remote.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

#include "child.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::describe;
using test::Ended;
using test::in_child;
using test::on_loop;

class MutexWatch : public testing::Test {
 protected:
  void SetUp() override {
    if (!detail::kWatchMutexes) {
      GTEST_SKIP() << "not in this build: it takes one for debugging, without sanitizers (./run build debug)";
    }
  }
};

void expect_none_held() {
  if constexpr (detail::kWatchMutexes) {
    EXPECT_EQ(detail::mutexes_held(), 0);
  }
}

void expect_abort(void (*body)()) {
  const Ended ended = in_child([body] {
    run(RunOptions{.stop_on_signals = false}, [body] { spawn({.name = "careless"}, body).join(); });
    return 0;
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("a fiber waits with a mutex locked, here:\n")) << describe(ended);
  EXPECT_TRUE(ended.says("runtime_mutex_watch_test+0x")) << describe(ended);
  EXPECT_TRUE(ended.says("while it holds a std::mutex")) << describe(ended);
  EXPECT_TRUE(ended.says("(in fiber 'careless')")) << describe(ended);
}

TEST_F(MutexWatch, AWaitWithALockedMutexAborts) {
  expect_abort([] {
    std::mutex mutex;
    const std::lock_guard lock(mutex);
    sleep_for(1ms);
  });
  expect_abort([] {
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    spawn([] {}).join();
  });
}

TEST_F(MutexWatch, AYieldToo) {
  expect_abort([] {
    std::mutex mutex;
    const std::lock_guard lock(mutex);
    yield();
  });
}

TEST_F(MutexWatch, EndingToo) {
  expect_abort([] {
    static std::mutex mutex;
    mutex.lock();
  });
}

TEST_F(MutexWatch, HoweverItWasLocked) {
  expect_abort([] {
    std::mutex mutex;
    if (mutex.try_lock()) yield();
  });
  expect_abort([] {
    std::timed_mutex mutex;
    if (mutex.try_lock_for(1s)) yield();
  });
  expect_abort([] {
    std::timed_mutex mutex;
    if (mutex.try_lock_until(std::chrono::system_clock::now() + 1s)) yield();
  });
  expect_abort([] {
    std::recursive_mutex mutex;
    mutex.lock();
    mutex.lock();
    mutex.unlock();
    yield();
  });
  expect_abort([] {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    ::pthread_mutex_lock(&mutex);
    yield();
  });
}

TEST_F(MutexWatch, InACoroutineToo) {
  expect_abort([] {
    Coroutine<void, void>([](auto&) {
      std::mutex mutex;
      const std::lock_guard lock(mutex);
      yield();
    }).resume();
  });
}

TEST_F(MutexWatch, UnlockedBeforeTheWaitIsFine) {
  on_loop([] {
    std::mutex mutex;
    std::recursive_mutex recursive;
    for (int i = 0; i < 3; ++i) {
      {
        const std::scoped_lock lock(mutex, recursive);
        EXPECT_FALSE(std::unique_lock(mutex, std::try_to_lock).owns_lock());
      }
      yield();
      std::unique_lock lock(mutex);
      lock.unlock();
      sleep_for(1ms);
    }
    expect_none_held();
  });
}

TEST_F(MutexWatch, WhatTheThreadHeldBeforeRunIsNoFibers) {
  std::mutex outer;
  const std::lock_guard lock(outer);
  on_loop([] {
    std::mutex inner;
    { const std::lock_guard nested(inner); }
    yield();
    sleep_for(1ms);
  });
}

TEST_F(MutexWatch, OtherThreadsMayHoldWhatTheyLike) {
  on_loop([] {
    std::mutex mutex;
    std::condition_variable changed;
    bool locked = false;
    bool done = false;
    std::thread other([&] {
      std::unique_lock lock(mutex);
      locked = true;
      changed.notify_one();
      changed.wait(lock, [&] { return done; });
    });
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return locked; });  // which unlocks and locks inside libc
    }
    yield();
    sleep_for(1ms);
    {
      const std::lock_guard lock(mutex);
      done = true;
    }
    changed.notify_one();
    other.join();
    yield();
  });
}

TEST_F(MutexWatch, TheRuntimesOwnMutexesAndCallOnceDoNotCount) {
  on_loop([] {
    std::once_flag once;
    bool posted = false;
    const Remote remote;
    std::thread other([&] { remote.post([&] { posted = true; }); });
    std::call_once(once, [] {});
    while (!posted) sleep_for(1ms);
    other.join();
    expect_none_held();
  });
}

}  // namespace
}  // namespace bight
