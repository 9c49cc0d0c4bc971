// SPDX-License-Identifier: Apache-2.0
// What a server does all day long allocates nothing (but in a simulated network, which is made of memory).
#include <malloc.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iterator>
#include <new>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <bight/coroutine.hpp>
#include <bight/deadline.hpp>
#include <bight/fd.hpp>
#include <bight/fiber.hpp>
#include <bight/generator.hpp>
#include <bight/offload.hpp>
#include <bight/scope.hpp>
#include <bight/shared_channel.hpp>
#include <bight/time.hpp>

#include "on_loop.hpp"
#include "socket_pair.hpp"

namespace {

std::size_t allocations = 0;  // this program has one thread that allocates
bool out_of_memory = false;

void* counted(std::size_t size) {
  ++allocations;
  if (out_of_memory) throw std::bad_alloc();
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}

}  // namespace

// Where it has inlined some of these, GCC takes the others for the library's.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

void* operator new(std::size_t size) { return counted(size); }
void* operator new[](std::size_t size) { return counted(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(size);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::connect_pair;
using test::on_loop;

/// Runs `what` often enough for all that grows to have grown, then counts what another `times` of it allocate.
template <class What>
std::size_t allocations_of(int times, What&& what) {
  for (int i = 0; i < 2 * times; ++i) what();
  const std::size_t before = allocations;
  for (int i = 0; i < times; ++i) what();
  return allocations - before;
}

TEST(Allocation, CoroutinesAndGenerators) {
  on_loop([] {
    Coroutine<int, int> sums([](auto& self, int next) -> int {
      for (int sum = 0;;) next = self.yield(sum += next);
    });
    EXPECT_EQ(allocations_of(100, [&] { static_cast<void>(sums.resume(1)); }), 0U);
    EXPECT_EQ(allocations_of(100,
                             [] {
                               const Generator<int> three([](auto& yield) {
                                 for (int i = 0; i < 3; ++i) yield(i);
                               });
                             }),
              0U);
    EXPECT_EQ(allocations_of(100,
                             [] {
                               int sum = 0;
                               const auto body = [](auto& yield) {
                                 for (int i = 0; i < 3; ++i) yield(i);
                               };
                               for (const int each : Generator<int>(body)) sum += each;
                               EXPECT_EQ(sum, 3);
                             }),
              0U);
  });
}

TEST(Allocation, IsCounted) {
  static int* volatile made = nullptr;  // or the compiler would leave both out
  EXPECT_EQ(allocations_of(10,
                           [] {
                             made = new int;
                             delete made;
                           }),
            10U);
}

TEST(Allocation, OffloadingAllocatesNothing) {
  on_loop([] {
    int calls = 0;
    EXPECT_EQ(allocations_of(100, [&] { offload([&] { ++calls; }); }), 0U);
    EXPECT_EQ(calls, 300);
  });
}

TEST(Allocation, ABoundedSharedChannelAllocatesNothing) {
  on_loop([] {
    SharedChannel<int> channel(1);
    auto echo = spawn([&] {
      for ([[maybe_unused]] const int each : channel) {
      }
    });
    EXPECT_EQ(allocations_of(100, [&] { channel.send(1); }), 0U);
    channel.close();
    echo.join();
  });
}

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

// The loop keeps its notes of descriptors in blocks of 256, and makes one with the first descriptor that belongs there.
TEST(Allocation, ADescriptorWithoutMemoryForItIsClosed) {
  on_loop([] {
    if (test::on_sim()) GTEST_SKIP() << "its descriptors are of its own, and made of memory";
    test::LoopbackListener listener;
    std::error_code error;
    Socket client = Socket::open(AF_INET, SOCK_STREAM, 0, error);
    std::vector<Fd> fillers;
    for (int number = 0; number < 1'000;) fillers.emplace_back(number = ::dup(0));
    client.connect(listener.name(), sizeof listener.address, error);
    ASSERT_FALSE(error) << error;
    const std::size_t before = open_descriptors();
    std::error_code opening;
    std::error_code accepting;
    out_of_memory = true;
    const Socket opened = Socket::open(AF_INET, SOCK_STREAM, 0, opening);
    const Socket accepted = listener.socket.accept(accepting);
    out_of_memory = false;
    EXPECT_EQ(opening, std::errc::not_enough_memory);
    EXPECT_EQ(accepting, std::errc::not_enough_memory);
    EXPECT_FALSE(opened || accepted);
    EXPECT_EQ(open_descriptors(), before);
    EXPECT_TRUE(Socket::open(AF_INET, SOCK_STREAM, 0, opening)) << "and the next one is fine";
    EXPECT_FALSE(opening);
  });
}

TEST(Allocation, NoneForYields) {
  on_loop([] {
    auto other = spawn([] {
      for (int i = 0; i < 1000; ++i) yield();
    });
    EXPECT_EQ(allocations_of(200, [] { yield(); }), 0U);
    other.join();
  });
}

TEST(Allocation, NoneForSpawnAndJoin) {
  on_loop([] {
    EXPECT_EQ(allocations_of(200, [] { spawn([] {}).join(); }), 0U);
    EXPECT_EQ(allocations_of(200, [] { EXPECT_EQ(spawn([](int a, int b) { return a + b; }, 1, 2).get(), 3); }), 0U);
    EXPECT_EQ(allocations_of(200, [] { spawn([] {}).detach(), yield(); }), 0U);
    EXPECT_EQ(allocations_of(50,
                             [] {
                               Scope scope;
                               for (int i = 0; i < 20; ++i) scope.spawn([] { yield(); });
                               scope.join();
                             }),
              0U);
  });
}

TEST(Allocation, NoneForTimeAndLimits) {
  on_loop([] {
    EXPECT_EQ(allocations_of(50, [] { sleep_for(10us); }), 0U);
    EXPECT_EQ(allocations_of(200, [] { with_timeout(1h, [] { yield(); }); }), 0U);
    EXPECT_EQ(allocations_of(200, [] { EXPECT_TRUE(move_on_after(1ms, [] {})); }), 0U);
    EXPECT_EQ(allocations_of(200,
                             [] {
                               Shield shield;
                               yield();
                             }),
              0U);
  });
}

/// Two fibers that hand bytes to and fro.
template <class Read>
std::size_t allocations_of_echo(Read&& read) {
  std::size_t result = 0;
  on_loop([&] {
    if (test::on_sim()) return;
    auto [client, server] = connect_pair();
    auto echo = spawn([&server = server, &read] {
      while (read(server)) {
      }
    });
    result = allocations_of(200, [&client = client] {
      std::array<std::byte, 64> buffer{};
      std::error_code error;
      client.write_all(buffer, error);
      for (std::size_t got = 0; got < buffer.size();) got += client.read(std::span(buffer).subspan(got), error);
    });
    client.close();
    echo.join();
  });
  return result;
}

TEST(Allocation, NoneForAnEchoWithTheCallersBuffer) {
  EXPECT_EQ(allocations_of_echo([](Socket& socket) {
              std::array<std::byte, 4096> buffer;
              std::error_code error;
              const std::size_t count = socket.read(buffer, error);
              socket.write_all(std::span(buffer).first(count), error);
              return count > 0;
            }),
            0U);
}

TEST(Allocation, NoneForAnEchoWithLentBuffers) {
  EXPECT_EQ(allocations_of_echo([](Socket& socket) {
              std::error_code error;
              const Chunk chunk = socket.read(error);
              socket.write_all(chunk, error);
              return !chunk.empty();
            }),
            0U);
}

TEST(Allocation, NoneForAnEchoWithLimitsAndGatheredWrites) {
  EXPECT_EQ(allocations_of_echo([](Socket& socket) {
              socket.set_read_timeout(10s);
              socket.set_write_timeout(10s);
              std::error_code error;
              const Chunk chunk = with_timeout(20s, [&] { return socket.read(error); });
              if (chunk.empty()) return false;
              auto* data = const_cast<std::byte*>(chunk.data());
              std::array<::iovec, 2> pieces{{{data, 1}, {data + 1, chunk.size() - 1}}};
              socket.write_all(std::span<::iovec>(pieces), error);
              return true;
            }),
            0U);
}

TEST(Allocation, NoneForReadsThatAreCancelledOrTimeOut) {
  on_loop([] {
    auto [client, server] = connect_pair();
    EXPECT_EQ(allocations_of(50,
                             [&client = client] {
                               std::error_code error;
                               std::array<std::byte, 8> buffer{};
                               client.set_read_timeout(10us);
                               client.read(buffer, error);
                               static_cast<void>(client.read(error));
                             }),
              0U);
    client.set_read_timeout(0s);
    EXPECT_EQ(allocations_of(50,
                             [&client = client] {
                               auto reader = spawn([&client] {
                                 std::error_code error;
                                 static_cast<void>(client.read(error));
                               });
                               yield();
                               reader.cancel();
                               reader.join();
                             }),
              0U);
  });
}

}  // namespace
}  // namespace bight
