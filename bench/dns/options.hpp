// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the programs that resolve names have in common: the command line and the line of JSON at the end.

#include <netinet/in.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>

#include "../common/arguments.hpp"
#include "../common/error.hpp"

namespace bench {

struct ResolveOptions {
  std::uint16_t port = 0;  // of the server on 127.0.0.1
  unsigned names = 10'000;
  unsigned concurrency = 200;
  bool both = false;  // IPv6 addresses, too
  bool json = false;
  bool smoke = false;

  static ResolveOptions parse(int argc, char** argv) {
    ResolveOptions options;
    Arguments arguments(argc, argv);
    while (arguments.next()) {
      if (arguments.is("--port")) {
        options.port = arguments.number<std::uint16_t>(1, 65535);
      } else if (arguments.is("--names")) {
        options.names = arguments.number<unsigned>(1, 10'000'000);
      } else if (arguments.is("--concurrency")) {
        options.concurrency = arguments.number<unsigned>(1, 100'000);
      } else if (arguments.is("--both")) {
        options.both = true;
      } else if (arguments.is("--json")) {
        options.json = true;
      } else if (arguments.is("--smoke")) {
        options.smoke = true;
        options.names = 200;
        options.concurrency = 20;
      } else {
        arguments.unknown();
      }
    }
    return options;
  }
};

inline double cpu_seconds() {
  ::rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const ::timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class Watch {
 public:
  Watch() : cpu_(cpu_seconds()) {}
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }
  [[nodiscard]] double cpu() const { return cpu_seconds() - cpu_; }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  double cpu_;
};

inline void report(const char* who, const ResolveOptions& options, unsigned found, double seconds, double cpu,
                   double cached_ns = 0) {
  if (options.json || options.smoke) {
    std::printf(
        "{\"who\": \"%s\", \"names\": %u, \"found\": %u, \"seconds\": %.6f, \"cpu_seconds\": %.6f, "
        "\"cached_ns\": %.1f}\n",
        who, options.names, found, seconds, cpu, cached_ns);
  } else {
    std::printf("%s: %u of %u names in %.3f s, %.2f us of CPU each\n", who, found, options.names, seconds,
                cpu * 1e6 / options.names);
    if (cached_ns > 0) std::printf("%s: %.0f ns for a name in the cache\n", who, cached_ns);
  }
}

template <class Main>
int guarded(const char* name, Main&& main) {
  try {
    return main();
  } catch (const UsageError& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return 1;
  }
}

}  // namespace bench
