// SPDX-License-Identifier: Apache-2.0
// parity 38: subprocesses, test_communicate, test_issue148, test_leak and the timeouts of run.
#include <bight/subprocess.hpp>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/fiber.hpp>
#include <bight/pool.hpp>
#include <bight/scope.hpp>
#include <bight/signal.hpp>
#include <bight/time.hpp>

#include "child.hpp"
#include "misuse.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::describe;
using test::in_child;
using test::on_loop;

using Args = std::vector<std::string>;

std::size_t open_descriptors() {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

/// Whether this process has a child that has ended and has not been waited for.
bool has_zombie() {
  siginfo_t info{};
  return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
}

bool has_child() {
  siginfo_t info{};
  return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

bool exists(pid_t pid) { return ::kill(pid, 0) == 0; }

template <class Condition>
void wait_for_it(Condition condition) {
  while (!condition()) sleep_for(1ms);
}

/// What a shell says to this.
std::string say(const std::string& script, SubprocessOptions options = {}) {
  if (options.out.is_default()) options.out = Redirect::pipe();
  return Subprocess::start({"sh", "-c", script}, options).communicate().out;
}

std::string read_line(Stream& from) {
  std::string line;
  std::byte one{};
  while (from.read(std::span(&one, 1)) == 1 && one != std::byte('\n')) line += static_cast<char>(one);
  return line;
}

/// A folder that goes with the test.
class Folder {
 public:
  Folder() {
    std::string name = std::filesystem::temp_directory_path() / "bight-subprocess-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }
  [[nodiscard]] std::string operator/(const char* name) const { return path_ + "/" + name; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string contents(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Whether a process waits for something.
bool asleep(pid_t pid) { return contents("/proc/" + std::to_string(pid) + "/stat").find(") S") != std::string::npos; }

/// Where there are processes. Each test leaves no descriptor and no zombie behind.
class SubprocessTest : public testing::Test {
 protected:
  void SetUp() override {
    bool sim = false;
    on_loop([&] { sim = test::on_sim(); });
    if (sim) GTEST_SKIP() << "there are no processes in a simulated world";
    before_ = open_descriptors();
  }
  void TearDown() override {
    if (IsSkipped()) return;
    EXPECT_FALSE(has_zombie());
    EXPECT_LE(open_descriptors(), before_ + 1);  // the reaper keeps a bell
  }

 private:
  std::size_t before_ = 0;
};

TEST(SubprocessInASimulatedWorld, CanNotBeStarted) {
  on_loop([] {
    if (!test::on_sim()) GTEST_SKIP() << "this world is real";
    std::error_code error;
    EXPECT_FALSE(Subprocess::start({"true"}, {}, error));
    EXPECT_EQ(error, std::errc::operation_not_supported);
    try {
      static_cast<void>(Subprocess::start({"true"}));
      ADD_FAILURE();
    } catch (const std::system_error& failure) {
      EXPECT_STREQ(failure.what(), "start true: there are no processes in a simulated world: Operation not supported");
    }
  });
}

// --- Beginnings and ends ---------------------------------------------------------------------------------------------

TEST_F(SubprocessTest, RunsAndTellsHowItEnded) {
  on_loop([] {
    EXPECT_TRUE(Subprocess::start({"true"}).wait().success());
    Subprocess three = Subprocess::start({"sh", "-c", "exit 3"});
    EXPECT_GT(three.pid(), 0);
    EXPECT_EQ(three.name(), "sh");
    EXPECT_EQ(three.wait(), ExitStatus::exited(3));
    EXPECT_EQ(three.wait().to_string(), "exited with 3");  // again
    EXPECT_EQ(three.try_wait(), ExitStatus::exited(3));
    const ExitStatus killed = Subprocess::start({"sh", "-c", "kill -KILL $$"}).wait();
    EXPECT_EQ(killed.signal(), SIGKILL);
    EXPECT_EQ(killed.code(), std::nullopt);
    EXPECT_EQ(killed.to_string(), "killed by SIGKILL");
    EXPECT_EQ(killed.shell_code(), 137);
  });
}

TEST_F(SubprocessTest, ArgumentsArriveAsTheyAre) {
  on_loop([] {
    const std::string odd = "a b\n*$HOME'\"\\;&|`x`";
    Subprocess printf = Subprocess::start({"printf", "%s|", "", odd, "--"}, {.out = Redirect::pipe()});
    EXPECT_EQ(printf.communicate().out, "|" + odd + "|--|");
    Subprocess renamed =
        Subprocess::start({"another name", "-c", "echo $0"}, {.executable = "sh", .out = Redirect::pipe()});
    EXPECT_EQ(renamed.communicate().out, "another name\n");
  });
}

std::string failure_of(const Args& args, const SubprocessOptions& options = {}) {
  std::error_code error;
  EXPECT_FALSE(Subprocess::start(args, options, error));
  try {
    static_cast<void>(Subprocess::start(args, options));
  } catch (const std::system_error& failure) {
    EXPECT_EQ(failure.code(), error);
    return failure.what();
  }
  return "none";
}

TEST_F(SubprocessTest, WhatCanNotBeStartedSaysWhy) {
  on_loop([] {
    const Folder folder;
    std::ofstream(folder / "data") << "no program\n";
    std::ofstream(folder / "text") << "no program either\n";
    ::chmod((folder / "text").c_str(), 0755);
    EXPECT_EQ(failure_of({"/no/such"}), "start /no/such: No such file or directory");
    EXPECT_EQ(failure_of({"no-such-program"}), "start no-such-program: No such file or directory");
    EXPECT_EQ(failure_of({""}), "start : No such file or directory");
    EXPECT_EQ(failure_of({}), "start a process: no arguments are given, not even its name: Invalid argument");
    EXPECT_EQ(failure_of({"/"}), "start /: Permission denied");
    EXPECT_EQ(failure_of({folder / "data"}), "start " + (folder / "data") + ": Permission denied");
    EXPECT_EQ(failure_of({folder / "text"}), "start " + (folder / "text") + ": Exec format error");
    EXPECT_EQ(failure_of({"data"}, {.set_environment = {{"PATH", folder.path()}}}), "start data: Permission denied");
    EXPECT_EQ(failure_of({"ls"}, {.directory = "/no/dir"}), "start ls: enter /no/dir: No such file or directory");
    EXPECT_EQ(failure_of({"ls"}, {.in = Redirect::read_file("/no/file")}),
              "start ls: open /no/file: No such file or directory");
    EXPECT_EQ(failure_of({"ls"}, {.out = Redirect::descriptor(999)}), "start ls: descriptor 999: Bad file descriptor");
    EXPECT_EQ(failure_of({"ls"}, {.pass = {{0, 5}, {1, 5}}}),
              "start ls: pass two descriptors as number 5: Invalid argument");
    EXPECT_EQ(failure_of({"ls"}, {.pass = {{0, 2}}}),
              "start ls: pass a descriptor as 2, a standard one: Invalid argument");
    EXPECT_EQ(failure_of({std::string("l\0s", 3)}),
              "start l: an argument has a null character in it: Invalid argument");
    EXPECT_EQ(failure_of({"a"}, {.executable = "/no/such"}), "start a: /no/such: No such file or directory");
  });
}

// parity 38: test_issue148
TEST_F(SubprocessTest, FailuresLeakNothing) {
  on_loop([] {
    static_cast<void>(failure_of({"/no/such"}));
    const std::size_t before = open_descriptors();
    for (int i = 0; i < 7; ++i) {
      EXPECT_NE(failure_of({"/no/such"}, {.in = Redirect::pipe(), .out = Redirect::pipe(), .err = Redirect::pipe()}),
                "none");
      EXPECT_NE(failure_of({"true"}, {.directory = "/no/dir", .in = Redirect::terminal(), .out = Redirect::null()}),
                "none");
      EXPECT_NE(failure_of({"true"}, {.out = Redirect::pipe(), .err = Redirect::write_file("/no/file")}), "none");
      EXPECT_FALSE(has_child());
    }
    EXPECT_EQ(open_descriptors(), before);
  });
}

TEST_F(SubprocessTest, WithoutDescriptorsItFailsWhole) {
  on_loop([] {
    // However many there are left, it starts or it leaves nothing.
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    const std::size_t before = open_descriptors();
    bool started = false;
    int failed = 0;
    for (rlim_t more = 0; !started && more < 40; ++more) {
      const rlimit less{before + more, limit.rlim_max};
      ::setrlimit(RLIMIT_NOFILE, &less);
      std::error_code error;
      {
        Subprocess process = Subprocess::start(
            {"true"}, {.in = Redirect::pipe(), .out = Redirect::pipe(), .err = Redirect::terminal()}, error);
        started = static_cast<bool>(process);
        failed += started ? 0 : 1;
        ::setrlimit(RLIMIT_NOFILE, &limit);
        if (started) process.wait();
      }
      EXPECT_EQ(open_descriptors(), before);
    }
    EXPECT_TRUE(started);
    EXPECT_GT(failed, 3);
  });
}

// --- Environment -----------------------------------------------------------------------------------------------------

TEST_F(SubprocessTest, TheEnvironmentIsWhatWasAskedFor) {
  ::setenv("BIGHT_TEST_KEPT", "kept", 1);
  ::setenv("BIGHT_TEST_GONE", "gone", 1);
  on_loop([] {
    const std::string script = "echo $BIGHT_TEST_KEPT,$BIGHT_TEST_GONE,$BIGHT_TEST_NEW";
    EXPECT_EQ(say(script), "kept,gone,\n");
    EXPECT_EQ(say(script, {.set_environment = {{"BIGHT_TEST_NEW", "a=b"}, {"BIGHT_TEST_KEPT", "changed"}},
                           .unset_environment = {"BIGHT_TEST_GONE"}}),
              "changed,,a=b\n");
    Subprocess bare = Subprocess::start(
        {"/usr/bin/env"}, {.environment = Args{"A=1", "B="}, .set_environment = {{"C", "3"}}, .out = Redirect::pipe()});
    EXPECT_EQ(bare.communicate().out, "A=1\nB=\nC=3\n");
    EXPECT_EQ(failure_of({"ls"}, {.set_environment = {{"A=B", "x"}}}),
              "start ls: set the variable 'A=B': Invalid argument");
    // Without a PATH: where programs are.
    EXPECT_TRUE(Subprocess::start({"true"}, {.environment = Args{}}).wait().success());
  });
  ::unsetenv("BIGHT_TEST_KEPT");
  ::unsetenv("BIGHT_TEST_GONE");
}

TEST_F(SubprocessTest, WorksInItsDirectory) {
  on_loop([] {
    const Folder folder;
    std::filesystem::create_directory(folder / "bin");
    std::ofstream(folder / "bin/hello") << "#!/bin/sh\necho hello from $(pwd)\n";
    ::chmod((folder / "bin/hello").c_str(), 0755);
    const std::string real = std::filesystem::canonical(folder.path());
    for (const auto& [program, path] : std::vector<std::pair<std::string, std::string>>{
             {"bin/hello", "/bin:/usr/bin"}, {"./bin/hello", "/bin:/usr/bin"}, {"hello", "bin:/bin:/usr/bin"}}) {
      Subprocess hello = Subprocess::start(
          {program}, {.directory = folder.path(), .set_environment = {{"PATH", path}}, .out = Redirect::pipe()});
      EXPECT_EQ(hello.communicate().out, "hello from " + real + "\n") << program;
    }
  });
}

// --- Streams ---------------------------------------------------------------------------------------------------------

TEST_F(SubprocessTest, StreamsGoWhereTheyAreSent) {
  on_loop([] {
    const Folder folder;
    const std::string file = folder / "file";
    const auto run = [](const std::string& script, SubprocessOptions options) {
      EXPECT_TRUE(Subprocess::start({"sh", "-c", script}, options).wait().success());
    };
    run("echo one", {.out = Redirect::write_file(file)});
    run("echo two", {.out = Redirect::append_file(file)});
    EXPECT_EQ(contents(file), "one\ntwo\n");
    EXPECT_EQ(say("cat", {.in = Redirect::read_file(file)}), "one\ntwo\n");
    EXPECT_EQ(say("cat", {.in = Redirect::null()}), "");
    run("echo both; echo err >&2", {.out = Redirect::write_file(file), .err = Redirect::to_output()});
    EXPECT_EQ(contents(file), "both\nerr\n");
    {
      const Fd own(::open(file.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
      run("echo mine", {.out = Redirect::descriptor(own.get()), .err = Redirect::null()});
      EXPECT_GE(::fcntl(own.get(), F_GETFD), FD_CLOEXEC);  // still ours
    }
    EXPECT_EQ(contents(file), "mine\n");
    Subprocess both =
        Subprocess::start({"sh", "-c", "echo out; echo err >&2"}, {.out = Redirect::pipe(), .err = Redirect::pipe()});
    const Communication said = both.communicate();
    EXPECT_EQ(said.out, "out\n");
    EXPECT_EQ(said.err, "err\n");
    EXPECT_EQ(say("echo out; echo err >&2", {.err = Redirect::to_output()}), "out\nerr\n");
  });
}

TEST_F(SubprocessTest, PipesAreStreams) {
  on_loop([] {
    Subprocess cat = Subprocess::start({"cat"}, {.in = Redirect::pipe(), .out = Redirect::pipe()});
    for (int i = 0; i < 3; ++i) {
      cat.input().write_all("line " + std::to_string(i) + "\n");
      EXPECT_EQ(read_line(cat.output()), "line " + std::to_string(i));
    }
    cat.input().close();
    EXPECT_EQ(read_line(cat.output()), "");
    EXPECT_TRUE(cat.wait().success());
    EXPECT_FALSE(cat.errors());
  });
}

TEST_F(SubprocessTest, HasNoDescriptorsButItsOwn) {
  on_loop([] {
    const Fd leaky(::open("/dev/null", O_RDONLY));  // without O_CLOEXEC
    std::vector<Fd> holes;
    for (const int at : {20, 30, 500}) holes.emplace_back(::fcntl(leaky.get(), F_DUPFD, at));
    Subprocess list =
        Subprocess::start({"ls", "/proc/self/fd"}, {.out = Redirect::pipe(), .pass = {{leaky.get(), 25}}});
    EXPECT_EQ(list.communicate().out, "0\n1\n2\n25\n3\n");  // 3: the folder
  });
}

TEST_F(SubprocessTest, PassedDescriptorsGetTheirNumbers) {
  on_loop([] {
    const Folder folder;
    // Two that exchange their numbers, a third in the place of one, one that keeps its own, and two from the same.
    std::vector<Fd> files;
    for (int i = 0; i < 4; ++i) {
      const std::string name = folder / std::to_string(i).c_str();
      std::ofstream(name) << "file " << i << "\n";
      const Fd file(::open(name.c_str(), O_RDONLY | O_CLOEXEC));
      files.emplace_back(::fcntl(file.get(), F_DUPFD_CLOEXEC, 40));
    }
    const int a = files[0].get();
    const int b = files[1].get();
    const int c = files[2].get();
    const int d = files[3].get();
    const auto read_all = [](std::vector<int> numbers, std::vector<PassedDescriptor> pass) {
      std::string script;
      for (const int number : numbers) script += "cat /proc/self/fd/" + std::to_string(number) + ";";
      // cat inherits them from sh
      return say(script, {.pass = std::move(pass)});
    };
    EXPECT_EQ(read_all({a, b, c, d}, {{a, b}, {b, a}, {d, c}, {d, d}}), "file 1\nfile 0\nfile 3\nfile 3\n");
    EXPECT_EQ(read_all({3, 4, a}, {{a, 3}, {a, 4}, {b, a}}), "file 0\nfile 0\nfile 1\n");
    EXPECT_EQ(read_all({3}, {{STDIN_FILENO, 9}, {c, 3}}), "file 2\n");
  });
}

TEST_F(SubprocessTest, StandardStreamsThatAreClosedStayClosed) {
  const auto ended = in_child([] {
    ::close(STDIN_FILENO);
    ::close(STDOUT_FILENO);
    return run(RunOptions{.stop_on_signals = false}, [] {
      // The ends of the pipes have low numbers then.
      Subprocess list = Subprocess::start({"sh", "-c", "cat; echo err >&2; ls /proc/self/fd"},
                                          {.in = Redirect::pipe(), .out = Redirect::pipe(), .err = Redirect::pipe()});
      const Communication said = list.communicate("input\n");
      if (said.out != "input\n0\n1\n2\n3\n" || said.err != "err\n") return 1;
      Subprocess quiet = Subprocess::start({"sh", "-c", "test ! -e /proc/$$/fd/0 && test ! -e /proc/$$/fd/1"});
      return quiet.wait().success() ? 0 : 2;
    });
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

TEST_F(SubprocessTest, MayHaveATerminal) {
  on_loop([] {
    Subprocess shell = Subprocess::start(
        {"sh", "-c", "test -t 0 && test -t 1 && test -t 2 && stty size && cat && echo >/dev/tty that was it"},
        {.in = Redirect::terminal(),
         .out = Redirect::terminal(),
         .err = Redirect::terminal(),
         .terminal_rows = 10,
         .terminal_columns = 40});
    EXPECT_EQ(read_line(shell.terminal()), "10 40\r");
    const Communication said = shell.communicate("hello\n");
    EXPECT_TRUE(said.status && said.status->success());
    EXPECT_EQ(said.out, "hello\r\nhello\r\nthat was it\r\n");  // what is typed is echoed
  });
}

TEST_F(SubprocessTest, ItsTerminalInterruptsIt) {
  on_loop([] {
    Subprocess sleeper = Subprocess::start({"sh", "-c", "echo ready; exec sleep 1000"},
                                           {.in = Redirect::terminal(), .out = Redirect::terminal()});
    EXPECT_EQ(read_line(sleeper.terminal()), "ready\r");
    sleeper.terminal().write_all("\x03");
    EXPECT_EQ(sleeper.wait().signal(), SIGINT);
  });
}

// --- What else it begins with ----------------------------------------------------------------------------------------

TEST_F(SubprocessTest, GroupsAndSessions) {
  on_loop([] {
    // pid (name) state parent group session
    const auto ids = [](ProcessGroup group) {
      Subprocess cat = Subprocess::start({"cat", "/proc/self/stat"}, {.out = Redirect::pipe(), .group = group});
      std::istringstream stat(cat.communicate().out);
      std::string word;
      pid_t pid = 0;
      pid_t parent = 0;
      pid_t pgid = 0;
      pid_t sid = 0;
      stat >> pid >> word >> word >> parent >> pgid >> sid;
      EXPECT_EQ(pid, cat.pid());
      EXPECT_EQ(parent, ::getpid());
      return std::vector<bool>{pgid == pid, pgid == ::getpgrp(), sid == pid};
    };
    EXPECT_EQ(ids(ProcessGroup::automatic), (std::vector<bool>{false, true, false}));
    EXPECT_EQ(ids(ProcessGroup::inherited), (std::vector<bool>{false, true, false}));
    EXPECT_EQ(ids(ProcessGroup::own), (std::vector<bool>{true, false, false}));
    EXPECT_EQ(ids(ProcessGroup::session), (std::vector<bool>{true, false, true}));
  });
}

TEST_F(SubprocessTest, LimitsMaskAndIdentity) {
  on_loop([] {
    EXPECT_EQ(
        say("umask; ulimit -n; ulimit -c", {.umask = 0123, .limits = {{RLIMIT_NOFILE, 77, 99}, {RLIMIT_CORE, 0, 0}}}),
        "0123\n77\n0\n");
    if (::getuid() == 0) {
      EXPECT_EQ(say("id -u; id -g; id -G", {.user = 65534, .group_id = 65533, .supplementary_groups = {{5, 6}}}),
                "65534\n65533\n65533 5 6\n");
    } else {
      EXPECT_NE(failure_of({"true"}, {.user = 0}).find("change its user or group: Operation not permitted"),
                std::string::npos);
    }
  });
}

/// A line of /proc/PID/status.
std::string status_line(const std::string& status, const std::string& name) {
  const std::size_t at = status.find("\n" + name + ":\t") + name.size() + 3;
  return status.substr(at, status.find('\n', at) - at);
}

TEST_F(SubprocessTest, SignalsAreAsInAFreshProgram) {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t blocked;
  sigset_t before;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGUSR2);
  ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
  on_loop([] {
    const Signals ours({SIGUSR1, SIGTERM});
    const auto status_of = [](bool fresh) {
      return Subprocess::start({"cat", "/proc/self/status"}, {.out = Redirect::pipe(), .default_signals = fresh})
          .communicate()
          .out;
    };
    const std::string fresh = status_of(true);
    for (const char* name : {"SigBlk", "SigIgn", "SigCgt"}) EXPECT_EQ(status_line(fresh, name), "0000000000000000");
    const std::string kept = status_of(false);
    EXPECT_EQ(status_line(kept, "SigBlk"), "0000000000000800");
    EXPECT_EQ(status_line(kept, "SigIgn"), status_line(contents("/proc/self/status"), "SigIgn"));
    EXPECT_EQ(status_line(kept, "SigCgt"), "0000000000000000");
  });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
}

TEST_F(SubprocessTest, MayDieWithItsParent) {
  on_loop([] {
    // A shell's stand-in for us: it starts a child that is tied to it, tells its number, and is killed.
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
    const Fd reader(pipe[0]);
    Fd writer(pipe[1]);
    const pid_t parent = ::fork();
    if (parent == 0) {
      run(RunOptions{.stop_on_signals = false}, [&] {
        Subprocess tied = Subprocess::start({"sleep", "1000"}, {.death_signal = SIGKILL});
        const pid_t pid = tied.pid();
        if (::write(writer.get(), &pid, sizeof pid) == 4) ::kill(::getpid(), SIGKILL);
      });
    }
    pid_t tied = 0;
    EXPECT_EQ(::read(reader.get(), &tied, sizeof tied), 4);
    ::waitpid(parent, nullptr, 0);
    wait_for_it([&] {
      return !exists(tied) || contents("/proc/" + std::to_string(tied) + "/stat").find(") Z") != std::string::npos;
    });
  });
}

// --- Waiting and signals ---------------------------------------------------------------------------------------------

TEST_F(SubprocessTest, ManyMayWait) {
  on_loop([] {
    Subprocess cat = Subprocess::start({"cat"}, {.in = Redirect::pipe()});
    int told = 0;
    Scope scope;
    for (int i = 0; i < 5; ++i) {
      scope.spawn([&] {
        EXPECT_TRUE(cat.wait().success());
        ++told;
      });
    }
    EXPECT_FALSE(cat.wait_for(5ms));
    EXPECT_FALSE(cat.try_wait());
    EXPECT_EQ(told, 0);
    cat.input().close();
    EXPECT_TRUE(cat.wait_for(1h));
    scope.join();
    EXPECT_EQ(told, 5);
  });
}

TEST_F(SubprocessTest, ACancelledWaitLeavesItAlone) {
  on_loop([] {
    Subprocess cat = Subprocess::start({"cat"}, {.in = Redirect::pipe()});
    auto waiter = spawn([&] { cat.wait(); });
    yield();
    waiter.cancel();
    waiter.join();
    EXPECT_EQ(waiter.status(), FiberStatus::cancelled);
    EXPECT_FALSE(move_on_after(2ms, [&] { cat.wait(); }));
    EXPECT_FALSE(cat.try_wait());
    cat.input().close();
    EXPECT_TRUE(cat.wait().success());
    auto late = spawn([&] {
      try {
        sleep_for(1h);
      } catch (const Cancelled&) {
        EXPECT_TRUE(cat.wait().success());  // what can be had at once, is
        throw;
      }
    });
    yield();
    late.cancel();
    late.join();
  });
}

TEST_F(SubprocessTest, Signals) {
  on_loop([] {
    Subprocess sleeper = Subprocess::start({"sleep", "1000"});
    EXPECT_THROW(sleeper.send_signal(1000), std::system_error);
    EXPECT_TRUE(sleeper.send_signal(0));
    EXPECT_TRUE(sleeper.send_signal(SIGUSR1));
    EXPECT_EQ(sleeper.wait().signal(), SIGUSR1);
    EXPECT_FALSE(sleeper.send_signal(SIGUSR1));
    EXPECT_FALSE(sleeper.terminate());
    EXPECT_FALSE(sleeper.kill());
    Subprocess other = Subprocess::start({"sleep", "1000"});
    EXPECT_TRUE(other.terminate());
    EXPECT_EQ(other.wait().to_string(), "killed by SIGTERM");
  });
}

TEST_F(SubprocessTest, StopsAndKillsWhatDoesNotStop) {
  on_loop([] {
    EXPECT_EQ(Subprocess::start({"sleep", "1000"}).stop(1h).signal(), SIGTERM);
    Subprocess deaf = Subprocess::start({"sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1000; done"},
                                        {.out = Redirect::pipe(), .group = ProcessGroup::own});
    EXPECT_EQ(read_line(deaf.output()), "deaf");
    EXPECT_EQ(deaf.stop(5ms).signal(), SIGKILL);
    Subprocess polite = Subprocess::start({"sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done"},
                                          {.out = Redirect::pipe(), .group = ProcessGroup::own});
    EXPECT_EQ(read_line(polite.output()), "ready");
    EXPECT_EQ(polite.stop(1h).code(), 7);
  });
}

TEST_F(SubprocessTest, WholeGroupsAreKilled) {
  on_loop([] {
    const auto family = [] {
      return Subprocess::start({"sh", "-c", "(trap '' TERM; echo $(exec sh -c 'echo $PPID'); exec sleep 1000) & wait"},
                               {.out = Redirect::pipe(), .group = ProcessGroup::own});
    };
    Subprocess stopped = family();
    const pid_t child = std::stoi(read_line(stopped.output()));
    EXPECT_TRUE(exists(child));
    EXPECT_EQ(stopped.stop(1h).signal(), SIGTERM);  // and its child, which would not have minded, is killed
    std::byte end{};
    EXPECT_EQ(stopped.output().read(std::span(&end, 1)), 0U);
    std::optional<Subprocess> dropped = family();
    Stream output = std::move(dropped->output());
    EXPECT_GT(std::stoi(read_line(output)), 0);
    dropped.reset();
    EXPECT_EQ(output.read(std::span(&end, 1)), 0U);
    wait_for_it([] { return !has_child(); });
  });
}

TEST_F(SubprocessTest, WhoLeavesItsGroupIsReachedAllTheSame) {
  on_loop([] {
    const std::string leave = "$| = 1; setpgrp(0, getpgrp(getppid())) or die; print qq(gone\\n); sleep 1000";
    std::error_code error;
    Subprocess process =
        Subprocess::start({"perl", "-e", leave}, {.out = Redirect::pipe(), .group = ProcessGroup::own}, error);
    if (error) GTEST_SKIP() << "there is no perl";
    EXPECT_TRUE(read_line(process.output()).starts_with("gone"));
    EXPECT_EQ(process.stop(1h).signal(), SIGTERM);
  });
}

TEST_F(SubprocessTest, TheDestructorKillsAndDetachDoesNot) {
  on_loop([] {
    pid_t killed = 0;
    {
      const Subprocess sleeper = Subprocess::start({"sleep", "1000"});
      killed = sleeper.pid();
    }
    wait_for_it([&] { return !exists(killed); });  // not even a zombie
    const Folder folder;
    Subprocess writer = Subprocess::start({"sh", "-c", "read line; echo $line > file"},
                                          {.directory = folder.path(), .in = Redirect::pipe()});
    const pid_t detached = writer.pid();
    Stream input = std::move(writer.input());
    writer.detach();
    EXPECT_FALSE(writer);
    EXPECT_TRUE(exists(detached));
    input.write_all("written\n");
    wait_for_it([&] { return !exists(detached); });
    EXPECT_EQ(contents(folder / "file"), "written\n");
    // In the place of one that still runs:
    Subprocess process = Subprocess::start({"sleep", "1000"});
    killed = process.pid();
    process = Subprocess::start({"true"});
    wait_for_it([&] { return !exists(killed); });
    EXPECT_TRUE(process.wait().success());
  });
}

TEST_F(SubprocessTest, OtherChildrenAreLeftAlone) {
  on_loop([] {
    const pid_t own = ::fork();
    if (own == 0) ::_exit(42);
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(own), &info, WEXITED | WNOWAIT);
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(Subprocess::start({"true"}).wait().success());
    int status = 0;
    EXPECT_EQ(::waitpid(own, &status, 0), own);
    EXPECT_EQ(WEXITSTATUS(status), 42);
  });
}

TEST_F(SubprocessTest, ThoseWhoTakeItsStatusDoNotHangIt) {
  for (const bool ignored : {true, false}) {
    const auto ended = in_child([&] {
      if (ignored) ::signal(SIGCHLD, SIG_IGN);
      return run(RunOptions{.stop_on_signals = false}, [&] {
        Subprocess process = Subprocess::start({"sh", "-c", "read line; exit 3"}, {.in = Redirect::pipe()});
        process.input().write_all("\n");
        if (!ignored) ::waitpid(-1, nullptr, 0);  // somebody waits for anybody
        const ExitStatus status = process.wait();
        if (status.known() && status.code() != 3) return 1;
        if (!status.known() && status.to_string() != "ended, nobody knows how") return 2;
        return process.send_signal(SIGTERM) ? 3 : 0;
      });
    });
    EXPECT_TRUE(ended.with(0)) << describe(ended);
  }
}

// --- Conversations ---------------------------------------------------------------------------------------------------

// parity 38: test_communicate
TEST_F(SubprocessTest, CommunicatesBothWaysAtOnce) {
  on_loop([] {
    const std::string much(3'000'000, 'x');
    Subprocess tee = Subprocess::start({"tee", "/dev/stderr"},
                                       {.in = Redirect::pipe(), .out = Redirect::pipe(), .err = Redirect::pipe()});
    const Communication said = tee.communicate(much);
    EXPECT_EQ(said.status, ExitStatus::exited(0));
    EXPECT_EQ(said.out == much, true);
    EXPECT_EQ(said.err == much, true);
    EXPECT_EQ(said.input_written, much.size());
    EXPECT_FALSE(said.truncated || said.left_open || said.timed_out());
  });
}

TEST_F(SubprocessTest, AProcessNeedNotReadItsInput) {
  on_loop([] {
    const std::string much(3'000'000, 'x');
    Subprocess head =
        Subprocess::start({"sh", "-c", "head -c 5; exit 4"}, {.in = Redirect::pipe(), .out = Redirect::pipe()});
    const Communication said = head.communicate(much);
    EXPECT_EQ(said.status, ExitStatus::exited(4));
    EXPECT_EQ(said.out, "xxxxx");
    EXPECT_LT(said.input_written, much.size());
  });
}

TEST_F(SubprocessTest, ATimeoutKeepsWhatWasSaidAndTheProcess) {
  on_loop([] {
    Subprocess slow = Subprocess::start({"sh", "-c", "echo early; read line; echo $line"},
                                        {.in = Redirect::pipe(), .out = Redirect::pipe()});
    std::string early;
    Communication said;
    Stream input = std::move(slow.input());
    do {
      said = slow.communicate({}, {.timeout = 50ms});
      early += said.out;
      EXPECT_TRUE(said.timed_out());
    } while (early.empty());
    EXPECT_EQ(early, "early\n");
    input.write_all("late\n");
    said = slow.communicate();
    EXPECT_FALSE(said.timed_out());
    EXPECT_EQ(said.out, "late\n");
  });
}

TEST_F(SubprocessTest, ACancelledConversationGoesOnLater) {
  on_loop([] {
    Subprocess slow = Subprocess::start({"sh", "-c", "echo early; read line; echo $line"},
                                        {.in = Redirect::pipe(), .out = Redirect::pipe()});
    Stream input = std::move(slow.input());
    const int output = slow.output().fd();
    auto talker = spawn([&] { static_cast<void>(slow.communicate()); });
    wait_for_it([&] {  // until it has read that
      int waiting = 0;
      return ::ioctl(output, FIONREAD, &waiting) == 0 && waiting == 0 && asleep(slow.pid());
    });
    talker.cancel();
    talker.join();
    EXPECT_EQ(talker.status(), FiberStatus::cancelled);
    EXPECT_FALSE(slow.try_wait());
    input.write_all("late\n");
    const Communication said = slow.communicate();
    EXPECT_EQ(said.out, "early\nlate\n");
  });
}

TEST_F(SubprocessTest, KeepsNoMoreThanAskedFor) {
  on_loop([] {
    Subprocess noisy = Subprocess::start({"sh", "-c", "head -c 1000000 /dev/zero; echo end >&2"},
                                         {.out = Redirect::pipe(), .err = Redirect::pipe()});
    const Communication said = noisy.communicate({}, {.output_max = 1000});
    EXPECT_TRUE(said.status->success());
    EXPECT_EQ(said.out.size(), 1000U);
    EXPECT_EQ(said.err, "end\n");
    EXPECT_TRUE(said.truncated);
  });
}

// gevent's #293: after the end, or a kill, grandchildren hold the pipe.
TEST_F(SubprocessTest, ThoseItLeavesBehindDoNotHoldUpAConversation) {
  on_loop([] {
    Subprocess parent = Subprocess::start({"sh", "-c", "sleep 1000 & echo $!"}, {.out = Redirect::pipe()});
    const Communication said = parent.communicate({}, {.linger = 20ms});
    EXPECT_TRUE(said.status && said.status->success());
    EXPECT_TRUE(said.left_open);
    const pid_t left = std::stoi(said.out);
    EXPECT_TRUE(exists(left));
    ::kill(left, SIGKILL);
    Subprocess killed = Subprocess::start({"sh", "-c", "sleep 1000 & echo $!; wait"}, {.out = Redirect::pipe()});
    const pid_t other = std::stoi(read_line(killed.output()));
    killed.kill();  // it has no group of its own
    const Communication last = killed.communicate({}, {.linger = 20ms});
    EXPECT_EQ(last.status->signal(), SIGKILL);
    EXPECT_TRUE(last.left_open);
    ::kill(other, SIGKILL);
  });
}

// --- Many ------------------------------------------------------------------------------------------------------------

// parity 38: test_leak
TEST_F(SubprocessTest, ManyLeaveNothingBehind) {
  on_loop([] {
    const auto one = [](int i) {
      const bool talks = i % 3 == 0;
      Subprocess process = Subprocess::start(
          {"sh", "-c", "exit " + std::to_string(i % 100)},
          talks ? SubprocessOptions{.in = Redirect::pipe(), .out = Redirect::pipe(), .err = Redirect::pipe()}
                : SubprocessOptions{});
      const ExitStatus status = talks ? *process.communicate("x").status : process.wait();
      EXPECT_EQ(status.code(), i % 100);
    };
    one(0);
    const std::size_t before = open_descriptors();
    Pool pool(20);
    for (int i = 0; i < 500; ++i) pool.spawn([&, i] { one(i); });
    pool.join();
    EXPECT_EQ(open_descriptors(), before);
    EXPECT_FALSE(has_child());
    // None of them waited for:
    for (int i = 0; i < 100; ++i) static_cast<void>(Subprocess::start({"sleep", "1000"}));
    wait_for_it([] { return !has_child(); });
    EXPECT_LE(open_descriptors(), before + 1);
  });
}

TEST_F(SubprocessTest, SignalsToUsMeanwhileDoNotMatter) {
  on_loop([] {
    Signals alarms({SIGALRM});
    std::atomic<bool> over{false};
    std::thread storm([&] {
      while (!over) {
        ::kill(::getpid(), SIGALRM);
        std::this_thread::yield();
      }
    });
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(Subprocess::start({"true"}).wait().success());
    over = true;
    storm.join();
    EXPECT_TRUE(alarms.try_receive());
  });
}

TEST_F(SubprocessTest, MayNotGoWhileFibersWaitForIt) {
  test::expect_abort("a Subprocess is destroyed while fibers wait for it", [] {
    auto process = std::make_unique<Subprocess>(Subprocess::start({"cat"}, {.in = Redirect::pipe()}));
    auto waiter = spawn([&] { process->wait(); });
    yield();
    process.reset();
  });
}

}  // namespace
}  // namespace bight
