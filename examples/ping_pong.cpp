// SPDX-License-Identifier: Apache-2.0
// Two players and a ball. A channel without room is a rendezvous: send() returns when the other one has the ball.

#include <cstdio>

#include <bight/channel.hpp>
#include <bight/fiber.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>

int main() {
  return bight::run([] {
    bight::Channel<int> to_ann;
    bight::Channel<int> to_bob;
    bight::Scope table;

    table.spawn([&] {
      for (const int ball : to_ann) {  // until it is closed
        std::printf("ping %d\n", ball);
        to_bob.send(ball);
      }
      to_bob.close();
    });
    table.spawn([&] {
      for (const int ball : to_bob) {
        std::printf("pong %d\n", ball);
        if (ball == 5) break;
        to_ann.send(ball + 1);
      }
      to_ann.close();
    });

    to_ann.send(1);
    table.join();
    std::puts("game over");
  });
}
