// SPDX-License-Identifier: Apache-2.0
// parity 46: test_sentinel, test_terminate, test_active_children, test_child_fd_inflation; rows 51 and 55: ten
// processes, each with a thread of its own.
#include <bight/process.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/event.hpp>
#include <bight/fd.hpp>
#include <bight/fd_watch.hpp>
#include <bight/fiber.hpp>
#include <bight/offload.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/select.hpp>
#include <bight/stop.hpp>

#include "build.hpp"
#include "child.hpp"
#include "misuse.hpp"
#include "on_loop.hpp"
#include "socket_pair.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::describe;
using test::in_child;
using test::on_loop;

/// A loop with processes, so not a simulated one.
template <class Body>
void on_real_loop(Body&& body) {
  on_loop([&] {
    if (test::on_sim()) GTEST_SKIP() << "there are no processes in a simulated world";
    body();
  });
}

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
    reader = Fd(ends[0]);
    writer = Fd(ends[1]);
  }
  void put(char byte = 'x') const { [[maybe_unused]] const auto written = ::write(writer.get(), &byte, 1); }
  /// In a fiber: waits for a byte. 0 at the end.
  [[nodiscard]] char get() const {
    if (this_loop::exists()) wait_readable(reader.get());
    char byte = 0;
    [[maybe_unused]] const auto count = ::read(reader.get(), &byte, 1);
    return byte;
  }
  Fd reader;
  Fd writer;
};

/// A T that forked children see, too.
template <class T>
class Shared {
 public:
  Shared() : memory_(::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
    ::new (memory_) T();
  }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  ~Shared() { ::munmap(memory_, sizeof(T)); }
  T& operator*() const noexcept { return *static_cast<T*>(memory_); }
  T* operator->() const noexcept { return static_cast<T*>(memory_); }

 private:
  void* memory_;
};

int open_descriptors() {
  int count = 0;
  DIR* const folder = ::opendir("/proc/self/fd");
  while (::readdir(folder) != nullptr) ++count;
  ::closedir(folder);
  return count;
}

/// Whether this process has a child that nobody has waited for.
bool has_children() { return ::waitid(P_ALL, 0, nullptr, WEXITED | WNOHANG | WNOWAIT) == 0; }

void wait_long() { sleep_for(1h); }

TEST(Process, RunsAFunctionInALoopOfItsOwn) {
  on_real_loop([] {
    const Shared<pid_t> child_pid;
    int touched = 0;
    Process child([&] {
      *child_pid = ::getpid();
      touched = 1;
      Scope scope;
      scope.spawn([] { sleep_for(1ms); });
      scope.join();
      return 7;
    });
    EXPECT_TRUE(child);
    EXPECT_GT(child.pid(), 0);
    child.join();
    EXPECT_EQ(child.exit_code(), 7);
    EXPECT_FALSE(child.is_alive());
    EXPECT_EQ(*child_pid, child.pid());
    EXPECT_NE(*child_pid, ::getpid());
    EXPECT_EQ(touched, 0) << "the child changes its own copy";
    EXPECT_FALSE(has_children());
  });
}

TEST(Process, OutsideALoop) {
  Process child(ProcessOptions{.run = {.engine = EngineChoice::epoll}}, [] {
    sleep_for(1ms);
    return 3;
  });
  child.join();
  EXPECT_EQ(child.exit_code(), 3);
  EXPECT_TRUE(child.join_for(0ms));
  EXPECT_FALSE(has_children());
}

TEST(Process, IsNotSupportedInASimulatedWorld) {
  on_loop([] {
    if (!test::on_sim()) GTEST_SKIP() << "this is a real one";
    std::error_code error;
    const Process none = Process::start(
        {}, [] {}, error);
    EXPECT_EQ(error, std::errc::operation_not_supported);
    EXPECT_FALSE(none);
    try {
      const Process refused(ProcessOptions{.name = "dreamer"}, [] {});
      ADD_FAILURE() << "a process in a simulated world";
    } catch (const std::system_error& refusal) {
      EXPECT_STREQ(refusal.what(),
                   "start process 'dreamer', in a simulated world, where there are none: Operation not supported");
    }
  });
}

TEST(Process, TheLoopGoesOnWhileAFiberJoins) {
  on_real_loop([] {
    const Pipe go;
    Process child([&] { return go.get() == 'x' ? 0 : 1; });
    Scope others;
    others.spawn([&] {
      sleep_for(1ms);
      go.put();
    });
    std::array<bool, 2> joined{};
    for (bool& each : joined) {
      others.spawn([&child, &each] {
        child.join();
        each = true;
      });
    }
    child.join();
    others.join();
    EXPECT_EQ(child.exit_code(), 0);
    EXPECT_TRUE(joined[0] && joined[1]);
  });
}

TEST(Process, JoinForGivesUpInTime) {
  on_real_loop([] {
    Process child(wait_long);
    EXPECT_FALSE(child.try_join());
    const TimePoint start = now();
    EXPECT_FALSE(child.join_for(5ms));
    EXPECT_GE(now() - start, 5ms);
    EXPECT_FALSE(child.exit_code().has_value());
    child.kill();
    child.join();
    EXPECT_EQ(child.exit_code(), -SIGKILL);
    child.kill();  // harmless
    EXPECT_EQ(child.exit_code(), -SIGKILL);
  });
  Process child(ProcessOptions{.run = {.engine = EngineChoice::epoll}}, wait_long);
  EXPECT_FALSE(child.join_for(1ms));
  child.kill();
  child.join();
  EXPECT_EQ(child.exit_code(), -SIGKILL);
}

// Where there were several threads before a fork, and to it each fiber is one, ThreadSanitizer ignores what the child
// does; and in that state it keeps signals for ever.
constexpr const char* kNoSignals = "ThreadSanitizer may keep the signals of a child";

TEST(Process, TerminateCancelsMainAndTheExitCodeSaysSo) {
  if (test::thread_sanitized) GTEST_SKIP() << kNoSignals;
  on_real_loop([] {
    const Shared<std::atomic<bool>> unwound;
    const Pipe ready;
    Process child([&] {
      struct Unwound {
        std::atomic<bool>& flag;
        ~Unwound() { flag = true; }
      } const guard{*unwound};
      ready.put();
      wait_long();
    });
    EXPECT_EQ(ready.get(), 'x');
    child.terminate();
    child.join();
    EXPECT_EQ(child.exit_code(), -SIGTERM);
    EXPECT_TRUE(*unwound);
  });
}

TEST(Process, TerminateAtOnceIsNotLost) {
  if (test::thread_sanitized) GTEST_SKIP() << kNoSignals;
  on_real_loop([] {
    for (int i = 0; i < 10; ++i) {
      Process child(wait_long);
      child.terminate();
      child.join();
      EXPECT_EQ(child.exit_code(), -SIGTERM);
    }
  });
}

TEST(Process, TerminateDrainsWhoWaitsForAStop) {
  if (test::thread_sanitized) GTEST_SKIP() << kNoSignals;
  on_real_loop([] {
    const Pipe ready;
    Process child([&] {
      auto waiting = spawn([] { wait_for_stop(); });
      yield();
      ready.put();
      waiting.join();
      sleep_for(1ms);  // puts things in order
      return 5;
    });
    EXPECT_EQ(ready.get(), 'x');
    child.terminate();
    child.join();
    EXPECT_EQ(child.exit_code(), 5);
  });
}

TEST(Process, AnErrorIsReportedAndTheExitCodeIs1) {
  const auto ended = in_child([] {
    return run(RunOptions{.engine = EngineChoice::epoll}, [] {
      Process child(ProcessOptions{.name = "thrower"}, [] { throw std::runtime_error("no flour"); });
      child.join();
      return child.exit_code() == 1 ? 0 : 1;
    });
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_TRUE(ended.says("process 'thrower' failed: std::runtime_error: no flour")) << describe(ended);
}

TEST(Process, WhatTheParentHasBufferedIsPrintedOnce) {
  const auto ended = in_child([] {
    std::array<char, 256> buffer{};
    std::setvbuf(stderr, buffer.data(), _IOFBF, buffer.size());
    std::fputs("once;", stderr);
    const int code = run(RunOptions{.engine = EngineChoice::epoll}, [] {
      Process child([] { std::fputs("child;", stderr); });
      child.join();
      return child.exit_code().value_or(99);
    });
    std::fflush(stderr);
    return code;
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_EQ(ended.errors.find("once;"), ended.errors.rfind("once;")) << describe(ended);
  EXPECT_TRUE(ended.says("once;child;")) << describe(ended);
}

TEST(Process, NothingOfTheParentRunsInTheChild) {
  on_real_loop([] {
    const Shared<std::atomic<int>> runs;
    const pid_t parent = ::getpid();
    struct Guard {
      std::atomic<int>& counter;
      pid_t mine;
      ~Guard() {
        if (::getpid() != mine) ++counter;
      }
    } const guard{*runs, parent};
    Scope scope;
    scope.spawn([&] {
      yield();
      sleep_for(1ms);
      if (::getpid() != parent) ++*runs;
    });
    Process child([] { sleep_for(5ms); });
    child.join();
    scope.join();
    EXPECT_EQ(*runs, 0);
    EXPECT_EQ(child.exit_code(), 0);
  });
}

TEST(Process, ADestroyedHandleWaitsForTheEnd) {
  on_real_loop([] {
    const Shared<std::atomic<bool>> done;
    {
      const Process child([&] {
        sleep_for(2ms);
        *done = true;
      });
    }
    EXPECT_TRUE(*done);
    EXPECT_FALSE(has_children());
  });
}

TEST(Process, ADaemonIsTerminatedWithItsHandle) {
  on_real_loop([] {
    { const Process child(ProcessOptions{.daemon = true}, wait_long); }
    EXPECT_FALSE(has_children());
  });
}

TEST(Process, OneThatIgnoresSigtermIsKilledInTheEnd) {
  on_real_loop([] {
    const Pipe ready;
    {
      const Process child(ProcessOptions{.daemon = true, .patience = 5ms, .run = {.stop_on_signals = false}}, [&] {
        ::signal(SIGTERM, SIG_IGN);
        ready.put();
        wait_long();
      });
      EXPECT_EQ(ready.get(), 'x');
    }
    EXPECT_FALSE(has_children());
  });
}

TEST(Process, AnExceptionOrACancellationEndsTheChildrenOfABlock) {
  on_real_loop([] {
    EXPECT_THROW(
        {
          const Process child(wait_long);
          throw std::runtime_error("the block is left");
        },
        std::runtime_error);
    EXPECT_FALSE(has_children());
    EXPECT_FALSE(move_on_after(2ms, [] {
      Process child(wait_long);
      child.join();
    }));
    EXPECT_FALSE(has_children());
    auto leaving = spawn([] { const Process child(wait_long); });  // waits in the destructor
    sleep_for(2ms);
    leaving.cancel();
    leaving.join();
    EXPECT_FALSE(has_children());
  });
}

TEST(Process, ADaemonMayHaveNoChildren) {
  on_real_loop([] {
    Process child(ProcessOptions{.daemon = true}, [] {
      if (!this_process::is_daemon()) return 1;
      std::error_code error;
      const Process grandchild = Process::start(
          {}, [] {}, error);
      return error == std::errc::operation_not_permitted ? 0 : 2;
    });
    EXPECT_TRUE(child.is_daemon());
    child.join();
    EXPECT_EQ(child.exit_code(), 0);
    EXPECT_FALSE(this_process::is_daemon());
  });
}

TEST(Process, OthersMay) {
  on_real_loop([] {
    Process child([] {
      Process grandchild([] { return 4; });
      grandchild.join();
      return grandchild.exit_code().value_or(99);
    });
    child.join();
    EXPECT_EQ(child.exit_code(), 4);
  });
}

TEST(Process, DiesWithAKilledParentWhenAskedTo) {
  on_real_loop([] {
    Pipe life;
    Process parent([&] {
      const Process child(ProcessOptions{.daemon = true}, [&] {
        life.put('c');
        wait_long();
      });
      wait_long();
    });
    EXPECT_EQ(life.get(), 'c');
    parent.kill();
    parent.join();
    life.writer.reset();
    EXPECT_EQ(life.get(), 0) << "the last writer is gone";
  });
}

TEST(Process, WaitsForTheFirstOfSeveral) {
  on_real_loop([] {
    const Pipe go;
    Process a(ProcessOptions{.daemon = true}, wait_long);
    Process b([&] { return static_cast<int>(go.get()) - 'x'; });
    const std::array<Process*, 2> both{&a, &b};
    EXPECT_EQ(wait_any_exit(both, now() + 2ms), std::nullopt);
    go.put();
    EXPECT_EQ(wait_any_exit(both), 1U);
    EXPECT_EQ(wait_any_exit(both), 1U);
    EXPECT_EQ(b.exit_code(), 0);
    EXPECT_TRUE(a.is_alive());
  });
}

TEST(Process, TheSentinelIsReadableAtTheEnd) {
  on_real_loop([] {
    const Pipe go;
    Process child([&] { static_cast<void>(go.get()); });
    EXPECT_FALSE(move_on_after(1ms, [&] { wait_readable(child.sentinel()); }));
    go.put();
    wait_readable(child.sentinel());
    EXPECT_EQ(child.exit_code(), 0);
  });
}

TEST(Process, TheEndIsACaseOfSelect) {
  on_real_loop([] {
    const Pipe go;
    Process child([&] { static_cast<void>(go.get()); });
    std::string said;
    select(child.on_exit([&] { said += "ended "; }), after(1ms, [&] { said += "waited "; }));
    go.put();
    select(child.on_exit([&] { said += "ended"; }), after(1h, [&] { said += "waited"; }));
    EXPECT_EQ(said, "waited ended");
    child.join();
  });
}

// What another one waits on ends when the parent closes it, though a child was forked meanwhile; and a child's number
// of descriptors does not grow with its place in the row.
TEST(Process, DescriptorsOfLoopsAreClosedInTheChild) {
  on_real_loop([] {
    const int before = open_descriptors();
    {
      auto pair = test::connect_pair();
      Process first(ProcessOptions{.daemon = true}, wait_long);
      pair.client.close();
      std::array<std::byte, 8> buffer{};
      std::error_code error;
      EXPECT_EQ(pair.server.read(buffer, error), 0U) << "the child has it open";
      EXPECT_FALSE(error);
      Process second([] { return open_descriptors(); });
      Process third([] { return open_descriptors(); });
      second.join();
      third.join();
      EXPECT_EQ(second.exit_code(), third.exit_code());
    }
    EXPECT_EQ(open_descriptors(), before);
  });
}

TEST(Process, SignalsAreAsInAFreshProgram) {
  on_real_loop([] {
    ::signal(SIGUSR1, [](int) {});
    ::sigset_t set;
    ::sigset_t before;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGUSR2);
    ::pthread_sigmask(SIG_BLOCK, &set, &before);
    Process child([] {
      struct sigaction action {};
      ::sigaction(SIGUSR1, nullptr, &action);
      ::sigset_t blocked;
      ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
      return (action.sa_handler == SIG_DFL ? 0 : 1) + (::sigismember(&blocked, SIGUSR2) == 0 ? 0 : 2);
    });
    child.join();
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ::signal(SIGUSR1, SIG_DFL);
    EXPECT_EQ(child.exit_code(), 0);
  });
}

TEST(Process, AnIgnoredSigchldCostsTheExitCodeOnly) {
  const auto ended = in_child([] {
    ::signal(SIGCHLD, SIG_IGN);
    return run(RunOptions{.engine = EngineChoice::epoll}, [] {
      // Real time, not BIGHT_ENGINE's: of one that ends before the first look there may be an exit code after all.
      Process child(ProcessOptions{.run = {.engine = EngineChoice::epoll}}, [] { sleep_for(20ms); });
      child.join();
      return child.exit_code() == 255 ? 0 : 1;
    });
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_TRUE(ended.says("somebody else was told how")) << describe(ended);
}

TEST(Process, ForeignThreadsAreWarnedOfOnceAndOurOwnAreNot) {
  const auto ended = in_child([] {
    return run(RunOptions{.engine = EngineChoice::epoll, .watchdog = 1s}, [] {
      offload([] {});
      Process first([] {});
      first.join();
      std::atomic<bool> stop{false};
      std::thread foreign([&] {
        while (!stop) std::this_thread::yield();
      });
      for (int i = 0; i < 2; ++i) {
        Process next([] {});
        next.join();
      }
      stop = true;
      foreign.join();
    });
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  const std::string warning = "is forked while 1 other thread(s) run";
  EXPECT_TRUE(ended.says(warning.c_str())) << describe(ended);
  EXPECT_EQ(ended.errors.find(warning), ended.errors.rfind(warning)) << describe(ended);
}

TEST(Process, ANameAndANumber) {
  on_real_loop([] {
    Process child(ProcessOptions{.name = "a name that top cuts"}, [] {
      std::array<char, 16> name{};
      ::prctl(PR_GET_NAME, name.data());
      return std::string(name.data()) == "a name that top" ? 0 : 1;
    });
    EXPECT_EQ(child.name(), "a name that top cuts");
    child.join();
    EXPECT_EQ(child.exit_code(), 0);
    Process unnamed([] {});
    EXPECT_EQ(unnamed.name().rfind("process-", 0), 0U);
    EXPECT_EQ(Process().pid(), 0);
  });
}

TEST(Process, TenOfThemEachWithAThread) {
  if (test::thread_sanitized) GTEST_SKIP() << "TSan allows no thread in the child of a process that had several";
  on_real_loop([] {
    std::vector<Process> children;
    for (int i = 0; i < 10; ++i) {
      children.emplace_back([i] {
        int said = 0;
        std::thread thread([&] { said = i; });
        thread.join();
        return said + offload([] { return 100; });
      });
    }
    for (int i = 0; i < 10; ++i) {
      Process& child = children[static_cast<std::size_t>(i)];
      child.join();
      EXPECT_EQ(child.exit_code(), 100 + i);
    }
    EXPECT_FALSE(has_children());
  });
}

TEST(Process, FromCallbacksCoroutinesAndManyFibers) {
  on_real_loop([] {
    Scope scope;
    int sum = 0;
    for (int i = 0; i < 20; ++i) {
      scope.spawn([&sum, i] {
        Process child([i] { return i; });
        child.join();
        sum += child.exit_code().value_or(1000);
      });
    }
    scope.join();
    EXPECT_EQ(sum, 190);
    Process made;
    Event done;
    spawn([] {}).on_done([&] {
      made = Process([] { return 9; });
      done.set();
    });
    done.wait();
    made.join();
    EXPECT_EQ(made.exit_code(), 9);
  });
}

TEST(Process, NoMoreDescriptorsIsAnError) {
  on_real_loop([] {
    const int before = open_descriptors();
    ::rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    const ::rlimit low{std::min<::rlim_t>(limit.rlim_cur, 100), limit.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &low);
    std::vector<Fd> taken;
    for (;;) {
      Fd each(::dup(STDERR_FILENO));
      if (!each) break;
      taken.push_back(std::move(each));
    }
    std::error_code error;
    const Shared<std::atomic<bool>> ran;
    {
      const Process none = Process::start(
          {}, [&] { *ran = true; }, error);
    }
    taken.clear();
    ::setrlimit(RLIMIT_NOFILE, &limit);
    EXPECT_EQ(error, std::errc::too_many_files_open);
    EXPECT_FALSE(*ran);
    EXPECT_EQ(open_descriptors(), before);
    EXPECT_FALSE(has_children());
  });
}

TEST(Process, AThreadWaitsWithoutAnyMoreDescriptors) {
  if (const char* engine = std::getenv("BIGHT_ENGINE"); engine != nullptr && std::string(engine) == "sim")
    GTEST_SKIP() << "no loop, so nothing to simulate";
  const auto ended = in_child([] {
    Pipe go;
    Process child([&] {
      char byte{};
      return ::read(go.reader.get(), &byte, 1) == 1 ? 7 : 1;
    });
    const ::rlimit low{1, 1};  // poll(2) wants room for what it is given
    ::setrlimit(RLIMIT_NOFILE, &low);
    std::error_code error;
    const bool over = child.join_until(now() + 1ms, error);
    if (over || error) throw std::runtime_error(over ? "over" : error.message());
    if (::write(go.writer.get(), "x", 1) != 1) return 2;
    child.join();
    return child.exit_code().value_or(-1);
  });
  EXPECT_TRUE(ended.with(7)) << describe(ended);
}

TEST(Process, MisuseAborts) {
  if (test::thread_sanitized) GTEST_SKIP() << "it takes long";
  test::expect_abort("this Process handle is empty", [] {
    Process none;
    none.join();
  });
}

TEST(Process, AHandleIsNothingToAChild) {
  const auto ended = in_child([] {
    return run(RunOptions{.engine = EngineChoice::epoll}, [] {
      Process sibling(ProcessOptions{.daemon = true}, wait_long);
      Process child([&] { static_cast<void>(sibling.is_alive()); });
      child.join();
      return child.exit_code() == -SIGABRT ? 0 : 1;
    });
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_TRUE(ended.says("a Process is used in a process that did not start it")) << describe(ended);
}

TEST(Process, ManyInARowLeaveNothing) {
  on_real_loop([] {
    Process warm([] {});
    warm.join();
    const int before = open_descriptors();
    for (int i = 0; i < test::this_many(100, 10); ++i) {
      Process child([i] { return i % 50; });
      child.join();
      ASSERT_EQ(child.exit_code(), i % 50);
    }
    EXPECT_EQ(open_descriptors(), before);
    EXPECT_FALSE(has_children());
  });
}

}  // namespace
}  // namespace bight
