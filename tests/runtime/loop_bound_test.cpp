// SPDX-License-Identifier: Apache-2.0
#include <bight/detail/loop_bound.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <mutex>
#include <thread>

#include <gtest/gtest.h>

#include <bight/channel.hpp>
#include <bight/event.hpp>
#include <bight/mutex.hpp>
#include <bight/run.hpp>
#include <bight/semaphore.hpp>

#include "child.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using test::in_child;
using test::on_loop;

constexpr const char* kSentence = "belongs to the loop of another thread";

TEST(LoopBound, AnObjectMayBeMadeAndFilledBeforeTheLoop) {
  Channel<int> channel{2};
  Event event;
  Semaphore semaphore(0);
  ASSERT_TRUE(channel.try_send(5));
  event.set();
  semaphore.release(2);
  on_loop([&] {
    EXPECT_EQ(channel.receive(), 5);
    event.wait();
    semaphore.acquire();
    channel.send(6);
  });
  EXPECT_EQ(channel.try_receive(), 6);
  EXPECT_TRUE(semaphore.try_acquire());
  EXPECT_FALSE(semaphore.try_acquire());
}

TEST(LoopBound, AnObjectMayServeOneLoopAfterTheOther) {
  Mutex mutex;
  Event event;
  for (int i = 0; i < 3; ++i) {
    on_loop([&] {
      const std::lock_guard lock(mutex);
      event.set();
      event.wait();
      event.clear();
    });
    std::thread([&] { on_loop([&] { const std::lock_guard lock(mutex); }); }).join();
  }
}

/// `use` is called by a fiber first, and then by another thread while that loop lives.
template <class Use>
void expect_refused_on_another_thread(Use use) {
  const test::Ended ended = in_child([&] {
    run([&] {
      use();
      std::thread([&] { use(); }).join();
    });
    return 0;
  });
  EXPECT_TRUE(ended.by(SIGABRT) && ended.says(kSentence)) << describe(ended);
}

TEST(LoopBound, AnotherThreadIsRefused) {
  Mutex mutex;
  Event event;
  AutoResetEvent turn;
  Semaphore semaphore(5);
  Channel<int> channel{5};
  expect_refused_on_another_thread([&] {
    if (mutex.try_lock()) mutex.unlock();
  });
  expect_refused_on_another_thread([&] { event.set(); });
  expect_refused_on_another_thread([&] { turn.set(); });
  expect_refused_on_another_thread([&] { semaphore.release(); });
  expect_refused_on_another_thread([&] { static_cast<void>(semaphore.try_acquire()); });
  expect_refused_on_another_thread([&] { static_cast<void>(channel.try_send(1)); });
  expect_refused_on_another_thread([&] { static_cast<void>(channel.try_receive()); });
  expect_refused_on_another_thread([&] { channel.close(); });
}

TEST(LoopBound, AForkedChildIsRefused) {
  const test::Ended ended = in_child([] {
    run([] {
      Event event;
      event.set();
      const pid_t pid = ::fork();
      if (pid == 0) {
        event.set();
        ::_exit(0);
      }
      int status = 0;
      ::waitpid(pid, &status, 0);
      if (WIFSIGNALED(status)) ::_exit(WTERMSIG(status));
    });
    return 0;
  });
  EXPECT_TRUE(ended.with(SIGABRT) && ended.says(kSentence)) << describe(ended);
}

}  // namespace
}  // namespace bight
