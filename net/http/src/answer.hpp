// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <ctime>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include <bight/http/message.hpp>

namespace bight::http::detail {

/// Bytes on their way out.
class Output {
 public:
  /// Where the next `size` bytes go, to be followed by wrote(). What is there already stays. Throws std::bad_alloc.
  [[nodiscard]] char* room(std::size_t size) {
    if (capacity_ - size_ < size) grow(size);
    return bytes_.get() + size_;
  }
  void wrote(const char* end) noexcept { size_ = static_cast<std::size_t>(end - bytes_.get()); }

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
    return std::as_bytes(std::span<const char>(bytes_.get(), size_));
  }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  void clear() noexcept { size_ = 0; }
  /// Empties it, and gives memory beyond `capacity` back.
  void trim(std::size_t capacity) noexcept;

 private:
  void grow(std::size_t size);

  std::unique_ptr<char[]> bytes_;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

/// What is to be known about the request to write its answer.
struct AnswerFacts {
  bool to_head = false;  // no body, whatever the response has
  bool from_http_1_0 = false;
  bool close = false;  // no further request will be read
};

/// Turns responses into bytes. Keeps what is the same in all of them within one second.
class AnswerWriter {
 public:
  /// `virtual_time`: dates count from 1970 on the loop's clock, so that a simulated run repeats to the byte.
  AnswerWriter(std::string_view server_name, bool virtual_time);

  /// The head, and the body if it is to be sent and has no more than `inline_max` bytes. Returns the body to be sent
  /// behind that, if any.
  std::string_view append(Output& out, const Response& response, const AnswerFacts& facts, std::size_t inline_max);

 private:
  void refresh();

  bool virtual_time_;
  std::time_t second_ = -1;  // that of the date written
  std::string ok_;           // "HTTP/1.1 200 OK", Date and Server: how nearly all answers begin
  std::size_t common_ = 0;   // where in it begins what other answers have as well,
  std::size_t date_ = 0;     // and where the date
};

}  // namespace bight::http::detail
