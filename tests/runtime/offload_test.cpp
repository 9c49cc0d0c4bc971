// SPDX-License-Identifier: Apache-2.0
#include <bight/offload.hpp>

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(BIGHT_HAVE_SECCOMP)
#include <seccomp.h>
#endif

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <fstream>
#include <future>
#include <latch>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/fiber.hpp>
#include <bight/remote.hpp>
#include <bight/scope.hpp>
#include <bight/shared_event.hpp>

#include "build.hpp"
#include "child.hpp"
#include "loop_thread.hpp"
#include "on_loop.hpp"
#include "ranges.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::describe;
using test::in_child;
using test::LoopThread;
using test::on_loop;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// In a child forked from a process that has had threads, under the thread sanitizer.
constexpr const char* kNoThreads = "no threads can be started in a forked child here";

constexpr int kRounds = test::this_many(5'000, 300);

/// Waits in a way that lets the loop, if there is one, go on.
template <class Condition>
void wait_until(Condition&& condition) {
  while (!condition()) this_fiber::exists() ? yield() : std::this_thread::yield();
}

OffloadOptions with_threads(std::size_t threads) {
  OffloadOptions options;
  options.threads_max = threads;
  return options;
}

TEST(Offload, ReturnsAndThrowsWhatTheCallableDoes) {
  on_loop([] {
    EXPECT_EQ(offload([] { return 42; }), 42);
    const auto moved = offload([held = std::make_unique<int>(7)]() mutable { return std::move(held); });
    EXPECT_EQ(*moved, 7);
    int side = 0;
    offload([&] { side = 1; });
    EXPECT_EQ(side, 1);
    // gevent parity 47: test_concurrent_futures: exceptions come back.
    try {
      offload([] { throw std::runtime_error("there"); });
      FAIL() << "did not throw";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "there");
    }
    const auto function = [](int a) { return a + 1; };
    EXPECT_EQ(offload(std::bind(function, 1)), 2);
  });
}

TEST(Offload, RunsOnAnotherThreadWhileTheLoopGoesOn) {
  on_loop([] {
    const auto here = std::this_thread::get_id();
    std::promise<void> go;
    int turns = 0;
    auto other = spawn([&] {
      for (; turns < 100; ++turns) yield();
      go.set_value();
    });
    const auto there = offload([&] {
      go.get_future().wait();
      return std::this_thread::get_id();
    });
    EXPECT_NE(there, here);
    EXPECT_EQ(turns, 100);
    other.join();
  });
}

// gevent parity 30: test_cannot_spawn_from_other_thread: here it works, from threads without a loop, too.
TEST(Offload, FromAnyThreadAtTheSameTime) {
  OffloadPool pool(with_threads(3));
  std::atomic<int> ran{0};
  auto calls = [&] {
    for (int i = 0; i < kRounds; ++i) EXPECT_EQ(pool.run([&, i] { return ++ran, i; }), i);
  };
  {
    const LoopThread one(calls);
    const LoopThread two([&] {
      Scope scope;
      for (int i = 0; i < 4; ++i) scope.spawn(calls);
      scope.join();
    });
    std::thread three(calls);
    calls();
    three.join();
  }
  EXPECT_EQ(ran, 7 * kRounds);
  EXPECT_EQ(pool.stats().completed, static_cast<std::uint64_t>(ran));
  EXPECT_LE(pool.stats().threads_started, 3U + pool.stats().threads);
}

// gevent parity 30: TestSpawn.test_basics: a pool of one thread holds two jobs: one runs, the other one waits.
TEST(Offload, OneThreadHoldsTwoJobs) {
  on_loop([] {
    OffloadPool pool(with_threads(1));
    std::promise<void> go;
    std::vector<int> order;
    auto first = spawn([&] {
      pool.run([&] {
        go.get_future().wait();
        order.push_back(1);
      });
    });
    auto second = spawn([&] { pool.run([&] { order.push_back(2); }); });
    wait_until([&] { return pool.stats().running == 1 && pool.stats().queued == 1; });
    EXPECT_EQ(pool.stats().threads, 1U);
    go.set_value();
    first.join();
    second.join();
    EXPECT_THAT(order, ElementsAre(1, 2));
    EXPECT_EQ(pool.stats().running, 0U);
    EXPECT_EQ(pool.stats().queued, 0U);
  });
}

// gevent parity 30: TestMaxsize.test_inc, test_setzero.
TEST(Offload, TheNumberOfThreadsCanBeChanged) {
  on_loop([] {
    OffloadPool pool(with_threads(1));
    std::promise<void> go;
    auto first = spawn([&] { pool.run([&] { go.get_future().wait(); }); });
    auto second = spawn([&] { pool.run([&] { go.set_value(); }); });  // only then can the first one end
    wait_until([&] { return pool.stats().queued == 1 && pool.stats().running == 1; });
    pool.set_threads_max(2);
    first.join();
    second.join();
    EXPECT_EQ(pool.options().threads_max, 2U);
    pool.set_threads_max(1);
    wait_until([&] { return pool.stats().threads == 1; });
    EXPECT_EQ(pool.run([] { return 1; }), 1);
    EXPECT_THROW(pool.set_threads_max(0), std::invalid_argument);
  });
  EXPECT_THROW(OffloadPool(with_threads(0)), std::invalid_argument);
  OffloadOptions options;
  options.queue_max = 0;
  EXPECT_THROW(OffloadPool{options}, std::invalid_argument);
  options = with_threads(1);
  options.threads_min = 2;
  EXPECT_THROW(OffloadPool{options}, std::invalid_argument);
}

// gevent parity 30: TestPool2.test_recursive_apply.
TEST(Offload, AJobMayOffload) {
  on_loop([] {
    OffloadPool pool(with_threads(1));
    EXPECT_EQ(pool.run([&] { return pool.run([&] { return pool.run([] { return 3; }) + 1; }) + 1; }), 5);
    EXPECT_EQ(pool.run([&] { return pool.map(std::vector{1, 2}, [](int i) { return i * i; }); }), (std::vector{1, 4}));
    OffloadPool other(with_threads(1));
    EXPECT_EQ(pool.run([&] { return other.run([] { return 1; }); }), 1);
  });
}

// A job may have a loop of its own.
TEST(Offload, AJobMayRunALoop) {
  on_loop([] {
    const int answer = offload([] {
      return run([] {
        sleep_for(1ms);
        return 42;
      });
    });
    EXPECT_EQ(answer, 42);
  });
}

// gevent parity 47: test_saturation: many jobs, threads_max threads.
TEST(Offload, Saturation) {
  on_loop([] {
    OffloadPool pool(with_threads(4));
    std::promise<void> go;
    const std::shared_future<void> gone = go.get_future().share();
    Scope scope;
    for (int i = 0; i < 15 * 4; ++i) scope.spawn([&] { pool.run([gone] { gone.wait(); }); });
    wait_until([&] { return pool.stats().running == 4 && pool.stats().queued == 14U * 4; });
    EXPECT_EQ(pool.stats().threads, 4U);
    go.set_value();
    scope.join();
    EXPECT_EQ(pool.stats().completed, 15U * 4);
    EXPECT_LE(pool.stats().threads_started, 4U);
  });
}

// gevent parity 47: test_idle_thread_reuse: one job at a time needs one thread.
TEST(Offload, IdleThreadsAreUsedAgain) {
  on_loop([] {
    OffloadPool pool(with_threads(4));
    for (int i = 0; i < kRounds; ++i) pool.run([] {});
    EXPECT_EQ(pool.stats().threads_started, 1U);
  });
}

TEST(Offload, BeyondTheQueueCallersWaitInOrder) {
  on_loop([] {
    OffloadOptions options = with_threads(1);
    options.queue_max = 2;
    OffloadPool pool(options);
    std::promise<void> go;
    std::vector<int> order;
    Scope scope;
    scope.spawn([&] { pool.run([&] { go.get_future().wait(); }); });
    wait_until([&] { return pool.stats().running == 1; });
    for (int i = 0; i < 5; ++i) scope.spawn([&, i] { pool.run([&, i] { order.push_back(i); }); });
    wait_until([&] { return pool.stats().waiting == 3; });
    EXPECT_EQ(pool.stats().queued, 2U);
    go.set_value();
    scope.join();
    EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4));
  });
}

TEST(Offload, TryRunRefusesWhenTheQueueIsFull) {
  on_loop([] {
    OffloadOptions options = with_threads(1);
    options.queue_max = 1;
    OffloadPool pool(options);
    EXPECT_EQ(pool.try_run([] { return 5; }), 5);
    EXPECT_TRUE(pool.try_run([] {}));
    std::promise<void> go;
    Scope scope;
    scope.spawn([&] { pool.run([&] { go.get_future().wait(); }); });
    wait_until([&] { return pool.stats().running == 1; });
    scope.spawn([&] { EXPECT_EQ(pool.try_run([] { return 6; }), 6); });
    wait_until([&] { return pool.stats().queued == 1; });
    EXPECT_EQ(pool.try_run([] { return 7; }), std::nullopt);
    EXPECT_FALSE(pool.try_run([] { ADD_FAILURE(); }));
    go.set_value();
    scope.join();
  });
}

TEST(Offload, MapThrowsWhatGoingThroughTheRangeThrows) {
  on_loop([] {
    const auto picky = test::mapped(test::iota(1, 4), [](int each) {
      if (each == 2) throw std::runtime_error("not two");
      return each;
    });
    EXPECT_THROW(static_cast<void>(OffloadPool::shared().map(picky, [](int each) { return each; })),
                 std::runtime_error);
  });
}

TEST(Offload, AJobThatHasNotBegunIsWithdrawn) {
  on_loop([] {
    OffloadPool pool(with_threads(1));
    std::promise<void> go;
    auto first = spawn([&] { pool.run([&] { go.get_future().wait(); }); });
    wait_until([&] { return pool.stats().running == 1; });
    bool ran = false;
    auto second = spawn([&] { pool.run([&] { ran = true; }); });
    yield();
    EXPECT_EQ(pool.stats().queued, 1U);
    second.cancel();
    second.join();  // though the first one still runs
    EXPECT_EQ(second.status(), FiberStatus::cancelled);
    EXPECT_EQ(pool.stats().queued, 0U);
    EXPECT_EQ(pool.stats().withdrawn, 1U);
    go.set_value();
    first.join();
    EXPECT_FALSE(ran);
  });
}

TEST(Offload, AJobThatRunsIsWaitedFor) {
  on_loop([] {
    std::promise<void> go;
    SharedEvent begun;
    int result = 0;
    bool next_wait_threw = false;
    auto fiber = spawn([&] {
      int local = 0;  // which the job refers to
      result = offload([&] {
        begun.set();
        go.get_future().wait();
        return ++local;
      });
      try {
        yield();
      } catch (const Cancelled&) {
        next_wait_threw = true;
        throw;
      }
    });
    begun.wait();
    fiber.cancel();
    yield();
    EXPECT_FALSE(fiber.done());
    go.set_value();
    fiber.join();
    EXPECT_EQ(result, 1);
    EXPECT_TRUE(next_wait_threw);
  });
}

TEST(Offload, ACancelledFiberBeginsNothing) {
  on_loop([] {
    bool ran = false;
    auto fiber = spawn([&] {
      try {
        sleep_for(1h);
      } catch (const Cancelled&) {
        offload([&] { ran = true; });
      }
    });
    yield();
    fiber.cancel();
    fiber.join();
    EXPECT_FALSE(ran);
  });
}

// Cancelled at every distance from the job's beginning and its end.
TEST(Offload, CancellationRaces) {
  on_loop([] {
    OffloadPool pool(with_threads(1));
    int returned = 0;
    std::atomic<int> ran{0};
    for (int i = 0; i < kRounds; ++i) {
      auto fiber = spawn([&] {
        int local = 0;
        returned += pool.run([&] {
          ++ran;
          return ++local;
        });
      });
      yield();
      for (int spin = 0; spin < i % 1000; ++spin) std::atomic_signal_fence(std::memory_order_seq_cst);
      fiber.cancel();
      fiber.join();
    }
    EXPECT_EQ(returned, ran);
    EXPECT_EQ(pool.stats().completed + pool.stats().withdrawn, static_cast<std::uint64_t>(kRounds));
  });
}

TEST(Offload, IdleThreadsLeave) {
  on_loop([] {
    OffloadOptions options = with_threads(3);
    options.idle_timeout = 1ms;
    OffloadPool pool(options);
    for (int round = 0; round < 3; ++round) {
      EXPECT_EQ(pool.run([] { return 1; }), 1);
      wait_until([&] { return pool.stats().threads == 0; });
    }
    EXPECT_EQ(pool.stats().threads_started, 3U);
    options.threads_min = 1;
    OffloadPool kept(options);
    std::latch both(2);
    Scope scope;
    for (int i = 0; i < 2; ++i) scope.spawn([&] { kept.run([&] { both.arrive_and_wait(); }); });
    scope.join();
    wait_until([&] { return kept.stats().threads == 1 && kept.stats().threads_idle == 1; });
  });
}

TEST(Offload, ThreadsAreNamedAndLeaveSignalsToOthers) {
  on_loop([] {
    OffloadOptions options = with_threads(1);
    options.name = "a name too long for the kernel";
    OffloadPool pool(options);
    pool.run([] {
      std::ifstream comm("/proc/self/task/" + std::to_string(::gettid()) + "/comm");
      std::string name;
      std::getline(comm, name);
      EXPECT_EQ(name, "a name too long");
      ::sigset_t blocked;
      ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
      for (const int each : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD}) EXPECT_EQ(::sigismember(&blocked, each), 1);
    });
    ::sigset_t blocked;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
    EXPECT_EQ(::sigismember(&blocked, SIGTERM), 0);
  });
}

int threads_of_this_process() {
  int count = 0;
  ::DIR* tasks = ::opendir("/proc/self/task");
  while (const ::dirent* each = ::readdir(tasks)) count += each->d_name[0] != '.' ? 1 : 0;
  ::closedir(tasks);
  return count;
}

TEST(Offload, ThePoolsEndWaitsForItsThreads) {
  if (test::thread_sanitized) GTEST_SKIP() << kNoThreads;
  const auto ended = in_child([] {
    std::atomic<bool> finished{false};
    int left = -1;
    run([&] {
      std::thread caller;
      std::promise<void> go;
      {
        std::promise<void> begun;
        OffloadPool pool(with_threads(2));
        caller = std::thread([&] {
          pool.run([&] {
            begun.set_value();
            go.get_future().wait();
            finished = true;
          });
        });
        begun.get_future().wait();
        pool.run([] {});
        spawn([&] { go.set_value(); }).detach();  // the loop goes on while the pool ends
      }
      if (!finished) ::_exit(3);
      caller.join();
      left = threads_of_this_process();
    });
    return left == 1 || test::sanitized ? 0 : 4;  // sanitizers have threads of their own
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

TEST(Offload, Map) {
  on_loop([] {
    OffloadPool pool(with_threads(3));
    std::vector<int> numbers(100);
    for (int i = 0; i < 100; ++i) numbers[static_cast<std::size_t>(i)] = i;
    std::atomic<int> now_running{0};
    std::atomic<int> most{0};
    const auto squares = pool.map(numbers, [&](int i) {
      const int running = ++now_running;
      for (int seen = most; seen < running && !most.compare_exchange_weak(seen, running);) {
      }
      --now_running;
      return std::make_unique<int>(i * i);
    });
    ASSERT_EQ(squares.size(), 100U);
    for (int i = 0; i < 100; ++i) EXPECT_EQ(*squares[static_cast<std::size_t>(i)], i * i);
    EXPECT_LE(most, 3);
    EXPECT_THAT(pool.map(std::vector<int>{}, [](int i) { return i; }), IsEmpty());
    pool.map(numbers, [](int& i) { ++i; });
    EXPECT_EQ(numbers[99], 100);
  });
}

// gevent parity 26: TestErrorInHandler: an error at its place; the others go on.
TEST(Offload, MapThrowsTheFirstErrorByPositionWhenAllHaveEnded) {
  on_loop([] {
    OffloadPool pool(with_threads(4));
    std::atomic<int> calls{0};
    try {
      static_cast<void>(pool.map(std::vector{0, 1, 2, 3, 4, 5}, [&](int i) -> int {
        ++calls;
        if (i % 2 == 1) throw std::runtime_error(std::to_string(i));
        return i;
      }));
      FAIL() << "did not throw";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "1");
    }
    EXPECT_EQ(calls, 6);
  });
}

TEST(Offload, MapIsCancelled) {
  on_loop([] {
    OffloadPool pool(with_threads(2));
    std::vector<int> numbers(1000, 1);
    std::atomic<int> calls{0};
    SharedEvent begun;
    std::promise<void> go;
    const std::shared_future<void> gone = go.get_future().share();
    auto fiber = spawn([&] {
      pool.map(numbers, [&, gone](int) {
        ++calls;
        begun.set();
        gone.wait();
      });
    });
    begun.wait();
    fiber.cancel();
    yield();
    EXPECT_FALSE(fiber.done());
    go.set_value();
    fiber.join();
    EXPECT_EQ(fiber.status(), FiberStatus::cancelled);
    EXPECT_LE(calls, 1000);
  });
}

TEST(Offload, AForkedChildHasADefaultPoolOfItsOwn) {
  if (test::thread_sanitized) GTEST_SKIP() << kNoThreads;
  const auto ended = in_child([] {
    OffloadOptions options;
    options.name = "mine";
    OffloadPool::configure_shared(options);
    if (run([] { return offload([] { return 1; }); }) != 1) return 2;
    OffloadPool own(with_threads(1));
    own.run([] {});
    const pid_t pid = ::fork();
    if (pid == 0) {
      const bool works = run([] { return offload([] { return 7; }); }) == 7;
      const bool same = OffloadPool::shared().options().name == "mine";
      ::_exit(works && same ? 0 : 3);
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 4;
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

TEST(Offload, AnotherPoolAbortsInAForkedChild) {
  if (test::thread_sanitized) GTEST_SKIP() << kNoThreads;
  const auto ended = in_child([] {
    OffloadPool pool(with_threads(1));
    pool.run([] {});
    const pid_t pid = ::fork();
    if (pid == 0) {
      pool.run([] {});
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  });
  EXPECT_TRUE(ended.with(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("made before a fork is used in the child")) << describe(ended);
}

TEST(Offload, ConfiguringTooLateAborts) {
  if (test::thread_sanitized) GTEST_SKIP() << kNoThreads;
  const auto ended = in_child([] {
    offload([] {});
    OffloadPool::configure_shared({});
    return 0;
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("comes too late")) << describe(ended);
}

// The process may exit while threads are idle, or busy.
TEST(Offload, TheProcessMayExit) {
  if (test::thread_sanitized) GTEST_SKIP() << kNoThreads;
  const auto ended = in_child([]() -> int {
    SharedEvent begun;
    std::thread([&] {
      offload([&] {
        begun.set();
        ::pause();
      });
    }).detach();
    begun.wait();
    offload([] {});
    std::exit(5);
  });
  EXPECT_TRUE(ended.with(5)) << describe(ended);
}

TEST(Offload, ACallbackCanNotWait) {
  const auto ended = in_child([] {
    return run([] {
      Remote().post([] { offload([] {}); });
      for (;;) yield();
    });
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("only a fiber can wait")) << describe(ended);
}

#if defined(BIGHT_HAVE_SECCOMP)

/// From now on no thread can be started.
void forbid_threads() {
  scmp_filter_ctx filter = ::seccomp_init(SCMP_ACT_ALLOW);
  bool done = filter != nullptr;
  for (const char* name : {"clone", "clone3"}) {
    const int call = ::seccomp_syscall_resolve_name(name);
    done = done && ::seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAGAIN), call, 0) == 0;
  }
  done = done && ::seccomp_load(filter) == 0;
  ::seccomp_release(filter);
  if (!done) std::_Exit(77);
}

TEST(Offload, WithoutAnyThreadItIsAnError) {
  if (test::thread_sanitized) GTEST_SKIP() << kNoThreads;
  const auto ended = in_child([] {
    return run([] {
      OffloadPool pool(with_threads(2));
      forbid_threads();
      for (int i = 0; i < 3; ++i) {
        try {
          pool.run([] {});
          return 1;
        } catch (const std::system_error& error) {
          if (error.code() != std::errc::resource_unavailable_try_again) return 2;
          if (std::string(error.what()).find("start a thread") == std::string::npos) return 3;
        }
      }
      if (pool.stats().threads != 0 || pool.stats().queued != 0) return 4;
      return 0;
    });
  });
  if (ended.with(77)) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

TEST(Offload, WithOneThreadOthersThatFailAreNoError) {
  if (test::thread_sanitized) GTEST_SKIP() << kNoThreads;
  const auto ended = in_child([] {
    return run([] {
      OffloadPool pool(with_threads(4));
      pool.run([] {});
      forbid_threads();
      int ran = 0;
      Scope scope;
      for (int i = 0; i < 10; ++i) scope.spawn([&] { pool.run([&] { ++ran; }); });
      scope.join();
      return ran == 10 && pool.stats().threads == 1 ? 0 : 1;
    });
  });
  if (ended.with(77)) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

#endif

}  // namespace
}  // namespace bight
