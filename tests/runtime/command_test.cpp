// SPDX-License-Identifier: Apache-2.0
#include <bight/command.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <string>
#include <system_error>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/fiber.hpp>
#include <bight/time.hpp>

#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::on_loop;

class CommandTest : public testing::Test {
 protected:
  void SetUp() override {
    bool sim = false;
    on_loop([&] { sim = test::on_sim(); });
    if (sim) GTEST_SKIP() << "there are no processes in a simulated world";
  }
};

bool has_child() {
  siginfo_t info{};
  return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

CommandResult shell(const std::string& script, const CommandOptions& options = {}) {
  return run_command({"sh", "-c", script}, options);
}

TEST_F(CommandTest, SaysWhatItSaysAndHowItEnded) {
  on_loop([] {
    const CommandResult result = shell("cat; echo out; echo err >&2; exit 3");
    EXPECT_EQ(result.status, ExitStatus::exited(3));
    EXPECT_EQ(result.out, "out\n");
    EXPECT_EQ(result.err, "err\n");
    EXPECT_FALSE(result.success());
    EXPECT_EQ(result.to_string(), "exited with 3");
    EXPECT_TRUE(run_command({"true"}).success());
    EXPECT_EQ(shell("cat", {.input = "from us"}).out, "from us");
    EXPECT_EQ(shell("echo err >&2", {.process = {.err = Redirect::to_output()}}).out, "err\n");
    EXPECT_THROW(static_cast<void>(run_command({"/no/such"})), std::system_error);
  });
}

TEST_F(CommandTest, ATimeoutEndsItAndItsChildrenAndKeepsWhatWasSaid) {
  on_loop([] {
    const CommandResult result =
        shell("trap 'echo goodbye; exit 5' TERM; echo early; sleep 1000 & wait", {.timeout = 300ms, .grace = 1h});
    EXPECT_TRUE(result.timed_out);
    EXPECT_FALSE(result.success());
    EXPECT_FALSE(result.left_open);
    EXPECT_EQ(result.status.code(), 5);
    EXPECT_EQ(result.out, "early\ngoodbye\n");
    EXPECT_EQ(result.to_string(), "timed out, exited with 5");
    const CommandResult deaf =
        shell("trap '' TERM; echo deaf; while :; do sleep 1000; done", {.timeout = 300ms, .grace = 10ms});
    EXPECT_TRUE(deaf.timed_out);
    EXPECT_EQ(deaf.status.signal(), SIGKILL);
    EXPECT_EQ(deaf.out, "deaf\n");
    EXPECT_TRUE(shell("exit 0", {.timeout = 1h}).success());
  });
}

TEST_F(CommandTest, WhatItLeftBehindCanNotWriteForEver) {
  on_loop([] {
    const CommandResult result = shell("setsid sh -c 'while echo again; do :; done' 2>/dev/null & sleep 1000",
                                       {.timeout = 300ms, .grace = 10ms, .output_max = 10, .linger = 50ms});
    EXPECT_TRUE(result.timed_out);
    EXPECT_TRUE(result.left_open);
    EXPECT_EQ(result.out, "again\nagai");
  });
}

TEST_F(CommandTest, WhoIsCancelledTakesItAlong) {
  on_loop([] {
    EXPECT_FALSE(move_on_after(20ms, [] { static_cast<void>(shell("sleep 1000 & wait")); }));
    while (has_child()) sleep_for(1ms);
  });
}

TEST_F(CommandTest, TheOutputIsBounded) {
  on_loop([] {
    const CommandResult result = shell("head -c 100000 /dev/zero", {.output_max = 10});
    EXPECT_EQ(result.out.size(), 10U);
    EXPECT_TRUE(result.truncated);
    EXPECT_TRUE(result.success());
  });
}

TEST_F(CommandTest, CheckedOutput) {
  on_loop([] {
    EXPECT_EQ(check_output({"echo", "hello"}), "hello\n");
    try {
      static_cast<void>(check_output({"sh", "-c", "echo out; echo first >&2; echo 'last line' >&2; exit 2"}));
      ADD_FAILURE();
    } catch (const CommandFailed& failure) {
      EXPECT_STREQ(failure.what(), "sh: exited with 2: last line");
      EXPECT_EQ(failure.result().out, "out\n");
    }
    EXPECT_THROW(static_cast<void>(check_output({"sleep", "1000"}, {.timeout = 5ms})), CommandFailed);
  });
}

}  // namespace
}  // namespace bight
