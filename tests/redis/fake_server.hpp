// SPDX-License-Identifier: Apache-2.0
#pragma once

// Something that speaks enough of Redis' protocol to be a client's other end, over any stream.

#include <array>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <bight/net/byte_stream.hpp>

#include "redis_client/parser.hpp"

namespace redis::test {

using Words = std::vector<std::string>;

inline Words words_of(const Value& request) {
  Words words;
  for (const Value& each : request.items()) words.push_back(each.text());
  return words;
}

/// Answers each request with what `handler` returns, as it is; until the stream ends, or the handler returns "bye".
template <bight::net::ByteStream S>
void serve_requests(S& stream, const std::function<std::string(const Words&)>& handler) {
  Parser parser;
  std::array<std::byte, 4096> buffer{};
  std::error_code error;
  for (;;) {
    const std::size_t count = stream.read(std::span(buffer), error);
    if (error || count == 0) return;
    std::string_view bytes(reinterpret_cast<const char*>(buffer.data()), count);
    std::string replies;
    bool bye = false;
    while (auto request = parser.next(bytes)) {
      const std::string reply = handler(words_of(*request));
      bye = bye || reply == "bye";
      if (!bye) replies += reply;
    }
    stream.write_all(std::as_bytes(std::span(replies)), error);
    if (error || bye) return;
  }
}

inline std::string bulk(std::string_view text) {
  return "$" + std::to_string(text.size()) + "\r\n" + std::string(text) + "\r\n";
}

}  // namespace redis::test
