// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "limits.hpp"
#include "value.hpp"

namespace redis {

/// Makes replies out of bytes, in whatever pieces they come. RESP2 and RESP3 are told apart by the replies themselves,
/// so it takes both. Strict: lines end with CR LF, numbers are nothing but numbers. (The streamed strings and lists
/// that the specification of RESP3 has in mind, but no server sends, are refused.)
///
/// Needs memory for what has come, not for what is announced. Knows nothing of connections, and never waits.
class Parser {
 public:
  explicit Parser(const Limits& limits = {}) : limits_(limits) {}

  /// Takes bytes from the front of `bytes` up to the end of a reply, or all there are. Nothing: more are needed, or
  /// there is a complaint.
  [[nodiscard]] std::optional<Value> next(std::string_view& bytes);
  /// What is wrong with what came; null: nothing. From then on nothing is taken any more.
  [[nodiscard]] const char* complaint() const noexcept { return complaint_; }
  /// Whether a reply has begun, and not ended.
  [[nodiscard]] bool in_reply() const noexcept { return taken_ > 0; }

 private:
  struct Frame {  // a list that is not complete
    Value value;
    std::size_t left;
    bool attribute;
  };

  void take_line(std::string_view& bytes);
  void take_body(std::string_view& bytes);
  void read_line(std::string_view line);
  void read_body_size(char kind, std::string_view digits);
  void read_list_size(char kind, std::string_view digits);
  void read_number(std::string_view digits);
  void finish_body();
  void finish(Value value);
  void count(std::size_t bytes);
  void complain(const char* why) noexcept {
    if (complaint_ == nullptr) complaint_ = why;
  }

  Limits limits_;
  const char* complaint_ = nullptr;
  std::string line_;             // the beginning of one that was cut
  char body_kind_ = 0;           // of the string under way; 0: none
  std::size_t body_left_ = 0;    // of its bytes
  std::size_t ending_left_ = 0;  // of the CR LF behind it
  std::string body_;
  std::vector<Frame> frames_;
  Value::Items attributes_;  // for the value that comes next
  std::size_t taken_ = 0;    // bytes of the reply under way
  std::size_t elements_ = 0;
  std::optional<Value> done_;
};

}  // namespace redis
