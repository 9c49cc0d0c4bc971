// SPDX-License-Identifier: Apache-2.0
#include "command.hpp"

#include <algorithm>
#include <array>

namespace redis {

namespace {

void append_number(std::string& out, char kind, std::size_t number) {
  std::array<char, 24> digits{kind};
  char* end = std::to_chars(digits.data() + 1, digits.data() + digits.size(), number).ptr;
  *end++ = '\r';
  *end++ = '\n';
  out.append(digits.data(), end);
}

bool equal_ignoring_case(std::string_view text, std::string_view upper) {
  return std::equal(text.begin(), text.end(), upper.begin(), upper.end(),
                    [](char a, char b) { return (a >= 'a' && a <= 'z' ? static_cast<char>(a - 'a' + 'A') : a) == b; });
}

template <std::size_t N>
bool among(std::string_view name, const std::array<std::string_view, N>& names) {
  return std::any_of(names.begin(), names.end(),
                     [&](std::string_view each) { return equal_ignoring_case(name, each); });
}

constexpr std::array<std::string_view, 9> kTakeOver{
    "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "MONITOR", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "SYNC", "PSYNC"};
constexpr std::array<std::string_view, 11> kAlter{"SELECT", "WATCH",  "MULTI",    "AUTH",      "HELLO", "CLIENT",
                                                  "RESET",  "ASKING", "READONLY", "READWRITE", "QUIT"};

}  // namespace

Command& Command::add(std::string_view argument) {
  append_number(body_, '$', argument.size());
  body_ += argument;
  body_ += "\r\n";
  ++count_;
  return *this;
}

std::string_view Command::name() const noexcept {
  return std::string_view(body_).substr(body_.find('\n') + 1, name_size_);
}

Effect Command::effect() const noexcept {
  const std::string_view name = this->name();
  if (among(name, kTakeOver)) return Effect::takes_over;
  if (!among(name, kAlter)) return Effect::none;
  constexpr std::string_view kReply = "REPLY";
  if (equal_ignoring_case(name, "CLIENT") && count_ > 1) {
    const std::size_t second = body_.find("\r\n", body_.find('\n') + 1 + name_size_ + 2) + 2;
    if (equal_ignoring_case(std::string_view(body_).substr(second, kReply.size()), kReply)) return Effect::takes_over;
  }
  return Effect::alters;
}

void Command::append_to(std::string& out) const {
  append_number(out, '*', count_);
  out += body_;
}

}  // namespace redis
