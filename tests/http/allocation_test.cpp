// SPDX-License-Identifier: Apache-2.0
// Requests on a connection that stays cost no allocation, once the first ones have been answered.

#include <array>
#include <cstdlib>
#include <new>
#include <span>
#include <string>

#include <gtest/gtest.h>

#include "corpus.hpp"
#include "support.hpp"

namespace {

std::size_t allocations = 0;  // of this program's only thread that makes any

}  // namespace

// Where it has inlined some of these, GCC takes the others for the library's.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

// All of them, for a sanitizer's own ones would be taken where one is missing.
void* operator new(std::size_t size, const std::nothrow_t& /*tag*/) noexcept {
  ++allocations;
  return std::malloc(size);
}
void* operator new(std::size_t size) {
  if (void* memory = operator new(size, std::nothrow)) return memory;
  throw std::bad_alloc();
}
void* operator new[](std::size_t size) { return operator new(size); }
void* operator new[](std::size_t size, const std::nothrow_t& tag) noexcept { return operator new(size, tag); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*size*/) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t /*size*/) noexcept { std::free(memory); }

namespace bight::http::testing {
namespace {

// One request after the other, in the pieces given, each answered before the next.
void expect_no_allocations(const std::vector<std::string>& pieces, std::size_t answer_size) {
  const auto handler = [](Request& request) {
    return request.body().empty() && request.header("x-long").size() < 1000 ? hello(request) : text("other", 202);
  };
  with_server(handler, [&](const net::Address& server) {
    net::TcpStream stream = net::connect(server);
    std::array<std::byte, 4096> buffer;
    const auto exchange = [&] {
      for (const std::string& piece : pieces) {
        stream.write_all(piece);
        if (pieces.size() > 1) yield();
      }
      std::size_t size = 0;
      while (size < answer_size) size += stream.read(buffer);
      ASSERT_EQ(size, answer_size);
    };
    for (int i = 0; i < 100; ++i) exchange();
    const std::size_t before = allocations;
    for (int i = 0; i < 10'000; ++i) exchange();
    const std::size_t after = allocations;
    if (!test::on_sim()) {  // whose network is made of allocations
      EXPECT_EQ(after - before, 0U);
    }
  });
}

std::size_t size_of_answer(unsigned status) {
  const std::string_view reason = reason_phrase(status);
  const std::size_t body = status == 200 ? 13 : 5;
  return std::string_view(
             "HTTP/1.1 200 \r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: bight\r\n"
             "Content-Type: text/plain\r\nContent-Length: 13\r\n\r\n")
             .size() +
         reason.size() + body - (body < 10 ? 1 : 0);
}

TEST(Allocation, NoneForAGet) { expect_no_allocations({get_with("")}, size_of_answer(200)); }

TEST(Allocation, NoneForABrowsersGet) {
  expect_no_allocations({get_with("User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html,*/*;q=0.8\r\n"
                                  "Accept-Language: en-US,en;q=0.5\r\nConnection: keep-alive\r\n")},
                        size_of_answer(200));
}

TEST(Allocation, NoneForPipelinedGets) {
  std::string requests;
  for (int i = 0; i < 10; ++i) requests += get_with("");
  expect_no_allocations({requests}, 10 * size_of_answer(200));
}

TEST(Allocation, NoneForBodies) {
  expect_no_allocations({post_with("Content-Length: 5\r\n", "hello")}, size_of_answer(202));
  expect_no_allocations({chunked("5\r\nhello\r\n0\r\nA: b\r\n\r\n")}, size_of_answer(202));
}

TEST(Allocation, NoneForRequestsInPieces) {
  expect_no_allocations({post_with("Content-Length: 5\r\n", ""), "hello"}, size_of_answer(202));
  expect_no_allocations({"GET / HTTP/1.1\r\n", "Host: x\r\n\r\n"}, size_of_answer(200));
}

}  // namespace
}  // namespace bight::http::testing
