// SPDX-License-Identifier: Apache-2.0
// Resolves very many names, a hundred at a time, with a progress bar.
//
//     dns_mass_resolve [--server HOST:PORT] [--count 10000] [--domain example.com] [FILE]
//
// The names are the lines of FILE ("-": standard input), or host0.DOMAIN, host1.DOMAIN ... Without a server and without
// names of its own it brings a server along, in fibers of the same loop.

#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <bight/group.hpp>
#include <bight/net/dns.hpp>
#include <bight/net/udp.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

namespace {

constexpr std::size_t kAtATime = 100;  // more would only queue up in the server's socket, which has room for so many

constexpr const char* kUsage =
    "usage: dns_mass_resolve [--server HOST:PORT] [--count 10000] [--domain example.com] [FILE]\n\n"
    "Resolves the names in FILE (- for standard input), one a line, or host0.DOMAIN, host1.DOMAIN and so on.\n\n"
    "  --server HOST:PORT  the name server to ask; without it, for FILE those of /etc/resolv.conf, else one of its "
    "own\n"
    "  --count N           how many names, without FILE (10000)\n"
    "  --domain DOMAIN     what they end in (example.com)\n\n"
    "Shows how far it is if standard error is a terminal. Exits with 1 if a name was not found, and 2 for a wrong "
    "call.\n";

struct Options {
  std::optional<bight::net::Address> server;
  unsigned count = 10'000;
  std::string domain = "example.com";
  std::string file;
};

[[noreturn]] void reject(const std::string& why) {
  std::fprintf(stderr, "dns_mass_resolve: %s (--help lists the options)\n", why.c_str());
  std::exit(2);
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--help" || option == "-h") {
      std::fputs(kUsage, stdout);
      std::exit(0);
    }
    if (option != "--server" && option != "--count" && option != "--domain") {
      if (option.size() > 1 && option.front() == '-') reject("unknown option '" + option + "'");
      if (option.empty() || !options.file.empty()) reject("it takes one FILE, not '" + option + "', too");
      options.file = option;
      continue;
    }
    if (++i == argc) reject(option + " needs a value");
    const std::string value = argv[i];
    if (option == "--domain") {
      options.domain = value;
    } else if (option == "--server") {
      options.server = bight::net::Address::try_parse(value);
      if (!options.server) options.server = bight::net::Address::try_parse(value, 53);
      if (!options.server || options.server->port() == 0) {
        reject("--server takes an address, with a port or not, not '" + value + "'");
      }
    } else {
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), options.count);
      if (error != std::errc{} || end != value.data() + value.size() || options.count == 0) {
        reject("--count takes a number from 1 on, not '" + value + "'");
      }
    }
  }
  return options;
}

std::vector<std::string> names_of(const Options& options) {
  std::vector<std::string> names;
  if (options.file.empty()) {
    for (unsigned i = 0; i < options.count; ++i) names.push_back("host" + std::to_string(i) + '.' + options.domain);
    return names;
  }
  std::ifstream file;
  if (options.file != "-") {
    file.open(options.file);
    if (!file) throw std::system_error(errno, std::generic_category(), "open " + options.file);
  }
  std::istream& input = options.file == "-" ? std::cin : file;
  for (std::string line; std::getline(input, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) names.push_back(line);
  }
  if (input.bad()) throw std::system_error(errno, std::generic_category(), "read " + options.file);
  return names;
}

/// Answers every question for an IPv4 address with 192.0.2.1, others with nothing.
void serve_names(bight::net::UdpSocket& socket) {
  static constexpr unsigned char kRecord[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1};
  std::vector<std::byte> buffer(1024);
  for (;;) {
    const bight::net::UdpDatagram question = socket.receive(std::span(buffer).first(512));
    auto* packet = reinterpret_cast<unsigned char*>(buffer.data());
    std::size_t end = 12;
    while (end < question.size && packet[end] != 0) end += packet[end] + std::size_t{1};
    end += 5;
    if (end > question.size) continue;
    packet[2] = 0x81;
    packet[3] = 0x80;
    for (std::size_t i = 6; i < 12; ++i) packet[i] = 0;
    if (packet[end - 3] == 1) {  // the type: A
      packet[7] = 1;
      for (const unsigned char each : kRecord) packet[end++] = each;
    }
    socket.reply(question, std::span(buffer).first(end));
  }
}

class Progress {
 public:
  explicit Progress(std::size_t total) : total_(total) {}
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { end(); }

  void advance() {
    const std::size_t percent = ++done_ * 100 / total_;
    if (percent == percent_) return;
    percent_ = percent;
    if (!shown_) return;
    std::string bar(percent / 2, '#');
    bar.resize(50, '.');
    std::fprintf(stderr, "\r[%s] %3zu %%", bar.c_str(), percent);
  }

  /// What is said next begins a line.
  void end() {
    if (std::exchange(shown_, false)) std::fputc('\n', stderr);
  }

 private:
  std::size_t total_;
  std::size_t done_ = 0;
  std::size_t percent_ = 0;
  bool shown_ = ::isatty(STDERR_FILENO) != 0;
};

int resolve_all(const Options& options, const std::vector<std::string>& names) {
  bight::net::ResolverOptions settings;
  std::optional<bight::net::UdpSocket> own;
  bight::Group servers;
  if (options.server) {
    settings.servers = {*options.server};
  } else if (options.file.empty()) {
    own = bight::net::UdpSocket::bind("127.0.0.1:0");
    settings.servers = {own->local_address()};
    settings.search.emplace();
    servers.spawn([&] { serve_names(*own); }).detach();
  }

  bight::net::Resolver resolver(settings);
  Progress progress(names.size());
  std::map<std::string, std::size_t> errors;
  std::size_t next = 0;
  std::size_t found = 0;
  const bight::TimePoint begin = bight::now();
  bight::Scope scope;
  for (std::size_t i = 0; i < kAtATime; ++i) {
    scope
        .spawn([&] {
          while (next < names.size()) {
            std::error_code error;
            static_cast<void>(resolver.resolve(names[next++], error));
            ++(error ? errors[error.message()] : found);
            progress.advance();
          }
        })
        .detach();
  }
  scope.join();
  const double seconds = std::chrono::duration<double>(bight::now() - begin).count();
  servers.cancel_all();
  progress.end();

  std::printf("%zu of %zu names found\n", found, names.size());
  for (const auto& [text, count] : errors) std::printf("%zu: %s\n", count, text.c_str());
  if (std::fflush(stdout) != 0) throw std::system_error(errno, std::generic_category(), "write");
  std::fprintf(stderr, "%.2f s, %.0f names a second\n", seconds, static_cast<double>(names.size()) / seconds);
  return found == names.size() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) try {
  const Options options = parse(argc, argv);
  const std::vector<std::string> names = names_of(options);
  if (names.empty()) reject("there are no names in " + options.file);
  return bight::run([&] { return resolve_all(options, names); });
} catch (const std::exception& error) {
  std::fprintf(stderr, "dns_mass_resolve: %s\n", error.what());
  return 1;
}
