// SPDX-License-Identifier: Apache-2.0
// parity rows 53 and 54: ten processes write into a dict and append to a list.
#include <bight/manager.hpp>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/fiber.hpp>
#include <bight/process.hpp>
#include <bight/process_pool.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>

#include "build.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::on_loop;

template <class Body>
void on_real_loop(Body&& body) {
  on_loop([&] {
    if (test::on_sim()) GTEST_SKIP() << "there are no processes in a simulated world";
    body();
    EXPECT_NE(::waitid(P_ALL, 0, nullptr, WEXITED | WNOHANG | WNOWAIT), 0) << "a child is left";
  });
}

TEST(Manager, TenProcessesShareADictAndAList) {
  on_real_loop([] {
    const Manager manager;
    auto dict = manager.dict<int, int>("pids");
    auto list = manager.list<int>("numbers");
    for (int i = 0; i < 5; ++i) list.append(i);
    std::vector<Process> children;
    for (int i = 0; i < 10; ++i) {
      children.emplace_back([&] {
        dict.set(::getpid(), ::getpid());
        list.append(::getpid());
      });
    }
    for (Process& each : children) {
      each.join();
      EXPECT_EQ(each.exit_code(), 0);
    }
    EXPECT_EQ(dict.size(), 10U);
    EXPECT_EQ(list.size(), 15U);
    for (const auto& [key, value] : dict.snapshot()) EXPECT_EQ(key, value);
    for (const Process& each : children) EXPECT_TRUE(dict.contains(each.pid()));
  });
}

TEST(Manager, IsNotSupportedInASimulatedWorld) {
  on_loop([] {
    if (!test::on_sim()) GTEST_SKIP() << "this is a real one";
    EXPECT_THROW(const Manager manager, std::system_error);
  });
}

TEST(Manager, ADict) {
  on_real_loop([] {
    const Manager manager;
    auto dict = manager.dict<std::string, std::vector<int>>("d");
    EXPECT_EQ(dict.get("a"), std::nullopt);
    EXPECT_TRUE(dict.insert("a", {1}));
    EXPECT_FALSE(dict.insert("a", {2}));
    EXPECT_EQ(dict.get("a"), (std::vector<int>{1}));
    dict.set("b", {});
    EXPECT_EQ(dict.size(), 2U);
    std::vector<std::string> keys = dict.keys();
    std::sort(keys.begin(), keys.end());
    EXPECT_EQ(keys, (std::vector<std::string>{"a", "b"}));
    const auto longer = [](std::optional<std::vector<int>> old) {
      std::vector<int> next = old.value_or(std::vector<int>{});
      next.push_back(9);
      return next;
    };
    EXPECT_EQ(dict.update("a", longer), (std::vector<int>{1, 9}));
    EXPECT_EQ(dict.update("new", longer), (std::vector<int>{9}));
    EXPECT_EQ(dict.pop("a"), (std::vector<int>{1, 9}));
    EXPECT_EQ(dict.pop("a"), std::nullopt);
    EXPECT_TRUE(dict.erase("new"));
    EXPECT_FALSE(dict.erase("new"));
    dict.clear();
    EXPECT_EQ(dict.size(), 0U);
  });
}

TEST(Manager, AList) {
  on_real_loop([] {
    const Manager manager;
    auto list = manager.list<std::string>("l");
    EXPECT_EQ(list.pop(), std::nullopt);
    EXPECT_EQ(list.append("a"), 0U);
    EXPECT_EQ(list.append("b"), 1U);
    EXPECT_EQ(list.get(1), "b");
    list.set(0, "c");
    EXPECT_EQ(list.update(0, [](const std::string& old) { return old + old; }), "cc");
    EXPECT_EQ(list.snapshot(), (std::vector<std::string>{"cc", "b"}));
    EXPECT_THROW(static_cast<void>(list.get(2)), std::out_of_range);
    EXPECT_THROW(list.set(2, "x"), std::out_of_range);
    EXPECT_THROW(list.update(2, [](const std::string& old) { return old; }), std::out_of_range);
    EXPECT_EQ(list.pop(), "b");
    EXPECT_EQ(list.size(), 1U);
    list.clear();
    EXPECT_EQ(list.size(), 0U);
  });
}

TEST(Manager, AValueAndACounter) {
  on_real_loop([] {
    const Manager manager;
    auto value = manager.value<std::string>("v", "first");
    EXPECT_EQ(value.get(), "first");
    value.set("second");
    EXPECT_EQ(manager.value<std::string>("v", "not this one").get(), "second") << "the same name, the same value";
    EXPECT_EQ(value.update([](const std::string& old) { return old + "!"; }), "second!");
    auto counter = manager.counter("c");
    EXPECT_EQ(counter.add(), 1);
    EXPECT_EQ(counter.add(-5), -4);
    counter.set(10);
    EXPECT_EQ(counter.get(), 10);
    EXPECT_THROW(static_cast<void>(manager.list<int>("v")), std::invalid_argument);
    EXPECT_THROW(static_cast<void>((manager.dict<int, int>("c"))), std::invalid_argument);
  });
}

// No update is lost: who was slower tries again.
TEST(Manager, UpdatesOfManyProcessesAndFibersAddUp) {
  on_real_loop([] {
    const Manager manager;
    auto dict = manager.dict<int, int>("d");
    auto counter = manager.counter("c");
    const int rounds = test::this_many(50, 5);
    const auto work = [&] {
      Scope scope;
      for (int fiber = 0; fiber < 4; ++fiber) {
        scope.spawn([&] {
          for (int i = 0; i < rounds; ++i) {
            dict.update(1, [](std::optional<int> old) { return old.value_or(0) + 1; });
            counter.add(2);
          }
        });
      }
      scope.join();
    };
    std::vector<Process> children;
    for (int i = 0; i < 3; ++i) children.emplace_back(work);
    work();
    for (Process& each : children) each.join();
    EXPECT_EQ(dict.get(1), 16 * rounds);
    EXPECT_EQ(counter.get(), 32 * rounds);
  });
}

TEST(Manager, AKilledClientHoldsUpNobody) {
  on_real_loop([] {
    const Manager manager;
    auto dict = manager.dict<int, int>("d");
    for (int round = 0; round < test::this_many(10, 3); ++round) {
      Process child([&] {
        for (;;) dict.update(1, [](std::optional<int> old) { return old.value_or(0) + 1; });
      });
      while (dict.get(1).value_or(0) <= round) yield();
      child.kill();
      child.join();
      EXPECT_GT(dict.update(1, [](std::optional<int> old) { return old.value_or(0) + 1; }), round);
    }
    while (manager.stats().clients != 1) sleep_for(1ms);
  });
}

TEST(Manager, ADeadServerIsAnErrorAndNoHang) {
  on_real_loop([] {
    const Manager manager;
    auto dict = manager.dict<int, int>("d");
    dict.set(1, 1);
    ::kill(manager.pid(), SIGKILL);
    // The server may still answer a request or two.
    EXPECT_THROW(
        {
          for (;;) dict.set(2, 2);
        },
        ManagerGone);
    EXPECT_THROW(static_cast<void>(dict.get(1)), ManagerGone);
    EXPECT_THROW(static_cast<void>(manager.counter("new")), ManagerGone);
    Process child([&] {
      try {
        dict.set(1, 1);
      } catch (const ManagerGone&) {
        return 7;
      }
      return 0;
    });
    child.join();
    EXPECT_EQ(child.exit_code(), 7);
  });
}

TEST(Manager, LimitsHaveNames) {
  on_real_loop([] {
    const Manager manager({.clients_max = 2, .message_max = 10'000, .memory_max = 20'000});
    auto list = manager.list<std::string>("l");
    const auto error_of = [](auto&& call) {
      try {
        call();
      } catch (const std::system_error& error) {
        return std::pair(error.code(), std::string(error.what()));
      }
      return std::pair(std::error_code(), std::string());
    };
    const auto [large, large_text] = error_of([&] { list.append(std::string(20'000, 'x')); });
    EXPECT_EQ(large, std::errc::message_size) << large_text;
    const auto [full, full_text] = error_of([&] {
      for (;;) list.append(std::string(3'000, 'x'));
    });
    EXPECT_EQ(full, std::errc::not_enough_memory);
    EXPECT_NE(full_text.find("memory_max"), std::string::npos) << full_text;
    EXPECT_GT(list.size(), 3U);
    const auto [snapshot, snapshot_text] = error_of([&] { static_cast<void>(list.snapshot()); });
    EXPECT_EQ(snapshot, std::errc::message_size) << snapshot_text;
    list.clear();
    EXPECT_LT(manager.stats().memory, 1'000U);
    list.append("it goes on");

    Process second([&] {
      list.append("second");
      sleep_for(1h);
    });
    while (list.size() < 2) yield();
    Process third([&] {
      try {
        list.append("third");
      } catch (const std::system_error& error) {
        return error.code() == std::errc::too_many_files_open ? 3 : 4;
      }
      return 0;
    });
    third.join();
    EXPECT_EQ(third.exit_code(), 3);
    second.kill();
    second.join();
  });
}

TEST(Manager, AServerWithoutDescriptorsKeepsItsClients) {
  on_real_loop([] {
    const Manager manager;
    auto dict = manager.dict<int, int>("d");
    dict.set(1, 1);
    rlimit before{};
    const auto limit = [&](rlim_t most) {
      const rlimit limits{most, before.rlim_max};
      ASSERT_EQ(::prlimit(manager.pid(), RLIMIT_NOFILE, &limits, nullptr), 0);
    };
    ASSERT_EQ(::prlimit(manager.pid(), RLIMIT_NOFILE, nullptr, &before), 0);
    EXPECT_GE(before.rlim_cur, std::min<rlim_t>(1024 + 10, before.rlim_max));  // for clients_max
    const auto ask = [&] {
      try {
        return dict.get(1).value();
      } catch (const ManagerGone&) {
        return 7;
      }
    };
    limit(3);
    Process refused(ask);
    refused.join();
    EXPECT_EQ(refused.exit_code(), 7);
    EXPECT_EQ(dict.get(1), 1);
    limit(before.rlim_cur);
    Process welcome(ask);
    welcome.join();
    EXPECT_EQ(welcome.exit_code(), 1);
  });
}

TEST(Manager, ACancelledRequestDoesNotUpsetTheNext) {
  on_real_loop([] {
    const Manager manager;
    auto dict = manager.dict<int, std::string>("d");
    dict.set(1, std::string(100'000, 'x'));
    for (int i = 0; i < test::this_many(200, 20); ++i) {
      auto asking = spawn([&] { static_cast<void>(dict.get(1)); });
      for (int turns = i % 5; turns > 0; --turns) yield();
      asking.cancel();
      asking.join();
      EXPECT_EQ(dict.get(2), std::nullopt);
    }
  });
}

TEST(Manager, WorkersOfAPoolMayUseIt) {
  on_real_loop([] {
    static Manager* shared = nullptr;
    Manager manager;
    shared = &manager;
    ProcessPool pool({.workers = 2});
    std::vector<int> numbers{1, 2, 3, 4, 5, 6, 7, 8};
    pool.map(numbers, [](int number) { shared->counter("sum").add(number); });
    EXPECT_EQ(manager.counter("sum").get(), 36);
  });
}

TEST(Manager, SigtermAndSigintDoNotEndTheServer) {
  on_real_loop([] {
    const Manager manager;
    auto counter = manager.counter("c");
    ::kill(manager.pid(), SIGTERM);
    ::kill(manager.pid(), SIGINT);
    EXPECT_EQ(counter.add(), 1);
  });
}

TEST(Manager, TheServerDiesWithAKilledParent) {
  on_real_loop([] {
    const Manager outer;
    auto pids = outer.list<int>("pids");
    Process parent([&] {
      const Manager inner;
      pids.append(inner.pid());
      sleep_for(1h);
    });
    while (pids.size() == 0) sleep_for(1ms);
    parent.kill();
    parent.join();
    const int pid = pids.get(0);
    while (::kill(pid, 0) == 0) sleep_for(1ms);  // until who inherits it has reaped it
  });
}

TEST(Manager, OutsideALoop) {
  const Manager manager({.run = {.engine = EngineChoice::epoll}});
  auto dict = manager.dict<int, int>("d");
  dict.set(1, 2);
  EXPECT_EQ(dict.get(1), 2);
}

}  // namespace
}  // namespace bight
