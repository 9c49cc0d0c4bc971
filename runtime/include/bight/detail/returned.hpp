// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include <bight/error.hpp>

namespace bight::detail {

/// What a call made on another thread came to: a value, an exception, or that it was cancelled.
template <class R>
class Returned {
  static_assert(!std::is_reference_v<R>, "a value is returned to another thread: a pointer can be one");
  using Value = std::conditional_t<std::is_void_v<R>, std::monostate, R>;

 public:
  /// Calls `f(arguments...)` and keeps what comes of it.
  template <class F, class... A>
  void fill(F&& f, A&&... arguments) noexcept {
    ran_ = true;
    try {
      if constexpr (std::is_void_v<R>) {
        std::invoke(std::forward<F>(f), std::forward<A>(arguments)...);
        value_.emplace();
      } else {
        value_.emplace(std::invoke(std::forward<F>(f), std::forward<A>(arguments)...));
      }
    } catch (const Cancelled&) {
    } catch (...) {
      error_ = std::current_exception();
    }
  }

  /// Whether the call was made at all.
  [[nodiscard]] bool ran() const noexcept { return ran_; }
  [[nodiscard]] bool has_value() const noexcept { return value_.has_value(); }
  void rethrow() const {
    if (error_ != nullptr) std::rethrow_exception(error_);
  }
  /// Throws what the call threw: Cancelled if it was cancelled, or never made.
  [[nodiscard]] Value&& take() {
    rethrow();
    if (!value_.has_value()) throw Cancelled{};
    return std::move(*value_);
  }

 private:
  std::optional<Value> value_;
  std::exception_ptr error_;
  bool ran_ = false;
};

}  // namespace bight::detail
