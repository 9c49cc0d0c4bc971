// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Values as bytes and back, for what travels between the processes of one machine: Connection, ProcessQueue and
/// whatever is built on them.
///
///     std::vector<std::byte> bytes = encode(std::map<std::string, int>{{"a", 1}});
///     auto counts = decode<std::map<std::string, int>>(bytes);
///
/// Known are: bool, numbers, enumerations; structs that may be copied byte by byte; std::string and its kin, vector,
/// deque, list, array, pair, tuple, optional, variant, the maps and sets, unique_ptr, chrono's durations, error_code of
/// the generic and the system category. A type of one's own lists its members in one line,
///
///     struct Order {
///       std::string item;
///       int count = 0;
///       auto fields() { return std::tie(item, count); }
///     };
///
/// or specializes Codec:
///
///     template <>
///     struct bight::Codec<Money> {
///       static void encode(Encoder& to, const Money& money) { to.write(money.cents()); }
///       static Money decode(Decoder& from) { return Money(from.read<std::int64_t>()); }
///     };
///
/// Not known are pointers, views and references: what they point to is in the other process, or nowhere.
///
/// Bytes are those of this machine and this build; nothing is converted, and no type is written down, so both sides
/// have to agree on it. A struct without fields() and Codec is copied with its padding, and not looked into: give it
/// fields() when its bytes come from somebody who is not trusted. What can be told to be wrong is DecodeError: bytes
/// that are missing or left over, a bool that is neither, a variant's alternative that there is not, a key twice. No
/// length that is claimed has memory taken for what has not come.

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace bight {

/// Bytes are not an encoded value of the type that was asked for. what() says what is wrong, and at which byte.
class DecodeError : public std::runtime_error {
 public:
  DecodeError(const std::string& what, std::size_t offset);
  /// At which byte that was seen.
  [[nodiscard]] std::size_t offset() const noexcept { return offset_; }

 private:
  std::size_t offset_;
};

/// How deeply values may be nested: of a list that holds itself in a unique_ptr, half as many elements. Decoding that
/// many takes less than half of a default fiber's stack; more is DecodeError, or std::length_error while encoding.
inline constexpr unsigned codec_depth_max = 64;

/// How a T is encoded and decoded: two static functions, see above. There is no general one.
template <class T>
struct Codec;

/// A T has a Codec.
template <class T>
concept Codable = requires {
  sizeof(Codec<std::remove_cv_t<T>>);
};

/// Where encoded values are appended to.
class Encoder {
 public:
  explicit Encoder(std::vector<std::byte>& out) noexcept : out_(out) {}
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  template <class T>
  void write(const T& value) {
    static_assert(Codable<T>, "bight::Codec does not know this type: give it fields(), or specialize Codec");
    if (++depth_ > codec_depth_max) [[unlikely]]
      too_deep();
    Codec<T>::encode(*this, value);
    --depth_;
  }
  /// A count of what follows: 1 to 10 bytes, fewer for smaller ones.
  void write_count(std::size_t count);
  /// As they are, without a count.
  void write_bytes(const void* data, std::size_t size) {
    if (size == 0) return;
    const std::size_t at = out_.size();
    out_.resize(at + size);  // not insert(), where GCC 12 sees a region of size 0 overflow
    std::memcpy(out_.data() + at, data, size);
  }

 private:
  [[noreturn]] static void too_deep();

  std::vector<std::byte>& out_;
  unsigned depth_ = 0;
};

/// What encoded values are taken from, first to last. Does not own the bytes.
class Decoder {
 public:
  explicit Decoder(std::span<const std::byte> bytes) noexcept : bytes_(bytes) {}
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  template <class T>
  [[nodiscard]] T read() {
    static_assert(Codable<T>, "bight::Codec does not know this type: give it fields(), or specialize Codec");
    if (++depth_ > codec_depth_max) [[unlikely]]
      fail("values nested too deeply");
    T value = Codec<T>::decode(*this);
    --depth_;
    return value;
  }
  /// What write_count() wrote. `least`: how many bytes each of those counted takes at least; a count that the bytes
  /// left can not hold is an error. `what` are they, for its text.
  [[nodiscard]] std::size_t read_count(std::size_t least, const char* what);
  /// The next `size` bytes, in place.
  [[nodiscard]] std::span<const std::byte> read_bytes(std::size_t size, const char* what) {
    if (size > remaining()) [[unlikely]]
      fail_short(size, what);
    const auto taken = bytes_.subspan(offset_, size);
    offset_ += size;
    return taken;
  }
  [[nodiscard]] std::size_t remaining() const noexcept { return bytes_.size() - offset_; }
  /// Throws DecodeError unless all has been read.
  void finish() const;
  /// Throws DecodeError that says `what`, here.
  [[noreturn]] void fail(const char* what) const;

 private:
  [[noreturn]] void fail_short(std::size_t size, const char* what) const;

  std::span<const std::byte> bytes_;
  std::size_t offset_ = 0;
  unsigned depth_ = 0;
};

/// Appends the encoded value to `out`. Throws std::bad_alloc, std::length_error; then what was appended is a part.
template <class T>
void encode_to(std::vector<std::byte>& out, const T& value) {
  Encoder(out).write(value);
}

/// The encoded value.
template <class T>
[[nodiscard]] std::vector<std::byte> encode(const T& value) {
  std::vector<std::byte> bytes;
  encode_to(bytes, value);
  return bytes;
}

/// The value that all of `bytes` are. Throws DecodeError, and what the value's own constructors throw.
template <class T>
[[nodiscard]] T decode(std::span<const std::byte> bytes) {
  Decoder decoder(bytes);
  T value = decoder.read<T>();
  decoder.finish();
  return value;
}

}  // namespace bight

#include <bight/detail/codecs.hpp>
