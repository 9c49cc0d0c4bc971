// SPDX-License-Identifier: Apache-2.0
// Everything that crosses threads, all at once: what is lost makes this hang, or the sums wrong.
#include <bight/detail/cross_waiter.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include <bight/call_on.hpp>
#include <bight/cross_thread_mutex.hpp>
#include <bight/deadline.hpp>
#include <bight/fiber.hpp>
#include <bight/offload.hpp>
#include <bight/scope.hpp>
#include <bight/shared_channel.hpp>
#include <bight/shared_event.hpp>
#include <bight/shared_semaphore.hpp>

#include "build.hpp"
#include "loop_thread.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::LoopThread;

using Random = std::minstd_rand;

std::chrono::microseconds up_to(Random& random, int microseconds) {
  return std::chrono::microseconds(random() % static_cast<unsigned>(microseconds));
}

/// Two loops and two threads, with two who do the same at the same time in each loop.
template <class Body>
void everywhere(Body&& body) {
  auto fibers = [&body](unsigned seed) {
    Scope scope;
    scope.spawn([&body, seed] { body(seed); });
    scope.spawn([&body, seed] { body(seed + 1); });
    scope.join();
  };
  const LoopThread one([&] { fibers(1); });
  const LoopThread two([&] { fibers(3); });
  std::thread three([&] { body(5); });
  body(6);
  three.join();
}

/// A token that goes round through everybody, with no limits: a lost wake-up stops it for ever.
void pass_token_round(int rounds) {
  constexpr int kStations = 6;
  std::vector<SharedSemaphore*> stations;
  for (int i = 0; i < kStations; ++i) stations.push_back(new SharedSemaphore(i == 0 ? 1 : 0));
  everywhere([&](unsigned station) {
    for (int i = 0; i < rounds; ++i) {
      stations[station - 1]->acquire();
      stations[station % kStations]->release();
    }
  });
  EXPECT_EQ(stations[0]->available(), 1U);
  for (SharedSemaphore* each : stations) delete each;
}

/// Values through a narrow channel, with limits and cancellations on both sides.
void send_and_receive(int rounds) {
  SharedChannel<std::uint64_t> channel(3);
  std::atomic<std::uint64_t> sent{0};
  std::atomic<std::uint64_t> received{0};
  everywhere([&](unsigned seed) {
    Random random(seed);
    for (int i = 0; i < rounds; ++i) {
      const std::uint64_t value = random() % 1000;
      switch (random() % 6) {
        case 0:
          if (channel.try_send(value)) sent += value;
          break;
        case 1:
        case 2:
          if (channel.send_for(value, up_to(random, 30))) sent += value;
          break;
        case 3: received += channel.try_receive().value_or(0); break;
        case 4: received += channel.receive_for(up_to(random, 30)).value_or(0); break;
        default:
          if (!this_fiber::exists()) break;
          static_cast<void>(move_on_after(up_to(random, 30), [&] { received += channel.receive().value_or(0); }));
      }
    }
  });
  while (auto value = channel.try_receive()) received += *value;
  EXPECT_EQ(sent, received);
}

/// Two permits and a mutex, with limits and cancellations.
void lock_and_unlock(int rounds) {
  SharedSemaphore permits(2);
  CrossThreadMutex mutex;
  std::atomic<int> inside{0};
  int locked = 0;
  everywhere([&](unsigned seed) {
    Random random(seed);
    for (int i = 0; i < rounds; ++i) {
      bool mine = false;
      if (random() % 2 == 0 && this_fiber::exists()) {
        static_cast<void>(move_on_after(up_to(random, 20), [&] {
          permits.acquire();
          mine = true;
        }));
      } else {
        mine = permits.try_acquire_for(up_to(random, 20));
      }
      if (!mine) continue;
      EXPECT_LE(++inside, 2);
      if (mutex.try_lock_for(up_to(random, 20))) {
        EXPECT_EQ(++locked, 1);
        --locked;
        mutex.unlock();
      }
      --inside;
      permits.release();
    }
  });
  EXPECT_EQ(permits.available(), 2U);
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
}

/// Jobs, some of which are cancelled.
void offload_and_cancel(int rounds) {
  OffloadOptions options;
  options.threads_max = 2;
  options.queue_max = 2;
  options.idle_timeout = 1ms;
  OffloadPool pool(options);
  std::atomic<int> ran{0};
  std::atomic<int> returned{0};
  everywhere([&](unsigned seed) {
    Random random(seed);
    for (int i = 0; i < rounds; ++i) {
      auto job = [&] { returned += pool.run([&ran] { return ++ran, 1; }); };
      if (this_fiber::exists() && random() % 2 == 0) {
        static_cast<void>(move_on_after(up_to(random, 30), job));
      } else {
        job();
      }
    }
  });
  EXPECT_EQ(ran, returned);
  EXPECT_EQ(pool.stats().queued + pool.stats().waiting + pool.stats().running, 0U);
}

void all_of_it(int rounds) {
  pass_token_round(rounds);
  send_and_receive(rounds);
  lock_and_unlock(rounds);
  offload_and_cancel(rounds);
}

constexpr int kRounds = test::this_many(3'000, 200);

TEST(CrossThread, ATokenGoesRound) { pass_token_round(kRounds); }
TEST(CrossThread, NoValueIsLost) { send_and_receive(kRounds); }
TEST(CrossThread, NoPermitIsLost) { lock_and_unlock(kRounds); }
TEST(CrossThread, NoJobIsLost) { offload_and_cancel(kRounds); }

// BIGHT_STRESS_SECONDS: how long.
TEST(SlowCrossThread, AllOfItForAWhile) {
  const char* given = std::getenv("BIGHT_STRESS_SECONDS");
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(given != nullptr ? std::atoi(given) : 120);
  while (std::chrono::steady_clock::now() < end && !testing::Test::HasFailure()) all_of_it(kRounds);
}

}  // namespace
}  // namespace bight
