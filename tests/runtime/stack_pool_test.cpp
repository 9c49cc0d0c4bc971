// SPDX-License-Identifier: Apache-2.0
#include "stack_pool.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include <gtest/gtest.h>

#include "build.hpp"
#include "child.hpp"
#include "sys/limits.hpp"

namespace bight::detail {
namespace {

using bight::test::describe;
using bight::test::in_child;

std::size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t total = 0;
  std::size_t resident = 0;
  file >> total >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

std::size_t mappings() {
  std::ifstream file("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(file, line);) ++count;
  return count;
}

/// Whether this kernel has MADV_GUARD_INSTALL (Linux 6.13), without which a guard costs two mappings.
bool has_cheap_guards() {
  void* memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const bool has = ::madvise(memory, 4096, 102) == 0;
  ::munmap(memory, 4096);
  return has;
}

TEST(StackPool, SizeClassesArePowersOfTwo) {
  struct Row {
    std::size_t asked;
    std::size_t got;
  };
  StackPool pool(16);
  for (const Row& row : {Row{1, 16 << 10}, Row{16 << 10, 16 << 10}, Row{(16 << 10) + 1, 32 << 10},
                         Row{64 << 10, 64 << 10}, Row{100'000, 128 << 10}, Row{64 << 20, 64 << 20}}) {
    const StackPool::Stack stack = pool.take(row.asked);
    const auto usable = static_cast<std::size_t>(stack.top - stack.low);
    EXPECT_LE(usable, row.got - StackPool::kPage) << row.asked;
    EXPECT_GE(usable, row.got - StackPool::kPage - StackPool::kColours * StackPool::kColourStep) << row.asked;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(stack.top) % 64, 0U);
    std::memset(stack.low, 1, usable > (1 << 20) ? 4096 : usable);
    stack.top[-1] = std::byte{1};
    pool.give_back(stack.size_class, stack.index);
  }
}

TEST(StackPool, RefusesWhatIsTooLarge) {
  StackPool pool(16);
  try {
    static_cast<void>(pool.take((std::size_t{64} << 20) + 1));
    FAIL() << "a stack of more than 64 MiB";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code().value(), EINVAL);
    EXPECT_NE(std::string(error.what()).find("67108864 is the most"), std::string::npos) << error.what();
  }
  EXPECT_EQ(pool.reserved(), 0U);
}

TEST(StackPool, ReusesTheLastOneGivenBackFirst) {
  StackPool pool(16);
  std::vector<StackPool::Stack> stacks;
  for (int i = 0; i < 10; ++i) stacks.push_back(pool.take(64 << 10));
  for (const auto& stack : stacks) pool.give_back(stack.size_class, stack.index);
  for (auto each = stacks.rbegin(); each != stacks.rend(); ++each) {
    const StackPool::Stack again = pool.take(64 << 10);
    EXPECT_EQ(again.low, each->low);
    EXPECT_EQ(again.top, each->top);
  }
  EXPECT_EQ(pool.reserved(), 10U);
  for (const auto& stack : stacks) pool.give_back(stack.size_class, stack.index);
}

TEST(StackPool, ClassesDoNotShareStacks) {
  StackPool pool(16);
  const StackPool::Stack small = pool.take(16 << 10);
  pool.give_back(small.size_class, small.index);
  const StackPool::Stack large = pool.take(64 << 10);
  EXPECT_NE(small.size_class, large.size_class);
  EXPECT_EQ(pool.cached(), 1U);
  EXPECT_EQ(pool.reserved(), 2U);
  pool.give_back(large.size_class, large.index);
}

TEST(StackPool, TopsAreColoured) {
  StackPool pool(16);
  std::set<std::uintptr_t> offsets;
  std::vector<StackPool::Stack> stacks;
  for (std::size_t i = 0; i < 4 * StackPool::kColours; ++i) {
    stacks.push_back(pool.take(64 << 10));
    offsets.insert(reinterpret_cast<std::uintptr_t>(stacks.back().top) % (64 << 10));
  }
  EXPECT_EQ(offsets.size(), StackPool::kColours);
  for (const auto& stack : stacks) pool.give_back(stack.size_class, stack.index);
}

TEST(StackPool, StacksDoNotOverlap) {
  StackPool pool(16);
  std::set<std::byte*> lows;
  std::vector<StackPool::Stack> stacks;
  for (int i = 0; i < 1000; ++i) {
    stacks.push_back(pool.take(32 << 10));
    lows.insert(stacks.back().low);
  }
  ASSERT_EQ(lows.size(), 1000U);
  for (auto each = lows.begin(), next = std::next(each); next != lows.end(); each = next++) {
    EXPECT_GE(*next - *each, 32 << 10);
  }
  for (const auto& stack : stacks) pool.give_back(stack.size_class, stack.index);
}

/// Touches the last byte that may be used, then the one below it.
void run_into_the_guard(const char* kind) {
  ::setenv("BIGHT_STACK_GUARD", kind, 1);
  StackPool pool(16);
  const StackPool::Stack stack = pool.take(64 << 10);
  stack.low[0] = std::byte{1};
  std::fputs("so far so good\n", stderr);
  *const_cast<volatile std::byte*>(stack.low - 1) = std::byte{1};
}

// Which kind of guard this machine has is found out once per process: "threadsafe" death tests begin afresh.
class StackGuard : public testing::Test {
 protected:
  void SetUp() override {
    if (bight::test::sanitized) GTEST_SKIP() << "the sanitizers take the fault";
    GTEST_FLAG_SET(death_test_style, "threadsafe");
  }
};

TEST_F(StackGuard, Faults) { EXPECT_EXIT(run_into_the_guard(""), testing::KilledBySignal(SIGSEGV), "so far so good"); }

TEST_F(StackGuard, ByMprotectFaults) {
  EXPECT_EXIT(run_into_the_guard("mprotect"), testing::KilledBySignal(SIGSEGV), "so far so good");
}

TEST(StackPool, GuardsOutliveTheTrim) {
  if (bight::test::sanitized) GTEST_SKIP() << "the sanitizers take the fault";
  const auto ended = in_child([] {
    StackPool pool(0);
    std::vector<StackPool::Stack> stacks;
    for (int i = 0; i < 1000; ++i) stacks.push_back(pool.take(16 << 10));
    for (const auto& stack : stacks) pool.give_back(stack.size_class, stack.index);
    pool.trim();
    if (pool.cached() != 0) return 1;
    const StackPool::Stack again = pool.take(16 << 10);
    again.low[0] = std::byte{1};
    *const_cast<volatile std::byte*>(again.low - StackPool::kPage) = std::byte{1};
    return 0;
  });
  EXPECT_TRUE(ended.by(SIGSEGV)) << describe(ended);
}

TEST(StackPool, KnowsWhoseGuardAnAddressIsIn) {
  StackPool pool(16);
  const StackPool::Stack stack = pool.take(16 << 10);
  const StackPool::Stack other = pool.take(16 << 10);
  FiberControl owner;
  pool.set_owner(stack.size_class, stack.index, &owner);
  EXPECT_EQ(pool.owner_of_guard(stack.low - 1), &owner);
  EXPECT_EQ(pool.owner_of_guard(stack.low - StackPool::kPage), &owner);
  EXPECT_EQ(pool.owner_of_guard(stack.low), nullptr);
  EXPECT_EQ(pool.owner_of_guard(other.low - 1), nullptr);
  EXPECT_EQ(pool.owner_of_guard(nullptr), nullptr);
  pool.give_back(stack.size_class, stack.index);
  EXPECT_EQ(pool.owner_of_guard(stack.low - 1), nullptr);
  pool.give_back(other.size_class, other.index);
}

TEST(StackPool, TrimReturnsMemoryAndKeepsWhatItIsTold) {
  constexpr std::size_t kCount = bight::test::sanitized ? 2000 : 20'000;
  constexpr std::size_t kKept = 500;
  StackPool pool(kKept);
  std::vector<StackPool::Stack> stacks;
  for (std::size_t i = 0; i < kCount; ++i) {
    stacks.push_back(pool.take(16 << 10));
    stacks.back().top[-1] = std::byte{1};
  }
  const std::size_t full = resident_bytes();
  for (const auto& stack : stacks) pool.give_back(stack.size_class, stack.index);
  EXPECT_EQ(pool.cached(), kCount);
  pool.trim();
  EXPECT_EQ(pool.cached(), kKept);
  EXPECT_EQ(pool.reserved(), kCount);
  if (!bight::test::sanitized) {
    EXPECT_LT(resident_bytes() + (kCount - kKept) * 4096 * 9 / 10, full);
  }
  // Those that were returned can be had again.
  for (std::size_t i = 0; i < kCount; ++i) {
    const StackPool::Stack stack = pool.take(16 << 10);
    stack.top[-1] = std::byte{2};
  }
  EXPECT_EQ(pool.reserved(), kCount);
}

// parity 48: 100k fibers; the kernel's default vm.max_map_count is no obstacle
TEST(StackPool, AHundredThousandGuardedStacks) {
  if (!has_cheap_guards()) GTEST_SKIP() << "no MADV_GUARD_INSTALL";
  constexpr std::size_t kCount = bight::test::sanitized ? 10'000 : 100'000;
  const std::size_t before = mappings();
  StackPool pool(16);
  std::vector<StackPool::Stack> stacks;
  for (std::size_t i = 0; i < kCount; ++i) stacks.push_back(pool.take(64 << 10));
  EXPECT_LT(mappings(), before + 300);
  EXPECT_EQ(pool.reserved(), kCount);
  for (const auto& stack : stacks) pool.give_back(stack.size_class, stack.index);
}

/// Takes stacks until the limit stops it, which is to be while the process can still map memory. Exits with 0 if so.
[[noreturn]] void take_all_there_are() {
  ::setenv("BIGHT_STACK_GUARD", "mprotect", 1);
  StackPool pool(16);
  std::size_t taken = 0;
  try {
    for (; taken < 3'000'000; ++taken) static_cast<void>(pool.take(16 << 10));
    std::_Exit(4);
  } catch (const std::system_error& error) {
    std::fprintf(stderr, "%zu: %s\n", taken, error.what());
    if (error.code().value() != ENOMEM) std::_Exit(1);
  }
  for (int i = 0; i < 100; ++i) {
    void* memory = ::mmap(nullptr, 4096, i % 2 == 0 ? PROT_READ : PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::_Exit(2);
  }
  std::_Exit(taken * 2 + 8192 > sys::max_map_count() ? 0 : 3);
}

TEST_F(StackGuard, ByMprotectStopsWithAClearErrorAtTheLimit) {
  if (sys::max_map_count() > 2'000'000) GTEST_SKIP() << "vm.max_map_count is too large to be reached";
  EXPECT_EXIT(take_all_there_are(), testing::ExitedWithCode(0), "vm.max_map_count = [0-9]+ allows [0-9]+ stacks");
}

TEST(StackPool, SizesBeyondAllBoundsAreRefused) {
  StackPool pool(0);
  for (const std::size_t size : {~std::size_t{0}, ~std::size_t{0} / 2 + 2, std::size_t{64} * 1024 * 1024 + 1}) {
    EXPECT_THROW(static_cast<void>(pool.take(size)), std::system_error) << size;
  }
}

}  // namespace
}  // namespace bight::detail
