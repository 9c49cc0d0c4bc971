// SPDX-License-Identifier: Apache-2.0
// A token bucket: a burst of three requests goes at once, further ones at the rate at which the bucket is filled.

#include <chrono>
#include <cstdio>

#include <bight/fiber.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/semaphore.hpp>
#include <bight/time.hpp>

using namespace std::chrono_literals;

namespace {

class TokenBucket {
 public:
  TokenBucket(std::ptrdiff_t burst, bight::Duration period) : burst_(burst), period_(period), tokens_(burst) {
    filler_.spawn([this] { fill(); });
  }
  ~TokenBucket() { filler_.cancel(); }  // what the scope's own end then waits for

  /// Takes a token. Whether it had to wait for it.
  bool take() {
    if (tokens_.try_acquire()) return false;
    tokens_.acquire();
    return true;
  }

 private:
  void fill() {
    for (bight::TimePoint next = bight::now() + period_;; next += period_) {
      bight::sleep_until(next);  // so the rate is kept however late this fiber has its turns
      if (tokens_.available() < burst_) tokens_.release();
    }
  }

  const std::ptrdiff_t burst_;
  const bight::Duration period_;
  bight::Semaphore tokens_;
  bight::Scope filler_;  // last: its fiber uses the rest
};

}  // namespace

int main() {
  return bight::run([] {
    const bight::TimePoint start = bight::now();
    TokenBucket bucket(3, 5ms);
    for (int request = 1; request <= 8; ++request) {
      const bool waited = bucket.take();
      std::printf("request %d %s\n", request, waited ? "has waited" : "goes at once");
    }
    std::printf("five tokens took five periods: %s\n", bight::now() - start >= 5 * 5ms ? "yes" : "no");
  });
}
