// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include <bight/http/message.hpp>
#include <bight/http/server.hpp>

namespace bight::http::detail {

/// Takes the framing out of a chunked body, in place: what is between the chunks is overwritten by the chunks. Ends
/// behind the last chunk's line, where the trailers begin.
///
/// It is ours rather than llhttp's because versions of llhttp differ in what they let pass here (llhttp 8 takes a lone
/// line feed, and extensions without end), and what would have to be checked before it is all there is to do.
class ChunkedBody {
 public:
  enum class Step : std::uint8_t { more, end, bad, too_large };

  void start(std::size_t body_at) noexcept { *this = ChunkedBody{body_at}; }

  /// Decodes what has come. `data` is the request from its first byte, whose tail from read_at() on has not been
  /// decoded.
  Step advance(char* data, std::size_t size, const Limits& limits) noexcept;

  /// Behind the decoded body. What is between this and read_at() is rubbish.
  [[nodiscard]] std::size_t write_at() const noexcept { return write_; }
  [[nodiscard]] std::size_t read_at() const noexcept { return read_; }
  /// The caller has moved the tail down to the decoded body.
  void closed_up() noexcept { read_ = write_; }

  ChunkedBody() noexcept = default;

 private:
  enum class State : std::uint8_t { size_line, data, data_end };

  explicit ChunkedBody(std::size_t body_at) noexcept : begin_(body_at), read_(body_at), write_(body_at) {}
  Step read_size_line(const char* data, std::size_t size, const Limits& limits) noexcept;
  Step read_data_end(const char* data, std::size_t size) noexcept;
  void move_data(char* data, std::size_t size) noexcept;

  State state_ = State::size_line;
  bool last_ = false;
  std::size_t begin_ = 0;
  std::size_t read_ = 0;
  std::size_t write_ = 0;
  std::size_t left_ = 0;  // of the chunk
  std::size_t extension_bytes_ = 0;
};

}  // namespace bight::http::detail
