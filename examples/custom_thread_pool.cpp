// SPDX-License-Identifier: Apache-2.0
// A pool of four threads for calls that block. Only the fibers that make them wait; the loop goes on.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <future>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include <bight/fiber.hpp>
#include <bight/offload.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>

using namespace std::chrono_literals;

namespace {

std::atomic<int> busy{0};
std::atomic<bool> too_many{false};

/// As a database client would.
int cook(int order) {
  if (++busy > 4) too_many = true;
  std::this_thread::sleep_for(2ms);  // the thread, not a fiber
  --busy;
  if (order == 13) throw std::runtime_error("we do not serve that");
  return order * order;
}

}  // namespace

int main() {
  return bight::run([] {
    bight::OffloadPool kitchen({.threads_max = 4, .name = "cook"});

    // From fibers, each of which waits for its own call.
    int meals = 0;
    bight::Scope guests;
    for (int order = 1; order <= 12; ++order) {
      guests.spawn([&, order] { meals += kitchen.run([order] { return cook(order); }); });
    }
    guests.join();
    std::printf("the meals add up to %d\n", meals);

    // Many at once, results in order.
    const std::vector<int> orders{3, 1, 4, 1, 5, 9};
    const std::vector<int> served = kitchen.map(orders, cook);
    std::printf("a table of six: %d\n", std::accumulate(served.begin(), served.end(), 0));

    // What a call throws, run() throws.
    try {
      kitchen.run([] { return cook(13); });
    } catch (const std::runtime_error& error) {
      std::printf("order 13: %s\n", error.what());
    }

    // This call blocks its thread until a fiber has had its turn. It could not if the loop did not go on.
    std::promise<void> payment;
    guests.spawn([&payment] { payment.set_value(); });
    kitchen.run([&payment] { payment.get_future().wait(); });
    std::puts("paid");
    guests.join();

    std::printf("more than four cooks at a time: %s\n", too_many ? "yes" : "no");
  });
}
