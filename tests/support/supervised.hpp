// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <functional>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <gtest/gtest.h>

#include <bight/fd.hpp>
#include <bight/log.hpp>
#include <bight/shards.hpp>
#include <bight/stop.hpp>

#include "child.hpp"

namespace bight::test {

/// Lines from the workers to the test. A line is one write, so lines of different workers do not mix.
class Reports {
 public:
  Reports() {
    std::array<int, 2> pipe{};
    if (::pipe(pipe.data()) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
    read_end_ = Fd(pipe[0]);
    write_end_ = Fd(pipe[1]);
  }

  /// A worker's side: "WHAT INDEX PID".
  void tell(std::string_view what, std::size_t index) const {
    const std::string line = std::string(what) + " " + std::to_string(index) + " " + std::to_string(::getpid()) + "\n";
    [[maybe_unused]] const auto written = ::write(write_end_.get(), line.data(), line.size());
  }

  struct Report {
    std::string what;
    std::size_t index = 0;
    pid_t pid = 0;
  };

  /// The test's side: the next line; {"nothing"} when none comes for 20 s, {"end"} when all who could write are gone.
  Report next() {
    for (;;) {
      if (const auto end = text_.find('\n'); end != std::string::npos) {
        Report report;
        std::array<char, 32> what{};
        std::sscanf(text_.c_str(), "%31s %zu %d", what.data(), &report.index, &report.pid);
        report.what = what.data();
        text_.erase(0, end + 1);
        return report;
      }
      pollfd poll{read_end_.get(), POLLIN, 0};
      if (::poll(&poll, 1, 20'000) <= 0) return {"nothing"};
      std::array<char, 1000> buffer{};
      const ssize_t count = ::read(read_end_.get(), buffer.data(), buffer.size());
      if (count <= 0) return {"end"};
      text_.append(buffer.data(), static_cast<std::size_t>(count));
    }
  }

  Report expect(std::string_view what) {
    Report report = next();
    EXPECT_EQ(report.what, what);
    return report;
  }

  void close_write_end() { write_end_.reset(); }

  /// The ones until all who could write are gone.
  std::vector<Report> rest() {
    std::vector<Report> all;
    for (Report report = next(); report.what != "end" && report.what != "nothing"; report = next())
      all.push_back(report);
    return all;
  }

 private:
  Fd read_end_;
  Fd write_end_;
  std::string text_;
};

/// A supervisor in a child process.
struct Supervised {
  Reports reports;
  Child child;

  Supervised(const ShardOptions& options, const std::function<void(Shard&, const Reports&)>& main)
      : child([&] {
          set_log_level(LogLevel::warning);
          ::setpgid(0, 0);
          return run_shards(options, [&](Shard& shard) { main(shard, reports); });
        }) {
    reports.close_write_end();
  }

  void send(int signal) const { ::kill(child.pid(), signal); }
  /// Stops it in order; how it ended.
  Ended stop(int signal = SIGTERM) {
    send(signal);
    return child.wait();
  }
};

inline void serve_until_stop(Shard& shard, const Reports& reports) {
  reports.tell("began", shard.index());
  wait_for_stop();
  reports.tell("drained", shard.index());
}

inline ShardOptions two_shards() {
  ShardOptions options;
  options.count = 2;
  options.back_off = std::chrono::milliseconds(1);
  options.run.engine = EngineChoice::epoll;
  return options;
}

/// A number that processes share.
class SharedCounter {
 public:
  SharedCounter() {
    void* memory = ::mmap(nullptr, sizeof(std::atomic<int>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    number_ = ::new (memory) std::atomic<int>(0);
  }
  SharedCounter(const SharedCounter&) = delete;
  SharedCounter& operator=(const SharedCounter&) = delete;
  ~SharedCounter() { ::munmap(number_, sizeof *number_); }
  std::atomic<int>& operator*() const noexcept { return *number_; }

 private:
  std::atomic<int>* number_;
};

}  // namespace bight::test
