// SPDX-License-Identifier: Apache-2.0
#include "parser.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

namespace redis {

namespace {

constexpr std::string_view kLineEnd = "\r\n";
constexpr std::size_t kReservedMax = 1024;                    // items, before any has come
constexpr std::size_t kReservedBytes = std::size_t{1} << 20;  // likewise

template <class T>
bool parse_whole(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

bool is_big_number(std::string_view text) {
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

std::optional<Value> Parser::next(std::string_view& bytes) {
  while (complaint_ == nullptr && !bytes.empty()) {
    if (body_kind_ != 0) {
      take_body(bytes);
    } else {
      take_line(bytes);
    }
    if (done_) {
      taken_ = 0;
      elements_ = 0;
      return std::exchange(done_, std::nullopt);
    }
  }
  return std::nullopt;
}

void Parser::count(std::size_t bytes) {
  taken_ += bytes;
  if (taken_ > limits_.reply_max) complain("a reply of more bytes than allowed");
}

void Parser::take_line(std::string_view& bytes) {
  const std::size_t end = bytes.find('\n');
  const std::size_t size = end == std::string_view::npos ? bytes.size() : end + 1;
  if (line_.size() + size > limits_.line_max + 1 + kLineEnd.size()) return complain("a line that is too long");
  count(size);
  const std::string_view piece = bytes.substr(0, size);
  bytes.remove_prefix(size);
  if (end == std::string_view::npos) {
    line_ += piece;
    return;
  }
  std::string held;
  std::string_view line = piece;
  if (!line_.empty()) {
    held = std::exchange(line_, {}) + std::string(piece);
    line = held;
  }
  if (line.size() < 1 + kLineEnd.size() || !line.ends_with(kLineEnd))
    return complain("a line that does not end with CR LF");
  line.remove_suffix(kLineEnd.size());
  if (line.find('\r') != std::string_view::npos) return complain("a CR within a line");
  if (complaint_ == nullptr) read_line(line);
}

void Parser::read_line(std::string_view line) {
  const char kind = line.front();
  const std::string_view rest = line.substr(1);
  switch (kind) {
    case '+': return finish(Value(Type::status, std::string(rest)));
    case '-': return finish(Value(Type::error, std::string(rest)));
    case ':': {
      std::int64_t value = 0;
      if (!parse_whole(rest, value)) return complain("an integer that is none");
      return finish(Value(value));
    }
    case '$':
    case '=':
    case '!': return read_body_size(kind, rest);
    case '*':
    case '~':
    case '%':
    case '>':
    case '|': return read_list_size(kind, rest);
    case '_': return rest.empty() ? finish(Value()) : complain("a null with something in it");
    case '#': return rest == "t" || rest == "f" ? finish(Value(rest == "t")) : complain("a boolean that is none");
    case ',': return read_number(rest);
    case '(':
      return is_big_number(rest) ? finish(Value(Type::big_number, std::string(rest)))
                                 : complain("a big number that is none");
    default: return complain("a reply of a type that does not exist");
  }
}

void Parser::read_number(std::string_view digits) {
  double value = 0;
  if (digits == "inf" || digits == "+inf") {
    value = std::numeric_limits<double>::infinity();
  } else if (digits == "-inf") {
    value = -std::numeric_limits<double>::infinity();
  } else if (digits == "nan" || digits == "-nan") {
    value = std::numeric_limits<double>::quiet_NaN();
  } else if (!parse_whole(digits, value) || !std::isfinite(value)) {
    return complain("a number that is none");
  }
  finish(Value(value));
}

void Parser::read_body_size(char kind, std::string_view digits) {
  if (kind == '$' && digits == "-1") return finish(Value());
  std::size_t size = 0;
  if (!parse_whole(digits, size)) return complain("the size of a string is no number");
  if (size > limits_.bulk_max) return complain("a string of more bytes than allowed");
  body_kind_ = kind;
  body_left_ = size;
  ending_left_ = kLineEnd.size();
  body_.reserve(std::min(size, kReservedBytes));
}

void Parser::take_body(std::string_view& bytes) {
  const std::size_t size = std::min(body_left_, bytes.size());
  body_.append(bytes.substr(0, size));
  body_left_ -= size;
  bytes.remove_prefix(size);
  count(size);
  while (body_left_ == 0 && ending_left_ > 0 && !bytes.empty()) {
    if (bytes.front() != kLineEnd[kLineEnd.size() - ending_left_]) return complain("a string without CR LF behind it");
    --ending_left_;
    bytes.remove_prefix(1);
    count(1);
  }
  if (body_left_ == 0 && ending_left_ == 0 && complaint_ == nullptr) finish_body();
}

void Parser::finish_body() {
  const char kind = std::exchange(body_kind_, '\0');
  std::string text = std::exchange(body_, {});
  if (kind == '$') return finish(Value(Type::text, std::move(text)));
  if (kind == '!') return finish(Value(Type::error, std::move(text)));
  constexpr std::size_t kFormat = 3;
  const bool printable =
      std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(std::min(kFormat, text.size())),
                  [](char c) { return c > ' ' && c <= '~'; });
  if (text.size() <= kFormat || text[kFormat] != ':' || !printable) {
    return complain("a verbatim text without a format");
  }
  Value value(Type::verbatim, text.substr(kFormat + 1));
  value.set_format({text[0], text[1], text[2]});
  finish(std::move(value));
}

void Parser::read_list_size(char kind, std::string_view digits) {
  if (kind == '*' && digits == "-1") return finish(Value());
  std::size_t size = 0;
  if (!parse_whole(digits, size)) return complain("the size of a list is no number");
  const std::size_t each = kind == '%' || kind == '|' ? 2 : 1;
  if (size > limits_.elements_max || each * size > limits_.elements_max - std::min(elements_, limits_.elements_max)) {
    return complain("a reply of more elements than allowed");
  }
  size *= each;
  elements_ += size;
  const bool attribute = kind == '|';
  if (kind == '>' && !frames_.empty()) return complain("a push within a reply");
  if (attribute && !attributes_.empty()) return complain("attributes of attributes");
  if (frames_.size() >= limits_.depth_max) return complain("lists within lists, deeper than allowed");
  const Type type = kind == '~' ? Type::set : kind == '%' ? Type::map : kind == '>' ? Type::push : Type::array;
  Frame frame{Value(type, Value::Items{}), size, attribute};
  if (!attribute) frame.value.set_attributes(std::exchange(attributes_, {}));
  if (size == 0) {
    if (attribute) return;
    return finish(std::move(frame.value));
  }
  frame.value.building().reserve(std::min(size, kReservedMax));
  frames_.push_back(std::move(frame));
}

void Parser::finish(Value value) {
  if (!attributes_.empty()) value.set_attributes(std::exchange(attributes_, {}));
  for (;;) {
    if (frames_.empty()) {
      done_ = std::move(value);
      return;
    }
    Frame& frame = frames_.back();
    frame.value.building().push_back(std::move(value));
    if (--frame.left > 0) return;
    Frame whole = std::move(frame);
    frames_.pop_back();
    if (whole.attribute) {
      attributes_ = whole.value.take_items();
      return;
    }
    value = std::move(whole.value);
  }
}

}  // namespace redis
