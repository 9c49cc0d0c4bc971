// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What the tests of net/ share.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/net/tcp.hpp>

#include "on_loop.hpp"
#include "socket_pair.hpp"

namespace bight::test {

inline std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

/// The process has as many descriptors after a test as before. (What loops leave behind, on_loop looks at.)
class NetTest : public ::testing::Test {
 protected:
  void SetUp() override { descriptors_ = open_descriptors(); }
  void TearDown() override { EXPECT_EQ(open_descriptors(), descriptors_); }

 private:
  std::size_t descriptors_ = 0;
};

/// Both ends of a connection.
struct StreamPair {
  net::TcpStream client;
  net::TcpStream server;
};

inline StreamPair connect_to(net::TcpListener& listener) {
  StreamPair pair;
  pair.client = net::connect(listener.local_address());
  pair.server = listener.accept();
  return pair;
}

inline StreamPair stream_pair(std::string_view address = "127.0.0.1:0") {
  auto listener = net::TcpListener::bind(address);
  return connect_to(listener);
}

/// A connection whose ways take little before they are full, above all the one to the server.
inline StreamPair narrow_pair(int buffer = 4096) {
  LoopbackListener listener;
  auto [client, server] = connect_pair(listener, buffer, buffer);
  std::error_code error;
  server.set_option(SOL_SOCKET, SO_SNDBUF, buffer, error);
  require_ok(error, "SO_SNDBUF");
  return {net::TcpStream(std::move(client)), net::TcpStream(std::move(server))};
}

/// What a call ended with: the code and the text of its std::system_error, or neither.
struct Failure {
  std::error_code code;
  std::string text;
};

template <class F>
[[nodiscard]] Failure failure_of(F&& f) {
  try {
    f();
  } catch (const std::system_error& error) {
    return {error.code(), error.what()};
  }
  return {};
}

template <class F>
[[nodiscard]] bool is_cancelled(F&& f) {
  try {
    f();
  } catch (const Cancelled&) {
    return true;
  }
  return false;
}

// Data whose every byte depends on where it stands, so that nothing lost, repeated or swapped goes unnoticed.

inline std::uint64_t pattern_word(std::uint64_t number) noexcept {
  number = (number + 1) * 0x9e3779b97f4a7c15;
  number = (number ^ (number >> 30U)) * 0xbf58476d1ce4e5b9;
  return number ^ (number >> 27U);
}

inline std::byte pattern_byte(std::uint64_t offset) noexcept {
  return static_cast<std::byte>(pattern_word(offset / 8) >> (offset % 8 * 8));
}

inline void fill_pattern(std::span<std::byte> data, std::uint64_t offset) noexcept {
  for (std::byte& each : data) each = pattern_byte(offset++);
}

[[nodiscard]] inline bool matches_pattern(std::span<const std::byte> data, std::uint64_t offset) noexcept {
  for (const std::byte each : data) {
    if (each != pattern_byte(offset++)) return false;
  }
  return true;
}

[[nodiscard]] inline std::vector<std::byte> pattern(std::size_t size, std::uint64_t offset = 0) {
  std::vector<std::byte> data(size);
  fill_pattern(data, offset);
  return data;
}

/// Writes `size` bytes of the pattern, in pieces.
inline void send_pattern(net::TcpStream& stream, std::uint64_t size, std::size_t piece = std::size_t{64} * 1024) {
  std::vector<std::byte> buffer(piece);
  for (std::uint64_t sent = 0; sent < size;) {
    const auto data = std::span(buffer).first(static_cast<std::size_t>(std::min<std::uint64_t>(piece, size - sent)));
    fill_pattern(data, sent);
    stream.write_all(data);
    sent += data.size();
  }
}

/// Reads to the end of the stream. Returns how many bytes came, or how many before the first wrong one.
[[nodiscard]] inline std::uint64_t receive_pattern(net::TcpStream& stream) {
  std::uint64_t received = 0;
  while (const Chunk chunk = stream.read()) {
    if (!matches_pattern(chunk, received)) break;
    received += chunk.size();
  }
  return received;
}

inline void echo(net::TcpStream stream) {
  while (const Chunk chunk = stream.read()) stream.write_all(chunk);
}

/// Sends `text` and returns as much as an answer.
inline std::string ask(net::TcpStream& stream, std::string_view text) {
  stream.write_all(text);
  std::string answer(text.size(), '\0');
  stream.read_exactly(std::as_writable_bytes(std::span(answer)));
  return answer;
}

}  // namespace bight::test
