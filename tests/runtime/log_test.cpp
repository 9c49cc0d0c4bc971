// SPDX-License-Identifier: Apache-2.0
#include <bight/log.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "child.hpp"

namespace bight {
namespace {

using test::in_child;

std::string logged(LogLevel at, LogLevel level, std::string_view text) {
  const auto ended = in_child([&] {
    set_log_level(at);
    detail::log(level, text);
    return 0;
  });
  return ended.errors;
}

TEST(Log, Lines) {
  struct Row {
    LogLevel at;
    LogLevel level;
    std::string_view text;
    const char* line;
  };
  for (const Row& row : {
           Row{LogLevel::info, LogLevel::info, "hello", "bight: hello\n"},
           Row{LogLevel::info, LogLevel::warning, "hello", "bight: warning: hello\n"},
           Row{LogLevel::info, LogLevel::error, "hello", "bight: error: hello\n"},
           Row{LogLevel::debug, LogLevel::debug, "hello", "bight: debug: hello\n"},
           Row{LogLevel::info, LogLevel::debug, "hello", ""},
           Row{LogLevel::error, LogLevel::warning, "hello", ""},
           Row{LogLevel::off, LogLevel::error, "hello", ""},
           Row{LogLevel::off, LogLevel::off, "hello", ""},
           Row{LogLevel::info, LogLevel::info, "", "bight: \n"},
       }) {
    EXPECT_EQ(logged(row.at, row.level, row.text), row.line);
  }
}

// reliability 3: control bytes escaped in logs
TEST(Log, ControlBytesAreEscaped) {
  using namespace std::string_view_literals;
  EXPECT_EQ(logged(LogLevel::info, LogLevel::info, "a\x1b[31m\r\t\0\x7f b"sv),
            "bight: a\\x1b[31m\\x0d\\x09\\x00\\x7f b\n");
  EXPECT_EQ(logged(LogLevel::info, LogLevel::info, "first\nsecond"), "bight: first\n  second\n");
  EXPECT_EQ(logged(LogLevel::info, LogLevel::info, "gr\xc3\xbc\xc3\x9f"), "bight: gr\xc3\xbc\xc3\x9f\n");
}

// As of `server 2>&1 | tee log` when Ctrl-C has ended the tee, and the server is to drain.
TEST(Log, ThatNobodyReadsEndsNobody) {
  const auto ended = in_child([&] {
    ::signal(SIGPIPE, SIG_DFL);
    std::array<int, 2> pipe{};
    if (::pipe(pipe.data()) != 0) return 1;
    ::close(pipe[0]);
    ::dup2(pipe[1], STDERR_FILENO);
    detail::log(LogLevel::error, "hello");
    return 0;
  });
  EXPECT_TRUE(ended.with(0));
}

TEST(Log, TheLevelComesFromTheEnvironment) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // a process of its own, in which nobody has asked for the level yet
  struct Row {
    const char* value;
    LogLevel level;
  };
  for (const Row& row : {Row{"debug", LogLevel::debug}, Row{"warning", LogLevel::warning}, Row{"off", LogLevel::off},
                         Row{"nonsense", LogLevel::info}, Row{"", LogLevel::info}}) {
    EXPECT_EXIT(
        {
          ::setenv("BIGHT_LOG", row.value, 1);
          std::_Exit(log_level() == row.level ? 0 : 1);
        },
        testing::ExitedWithCode(0), "")
        << row.value;
  }
}

TEST(Log, LinesOfSeveralThreadsDoNotMix) {
  const auto ended = in_child([] {
    set_log_level(LogLevel::info);
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([i] {
        for (int k = 0; k < 50; ++k) detail::log(LogLevel::info, std::string(200, static_cast<char>('a' + i)));
      });
    }
    for (auto& thread : threads) thread.join();
    return 0;
  });
  std::size_t lines = 0;
  for (std::size_t at = 0; at < ended.errors.size(); ++lines) {
    const std::size_t end = ended.errors.find('\n', at);
    ASSERT_NE(end, std::string::npos);
    const std::string line = ended.errors.substr(at, end - at);
    ASSERT_EQ(line.size(), 207U) << line;
    EXPECT_EQ(line, "bight: " + std::string(200, line.back()));
    at = end + 1;
  }
  EXPECT_EQ(lines, 200U);
}

/// Every line of `text`, without its end.
std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

// Records of many lines, too: these are longer than what a pipe takes in one go.
TEST(Log, LinesOfManyProcessesDoNotMix) {
  constexpr int kProcesses = 12;
  constexpr int kRecords = 40;
  constexpr int kLines = 60;
  const auto ended = in_child([] {
    set_log_level(LogLevel::info);
    std::vector<pid_t> children;
    for (int i = 0; i < kProcesses; ++i) {
      const pid_t child = ::fork();
      if (child != 0) {
        children.push_back(child);
        continue;
      }
      std::string record(150, static_cast<char>('a' + i));
      for (int line = 1; line < kLines; ++line) record += "\n" + std::string(150, static_cast<char>('a' + i));
      for (int k = 0; k < kRecords; ++k) detail::log(LogLevel::info, record);
      ::_exit(0);
    }
    for (const pid_t child : children) ::waitpid(child, nullptr, 0);
    return 0;
  });
  std::size_t count = 0;
  for (const std::string& line : lines_of(ended.errors)) {
    ++count;
    const std::string content(150, line.back());
    ASSERT_TRUE(line == "bight: " + content || line == "  " + content) << line;
  }
  EXPECT_EQ(count, static_cast<std::size_t>(kProcesses * kRecords * kLines));
}

TEST(Log, LongLinesAreBroken) {
  const std::string text = logged(LogLevel::info, LogLevel::info, std::string(2500, '\x01'));
  std::size_t escaped = 0;
  for (const std::string& line : lines_of(text)) {
    EXPECT_LT(line.size(), static_cast<std::size_t>(PIPE_BUF));
    for (std::size_t at = line.find("\\x01"); at != std::string::npos; at = line.find("\\x01", at + 1)) ++escaped;
  }
  EXPECT_EQ(escaped, 2500U);
  EXPECT_EQ(lines_of(text).size(), 3U);
}

}  // namespace
}  // namespace bight
