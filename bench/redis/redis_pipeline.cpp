// SPDX-License-Identifier: Apache-2.0
// Requests to a Redis of our own, pipelined: hiredis with its blocking calls, and the client of examples/redis_client,
// in turns. What a request takes in time, and what it takes of the client's CPU.
//
//     redis_pipeline [--requests 300000] [--pipeline 100] [--rounds 9] [--json] [--smoke]

#include <hiredis/hiredis.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <bight/run.hpp>
#include <bight/scope.hpp>

#include "redis_client/connection.hpp"
#include "redis_server.hpp"

namespace {

struct Options {
  std::size_t requests = 300'000;
  std::size_t pipeline = 100;
  std::size_t rounds = 9;
  bool json = false;
};

struct Cost {  // of a request
  double wall_ns = 0;
  double cpu_ns = 0;
};

struct Way {
  const char* name;
  std::vector<Cost> costs;
};

double cpu_seconds() {
  ::rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const ::timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

template <class Work>
Cost measure(const Options& options, const Work& work) {
  const auto begin = std::chrono::steady_clock::now();
  const double cpu = cpu_seconds();
  work();
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - begin;
  const double count = static_cast<double>(options.requests);
  return {wall.count() / count * 1e9, (cpu_seconds() - cpu) / count * 1e9};
}

/// Half of the requests write, half read, as INCR and GET.
void by_hiredis(const Options& options, const std::string& path) {
  const std::unique_ptr<::redisContext, void (*)(::redisContext*)> context(::redisConnectUnix(path.c_str()),
                                                                           ::redisFree);
  if (context == nullptr || context->err != 0) throw std::runtime_error("hiredis does not connect");
  for (std::size_t sent = 0; sent < options.requests;) {
    const std::size_t count = std::min(options.pipeline, options.requests - sent);
    for (std::size_t i = 0; i < count; ++i) {
      const char* incr[] = {"INCR", "counter"};
      const char* get[] = {"GET", "value"};
      ::redisAppendCommandArgv(context.get(), 2, i % 2 == 0 ? incr : get, nullptr);
    }
    for (std::size_t i = 0; i < count; ++i) {
      void* reply = nullptr;
      if (::redisGetReply(context.get(), &reply) != REDIS_OK) throw std::runtime_error("hiredis: no reply");
      ::freeReplyObject(reply);
    }
    sent += count;
  }
}

void by_pipelines(const Options& options, redis::Connection& redis) {
  for (std::size_t sent = 0; sent < options.requests;) {
    const std::size_t count = std::min(options.pipeline, options.requests - sent);
    redis::Pipeline pipeline;
    for (std::size_t i = 0; i < count; ++i) {
      if (i % 2 == 0) {
        pipeline.add("INCR", "counter");
      } else {
        pipeline.add("GET", "value");
      }
    }
    if (redis.call(pipeline).size() != count) throw std::runtime_error("not as many replies");
    sent += count;
  }
}

/// As many fibers as a pipeline is long, each with one request at a time.
void by_fibers(const Options& options, redis::Connection& redis) {
  std::size_t left = options.requests;
  bight::Scope scope;
  for (std::size_t fiber = 0; fiber < options.pipeline; ++fiber) {
    scope
        .spawn([&, fiber] {
          while (left > 0) {
            --left;
            fiber % 2 == 0 ? redis.call("INCR", "counter") : redis.call("GET", "value");
          }
        })
        .detach();
  }
  scope.join();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void report(const Options& options, const std::vector<Way>& ways) {
  const auto middle = [](const Way& way, double Cost::*what) {
    std::vector<double> values;
    for (const Cost& cost : way.costs) values.push_back(cost.*what);
    return median(values);
  };
  if (options.json) std::printf("{");
  for (const Way& way : ways) {
    const double wall = middle(way, &Cost::wall_ns);
    const double cpu = middle(way, &Cost::cpu_ns);
    if (options.json) {
      std::printf("%s\"%s\": {\"wall_ns\": %.1f, \"cpu_ns\": %.1f}", &way == ways.data() ? "" : ", ", way.name, wall,
                  cpu);
    } else {
      std::printf("%-28s %7.0f ns a request, %6.0f ns of CPU; x %.2f of hiredis in time, x %.2f in CPU\n", way.name,
                  wall, cpu, wall / middle(ways[0], &Cost::wall_ns), cpu / middle(ways[0], &Cost::cpu_ns));
    }
  }
  if (options.json) std::printf("}\n");
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    std::size_t* value = option == "--requests"   ? &options.requests
                         : option == "--pipeline" ? &options.pipeline
                         : option == "--rounds"   ? &options.rounds
                                                  : nullptr;
    if (option == "--json") {
      options.json = true;
    } else if (option == "--smoke") {
      options.requests = 1000;
      options.rounds = 1;
    } else if (value != nullptr && i + 1 < argc) {
      *value = std::max(1UL, std::strtoul(argv[++i], nullptr, 10));
    } else {
      std::fprintf(stderr, "usage: redis_pipeline [--requests N] [--pipeline N] [--rounds N] [--json] [--smoke]\n");
      std::exit(2);
    }
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) try {
  const Options options = parse(argc, argv);
  const bight::test::RedisServer server;
  if (!server.runs()) {
    std::puts("skipped: no Redis here (Debian: redis-tools)");
    return 77;
  }
  std::vector<Way> ways{{"hiredis, blocking", {}}, {"a pipeline", {}}, {"fibers on one connection", {}}};
  return bight::run([&] {
    redis::Endpoint endpoint;
    endpoint.unix_path = server.path();
    redis::Connection redis(endpoint);
    redis.call("SET", "value", "some text of twenty-");
    for (std::size_t round = 0; round < options.rounds; ++round) {
      ways[0].costs.push_back(measure(options, [&] { by_hiredis(options, server.path()); }));
      ways[1].costs.push_back(measure(options, [&] { by_pipelines(options, redis); }));
      ways[2].costs.push_back(measure(options, [&] { by_fibers(options, redis); }));
    }
    report(options, ways);
    return 0;
  });
} catch (const std::exception& error) {
  std::fprintf(stderr, "redis_pipeline: %s\n", error.what());
  return 1;
}
