// SPDX-License-Identifier: Apache-2.0

// How a service of several processes does, for people, scripts and health checks: asks a supervisor's status socket
// (ShardOptions::status_socket).

#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <ctime>
#include <stdexcept>
#include <string>
#include <string_view>

#include <bight/shards.hpp>

namespace {

constexpr const char* kUsage =
    "usage: bight-shards [--json] [--watch[=SECONDS]] STATUS_SOCKET\n"
    "\n"
    "Asks the supervisor of a service of several processes how it and its workers do.\n"
    "\n"
    "  --json             one JSON object instead of text\n"
    "  --watch[=SECONDS]  again and again, every so many seconds (1), until interrupted\n"
    "\n"
    "Signals to the supervisor, whose process number is told (\"pid\"), change things: HUP reloads, USR2 upgrades,\n"
    "TTIN and TTOU add and remove a worker, TERM drains, QUIT ends at once.\n"
    "\n"
    "exit status: 0 a worker at least is ready; 1 nobody answers; 2 wrong usage; 3 no worker is ready\n";

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Options {
  std::string socket;
  bight::StatusFormat format = bight::StatusFormat::text;
  unsigned every = 0;  // seconds; 0: once
  bool help = false;
};

unsigned seconds_of(std::string_view text) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value == 0 || value > 86400) {
    throw UsageError("--watch takes a number of seconds from 1 to 86400, not '" + std::string(text) + "'");
  }
  return value;
}

Options parse(int argc, char** argv) {
  constexpr std::string_view kWatch = "--watch=";
  Options options;
  bool only_operands = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (only_operands || !word.starts_with('-')) {
      if (!options.socket.empty()) throw UsageError("one status socket, please");
      options.socket = word;
    } else if (word == "--") {
      only_operands = true;
    } else if (word == "--json") {
      options.format = bight::StatusFormat::json;
    } else if (word == "--watch") {
      options.every = 1;
    } else if (word.starts_with(kWatch)) {
      options.every = seconds_of(word.substr(kWatch.size()));
    } else if (word == "--help" || word == "-h") {
      options.help = true;
    } else {
      throw UsageError("unknown option '" + std::string(word) + "'");
    }
  }
  if (options.socket.empty() && !options.help) throw UsageError("which status socket?");
  return options;
}

/// Asks once and prints the answer. The exit status it stands for.
int tell(const Options& options) {
  const std::string answer = bight::shard_status(options.socket, options.format);
  std::fputs(answer.c_str(), stdout);
  if (!answer.ends_with('\n')) std::fputc('\n', stdout);
  std::fflush(stdout);
  const bool json = options.format == bight::StatusFormat::json;
  const std::string_view none = json ? "\"workers_ready\":0," : "; 0 workers ready,";
  return answer.find(none) == std::string::npos ? 0 : 3;
}

/// One that restarts is not there for a moment: watching goes on.
void watch(const Options& options) {
  const bool screen = ::isatty(STDOUT_FILENO) == 1 && options.format == bight::StatusFormat::text;
  while (std::ferror(stdout) == 0) {
    if (screen) std::fputs("\033[H\033[J", stdout);  // from the top, on an empty screen
    try {
      tell(options);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "bight-shards: %s\n", error.what());
    }
    const timespec pause{static_cast<std::time_t>(options.every), 0};
    ::nanosleep(&pause, nullptr);
  }
}

}  // namespace

int main(int argc, char** argv) try {
  const Options options = parse(argc, argv);
  if (options.help) {
    std::fputs(kUsage, stdout);
    return 0;
  }
  if (options.every == 0) return tell(options);
  watch(options);
  return 1;
} catch (const UsageError& error) {
  std::fprintf(stderr, "bight-shards: %s (--help says more)\n", error.what());
  return 2;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bight-shards: %s\n", error.what());
  return 1;
}
