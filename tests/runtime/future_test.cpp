// SPDX-License-Identifier: Apache-2.0
#include <bight/future.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/scope.hpp>
#include <bight/select.hpp>
#include <bight/time.hpp>

#include "child.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::describe;
using test::in_child;
using test::on_loop;
using testing::ElementsAre;

/// Expects a std::future_error of this kind.
template <class F>
void expect_future_error(std::future_errc kind, F&& body) {
  try {
    body();
    ADD_FAILURE() << "no error";
  } catch (const std::future_error& error) {
    EXPECT_EQ(error.code(), kind);
  }
}

TEST(Future, AValueForManyWaiters) {
  on_loop([] {
    Promise<std::string> promise;
    std::vector<int> log;
    Scope scope;
    for (int i = 0; i < 5; ++i) {
      scope.spawn([&, i, future = promise.future()] {
        EXPECT_EQ(future.get(), "value");
        log.push_back(i);
      });
    }
    yield();
    EXPECT_FALSE(promise.is_set());
    EXPECT_FALSE(promise.future().ready());
    promise.set_value("value");
    EXPECT_TRUE(promise.is_set());
    EXPECT_TRUE(log.empty()) << "setting does not wait";
    scope.join();
    EXPECT_THAT(log, ElementsAre(0, 1, 2, 3, 4));
    EXPECT_EQ(promise.future().get(), "value") << "it stays";
    EXPECT_EQ(promise.future().error(), nullptr);
  });
}

TEST(Future, OfVoid) {
  on_loop([] {
    Promise<> promise;
    Future<> future = promise.future();
    auto waiter = spawn([&] {
      future.get();
      future.take();
      future.wait();
    });
    EXPECT_FALSE(future.wait_for(1ms));
    promise.set_value();
    waiter.get();
    EXPECT_TRUE(future.ready());
  });
}

TEST(Future, AnErrorForManyWaiters) {
  on_loop([] {
    Promise<int> promise;
    const Future<int> future = promise.future();
    std::vector<Fiber<int>> waiters;
    for (int i = 0; i < 3; ++i) waiters.push_back(spawn([future] { return future.get(); }));
    yield();
    EXPECT_EQ(future.error(), nullptr);
    promise.set_exception(std::make_exception_ptr(std::out_of_range("none")));
    for (auto& each : waiters) EXPECT_THROW(each.get(), std::out_of_range);
    EXPECT_TRUE(future.ready());
    EXPECT_NE(future.error(), nullptr);
    future.wait();  // does not throw it
    EXPECT_TRUE(future.wait_for(0ms));
    EXPECT_THROW(static_cast<void>(future.get()), std::out_of_range);
    EXPECT_THROW(Future<int>(future).take(), std::out_of_range);
    Promise<> nothing;
    nothing.set_exception(std::make_exception_ptr(std::logic_error("none")));
    EXPECT_THROW(nothing.future().get(), std::logic_error);
    EXPECT_THROW(nothing.future().take(), std::logic_error);
  });
}

TEST(Future, GetRefersToWhatIsShared) {
  on_loop([] {
    Promise<std::string> promise;
    promise.set_value(3U, 'x');
    const Future<std::string> first = promise.future();
    const Future<std::string> second = first;
    EXPECT_EQ(&first.get(), &second.get());
    EXPECT_EQ(first.get(), "xxx");
  });
}

TEST(Future, TakeMovesTheValueOut) {
  on_loop([] {
    Promise<std::unique_ptr<int>> promise;
    Future<std::unique_ptr<int>> future = promise.future();
    auto taker = spawn([&] { return *future.take(); });
    yield();
    promise.set_value(std::make_unique<int>(5));
    EXPECT_EQ(taker.get(), 5);
    EXPECT_EQ(future.get(), nullptr) << "it has been moved from";
    EXPECT_TRUE(future.ready());
  });
}

TEST(Future, TheResultOutlivesThePromise) {
  on_loop([] {
    Future<std::string> future;
    {
      Promise<std::string> promise;
      future = promise.future();
      promise.set_value("stays");
    }
    EXPECT_EQ(future.get(), "stays");
    EXPECT_EQ(future.take(), "stays");
  });
}

TEST(Future, ABrokenPromiseIsAnError) {
  on_loop([] {
    std::optional<Promise<int>> promise(std::in_place);
    const Future<int> future = promise->future();
    auto waiter = spawn([&] { return future.get(); });
    yield();
    promise.reset();
    expect_future_error(std::future_errc::broken_promise, [&] { waiter.get(); });
    expect_future_error(std::future_errc::broken_promise, [&] { static_cast<void>(future.get()); });
    EXPECT_NE(future.error(), nullptr);
    promise.emplace();
    const Future<int> kept = promise->future();
    promise->set_value(5);
    promise.reset();
    EXPECT_EQ(kept.get(), 5);
  });
}

TEST(Future, SetTwiceIsAnError) {
  on_loop([] {
    Promise<int> promise;
    promise.set_value(1);
    const auto error = std::make_exception_ptr(std::runtime_error("late"));
    expect_future_error(std::future_errc::promise_already_satisfied, [&] { promise.set_value(2); });
    expect_future_error(std::future_errc::promise_already_satisfied, [&] { promise.set_exception(error); });
    EXPECT_EQ(promise.future().get(), 1);
    Promise<int> failed;
    failed.set_exception(error);
    expect_future_error(std::future_errc::promise_already_satisfied, [&] { failed.set_value(2); });
    EXPECT_THROW(static_cast<void>(failed.future().get()), std::runtime_error);
  });
}

TEST(Future, AnEmptyOneSaysSo) {
  on_loop([] {
    Future<int> empty;
    EXPECT_FALSE(empty.valid());
    const auto no_state = std::future_errc::no_state;
    expect_future_error(no_state, [&] { static_cast<void>(empty.get()); });
    expect_future_error(no_state, [&] { static_cast<void>(empty.take()); });
    expect_future_error(no_state, [&] { empty.wait(); });
    expect_future_error(no_state, [&] { static_cast<void>(empty.wait_for(1h)); });
    expect_future_error(no_state, [&] { static_cast<void>(empty.wait_until(now() + 1h)); });
    expect_future_error(no_state, [&] { static_cast<void>(empty.ready()); });
    expect_future_error(no_state, [&] { static_cast<void>(empty.error()); });
    expect_future_error(no_state, [&] { select(empty.on_ready([] {})); });
    Promise<int> promise;
    Future<int> future = promise.future();
    EXPECT_TRUE(future.valid());
    Promise<int> other = std::move(promise);
    expect_future_error(no_state, [&] { promise.set_value(1); });  // NOLINT(bugprone-use-after-move)
    expect_future_error(no_state, [&] { static_cast<void>(promise.future()); });
    expect_future_error(no_state, [&] { static_cast<void>(promise.is_set()); });
    const Future<int> moved = std::move(future);
    EXPECT_FALSE(future.valid());  // NOLINT(bugprone-use-after-move)
    other.set_value(3);
    EXPECT_EQ(moved.get(), 3);
  });
}

TEST(Promise, MovedAndSwapped) {
  on_loop([] {
    Promise<int> one;
    Promise<int> two;
    const Future<int> first = one.future();
    const Future<int> second = two.future();
    one.swap(two);
    two.set_value(1);
    EXPECT_EQ(first.get(), 1);
    EXPECT_FALSE(second.ready());
    one = Promise<int>();  // drops what `second` waits for
    expect_future_error(std::future_errc::broken_promise, [&] { static_cast<void>(second.get()); });
    Promise<int>& same = one;
    const Future<int> third = one.future();
    one = std::move(same);
    EXPECT_FALSE(third.ready());
    one.set_value(3);
    EXPECT_EQ(third.get(), 3);
  });
}

// A value that can not be made leaves the promise as it was.
TEST(Promise, AValueWhoseConstructorThrowsHasNotBeenSet) {
  struct Picky {
    explicit Picky(int number) : text("picky") {
      if (number < 0) throw std::invalid_argument("less than nothing");
    }
    std::string text;
  };
  on_loop([] {
    Promise<Picky> promise;
    const Future<Picky> future = promise.future();
    auto waiter = spawn([&] { return future.get().text; });
    yield();
    EXPECT_THROW(promise.set_value(-1), std::invalid_argument);
    EXPECT_FALSE(promise.is_set());
    EXPECT_FALSE(future.ready());
    EXPECT_FALSE(future.wait_for(1ms));
    promise.set_value(1);
    EXPECT_EQ(waiter.get(), "picky");

    std::optional<Promise<Picky>> dropped(std::in_place);
    const Future<Picky> broken = dropped->future();
    EXPECT_THROW(dropped->set_value(-1), std::invalid_argument);
    dropped.reset();
    expect_future_error(std::future_errc::broken_promise, [&] { static_cast<void>(broken.get()); });
  });
}

TEST(Future, WaitsWithLimits) {
  on_loop([] {
    Promise<int> promise;
    const Future<int> future = promise.future();
    const TimePoint start = now();
    EXPECT_FALSE(future.wait_for(2ms));
    EXPECT_GE(now() - start, 2ms);
    EXPECT_FALSE(future.wait_for(0ms));
    EXPECT_FALSE(future.wait_for(-1h));
    EXPECT_FALSE(future.wait_until(now() + 1ms));
    EXPECT_FALSE(future.wait_until(std::chrono::system_clock::now() - 1h));
    auto setter = spawn([&] {
      sleep_for(1ms);
      promise.set_value(5);
    });
    EXPECT_TRUE(future.wait_for(1h));
    EXPECT_TRUE(future.wait_for(0ms));
    EXPECT_TRUE(future.wait_until(now() - 1h));
    setter.join();
  });
}

// parity 24: an outer limit is not lost; who has left is not woken
TEST(Future, WaitersThatLeave) {
  on_loop([] {
    Promise<int> promise;
    const Future<int> future = promise.future();
    EXPECT_THROW(with_timeout(1ms, [&] { return future.get(); }), TimedOut);
    EXPECT_THROW(with_timeout(1ms, [&] { return future.wait_for(1h); }), TimedOut);
    auto gone = spawn([&] { return future.get(); });
    auto stays = spawn([&] { return future.get(); });
    yield();
    EXPECT_EQ(future.waiters().size(), 2U);
    gone.cancel();
    EXPECT_EQ(future.waiters().size(), 1U);
    promise.set_value(5);
    gone.join();
    EXPECT_EQ(gone.status(), FiberStatus::cancelled);
    EXPECT_EQ(stays.get(), 5);
    EXPECT_TRUE(future.waiters().empty());
  });
}

TEST(Future, ACancelledFiberGetsWhatIsThere) {
  on_loop([] {
    Promise<int> set;
    set.set_value(5);
    Promise<int> unset;
    auto fiber = spawn([&] {
      try {
        sleep_for(1h);
      } catch (const Cancelled&) {
        EXPECT_EQ(set.future().get(), 5);
        EXPECT_TRUE(set.future().wait_for(1h));
        EXPECT_THROW(static_cast<void>(unset.future().get()), Cancelled);
        EXPECT_THROW(static_cast<void>(unset.future().wait_for(1h)), Cancelled);
        throw;
      }
    });
    auto served = spawn([&] { return unset.future().get(); });
    yield();
    fiber.cancel();
    fiber.join();
    EXPECT_EQ(fiber.status(), FiberStatus::cancelled);
    unset.set_value(6);
    served.cancel();  // too late
    EXPECT_EQ(served.get(), 6);
  });
}

TEST(Future, OnReadyInSelect) {
  on_loop([] {
    Promise<int> promise;
    const Future<int> future = promise.future();
    EXPECT_EQ(select(future.on_ready([] {}), otherwise([] {})), 1U);
    EXPECT_EQ(select(future.on_ready([] {}), after(1ms, [] {})), 1U);
    EXPECT_TRUE(future.waiters().empty());
    auto setter = spawn([&] { promise.set_exception(std::make_exception_ptr(std::out_of_range("none"))); });
    bool ready = false;
    EXPECT_EQ(select(after(1h, [] {}), future.on_ready([&] { ready = true; })), 1U);
    EXPECT_TRUE(ready);
    EXPECT_THROW(select(future.on_ready([&] { static_cast<void>(future.get()); })), std::out_of_range);
    setter.join();
  });
}

TEST(Promise, SetInCallbacksAndWithoutALoop) {
  Promise<int> early;
  early.set_value(1);
  EXPECT_TRUE(early.future().ready());
  EXPECT_EQ(early.future().get(), 1);
  on_loop([&] {
    EXPECT_EQ(early.future().get(), 1);
    Promise<int> promise;
    spawn([] {}).on_done([&] { promise.set_value(2); });
    EXPECT_EQ(promise.future().get(), 2);
    auto dropped = std::make_unique<Promise<int>>();
    const Future<int> future = dropped->future();
    spawn([] {}).on_done([&] { dropped.reset(); });
    expect_future_error(std::future_errc::broken_promise, [&] { static_cast<void>(future.get()); });
  });
}

TEST(Future, ResultsMayHoldFutures) {
  struct Node {
    Future<Node> next;
  };
  on_loop([] {
    Promise<Node> first;
    Promise<Node> second;
    const Future<Node> future = first.future();
    auto waiter = spawn([&] { return future.get().next.get().next.valid(); });
    first.set_value(Node{second.future()});
    yield();
    EXPECT_FALSE(waiter.done());
    second.set_value(Node{});
    EXPECT_FALSE(waiter.get());
  });
}

TEST(Future, SaysWhatIsWaitedFor) {
  on_loop([] {
    Promise<> promise;
    auto waiter = spawn([&] { promise.future().get(); });
    yield();
    EXPECT_NE(this_loop::dump_fibers().find("a Future's result"), std::string::npos) << this_loop::dump_fibers();
    promise.set_value();
    waiter.get();
  });
}

TEST(Future, OfAnotherThreadsLoopAborts) {
  const auto ended = in_child([] {
    return run([] {
      Promise<> promise;
      static_cast<void>(promise.future().wait_for(0ms));
      std::thread([&] { run([&] { promise.set_value(); }); }).join();
    });
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("belongs to the loop of another thread")) << describe(ended);
}

}  // namespace
}  // namespace bight
