// SPDX-License-Identifier: Apache-2.0
// A client for Redis, as redis-cli is one. What it is made of is a small library: connection.hpp, pool.hpp,
// subscriber.hpp.
//
//     redis_client [--url redis://localhost] COMMAND ARGUMENT...
//     redis_client --pipe < commands
//     redis_client subscribe CHANNEL...

#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <bight/channel.hpp>
#include <bight/log.hpp>
#include <bight/net/buffered.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/stream.hpp>

#include "benchmark.hpp"
#include "print.hpp"
#include "subscriber.hpp"

namespace {

constexpr const char* kUsage =
    "usage: redis_client [OPTION...] COMMAND ARGUMENT...\n"
    "       redis_client [OPTION...] [--count N] subscribe CHANNEL... | psubscribe PATTERN...\n"
    "       redis_client [OPTION...] --pipe | --bench N\n\n"
    "  --url URL   redis://[user:password@]host[:port][/db] or unix://[user:password@]/path[?db=N]\n"
    "              (redis://127.0.0.1:6379)\n"
    "  -2, -3      speak RESP2 or RESP3, and nothing else (RESP3 if the server has it)\n"
    "  --raw, --no-raw  for programs, or for people (what standard output is)\n"
    "  --pipe      commands from standard input, one a line, sent without waiting for replies in between\n"
    "  --bench N   so many requests, one by one and pipelined\n"
    "  --count N   end after so many messages (never)\n\n"
    "Exits with 1 if the server could not be asked or replied with an error, and with 2 for a wrong call.\n";

struct Call {
  redis::Endpoint endpoint;
  redis::ConnectionOptions connection;
  bool for_people = ::isatty(STDOUT_FILENO) == 1;
  bool pipe = false;
  std::size_t bench = 0;
  std::size_t count = 0;
  std::vector<std::string> words;
};

[[noreturn]] void reject(const std::string& why) {
  std::fprintf(stderr, "redis_client: %s (--help lists the options)\n", why.c_str());
  std::exit(2);
}

std::size_t parse_number(const std::string& option, std::string_view text) {
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value == 0) {
    reject(option + " takes a number from 1 on, not '" + std::string(text) + "'");
  }
  return value;
}

Call parse(int argc, char** argv) try {
  Call call;
  call.connection.exchange.reply_timeout = bight::Duration::zero();  // as redis-cli: BLPOP may be what is asked for
  int i = 1;
  for (; i < argc && argv[i][0] == '-'; ++i) {
    const std::string option = argv[i];
    if (option == "--help" || option == "-h") {
      std::fputs(kUsage, stdout);
      std::exit(0);
    }
    if (option == "-2" || option == "-3") {
      call.connection.protocol = option == "-2" ? redis::Protocol::resp2 : redis::Protocol::resp3;
    } else if (option == "--raw" || option == "--no-raw") {
      call.for_people = option == "--no-raw";
    } else if (option == "--pipe") {
      call.pipe = true;
    } else if (option == "--url" || option == "--bench" || option == "--count") {
      if (++i == argc) reject(option + " needs a value");
      if (option == "--url") call.endpoint = redis::Endpoint::parse(argv[i]);
      if (option == "--bench") call.bench = parse_number(option, argv[i]);
      if (option == "--count") call.count = parse_number(option, argv[i]);
    } else {
      reject("unknown option '" + option + "'");
    }
  }
  call.words.assign(argv + i, argv + argc);
  if (call.words.empty() && !call.pipe && call.bench == 0) reject("no command was given");
  return call;
} catch (const std::invalid_argument& error) {
  reject(error.what());
}

/// Whether it is no error.
bool print(const redis::Value& value, bool for_people) {
  std::string text = for_people ? redis::pretty(value) : redis::plain(value) + "\n";
  std::fwrite(text.data(), 1, text.size(), stdout);
  return !value.is_error();
}

redis::Command command_of(const std::vector<std::string>& words) {
  redis::Command command(words.front());
  for (std::size_t i = 1; i < words.size(); ++i) command.add(words[i]);
  return command;
}

int ask(const Call& call) {
  redis::Connection redis(call.endpoint, call.connection);
  redis::Pipeline one;
  one.add(command_of(call.words));
  return print(redis.call(one).front(), call.for_people) ? 0 : 1;
}

int subscribe(const Call& call) {
  redis::SubscriberOptions options;
  options.connection = call.connection;
  redis::Subscriber subscriber(call.endpoint, options);
  for (std::size_t i = 1; i < call.words.size(); ++i) {
    if (call.words.front() == "psubscribe") {
      subscriber.subscribe_pattern(call.words[i]);
    } else {
      subscriber.subscribe(call.words[i]);
    }
  }
  std::fprintf(stderr, "subscribed\n");
  std::size_t count = 0;
  for (redis::Message& message : subscriber.messages()) {
    redis::Value::Items items;
    items.emplace_back(redis::Type::text, message.pattern.empty() ? "message" : "pmessage");
    if (!message.pattern.empty()) items.emplace_back(redis::Type::text, message.pattern);
    items.emplace_back(redis::Type::text, std::move(message.channel));
    items.emplace_back(redis::Type::text, std::move(message.payload));
    print(redis::Value(redis::Type::push, std::move(items)), call.for_people);
    std::fflush(stdout);
    if (++count == call.count) return 0;
  }
  std::fprintf(stderr, "redis_client: the server has closed the connection\n");
  return 1;
}

/// Reads on while the server is busy with what was sent: what comes at a time goes out at a time.
int pipe_commands(const Call& call) {
  constexpr std::size_t kBatchMax = 1000;
  redis::Connection redis(call.endpoint, call.connection);
  bight::Channel<redis::Pipeline> batches(4);
  bool well = true;
  bight::Scope scope;
  scope
      .spawn([&] {
        for (redis::Pipeline& batch : batches) {
          for (const redis::Value& reply : redis.call(batch)) well = print(reply, call.for_people) && well;
          std::fflush(stdout);
        }
      })
      .detach();
  auto input = bight::Stream::standard_input();
  bight::net::BufferedReader lines(input);
  redis::Pipeline batch;
  while (const auto line = lines.read_line(lines.kLineMax)) {
    const auto words = redis::split_words(*line);
    if (!words) {
      std::fprintf(stderr, "redis_client: quotes that are not closed: %s\n", std::string(*line).c_str());
      well = false;
    } else if (!words->empty()) {
      batch.add(command_of(*words));
    }
    if (batch.size() >= kBatchMax || (lines.buffered().empty() && !batch.empty())) {
      batches.send(std::exchange(batch, {}));
    }
  }
  if (!batch.empty()) batches.send(std::move(batch));
  batches.close();
  scope.join();
  return well ? 0 : 1;
}

int run(const Call& call) {
  if (call.bench > 0) {
    redis::benchmark(call.endpoint, call.connection, call.bench);
    return 0;
  }
  if (call.pipe) return pipe_commands(call);
  const bool subscribes = call.words.front() == "subscribe" || call.words.front() == "psubscribe";
  return subscribes && call.words.size() > 1 ? subscribe(call) : ask(call);
}

}  // namespace

int main(int argc, char** argv) try {
  const Call call = parse(argc, argv);
  bight::set_log_level(bight::LogLevel::warning);  // which engine it is, nobody asks of such a tool
  return bight::run([&] { return run(call); });
} catch (const std::exception& error) {
  std::fprintf(stderr, "redis_client: %s\n", error.what());
  return 1;
}
