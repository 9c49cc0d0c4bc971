// SPDX-License-Identifier: Apache-2.0
// A traffic light and three cars. The light is an Event: it is set while the light is green.

#include <chrono>
#include <cstdio>

#include <bight/event.hpp>
#include <bight/fiber.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

using namespace std::chrono_literals;

namespace {

constexpr int kCars = 3;
constexpr int kTrips = 5;  // of each car

void light(bight::Event& green) {
  for (;;) {  // until it is cancelled
    std::puts("the light is red");
    bight::sleep_for(5ms);
    std::puts("the light is green");
    green.set();
    bight::sleep_for(5ms);
    green.clear();
  }
}

void car(bight::Event& green, int number) {
  for (int trip = 0; trip < kTrips; ++trip) {
    while (!green.is_set()) {  // "while": it may be red again when this car has its turn
      std::printf("car %d waits\n", number);
      green.wait();
    }
    std::printf("car %d runs\n", number);  // nothing is waited for since it was green, so it still is
    bight::sleep_for(2ms);
  }
}

}  // namespace

int main() {
  return bight::run([] {
    bight::Event green;
    bight::Scope street;  // its fibers end before `green` does
    auto lights = street.spawn([&] { light(green); });
    {
      bight::Scope cars;
      for (int number = 1; number <= kCars; ++number) cars.spawn([&green, number] { car(green, number); });
      cars.join();
    }
    lights.cancel();
    street.join();
    std::puts("all cars are home");
  });
}
