// SPDX-License-Identifier: Apache-2.0
// Finds the addresses of names, all at the same time, and prints them in the order of the names.
//
//     resolve [--server HOST:PORT] [--timeout 1s] [--tries 3] NAME...

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <bight/net/dns.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>

namespace {

using namespace std::chrono_literals;

constexpr const char* kUsage =
    "usage: resolve [--server HOST:PORT]... [--timeout 1s] [--tries 3] [-4 | -6] NAME...\n\n"
    "Prints the addresses of each name, one a line, best first.\n\n"
    "  --server HOST:PORT  the name server to ask (those of /etc/resolv.conf)\n"
    "  --timeout TIME      how long to wait for an answer, each time: 500ms, 1s (what resolv.conf says, or 2s)\n"
    "  --tries N           how often to ask (what resolv.conf says, or 3)\n"
    "  -4, -6              addresses of this kind only\n\n"
    "Exits with 1 if a name could not be resolved, which is explained on standard error, and 2 for a wrong call.\n";

struct Call {
  bight::net::ResolverOptions resolver;
  bight::net::ResolveOptions how;
  std::vector<std::string> names;
};

[[noreturn]] void reject(const std::string& why) {
  std::fprintf(stderr, "resolve: %s (--help lists the options)\n", why.c_str());
  std::exit(2);
}

std::optional<unsigned> parse_number(std::string_view text) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value == 0 || value > 1'000'000) return std::nullopt;
  return value;
}

std::optional<bight::Duration> parse_time(std::string_view text) {
  const bool milliseconds = text.ends_with("ms");
  if (!text.ends_with('s')) return std::nullopt;
  text.remove_suffix(milliseconds ? 2 : 1);
  const auto value = parse_number(text);
  if (!value) return std::nullopt;
  return *value * (milliseconds ? bight::Duration(1ms) : bight::Duration(1s));
}

Call parse(int argc, char** argv) {
  Call call;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--help" || option == "-h") {
      std::fputs(kUsage, stdout);
      std::exit(0);
    }
    if (option == "-4" || option == "-6") {
      call.how.family = option == "-4" ? AF_INET : AF_INET6;
    } else if (option == "--server" || option == "--timeout" || option == "--tries") {
      if (++i == argc) reject(option + " needs a value");
      const std::string value = argv[i];
      if (option == "--server") {
        auto server = bight::net::Address::try_parse(value);
        if (!server) server = bight::net::Address::try_parse(value, 53);
        if (!server || server->port() == 0)
          reject("--server takes an address, with a port or not, not '" + value + "'");
        call.resolver.servers.push_back(*server);
      } else if (option == "--timeout") {
        call.resolver.timeout = parse_time(value);
        if (!call.resolver.timeout) reject("--timeout takes a time such as 500ms or 2s, not '" + value + "'");
      } else {
        call.resolver.tries = parse_number(value);
        if (!call.resolver.tries) reject("--tries takes a number from 1 on, not '" + value + "'");
      }
    } else if (option.size() > 1 && option.front() == '-') {
      reject("unknown option '" + option + "'");
    } else {
      call.names.push_back(option);
    }
  }
  if (call.names.empty()) reject("no name was given");
  return call;
}

int resolve_all(const Call& call) {
  struct Outcome {
    std::vector<bight::net::Address> addresses;
    std::string error;
  };
  std::vector<Outcome> outcomes(call.names.size());
  bight::net::Resolver resolver(call.resolver);
  bight::Scope scope;
  for (std::size_t i = 0; i < call.names.size(); ++i) {
    scope.spawn([&, i] {
      try {
        outcomes[i].addresses = resolver.resolve(call.names[i], call.how);
      } catch (const std::system_error& error) {
        outcomes[i].error = error.what();
      }
    });
  }
  scope.join();
  int status = 0;
  for (const Outcome& outcome : outcomes) {
    for (const auto& address : outcome.addresses) std::printf("%s\n", address.host().c_str());
    if (outcome.addresses.empty()) {
      std::fflush(stdout);
      std::fprintf(stderr, "%s\n", outcome.error.c_str());
      status = 1;
    }
  }
  if (std::fflush(stdout) != 0) throw std::system_error(errno, std::generic_category(), "write");
  return status;
}

}  // namespace

int main(int argc, char** argv) try {
  const Call call = parse(argc, argv);
  return bight::run([&] { return resolve_all(call); });
} catch (const std::exception& error) {
  std::fprintf(stderr, "resolve: %s\n", error.what());
  return 1;
}
