// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "error.hpp"

#include <charconv>
#include <string>
#include <string_view>

namespace bench {

// Walks a command line of long options. A value follows as the next word or behind '=':
//
//   Arguments arguments(argc, argv);
//   while (arguments.next()) {
//     if (arguments.is("--port")) port = arguments.number<std::uint16_t>(0, 65535);
//     else arguments.unknown();
//   }
class Arguments {
 public:
  Arguments(int argc, char** argv) : words_(argv), count_(argc) {}

  bool next() {
    if (attached_) throw UsageError(std::string(name_) + " takes no value");
    if (++at_ >= count_) return false;
    const std::string_view word = words_[at_];
    const auto equals = word.find('=');
    attached_ = equals != std::string_view::npos;
    name_ = word.substr(0, equals);
    attached_value_ = attached_ ? word.substr(equals + 1) : std::string_view{};
    return true;
  }

  [[nodiscard]] bool is(std::string_view name) const { return name_ == name; }

  std::string_view value() {
    if (attached_) {
      attached_ = false;
      return attached_value_;
    }
    if (++at_ >= count_) throw UsageError(std::string(name_) + " needs a value");
    return words_[at_];
  }

  template <class Number>
  Number number(Number min, Number max) {
    const std::string_view text = value();
    Number number{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    const bool whole = error == std::errc{} && end == text.data() + text.size();
    if (!whole || number < min || number > max) {
      throw UsageError(std::string(name_) + " wants a number from " + plain(min) + " to " + plain(max) + ", not '" +
                       std::string(text) + "'");
    }
    return number;
  }

  [[noreturn]] void unknown() const { throw UsageError("unknown option '" + std::string(name_) + "'"); }

 private:
  template <class Number>
  static std::string plain(Number number) {
    char text[32];
    return {text, std::to_chars(text, text + sizeof text, number).ptr};
  }

  char** words_;
  int count_;
  int at_ = 0;
  std::string_view name_;
  std::string_view attached_value_;
  bool attached_ = false;
};

}  // namespace bench
