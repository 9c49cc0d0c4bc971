// SPDX-License-Identifier: Apache-2.0

// Random reads from one file: `--depth` fibers, each with one read of `--block` bytes under way all the time. What
// `fio --rw=randread --ioengine=io_uring` does at that depth; against_fio.py runs the two in turns.

#include "../common/arguments.hpp"
#include "../load/histogram.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <random>
#include <string>
#include <vector>

#include <bight/aligned_buffer.hpp>
#include <bight/file.hpp>
#include <bight/filesystem.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/temporary.hpp>
#include <bight/time.hpp>

namespace bench::files {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string file;
  std::uint64_t size = std::uint64_t{1} << 30;
  std::size_t block = 4096;
  unsigned depth = 1;
  unsigned milliseconds = 3000;
  bool direct = false;
  bool json = false;
  bool smoke = false;
};

struct Result {
  std::uint64_t reads = 0;
  std::chrono::nanoseconds time{};
  load::Histogram latencies;
};

Options parse(int argc, char** argv) {
  Options options;
  Arguments arguments(argc, argv);
  while (arguments.next()) {
    if (arguments.is("--file")) {
      options.file = arguments.value();
    } else if (arguments.is("--size")) {
      options.size = arguments.number<std::uint64_t>(4096, std::uint64_t{1} << 40);
    } else if (arguments.is("--block")) {
      options.block = arguments.number<std::size_t>(512, std::size_t{1} << 24);
    } else if (arguments.is("--depth")) {
      options.depth = arguments.number<unsigned>(1, 100000);
    } else if (arguments.is("--milliseconds")) {
      options.milliseconds = arguments.number<unsigned>(1, 3600000);
    } else if (arguments.is("--direct")) {
      options.direct = true;
    } else if (arguments.is("--json")) {
      options.json = true;
    } else if (arguments.is("--smoke")) {
      options.smoke = true;
    } else {
      arguments.unknown();
    }
  }
  if (options.file.empty() && !options.smoke) throw UsageError("--file is needed (it is made if there is none)");
  return options;
}

/// Makes the file as large as asked for, with data in it, unless it is there.
void prepare(const Options& options) {
  std::error_code error;
  if (bight::fs::status(options.file, error).size == options.size) return;
  bight::File file = bight::File::create(options.file);
  std::vector<std::byte> block(std::size_t{1} << 20, std::byte{0x5a});
  for (std::uint64_t at = 0; at < options.size; at += block.size()) {
    file.write_all_at(std::span(block).first(std::min<std::uint64_t>(block.size(), options.size - at)), at);
  }
  file.sync();
}

Result measure(const Options& options) {
  bight::File file = bight::File::open(options.file, {.read = true, .direct = options.direct});
  const std::uint64_t blocks = options.size / options.block;
  Result result;
  const auto start = Clock::now();
  const auto end = start + std::chrono::milliseconds(options.milliseconds);
  bight::Scope readers;
  for (unsigned i = 0; i < options.depth; ++i) {
    readers.spawn([&, i] {
      std::mt19937_64 random(i + 1);
      bight::AlignedBuffer buffer(options.block, 4096);
      for (auto now = Clock::now(); now < end;) {
        const std::uint64_t at = random() % blocks * options.block;
        if (file.read_at(buffer.bytes(), at) != options.block) throw std::runtime_error("a short read");
        const auto then = now;
        now = Clock::now();
        result.latencies.record(static_cast<std::uint64_t>((now - then).count()));
        ++result.reads;
      }
    });
  }
  readers.join();
  result.time = Clock::now() - start;
  return result;
}

void report(const Options& options, const Result& result) {
  const double seconds = std::chrono::duration<double>(result.time).count();
  const double per_second = static_cast<double>(result.reads) / seconds;
  const std::string engine(bight::this_loop::engine_name());
  const char* form = options.json ? R"({"engine":"%s","depth":%u,"block":%zu,"direct":%s,"reads_per_second":%.0f,)"
                                    R"("p50_us":%.1f,"p99_us":%.1f})"
                                    "\n"
                                  : "%s, depth %u, %zu bytes, direct: %s: %.0f reads/s, p50 %.1f us, p99 %.1f us\n";
  std::printf(form, engine.c_str(), options.depth, options.block, options.direct ? "true" : "false", per_second,
              static_cast<double>(result.latencies.quantile(0.5)) / 1e3,
              static_cast<double>(result.latencies.quantile(0.99)) / 1e3);
}

void run_smoke(Options options) {
  const bight::fs::TemporaryDirectory directory("bight-bench-");
  options.file = directory / "file";
  options.size = std::uint64_t{1} << 20;
  options.milliseconds = 20;
  for (const unsigned depth : {1U, 64U}) {
    options.depth = depth;
    prepare(options);
    report(options, measure(options));
  }
}

}  // namespace
}  // namespace bench::files

int main(int argc, char** argv) {
  using namespace bench::files;
  try {
    const Options options = parse(argc, argv);
    bight::run([&] {
      if (options.smoke) return run_smoke(options);
      prepare(options);
      report(options, measure(options));
    });
    return 0;
  } catch (const bench::UsageError& error) {
    std::fprintf(stderr, "file_read: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "file_read: %s\n", error.what());
    return 1;
  }
}
