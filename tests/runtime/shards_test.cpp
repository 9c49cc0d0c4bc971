// SPDX-License-Identifier: Apache-2.0
// The supervisor runs in a forked child; its workers tell what they do through a pipe.
#include <bight/shards.hpp>

#include <dlfcn.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <functional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include <bight/fiber.hpp>
#include <bight/log.hpp>
#include <bight/stop.hpp>
#include <bight/time.hpp>

#include "child.hpp"
#include "supervised.hpp"

namespace {

// Of the forks to come, the first so many go well, and the next so many fail.
int forks_well = 0;
int forks_failing = 0;

}  // namespace

extern "C" pid_t fork() noexcept {
  if (forks_failing > 0 && forks_well-- <= 0) {
    --forks_failing;
    errno = EAGAIN;
    return -1;
  }
  static const auto real = reinterpret_cast<pid_t (*)()>(::dlsym(RTLD_NEXT, "fork"));
  return real();
}

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::Child;
using test::describe;
using test::in_child;
using test::Reports;
using test::serve_until_stop;
using test::Supervised;
using test::two_shards;

TEST(Shards, WorkUntilTheSignalAndDrain) {
  for (const int signal : {SIGTERM, SIGINT}) {
    Supervised supervised(two_shards(), serve_until_stop);
    std::set<std::size_t> indices;
    std::set<pid_t> processes;
    for (int i = 0; i < 2; ++i) {
      const auto report = supervised.reports.expect("began");
      indices.insert(report.index);
      processes.insert(report.pid);
    }
    EXPECT_EQ(indices, (std::set<std::size_t>{0, 1}));
    EXPECT_EQ(processes.size(), 2U);
    EXPECT_FALSE(processes.contains(supervised.child.pid())) << "the parent only supervises";
    ::kill(supervised.child.pid(), signal);
    supervised.reports.expect("drained");
    supervised.reports.expect("drained");
    supervised.reports.expect("end");
    const auto ended = supervised.child.wait();
    EXPECT_TRUE(ended.with(0)) << describe(ended);
    EXPECT_EQ(ended.errors, "");
  }
}

// Ctrl-C goes to the whole process group: the workers get it from the terminal and the stop from their parent. They
// are to drain all the same.
TEST(Shards, CtrlCDrainsToo) {
  Supervised supervised(two_shards(), [](Shard& shard, const Reports& reports) {
    reports.tell("began", shard.index());
    wait_for_stop();
    sleep_for(100ms);
    reports.tell("drained", shard.index());
  });
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  ::kill(-supervised.child.pid(), SIGINT);
  supervised.reports.expect("drained");
  supervised.reports.expect("drained");
  const auto ended = supervised.child.wait();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

// A worker that waits for no stop is ended by the signal, as run() says: an orderly end, too.
TEST(Shards, OneThatWaitsForNoStopEndsAtTheSignal) {
  Supervised supervised(two_shards(), [](Shard& shard, const Reports& reports) {
    struct Note {
      Shard& shard;
      const Reports& reports;
      ~Note() { reports.tell("unwound", shard.index()); }
    } note{shard, reports};
    reports.tell("began", shard.index());
    sleep_for(1h);
  });
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  ::kill(supervised.child.pid(), SIGTERM);
  supervised.reports.expect("unwound");
  supervised.reports.expect("unwound");
  const auto ended = supervised.child.wait();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

// parity 48: SIGKILL a worker; reliability 3: the supervisor reaps and respawns
TEST(Shards, AKilledWorkerIsReplaced) {
  Supervised supervised(two_shards(), serve_until_stop);
  auto first = supervised.reports.expect("began");
  supervised.reports.expect("began");
  for (int round = 0; round < 3; ++round) {
    ::kill(first.pid, SIGKILL);
    const auto next = supervised.reports.expect("began");
    EXPECT_EQ(next.index, first.index) << "it takes its predecessor's place";
    EXPECT_NE(next.pid, first.pid);
    first = next;
  }
  ::kill(supervised.child.pid(), SIGTERM);
  const auto ended = supervised.child.wait();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_TRUE(ended.says("was killed by SIGKILL (out of memory?); it is replaced in 1 ms")) << describe(ended);
  EXPECT_TRUE(ended.says("it is replaced in 4 ms")) << "the back-off doubles: " << describe(ended);
}

TEST(Shards, OneThatThrowsOrReturnsIsReplaced) {
  ShardOptions options = two_shards();
  options.count = 1;
  Supervised supervised(options, [](Shard& shard, const Reports& reports) {
    static const std::string flag = "/tmp/bight-shards-test-" + std::to_string(::getppid());
    reports.tell("began", shard.index());
    if (std::FILE* file = std::fopen(flag.c_str(), "re")) {
      std::fclose(file);
      std::remove(flag.c_str());
      wait_for_stop();
      return;
    }
    std::fclose(std::fopen(flag.c_str(), "we"));
    throw std::runtime_error("the first one fails");
  });
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  ::kill(supervised.child.pid(), SIGTERM);
  const auto ended = supervised.child.wait();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_TRUE(ended.says("shard 0 failed: std::runtime_error: the first one fails")) << describe(ended);
  EXPECT_TRUE(ended.says("shard 0 ended with status 1; it is replaced in")) << describe(ended);
}

TEST(Shards, OneThatReturnsUnaskedIsReplaced) {
  ShardOptions options = two_shards();
  options.count = 1;
  Supervised supervised(options, [](Shard& shard, const Reports& reports) { reports.tell("began", shard.index()); });
  for (int i = 0; i < 3; ++i) supervised.reports.expect("began");
  ::kill(supervised.child.pid(), SIGTERM);
  const auto ended = supervised.child.wait();
  EXPECT_TRUE(ended.says("ended before it was asked to; it is replaced")) << describe(ended);
}

// reliability 2a: no crash loop
TEST(Shards, TooManyCrashesInARowAreTheEnd) {
  ShardOptions options = two_shards();
  options.crashes_max = 4;
  Supervised supervised(options, [](Shard& shard, const Reports& reports) {
    reports.tell("began", shard.index());
    if (shard.index() == 1) ::raise(SIGKILL);
    wait_for_stop();
    reports.tell("drained", shard.index());
  });
  const auto ended = supervised.child.wait();
  EXPECT_TRUE(ended.with(1)) << describe(ended);
  EXPECT_TRUE(ended.says("the 4th time in a row: giving up")) << describe(ended);
  int began = 0;
  int drained = 0;
  for (auto report = supervised.reports.next(); report.what != "end"; report = supervised.reports.next()) {
    if (report.what == "nothing") FAIL();
    began += report.what == "began" && report.index == 1 ? 1 : 0;
    drained += report.what == "drained" ? 1 : 0;
  }
  EXPECT_EQ(began, 4);
  EXPECT_EQ(drained, 1) << "the other one ends in order";
}

TEST(Shards, TheBackOffGrowsToItsLimit) {
  ShardOptions options = two_shards();
  options.count = 1;
  options.back_off = 2ms;
  options.back_off_max = 10ms;
  options.crashes_max = 7;
  options.boots_max = 0;
  options.healthy_after = 1min;  // ThreadSanitizer may take a second to exit
  const TimePoint start = now();
  Supervised supervised(options, [](Shard&, const Reports&) { ::_exit(3); });
  const auto ended = supervised.child.wait();
  EXPECT_TRUE(ended.with(1)) << describe(ended);
  EXPECT_GE(now() - start, 2ms + 4ms + 8ms + 10ms + 10ms + 10ms);
  EXPECT_TRUE(ended.says("ended with status 3; it is replaced in 8 ms")) << describe(ended);
  EXPECT_TRUE(ended.says("it is replaced in 10 ms")) << describe(ended);
  EXPECT_FALSE(ended.says("it is replaced in 16 ms")) << describe(ended);
}

/// Supervises one or two shards, of whose forks some fail. Not for longer than 30 s.
Child supervise_with_failing_forks(const ShardOptions& options, int well, int failing,
                                   const std::function<void(Shard&)>& main) {
  return Child([&] {
    set_log_level(LogLevel::warning);
    ::alarm(30);
    forks_well = well;
    forks_failing = failing;
    return run_shards(options, main);
  });
}

// How long the last worker lived says nothing about one that could not be started.
TEST(Shards, ForksThatFailAreCrashesInARow) {
  ShardOptions options = two_shards();
  options.count = 1;
  options.healthy_after = 1ms;
  options.crashes_max = 4;
  const auto ended = supervise_with_failing_forks(options, 1, 1000, [](Shard&) {
                       sleep_for(20ms);
                       ::raise(SIGKILL);
                     }).wait();
  EXPECT_TRUE(ended.with(1)) << describe(ended);
  EXPECT_TRUE(ended.says("start shard 0: fork: Resource temporarily unavailable; it is replaced in 4 ms"))
      << describe(ended);
  EXPECT_TRUE(ended.says("the 4th time in a row: giving up")) << describe(ended);
}

// The shard that can not be started any more ends it all; another one whose turn it is at the same time stays away.
TEST(Shards, NoneIsStartedAfterTheEnd) {
  ShardOptions options = two_shards();
  options.crashes_max = 2;
  options.drain = 1h;
  std::array<int, 2> flags{};
  ASSERT_EQ(::pipe(flags.data()), 0);
  ASSERT_EQ(::write(flags[1], "12", 2), 2);
  ::close(flags[1]);
  const auto ended = supervise_with_failing_forks(options, 2, 1, [&](Shard&) {
                       char flag = 0;
                       if (::read(flags[0], &flag, 1) == 1) ::raise(SIGKILL);  // the first two
                       wait_for_stop();
                     }).wait();
  ::close(flags[0]);
  EXPECT_TRUE(ended.with(1)) << describe(ended);
  EXPECT_TRUE(ended.says("giving up")) << describe(ended);
}

// Ignored signals are inherited across exec(2), and some parents ignore SIGCHLD.
TEST(Shards, EndsAreSeenThoughSigchldWasIgnored) {
  Reports reports;
  Child child([&] {
    set_log_level(LogLevel::warning);
    ::alarm(30);
    ::signal(SIGCHLD, SIG_IGN);
    ShardOptions options = two_shards();
    options.crashes_max = 2;
    options.count = 1;
    const int status = run_shards(options, [&](Shard& shard) {
      struct sigaction action {};
      ::sigaction(SIGCHLD, nullptr, &action);
      reports.tell(action.sa_handler == SIG_IGN ? "ignores" : "notices", shard.index());
      ::raise(SIGKILL);
    });
    return ::signal(SIGCHLD, SIG_DFL) == SIG_IGN ? status : 9;
  });
  reports.close_write_end();
  reports.expect("ignores");
  reports.expect("ignores");
  const auto ended = child.wait();
  EXPECT_TRUE(ended.with(1)) << describe(ended);
}

TEST(Shards, TheParentHearsOfTheDrainFirst) {
  Reports reports;
  ShardOptions options = two_shards();
  options.on_drain = [&] { reports.tell("closing", 0); };
  Child child([&] {
    set_log_level(LogLevel::warning);
    return run_shards(options, [&](Shard& shard) { serve_until_stop(shard, reports); });
  });
  reports.close_write_end();
  reports.expect("began");
  reports.expect("began");
  ::kill(child.pid(), SIGTERM);
  EXPECT_EQ(reports.expect("closing").pid, child.pid());
  reports.expect("drained");
  reports.expect("drained");
  reports.expect("end");
  const auto ended = child.wait();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

TEST(Shards, WorkersAreToldThoughTheParentsPartFails) {
  ShardOptions options = two_shards();
  options.on_drain = [] { throw std::runtime_error("no"); };
  Supervised supervised(options, serve_until_stop);
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  ::kill(supervised.child.pid(), SIGTERM);
  supervised.reports.expect("drained");
  supervised.reports.expect("drained");
  const auto ended = supervised.child.wait();
  EXPECT_TRUE(ended.with(1)) << describe(ended);
  EXPECT_TRUE(ended.says("on_drain failed: std::runtime_error: no")) << describe(ended);
}

// Draining to the last takes as long as there is, and a moment more to leave.
TEST(Shards, OnesThatUseAllOfTheirTimeAreNotKilled) {
  ShardOptions options = two_shards();
  options.drain = 50ms;
  options.kill_after = 10s;
  Supervised supervised(options, [](Shard& shard, const Reports& reports) {
    reports.tell("began", shard.index());
    wait_for_stop();
    sleep_for(shard.drain() + 20ms);
    reports.tell("drained", shard.index());
  });
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  ::kill(supervised.child.pid(), SIGTERM);
  supervised.reports.expect("drained");
  supervised.reports.expect("drained");
  const auto ended = supervised.child.wait();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

TEST(Shards, OnesThatDoNotDrainInTimeAreKilled) {
  ShardOptions options = two_shards();
  options.drain = 50ms;
  options.kill_after = 50ms;
  Supervised supervised(options, [](Shard& shard, const Reports& reports) {
    EXPECT_EQ(shard.drain(), 50ms);
    reports.tell("began", shard.index());
    wait_for_stop();
    reports.tell("stubborn", shard.index());
    sleep_for(1h);
  });
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  ::kill(supervised.child.pid(), SIGTERM);
  supervised.reports.expect("stubborn");
  supervised.reports.expect("stubborn");
  supervised.reports.expect("end");
  const auto ended = supervised.child.wait();
  EXPECT_TRUE(ended.with(1)) << describe(ended);
  EXPECT_TRUE(ended.says("did not end within its drain time and is killed")) << describe(ended);
}

// A second signal while they drain changes nothing for the parent: the drain time is the limit.
TEST(Shards, ASecondSignalToTheParentWaitsForTheDrain) {
  Supervised supervised(two_shards(), [](Shard& shard, const Reports& reports) {
    reports.tell("began", shard.index());
    wait_for_stop();
    reports.tell("draining", shard.index());
    sleep_for(100ms);
    reports.tell("drained", shard.index());
  });
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  ::kill(supervised.child.pid(), SIGTERM);
  supervised.reports.expect("draining");
  supervised.reports.expect("draining");
  ::kill(supervised.child.pid(), SIGTERM);
  supervised.reports.expect("drained");
  supervised.reports.expect("drained");
  const auto ended = supervised.child.wait();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

// reliability 3: supervisor killed, workers leave
TEST(Shards, WorkersDieWithTheParent) {
  Supervised supervised(two_shards(), serve_until_stop);
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  ::kill(supervised.child.pid(), SIGKILL);
  supervised.reports.expect("end");
  EXPECT_TRUE(supervised.child.wait().by(SIGKILL));
}

// The kernel forgets who is to die with whom when a process becomes another user.
TEST(Shards, WorkersOfAnotherUserDieWithTheParentToo) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs the right to become another user";
  constexpr uid_t nobody = 65534;
  ShardOptions options = two_shards();
  options.after_fork = [](Shard&) {
    if (::setresuid(nobody, nobody, nobody) != 0) ::_exit(3);
  };
  Supervised supervised(options, serve_until_stop);
  const pid_t worker = supervised.reports.expect("began").pid;
  const pid_t other = supervised.reports.expect("began").pid;
  ::kill(supervised.child.pid(), SIGKILL);
  const bool all_gone = supervised.reports.next().what == "end";
  EXPECT_TRUE(all_gone);
  for (const pid_t each : {worker, other}) {
    if (!all_gone) ::kill(each, SIGKILL);  // or the test would wait for them
  }
  EXPECT_TRUE(supervised.child.wait().by(SIGKILL));
}

// What a worker forks may outlive it, and its slot is another's then.
TEST(Shards, WhatAWorkerForksIsNone) {
  ShardOptions options = two_shards();
  options.count = 1;
  int status = -1;
  options.after_fork = [&](Shard&) {
    const pid_t forked = ::fork();
    if (forked == 0) ::_exit(this_shard::exists() ? 1 : 0);
    ::waitpid(forked, &status, 0);
  };
  Supervised supervised(options, [&](Shard& shard, const Reports& reports) {
    reports.tell(status == 0 && this_shard::exists() ? "right" : "wrong", shard.index());
    wait_for_stop();
  });
  supervised.reports.expect("right");
  EXPECT_TRUE(supervised.stop().with(0));
}

// Its loop is over, and so are the loop's handlers. That is no failure.
TEST(Shards, AStopMayMeetAWorkerThatIsJustGoing) {
  ShardOptions options = two_shards();
  options.count = 1;
  Supervised supervised(options, [](Shard&, const Reports& reports) {
    static const Reports* told;
    told = &reports;
    cookie_io_functions_t calls{};
    calls.write = [](void*, const char*, size_t) -> ssize_t {  // at the end, when all is flushed
      told->tell("going", 0);
      for (;;) ::pause();
    };
    std::fputc('x', ::fopencookie(nullptr, "w", calls));
  });
  supervised.reports.expect("going");
  const auto ended = supervised.stop();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

TEST(Shards, WorkersHaveTheSignalMaskOfBefore) {
  ShardOptions options = two_shards();
  options.count = 1;
  Supervised supervised(options, [](Shard& shard, const Reports& reports) {
    sigset_t mask;
    ::sigprocmask(SIG_BLOCK, nullptr, &mask);
    const bool blocked = ::sigismember(&mask, SIGTERM) == 1 || ::sigismember(&mask, SIGCHLD) == 1;
    reports.tell(blocked ? "blocked" : "free", shard.index());
    wait_for_stop();
  });
  supervised.reports.expect("free");
  ::kill(supervised.child.pid(), SIGTERM);
  EXPECT_TRUE(supervised.child.wait().with(0));
}

TEST(Shards, CountZeroIsOnePerProcessor) {
  ShardOptions options = two_shards();
  options.count = 0;
  Supervised supervised(options, [](Shard& shard, const Reports& reports) {
    if (shard.count() == cpu_count()) serve_until_stop(shard, reports);
  });
  for (std::size_t i = 0; i < cpu_count(); ++i) supervised.reports.expect("began");
  ::kill(supervised.child.pid(), SIGTERM);
  EXPECT_TRUE(supervised.child.wait().with(0));
}

TEST(Shards, CpuCountHearsTheAffinityMask) {
  const auto ended = in_child([] {
    cpu_set_t mine;
    ::sched_getaffinity(0, sizeof mine, &mine);
    if (cpu_count() != static_cast<std::size_t>(CPU_COUNT(&mine))) return 1;
    int first = 0;
    while (!CPU_ISSET(first, &mine)) ++first;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    ::sched_setaffinity(0, sizeof one, &one);
    return cpu_count() == 1 ? 0 : 2;
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

TEST(Shards, ComeBeforeAnyThread) {
  const auto ended = in_child([] {
    std::thread([] { run_shards({.count = 1}, [](Shard&) {}); }).join();
    return 0;
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("run_shards forks, so it must come before any thread")) << describe(ended);
}

TEST(Shards, ComeBeforeAnyLoop) {
  const auto ended = in_child([] { return run([] { run_shards({.count = 1}, [](Shard&) {}); }); });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("run_shards forks, so it must come before any loop")) << describe(ended);
}

TEST(Shards, WhatTheProgramPrintedBeforeIsNotPrintedTwice) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  Child child([&] {
    ::dup2(pipe[1], STDOUT_FILENO);
    std::printf("once\n");  // into a buffer, for this is no terminal
    const int code = run_shards({.count = 2, .crashes_max = 1}, [](Shard&) { throw std::runtime_error("enough"); });
    std::fflush(stdout);
    return code;
  });
  ::close(pipe[1]);
  static_cast<void>(child.wait());
  std::array<char, 100> text{};
  const ssize_t count = ::read(pipe[0], text.data(), text.size());
  EXPECT_EQ(std::string(text.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 0))), "once\n");
  ::close(pipe[0]);
}

}  // namespace
}  // namespace bight
