// SPDX-License-Identifier: Apache-2.0
// Ten processes write into one dictionary and one list, which live in a server process.

#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <optional>
#include <vector>

#include <bight/manager.hpp>
#include <bight/process.hpp>
#include <bight/run.hpp>

int main() {
  return bight::run([] {
    const bight::Manager manager;
    auto dict = manager.dict<pid_t, pid_t>("pids");
    auto list = manager.list<int>("numbers");
    auto visits = manager.dict<int, int>("visits");
    for (int number = 0; number < 5; ++number) list.append(number);

    std::vector<bight::Process> children;
    for (int child = 0; child < 10; ++child) {
      children.emplace_back([&] {
        dict.set(::getpid(), ::getpid());
        list.append(::getpid());
        // Reads, adds one, and writes, unless somebody else has written meanwhile: then once more.
        visits.update(0, [](std::optional<int> before) { return before.value_or(0) + 1; });
      });
    }
    for (bight::Process& child : children) child.join();

    std::size_t strangers = 0;
    for (const bight::Process& child : children) strangers += dict.get(child.pid()) == child.pid() ? 0 : 1;
    std::printf("%zu keys, of which %zu are no child's\n", dict.size(), strangers);
    std::printf("%zu numbers\n", list.size());
    std::printf("%d visits\n", visits.get(0).value_or(0));
  });
}
