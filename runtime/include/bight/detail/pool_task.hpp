// SPDX-License-Identifier: Apache-2.0
#pragma once

// Included by <bight/process_pool.hpp>: what travels to a worker and back, and who waits for it.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <bight/codec.hpp>
#include <bight/event.hpp>
#include <bight/fiber.hpp>
#include <bight/future.hpp>
#include <bight/pool.hpp>

namespace bight::detail {

class PoolCore;

/// An exception on its way.
struct RemoteFailure {
  std::string type;
  std::string what;
  std::error_code code;
  auto fields() { return std::tie(type, what, code); }
};

/// Of the exception that is being handled.
[[nodiscard]] RemoteFailure current_failure();
[[nodiscard]] std::exception_ptr as_error(RemoteFailure failure);

/// What is called in the worker: with a function, its arguments as they have come, and where the result goes.
using PoolThunk = void (*)(std::uint64_t function, Decoder& arguments, std::vector<std::byte>& result);

template <class F>
inline constexpr bool kIsFunctionPointer = std::is_pointer_v<F>&& std::is_function_v<std::remove_pointer_t<F>>;

template <class F>
[[nodiscard]] std::uint64_t pack_function([[maybe_unused]] F f) noexcept {
  static_assert(kIsFunctionPointer<F> || (std::is_empty_v<F> && std::is_default_constructible_v<F>),
                "a worker can be given a pointer to a function, or a lambda without captures: nothing else is the same "
                "in another process; pass what it needs as arguments");
  if constexpr (kIsFunctionPointer<F>) {
    return reinterpret_cast<std::uintptr_t>(f);
  } else {
    return 0;
  }
}

template <class F>
[[nodiscard]] F unpack_function([[maybe_unused]] std::uint64_t packed) noexcept {
  if constexpr (kIsFunctionPointer<F>) {
    return reinterpret_cast<F>(static_cast<std::uintptr_t>(packed));  // NOLINT(performance-no-int-to-ptr)
  } else {
    return F{};
  }
}

/// An argument as it is kept on its way: text and arrays by value.
template <class T>
using PoolArgument =
    std::conditional_t<std::is_convertible_v<std::decay_t<T>, const char*>, std::string, std::decay_t<T>>;

template <class F, class... Args>
using ProcessCallResult = std::decay_t<std::invoke_result_t<F&, PoolArgument<Args>...>>;

template <class F>
void begin_call(Encoder& to, PoolThunk thunk, F f) {
  to.write(static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(thunk)));
  to.write(pack_function(f));
}

template <class R, class F, class... Args>
void apply_thunk(std::uint64_t function, Decoder& arguments, std::vector<std::byte>& result) {
  auto call = arguments.read<std::tuple<Args...>>();
  arguments.finish();
  F f = unpack_function<F>(function);
  if constexpr (std::is_void_v<R>) {
    std::apply(f, std::move(call));
  } else {
    encode_to(result, static_cast<R>(std::apply(f, std::move(call))));
  }
}

template <class R, class F, class... Args>
[[nodiscard]] std::vector<std::byte> encode_call(F f, const Args&... args) {
  std::vector<std::byte> bytes;
  Encoder to(bytes);
  begin_call(to, apply_thunk<R, F, PoolArgument<Args>...>, f);
  to.write(std::tuple<PoolArgument<Args>...>(args...));
  return bytes;
}

/// One task, as the pool has it.
class PoolTask {
 public:
  explicit PoolTask(std::vector<std::byte> call) noexcept : payload(std::move(call)) {}
  PoolTask(const PoolTask&) = delete;
  PoolTask& operator=(const PoolTask&) = delete;
  virtual ~PoolTask() = default;

  /// The result has come. May throw, and then has failed.
  virtual void succeed(std::span<const std::byte> result) = 0;
  virtual void fail(const std::exception_ptr& error) = 0;

  std::vector<std::byte> payload;
  bool over = false;        // it has succeeded, failed, or been withdrawn
  bool holds_room = false;  // a place in the queue
};

template <class R>
class ApplyTask : public PoolTask {
 public:
  using PoolTask::PoolTask;
  void succeed(std::span<const std::byte> result) override {
    if constexpr (std::is_void_v<R>) {
      promise.set_value();
    } else {
      promise.set_value(decode<R>(result));
    }
  }
  void fail(const std::exception_ptr& error) override { promise.set_exception(error); }

  Promise<R> promise;
};

template <class R, class OnResult, class OnError>
class CallbackTask final : public ApplyTask<R> {
 public:
  template <class Callbacks>
  CallbackTask(std::vector<std::byte> call, Callbacks callbacks)
      : ApplyTask<R>(std::move(call)),
        on_result_(std::move(callbacks.on_result)),
        on_error_(std::move(callbacks.on_error)) {}
  void succeed(std::span<const std::byte> result) override {
    ApplyTask<R>::succeed(result);
    bight::spawn({.name = "pool callback"}, [call = std::move(on_result_), future = this->promise.future()]() mutable {
      if constexpr (std::is_void_v<R>) {
        call();
      } else {
        call(future.get());
      }
    }).detach();
  }
  void fail(const std::exception_ptr& error) override {
    ApplyTask<R>::fail(error);
    bight::spawn({.name = "pool callback"}, [call = std::move(on_error_), error]() mutable { call(error); }).detach();
  }

 private:
  OnResult on_result_;
  OnError on_error_;
};

// --- Elements of a range ---------------------------------------------------------------------------------------------

struct CallElement {
  template <class F, class Item>
  using Result = std::decay_t<std::invoke_result_t<F&, Item>>;
  template <class F, class Item>
  static decltype(auto) call(F& f, Item&& item) {
    return std::invoke(f, std::forward<Item>(item));
  }
};

struct ApplyElement {
  template <class F, class Item>
  using Result = std::decay_t<decltype(std::apply(std::declval<F&>(), std::declval<Item>()))>;
  template <class F, class Item>
  static decltype(auto) call(F& f, Item&& item) {
    return std::apply(f, std::forward<Item>(item));
  }
};

template <class R>
using PoolValue = std::conditional_t<std::is_void_v<R>, std::byte, R>;

/// The outcomes of a chunk: for each element a bool, whether it failed, and the value or the failure.
template <class Element, class R, class F, class Item>
void chunk_thunk(std::uint64_t function, Decoder& arguments, std::vector<std::byte>& result) {
  F f = unpack_function<F>(function);
  while (arguments.remaining() != 0) {
    auto item = arguments.read<Item>();
    const std::size_t mark = result.size();
    try {
      encode_to(result, false);
      if constexpr (std::is_void_v<R>) {
        Element::call(f, std::move(item));
      } else {
        encode_to(result, static_cast<R>(Element::call(f, std::move(item))));
      }
    } catch (...) {
      result.resize(mark);
      encode_to(result, true);
      encode_to(result, current_failure());
    }
  }
}

template <class Element, class F, class Item, class R>
class ChunkWriter {
 public:
  explicit ChunkWriter(F f) : to_(bytes_) { begin_call(to_, chunk_thunk<Element, R, F, Item>, f); }
  void add(const Item& item) {
    // The end of a chunk is where its bytes end, so an element has some.
    static_assert(!std::is_empty_v<Item>, "a range of empty objects says nothing but how long it is");
    to_.write(item);
    ++count_;
  }
  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  [[nodiscard]] std::vector<std::byte> finish() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
  Encoder to_;
  std::size_t count_ = 0;
};

/// Calls `value(PoolValue<R>&&)` or `error(exception_ptr)` for the next outcome of a chunk.
template <class R, class OnValue, class OnError>
void read_outcome(Decoder& from, OnValue&& value, OnError&& error) {
  if (from.read<bool>()) {
    error(as_error(from.read<RemoteFailure>()));
  } else if constexpr (std::is_void_v<R>) {
    value(std::byte{});
  } else {
    value(from.read<R>());
  }
}

template <class R>
struct MapState {
  std::vector<std::optional<PoolValue<R>>> values;
  std::size_t count = 0;
  std::size_t open = 0;  // tasks
  std::size_t error_at = 0;
  std::exception_ptr error;  // of the first element that failed
  AutoResetEvent arrived;

  void put(std::size_t at, PoolValue<R>&& value) {
    if (values.size() <= at) values.resize(std::max(at + 1, count));
    values[at].emplace(std::move(value));
  }
  void put_error(std::size_t at, const std::exception_ptr& what) {
    if (error != nullptr && error_at <= at) return;
    error = what;
    error_at = at;
  }
  void ended() {
    if (--open == 0) arrived.set();
  }
  auto take() {
    if (error != nullptr) std::rethrow_exception(error);
    if constexpr (!std::is_void_v<R>) {
      std::vector<R> results;
      results.reserve(values.size());
      for (auto& each : values) results.push_back(std::move(*each));
      return results;
    }
  }
};

template <class State>
class ElementsTask : public PoolTask {
 public:
  ElementsTask(std::vector<std::byte> call, std::shared_ptr<State> state, std::size_t first, std::size_t count)
      : PoolTask(std::move(call)), state_(std::move(state)), first_(first), count_(count) {}
  void fail(const std::exception_ptr& error) override {
    for (std::size_t i = done_; i < count_; ++i) state_->put_error(first_ + i, error);
    state_->ended();
  }

 protected:
  template <class R>
  void take(std::span<const std::byte> result) {
    Decoder from(result);
    for (; done_ < count_; ++done_) {
      const std::size_t at = first_ + done_;
      read_outcome<R>(
          from, [&](PoolValue<R>&& value) { state_->put(at, std::move(value)); },
          [&](const std::exception_ptr& error) { state_->put_error(at, error); });
    }
    from.finish();
    state_->ended();
  }

 private:
  std::shared_ptr<State> state_;
  std::size_t first_;
  std::size_t count_;
  std::size_t done_ = 0;
};

template <class R>
class MapTask final : public ElementsTask<MapState<R>> {
 public:
  using ElementsTask<MapState<R>>::ElementsTask;
  void succeed(std::span<const std::byte> result) override { this->template take<R>(result); }
};

template <class R>
struct ImapState {
  using Outcome = PoolOutcome<R>;
  std::map<std::size_t, Outcome> there;
  std::size_t next_index = 0;
  AutoResetEvent arrived;

  void put(std::size_t at, PoolValue<R>&& value) { there.emplace(at, Outcome(at, std::move(value))); }
  void put_error(std::size_t at, const std::exception_ptr& error) { there.emplace(at, Outcome(at, error)); }
  void ended() { arrived.set(); }

  std::optional<Outcome> next(bool ordered) {
    const auto first = there.begin();
    if (first == there.end() || (ordered && first->first != next_index)) return std::nullopt;
    std::optional<Outcome> outcome(std::move(first->second));
    there.erase(first);
    ++next_index;
    return outcome;
  }
};

template <class R>
class ImapTask final : public ElementsTask<ImapState<R>> {
 public:
  using ElementsTask<ImapState<R>>::ElementsTask;
  void succeed(std::span<const std::byte> result) override { this->template take<R>(result); }
};

}  // namespace bight::detail
