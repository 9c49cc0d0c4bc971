// SPDX-License-Identifier: Apache-2.0
#pragma once

/// At most so many fibers at a time.

#include <chrono>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <optional>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

#include <bight/channel.hpp>
#include <bight/error.hpp>
#include <bight/future.hpp>
#include <bight/group.hpp>
#include <bight/scope.hpp>
#include <bight/semaphore.hpp>
#include <bight/time.hpp>

namespace bight {

class Pool;

namespace detail {

/// One of a pool's slots. Given back when it ends, so also by a fiber that is cancelled before it has run.
class PoolSlot {
 public:
  explicit PoolSlot(Pool& pool) noexcept : pool_(&pool) {}
  PoolSlot(PoolSlot&& other) noexcept : pool_(std::exchange(other.pool_, nullptr)) {}
  PoolSlot& operator=(PoolSlot&&) = delete;
  ~PoolSlot();

 private:
  Pool* pool_;
};

/// A fiber that holds a slot, while it runs what it holds it for.
class PoolMember {
 public:
  explicit PoolMember(Pool& pool) noexcept;
  PoolMember(const PoolMember&) = delete;
  PoolMember& operator=(const PoolMember&) = delete;
  ~PoolMember();

 private:
  friend class bight::Pool;
  Pool& pool_;
  FiberControl* fiber_;
  PoolMember* previous_ = nullptr;
  PoolMember* next_;
  bool wants_slot_ = false;  // waits for one, besides the one it has
};

/// What is kept of an element until it is its turn: a reference to one that stays where it is, or what the range gave.
/// Of a range that can be gone through only once, that is the element itself: its iterator has one at a time.
template <class Range, class Reference = std::ranges::range_reference_t<Range>>
using PoolItem = std::conditional_t<
    !std::is_lvalue_reference_v<Reference>, std::remove_cvref_t<Reference>,
    std::conditional_t<std::ranges::forward_range<Range>, std::reference_wrapper<std::remove_reference_t<Reference>>,
                       std::ranges::range_value_t<Range>>>;

template <class Range, class Each>
[[nodiscard]] PoolItem<Range> hold_item(Each&& each) {
  if constexpr (std::is_constructible_v<PoolItem<Range>, Each>) {
    return PoolItem<Range>(std::forward<Each>(each));
  } else {
    return PoolItem<Range>(std::move(each));  // can only be moved, and comes by once
  }
}
/// The item as the range would have given it.
template <class Range>
[[nodiscard]] std::ranges::range_reference_t<Range>&& as_element(PoolItem<Range>& item) noexcept {
  return static_cast<std::ranges::range_reference_t<Range>&&>(item);
}

/// Of an element that has ended as cancelled: throws Cancelled when the calling fiber has been, too; else this is the
/// error that stands for it, for instance when the function has thrown Cancelled of its own accord.
[[nodiscard]] std::exception_ptr cancelled_element();

template <class Range, class F>
using PoolResult = std::invoke_result_t<F&, std::ranges::range_reference_t<Range>>;

}  // namespace detail

/// What became of one element of Pool::imap.
template <class R>
class PoolOutcome {
 public:
  using Value = std::conditional_t<std::is_void_v<R>, std::byte, R>;
  PoolOutcome(std::size_t index, Value&& value) : index_(index), value_(std::move(value)) {}
  PoolOutcome(std::size_t index, std::exception_ptr error) noexcept : index_(index), error_(std::move(error)) {}

  /// What the function returned (moved out: call once), or throws what it threw.
  R get() {
    if (error_ != nullptr) std::rethrow_exception(error_);
    if constexpr (!std::is_void_v<R>) return std::move(*value_);
  }
  /// The element's place in the range.
  [[nodiscard]] std::size_t index() const noexcept { return index_; }
  [[nodiscard]] std::exception_ptr error() const noexcept { return error_; }

 private:
  std::size_t index_;
  std::optional<Value> value_;
  std::exception_ptr error_;
};

/// How Pool::imap goes on.
struct ImapOptions {
  bool ordered = true;         ///< outcomes in the range's order; else in that of their completion
  std::size_t look_ahead = 0;  ///< elements begun and not yet read, at most; 0: twice the pool's size
};

template <class Range, class F>
class Imap;

/// Runs functions in fibers, `size` at a time at most; who wants to start one more waits until there is room, in the
/// order of coming. Owns its fibers as a Group does: leaving the block cancels them. A member may use the pool it runs
/// in: run() and map() then need no further slot, and a spawn() in which all members would wait is refused rather than
/// deadlocked. (Members that wait otherwise for what needs a slot, as one does in map() whose elements spawn() here
/// again, can deadlock.)
class Pool {
 public:
  /// At least 1, else it aborts with a sentence.
  explicit Pool(std::size_t size);
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// Waits for room, then starts `f()` in a fiber of its own. Throws Cancelled; std::system_error
  /// (resource_deadlock_would_occur) when the caller is a member, and all others wait for room as well; and what spawn
  /// throws.
  template <class F>
  Fiber<detail::ResultOf<F>> spawn(F&& f) {
    return start(take_slot(), std::forward<F>(f));
  }
  /// Does not wait. Nothing: there is no room.
  template <class F>
  [[nodiscard]] std::optional<Fiber<detail::ResultOf<F>>> try_spawn(F&& f) {
    if (!slots_.try_acquire()) return std::nullopt;
    return start(detail::PoolSlot(*this), std::forward<F>(f));
  }
  /// Waits for `limit` at most.
  template <class Rep, class Period, class F>
  [[nodiscard]] std::optional<Fiber<detail::ResultOf<F>>> spawn_for(const std::chrono::duration<Rep, Period>& limit,
                                                                    F&& f) {
    if (!slots_.try_acquire_for(limit)) return std::nullopt;
    return start(detail::PoolSlot(*this), std::forward<F>(f));
  }

  /// Calls `f()` here, in the calling fiber, when there is room (a member has it), and returns what it returns.
  template <class F>
  decltype(auto) run(F&& f) {
    if (member()) return std::invoke(std::forward<F>(f));
    const detail::PoolSlot slot = take_slot();
    const detail::PoolMember here(*this);
    return std::invoke(std::forward<F>(f));
  }

  /// Calls `f(element)` for each element of `range`, in fibers, as many at a time as there is room for. Returns the
  /// results in the range's order. If some threw, waits for all and throws the error of the first in that order. When
  /// the caller is cancelled, or going through the range throws, those that run are cancelled and waited for. `f` is
  /// called by several fibers in turn; it and the range must not change meanwhile.
  template <std::ranges::input_range Range, class F>
  auto map(Range&& range, F&& f);

  /// The same one by one, for ranges that are long or endless: begins elements as there is room, `look_ahead` of them
  /// ahead of the reader at most.
  ///
  ///     for (auto& outcome : pool.imap(urls, fetch, {.ordered = false})) try { use(outcome.get()); } catch ...
  ///
  /// An element's error is thrown by its outcome's get(), and the others go on; an error of the range itself is thrown
  /// at the end of the iteration. Leaving the loop early cancels what runs. Not for members of this pool, who could
  /// wait for each other: std::system_error (resource_deadlock_would_occur).
  template <std::ranges::input_range Range, class F>
  [[nodiscard]] Imap<Range, std::decay_t<F>> imap(Range&& range, F&& f, ImapOptions options = {}) {
    refuse_members();
    if (options.look_ahead == 0) options.look_ahead = 2 * size_;
    return Imap<Range, std::decay_t<F>>(*this, std::forward<Range>(range), std::forward<F>(f), options);
  }

  /// As of Group: for the fibers of spawn() and its kin.
  void join() { members_.join(); }
  template <class Rep, class Period>
  [[nodiscard]] bool join_for(const std::chrono::duration<Rep, Period>& limit) {
    return members_.join_for(limit);
  }
  void cancel_all() noexcept { members_.cancel_all(); }
  [[nodiscard]] std::size_t failures() const noexcept { return members_.failures(); }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  /// How many slots are taken.
  [[nodiscard]] std::size_t busy() const noexcept { return size_ - available(); }
  [[nodiscard]] std::size_t available() const noexcept { return static_cast<std::size_t>(slots_.available()); }
  [[nodiscard]] bool full() const noexcept { return slots_.available() == 0; }
  /// Whether the calling fiber holds a slot.
  [[nodiscard]] bool member() const noexcept;

 private:
  friend class detail::PoolSlot;
  friend class detail::PoolMember;
  template <class Range, class F>
  friend class Imap;

  [[nodiscard]] detail::PoolSlot take_slot();
  void refuse_members() const;
  [[nodiscard]] detail::PoolMember* find_member() const noexcept;

  template <class F>
  Fiber<detail::ResultOf<F>> start(detail::PoolSlot slot, F&& f) {
    return members_.spawn([this, held = std::move(slot), f = std::decay_t<F>(std::forward<F>(f))]() mutable {
      const detail::PoolMember here(*this);
      return std::invoke(std::move(f));
    });
  }

  std::size_t size_;
  Semaphore slots_;
  detail::PoolMember* first_ = nullptr;
  Group members_;  // last: its fibers give slots back
};

template <std::ranges::input_range Range, class F>
auto Pool::map(Range&& range, F&& f) {
  using R = detail::PoolResult<Range, F>;
  struct Done {
    std::optional<typename PoolOutcome<R>::Value> value;
    std::exception_ptr error;
  };
  std::deque<Done> done;  // whose elements stay where they are
  const auto call = [&f](auto&& item, Done& to) {
    try {
      if constexpr (std::is_void_v<R>) {
        std::invoke(f, std::forward<decltype(item)>(item));
      } else {
        to.value.emplace(std::invoke(f, std::forward<decltype(item)>(item)));
      }
    } catch (const Cancelled&) {
      to.error = detail::cancelled_element();
    } catch (...) {
      to.error = std::current_exception();
    }
  };
  {
    Scope scope;
    const bool inside = member();
    for (auto&& each : range) {
      Done& to = done.emplace_back();
      if (inside && full()) {
        call(std::forward<decltype(each)>(each), to);
        continue;
      }
      scope
          .spawn([this, &call, &to, slot = take_slot(),
                  item = detail::hold_item<Range>(std::forward<decltype(each)>(each))]() mutable {
            const detail::PoolMember here(*this);
            call(detail::as_element<Range>(item), to);
          })
          .detach();
    }
    scope.join();
  }
  for (Done& each : done) {
    if (each.error != nullptr) std::rethrow_exception(each.error);
  }
  if constexpr (!std::is_void_v<R>) {
    std::vector<R> results;
    results.reserve(done.size());
    for (Done& each : done) results.push_back(std::move(*each.value));
    return results;
  }
}

/// The outcomes of Pool::imap, as they come. Stays where it is made.
template <class Range, class F>
class Imap {
 public:
  using R = detail::PoolResult<Range, F>;
  using Outcome = PoolOutcome<R>;

  Imap(const Imap&) = delete;
  Imap& operator=(const Imap&) = delete;
  ~Imap() {
    fibers_.cancel();
    static_cast<void>(fibers_.wait_until(TimePoint::max()));
  }

  /// The next outcome; nothing at the end. Throws what the range threw, at the end, and Cancelled.
  [[nodiscard]] std::optional<Outcome> next() {
    std::optional<Outcome> outcome = options_.ordered ? next_in_order() : as_they_come_.receive();
    if (outcome) {
      ahead_.release();
    } else if (range_error_ != nullptr) {
      std::rethrow_exception(std::exchange(range_error_, nullptr));
    }
    return outcome;
  }

  [[nodiscard]] auto begin() { return detail::ReceiveIterator<Imap, Outcome>(*this); }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }
  [[nodiscard]] std::optional<Outcome> next_value() { return next(); }
  /// How many elements have been begun.
  [[nodiscard]] std::size_t begun() const noexcept { return begun_; }

 private:
  friend class Pool;
  using Item = detail::PoolItem<Range>;

  template <class G>
  Imap(Pool& pool, Range&& range, G&& f, const ImapOptions& options)
      : pool_(pool),
        range_(std::forward<Range>(range)),
        f_(std::forward<G>(f)),
        options_(options),
        ahead_(static_cast<std::ptrdiff_t>(options.look_ahead)) {
    fibers_.spawn([this] { feed(); }).detach();
  }

  /// The one that is next stays so if the wait for it is cut short.
  std::optional<Outcome> next_in_order() {
    if (!awaited_) awaited_ = in_order_.receive();
    if (!awaited_) return std::nullopt;
    awaited_->wait();
    if (awaited_->error() != nullptr) std::rethrow_exception(detail::cancelled_element());  // it has not been set
    std::optional<Outcome> outcome(awaited_->take());
    awaited_.reset();
    return outcome;
  }

  void feed() {
    try {
      for (auto&& each : range_) {
        ahead_.acquire();
        begin_one(detail::hold_item<Range>(std::forward<decltype(each)>(each)), pool_.take_slot());
      }
    } catch (const Cancelled&) {
      throw;
    } catch (...) {
      range_error_ = std::current_exception();
    }
    fed_ = true;
    close_when_done();
  }

  void begin_one(Item item, detail::PoolSlot slot) {
    Promise<Outcome> promise;
    Future<Outcome> future = promise.future();
    fibers_
        .spawn([this, index = begun_, item = std::move(item), slot = std::move(slot),
                promise = std::move(promise)]() mutable {
          const detail::PoolMember here(pool_);
          Outcome outcome = call(index, item);
          try {
            deliver(promise, std::move(outcome));
          } catch (...) {  // it can not be moved; an error can
            deliver(promise, Outcome(index, std::current_exception()));
          }
          --running_;
          close_when_done();
        })
        .detach();
    // It has not run yet, and counts only now that it will.
    ++begun_;
    ++running_;
    if (options_.ordered) in_order_.send(std::move(future));
  }

  Outcome call(std::size_t index, Item& item) {
    try {
      if constexpr (std::is_void_v<R>) {
        std::invoke(f_, detail::as_element<Range>(item));
        return Outcome(index, std::byte{});
      } else {
        return Outcome(index, std::invoke(f_, detail::as_element<Range>(item)));
      }
    } catch (const Cancelled&) {
      return Outcome(index, detail::cancelled_element());
    } catch (...) {
      return Outcome(index, std::current_exception());
    }
  }

  void deliver(Promise<Outcome>& promise, Outcome&& outcome) {
    if (options_.ordered) {
      promise.set_value(std::move(outcome));
    } else {
      as_they_come_.send(std::move(outcome));
    }
  }

  void close_when_done() noexcept {
    if (!fed_) return;
    in_order_.close();
    if (running_ == 0) as_they_come_.close();
  }

  Pool& pool_;
  Range range_;
  F f_;
  ImapOptions options_;
  Semaphore ahead_;
  Channel<Future<Outcome>> in_order_{Channel<Future<Outcome>>::kUnbounded};
  Channel<Outcome> as_they_come_{Channel<Outcome>::kUnbounded};
  std::optional<Future<Outcome>> awaited_;  // received from in_order_, and not read yet
  std::exception_ptr range_error_;
  std::size_t begun_ = 0;
  std::size_t running_ = 0;
  bool fed_ = false;
  Scope fibers_;  // last: they use the rest
};

}  // namespace bight
