// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace redis {

/// What the server answered instead of what was asked for: "WRONGTYPE Operation against a key holding the wrong kind of
/// value". The connection is as good as before.
class ServerError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  /// Its first word, by which the kinds are told apart: "WRONGTYPE".
  [[nodiscard]] std::string_view kind() const noexcept {
    const std::string_view all = what();
    return all.substr(0, all.find(' '));
  }
};

/// A reply is of another type than its reader took for granted.
class UnexpectedReply : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The types of RESP3, of which RESP2 has the first six.
enum class Type : unsigned char {
  nil,
  status,   ///< a line: OK
  error,    ///< a line, or longer text
  integer,  ///< 64 bits
  text,     ///< any bytes
  array,
  number,      ///< a double
  boolean,     //
  big_number,  ///< decimal digits, kept as text
  verbatim,    ///< text with a format: txt, mkd
  set,
  map,
  push,  ///< came without having been asked for
};

[[nodiscard]] std::string_view name_of(Type type) noexcept;

/// A reply, or a part of one. A value; moves are cheap. Those who read it as what it is not get an UnexpectedReply, for
/// it is the server that chooses the type.
class Value {
 public:
  using Items = std::vector<Value>;

  Value() noexcept = default;
  explicit Value(std::int64_t integer) : type_(Type::integer), content_(integer) {}
  explicit Value(double number) : type_(Type::number), content_(number) {}
  explicit Value(bool boolean) : type_(Type::boolean), content_(boolean) {}
  Value(Type type, std::string text) : type_(type), content_(std::move(text)) {}
  Value(Type type, Items items) : type_(type), content_(std::move(items)) {}

  [[nodiscard]] Type type() const noexcept { return type_; }
  [[nodiscard]] bool is_nil() const noexcept { return type_ == Type::nil; }
  [[nodiscard]] bool is_error() const noexcept { return type_ == Type::error; }
  [[nodiscard]] bool is_list() const noexcept { return std::holds_alternative<Items>(content_); }
  [[nodiscard]] bool has_text() const noexcept { return std::holds_alternative<std::string>(content_); }

  /// Of text, verbatim, status, error, big_number.
  [[nodiscard]] const std::string& text() const { return get<std::string>("a text"); }
  [[nodiscard]] std::int64_t integer() const { return get<std::int64_t>("an integer"); }
  [[nodiscard]] double number() const { return get<double>("a number"); }
  [[nodiscard]] bool boolean() const { return get<bool>("a boolean"); }
  /// Of array, set, push; of a map: key, value, key, value.
  [[nodiscard]] const Items& items() const { return get<Items>("a list"); }
  /// The value of a key, in a map, or in the array that RESP2 sends for one. Null: there is none.
  [[nodiscard]] const Value* find(std::string_view key) const;
  /// Of verbatim: its three letters; else nothing.
  [[nodiscard]] std::string_view format() const noexcept {
    return {format_.data(), format_[0] != 0 ? format_.size() : 0};
  }
  /// What the server had to say about it, flat as a map. Hardly ever anything.
  [[nodiscard]] const Items& attributes() const noexcept { return attributes_; }

  /// Moves out what text() and items() show.
  [[nodiscard]] std::string take_text() {
    static_cast<void>(text());
    return std::move(*std::get_if<std::string>(&content_));
  }
  [[nodiscard]] Items take_items() {
    static_cast<void>(items());
    return std::move(building());
  }
  /// Throws ServerError if it is an error.
  Value& or_throw() {
    if (is_error()) throw ServerError(text());
    return *this;
  }

  void set_attributes(Items attributes) noexcept { attributes_ = std::move(attributes); }
  void set_format(const std::array<char, 3>& letters) noexcept { format_ = letters; }
  /// For who builds one: the items, of a value that was made with some.
  [[nodiscard]] Items& building() noexcept { return *std::get_if<Items>(&content_); }

  friend bool operator==(const Value&, const Value&) = default;

 private:
  [[noreturn]] void refuse(const char* wanted) const;
  template <class T>
  [[nodiscard]] const T& get(const char* wanted) const {
    const T* content = std::get_if<T>(&content_);
    if (content == nullptr) refuse(wanted);
    return *content;
  }

  Type type_ = Type::nil;
  std::array<char, 3> format_{};
  std::variant<std::monostate, std::string, std::int64_t, double, bool, Items> content_;
  Items attributes_;
};

}  // namespace redis
