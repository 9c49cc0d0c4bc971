// SPDX-License-Identifier: Apache-2.0
// What signals to the supervisor do: reload, more and fewer workers, quick stops, reports.
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <bight/fiber.hpp>
#include <bight/shards.hpp>
#include <bight/stop.hpp>
#include <bight/time.hpp>

#include "child.hpp"
#include "supervised.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::Child;
using test::describe;
using test::Reports;
using test::serve_until_stop;
using test::Supervised;
using test::two_shards;

struct Tally {
  int began = 0;
  int drained = 0;
};

Tally tally(const std::vector<Reports::Report>& reports) {
  Tally result;
  for (const auto& each : reports) {
    result.began += each.what == "began" ? 1 : 0;
    result.drained += each.what == "drained" ? 1 : 0;
  }
  return result;
}

// parity 48, reliability 3: the new one is ready before the old one is told to go; one seat after the other.
TEST(ShardSignals, HangupReplacesEachWorkerByOneThatIsReady) {
  Supervised supervised(two_shards(), serve_until_stop);
  std::map<std::size_t, pid_t> first;
  for (int i = 0; i < 2; ++i) {
    const auto report = supervised.reports.expect("began");
    first[report.index] = report.pid;
  }
  supervised.send(SIGHUP);
  std::set<pid_t> drained;
  std::map<std::size_t, pid_t> second;
  for (int i = 0; i < 4; ++i) {
    const auto report = supervised.reports.next();
    if (report.what == "began") {
      second[report.index] = report.pid;
      continue;
    }
    EXPECT_EQ(report.what, "drained");
    EXPECT_TRUE(second.contains(report.index)) << "told to go before there was another";
    EXPECT_EQ(first[report.index], report.pid);
    drained.insert(report.pid);
  }
  EXPECT_EQ(drained.size(), 2U);
  EXPECT_EQ(second.size(), 2U);
  const auto ended = supervised.stop();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_EQ(ended.errors, "");
}

TEST(ShardSignals, AnOldWorkerKnowsThatOthersGoOn) {
  ShardOptions options = two_shards();
  options.count = 1;
  Supervised supervised(options, [](Shard& shard, const Reports& reports) {
    reports.tell("began", shard.index());
    wait_for_stop();
    reports.tell(this_shard::is_retiring() ? "retires" : "stops", shard.index());
  });
  const auto first = supervised.reports.expect("began");
  supervised.send(SIGHUP);
  const auto second = supervised.reports.expect("began");
  EXPECT_EQ(supervised.reports.expect("retires").pid, first.pid);
  supervised.send(SIGTERM);
  EXPECT_EQ(supervised.reports.expect("stops").pid, second.pid);
  EXPECT_TRUE(supervised.child.wait().with(0));
}

// reliability 3: 10 000 SIGHUP/s are one reload at a time.
TEST(ShardSignals, AStormOfHangupsIsOneReloadAfterTheOther) {
  ShardOptions options = two_shards();
  Reports events;
  options.on_reload = [&] { events.tell("reload", 0); };
  Supervised supervised(options, serve_until_stop);
  events.close_write_end();
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  int sent = 0;
  for (const TimePoint end = now() + 300ms; now() < end; ++sent) supervised.send(SIGHUP);
  const auto ended = supervised.stop();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_EQ(ended.errors, "");
  const auto reloads = static_cast<int>(events.rest().size());
  EXPECT_GE(reloads, 1);
  EXPECT_LE(reloads, sent);
  const Tally seen = tally(supervised.reports.rest());
  EXPECT_LE(seen.began, 2 * reloads) << "one successor for each seat and reload";
}

// ... and none is lost: one that comes while another is under way is made after it, however many come.
TEST(ShardSignals, HangupsDuringAReloadAreOneMore) {
  ShardOptions options = two_shards();
  options.count = 1;
  Reports events;
  options.on_reload = [&] { events.tell("reload", 0); };
  const test::SharedCounter started;
  const test::SharedCounter go;
  Supervised supervised(options, [&](Shard& shard, const Reports& reports) {
    const int before = (*started)++;  // not after the report, on which another one is started
    reports.tell("began", shard.index());
    if (before == 1) {
      while (*go == 0) sleep_for(1ms);
    }
    wait_for_stop();
    reports.tell("drained", shard.index());
  });
  events.close_write_end();
  supervised.reports.expect("began");
  supervised.send(SIGHUP);
  supervised.reports.expect("began");
  for (int i = 0; i < 3; ++i) supervised.send(SIGHUP);
  events.expect("reload");
  *go = 1;
  events.expect("reload");
  std::set<pid_t> drained;
  while (drained.size() < 2) {
    const auto report = supervised.reports.next();
    ASSERT_NE(report.what, "nothing");
    if (report.what == "drained") drained.insert(report.pid);
  }
  EXPECT_TRUE(supervised.stop().with(0));
  EXPECT_EQ(events.rest().size(), 0U);
}

TEST(ShardSignals, AFailingReloadHookLeavesAllAsItIs) {
  ShardOptions options = two_shards();
  options.on_reload = [] { throw std::runtime_error("a bad line 3"); };
  Supervised supervised(options, serve_until_stop);
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  supervised.send(SIGHUP);
  supervised.send(SIGTTIN);  // behind it
  supervised.reports.expect("began");
  const auto ended = supervised.stop();
  EXPECT_TRUE(ended.says("no reload, on_reload failed: std::runtime_error: a bad line 3")) << describe(ended);
  EXPECT_EQ(tally(supervised.reports.rest()).drained, 3);
}

/// Workers of which the ones after the first `good` behave as `then` says.
std::function<void(Shard&, const Reports&)> good_and_then(std::atomic<int>& started, int good,
                                                          const std::function<void()>& then) {
  return [&started, good, then](Shard& shard, const Reports& reports) {
    const int before = started++;
    reports.tell("began", shard.index());
    if (before >= good) then();
    wait_for_stop();
    reports.tell("drained", shard.index());
  };
}

TEST(ShardSignals, ASuccessorThatCrashesLeavesTheOldOneAtWork) {
  const test::SharedCounter started;
  ShardOptions options = two_shards();
  Reports events;
  options.on_worker_exit = [&](const WorkerExit& exit) { events.tell("exit", exit.index); };
  Supervised supervised(options, good_and_then(*started, 2, [] { ::_exit(3); }));
  events.close_write_end();
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  supervised.send(SIGHUP);
  supervised.reports.expect("began");
  events.expect("exit");
  const auto ended = supervised.stop();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_TRUE(ended.says("the new shard 0 ended with status 3 before it was ready; the old one goes on"))
      << describe(ended);
  const Tally rest = tally(supervised.reports.rest());
  EXPECT_EQ(rest.began, 0) << "the reload is called off";
  EXPECT_EQ(rest.drained, 2);
}

// There is nothing else that would have the supervisor look again.
TEST(ShardSignals, AFailedReloadIsFollowedByTheNextAtOnce) {
  const test::SharedCounter started;
  const test::SharedCounter go;
  ShardOptions options = two_shards();
  options.count = 1;
  options.hang_timeout = 0s;
  Supervised supervised(options, [&](Shard& shard, const Reports& reports) {
    const int before = (*started)++;
    reports.tell("began", shard.index());
    if (before == 1) {
      while (*go == 0) sleep_for(1ms);
      ::_exit(3);
    }
    wait_for_stop();
  });
  supervised.reports.expect("began");
  supervised.send(SIGHUP);
  supervised.reports.expect("began");
  supervised.send(SIGHUP);
  supervised.send(SIGTTIN);  // behind it
  EXPECT_EQ(supervised.reports.expect("began").index, 1U);
  *go = 1;
  EXPECT_EQ(supervised.reports.expect("began").index, 0U);
  EXPECT_TRUE(supervised.stop().with(0));
}

TEST(ShardSignals, ASuccessorThatIsNeverReadyLeavesTheOldOneAtWork) {
  const test::SharedCounter started;
  ShardOptions options = two_shards();
  options.count = 1;
  options.ready_timeout = 50ms;
  Reports events;
  options.on_worker_exit = [&](const WorkerExit& exit) { events.tell("exit", exit.index); };
  Supervised supervised(options, good_and_then(*started, 1, [] { sleep_for(1h); }));
  events.close_write_end();
  supervised.reports.expect("began");
  supervised.send(SIGHUP);
  supervised.reports.expect("began");
  events.expect("exit");
  const auto ended = supervised.stop();
  EXPECT_TRUE(ended.says("the new shard 0 was not ready in time; the old one goes on")) << describe(ended);
  EXPECT_EQ(tally(supervised.reports.rest()).drained, 1);
}

TEST(ShardSignals, OneMoreAndOneLess) {
  Supervised supervised(two_shards(), serve_until_stop);
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  supervised.send(SIGTTIN);
  const auto third = supervised.reports.expect("began");
  EXPECT_EQ(third.index, 2U);
  supervised.send(SIGTTOU);
  EXPECT_EQ(supervised.reports.expect("drained").pid, third.pid) << "the last one goes";
  supervised.send(SIGTTOU);
  EXPECT_EQ(supervised.reports.expect("drained").index, 1U);
  supervised.send(SIGTTOU);  // that one stays
  supervised.send(SIGHUP);
  supervised.reports.expect("began");
  supervised.reports.expect("drained");
  supervised.send(SIGTTIN);
  EXPECT_EQ(supervised.reports.expect("began").index, 1U) << "a closed seat is taken again";
  const auto ended = supervised.stop();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

TEST(ShardSignals, NoMoreThanTheMaximum) {
  ShardOptions options = two_shards();
  options.count_max = 2;
  Supervised supervised(options, serve_until_stop);
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  supervised.send(SIGTTIN);
  supervised.send(SIGHUP);  // behind it
  supervised.reports.expect("began");
  const auto ended = supervised.stop();
  EXPECT_TRUE(ended.says("no shard is added: there are count_max already")) << describe(ended);
}

/// In no hurry to drain.
void drain_for_long(Shard& shard, const Reports& reports) {
  struct Note {
    Shard& shard;
    const Reports& reports;
    ~Note() { reports.tell("unwound", shard.index()); }
  } note{shard, reports};
  reports.tell("began", shard.index());
  wait_for_stop();
  reports.tell("draining", shard.index());
  sleep_for(1h);
}

TEST(ShardSignals, QuitCancelsAtOnce) {
  Supervised supervised(two_shards(), drain_for_long);
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  supervised.send(SIGQUIT);
  for (int unwound = 0; unwound < 2;) unwound += supervised.reports.next().what == "unwound" ? 1 : 0;
  const auto ended = supervised.child.wait();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

TEST(ShardSignals, ASecondInterruptIsAQuickStop) {
  Supervised supervised(two_shards(), drain_for_long);
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  supervised.send(SIGINT);
  supervised.reports.expect("draining");
  supervised.reports.expect("draining");
  supervised.send(SIGINT);
  supervised.reports.expect("unwound");
  supervised.reports.expect("unwound");
  const auto ended = supervised.child.wait();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

TEST(ShardSignals, WhoDoesNotQuitIsKilled) {
  ShardOptions options = two_shards();
  options.quit_grace = 50ms;
  Supervised supervised(options, [](Shard& shard, const Reports& reports) {
    reports.tell("began", shard.index());
    for (;;) ::pause();
  });
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  const auto ended = supervised.stop(SIGQUIT);
  EXPECT_TRUE(ended.with(1)) << describe(ended);
  EXPECT_TRUE(ended.says("did not end within the grace it had and is killed")) << describe(ended);
}

TEST(ShardSignals, WorkersDoNotMindTheSupervisorsSignals) {
  ShardOptions options = two_shards();
  options.count = 1;
  Supervised supervised(options, [](Shard& shard, const Reports& reports) {
    for (const int signal : {SIGHUP, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU}) ::raise(signal);
    serve_until_stop(shard, reports);
  });
  supervised.reports.expect("began");
  const auto ended = supervised.stop();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_EQ(ended.errors, "");
}

TEST(ShardSignals, User1ReportsAndReopensLogs) {
  ShardOptions options = two_shards();
  options.counters = {"apples"};
  Reports reopened;
  options.on_reopen_logs = [&] { reopened.tell("reopened", 0); };
  Supervised supervised(options, [](Shard& shard, const Reports& reports) {
    set_log_level(LogLevel::info);
    this_shard::note_accepted();
    this_shard::note_request();
    this_shard::counter(0) += 20 + shard.index();
    serve_until_stop(shard, reports);
  });
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  supervised.send(SIGUSR1);
  std::set<pid_t> who;
  for (int i = 0; i < 3; ++i) who.insert(reopened.expect("reopened").pid);
  EXPECT_EQ(who.size(), 3U);
  EXPECT_TRUE(who.contains(supervised.child.pid()));
  EXPECT_TRUE(supervised.stop().with(0));
}

}  // namespace
}  // namespace bight
