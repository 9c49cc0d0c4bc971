// SPDX-License-Identifier: Apache-2.0
#include "benchmark.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include <bight/scope.hpp>
#include <bight/time.hpp>

#include "pool.hpp"

namespace redis {

namespace {

constexpr std::size_t kFibers = 100;
constexpr std::size_t kPipeline = 100;
constexpr const char* kKey = "redis_client:bench";

template <class Work>
void measure(const char* what, std::size_t count, const Work& work) {
  const bight::TimePoint begin = bight::now();
  work();
  const std::chrono::duration<double> seconds = bight::now() - begin;
  std::printf("%-44s %10.0f requests/s\n", what, static_cast<double>(count) / seconds.count());
  std::fflush(stdout);
}

template <class Call>
void in_fibers(std::size_t count, const Call& call) {
  std::size_t left = count;
  bight::Scope scope;
  for (std::size_t fiber = 0; fiber < kFibers; ++fiber) {
    scope
        .spawn([&] {
          while (left > 0) {
            --left;
            call();
          }
        })
        .detach();
  }
  scope.join();
}

}  // namespace

void benchmark(const Endpoint& endpoint, const ConnectionOptions& options, std::size_t count) {
  Connection redis(endpoint, options);
  measure("one fiber, one request at a time", count, [&] {
    for (std::size_t i = 0; i < count; ++i) redis.call("INCR", kKey);
  });
  measure("100 fibers, one connection", count, [&] { in_fibers(count, [&] { redis.call("INCR", kKey); }); });
  PoolOptions how;
  how.connection = options;
  Pool pool(endpoint, how);
  measure("100 fibers, a pool of 8", count, [&] { in_fibers(count, [&] { pool.call("INCR", kKey); }); });
  measure("one fiber, pipelines of 100", count, [&] {
    for (std::size_t sent = 0; sent < count;) {
      Pipeline pipeline;
      for (const std::size_t end = std::min(count, sent + kPipeline); sent < end; ++sent) pipeline.add("INCR", kKey);
      static_cast<void>(redis.call(pipeline));
    }
  });
  redis.call("DEL", kKey);
}

}  // namespace redis
