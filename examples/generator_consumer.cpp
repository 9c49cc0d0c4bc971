// SPDX-License-Identifier: Apache-2.0
// Producer and consumers without a scheduler: a generator makes the buns, coroutines eat what is sent to them.

#include <cstdio>

#include <bight/coroutine.hpp>
#include <bight/generator.hpp>
#include <bight/run.hpp>

namespace {

using Consumer = bight::Coroutine<int, void>;  // takes buns, says nothing

bight::Generator<int> bake(int buns) {
  return [buns](auto& yield) {
    for (int bun = 1; bun <= buns; ++bun) {
      std::printf("bun %d is ready\n", bun);
      yield(bun);  // goes on when the next one is asked for
    }
  };
}

Consumer consumer(char name) {
  return Consumer([name](auto& self, int bun) {  // the first one it is sent
    for (;;) {
      std::printf("%c eats bun %d\n", name, bun);
      bun = self.yield();  // waits for the next one
    }
  });
}

}  // namespace

int main() {
  return bight::run([] {
    Consumer a = consumer('A');
    Consumer b = consumer('B');
    for (const int bun : bake(4)) {
      a.resume(bun);
      b.resume(bun);
    }
    std::puts("sold out");
  });  // the consumers' stacks are unwound when they go
}
