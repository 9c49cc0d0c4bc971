// SPDX-License-Identifier: Apache-2.0
// What the supervisor sees of its workers: that they hang, do not start, have served enough, count.
#include <sched.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <string>

#include <gtest/gtest.h>

#include <bight/fiber.hpp>
#include <bight/shards.hpp>
#include <bight/stop.hpp>
#include <bight/time.hpp>

#include "child.hpp"
#include "shards/hang_watch.hpp"
#include "supervised.hpp"

#if defined(BIGHT_TSAN)
// A worker that hangs lists its fibers in a handler of SIGABRT, which takes memory: abort_dump.cpp says why.
extern "C" const char* __tsan_default_options() { return "report_signal_unsafe=0"; }  // NOLINT
#endif

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::Child;
using test::describe;
using test::Reports;
using test::serve_until_stop;
using test::Supervised;
using test::two_shards;

ShardOptions one_watched() {
  ShardOptions options = two_shards();
  options.count = 1;
  options.hang_timeout = 200ms;
  return options;
}

// reliability 4: a watchdog for stuck workers
TEST(ShardWatch, AHungWorkerSaysWhereAndIsReplaced) {
  const test::SharedCounter started;
  Supervised supervised(one_watched(), [&](Shard& shard, const Reports& reports) {
    reports.tell("began", shard.index());
    if ((*started)++ == 0) {
      spawn({.name = "innocent"}, [] { sleep_for(1h); }).detach();
      auto guilty = spawn({.name = "guilty"}, [] {
        for (;;) ::pause();
      });
      guilty.join();
    }
    wait_for_stop();
  });
  const auto first = supervised.reports.expect("began");
  EXPECT_NE(supervised.reports.expect("began").pid, first.pid);
  const auto ended = supervised.stop();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_TRUE(ended.says("hangs: its loop has not turned for 200 ms; it is aborted")) << describe(ended);
  EXPECT_TRUE(ended.says("this shard hangs in fiber 'guilty'")) << describe(ended);
  EXPECT_TRUE(ended.says("'innocent' parked")) << describe(ended);
  EXPECT_TRUE(ended.says("hung for 200 ms and was aborted (was killed by SIGABRT")) << describe(ended);
}

TEST(ShardWatch, OneThatDoesNotEvenAbortIsKilled) {
  const test::SharedCounter started;
  ShardOptions options = one_watched();
  options.abort_grace = 50ms;
  Supervised supervised(options, [&](Shard& shard, const Reports& reports) {
    reports.tell("began", shard.index());
    if ((*started)++ == 0) {
      ::signal(SIGABRT, SIG_IGN);
      for (;;) ::pause();
    }
    wait_for_stop();
  });
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  const auto ended = supervised.stop();
  EXPECT_TRUE(ended.says("did not end within the grace it had and is killed")) << describe(ended);
  EXPECT_TRUE(ended.says("hung for 200 ms and was aborted (was killed by SIGKILL)")) << describe(ended);
}

// Neither one that has nothing to do nor one that always has.
TEST(ShardWatch, IdleAndBusyWorkersDoNotHang) {
  ShardOptions options = one_watched();
  options.count = 2;
  Supervised supervised(options, [](Shard& shard, const Reports& reports) {
    reports.tell("began", shard.index());
    if (shard.index() == 0) {
      for (const TimePoint end = now() + 1s; now() < end;) yield();
      reports.tell("busy", shard.index());
    }
    wait_for_stop();
  });
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  supervised.reports.expect("busy");
  const auto ended = supervised.stop();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_EQ(ended.errors, "");
}

// Stopped by a debugger or by hand: that is no hang, however long it takes.
TEST(ShardWatch, AStoppedWorkerIsLeftAlone) {
  const test::SharedCounter turns;
  Supervised supervised(one_watched(), [&](Shard& shard, const Reports& reports) {
    reports.tell("began", shard.index());
    for (;;) {
      ++*turns;
      yield();
    }
  });
  const auto worker = supervised.reports.expect("began");
  ::kill(worker.pid, SIGSTOP);
  pollfd nothing{-1, 0, 0};
  ::poll(&nothing, 1, 1000);
  const int before = *turns;
  ::kill(worker.pid, SIGCONT);
  for (const TimePoint end = now() + 20s; *turns == before && now() < end;) ::sched_yield();
  EXPECT_NE(*turns, before) << "it goes on";
  const auto ended = supervised.stop(SIGQUIT);
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_EQ(ended.errors, "");
}

TEST(ShardWatch, TimeThatTheSupervisorSleptThroughDoesNotCount) {
  detail::HangWatch watch;
  TimePoint time = now();
  constexpr Duration kLimit = 800ms;
  const auto look = [&](std::uint64_t beat, Duration later) {
    time += later;
    return watch.look(beat, time, kLimit);
  };
  EXPECT_FALSE(look(7, 0ms));
  for (int i = 0; i < 7; ++i) EXPECT_FALSE(look(7, 100ms)) << i;
  EXPECT_FALSE(look(7, 1h)) << "the machine slept";
  for (int i = 0; i < 7; ++i) EXPECT_FALSE(look(7, 100ms)) << i;
  EXPECT_TRUE(look(7, 100ms));
  EXPECT_FALSE(look(9, 100ms)) << "it turns";
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(look(8, 100ms)) << "it waits for the system";
}

TEST(ShardWatch, AServiceThatNeverStartsIsAnError) {
  ShardOptions options = two_shards();
  options.boots_max = 3;
  Supervised supervised(options, [](Shard& shard, const Reports& reports) {
    reports.tell("began", shard.index());
    throw std::runtime_error("no such file: config");
  });
  const auto ended = supervised.child.wait();
  EXPECT_TRUE(ended.with(1)) << describe(ended);
  EXPECT_TRUE(
      ended.says("ended with status 1 before it was ready, the 3th time in a row, and no other shard is ready: "
                 "giving up"))
      << describe(ended);
}

TEST(ShardWatch, OneThatDoesNotStartIsTriedAgainWhileOthersServe) {
  ShardOptions options = two_shards();
  options.boots_max = 3;
  Supervised supervised(options, [](Shard& shard, const Reports& reports) {
    if (shard.index() == 0) return serve_until_stop(shard, reports);
    reports.tell("failed", shard.index());
    throw std::runtime_error("no");
  });
  int failed = 0;
  bool began = false;
  while (failed < 6 || !began) {
    const auto report = supervised.reports.next();
    ASSERT_NE(report.what, "nothing");
    ASSERT_NE(report.what, "end");
    began |= report.what == "began";
    failed += report.what == "failed" && began ? 1 : 0;
  }
  supervised.send(SIGTERM);
  supervised.reports.rest();
  EXPECT_TRUE(WIFEXITED(supervised.child.wait().status));
}

TEST(ShardWatch, WhoHasNoLoopInTimeIsAborted) {
  const test::SharedCounter started;
  ShardOptions options = two_shards();
  options.count = 1;
  options.ready_timeout = 100ms;
  options.after_fork = [&](Shard&) {
    if ((*started)++ != 0) return;
    for (;;) ::pause();
  };
  Supervised supervised(options, serve_until_stop);
  supervised.reports.expect("began");
  const auto ended = supervised.stop();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_TRUE(ended.says("shard 0 is not ready after 100 ms, it has not even a loop; it is aborted"))
      << describe(ended);
}

TEST(ShardWatch, ASuccessorThatFailsIsTriedAgain) {
  const test::SharedCounter started;
  ShardOptions options = two_shards();
  options.count = 1;
  options.requests_max = 1;
  options.back_off_max = 10ms;
  options.hang_timeout = 0s;
  Supervised supervised(options, [&](Shard& shard, const Reports& reports) {
    const int before = (*started)++;
    reports.tell("began", shard.index());
    if (before == 0) this_shard::note_request();
    if (before == 1) ::_exit(3);
    wait_for_stop();
    reports.tell(before == 0 ? "drained" : "stopped", shard.index());
  });
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  supervised.reports.expect("drained");
  EXPECT_TRUE(supervised.stop().with(0));
}

// gunicorn's max_requests: the successor comes first.
TEST(ShardWatch, WhoHasServedEnoughIsReplaced) {
  ShardOptions options = two_shards();
  options.requests_max = 50;
  options.requests_jitter = 50;
  Supervised supervised(options, [](Shard& shard, const Reports& reports) {
    reports.tell("began", shard.index());
    spawn([] { wait_for_stop(); }).detach();  // so that a stop is a request
    int served = 0;
    while (!stop_requested() && served < 150) {
      this_shard::note_request();
      ++served;
      sleep_for(1ms);
    }
    wait_for_stop();
    reports.tell(served >= 50 ? "drained" : "early", shard.index());
  });
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  std::size_t drained = 0;
  while (drained < 4) {
    const auto report = supervised.reports.next();
    ASSERT_TRUE(report.what == "began" || report.what == "drained") << report.what;
    drained += report.what == "drained" ? 1 : 0;
  }
  const auto ended = supervised.stop();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_EQ(ended.errors, "");
}

TEST(ShardWatch, HooksAreCalledInOrder) {
  Reports events;
  ShardOptions options = two_shards();
  options.count = 1;
  options.on_start = [&] { events.tell("start", 0); };
  options.before_fork = [&](std::size_t index) { events.tell("before_fork", index); };
  options.after_fork = [&](Shard& shard) { events.tell("after_fork", shard.index()); };
  options.on_ready = [&] { events.tell("ready", 0); };
  options.on_worker_exit = [&](const WorkerExit& exit) {
    events.tell(exit.expected ? "expected" : "crash", exit.index);
  };
  options.on_drain = [&] { events.tell("drain", 0); };
  Supervised supervised(options, [&](Shard& shard, const Reports& reports) {
    events.tell("main", shard.index());
    serve_until_stop(shard, reports);
  });
  events.close_write_end();
  for (const char* what : {"start", "before_fork", "after_fork", "main", "ready"}) events.expect(what);
  ::kill(supervised.reports.expect("began").pid, SIGKILL);
  for (const char* what : {"crash", "before_fork", "after_fork", "main"}) events.expect(what);
  supervised.reports.expect("began");
  supervised.send(SIGTERM);
  for (const char* what : {"drain", "expected", "end"}) events.expect(what);
  EXPECT_TRUE(supervised.child.wait().with(0));
}

TEST(ShardWatch, PinnedWorkersHaveOneProcessorEach) {
  ShardOptions options = two_shards();
  options.pin_cpus = true;
  Supervised supervised(options, [](Shard& shard, const Reports& reports) {
    reports.tell(cpu_count() == 1 ? "pinned" : "free", static_cast<std::size_t>(::sched_getcpu()));
    serve_until_stop(shard, reports);
  });
  for (int began = 0, pinned = 0; began < 2 || pinned < 2;) {
    const auto report = supervised.reports.next();
    ASSERT_TRUE(report.what == "pinned" || report.what == "began") << report.what;
    (report.what == "pinned" ? pinned : began)++;
  }
  EXPECT_TRUE(supervised.stop().with(0));
}

}  // namespace
}  // namespace bight
