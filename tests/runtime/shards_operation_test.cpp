// SPDX-License-Identifier: Apache-2.0
// How a supervisor is operated: pid file, status socket, service manager, sockets that were passed.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include <bight/passed_sockets.hpp>
#include <bight/shards.hpp>
#include <bight/stop.hpp>
#include <bight/time.hpp>

#include "child.hpp"
#include "shards/pid_file.hpp"
#include "shards/status_socket.hpp"
#include "supervised.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using detail::PidFile;
using detail::StatusSocket;
using test::Child;
using test::describe;
using test::in_child;
using test::Reports;
using test::serve_until_stop;
using test::Supervised;
using test::two_shards;

std::string temporary(const char* name) { return "/tmp/bight-" + std::to_string(::getpid()) + "-" + name; }

std::string content_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool exists(const std::string& path) {
  struct stat file {};
  return ::lstat(path.c_str(), &file) == 0;
}

// --- Pid file --------------------------------------------------------------------------------------------------------

TEST(ShardPidFile, IsThereAsLongAsItsProcess) {
  const std::string path = temporary("pid");
  ShardOptions options = two_shards();
  options.pid_file = path;
  Supervised supervised(options, serve_until_stop);
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  EXPECT_EQ(content_of(path), std::to_string(supervised.child.pid()) + "\n");
  {
    const auto second = in_child([&] {
      try {
        return run_shards(options, [](Shard&) {});
      } catch (const std::system_error& error) {
        EXPECT_EQ(error.code(), std::errc::file_exists);
        throw;
      }
    });
    EXPECT_TRUE(second.says("runs with it")) << describe(second);
    EXPECT_TRUE(second.says(std::to_string(supervised.child.pid()).c_str())) << describe(second);
  }
  EXPECT_TRUE(supervised.stop().with(0));
  EXPECT_FALSE(exists(path));
}

TEST(ShardPidFile, OneThatACrashLeftBehindIsTakenOver) {
  const std::string path = temporary("stale-pid");
  std::ofstream(path) << "123456789\n";
  {
    const PidFile file(path);
    EXPECT_EQ(content_of(path), std::to_string(::getpid()) + "\n");
  }
  EXPECT_FALSE(exists(path));
}

TEST(ShardPidFile, StepsAsideForASuccessorAndBack) {
  const std::string path = temporary("aside-pid");
  PidFile file(path);
  file.step_aside();
  EXPECT_FALSE(exists(path));
  EXPECT_TRUE(exists(path + ".oldpid"));
  const auto successor = in_child([&] {
    const PidFile its(path);
    return content_of(path) == std::to_string(::getpid()) + "\n" ? 0 : 1;
  });
  EXPECT_TRUE(successor.with(0)) << describe(successor);
  file.step_back();
  EXPECT_EQ(content_of(path), std::to_string(::getpid()) + "\n");
  EXPECT_FALSE(exists(path + ".oldpid"));
}

TEST(ShardPidFile, SomebodyElsesIsNotRemoved) {
  const std::string path = temporary("others-pid");
  {
    const PidFile file(path);
    ::unlink(path.c_str());
    std::ofstream(path) << "1\n";
  }
  EXPECT_TRUE(exists(path));
  ::unlink(path.c_str());
}

TEST(ShardPidFile, WhatCanNotBeMadeIsAnError) {
  try {
    const PidFile file("/no/such/folder/pid");
    FAIL();
  } catch (const std::system_error& error) {
    EXPECT_STREQ(error.what(), "make pid file /no/such/folder/pid: open: No such file or directory");
  }
}

// --- Status ----------------------------------------------------------------------------------------------------------

TEST(ShardStatus, TellsOfAllWorkers) {
  const std::string path = temporary("status");
  ShardOptions options = two_shards();
  options.status_socket = path;
  options.counters = {"apples", "a \"pear\""};
  Supervised supervised(options, [](Shard& shard, const Reports& reports) {
    this_shard::note_accepted();
    this_shard::note_accepted();
    this_shard::note_closed();
    this_shard::note_request();
    this_shard::counter(0) += 20 + shard.index();
    this_shard::counter(1) += 1;
    this_shard::counter(99) += 1;  // nobody's
    serve_until_stop(shard, reports);
  });
  const auto first = supervised.reports.expect("began");
  supervised.reports.expect("began");
  struct stat file {};
  ASSERT_EQ(::stat(path.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 0777U, 0600U);
  const std::string text = shard_status(path);
  EXPECT_NE(text.find("2 connections open, 4 accepted, 2 requests, 41 apples, 2 a \"pear\"\n"), std::string::npos)
      << text;
  EXPECT_NE(text.find("shard 1: pid "), std::string::npos) << text;
  const std::string json = shard_status(path, StatusFormat::json);
  EXPECT_NE(json.find("\"accepted\":4"), std::string::npos) << json;
  EXPECT_NE(json.find("\"a \\\"pear\\\"\":2"), std::string::npos) << json;
  EXPECT_NE(json.find("\"fibers_alive\":"), std::string::npos) << json;
  // What a worker has counted outlives it.
  ::kill(first.pid, SIGKILL);
  supervised.reports.expect("began");
  EXPECT_NE(shard_status(path).find("2 connections open, 6 accepted, 3 requests"), std::string::npos)
      << shard_status(path);
  EXPECT_TRUE(supervised.stop().with(0));
  EXPECT_FALSE(exists(path));
}

TEST(ShardStatus, ClientsThatSayNothingKeepNobodyWaiting) {
  const std::string path = temporary("silent-status");
  ShardOptions options = two_shards();
  options.status_socket = path;
  Supervised supervised(options, serve_until_stop);
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  std::vector<Fd> silent;
  for (int i = 0; i < 8; ++i) {
    silent.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::connect(silent.back().get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  EXPECT_NE(shard_status(path).find("supervisor "), std::string::npos);
  char unused = 0;
  for (const Fd& each : silent) EXPECT_EQ(::read(each.get(), &unused, 1), 0) << "let go";
  EXPECT_TRUE(supervised.stop().with(0));
}

TEST(ShardStatus, AStaleSocketIsReplacedAndALiveOneIsNot) {
  const std::string path = temporary("stale-status");
  ShardOptions options = two_shards();
  options.status_socket = path;
  {
    Supervised supervised(options, serve_until_stop);
    supervised.reports.expect("began");
    const auto second = in_child([&] { return run_shards(options, [](Shard&) {}); });
    EXPECT_TRUE(second.says("somebody listens there")) << describe(second);
    supervised.send(SIGKILL);
    static_cast<void>(supervised.child.wait());
  }
  EXPECT_TRUE(exists(path));
  Supervised supervised(options, serve_until_stop);
  supervised.reports.expect("began");
  supervised.reports.expect("began");
  EXPECT_NE(shard_status(path).find("supervisor "), std::string::npos);
  EXPECT_TRUE(supervised.stop().with(0));
}

bool somebody_listens_at(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const Fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return ::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

TEST(ShardStatus, ListensAgainWhenASuccessorDidNotComeUp) {
  const std::string path = temporary("back-status");
  StatusSocket socket(path, false);
  EXPECT_TRUE(in_child([&] {
                const StatusSocket its(path, true);
                return 0;
              }).with(0));
  EXPECT_FALSE(exists(path));
  socket.step_back();
  EXPECT_TRUE(somebody_listens_at(path));
  EXPECT_TRUE(in_child([&]() -> int {
                const StatusSocket its(path, true);
                ::_exit(0);
              }).with(0));
  EXPECT_FALSE(somebody_listens_at(path));
  socket.step_back();
  EXPECT_TRUE(somebody_listens_at(path));
}

TEST(ShardStatus, WhatIsNoSocketIsNotReplaced) {
  const std::string path = temporary("no-status");
  std::ofstream(path) << "precious";
  try {
    const StatusSocket socket(path, false);
    FAIL();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.what(), "make status socket " + path + ": what is there is no socket: File exists");
  }
  EXPECT_EQ(content_of(path), "precious");
  ::unlink(path.c_str());
}

// --- Service manager -------------------------------------------------------------------------------------------------

/// A socket that NOTIFY_SOCKET may name.
class Manager {
 public:
  explicit Manager(std::string name) : name_(std::move(name)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    name_.copy(address.sun_path, sizeof address.sun_path - 1);
    const bool abstract = name_.front() == '@';
    if (abstract) address.sun_path[0] = '\0';
    socket_ = Fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name_.size() + (abstract ? 0 : 1));
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), length), 0);
    const timeval limit{20, 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  ~Manager() {
    if (name_.front() == '/') ::unlink(name_.c_str());
  }
  Manager(const Manager&) = delete;
  Manager& operator=(const Manager&) = delete;

  /// The next message that is no STATUS=.
  std::string next() {
    for (;;) {
      std::array<char, 1000> text{};
      const ssize_t size = ::recv(socket_.get(), text.data(), text.size(), 0);
      if (size <= 0) return "nothing";
      std::string message(text.data(), static_cast<std::size_t>(size));
      if (!message.starts_with("STATUS=")) return message;
    }
  }

 private:
  std::string name_;
  Fd socket_;
};

TEST(ShardNotify, TheServiceManagerHearsOfEverything) {
  for (const std::string& name : {temporary("notify"), "@" + temporary("notify")}) {
    Manager manager(name);
    Reports reports;
    Child child([&] {
      set_log_level(LogLevel::warning);
      ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
      return run_shards(two_shards(), [&](Shard& shard) { serve_until_stop(shard, reports); });
    });
    EXPECT_EQ(manager.next(), "READY=1\nMAINPID=" + std::to_string(child.pid()));
    ::kill(child.pid(), SIGHUP);
    EXPECT_TRUE(manager.next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    EXPECT_EQ(manager.next(), "READY=1");
    ::kill(child.pid(), SIGTERM);
    EXPECT_EQ(manager.next(), "STOPPING=1");
    EXPECT_TRUE(child.wait().with(0));
  }
}

TEST(ShardNotify, TheWatchdogIsFed) {
  const std::string name = "@" + temporary("watchdog");
  Manager manager(name);
  Child child([&] {
    set_log_level(LogLevel::warning);
    ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
    ::setenv("WATCHDOG_USEC", "20000", 1);
    ::setenv("WATCHDOG_PID", std::to_string(::getpid()).c_str(), 1);
    return run_shards(two_shards(), [](Shard&) { wait_for_stop(); });
  });
  for (int fed = 0; fed < 5;) {
    const std::string message = manager.next();
    ASSERT_NE(message, "nothing");
    fed += message == "WATCHDOG=1" ? 1 : 0;
  }
  ::kill(child.pid(), SIGTERM);
  EXPECT_TRUE(child.wait().with(0));
}

// --- Passed sockets --------------------------------------------------------------------------------------------------

Fd listening() {
  Fd socket(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::listen(socket.get(), 5);
  return socket;
}

TEST(PassedSockets, SystemdsAreFoundByNameOnce) {
  const auto ended = in_child([] {
    // The descriptors from 3 on, as systemd has them.
    const Fd first = listening();
    const Fd second = listening();
    ::dup2(first.get(), 100);
    ::dup2(second.get(), 101);
    for (int fd = 3; fd < 100; ++fd) ::close(fd);
    ::dup2(100, 3);
    ::dup2(101, 4);
    ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
    ::setenv("LISTEN_FDS", "2", 1);
    ::setenv("LISTEN_FDNAMES", "web:admin", 1);
    Fd admin = passed_sockets::take("admin");
    if (admin.get() != 4 || (::fcntl(4, F_GETFD) & FD_CLOEXEC) == 0) return 1;
    if (passed_sockets::take("admin") || passed_sockets::take("other")) return 2;
    if (std::getenv("LISTEN_FDS") != nullptr) return 3;
    const Fd web = passed_sockets::take_if([](int fd) { return fd == 3; });
    const int status = web.get() == 3 ? 0 : 4;
    ::_exit(status);  // the two above are not what they were
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

TEST(PassedSockets, WhatIsMeantForAnotherProcessIsNotTaken) {
  const auto ended = in_child([] {
    ::setenv("LISTEN_PID", std::to_string(::getpid() + 1).c_str(), 1);
    ::setenv("LISTEN_FDS", "1", 1);
    ::setenv("LISTEN_FDNAMES", "web", 1);
    return passed_sockets::take("web") ? 1 : 0;
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

TEST(PassedSockets, NonsenseInTheEnvironmentIsIgnored) {
  for (const char* count : {"-1", "99999999999", "x", "", "100"}) {
    const auto ended = in_child([&] {
      ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
      ::setenv("LISTEN_FDS", count, 1);
      ::setenv("BIGHT_HANDOVER", "1;;x=;=;;;", 1);
      ::_exit(passed_sockets::take("web") ? 1 : 0);
      return 0;
    });
    EXPECT_TRUE(ended.with(0)) << count << describe(ended);
  }
}

}  // namespace
}  // namespace bight
