// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <bight/http/message.hpp>
#include <bight/http/server.hpp>

#include "chunked.hpp"
#include "scan.hpp"

namespace bight::http::detail {

/// Reads one request after the other out of bytes that come in whatever pieces; knows nothing of connections.
///
/// The verdict on a request depends on its bytes alone and never on how they were split: lines are looked at when they
/// are whole, the head is parsed when it is whole, and limits are places in the stream. What may differ between readers
/// of the same bytes is refused. llhttp parses the head; on top of it stand the rules that it leaves to its users, or
/// that some of its versions do not hold.
class Parser {
 public:
  enum class Progress : std::uint8_t { incomplete, complete, refused };

  /// Fills in `request`.
  Parser(const Limits& limits, Request& request) noexcept;

  /// What comes now is another request.
  void start() noexcept;

  /// Looks at a request from its first byte on: what was there at the last call (and was kept, see size()) and what has
  /// come since. The bytes may have moved, and may be changed: a chunked body is decoded in place.
  ///
  /// incomplete: the first size() bytes, perhaps fewer than were given, are to be kept and given again with more behind
  /// them. complete: the request took size() bytes; it holds views into them. refused: status() says with what.
  Progress advance(char* data, std::size_t size);

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] unsigned status() const noexcept { return status_; }

  /// Whether the headers have come, so that what is missing is of the body.
  [[nodiscard]] bool in_body() const noexcept { return state_ != State::head; }
  /// How many bytes the request will have, where that is known.
  [[nodiscard]] std::size_t expected_size() const noexcept {
    return state_ == State::fixed_body ? start_ + head_size_ + static_cast<std::size_t>(facts_.length) : 0;
  }
  /// Whether the client waits for "100 Continue" before it sends the body. True once.
  [[nodiscard]] bool take_expectation() noexcept;

 private:
  enum class State : std::uint8_t { head, fixed_body, chunked_body, trailers };
  struct Collector;

  Progress refuse(unsigned status) noexcept;
  Progress advance_head(char* data, std::size_t size);
  Progress advance_body(char* data, std::size_t size);
  Progress advance_trailers(char* data, std::size_t size);
  Progress finish(char* data, std::size_t body_at, std::size_t body_size, std::size_t taken) noexcept;
  void close_up(char* data, std::size_t size) noexcept;

  unsigned read_request_line(const char* data, std::size_t size) noexcept;
  unsigned read_head(const char* data);
  unsigned read_trailers(const char* data, std::size_t at, std::size_t size);
  unsigned run_llhttp(std::string_view before, std::string_view block, const char* base, Fields& fields,
                      std::size_t lines);
  unsigned check_fields() noexcept;
  unsigned check_framing() noexcept;

  const Limits& limits_;
  Request& request_;
  State state_ = State::head;
  unsigned status_ = 0;
  std::size_t size_ = 0;
  std::size_t start_ = 0;         // of the request line; an empty line may stand in front of it
  std::size_t line_size_ = 0;     // of that, with its end
  std::size_t header_bytes_ = 0;  // of the header lines
  std::size_t head_size_ = 0;     // of all this and the empty line; until that has come, the most it may be
  BlockScan scan_;
  ChunkedBody chunked_;

  // What the header lines say, gathered by check_fields().
  struct Facts {
    std::uint64_t length = 0;
    unsigned lengths = 0;
    unsigned codings = 0;
    unsigned hosts = 0;
    bool chunked = false;
    bool other_coding = false;
    bool expects_continue = false;
    bool expects_other = false;
    bool close = false;
    bool keep_alive = false;
  } facts_;
};

}  // namespace bight::http::detail
