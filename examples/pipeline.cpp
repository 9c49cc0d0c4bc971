// SPDX-License-Identifier: Apache-2.0
// A pipeline: numbers go to three workers, whichever is free (fan-out), and a select takes what they make (fan-in).

#include <algorithm>
#include <cstdio>
#include <vector>

#include <bight/channel.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/select.hpp>

namespace {

void square(bight::Channel<int>& in, bight::Channel<int>& out) {
  for (const int number : in) {
    bight::yield();  // hard work
    out.send(number * number);
  }
  out.close();
}

/// What comes from any of the three, until all are closed.
std::vector<int> merge(bight::Channel<int>& a, bight::Channel<int>& b, bight::Channel<int>& c) {
  std::vector<int> all;
  const auto keep = [&all](int value) { all.push_back(value); };
  try {
    for (;;) bight::select(a.on_receive(keep), b.on_receive(keep), c.on_receive(keep));
  } catch (const bight::ChannelClosed&) {  // nothing is left to wait for
    return all;
  }
}

}  // namespace

int main() {
  return bight::run([] {
    bight::Channel<int> numbers;
    bight::Channel<int> squares[3];
    bight::Scope workers;

    workers.spawn([&] {
      for (int number = 1; number <= 10; ++number) numbers.send(number);
      numbers.close();
    });
    for (auto& out : squares) workers.spawn([&] { square(numbers, out); });

    std::vector<int> all = merge(squares[0], squares[1], squares[2]);  // in any order
    workers.join();

    std::sort(all.begin(), all.end());
    for (const int value : all) std::printf("%d\n", value);
  });
}
