// SPDX-License-Identifier: Apache-2.0
// parity 36: what a forked child may do.
#include "fork_guard.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>

#include <gtest/gtest.h>

#include <bight/fiber.hpp>
#include <bight/run.hpp>
#include <bight/time.hpp>

#include "child.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::describe;
using test::in_child;
using test::on_loop;

/// Forks inside a loop. The child's wait status.
int fork_in_loop(void (*child)()) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    child();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return status;
}

TEST(ForkGuard, AForkedChildThatUsesTheLoopAborts) {
  void (*const uses[])() = {
      [] { yield(); },
      [] { sleep_for(1ms); },
      [] { static_cast<void>(spawn([] {})); },
      [] { static_cast<void>(this_loop::stats()); },
  };
  for (auto* use : uses) {
    const auto ended = in_child([use] { return run([use] { return WTERMSIG(fork_in_loop(use)); }); });
    EXPECT_TRUE(ended.with(SIGABRT)) << describe(ended);
    EXPECT_TRUE(ended.says("and never in a child forked from inside it")) << describe(ended);
  }
}

TEST(ForkGuard, AForkedChildThatDoesNotIsFine) {
  on_loop([] {
    const int status = fork_in_loop([] {
      if (this_loop::exists() || this_fiber::exists()) ::_exit(1);
    });
    EXPECT_EQ(status, 0);
    yield();  // and the parent has noticed nothing
    sleep_for(1ms);
    EXPECT_TRUE(this_loop::exists());
  });
}

TEST(ForkGuard, TheChildOfAProcessWhoseLoopHasEndedMayHaveOne) {
  on_loop([] { yield(); });
  const auto ended = in_child([] {
    int ran = 0;
    run([&] {
      yield();
      sleep_for(1ms);
      ran = 1;
    });
    return ran == 1 ? 0 : 1;
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

// In a thread of the child that has no loop, one can be made; the parent's other loops are not the child's.
TEST(ForkGuard, AChildForkedInsideALoopMayMakeItsOwn) {
  on_loop([] {
    const int status = fork_in_loop([] {
      bool ran = false;
      run([&] {
        yield();
        sleep_for(1ms);
        ran = true;
      });
      ::_exit(ran ? 0 : 1);
    });
    EXPECT_EQ(status, 0);
    sleep_for(1ms);
  });
}

TEST(ForkGuard, ASignalToAForkedChildIsNoneOfTheLoops) {
  const auto ended = in_child([] {
    return run([] {
      const int status = fork_in_loop([] {
        ::raise(SIGTERM);
        ::_exit(1);  // not reached: what ended the process before there was a loop ends it again
      });
      yield();
      return WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM ? 0 : 3;
    });
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

}  // namespace
}  // namespace bight
