// SPDX-License-Identifier: Apache-2.0
// Runs a program COUNT times, one after the other or several at a time. Prints, in JSON, how long each took, in
// microseconds. As go_spawn.go and python_spawn.py.

#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <bight/command.hpp>
#include <bight/pool.hpp>
#include <bight/run.hpp>
#include <bight/subprocess.hpp>
#include <bight/time.hpp>

namespace {

using bight::Subprocess;

bool run_one(bool talks) {
  if (talks) return bight::check_output({"/bin/echo", "hello"}) == "hello\n";
  return Subprocess::start({"/bin/true"}).wait().success();
}

}  // namespace

int main(int argc, char** argv) {
  const std::span arguments(argv, static_cast<std::size_t>(argc));
  if (arguments.size() != 4) {
    std::fprintf(stderr, "usage: bight_spawn true|echo COUNT AT_A_TIME\n");
    return 2;
  }
  const bool talks = std::string_view(arguments[1]) == "echo";
  const int count = std::atoi(arguments[2]);
  const int at_a_time = std::atoi(arguments[3]);
  return bight::run([&] {
    std::vector<double> times;
    bool well = run_one(talks);  // not counted: what is done once
    bight::Pool pool(static_cast<std::size_t>(at_a_time));
    const bight::TimePoint start = bight::now();
    for (int i = 0; i < count; ++i) {
      pool.spawn([&] {
        const bight::TimePoint before = bight::now();
        well = run_one(talks) && well;
        times.push_back(static_cast<double>((bight::now() - before).count()) / 1000);
      });
    }
    pool.join();
    const double total = static_cast<double>((bight::now() - start).count()) / 1000;
    std::printf("{\"total_us\": %.1f, \"each_us\": [", total);
    for (std::size_t i = 0; i < times.size(); ++i) std::printf("%s%.1f", i == 0 ? "" : ", ", times[i]);
    std::printf("]}\n");
    return well ? 0 : 1;
  });
}
