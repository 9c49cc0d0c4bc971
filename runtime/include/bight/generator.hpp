// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Generators: sequences that a function makes as they are asked for. Stackful, so what the function calls may yield as
/// well: a tree is walked by plain recursion.

#include <cstddef>
#include <functional>
#include <iterator>
#include <memory>
#include <type_traits>
#include <utility>

#include <bight/coroutine.hpp>

namespace bight {

/// The values that a body yields, one after the other, once.
///
///     Generator<int> up_to(int most) {
///       return [most](auto& yield) {
///         for (int i = 1; i <= most; ++i) yield(i);
///       };
///     }
///     for (int& i : up_to(3)) …
///
/// T may be move-only, or a reference (`Generator<const Row&>`: then nothing is copied, and what is referred to must
/// stay until the next value is asked for). A value that is yielded stays where the body has it until then; the loop
/// may move it away.
///
/// All else is as with a Coroutine: the body begins when the first value is asked for, runs in the fiber that asks, may
/// wait, and is unwound when the generator goes before its end, as when a loop is left early. Exceptions that leave the
/// body come out of next(), begin() and ++; the sequence has then ended. Owns its body and stack; on its loop's thread.
template <class T>
class Generator {
  static_assert(!std::is_rvalue_reference_v<T> && !std::is_void_v<T>, "a Generator makes values or lvalue references");
  using Pointer = std::add_pointer_t<T>;
  using Body = Coroutine<void, Pointer>;

 public:
  /// What the body calls with each value; returns when the next one is asked for.
  class Yield {
   public:
    [[gnu::always_inline]] void operator()(T&& value) {
      self_.yield(std::addressof(value));
    }  // T&& is T itself when that is a reference
    [[gnu::always_inline]] void operator()(const T& value) requires(!std::is_reference_v<T> &&
                                                                    std::is_copy_constructible_v<T>) {
      T copy(value);  // the consumer may change what it is given
      self_.yield(std::addressof(copy));
    }
    /// Yields what is in `range`, another Generator perhaps. (In a recursion, every level passes each value on: yield
    /// from the innermost one where that counts.)
    template <class Range>
    void all(Range&& range) {
      constexpr bool kOwn = std::is_same_v<std::remove_cvref_t<Range>, Generator> && !std::is_reference_v<T>;
      for (auto&& each : range) {
        if constexpr (kOwn) {
          (*this)(std::move(each));  // the other one made it for this
        } else {
          (*this)(std::forward<decltype(each)>(each));
        }
      }
    }

   private:
    friend class Generator;
    explicit Yield(typename Body::Self& self) noexcept : self_(self) {}

    typename Body::Self& self_;
  };

  /// An input iterator: all copies are at the same value, the one that was made last.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using iterator_concept = std::input_iterator_tag;
    using value_type = std::remove_cvref_t<T>;
    using difference_type = std::ptrdiff_t;
    using pointer = Pointer;
    using reference = std::add_lvalue_reference_t<T>;

    Iterator() noexcept = default;
    [[nodiscard]] reference operator*() const noexcept { return *value_; }
    [[nodiscard]] pointer operator->() const noexcept { return value_; }
    [[gnu::always_inline]] Iterator& operator++() {
      value_ = generator_->next();
      return *this;
    }
    void operator++(int) { ++*this; }
    [[nodiscard]] friend bool operator==(const Iterator& at, std::default_sentinel_t) noexcept {
      return at.value_ == nullptr;
    }

   private:
    friend class Generator;
    explicit Iterator(Generator& generator) : generator_(&generator), value_(generator.next()) {}

    Generator* generator_ = nullptr;
    Pointer value_ = nullptr;
  };

  Generator() noexcept = default;  ///< an empty sequence
  /// Takes a stack and moves or copies `body` onto it. Throws what making a Coroutine throws.
  template <class F>
  requires std::is_invocable_v<std::decay_t<F>, Yield&>
  // NOLINTNEXTLINE(google-explicit-constructor): so that a function may return its body
  Generator(F&& body) : Generator(CoroutineOptions{}, std::forward<F>(body)) {}
  template <class F>
  Generator(const CoroutineOptions& options, F&& body)
      : body_(options, [f = std::decay_t<F>(std::forward<F>(body))](typename Body::Self& self) mutable -> Pointer {
          Yield yield(self);
          std::invoke(std::move(f), yield);
          return nullptr;
        }) {}

  /// Makes the next value and says where it is; null at the end. The one before is no longer there.
  [[nodiscard, gnu::always_inline]] Pointer next() {
    if (!body_ || body_.done()) return nullptr;
    return body_.resume();
  }

  /// At the next value: a loop that was left early is gone on with by another one over the same Generator.
  [[nodiscard]] Iterator begin() { return Iterator(*this); }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  Body body_;
};

}  // namespace bight
