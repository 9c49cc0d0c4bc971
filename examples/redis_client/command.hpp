// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace redis {

/// What a command does to the connection it goes through, by its name.
enum class Effect : unsigned char {
  none,
  alters,      ///< it is another connection afterwards: SELECT, WATCH, MULTI, AUTH, CLIENT ...
  takes_over,  ///< answers come that are no answers: SUBSCRIBE, MONITOR, CLIENT REPLY ...
};

/// A request, ready to be sent.
///
///     redis::Command set("SET", key, 42);
///     set.add("EX").add(60);
class Command {
 public:
  template <class... Args>
  explicit Command(std::string_view name, const Args&... args) : name_size_(name.size()) {
    add(name);
    (add(args), ...);
  }

  Command& add(std::string_view argument);
  Command& add(const char* argument) { return add(std::string_view(argument)); }
  Command& add(const std::string& argument) { return add(std::string_view(argument)); }
  Command& add(std::span<const std::byte> bytes) {
    return add(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }
  /// Numbers as the server reads them back to the same value.
  template <class Number>
  requires(std::is_arithmetic_v<Number> && !std::is_same_v<Number, bool>) Command& add(Number number) {
    char digits[64];
    const auto [end, error] = std::to_chars(digits, digits + sizeof digits, number);
    return add(std::string_view(digits, static_cast<std::size_t>(end - digits)));
  }
  Command& add(bool) = delete;  // the server has none

  /// It may take the server as long as it likes: BLPOP, XREAD BLOCK, WAIT. ConnectionOptions::reply_timeout is not for
  /// it.
  Command& blocking() {
    blocking_ = true;
    return *this;
  }
  /// To do it twice is as good as once, so a Pool may send it again when it can not know whether it was done.
  Command& idempotent() {
    idempotent_ = true;
    return *this;
  }
  [[nodiscard]] bool is_blocking() const noexcept { return blocking_; }
  [[nodiscard]] bool is_idempotent() const noexcept { return idempotent_; }

  [[nodiscard]] std::string_view name() const noexcept;
  [[nodiscard]] Effect effect() const noexcept;
  /// How many bytes it is, about.
  [[nodiscard]] std::size_t size() const noexcept { return body_.size() + 16; }
  void append_to(std::string& out) const;

 private:
  std::string body_;  // the arguments as they are sent, the name first
  std::size_t count_ = 0;
  std::size_t name_size_;
  bool blocking_ = false;
  bool idempotent_ = false;
};

}  // namespace redis
