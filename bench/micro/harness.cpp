// SPDX-License-Identifier: Apache-2.0
#include "harness.hpp"

#include <sys/utsname.h>

#include <cstdio>
#include <exception>
#include <fstream>
#include <string>
#include <vector>

#include <bight/log.hpp>

namespace bench::micro {

extern const char* const kCommit;  // commit.cpp, which the build writes

namespace {

bool any_failed = false;

std::string kernel() {
  utsname name{};
  return ::uname(&name) == 0 ? std::string(name.sysname) + " " + name.release : "unknown";
}

std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

std::string engine() {
  std::string name;
  bight::run([&] { name = bight::this_loop::engine_name(); });
  return name;
}

// Google Benchmark adds the host's name, the number of cores and the load by itself.
void add_context() {
  benchmark::AddCustomContext("kernel", kernel());
  benchmark::AddCustomContext("processor", processor());
  benchmark::AddCustomContext("engine", engine());
  benchmark::AddCustomContext("commit", kCommit);
}

}  // namespace

void fail(benchmark::State& state, std::string_view why) {
  any_failed = true;
  state.SkipWithError(std::string(why).c_str());
}

int run_program(int argc, char** argv, void (*add)(const Scale& scale)) try {
  bight::set_log_level(bight::LogLevel::warning);  // not a line for every loop
  Scale scale;
  std::vector<std::string> words;
  for (int i = 0; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--smoke") {
      scale.smoke = true;
      words.emplace_back("--benchmark_min_time=0.001");
    } else if (word == "--json") {
      words.emplace_back("--benchmark_format=json");
    } else {
      words.emplace_back(word);
    }
  }
  std::vector<char*> rewritten;
  for (std::string& word : words) rewritten.push_back(word.data());
  int count = static_cast<int>(rewritten.size());
  rewritten.push_back(nullptr);

  benchmark::Initialize(&count, rewritten.data());
  if (benchmark::ReportUnrecognizedArguments(count, rewritten.data())) return 2;
  add_context();
  add(scale);
  const bool any_ran = benchmark::RunSpecifiedBenchmarks() > 0;
  benchmark::Shutdown();
  return any_ran && !any_failed ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s: %s\n", argv[0], error.what());
  return 1;
}

}  // namespace bench::micro
