// SPDX-License-Identifier: Apache-2.0
// What a server sends may be more than there is memory for. Then there is no answer; but nobody waits for it for good.
#include <array>
#include <cstddef>
#include <cstdlib>
#include <new>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/fiber.hpp>

#include "dns_world.hpp"

namespace {

constexpr std::size_t kTooMuch = 54321;

void* allocate(std::size_t size) {
  if (size != kTooMuch) {
    if (void* memory = std::malloc(size)) return memory;
  }
  throw std::bad_alloc();
}

}  // namespace

// Where it has inlined some of these, GCC takes the others for the library's.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return std::malloc(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::Resolver;
using net::ResolverOptions;

class DnsMemoryTest : public DnsWorldTest {};

TEST_F(DnsMemoryTest, AnAnswerThatIsTooLargeIsNone) {
  on_loop([] {
    auto listener = net::TcpListener::bind("127.0.0.1:0");
    ResolverOptions options = asking({listener.local_address()});
    options.use_tcp = true;
    options.tries = 1;
    Resolver resolver(options);
    auto server = spawn([&] {
      net::TcpStream peer = listener.accept();
      const std::array<unsigned char, 2> size{kTooMuch >> 8U, kTooMuch & 0xffU};
      peer.write_all(std::as_bytes(std::span(size)));
      while (peer.read()) {
      }
    });
    std::error_code error;
    EXPECT_TRUE(
        move_on_after(30s, [&] { static_cast<void>(resolver.resolve("a.example", {.family = AF_INET}, error)); }));
    EXPECT_EQ(error, std::errc::not_enough_memory);
    server.join();
  });
}

}  // namespace
}  // namespace bight::test
