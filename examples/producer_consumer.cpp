// SPDX-License-Identifier: Apache-2.0
// Three producers, two consumers and a queue with room for four: whoever finds it full, or empty, waits.

#include <cstdio>

#include <bight/fiber.hpp>
#include <bight/queue.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>

namespace {

constexpr int kProducers = 3;
constexpr int kConsumers = 2;
constexpr int kEach = 5;

struct Loaf {
  int baker;
  int number;
};

void bake(bight::Queue<Loaf>& shelf, int baker) {
  for (int number = 1; number <= kEach; ++number) {
    shelf.put({baker, number});
    std::printf("baker %d has put loaf %d.%d on the shelf\n", baker, baker, number);
  }
}

int eat(bight::Queue<Loaf>& shelf, int guest) {
  int eaten = 0;
  for (const Loaf& loaf : shelf) {  // until the queue is shut down and empty
    bight::yield();                 // it takes a while
    std::printf("guest %d has eaten loaf %d.%d\n", guest, loaf.baker, loaf.number);
    ++eaten;
    shelf.task_done();
  }
  return eaten;
}

}  // namespace

int main() {
  return bight::run([] {
    bight::Queue<Loaf> shelf(4);
    int eaten = 0;
    bight::Scope guests;
    for (int guest = 1; guest <= kConsumers; ++guest) guests.spawn([&, guest] { eaten += eat(shelf, guest); });
    {
      bight::Scope bakery;
      for (int baker = 1; baker <= kProducers; ++baker) bakery.spawn([&shelf, baker] { bake(shelf, baker); });
      bakery.join();  // all is baked,
    }
    shelf.join();      // and eaten: task_done() has been called for each loaf
    shelf.shutdown();  // which ends the loops of the guests
    guests.join();
    std::printf("%d loaves, %zu left\n", eaten, shelf.unfinished());
  });
}
