// SPDX-License-Identifier: Apache-2.0
#include "report.hpp"

#include <cinttypes>
#include <cstdio>

namespace bench::load {
namespace {

struct Figures {
  const char* mode;
  double seconds, per_second, p50, p99, p999, max;  // latencies in microseconds
};

Figures figures_of(const Options& options, const Measurement& measurement) {
  const double seconds = static_cast<double>(measurement.elapsed) / 1e9;
  const auto microseconds = [](std::uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e3; };
  const char* const plain_mode = options.rate > 0 ? "rate" : "echo";
  return {.mode = options.connect ? "connect" : plain_mode,
          .seconds = seconds,
          .per_second = seconds > 0 ? static_cast<double>(measurement.operations) / seconds : 0,
          .p50 = microseconds(measurement.latency.quantile(0.5)),
          .p99 = microseconds(measurement.latency.quantile(0.99)),
          .p999 = microseconds(measurement.latency.quantile(0.999)),
          .max = microseconds(measurement.latency.max())};
}

void print_json(const Options& o, const char* engine, const Measurement& m, const Figures& f) {
  std::printf("{\"mode\":\"%s\",\"engine\":\"%s\",\"conns\":%" PRIu32 ",\"size\":%" PRIu64 ",\"depth\":%" PRIu32
              ",\"rate\":%.3f,",
              f.mode, engine, o.conns, o.size, o.depth, o.rate);
  std::printf("\"seconds\":%.6f,\"ops\":%" PRIu64 ",\"ops_per_s\":%.1f,\"bytes_per_s\":%.0f,\"unsent\":%" PRIu64
              ",\"errors\":%" PRIu64 ",",
              f.seconds, m.operations, f.per_second, f.per_second * static_cast<double>(o.size), m.unsent, m.errors);
  std::printf("\"p50_us\":%.2f,\"p99_us\":%.2f,\"p999_us\":%.2f,\"max_us\":%.2f}\n", f.p50, f.p99, f.p999, f.max);
}

void print_text(const Options& o, const char* engine, const Measurement& m, const Figures& f) {
  std::printf("%s  %" PRIu64 " B  %" PRIu32 " connections  depth %" PRIu32 "  %.2f s  (load on %s)\n", f.mode, o.size,
              o.conns, o.depth, f.seconds, engine);
  std::printf("ops      %" PRIu64 "  %.0f/s  %.1f MB/s each way  errors %" PRIu64 "\n", m.operations, f.per_second,
              f.per_second * static_cast<double>(o.size) / 1e6, m.errors);
  if (m.unsent > 0) std::printf("behind the schedule: %" PRIu64 " messages never sent\n", m.unsent);
  std::printf("latency  p50 %.1f us  p99 %.1f us  p99.9 %.1f us  max %.1f us\n", f.p50, f.p99, f.p999, f.max);
}

}  // namespace

void report(const Options& options, const char* engine, const Measurement& measurement) {
  const Figures figures = figures_of(options, measurement);
  (options.json ? print_json : print_text)(options, engine, measurement, figures);
  std::fflush(stdout);
}

}  // namespace bench::load
