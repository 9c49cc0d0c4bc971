// SPDX-License-Identifier: Apache-2.0
// A job runner: each line of a file (or of standard input) is a command for the shell. So many run at a time, each for
// so long at most; then comes a table of how they ended. Ctrl-C ends those that run, and begins no more.
//
//     shell [--jobs N] [--limit SECONDS] [FILE]
//
// Exits with 0 when all have succeeded, else with 1.

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <bight/command.hpp>
#include <bight/fd.hpp>
#include <bight/pool.hpp>
#include <bight/run.hpp>
#include <bight/signal.hpp>
#include <bight/stream.hpp>
#include <bight/time.hpp>

#include <fcntl.h>

namespace {

struct Settings {
  std::size_t jobs = 4;
  bight::Duration limit = std::chrono::minutes(1);
  const char* file = nullptr;  // null: standard input
};

struct Job {
  std::string command;
  std::string outcome = "not begun";
  std::string output{};
  bight::Duration took{};
  bool well = false;
};

std::optional<Settings> parse(std::span<char*> arguments) {
  Settings settings;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    const std::string_view argument(arguments[i]);
    const char* value = i + 1 < arguments.size() ? arguments[i + 1] : nullptr;
    if (argument == "--jobs" && value != nullptr && std::atoi(value) > 0) {
      settings.jobs = static_cast<std::size_t>(std::atoi(value));
      ++i;
    } else if (argument == "--limit" && value != nullptr && std::atof(value) > 0) {
      settings.limit = std::chrono::duration_cast<bight::Duration>(std::chrono::duration<double>(std::atof(value)));
      ++i;
    } else if (!argument.starts_with("-") && settings.file == nullptr) {
      settings.file = arguments[i];
    } else {
      return std::nullopt;
    }
  }
  return settings;
}

std::string read_all(bight::Stream from) {
  std::string text;
  std::vector<std::byte> piece(64 * 1024);
  while (const std::size_t count = from.read(piece)) text.append(reinterpret_cast<const char*>(piece.data()), count);
  return text;
}

std::vector<Job> read_jobs(const Settings& settings) {
  std::string text;
  if (settings.file == nullptr) {
    text = read_all(bight::Stream::standard_input());
  } else {
    bight::Fd file(::open(settings.file, O_RDONLY | O_CLOEXEC));
    if (!file) throw std::system_error(errno, std::generic_category(), std::string("open ") + settings.file);
    text = read_all(bight::Stream::adopt(std::move(file)));
  }
  std::vector<Job> jobs;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    if (end > at && text[at] != '#') jobs.push_back({text.substr(at, end - at)});
    at = end + 1;
  }
  return jobs;
}

void run_job(Job& job, bight::Duration limit) {
  job.outcome = "interrupted";
  const bight::TimePoint start = bight::now();
  try {
    bight::CommandResult result = bight::run_command(
        {"sh", "-c", job.command},
        {.process = {.err = bight::Redirect::to_output()}, .timeout = limit, .grace = std::chrono::milliseconds(200)});
    job.well = result.success();
    job.outcome = job.well ? "well" : result.to_string();
    job.output = std::move(result.out);
  } catch (const std::system_error& error) {  // there is no shell, or no more processes are to be had
    job.outcome = error.what();
  }
  job.took = bight::now() - start;
}

void print(const std::vector<Job>& jobs) {
  std::size_t width = 0;
  for (const Job& job : jobs) width = std::max(width, job.outcome.size());
  std::printf("%4s  %-*s  %7s  %s\n", "job", static_cast<int>(width), "outcome", "seconds", "command");
  int number = 0;
  for (const Job& job : jobs) {
    std::printf("%4d  %-*s  %7.2f  %s\n", ++number, static_cast<int>(width), job.outcome.c_str(),
                std::chrono::duration<double>(job.took).count(), job.command.c_str());
    for (std::size_t at = 0; at < job.output.size();) {
      const std::size_t end = std::min(job.output.find('\n', at), job.output.size());
      std::printf("      | %s\n", job.output.substr(at, end - at).c_str());
      at = end + 1;
    }
  }
}

int run_all(const Settings& settings) {
  std::vector<Job> jobs = read_jobs(settings);
  const std::optional<int> signal = bight::with_signals({SIGINT, SIGTERM}, [&] {
    bight::Pool pool(settings.jobs);
    for (Job& job : jobs) pool.spawn([&] { run_job(job, settings.limit); });
    pool.join();
  });
  print(jobs);
  if (signal) std::printf("ended by %s\n", bight::signal_name(*signal).c_str());
  return std::all_of(jobs.begin(), jobs.end(), [](const Job& job) { return job.well; }) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const auto settings = parse(std::span(argv, static_cast<std::size_t>(argc)));
  if (!settings) {
    std::fprintf(stderr, "usage: shell [--jobs N] [--limit SECONDS] [FILE]\n");
    return 2;
  }
  try {
    return bight::run([&] { return run_all(*settings); });
  } catch (const std::exception& error) {
    std::fprintf(stderr, "shell: %s\n", error.what());
    return 2;
  }
}
