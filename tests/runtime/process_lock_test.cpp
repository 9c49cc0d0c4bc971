// SPDX-License-Identifier: Apache-2.0
#include <bight/process_lock.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include <bight/connection.hpp>
#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/process_event.hpp>
#include <bight/scope.hpp>
#include <bight/shared_memory.hpp>

#include "child.hpp"
#include "misuse.hpp"
#include "on_loop.hpp"
#include "open_fds.hpp"
#include "processes.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;

class ProcessLockTest : public ProcessTest {};

/// A child that has locked the lock when this returns, and keeps it.
Child owner_of(ProcessLock& lock) {
  Connection near;
  Connection far;
  std::tie(near, far) = make_connection_pair();
  Child child([&] {
    lock.lock();
    far.send(true);
    for (;;) ::pause();
    return 0;
  });
  EXPECT_EQ(near.receive<bool>(), true);
  return child;
}

TEST_F(ProcessLockTest, excludes_fibers_and_processes) {
  constexpr int kProcesses = 4;
  constexpr int kFibers = 5;
  constexpr int kTurns = 40;
  ProcessLock lock;
  struct Shared {
    int count;
    std::atomic<int> inside;
    std::atomic<int> met;
  };
  const SharedMemory memory(sizeof(Shared));
  auto& shared = memory.as<Shared>();
  std::vector<Child> children;
  for (int i = 0; i < kProcesses; ++i) {
    children.push_back(fiber_in_child([&] {
      Scope scope;
      for (int k = 0; k < kFibers; ++k) {
        scope.spawn([&] {
          for (int turn = 0; turn < kTurns; ++turn) {
            const std::lock_guard guard(lock);
            if (shared.inside.fetch_add(1) != 0) ++shared.met;
            const int count = shared.count;
            if (turn % 8 == 0) sleep_for(50us);
            shared.count = count + 1;
            shared.inside.fetch_sub(1);
          }
        });
      }
      scope.join();
      return 0;
    }));
  }
  for (Child& each : children) expect_well(each);
  EXPECT_EQ(shared.count, kProcesses * kFibers * kTurns);
  EXPECT_EQ(shared.met, 0);
  EXPECT_EQ(lock.owner(), 0);
}

TEST_F(ProcessLockTest, fibers_of_a_process_get_it_in_order) {
  on_loop([] {
    ProcessLock lock;
    std::vector<int> order;
    lock.lock();
    EXPECT_EQ(lock.owner(), ::getpid());
    Scope scope;
    for (int i = 0; i < 5; ++i) {
      scope.spawn([&, i] {
        const std::lock_guard guard(lock);
        order.push_back(i);
        yield();
      });
    }
    yield();
    lock.unlock();
    scope.join();
    EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4}));
    EXPECT_EQ(lock.owner(), 0);
  });
}

TEST_F(ProcessLockTest, limits_and_cancellation_leave_it_alone) {
  ProcessLock lock;
  Child owner = owner_of(lock);
  on_loop([&] {
    EXPECT_EQ(lock.owner(), owner.pid());
    EXPECT_FALSE(lock.try_lock());
    EXPECT_FALSE(lock.try_lock_for(0s));
    EXPECT_FALSE(lock.try_lock_for(5ms));
    EXPECT_FALSE(lock.try_lock_until(Clock::now() + 1ms));
    auto waiting = spawn([&] { lock.lock(); });
    auto behind = spawn([&] { lock.lock(); });
    sleep_for(1ms);
    waiting.cancel();
    waiting.join();
    behind.cancel();
    behind.join();
    EXPECT_THROW(with_timeout(3ms, [&] { lock.lock(); }), TimedOut);
    EXPECT_EQ(lock.owner(), owner.pid());
  });
  kill_and_wait(owner);
}

TEST_F(ProcessLockTest, the_death_of_the_owner_is_told_until_repaired) {
  ProcessLock lock;
  Child owner = owner_of(lock);
  on_loop([&] {
    auto who_waits = [&] {
      try {
        lock.lock();
      } catch (const OwnerDied& died) {
        return died.owner();
      }
      return pid_t{0};
    };
    auto first = spawn(who_waits);
    auto second = spawn(who_waits);
    sleep_for(5ms);
    const TimePoint start = now();
    ::kill(owner.pid(), SIGKILL);
    EXPECT_EQ(first.get(), owner.pid());
    EXPECT_EQ(second.get(), owner.pid());
    EXPECT_LT(now() - start, 1s);
    EXPECT_EQ(lock.owner(), 0);
    EXPECT_THROW(static_cast<void>(lock.try_lock()), OwnerDied);
    EXPECT_THROW(static_cast<void>(lock.try_lock_for(1s)), OwnerDied);
    EXPECT_THROW(lock.lock_or_repair([] { throw 5; }), int);  // not mended
    EXPECT_THROW(lock.lock(), OwnerDied);
    bool mended = false;
    EXPECT_TRUE(lock.lock_or_repair([&] { mended = true; }));
    EXPECT_TRUE(mended);
    EXPECT_EQ(lock.owner(), ::getpid());
    lock.unlock();
    EXPECT_FALSE(lock.lock_or_repair([] { FAIL(); }));
    lock.unlock();
    lock.lock();
    lock.unlock();
  });
  EXPECT_TRUE(owner.wait().by(SIGKILL));
}

/// The child is a zombie all the while, and nobody waits: who tries finds out.
TEST_F(ProcessLockTest, trying_finds_the_dead_owner) {
  ProcessLock lock;
  Child owner = owner_of(lock);
  EXPECT_FALSE(lock.try_lock());
  ::kill(owner.pid(), SIGKILL);
  siginfo_t info{};
  ::waitid(P_PID, static_cast<id_t>(owner.pid()), &info, WEXITED | WNOWAIT);
  EXPECT_THROW(static_cast<void>(lock.try_lock()), OwnerDied);
  static_cast<void>(owner.wait());
  EXPECT_TRUE(lock.lock_or_repair([] {}));
  lock.unlock();
}

TEST_F(ProcessLockTest, one_who_dies_repairing_is_an_owner_who_died) {
  ProcessLock lock;
  Child owner = owner_of(lock);
  kill_and_wait(owner);
  Child mender([&] {
    lock.lock_or_repair([] { ::raise(SIGKILL); });
    return 0;
  });
  EXPECT_TRUE(mender.wait().by(SIGKILL));
  try {
    lock.lock();
    ADD_FAILURE();
  } catch (const OwnerDied& died) {
    EXPECT_EQ(died.owner(), mender.pid());
  }
}

TEST_F(ProcessLockTest, one_who_ends_without_unlocking_has_died) {
  ProcessLock lock;
  Child owner([&] {
    lock.lock();
    return 0;
  });
  EXPECT_TRUE(owner.wait().with(0));
  EXPECT_THROW(lock.lock(), OwnerDied);
}

TEST_F(ProcessLockTest, a_fork_does_not_pass_it_on) {
  on_loop([] {
    ProcessLock lock;
    ProcessEvent looked;
    lock.lock();
    auto waiting = spawn([&] { const std::lock_guard guard(lock); });
    sleep_for(1ms);
    Child child([&] {
      if (lock.try_lock()) return 1;
      if (lock.owner() != ::getppid()) return 2;
      looked.set();
      lock.lock();  // until the parent unlocks it
      lock.unlock();
      return 0;
    });
    EXPECT_TRUE(looked.wait_for(20s));
    lock.unlock();
    waiting.join();
    expect_well(child);
  });
}

TEST_F(ProcessLockTest, threads_wait_too) {
  ProcessLock lock;
  int count = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 200; ++k) {
        const std::lock_guard guard(lock);
        ++count;
      }
    });
  }
  for (std::thread& each : threads) each.join();
  EXPECT_EQ(count, 800);
}

TEST_F(ProcessLockTest, misuse_aborts) {
  expect_abort("unlocked by a process that does not own it", [] { ProcessLock().unlock(); });
  ProcessLock lock;
  lock.lock();
  expect_abort("unlocked by a process that does not own it", [&] { lock.unlock(); });
  lock.unlock();
  expect_abort("it is not recursive", [] {
    ProcessLock twice;
    twice.lock();
    twice.lock();
  });
  expect_abort("ends while this process owns it", [] { ProcessLock().lock(); });
}

TEST_F(ProcessLockTest, leaves_no_descriptors) {
  const std::size_t before = open_fds();
  on_loop([] {
    ProcessLock lock;
    Child owner = owner_of(lock);
    EXPECT_FALSE(lock.try_lock_for(10ms));
    kill_and_wait(owner);
    EXPECT_THROW(lock.lock(), OwnerDied);
  });
  EXPECT_EQ(open_fds(), before);
}

// gevent-parity, row 60: lines of many processes are not mixed.
TEST_F(ProcessLockTest, a_hundred_processes_print_whole_lines) {
  constexpr int kProcesses = 100;
  constexpr int kLines = 10;
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  const Fd read_end(pipe[0]);
  Fd write_end(pipe[1]);
  ProcessLock lock;
  std::vector<Child> children;
  for (int i = 0; i < kProcesses; ++i) {
    children.emplace_back([&] {
      const std::string word(20, static_cast<char>('a' + i % 26));
      for (int k = 0; k < kLines; ++k) {
        const std::lock_guard guard(lock);
        for (const char each : word) {
          if (::write(write_end.get(), &each, 1) != 1) return 1;
        }
        if (::write(write_end.get(), "\n", 1) != 1) return 1;
      }
      return 0;
    });
  }
  write_end.reset();
  std::string text;
  std::array<char, 4096> buffer{};
  for (ssize_t count = 0; (count = ::read(read_end.get(), buffer.data(), buffer.size())) > 0;) {
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
  for (Child& each : children) expect_well(each);
  ASSERT_EQ(text.size(), std::size_t{kProcesses} * kLines * 21);
  for (std::size_t at = 0; at < text.size(); at += 21) {
    ASSERT_EQ(text.substr(at, 21), std::string(20, text[at]) + "\n");
  }
}

/// Processes that change two numbers that are to be equal, and are killed at any moment. Whoever finds an owner dead
/// makes them equal. Nobody may wait for long, and no two may be inside at a time.
TEST_F(ProcessLockTest, survives_kills_at_any_moment) {
  struct Shared {
    std::atomic<pid_t> inside;
    std::atomic<std::uint64_t> met;
    std::atomic<std::uint64_t> turns;
    std::uint64_t a;
    std::uint64_t b;
  };
  const SharedMemory memory(sizeof(Shared));
  auto& shared = memory.as<Shared>();
  ProcessLock lock;
  auto work = [&] {
    for (;;) {
      lock.lock_or_repair([&] {
        shared.inside = 0;
        shared.b = shared.a;
      });
      pid_t nobody = 0;
      if (!shared.inside.compare_exchange_strong(nobody, ::getpid()) || shared.a != shared.b) ++shared.met;
      ++shared.a;
      ++shared.b;
      ++shared.turns;
      shared.inside = 0;
      lock.unlock();
    }
    return 0;
  };
  const int rounds = kills(400);
  std::mt19937 random(4711);
  std::vector<Child> children;
  for (int i = 0; i < 3; ++i) children.emplace_back(work);
  children.push_back(fiber_in_child(work));
  on_loop([&] {
    for (int i = 0; i < rounds; ++i) {
      sleep_for(std::chrono::microseconds(random() % 600));
      Child& victim = children[random() % children.size()];
      kill_and_wait(victim);
      victim = random() % 4 == 0 ? fiber_in_child(work) : Child(work);
      if (i % 10 == 0) {
        const bool got = with_timeout(30s, [&] {
          lock.lock_or_repair([&] {
            shared.inside = 0;
            shared.b = shared.a;
          });
          return shared.a == shared.b;
        });
        EXPECT_TRUE(got);
        lock.unlock();
      }
    }
    const std::uint64_t turns = shared.turns;
    for (int i = 0; i < 3000 && shared.turns == turns; ++i) sleep_for(10ms);
    EXPECT_GT(shared.turns, turns) << "nobody gets it any more";
  });
  for (Child& each : children) kill_and_wait(each);
  EXPECT_EQ(shared.met, 0U);
}

TEST(ProcessLock, a_simulated_world_has_one_process) {
  ProcessLock lock;
  Child owner = owner_of(lock);
  on_loop([&] {
    if (!on_sim()) GTEST_SKIP() << "of the sim engine";
    EXPECT_FALSE(lock.try_lock());
    EXPECT_THROW(lock.lock(), std::system_error);
    kill_and_wait(owner);
    EXPECT_THROW(lock.lock(), OwnerDied);
    lock.lock_or_repair([] {});
    auto waiting = spawn([&] { const std::lock_guard guard(lock); });
    yield();
    lock.unlock();
    waiting.join();
  });
  ::kill(owner.pid(), SIGKILL);
}

}  // namespace
}  // namespace bight::test
