// SPDX-License-Identifier: Apache-2.0

// What the primitives promise, under random interleavings, cancellations and limits: each world has its seed, a few
// fibers that do random things to one primitive, another one that cancels some of them, and a simple model that says
// what may never happen. BIGHT_PROPERTY_SEEDS says how many worlds (500; 10 000 in the slow suite), and a failure names
// its seed, which BIGHT_PROPERTY_FIRST=seed BIGHT_PROPERTY_SEEDS=1 repeats.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <bight/barrier.hpp>
#include <bight/channel.hpp>
#include <bight/condition.hpp>
#include <bight/cross_thread_mutex.hpp>
#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/event.hpp>
#include <bight/fiber.hpp>
#include <bight/future.hpp>
#include <bight/group.hpp>
#include <bight/latch.hpp>
#include <bight/mutex.hpp>
#include <bight/once.hpp>
#include <bight/pool.hpp>
#include <bight/queue.hpp>
#include <bight/scope.hpp>
#include <bight/select.hpp>
#include <bight/semaphore.hpp>
#include <bight/shared_channel.hpp>
#include <bight/shared_event.hpp>
#include <bight/shared_mutex.hpp>
#include <bight/shared_semaphore.hpp>
#include <bight/testing.hpp>
#include <bight/time.hpp>
#include <bight/wait_any.hpp>
#include <bight/wait_group.hpp>

namespace bight {
namespace {

using namespace std::chrono_literals;

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

/// One world's dice, and its fibers.
class World {
 public:
  explicit World(std::uint64_t seed) : random_(seed) {}

  /// 0 … below - 1
  [[nodiscard]] std::uint64_t dice(std::uint64_t below) { return random_() % below; }
  [[nodiscard]] bool chance(unsigned percent) { return dice(100) < percent; }
  [[nodiscard]] Duration some_time() { return std::chrono::microseconds(dice(50)); }

  /// Lets others run, for a while or only once, or not at all.
  void dawdle() {
    switch (dice(4)) {
      case 0: break;
      case 1: yield(); break;
      default: sleep_for(some_time()); break;
    }
  }

  /// Does `act` in one of the ways in which it can be cut short: not at all, by a limit of its own around it.
  template <class Act>
  void perhaps_limited(Act act) {
    if (chance(30)) {
      static_cast<void>(move_on_after(some_time(), act));
    } else {
      act();
    }
  }

  /// A fiber that may be cancelled at any time.
  template <class F>
  void actor(F f) {
    actors_.push_back(spawn(std::move(f)));
  }

  /// Cancels actors at random until all have ended, and throws what they threw. `rescue` is called again and again
  /// with what lets those that wait go on in the end.
  template <class Rescue>
  void play(Rescue rescue) {
    const std::uint64_t kills = dice(actors_.size() + 1);
    for (std::uint64_t i = 0; i < kills; ++i) {
      sleep_for(some_time());
      if (chance(50)) actors_[dice(actors_.size())].cancel();
    }
    for (int rounds = 0; !all_done(); ++rounds) {
      if (rounds > 10'000) throw std::runtime_error("stuck:\n" + this_loop::dump_fibers());
      rescue();
      sleep_for(20us);
    }
    for (auto& each : actors_) {
      try {
        each.get();
      } catch (const FiberCancelled&) {
      } catch (const ChannelClosed&) {
      }
    }
  }
  void play() {
    play([] {});
  }

 private:
  [[nodiscard]] bool all_done() const {
    return std::all_of(actors_.begin(), actors_.end(), [](const Fiber<>& each) { return each.done(); });
  }

  std::mt19937_64 random_;
  std::vector<Fiber<>> actors_;
};

using Property = void (*)(World&);

void hold_in_worlds(Property property, std::uint64_t worlds) {
  const std::uint64_t first = number_from("BIGHT_PROPERTY_FIRST", 1);
  worlds = number_from("BIGHT_PROPERTY_SEEDS", worlds);
  for (std::uint64_t seed = first; seed < first + worlds; ++seed) {
    try {
      testing::Sim sim{{.seed = seed}};
      sim.run([&] {
        World world(seed);
        property(world);
        EXPECT_EQ(this_loop::stats().fibers_alive, 1U);
        EXPECT_EQ(this_loop::stats().timers_armed, 0U);
      });
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
    ASSERT_FALSE(::testing::Test::HasFailure()) << "seed " << seed;
  }
}

// --- Locks

template <class Lockable>
void mutex_property(World& world) {
  Lockable mutex;
  int inside = 0;
  for (int i = 0; i < 6; ++i) {
    world.actor([&] {
      for (int k = 0; k < 6; ++k) {
        world.perhaps_limited([&] {
          std::unique_lock lock(mutex, std::defer_lock);
          switch (world.dice(3)) {
            case 0: lock.lock(); break;
            case 1: static_cast<void>(lock.try_lock()); break;
            default: static_cast<void>(lock.try_lock_for(world.some_time())); break;
          }
          if (!lock.owns_lock()) return;
          EXPECT_EQ(++inside, 1);
          struct Leave {
            int& inside;
            ~Leave() { --inside; }
          } leave{inside};
          world.dawdle();
        });
        world.dawdle();
      }
    });
  }
  world.play();
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
}

void scoped_lock_property(World& world) {
  Mutex left;
  Mutex right;
  int inside = 0;
  for (int i = 0; i < 5; ++i) {
    world.actor([&, i] {
      for (int k = 0; k < 5; ++k) {
        std::optional<std::scoped_lock<Mutex, Mutex>> lock;
        if (i % 2 == 0) {
          lock.emplace(left, right);
        } else {
          lock.emplace(right, left);
        }
        EXPECT_EQ(++inside, 1);
        struct Leave {
          int& inside;
          ~Leave() { --inside; }
        } leave{inside};
        world.dawdle();
      }
    });
  }
  world.play();
  EXPECT_FALSE(left.locked() || right.locked());
}

void shared_mutex_property(World& world) {
  SharedMutex mutex;
  int readers = 0;
  int writers = 0;
  struct Inside {
    explicit Inside(int& which) : count(++which) {}
    ~Inside() { --count; }
    int& count;
  };
  for (int i = 0; i < 7; ++i) {
    world.actor([&] {
      for (int k = 0; k < 6; ++k) {
        world.perhaps_limited([&] {
          if (world.chance(40)) {
            std::unique_lock lock(mutex, std::defer_lock);
            if (world.chance(50) ? (lock.lock(), true) : lock.try_lock_for(world.some_time())) {
              const Inside inside(writers);
              EXPECT_EQ(writers, 1);
              EXPECT_EQ(readers, 0);
              world.dawdle();
            }
          } else {
            std::shared_lock lock(mutex, std::defer_lock);
            if (world.chance(50) ? (lock.lock(), true) : lock.try_lock_for(world.some_time())) {
              const Inside inside(readers);
              EXPECT_EQ(writers, 0);
              world.dawdle();
            }
          }
        });
      }
    });
  }
  world.play();
  EXPECT_EQ(mutex.readers(), 0U);
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
}

void semaphore_property(World& world) {
  const auto permits = static_cast<std::ptrdiff_t>(1 + world.dice(3));
  BoundedSemaphore semaphore(permits);
  std::ptrdiff_t taken = 0;
  for (int i = 0; i < 7; ++i) {
    world.actor([&] {
      for (int k = 0; k < 6; ++k) {
        world.perhaps_limited([&] {
          bool ours = true;
          switch (world.dice(4)) {
            case 0: semaphore.acquire(); break;
            case 1: ours = semaphore.try_acquire(); break;
            case 2: ours = semaphore.try_acquire_for(world.some_time()); break;
            default: ours = select(semaphore.on_acquire([] {}), after(world.some_time(), [] {})) == 0; break;
          }
          if (!ours) return;
          EXPECT_LE(++taken, permits);
          struct Release {
            BoundedSemaphore& semaphore;
            std::ptrdiff_t& taken;
            ~Release() {
              --taken;
              semaphore.release();
            }
          } release{semaphore, taken};
          world.dawdle();
        });
      }
    });
  }
  world.play();
  EXPECT_EQ(semaphore.available(), permits);
  EXPECT_EQ(semaphore.waiting(), 0U);
}

void shared_semaphore_property(World& world) {
  const std::size_t permits = 1 + world.dice(3);
  SharedSemaphore semaphore(permits);
  std::size_t taken = 0;
  for (int i = 0; i < 7; ++i) {
    world.actor([&] {
      for (int k = 0; k < 6; ++k) {
        world.perhaps_limited([&] {
          if (world.chance(50)) {
            semaphore.acquire();
          } else if (!semaphore.try_acquire_for(world.some_time())) {
            return;
          }
          EXPECT_LE(++taken, permits);
          struct Release {
            SharedSemaphore& semaphore;
            std::size_t& taken;
            ~Release() {
              --taken;
              semaphore.release();
            }
          } release{semaphore, taken};
          world.dawdle();
        });
      }
    });
  }
  world.play();
  EXPECT_EQ(semaphore.available(), permits);
}

// --- Flags

template <class Flag>
void event_property(World& world) {
  Flag event;
  int sets = 0;  // how often it was set, ever
  for (int i = 0; i < 6; ++i) {
    world.actor([&] {
      for (int k = 0; k < 6; ++k) {
        world.perhaps_limited([&] {
          const int before = sets;
          const bool was_up = event.is_set();
          const bool up = world.chance(50) ? (event.wait(), true) : event.wait_for(world.some_time());
          if (up) {
            EXPECT_TRUE(was_up || sets > before);
          } else {
            EXPECT_TRUE(!was_up);
          }
        });
        world.dawdle();
      }
    });
  }
  world.play([&] {
    ++sets;
    event.set();
    if (world.chance(70)) event.clear();
  });
}

void auto_reset_event_property(World& world) {
  AutoResetEvent event;
  int sets = 0;
  int passed = 0;
  for (int i = 0; i < 6; ++i) {
    world.actor([&] {
      for (int k = 0; k < 4; ++k) {
        world.perhaps_limited([&] {
          bool ours = true;
          switch (world.dice(3)) {
            case 0: event.wait(); break;
            case 1: ours = event.wait_for(world.some_time()); break;
            default: ours = select(event.on_set([] {}), after(world.some_time(), [] {})) == 0; break;
          }
          if (ours) ++passed;
        });
        world.dawdle();
      }
    });
  }
  world.play([&] {
    const bool counts = !event.is_set();
    event.set();
    if (counts) ++sets;
  });
  // Each signal let exactly one through, but for the one that may be up still.
  EXPECT_EQ(passed + (event.is_set() ? 1 : 0), sets);
}

void condition_property(World& world) {
  Mutex mutex;
  Condition room;
  Condition items;
  std::vector<int> buffer;
  std::multiset<int> put;
  std::multiset<int> got;
  bool closing = false;
  for (int i = 0; i < 3; ++i) {
    world.actor([&, i] {
      for (int k = 0; k < 6; ++k) {
        std::unique_lock lock(mutex);
        if (!room.wait_for(lock, world.some_time(), [&] { return buffer.size() < 2 || closing; })) continue;
        EXPECT_TRUE(mutex.locked_here());
        buffer.push_back(i * 100 + k);
        put.insert(i * 100 + k);
        items.notify_one();
      }
    });
    world.actor([&] {
      for (int k = 0; k < 6; ++k) {
        std::unique_lock lock(mutex);
        items.wait(lock, [&] { return !buffer.empty() || closing; });
        EXPECT_TRUE(mutex.locked_here());
        if (buffer.empty()) return;
        got.insert(buffer.front());
        buffer.erase(buffer.begin());
        room.notify_one();
      }
    });
  }
  int rounds = 0;
  world.play([&] {
    if (++rounds < 50) return;
    closing = true;
    items.notify_all();
    room.notify_all();
  });
  got.insert(buffer.begin(), buffer.end());
  EXPECT_EQ(put, got);
  EXPECT_FALSE(mutex.locked());
}

void barrier_property(World& world) {
  constexpr std::size_t kParties = 3;
  Barrier barrier(kParties);
  std::size_t came = 0;
  std::size_t passed = 0;
  for (int i = 0; i < 6; ++i) {
    world.actor([&] {
      for (int k = 0; k < 3; ++k) {
        try {
          ++came;
          EXPECT_LT(world.chance(80) ? barrier.wait() : barrier.wait_for(100us), kParties);
          ++passed;
        } catch (const BrokenBarrier&) {
        }
        world.dawdle();
      }
    });
  }
  world.play([&] {
    if (world.chance(20)) barrier.abort();
    if (barrier.broken()) barrier.reset();
    if (world.chance(10)) barrier.reset();
  });
  EXPECT_LE(passed, came);
  EXPECT_EQ(passed % kParties, 0U) << "whole meetings only";
  EXPECT_EQ(barrier.waiting(), 0U);
}

void latch_property(World& world) {
  const auto expected = static_cast<std::ptrdiff_t>(1 + world.dice(6));
  Latch latch(expected);
  std::ptrdiff_t counted = 0;
  for (int i = 0; i < 5; ++i) {
    world.actor([&] {
      for (int k = 0; k < 4; ++k) {
        world.perhaps_limited([&] {
          const bool open = world.chance(50) ? (latch.wait(), true) : latch.wait_for(world.some_time());
          EXPECT_EQ(open || latch.try_wait(), counted == expected);
        });
        world.dawdle();
      }
    });
  }
  world.play([&] {
    if (counted == expected) return;
    ++counted;
    latch.count_down();
  });
}

void wait_group_property(World& world) {
  WaitGroup group;
  int at_work = 0;
  for (int i = 0; i < 5; ++i) {
    world.actor([&] {
      for (int k = 0; k < 4; ++k) {
        struct Work {
          WaitGroup& group;
          int& at_work;
          Work(WaitGroup& its_group, int& count) : group(its_group), at_work(count) {
            group.add();
            ++at_work;
          }
          ~Work() {
            --at_work;
            group.done();
          }
        };
        const Work work(group, at_work);
        world.dawdle();
      }
    });
    world.actor([&] {
      world.perhaps_limited([&] {
        const bool was_none = at_work == 0;
        if (group.wait_for(world.some_time())) return;
        EXPECT_FALSE(was_none);
      });
      world.perhaps_limited([&] { group.wait(); });
    });
  }
  world.play();
  EXPECT_EQ(group.count(), 0);
}

void once_property(World& world) {
  Once once;
  int tries = 0;
  int successes = 0;
  for (int i = 0; i < 5; ++i) {
    world.actor([&] {
      try {
        once.call([&] {
          ++tries;
          world.dawdle();
          if (world.chance(30)) throw std::runtime_error("not this time");
          ++successes;
        });
        EXPECT_EQ(successes, 1);
      } catch (const std::runtime_error&) {
      }
    });
  }
  world.play();
  EXPECT_LE(successes, 1);
  EXPECT_EQ(once.done(), successes == 1);
}

// --- Values

/// Who has what: each value that was sent with success comes out once, and no other one does.
struct Ledger {
  std::set<int> sent;
  std::set<int> unsent;
  std::set<int> received;

  void note_received(int value) { EXPECT_TRUE(received.insert(value).second) << value << " came twice"; }
  void check() const {
    EXPECT_EQ(received, sent);
    for (const int value : unsent) EXPECT_FALSE(received.contains(value)) << value << " was not sent, they said";
  }
};

/// Calls `act`, which sends `value`: whether it has, by its result, or not, by an exception.
template <class Act>
void send_and_note(Ledger& ledger, int value, Act act) {
  bool sent = false;
  try {
    sent = act();
  } catch (...) {
    ledger.unsent.insert(value);
    throw;
  }
  (sent ? ledger.sent : ledger.unsent).insert(value);
}

std::size_t some_capacity(World& world) {
  constexpr std::size_t kCapacities[] = {0, 1, 2, 5, Channel<int>::kUnbounded};
  return kCapacities[world.dice(5)];
}

void channel_property(World& world) {
  Channel<std::unique_ptr<int>> channel{some_capacity(world)};
  Ledger ledger;
  for (int i = 0; i < 4; ++i) {
    world.actor([&, i] {
      for (int k = 0; k < 5; ++k) {
        const int number = i * 100 + k;
        auto value = std::make_unique<int>(number);
        world.perhaps_limited([&] {
          send_and_note(ledger, number, [&] {
            switch (world.dice(4)) {
              case 0: channel.send(std::move(value)); return true;
              case 1: return channel.try_send(std::move(value));
              case 2: return channel.send_for(std::move(value), world.some_time());
              default: return select(channel.on_send(std::move(value), [] {}), after(world.some_time(), [] {})) == 0;
            }
          });
        });
        EXPECT_EQ(value == nullptr, ledger.sent.contains(number)) << "moved from exactly when sent";
        world.dawdle();
      }
    });
    world.actor([&] {
      for (int k = 0; k < 5; ++k) {
        world.perhaps_limited([&] {
          std::optional<std::unique_ptr<int>> value;
          switch (world.dice(4)) {
            case 0: value = channel.receive(); break;
            case 1: value = channel.try_receive(); break;
            case 2: value = channel.receive_for(world.some_time()); break;
            default:
              select(channel.on_receive([&](std::unique_ptr<int> got) { value = std::move(got); }),
                     after(world.some_time(), [] {}));
              break;
          }
          if (value) ledger.note_received(**value);
        });
        world.dawdle();
      }
    });
  }
  int rounds = 0;
  world.play([&] {
    if (++rounds > 20) channel.close();
    for (auto& value : channel.drain()) ledger.note_received(*value);
  });
  for (auto& value : channel.drain()) ledger.note_received(*value);
  ledger.check();
}

void shared_channel_property(World& world) {
  SharedChannel<std::unique_ptr<int>> channel{some_capacity(world)};
  Ledger ledger;
  for (int i = 0; i < 4; ++i) {
    world.actor([&, i] {
      for (int k = 0; k < 5; ++k) {
        const int number = i * 100 + k;
        auto value = std::make_unique<int>(number);
        world.perhaps_limited([&] {
          send_and_note(ledger, number, [&] {
            switch (world.dice(3)) {
              case 0: channel.send(std::move(value)); return true;
              case 1: return channel.try_send(std::move(value));
              default: return channel.send_for(std::move(value), world.some_time());
            }
          });
        });
        EXPECT_EQ(value == nullptr, ledger.sent.contains(number)) << "moved from exactly when sent";
        world.dawdle();
      }
    });
    world.actor([&] {
      for (int k = 0; k < 5; ++k) {
        world.perhaps_limited([&] {
          std::optional<std::unique_ptr<int>> value;
          switch (world.dice(3)) {
            case 0: value = channel.receive(); break;
            case 1: value = channel.try_receive(); break;
            default: value = channel.receive_for(world.some_time()); break;
          }
          if (value) ledger.note_received(**value);
        });
        world.dawdle();
      }
    });
  }
  int rounds = 0;
  const auto drain = [&] {
    while (auto value = channel.try_receive()) ledger.note_received(**value);
  };
  world.play([&] {
    if (++rounds > 20) channel.close();
    drain();
  });
  drain();
  ledger.check();
}

void select_property(World& world) {
  std::vector<std::unique_ptr<Channel<int>>> channels;
  for (int i = 0; i < 3; ++i) channels.push_back(std::make_unique<Channel<int>>(world.dice(3)));
  Ledger ledger;
  for (int i = 0; i < 5; ++i) {
    world.actor([&, i] {
      for (int k = 0; k < 8; ++k) {
        const int value = i * 100 + k;
        bool sent = false;
        struct Note {  // a handler runs although the fiber was cancelled meanwhile
          Ledger& ledger;
          int value;
          bool& sent;
          ~Note() { (sent ? ledger.sent : ledger.unsent).insert(value); }
        } note{ledger, value, sent};
        const auto take = [&](int got) { ledger.note_received(got); };
        auto& one = *channels[world.dice(3)];
        auto& two = *channels[world.dice(3)];
        auto& three = *channels[world.dice(3)];
        select(one.on_receive(take), two.on_send(value, [&] { sent = true; }), three.on_receive(take),
               after(world.some_time(), [] {}));
      }
    });
  }
  world.play();
  for (auto& channel : channels) {
    for (const int value : channel->drain()) ledger.note_received(value);
  }
  ledger.check();
}

template <class Q>
void queue_property(World& world) {
  Q queue(1 + world.dice(4));
  Ledger ledger;
  for (int i = 0; i < 4; ++i) {
    world.actor([&, i] {
      for (int k = 0; k < 5; ++k) {
        const int value = i * 100 + k;
        world.perhaps_limited([&] {
          send_and_note(ledger, value, [&] {
            switch (world.dice(3)) {
              case 0: queue.put(value); return true;
              case 1: return queue.try_put(value);
              default: return queue.put_for(value, world.some_time());
            }
          });
        });
        world.dawdle();
      }
    });
    world.actor([&] {
      for (int k = 0; k < 5; ++k) {
        world.perhaps_limited([&] {
          std::optional<int> value = world.chance(50) ? queue.get() : queue.get_for(world.some_time());
          if (!value) return;
          ledger.note_received(*value);
          queue.task_done();
        });
      }
    });
  }
  auto joiner = spawn([&] { queue.join(); });
  const auto rescue = [&] {
    while (std::optional<int> value = queue.try_get()) {
      ledger.note_received(*value);
      queue.task_done();
    }
    if (world.chance(10)) queue.shutdown();
  };
  world.play(rescue);
  queue.shutdown();
  rescue();
  joiner.join();
  EXPECT_EQ(queue.unfinished(), 0U);
}

void future_property(World& world) {
  std::optional<Promise<int>> promise(std::in_place);
  const Future<int> future = promise->future();
  bool set = false;
  bool broken = false;
  for (int i = 0; i < 6; ++i) {
    world.actor([&, future] {
      for (int k = 0; k < 3; ++k) {
        world.perhaps_limited([&] {
          try {
            if (!future.wait_for(world.some_time()) && world.chance(50)) return;
            EXPECT_EQ(future.get(), 5);
            EXPECT_TRUE(set);
          } catch (const std::future_error&) {
            EXPECT_TRUE(broken);
          }
        });
      }
    });
  }
  int rounds = 0;
  world.play([&] {
    if (++rounds != 5) return;
    if (world.chance(50)) {
      set = true;
      promise->set_value(5);
    } else {
      broken = true;
    }
    promise.reset();
  });
}

// --- Fibers

void pool_property(World& world) {
  const std::size_t size = 1 + world.dice(3);
  Pool pool(size);
  std::size_t inside = 0;
  const auto work = [&](int value) {
    struct Count {
      std::size_t& count;
      explicit Count(std::size_t& which) : count(++which) {}
      ~Count() { --count; }
    };
    const Count count(inside);
    EXPECT_LE(inside, size);
    world.dawdle();
    return value * 2;
  };
  for (int i = 0; i < 5; ++i) {
    world.actor([&, i] {
      world.perhaps_limited([&] {
        std::vector<int> numbers{i, i + 1, i + 2};
        switch (world.dice(5)) {
          case 0: {
            const std::vector<int> doubled = pool.map(numbers, work);
            for (std::size_t k = 0; k < 3; ++k) EXPECT_EQ(doubled[k], 2 * numbers[k]);
            break;
          }
          case 1: {
            std::size_t next = 0;
            for (auto& outcome : pool.imap(numbers, work, {.look_ahead = 1})) {
              EXPECT_EQ(outcome.index(), next++);
              EXPECT_EQ(outcome.get(), 2 * numbers[outcome.index()]);
            }
            break;
          }
          case 2: {
            std::set<int> got;
            for (auto& outcome : pool.imap(numbers, work, {.ordered = false})) {
              got.insert(outcome.get());
              if (world.chance(20)) break;
            }
            break;
          }
          case 3: EXPECT_EQ(pool.run([&] { return work(i); }), 2 * i); break;
          default: {
            auto fiber = pool.spawn([&, i] { return work(i); });
            if (world.chance(30)) fiber.cancel();
            break;
          }
        }
      });
    });
  }
  world.play();
  pool.join();
  EXPECT_EQ(pool.available(), size);
  EXPECT_EQ(inside, 0U);
}

void group_property(World& world) {
  Group group;
  int ended = 0;
  int begun = 0;
  int failed = 0;
  for (int i = 0; i < 5; ++i) {
    world.actor([&] {
      for (int k = 0; k < 3; ++k) {
        ++begun;
        group.spawn([&] {
          struct Ended {
            int& count;
            ~Ended() { ++count; }
          } at_end{ended};
          world.dawdle();
          if (!world.chance(20)) return;
          ++failed;
          throw std::runtime_error("failed");
        });
        world.dawdle();
        if (world.chance(10)) group.cancel_all();
        if (world.chance(30)) static_cast<void>(group.join_for(world.some_time()));
      }
    });
  }
  world.play();
  try {
    group.join();
    EXPECT_EQ(failed, 0);
  } catch (const std::runtime_error&) {
    EXPECT_GT(failed, 0);
  }
  EXPECT_EQ(group.size(), 0U);
  EXPECT_EQ(group.failures(), static_cast<std::size_t>(failed));
  EXPECT_LE(ended, begun) << "those cancelled before they ran never began";
}

void wait_any_property(World& world) {
  std::vector<Fiber<int>> fibers;
  for (int i = 0; i < 5; ++i) {
    fibers.push_back(spawn([&, i] {
      world.dawdle();
      if (world.chance(20)) throw std::runtime_error("failed");
      return i;
    }));
  }
  for (int i = 0; i < 4; ++i) {
    world.actor([&] {
      world.perhaps_limited([&] {
        const std::uint64_t count = world.dice(7);
        const auto ready = wait_n(fibers, count);
        EXPECT_EQ(ready.size(), std::min<std::size_t>(count, fibers.size()));
        for (const std::size_t each : ready) EXPECT_TRUE(fibers[each].done());
        std::set<std::size_t> seen;
        for (const std::size_t which : as_completed(fibers)) {
          EXPECT_TRUE(fibers[which].done());
          EXPECT_TRUE(seen.insert(which).second);
          if (world.chance(10)) return;
        }
        EXPECT_EQ(seen.size(), fibers.size());
      });
    });
  }
  world.play();
  join_all(fibers);
  for (auto& each : fibers) {
    try {
      each.get();
    } catch (const std::runtime_error&) {
    }
  }
}

struct Named {
  const char* name;
  Property property;
};

const Named kProperties[] = {
    {"Mutex", mutex_property<Mutex>},
    {"RecursiveMutex", mutex_property<RecursiveMutex>},
    {"CrossThreadMutex", mutex_property<CrossThreadMutex>},
    {"ScopedLock", scoped_lock_property},
    {"SharedMutex", shared_mutex_property},
    {"Semaphore", semaphore_property},
    {"Event", event_property<Event>},
    {"SharedEvent", event_property<SharedEvent>},
    {"SharedSemaphore", shared_semaphore_property},
    {"AutoResetEvent", auto_reset_event_property},
    {"Condition", condition_property},
    {"Barrier", barrier_property},
    {"Latch", latch_property},
    {"WaitGroup", wait_group_property},
    {"Once", once_property},
    {"Channel", channel_property},
    {"SharedChannel", shared_channel_property},
    {"Select", select_property},
    {"Queue", queue_property<Queue<int>>},
    {"LifoQueue", queue_property<LifoQueue<int>>},
    {"PriorityQueue", queue_property<PriorityQueue<int>>},
    {"Future", future_property},
    {"Group", group_property},
    {"Pool", pool_property},
    {"WaitAny", wait_any_property},
};

class SyncProperty : public ::testing::TestWithParam<Named> {};
class SlowSyncProperty : public ::testing::TestWithParam<Named> {};

TEST_P(SyncProperty, Holds) { hold_in_worlds(GetParam().property, 500); }
TEST_P(SlowSyncProperty, HoldsInManyWorlds) { hold_in_worlds(GetParam().property, 10'000); }

const auto kName = [](const auto& info) { return std::string(info.param.name); };
INSTANTIATE_TEST_SUITE_P(Each, SyncProperty, ::testing::ValuesIn(kProperties), kName);
INSTANTIATE_TEST_SUITE_P(SlowEach, SlowSyncProperty, ::testing::ValuesIn(kProperties), kName);

}  // namespace
}  // namespace bight
