// SPDX-License-Identifier: Apache-2.0
#include <bight/shared_memory.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <bight/connection.hpp>

#include "child.hpp"
#include "misuse.hpp"
#include "open_fds.hpp"

namespace bight::test {
namespace {

std::size_t count_files(const char* folder) {
  std::error_code error;
  std::size_t count = 0;
  for (const auto& each : std::filesystem::directory_iterator(folder, error)) count += each.exists(error) ? 1 : 0;
  return count;
}

// gevent-parity, 46: test_shared_memory_across_processes.
TEST(SharedMemory, is_the_same_in_all_processes) {
  const SharedMemory memory(10'000);
  EXPECT_EQ(memory.size(), 10'000U);
  EXPECT_TRUE(std::all_of(memory.span().begin(), memory.span().end(), [](std::byte b) { return b == std::byte{0}; }));
  memory.as<std::uint64_t>(8) = 1;
  const Ended ended = in_child([&] {
    if (memory.as<std::uint64_t>(8) != 1) return 1;
    memory.as<std::uint64_t>(8) = 2;
    memory.span().back() = std::byte{7};
    return 0;
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_EQ(memory.as<std::uint64_t>(8), 2U);
  EXPECT_EQ(memory.span().back(), std::byte{7});
}

// gevent-parity, 46: test_shared_memory_cleaned_after_process_termination. There is nothing that could be left behind.
TEST(SharedMemory, is_gone_with_its_processes) {
  const std::size_t files = count_files("/dev/shm");
  const std::size_t fds = open_fds();
  {
    const SharedMemory memory(1 << 20);
    SharedMemory copy = memory;
    EXPECT_EQ(copy.data(), memory.data());
    Child child([&] {
      const SharedMemory own(1 << 20);
      own.as<int>() = 1;
      memory.as<int>() = 1;
      ::raise(SIGKILL);
      return 0;
    });
    EXPECT_TRUE(child.wait().by(SIGKILL));
    EXPECT_EQ(memory.as<int>(), 1);
  }
  EXPECT_EQ(count_files("/dev/shm"), files);
  EXPECT_EQ(open_fds(), fds);
}

TEST(SharedMemory, is_sent_as_a_descriptor) {
  Connection near;
  Connection far;
  std::tie(near, far) = make_connection_pair();
  Child child([&] {
    near.close();
    auto message = far.receive_message();
    if (!message || message->fds.size() != 1) return 1;
    const SharedArray<int> numbers{SharedMemory(std::move(message->fds[0]))};
    if (numbers.size() != 1000 || numbers[999] != 999) return 2;
    numbers[0] = 5;
    return 0;
  });
  const SharedArray<int> numbers(1000);  // made after the fork
  for (int i = 0; i < 1000; ++i) numbers[static_cast<std::size_t>(i)] = i;
  near.send_with_fds({}, std::array{numbers.memory().fd()});
  const Ended ended = child.wait();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_EQ(numbers[0], 5);
}

TEST(SharedMemory, nobody_can_pull_it_away) {
  const SharedMemory memory(4096);
  EXPECT_NE(::ftruncate(memory.fd(), 0), 0);
  EXPECT_NE(::ftruncate(memory.fd(), 8192), 0);
  EXPECT_NE(::fcntl(memory.fd(), F_ADD_SEALS, F_SEAL_WRITE), 0);
  EXPECT_NE(::fcntl(memory.fd(), F_GETFD) & FD_CLOEXEC, 0);
  Fd unsealed(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(unsealed.get(), 4096), 0);
  EXPECT_THROW(SharedMemory(std::move(unsealed)), std::system_error);
  EXPECT_THROW(SharedMemory(Fd(::open("/dev/null", O_RDWR | O_CLOEXEC))), std::system_error);
  EXPECT_THROW(SharedMemory{Fd()}, std::system_error);
}

TEST(SharedMemory, sizes_that_can_not_be_are_errors) {
  EXPECT_THROW(SharedMemory(0), std::system_error);
  EXPECT_THROW(SharedMemory(~std::size_t{0}), std::system_error);
  EXPECT_THROW(SharedArray<std::uint64_t>(~std::size_t{0} / 4), std::system_error);
  EXPECT_THROW(SharedValue<std::uint64_t>(SharedMemory(4)), std::system_error);
  EXPECT_FALSE(SharedMemory());
  EXPECT_EQ(SharedMemory().size(), 0U);
  EXPECT_TRUE(SharedArray<int>().empty());
  expect_abort("too small", [] { static_cast<void>(SharedMemory(4).as<std::uint64_t>()); });
  expect_abort("not aligned", [] { static_cast<void>(SharedMemory(64).as<std::uint64_t>(4)); });
  expect_abort("has no such element", [] { static_cast<void>(SharedArray<int>(4)[4]); });
}

TEST(SharedMemory, counters_count_what_all_processes_count) {
  const SharedCounter counter;
  const SharedValue<double> value(1.5);
  std::vector<Child> children;
  for (int i = 0; i < 4; ++i) {
    children.emplace_back([&] {
      for (int k = 0; k < 10'000; ++k) ++counter;
      double seen = value.load();
      while (!value.compare_exchange(seen, seen * 2)) {
      }
      return 0;
    });
  }
  for (Child& each : children) EXPECT_TRUE(each.wait().with(0));
  EXPECT_EQ(counter.get(), 40'000);
  EXPECT_EQ(value.exchange(0), 24);
  EXPECT_EQ(--counter, 39'999);
  counter.store(5);
  EXPECT_EQ(SharedCounter(counter.memory()).add(-6), -1);
}

}  // namespace
}  // namespace bight::test
