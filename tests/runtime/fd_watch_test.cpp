// SPDX-License-Identifier: Apache-2.0
#include <bight/fd_watch.hpp>

#include <sys/eventfd.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <system_error>
#include <thread>

#include <gtest/gtest.h>

#include <bight/fd.hpp>
#include <bight/fiber.hpp>
#include <bight/select.hpp>
#include <bight/stream.hpp>
#include <bight/time.hpp>

#include "child.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::on_loop;
using test::on_sim;

/// Somebody else's descriptor.
struct Counter {
  Fd fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  void add() const { EXPECT_EQ(::eventfd_write(fd.get(), 1), 0); }
  [[nodiscard]] bool take() const {
    eventfd_t value = 0;
    return ::eventfd_read(fd.get(), &value) == 0;
  }
};

template <class Body>
void on_real_loop(Body&& body) {
  on_loop([&] {
    if (on_sim()) GTEST_SKIP() << "real descriptors can not be waited on in a simulated world";
    body();
  });
}

TEST(FdWatch, WaitsUntilItIsReadable) {
  on_real_loop([] {
    const Counter counter;
    FdWatch watch(counter.fd.get());
    for (int round = 0; round < 100; ++round) {
      auto waiting = spawn([&] { watch.wait_readable(); });
      yield();
      counter.add();
      waiting.get();
      EXPECT_TRUE(counter.take());
    }
    counter.add();
    watch.wait_readable();  // there already, twice
    watch.wait_readable();
    watch.wait_writable();
  });
}

TEST(FdWatch, TheFreeFunctionsLeaveNothingBehind) {
  on_real_loop([] {
    for (int round = 0; round < 50; ++round) {
      const Counter counter;  // with the same number each time
      auto waiting = spawn([&] { wait_readable(counter.fd.get()); });
      yield();
      counter.add();
      waiting.get();
      wait_writable(counter.fd.get());
    }
  });
}

TEST(FdWatch, ClosingEndsTheWaitsAndLeavesTheDescriptorOpen) {
  on_real_loop([] {
    const Counter counter;
    FdWatch watch(counter.fd.get());
    std::error_code error;
    auto waiting = spawn([&] { watch.wait_readable(error); });
    sleep_for(1ms);
    watch.close();
    waiting.join();
    EXPECT_EQ(error, std::errc::bad_file_descriptor);
    EXPECT_FALSE(watch.attached());
    watch.wait_readable(error);
    EXPECT_EQ(error, std::errc::bad_file_descriptor);
    counter.add();
    EXPECT_TRUE(counter.take());
  });
}

TEST(FdWatch, TwoOnOneDescriptorGoTheirOwnWays) {
  on_real_loop([] {
    const Counter counter;
    auto first = std::make_unique<FdWatch>(counter.fd.get());
    FdWatch second(counter.fd.get());
    std::error_code error;
    auto waiting = spawn([&] { second.wait_readable(); });
    yield();
    first->wait_readable(error);
    EXPECT_EQ(error, std::errc::device_or_resource_busy);
    first->wait_writable();
    first.reset();  // the other's wait goes on
    yield();
    counter.add();
    waiting.get();
  });
}

TEST(FdWatch, ASocketsOrStreamsOwnDescriptorMayBeWatched) {
  on_loop([] {
    Pipe pipe = make_pipe();
    {
      FdWatch watch(pipe.reader.fd());
      auto waiting = spawn([&] { watch.wait_readable(); });
      yield();
      pipe.writer.write_all("x");
      waiting.get();
    }
    std::array<std::byte, 4> buffer{};
    EXPECT_EQ(pipe.reader.read(buffer), 1U);

    FdWatch watch(pipe.reader.fd());
    std::error_code error;
    auto waiting = spawn([&] { watch.wait_readable(error); });
    yield();
    pipe.reader.close();
    waiting.join();
    EXPECT_EQ(error, std::errc::bad_file_descriptor);
  });
}

TEST(FdWatch, IsACaseOfSelect) {
  on_real_loop([] {
    const Counter one;
    const Counter two;
    FdWatch first(one.fd.get());
    FdWatch second(two.fd.get());
    two.add();
    int which = 0;
    select(first.on_readable([&] { which = 1; }), second.on_readable([&] { which = 2; }));
    EXPECT_EQ(which, 2);
  });
}

TEST(FdWatch, CancellationAndLimitsEndAWait) {
  on_real_loop([] {
    const Counter counter;
    FdWatch watch(counter.fd.get());
    std::error_code error;
    auto waiting = spawn([&] { watch.wait_readable(error); });
    yield();
    waiting.cancel();
    waiting.join();
    EXPECT_EQ(error, std::errc::operation_canceled);
  });
}

TEST(FdWatch, OutlivesItsLoopAndIsAttachedAnew) {
  const Counter counter;
  std::optional<FdWatch> watch;
  on_real_loop([&] {
    // What is left behind would be a failure, so the rest is in a loop of its own.
  });
  if (::testing::Test::IsSkipped()) return;
  run([&] {
    watch.emplace(counter.fd.get());
    EXPECT_TRUE(watch->attached());
  });
  EXPECT_FALSE(watch->attached());
  run([&] {
    EXPECT_FALSE(watch->attached());
    std::error_code error;
    watch->wait_readable(error);
    EXPECT_EQ(error, std::errc::bad_file_descriptor);
    watch.reset();
    watch.emplace(counter.fd.get());
    counter.add();
    watch->wait_readable();
    watch.reset();
  });
}

TEST(FdWatch, OnSimRealDescriptorsAreRefused) {
  on_loop([] {
    if (!on_sim()) GTEST_SKIP() << "only there";
    const Counter counter;
    std::error_code error;
    wait_readable(counter.fd.get(), error);
    EXPECT_EQ(error, std::errc::operation_not_supported);
  });
}

}  // namespace
}  // namespace bight
