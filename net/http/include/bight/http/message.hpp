// SPDX-License-Identifier: Apache-2.0
#pragma once

/// HTTP messages as a server's handler sees them: the Request that came, the Response to answer it with.

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bight::http {

namespace detail {
class Parser;
class AnswerWriter;
}  // namespace detail

/// The methods of RFC 9110 and PATCH. `other`: one of the registered extensions (PROPFIND …), see
/// Request::method_name().
enum class Method : std::uint8_t { get, head, post, put, delete_, options, patch, trace, connect, other };

/// "GET" …; empty for `other`.
[[nodiscard]] std::string_view to_string(Method method) noexcept;

/// Whether two names are the same but for the case of ASCII letters: how HTTP compares field names, hosts and most
/// tokens.
[[nodiscard]] bool equal_names(std::string_view a, std::string_view b) noexcept;

/// One header line. The value is without the white space around it.
struct Field {
  std::string_view name;
  std::string_view value;
};

/// The header lines (or trailers) of a request, in the order in which they came. Names are looked up whatever their
/// case; looking up is a walk, and there are Limits::header_count_max of them at most.
class Fields {
 public:
  class Iterator;

  /// The value of the first line of that name.
  [[nodiscard]] std::optional<std::string_view> find(std::string_view name) const noexcept;
  /// The same; empty when there is none.
  [[nodiscard]] std::string_view get(std::string_view name) const noexcept {
    return find(name).value_or(std::string_view{});
  }
  [[nodiscard]] bool contains(std::string_view name) const noexcept { return find(name).has_value(); }

  [[nodiscard]] std::size_t size() const noexcept { return places_.size(); }
  [[nodiscard]] bool empty() const noexcept { return places_.empty(); }
  [[nodiscard]] Field operator[](std::size_t index) const noexcept { return at(places_[index]); }
  [[nodiscard]] Iterator begin() const noexcept;
  [[nodiscard]] Iterator end() const noexcept;

 private:
  friend class detail::Parser;

  /// Relative to the request's first byte: the buffer may move while the body is still coming.
  struct Place {
    std::uint32_t name;
    std::uint32_t name_size;
    std::uint32_t value;
    std::uint32_t value_size;
  };

  [[nodiscard]] Field at(const Place& place) const noexcept {
    return {{base_ + place.name, place.name_size}, {base_ + place.value, place.value_size}};
  }

  const char* base_ = nullptr;
  std::vector<Place> places_;
};

class Fields::Iterator {
 public:
  using iterator_category = std::forward_iterator_tag;
  using value_type = Field;
  using difference_type = std::ptrdiff_t;
  using pointer = void;
  using reference = Field;

  Iterator() noexcept = default;
  Iterator(const Fields& fields, std::size_t index) noexcept : fields_(&fields), index_(index) {}
  Field operator*() const noexcept { return (*fields_)[index_]; }
  Iterator& operator++() noexcept {
    ++index_;
    return *this;
  }
  Iterator operator++(int) noexcept {
    Iterator before = *this;
    ++index_;
    return before;
  }
  friend bool operator==(const Iterator&, const Iterator&) noexcept = default;

 private:
  const Fields* fields_ = nullptr;
  std::size_t index_ = 0;
};

inline Fields::Iterator Fields::begin() const noexcept { return {*this, 0}; }
inline Fields::Iterator Fields::end() const noexcept { return {*this, size()}; }

/// A request, whole: the server calls a handler when the last byte of the body has come. Everything in it is a view
/// into the server's buffer, good until the handler returns; copy what is to last.
class Request {
 public:
  Request() noexcept = default;
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  [[nodiscard]] Method method() const noexcept { return method_; }
  [[nodiscard]] std::string_view method_name() const noexcept { return {base_, method_size_}; }

  /// What stands behind the method, as it came: "/a?b", "http://host/a?b", or "*". Not decoded.
  [[nodiscard]] std::string_view target() const noexcept { return {base_ + target_at_, target_size_}; }
  /// The part of the target from the path's "/" up to a "?"; "*" for "*", "/" for a URL without a path. Not decoded.
  [[nodiscard]] std::string_view path() const noexcept;
  /// What follows the first "?"; empty without one. Not decoded.
  [[nodiscard]] std::string_view query() const noexcept;
  /// Host and, perhaps, port that the request is for. Empty only in HTTP/1.0.
  [[nodiscard]] std::string_view host() const noexcept;

  /// The minor version: HTTP/1.0 or HTTP/1.1.
  [[nodiscard]] unsigned version_minor() const noexcept { return version_minor_; }

  [[nodiscard]] const Fields& headers() const noexcept { return headers_; }
  /// The value of the first header line of that name; empty when there is none.
  [[nodiscard]] std::string_view header(std::string_view name) const noexcept { return headers_.get(name); }

  [[nodiscard]] std::string_view body() const noexcept { return {base_ + body_at_, body_size_}; }
  /// Header lines that came behind a chunked body.
  [[nodiscard]] const Fields& trailers() const noexcept { return trailers_; }

  /// Whether the client wants to go on using the connection.
  [[nodiscard]] bool keep_alive() const noexcept { return keep_alive_; }

 private:
  friend class detail::Parser;

  const char* base_ = nullptr;  // the first byte; all the places below are relative to it
  std::uint32_t method_size_ = 0;
  std::uint32_t target_at_ = 0;
  std::uint32_t target_size_ = 0;
  Method method_ = Method::get;
  std::uint8_t version_minor_ = 1;
  bool keep_alive_ = true;
  std::size_t body_at_ = 0;
  std::size_t body_size_ = 0;
  Fields headers_;
  Fields trailers_;
};

/// What a handler answers. Content-Length, Date, Server and Connection are the server's to write. No text that a
/// program puts into a header can ever end it: what would is refused with std::invalid_argument.
class Response {
 public:
  /// `status` from 200 to 599; else std::invalid_argument.
  explicit Response(unsigned status = 200);

  [[nodiscard]] unsigned status() const noexcept { return status_; }
  void set_status(unsigned status);

  /// Adds a header line. Throws std::invalid_argument when `name` is no token, `value` holds a control character (tab
  /// excepted), or the name is one of those that the server writes itself or that would change the framing.
  void add_header(std::string_view name, std::string_view value);

  void set_body(std::string body) noexcept { body_ = std::move(body); }
  [[nodiscard]] const std::string& body() const noexcept { return body_; }

  /// Closes the connection after this answer.
  void close_connection() noexcept { close_ = true; }
  [[nodiscard]] bool closes_connection() const noexcept { return close_; }

 private:
  friend class detail::AnswerWriter;
  friend Response text(std::string body, unsigned status);

  std::uint16_t status_;
  bool close_ = false;
  std::string_view type_line_;  // a literal of the library's: naming the usual types costs no allocation
  std::string fields_;          // whole lines, as they go out
  std::string body_;
};

/// A text/plain answer; the charset is said, and is UTF-8, where the text is not plain ASCII.
[[nodiscard]] Response text(std::string body, unsigned status = 200);

/// The reason phrase of RFC 9110 and its kin: "Not Found". Empty for a status without one.
[[nodiscard]] std::string_view reason_phrase(unsigned status) noexcept;

}  // namespace bight::http
