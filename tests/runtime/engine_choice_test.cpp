// SPDX-License-Identifier: Apache-2.0
// Which engine a loop gets, and what is said about it.
#include <fcntl.h>
#include <sys/resource.h>

#if defined(BIGHT_HAVE_SECCOMP)
#include <seccomp.h>
#endif

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <system_error>

#include <gtest/gtest.h>

#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/log.hpp>
#include <bight/run.hpp>
#include <bight/time.hpp>

#include "child.hpp"
#include "on_loop.hpp"
#include "socket_pair.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::describe;
using test::Ended;
using test::in_child;

TEST(EngineChoice, NamesAndTexts) {
  for (const auto choice : {EngineChoice::automatic, EngineChoice::uring, EngineChoice::epoll, EngineChoice::sim}) {
    EXPECT_EQ(parse_engine(to_string(choice)), choice);
  }
  for (const char* text : {"", "Uring", "uring ", "io_uring", "automatic", "kqueue"}) {
    EXPECT_EQ(parse_engine(text), std::nullopt) << text;
  }
}

TEST(EngineChoice, TheEnvironmentIsHeard) {
  const char* wanted = std::getenv("BIGHT_ENGINE");
  if (wanted == nullptr) GTEST_SKIP() << "BIGHT_ENGINE is not set";
  run([&] { EXPECT_EQ(this_loop::engine_name(), wanted); });
}

TEST(EngineChoice, TheProgramOverridesTheEnvironment) {
  RunOptions options;
  options.engine = EngineChoice::epoll;
  run(options, [] { EXPECT_EQ(this_loop::engine_name(), "epoll"); });
  options.engine = EngineChoice::sim;
  run(options, [] { EXPECT_EQ(this_loop::engine_name(), "sim"); });
}

TEST(EngineChoice, AnUnknownNameIsAnError) {
  const auto ended = in_child([] {
    ::setenv("BIGHT_ENGINE", "kqueue", 1);
    try {
      run([] {});
    } catch (const EngineUnavailable& error) {
      std::fprintf(stderr, "%s\n", error.what());
      return this_loop::exists() ? 2 : 5;
    }
    return 0;
  });
  EXPECT_TRUE(ended.with(5)) << describe(ended);
  EXPECT_TRUE(ended.says("BIGHT_ENGINE is 'kqueue'; it can be auto, uring, epoll or sim\n")) << describe(ended);
}

/// What a child with `environment` for BIGHT_ENGINE says at info level; its exit status is 0 when the loop worked.
template <class Before>
Ended started_with(const char* environment, Before&& before) {
  return in_child([&] {
    set_log_level(LogLevel::info);
    ::setenv("BIGHT_ENGINE", environment, 1);
    before();
    try {
      run([] {
        auto pair = test::connect_pair();
        std::error_code error;
        pair.client.write_all(test::bytes_of("works"), error);
        if (pair.server.read(error).text() != "works") std::_Exit(3);
        sleep_for(1ms);
      });
    } catch (const EngineUnavailable& error) {
      std::fprintf(stderr, "unavailable: %s\n", error.what());
      return 7;
    }
    return 0;
  });
}

std::ptrdiff_t lines(const Ended& ended) { return std::count(ended.errors.begin(), ended.errors.end(), '\n'); }

TEST(EngineChoice, OneLineTellsWhichAndWhy) {
  const auto forced = started_with("epoll", [] {});
  EXPECT_TRUE(forced.with(0)) << describe(forced);
  EXPECT_EQ(forced.errors, "bight: engine epoll, asked for by BIGHT_ENGINE\n");
  for (const char* automatic : {"auto", ""}) {
    const auto ended = started_with(automatic, [] {});
    EXPECT_TRUE(ended.with(0)) << describe(ended);
    EXPECT_EQ(lines(ended), 1) << describe(ended);
    EXPECT_TRUE(ended.says("chosen automatically\n") || ended.says("because io_uring is not available: "))
        << describe(ended);
  }
}

TEST(EngineChoice, BelowInfoThereIsNoLine) {
  const auto ended = started_with("auto", [] { set_log_level(LogLevel::warning); });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_EQ(ended.errors, "");
}

#if defined(BIGHT_HAVE_SECCOMP)

/// From now on the system call fails with `error`.
void forbid(const char* name, int error) {
  scmp_filter_ctx filter = ::seccomp_init(SCMP_ACT_ALLOW);
  const int call = ::seccomp_syscall_resolve_name(name);
  const bool done = filter != nullptr && call >= 0 &&
                    ::seccomp_rule_add(filter, SCMP_ACT_ERRNO(static_cast<unsigned>(error)), call, 0) == 0 &&
                    ::seccomp_load(filter) == 0;
  ::seccomp_release(filter);
  if (!done) std::_Exit(77);
}

/// As Docker's default profile and old kernels have it.
void forbid_io_uring(int error) { forbid("io_uring_setup", error); }

class WithoutIoUring : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(EngineChoice, WithoutIoUring, testing::Values(EPERM, ENOSYS, ENOMEM));

TEST_P(WithoutIoUring, AutomaticFallsBackToEpollWithOneLine) {
  const auto ended = started_with("auto", [] { forbid_io_uring(GetParam()); });
  if (ended.with(77)) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_EQ(lines(ended), 1) << describe(ended);
  EXPECT_TRUE(ended.says("bight: engine epoll, because io_uring is not available: io_uring_setup: "))
      << describe(ended);
  EXPECT_TRUE(ended.says(std::generic_category().message(GetParam()).c_str())) << describe(ended);
  EXPECT_EQ(ended.says("(forbidden by seccomp"), GetParam() == EPERM) << describe(ended);
}

TEST_P(WithoutIoUring, ForcingItIsAClearError) {
  const auto ended = started_with("uring", [] { forbid_io_uring(GetParam()); });
  if (ended.with(77)) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_TRUE(ended.with(7)) << describe(ended);
  EXPECT_TRUE(ended.says("unavailable: the uring engine is not available: io_uring_setup: ")) << describe(ended);
  EXPECT_EQ(lines(ended), 1) << describe(ended);
}

TEST_P(WithoutIoUring, EpollDoesNotAskForIt) {
  const auto ended = started_with("epoll", [] { forbid_io_uring(GetParam()); });
  if (ended.with(77)) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_EQ(ended.errors, "bight: engine epoll, asked for by BIGHT_ENGINE\n");
}

// Filters that are older than epoll_pwait2(2) refuse it: then times are in milliseconds, and all works.
TEST_P(WithoutIoUring, NorDoesEpollNeedItsLatestCall) {
  const auto ended = in_child([] {
    ::setenv("BIGHT_ENGINE", "epoll", 1);
    forbid("epoll_pwait2", GetParam());
    return run([] {
      const TimePoint start = now();
      sleep_for(1500us);
      if (now() - start < 1500us) return 3;
      auto [client, server] = test::connect_pair();
      auto reader = spawn([&server = server] {
        std::error_code error;
        std::array<std::byte, 1> byte;
        return server.read(byte, error);
      });
      sleep_for(1ms);
      std::error_code error;
      client.write(test::bytes_of("x"), error);
      return reader.get() == 1 && this_loop::stats().engine_calls < 1000 ? 0 : 4;
    });
  });
  if (ended.with(77)) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

#endif

// No descriptor to be had: an error that says so, not a death.
TEST(EngineChoice, WithoutDescriptorsItIsAnError) {
  for (const char* engine : {"auto", "uring", "epoll"}) {
    const auto ended = in_child([engine] {
      ::setenv("BIGHT_ENGINE", engine, 1);
      const rlimit none{3, 3};
      ::setrlimit(RLIMIT_NOFILE, &none);
      for (int fd = ::open("/dev/null", O_RDONLY); fd >= 0;) fd = ::open("/dev/null", O_RDONLY);
      try {
        run([] {});
      } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 4;
      }
      return 0;
    });
    EXPECT_TRUE(ended.with(4)) << engine << ": " << describe(ended);
    EXPECT_TRUE(ended.says("Too many open files")) << describe(ended);
  }
}

}  // namespace
}  // namespace bight
