// SPDX-License-Identifier: Apache-2.0
// Twenty-two fibers, of which at most five are inside at a time.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <stdexcept>

#include <bight/fiber.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/semaphore.hpp>
#include <bight/time.hpp>

using namespace std::chrono_literals;

int main() {
  return bight::run([] {
    bight::BoundedSemaphore seats(5);
    int inside = 0;
    int most = 0;
    int served = 0;

    bight::Scope guests;
    for (int guest = 0; guest < 22; ++guest) {
      guests.spawn([&] {
        seats.acquire();
        most = std::max(most, ++inside);
        bight::sleep_for(2ms);
        --inside;
        ++served;
        seats.release();  // to the guest who has waited longest
      });
    }
    guests.join();
    std::printf("%d guests, at most %d at a time\n", served, most);

    try {
      seats.release();  // one that nobody has taken
    } catch (const std::logic_error&) {
      std::puts("there are no more than five seats");
    }
  });
}
