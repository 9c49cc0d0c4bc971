// SPDX-License-Identifier: Apache-2.0
#pragma once

// The codecs of what the language and the standard library have. Part of <bight/codec.hpp>.
//
// Each encoded value takes one byte at least, so that a count can be held against the bytes that are left.

#include <algorithm>
#include <bit>

#include <bight/codec.hpp>

namespace bight {
namespace detail {

template <class T>
inline constexpr bool kIsView = false;
template <class C, class Traits>
inline constexpr bool kIsView<std::basic_string_view<C, Traits>> = true;
template <class T, std::size_t N>
inline constexpr bool kIsView<std::span<T, N>> = true;
template <class T>
inline constexpr bool kIsView<std::reference_wrapper<T>> = true;

template <class T>
concept HasFields = std::is_class_v<T> && requires(T& value) {
  value.fields();
};

/// Whose bytes are its value.
template <class T>
concept Bitwise = std::is_trivially_copyable_v<T> && std::is_copy_constructible_v<T> && !HasFields<T> && !kIsView<T> &&
                  (std::is_arithmetic_v<T> || std::is_enum_v<T> || std::is_class_v<T> || std::is_union_v<T>);

/// Many of these are copied at once. Not so what has a Codec of its own.
template <class T>
inline constexpr bool kCopiedAtOnce = requires {
  requires Codec<T>::kBitwise;
};

template <class T>
inline constexpr std::size_t kLeastBytes = 1;
template <class T>
requires kCopiedAtOnce<T>
inline constexpr std::size_t kLeastBytes<T> = sizeof(T);

/// A pair's or a tuple's members, or what fields() ties.
template <class Tuple>
void encode_members(Encoder& to, const Tuple& members) {
  if constexpr (std::tuple_size_v<Tuple> == 0) {
    to.write(std::byte{0});
  } else {
    std::apply([&to](const auto&... each) { (to.write(each), ...); }, members);
  }
}

inline void decode_nothing(Decoder& from) {
  if (from.read<std::byte>() != std::byte{0}) from.fail("an empty value that is not");
}

/// How many to make room for at once: those that are counted, unless that is more memory than the bytes left are.
template <class T>
[[nodiscard]] std::size_t room_for(const Decoder& from, std::size_t count) noexcept {
  return std::min(count, from.remaining() / sizeof(T) + 1);
}

/// What is filled by push_back.
template <class Sequence>
struct SequenceCodec {
  using Value = typename Sequence::value_type;

  static void encode(Encoder& to, const Sequence& values) {
    to.write_count(values.size());
    if constexpr (kCopiedAtOnce<Value> && requires { values.data(); }) {
      to.write_bytes(values.data(), values.size() * sizeof(Value));
    } else {
      for (const Value& each : values) to.write(each);
    }
  }
  static Sequence decode(Decoder& from) {
    const std::size_t count = from.read_count(kLeastBytes<Value>, "elements");
    Sequence values;
    if constexpr (kCopiedAtOnce<Value> && requires { values.data(); }) {
      const auto bytes = from.read_bytes(count * sizeof(Value), "elements");
      values.resize(count);
      if (count > 0) std::memcpy(static_cast<void*>(values.data()), bytes.data(), bytes.size());
    } else {
      if constexpr (requires { values.reserve(count); }) values.reserve(room_for<Value>(from, count));
      for (std::size_t i = 0; i < count; ++i) values.push_back(from.read<Value>());
    }
    return values;
  }
};

/// What is filled by insert: maps and sets, with one of a key or many.
template <class Container>
struct KeyedCodec {
  using Value = typename Container::value_type;

  static void encode(Encoder& to, const Container& values) {
    to.write_count(values.size());
    for (const Value& each : values) {
      if constexpr (requires { typename Container::mapped_type; }) {
        to.write(each.first);
        to.write(each.second);
      } else {
        to.write(each);
      }
    }
  }
  static Container decode(Decoder& from) {
    const std::size_t count = from.read_count(1, "entries");
    Container values;
    if constexpr (requires { values.reserve(count); }) values.reserve(room_for<Value>(from, count));
    for (std::size_t i = 0; i < count; ++i) {
      add(values, from);
      if constexpr (requires { values.insert(*values.begin()).second; }) {  // that is, not for a multimap
        if (values.size() != i + 1) from.fail("a key twice");
      }
    }
    return values;
  }

 private:
  static void add(Container& values, Decoder& from) {
    if constexpr (requires { typename Container::mapped_type; }) {
      auto key = from.read<typename Container::key_type>();
      values.emplace(std::move(key), from.read<typename Container::mapped_type>());
    } else {
      values.insert(from.read<Value>());
    }
  }
};

template <class C>
concept Sequence = requires(C& c, typename C::value_type& value) {
  c.push_back(std::move(value));
  c.size();
  c.begin();
}
&&!HasFields<C> && !std::is_trivially_copyable_v<C>;

template <class C>
concept Keyed = requires(C& c, typename C::key_type& key) {
  c.find(key);
  c.size();
  c.clear();
}
&&!HasFields<C>;

}  // namespace detail

// --- What is copied byte by byte -------------------------------------------------------------------------------------

template <detail::Bitwise T>
struct Codec<T> {
  static constexpr bool kBitwise = true;

  static void encode(Encoder& to, const T& value) { to.write_bytes(std::addressof(value), sizeof value); }
  static T decode(Decoder& from) {
    const auto bytes = from.read_bytes(sizeof(T), "a value");
    std::array<std::byte, sizeof(T)> copy;
    std::memcpy(copy.data(), bytes.data(), sizeof copy);
    return std::bit_cast<T>(copy);
  }
};

template <>
struct Codec<bool> {
  static void encode(Encoder& to, bool value) { to.write(static_cast<std::uint8_t>(value)); }
  static bool decode(Decoder& from) {
    const auto value = from.read<std::uint8_t>();
    if (value > 1) from.fail("a bool that is neither");
    return value != 0;
  }
};

// --- Types that list their members -----------------------------------------------------------------------------------

template <detail::HasFields T>
struct Codec<T> {
  static void encode(Encoder& to, const T& value) {
    // fields() only ties the members together, so it may be written without const.
    detail::encode_members(to, const_cast<T&>(value).fields());  // NOLINT(cppcoreguidelines-pro-type-const-cast)
  }
  static T decode(Decoder& from) {
    static_assert(std::is_default_constructible_v<T>, "a type with fields() is made empty, and then filled in");
    T value{};
    auto members = value.fields();
    if constexpr (std::tuple_size_v<decltype(members)> == 0) {
      detail::decode_nothing(from);
    } else {
      std::apply([&from](auto&... each) { ((each = from.read<std::remove_cvref_t<decltype(each)>>()), ...); }, members);
    }
    return value;
  }
};

// --- The standard library's ------------------------------------------------------------------------------------------

template <detail::Sequence C>
struct Codec<C> : detail::SequenceCodec<C> {};

template <detail::Keyed C>
struct Codec<C> : detail::KeyedCodec<C> {};

template <class Allocator>
struct Codec<std::vector<bool, Allocator>> {
  static void encode(Encoder& to, const std::vector<bool, Allocator>& values) {
    to.write_count(values.size());
    for (const bool each : values) to.write(each);
  }
  static std::vector<bool, Allocator> decode(Decoder& from) {
    const std::size_t count = from.read_count(1, "elements");
    std::vector<bool, Allocator> values;
    values.reserve(count);
    for (std::size_t i = 0; i < count; ++i) values.push_back(from.read<bool>());
    return values;
  }
};

template <class T, std::size_t N>
struct Codec<std::array<T, N>> {
  static void encode(Encoder& to, const std::array<T, N>& values) {
    if constexpr (N == 0) {
      to.write(std::byte{0});
    } else if constexpr (detail::kCopiedAtOnce<T>) {
      to.write_bytes(values.data(), sizeof values);
    } else {
      for (const T& each : values) to.write(each);
    }
  }
  static std::array<T, N> decode(Decoder& from) {
    if constexpr (N == 0) detail::decode_nothing(from);
    if constexpr (N > 0 && detail::kCopiedAtOnce<T>) {
      std::array<T, N> values;
      std::memcpy(static_cast<void*>(values.data()), from.read_bytes(sizeof values, "an array").data(), sizeof values);
      return values;
    } else {
      return read_each(from, std::make_index_sequence<N>());
    }
  }

 private:
  template <std::size_t... I>
  static std::array<T, N> read_each([[maybe_unused]] Decoder& from, std::index_sequence<I...>) {
    return {(static_cast<void>(I), from.read<T>())...};  // braces: in this order
  }
};

template <class A, class B>
struct Codec<std::pair<A, B>> {
  static void encode(Encoder& to, const std::pair<A, B>& value) { detail::encode_members(to, value); }
  static std::pair<A, B> decode(Decoder& from) {
    return {from.read<A>(), from.read<B>()};  // braces: in this order
  }
};

template <class... T>
struct Codec<std::tuple<T...>> {
  static void encode(Encoder& to, const std::tuple<T...>& value) { detail::encode_members(to, value); }
  static std::tuple<T...> decode([[maybe_unused]] Decoder& from) {
    if constexpr (sizeof...(T) == 0) detail::decode_nothing(from);
    return std::tuple<T...>{from.read<T>()...};  // braces: in this order
  }
};

template <class T>
struct Codec<std::optional<T>> {
  static void encode(Encoder& to, const std::optional<T>& value) {
    to.write(value.has_value());
    if (value) to.write(*value);
  }
  static std::optional<T> decode(Decoder& from) {
    if (!from.read<bool>()) return std::nullopt;
    return std::optional<T>(from.read<T>());
  }
};

template <class T>
struct Codec<std::unique_ptr<T>> {
  static_assert(!std::is_array_v<T> && !std::is_polymorphic_v<T>, "what such a pointer points to is not known");

  static void encode(Encoder& to, const std::unique_ptr<T>& value) {
    to.write(value != nullptr);
    if (value != nullptr) to.write(*value);
  }
  static std::unique_ptr<T> decode(Decoder& from) {
    if (!from.read<bool>()) return nullptr;
    return std::make_unique<T>(from.read<T>());
  }
};

template <class... T>
struct Codec<std::variant<T...>> {
  using Variant = std::variant<T...>;

  /// Throws std::bad_variant_access for one that has lost its value.
  static void encode(Encoder& to, const Variant& value) {
    if (value.valueless_by_exception()) throw std::bad_variant_access();
    to.write_count(value.index());
    std::visit([&to](const auto& alternative) { to.write(alternative); }, value);
  }
  static Variant decode(Decoder& from) {
    using Read = Variant (*)(Decoder&);
    static constexpr auto kReaders = []<std::size_t... I>(std::index_sequence<I...>) {
      return std::array<Read, sizeof...(T)>{
          [](Decoder& of) { return Variant(std::in_place_index<I>, of.read<T>()); }...};
    }
    (std::index_sequence_for<T...>());
    const std::size_t which = from.read_count(0, "alternatives");
    if (which >= sizeof...(T)) from.fail("an alternative of a variant that there is not");
    return kReaders[which](from);
  }
};

/// Of the generic and the system category; others are known by address only. Throws std::invalid_argument for them.
template <>
struct Codec<std::error_code> {
  static void encode(Encoder& to, const std::error_code& error) {
    const bool system = error.category() == std::system_category();
    if (!system && error.category() != std::generic_category()) {
      throw std::invalid_argument(std::string("an error_code of the category ") + error.category().name() +
                                  " can not be encoded");
    }
    to.write(system);
    to.write(error.value());
  }
  static std::error_code decode(Decoder& from) {
    const bool system = from.read<bool>();
    const int value = from.read<int>();
    return {value, system ? std::system_category() : std::generic_category()};
  }
};

}  // namespace bight
