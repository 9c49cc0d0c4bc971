// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <limits>
#include <type_traits>
#include <utility>

namespace bight::test {

/// As std::views::iota and std::views::transform, which Clang up to 15 can not compile in libstdc++.
class Iota {
 public:
  class Iterator {
   public:
    using value_type = int;
    using difference_type = std::ptrdiff_t;
    Iterator() noexcept = default;
    explicit Iterator(int at) noexcept : at_(at) {}
    int operator*() const noexcept { return at_; }
    Iterator& operator++() noexcept {
      ++at_;
      return *this;
    }
    Iterator operator++(int) noexcept { return Iterator(at_++); }
    friend bool operator==(const Iterator& a, const Iterator& b) noexcept { return a.at_ == b.at_; }

   private:
    int at_ = 0;
  };

  Iota(int from, int to) noexcept : from_(from), to_(to) {}
  [[nodiscard]] Iterator begin() const noexcept { return Iterator(from_); }
  [[nodiscard]] Iterator end() const noexcept { return Iterator(to_); }

 private:
  int from_;
  int to_;
};

/// As good as endless without `to`.
[[nodiscard]] inline Iota iota(int from, int to = std::numeric_limits<int>::max()) noexcept { return {from, to}; }

template <class F>
class Mapped {
 public:
  class Iterator {
   public:
    using value_type = std::remove_cvref_t<std::invoke_result_t<const F&, int>>;
    using difference_type = std::ptrdiff_t;
    Iterator() noexcept = default;
    Iterator(Iota::Iterator at, const F& f) noexcept : at_(at), f_(&f) {}
    decltype(auto) operator*() const { return (*f_)(*at_); }
    Iterator& operator++() noexcept {
      ++at_;
      return *this;
    }
    Iterator operator++(int) noexcept { return Iterator(at_++, *f_); }
    friend bool operator==(const Iterator& a, const Iterator& b) noexcept { return a.at_ == b.at_; }

   private:
    Iota::Iterator at_;
    const F* f_ = nullptr;
  };

  Mapped(Iota numbers, F f) : numbers_(numbers), f_(std::move(f)) {}
  [[nodiscard]] Iterator begin() const noexcept { return Iterator(numbers_.begin(), f_); }
  [[nodiscard]] Iterator end() const noexcept { return Iterator(numbers_.end(), f_); }

 private:
  Iota numbers_;
  F f_;
};

/// What `f` makes of each number, each time it is asked for.
template <class F>
[[nodiscard]] Mapped<F> mapped(Iota numbers, F f) {
  return {numbers, std::move(f)};
}

}  // namespace bight::test
