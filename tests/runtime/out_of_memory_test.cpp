// SPDX-License-Identifier: Apache-2.0
// Memory runs out: each allocation of a program's life fails once, in a process of its own. Whatever it was for, the
// error comes to somebody, the program goes on or ends in order, and nothing is left behind. (The way of SQLite's and
// Seastar's tests: fail the first, then the second, until all goes well.)
#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <system_error>
#include <utility>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/fiber_local.hpp>
#include <bight/log.hpp>
#include <bight/remote.hpp>
#include <bight/report.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

#include "child.hpp"
#include "on_loop.hpp"
#include "socket_pair.hpp"

namespace {

constexpr long kNever = -1;
long countdown = kNever;  // of allocations until the one that fails
long allocations = 0;

bool fails_now() {
  ++allocations;
  return countdown != kNever && countdown-- == 0;
}

void* allocate(std::size_t size) {
  if (!fails_now()) {
    if (void* memory = std::malloc(size)) return memory;
  }
  throw std::bad_alloc();
}

}  // namespace

// Where it has inlined some of these, GCC takes the others for the library's.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return fails_now() ? nullptr : std::malloc(size);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::bytes_of;
using test::connect_pair;
using test::in_child;

/// A bit of everything.
void echo_once() {
  auto [client, server] = connect_pair();
  auto echo = spawn({.name = "echo"}, [&server = server] {
    std::error_code error;
    while (const Chunk chunk = server.read(error)) server.write_all(chunk, error);
  });
  std::error_code error;
  client.write_all(bytes_of("hello"), error);
  std::array<std::byte, 5> answer{};
  client.read(answer, error);
  client.shutdown(SHUT_WR, error);
  echo.join();
}

void do_a_bit_of_everything() {
  static const FiberLocal<std::string> local;
  Scope scope;
  for (int i = 0; i < 20; ++i) {
    scope
        .spawn([] {
          local.get() = "a value that is too long to be kept inside the string object";
          sleep_for(1ms);
        })
        .detach();
  }
  auto result = scope.spawn([] { return std::string("a result that is too long to be kept inside the object"); });
  result.on_done([] {});
  const Remote remote;
  remote.post([] {});
  EXPECT_FALSE(move_on_after(1ms, [] { sleep_for(1h); }));
  with_timeout(10s, echo_once);
  scope.join();
}

/// What is left on the loop after it, for a message; empty: nothing.
std::string leftovers() {
  const LoopStats stats = this_loop::stats();
  if (stats.fibers_alive == 1 && stats.timers_armed + stats.operations_in_flight + stats.descriptors_open == 0)
    return {};
  return this_loop::dump_fibers() + std::to_string(stats.timers_armed) + " timers, " +
         std::to_string(stats.operations_in_flight) + " operations, " + std::to_string(stats.descriptors_open) +
         " descriptors are left\n";
}

/// The exit status for it: 0 when the error was told, or came to nothing, and nothing is left behind.
int run_with_failure_at(long number) {
  set_log_level(LogLevel::off);
  RunOptions options;
  options.on_unhandled_error = [](const UnhandledError&) {};
  std::string left;
  countdown = number;
  try {
    run(options, [&] {
      try {
        do_a_bit_of_everything();
      } catch (const std::bad_alloc&) {
      } catch (const std::system_error& error) {
        if (error.code() != std::errc::not_enough_memory) throw;
      } catch (const EngineUnavailable&) {
      }
      countdown = kNever;
      left = leftovers();
    });
  } catch (const std::bad_alloc&) {
  } catch (const EngineUnavailable&) {  // for want of memory
  }
  countdown = kNever;
  std::fprintf(stderr, "%s", left.c_str());
  return left.empty() ? 0 : 2;
}

TEST(OutOfMemory, EachAllocationFailsOnce) {
  if (run([] { return test::on_sim(); })) GTEST_SKIP() << "a simulated kernel is made of memory";
  const long before = allocations;
  ASSERT_EQ(run_with_failure_at(kNever), 0);
  const long count = allocations - before;
  EXPECT_GT(count, 20);
  for (long number = 0; number < count; ++number) {
    const auto ended = in_child([number] { return run_with_failure_at(number); });
    EXPECT_TRUE(ended.with(0)) << "allocation " << number << " of " << count << ": " << describe(ended);
  }
}

}  // namespace
}  // namespace bight
