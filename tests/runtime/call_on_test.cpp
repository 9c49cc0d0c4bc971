// SPDX-License-Identifier: Apache-2.0
#include <bight/call_on.hpp>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/scope.hpp>
#include <bight/shared_event.hpp>
#include <bight/time.hpp>

#include "build.hpp"
#include "loop_thread.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::on_loop;

constexpr int kRounds = test::this_many(2'000, 200);

/// A loop in a thread of its own that does what it is told to, until the end of the block.
class Server {
 public:
  explicit Server(RunOptions options = {}) {
    std::promise<Remote> made;
    auto remote = made.get_future();
    thread_ = std::thread([this, options, made = std::move(made)]() mutable {
      run(options, [&] {
        made.set_value(Remote());
        stop_.wait();
      });
    });
    remote_.emplace(remote.get());
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() { end(); }

  [[nodiscard]] const Remote& remote() const noexcept { return *remote_; }
  void end() {
    stop_.set();
    if (thread_.joinable()) thread_.join();
  }

 private:
  SharedEvent stop_;
  std::optional<Remote> remote_;
  std::thread thread_;
};

TEST(CallOn, ReturnsAndThrowsWhatTheCallableDoes) {
  Server server;
  auto check = [&] {
    const auto here = std::this_thread::get_id();
    EXPECT_NE(call_on(server.remote(), [] { return std::this_thread::get_id(); }), here);
    EXPECT_TRUE(call_on(server.remote(), [] { return this_fiber::exists(); }));
    EXPECT_EQ(*call_on(server.remote(), [held = std::make_unique<int>(3)]() mutable { return std::move(held); }), 3);
    int side = 0;
    call_on(server.remote(), [&] { side = 1; });
    EXPECT_EQ(side, 1);
    EXPECT_THROW(call_on(server.remote(), [] { throw std::runtime_error("there"); }), std::runtime_error);
    EXPECT_EQ(call_on(server.remote(),
                      [] {
                        sleep_for(1ms);
                        return 5;
                      }),
              5);
  };
  on_loop(check);
  check();  // a thread without a loop
}

TEST(CallOn, TheCallersLoopGoesOn) {
  Server server;
  on_loop([&] {
    SharedEvent go;
    auto other = spawn([&] {
      for (int i = 0; i < 10; ++i) yield();
      go.set();
    });
    call_on(server.remote(), [&] { go.wait(); });
    other.join();
  });
}

TEST(CallOn, OnesOwnLoop) {
  on_loop([] {
    const Remote here;
    EXPECT_EQ(call_on(here,
                      [] {
                        yield();
                        return 1;
                      }),
              1);
    EXPECT_FALSE(move_on_after(1ms, [&] { call_on(here, [] { sleep_for(1h); }); }));
    bool ran = false;
    auto cancelled = spawn([&] { call_on(here, [&] { ran = true; }); });
    yield();
    cancelled.cancel();  // before the fiber for it has been made
    cancelled.join();
    EXPECT_EQ(cancelled.status(), FiberStatus::cancelled);
    EXPECT_FALSE(ran);
  });
}

TEST(CallOn, TwoLoopsCallEachOther) {
  Server one;
  Server two;
  EXPECT_EQ(call_on(one.remote(),
                    [&] { return call_on(two.remote(), [&] { return call_on(one.remote(), [] { return 9; }); }); }),
            9);
}

TEST(CallOn, CancellingTheCallerCancelsTheFiberThere) {
  Server server;
  on_loop([&] {
    SharedEvent begun;
    SharedEvent unwound;
    SharedEvent go;
    auto fiber = spawn([&] {
      int local = 0;  // which the call refers to
      call_on(server.remote(), [&] {
        begun.set();
        try {
          SharedEvent never;
          never.wait();
        } catch (const Cancelled&) {
          const Shield shield;
          unwound.set();
          go.wait();
          ++local;
          throw;
        }
      });
    });
    begun.wait();
    fiber.cancel();
    unwound.wait();
    EXPECT_FALSE(fiber.done()) << "the end of the fiber there is waited for";
    go.set();
    fiber.join();
    EXPECT_EQ(fiber.status(), FiberStatus::cancelled);
  });
}

TEST(CallOn, AResultThatCameAllTheSameIsReturned) {
  Server server;
  on_loop([&] {
    SharedEvent begun;
    int result = 0;
    auto fiber = spawn([&] {
      result = call_on(server.remote(), [&] {
        begun.set();
        try {
          SharedEvent never;
          never.wait();
        } catch (const Cancelled&) {
        }
        return 4;
      });
    });
    begun.wait();
    fiber.cancel();
    fiber.join();
    EXPECT_EQ(result, 4);
  });
}

// Cancelled at every distance from the call's beginning and end.
TEST(CallOn, CancellationRaces) {
  Server server;
  on_loop([&] {
    int begun = 0;
    int ended = 0;
    for (int i = 0; i < kRounds; ++i) {
      auto fiber = spawn([&] {
        call_on(server.remote(), [&] {
          ++begun;
          struct End {
            int& count;
            ~End() { ++count; }
          } end{ended};
          yield();
        });
      });
      yield();
      for (int spin = 0; spin < i % 2000; ++spin) std::atomic_signal_fence(std::memory_order_seq_cst);
      fiber.cancel();
      fiber.join();
      ASSERT_EQ(begun, ended);
    }
  });
}

TEST(CallOn, ALoopThatHasEndedIsAnError) {
  Server server;
  server.end();
  auto check = [&] {
    try {
      call_on(server.remote(), [] {});
      FAIL() << "did not throw";
    } catch (const std::system_error& error) {
      EXPECT_EQ(error.code(), std::errc::no_such_process);
      EXPECT_THAT(error.what(), testing::HasSubstr("that loop has ended"));
    }
  };
  on_loop(check);
  check();
}

TEST(CallOn, TheEndOfThatLoopCancelsTheFiberThere) {
  std::promise<Remote> made;
  auto remote = made.get_future();
  SharedEvent begun;
  std::thread thread([&] {
    EXPECT_THROW(run([&] {
                   made.set_value(Remote());
                   begun.wait();
                   throw std::runtime_error("main");
                 }),
                 std::runtime_error);
  });
  const Remote there = remote.get();
  EXPECT_THROW(call_on(there,
                       [&] {
                         begun.set();
                         SharedEvent never;
                         never.wait();
                       }),
               FiberCancelled);
  thread.join();
}

TEST(CallOn, TooManyPostsAreAnError) {
  RunOptions options;
  options.posts_max = 0;
  Server server(options);
  auto check = [&] { EXPECT_THROW(call_on(server.remote(), [] {}), std::system_error); };
  on_loop(check);
  check();
}

// Calls while the loop ends: each is made, or refused, or cancelled; none is forgotten.
TEST(CallOn, DuringTheEnd) {
  for (int round = 0; round < 30; ++round) {
    Server server;
    std::atomic<int> calls{0};
    std::thread caller([&] {
      try {
        for (;;) {
          call_on(server.remote(), [] { yield(); });
          ++calls;
        }
      } catch (const std::system_error&) {
      } catch (const FiberCancelled&) {
      }
    });
    while (calls < round) std::this_thread::yield();
    server.end();
    caller.join();
  }
}

TEST(CallOn, SpawnsErrorComesBack) {
  RunOptions options;
  options.fibers_max = 1;
  Server server(options);
  try {
    call_on(server.remote(), [] {});
    FAIL() << "did not throw";
  } catch (const std::system_error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("fibers_max = 1"));
  }
}

}  // namespace
}  // namespace bight
