// SPDX-License-Identifier: Apache-2.0
#include "parser.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include <llhttp.h>

#include "syntax.hpp"

namespace bight::http::detail {
namespace {

constexpr std::size_t kMethodMax = 24;  // longer ones are unknown to everybody
constexpr std::size_t kLineExtra = kMethodMax + std::string_view("  HTTP/1.1\r\n").size();
constexpr std::string_view kEmptyLine = "\r\n";

// A name with a space in it, or before its colon: the one thing in names that llhttp 8 lets pass unless it was built to
// be strict.
bool has_space(std::string_view name) noexcept { return name.find(' ') != std::string_view::npos; }

}  // namespace

// --- the stream ------------------------------------------------------------------------------------------------------

Parser::Parser(const Limits& limits, Request& request) noexcept : limits_(limits), request_(request) {}

void Parser::start() noexcept {
  state_ = State::head;
  size_ = start_ = 0;
  scan_ = {};
  facts_ = {};
  request_.method_ = Method::get;  // for as long as it is not known
  request_.headers_.places_.clear();
  request_.trailers_.places_.clear();
}

Parser::Progress Parser::refuse(unsigned status) noexcept {
  status_ = status;
  return Progress::refused;
}

bool Parser::take_expectation() noexcept { return std::exchange(facts_.expects_continue, false); }

Parser::Progress Parser::advance(char* data, std::size_t size) {
  size_ = size;
  if (state_ == State::head) {
    if (const Progress progress = advance_head(data, size); progress != Progress::complete) return progress;
  }
  return advance_body(data + start_, size - start_);
}

// complete: the head is.
Parser::Progress Parser::advance_head(char* data, std::size_t size) {
  for (;;) {
    const bool in_line = scan_.lines() == 0;
    const std::size_t limit = in_line ? limits_.target_bytes_max + kLineExtra : head_size_;
    const std::size_t there = size - start_;
    switch (scan_.next_line(data + start_, std::min(there, limit))) {
      case BlockScan::Found::illegal: return refuse(400);
      case BlockScan::Found::more: return there < limit ? Progress::incomplete : refuse(in_line ? 414 : 431);
      case BlockScan::Found::line:
        if (!in_line) break;
        if (const unsigned status = read_request_line(data + start_, scan_.position()); status != 0)
          return refuse(status);
        break;
      case BlockScan::Found::end:
        if (in_line) {
          // An empty line in front of the request: old clients send one behind a body. One.
          if (start_ != 0) return refuse(400);
          start_ = kEmptyLine.size();
          scan_ = {};
          break;
        }
        if (const unsigned status = read_head(data + start_); status != 0) return refuse(status);
        return Progress::complete;
    }
  }
}

// `data` is the request's first byte from here on.
Parser::Progress Parser::advance_body(char* data, std::size_t size) {
  if (state_ == State::fixed_body) {
    const auto length = static_cast<std::size_t>(facts_.length);
    if (size - head_size_ < length) return Progress::incomplete;
    return finish(data, head_size_, length, head_size_ + length);
  }
  if (state_ == State::chunked_body) {
    switch (chunked_.advance(data, size, limits_)) {
      case ChunkedBody::Step::bad: return refuse(400);
      case ChunkedBody::Step::too_large: return refuse(413);
      case ChunkedBody::Step::more: close_up(data, size); return Progress::incomplete;
      case ChunkedBody::Step::end: state_ = State::trailers; scan_ = {};
    }
  }
  return advance_trailers(data, size);
}

Parser::Progress Parser::advance_trailers(char* data, std::size_t size) {
  const std::size_t at = chunked_.read_at();
  const std::size_t limit = limits_.header_bytes_max + kEmptyLine.size() - header_bytes_;
  const std::size_t there = size - at;
  for (;;) {
    switch (scan_.next_line(data + at, std::min(there, limit))) {
      case BlockScan::Found::illegal: return refuse(400);
      case BlockScan::Found::more:
        if (there >= limit) return refuse(431);
        close_up(data, size);
        return Progress::incomplete;
      case BlockScan::Found::line: break;
      case BlockScan::Found::end:
        if (const unsigned status = read_trailers(data, at, scan_.position()); status != 0) return refuse(status);
        return finish(data, head_size_, chunked_.write_at() - head_size_, at + scan_.position());
    }
  }
}

Parser::Progress Parser::finish(char* data, std::size_t body_at, std::size_t body_size, std::size_t taken) noexcept {
  request_.base_ = request_.headers_.base_ = request_.trailers_.base_ = data;
  request_.body_at_ = body_at;
  request_.body_size_ = body_size;
  size_ = start_ + taken;
  return Progress::complete;
}

void Parser::close_up(char* data, std::size_t size) noexcept {
  const std::size_t gap = chunked_.read_at() - chunked_.write_at();
  if (gap == 0) return;
  std::memmove(data + chunked_.write_at(), data + chunked_.read_at(), size - chunked_.read_at());
  chunked_.closed_up();
  size_ -= gap;
}

// --- the head --------------------------------------------------------------------------------------------------------

unsigned Parser::read_request_line(const char* data, std::size_t size) noexcept {
  RequestLine line;
  if (const unsigned status = parse_request_line({data, size - kEmptyLine.size()}, line); status != 0) return status;
  if (line.target.size() > limits_.target_bytes_max) return 414;
  request_.method_ = line.method;
  request_.method_size_ = static_cast<std::uint32_t>(line.method_name.size());
  request_.target_at_ = static_cast<std::uint32_t>(line.target.data() - data);
  request_.target_size_ = static_cast<std::uint32_t>(line.target.size());
  request_.version_minor_ = static_cast<std::uint8_t>(line.version_minor);
  line_size_ = size;
  head_size_ = size + limits_.header_bytes_max + kEmptyLine.size();  // at most
  return 0;
}

unsigned Parser::read_head(const char* data) {
  head_size_ = scan_.position();
  header_bytes_ = head_size_ - line_size_ - kEmptyLine.size();
  const unsigned status = run_llhttp({}, {data, head_size_}, data, request_.headers_, scan_.lines() - 1);
  if (status != 0) return status;
  request_.base_ = request_.headers_.base_ = data;
  if (const unsigned refusal = check_fields(); refusal != 0) return refusal;
  if (const unsigned refusal = check_framing(); refusal != 0) return refusal;
  if (facts_.chunked) {
    state_ = State::chunked_body;
    chunked_.start(head_size_);
  } else {
    state_ = State::fixed_body;
  }
  return 0;
}

unsigned Parser::read_trailers(const char* data, std::size_t at, std::size_t size) {
  if (scan_.lines() == 0) return 0;
  // llhttp knows no trailers without the body before them; to it, they are headers of another request.
  constexpr std::string_view before = "GET / HTTP/1.1\r\n";
  const unsigned status = run_llhttp(before, {data + at, size}, data, request_.trailers_, scan_.lines());
  if (status != 0) return status;
  request_.trailers_.base_ = data;
  constexpr std::string_view not_behind[] = {"content-length", "transfer-encoding", "host", "connection",
                                             "expect",         "trailer",           "te"};
  for (const Field field : request_.trailers_) {
    if (has_space(field.name)) return 400;
    for (const std::string_view name : not_behind) {
      if (equal_names(field.name, name)) return 400;
    }
  }
  return 0;
}

unsigned Parser::check_fields() noexcept {
  for (const Field field : request_.headers_) {
    if (has_space(field.name)) return 400;
    switch (field.name.size()) {
      case std::string_view("host").size():
        if (equal_names(field.name, "host") && (++facts_.hosts > 1 || !is_host(field.value))) return 400;
        break;
      case std::string_view("expect").size():
        if (!equal_names(field.name, "expect")) break;
        (equal_names(field.value, "100-continue") ? facts_.expects_continue : facts_.expects_other) = true;
        break;
      case std::string_view("connection").size():
        if (!equal_names(field.name, "connection")) break;
        facts_.close |= list_contains(field.value, "close");
        facts_.keep_alive |= list_contains(field.value, "keep-alive");
        break;
      case std::string_view("content-length").size():
        if (!equal_names(field.name, "content-length")) break;
        if (const auto length = parse_decimal(field.value); length && ++facts_.lengths == 1) {
          facts_.length = *length;
        } else {
          return 400;
        }
        break;
      case std::string_view("transfer-encoding").size():
        if (!equal_names(field.name, "transfer-encoding")) break;
        // One line, and `chunked` last: else nobody knows where the body ends.
        if (++facts_.codings > 1) return 400;
        facts_.chunked = equal_names(field.value, "chunked");
        facts_.other_coding = !facts_.chunked;
        if (facts_.other_coding) {
          const std::size_t comma = field.value.rfind(',');
          if (comma == std::string_view::npos) return 400;
          if (!equal_names(trimmed(field.value.substr(comma + 1)), "chunked")) return 400;
          if (list_contains(field.value.substr(0, comma), "chunked")) return 400;
        }
        break;
      default: break;
    }
  }
  return 0;
}

unsigned Parser::check_framing() noexcept {
  const bool http_1_0 = request_.version_minor_ == 0;
  if (facts_.hosts == 0 && !http_1_0) return 400;
  if (request_.target().front() != '/') {
    if (facts_.hosts != 0 && !agrees_with_target(request_.headers_.get("host"), request_.target())) return 400;
  }
  if (facts_.codings != 0 && (facts_.lengths != 0 || http_1_0)) return 400;
  if (facts_.other_coding) return 501;
  if (facts_.length > limits_.body_bytes_max) return 413;
  if (facts_.expects_other && !http_1_0) return 417;
  if (http_1_0) facts_.expects_continue = false;
  request_.keep_alive_ = !facts_.close && (!http_1_0 || facts_.keep_alive);
  return 0;
}

// --- llhttp ----------------------------------------------------------------------------------------------------------

struct Parser::Collector {
  Fields& fields;
  const char* base;
  std::size_t count_max;
  bool too_many = false;
  bool in_pieces = false;

  [[nodiscard]] std::uint32_t place_of(const char* at) const noexcept { return static_cast<std::uint32_t>(at - base); }

  static Collector& of(llhttp_t* parser) noexcept { return *static_cast<Collector*>(parser->data); }

  static int on_name(llhttp_t* parser, const char* at, std::size_t size) {
    Collector& self = of(parser);
    if (self.fields.size() == self.count_max) {
      self.too_many = true;
      return HPE_USER;
    }
    const std::uint32_t name = self.place_of(at);
    const auto name_size = static_cast<std::uint32_t>(size);
    self.fields.places_.push_back({name, name_size, name + name_size, 0});
    return HPE_OK;
  }

  static int on_value(llhttp_t* parser, const char* at, std::size_t size) {
    Collector& self = of(parser);
    Fields::Place& place = self.fields.places_.back();
    self.in_pieces |= place.value_size != 0;
    const std::string_view value = trimmed({at, size});
    place.value = self.place_of(value.data());
    place.value_size = static_cast<std::uint32_t>(value.size());
    return HPE_OK;
  }

  // The body is not llhttp's.
  static int on_end(llhttp_t* /*parser*/) { return HPE_PAUSED; }

  static constexpr llhttp_settings_t kSettings = [] {
    llhttp_settings_t settings{};
    settings.on_header_field = on_name;
    settings.on_header_value = on_value;
    settings.on_headers_complete = on_end;
    return settings;
  }();
};

// Has llhttp parse `before` and `block`, which ends in an empty line, and puts the fields of its `lines` header lines
// into `fields`.
unsigned Parser::run_llhttp(std::string_view before, std::string_view block, const char* base, Fields& fields,
                            std::size_t lines) {
  Collector collector{fields, base, limits_.header_count_max - request_.headers_.size()};
  llhttp_t parser;
  llhttp_init(&parser, HTTP_REQUEST, &Collector::kSettings);
  parser.data = &collector;
  if (!before.empty()) llhttp_execute(&parser, before.data(), before.size());
  const llhttp_errno_t verdict = llhttp_execute(&parser, block.data(), block.size());
  if (collector.too_many) return 431;
  if (verdict == HPE_PAUSED) {
    // It has to have understood what the scan has: one field a line, and the same end.
    const bool same = fields.size() == lines && llhttp_get_error_pos(&parser) == block.data() + block.size();
    return same && !collector.in_pieces ? 0 : 400;
  }
  // The request line is well-formed, or it would not have come here; so what llhttp minds in it is the method.
  const bool in_line = before.empty() && llhttp_get_error_pos(&parser) < block.data() + line_size_;
  return in_line && request_.method_ == Method::other ? 501 : 400;
}

}  // namespace bight::http::detail
