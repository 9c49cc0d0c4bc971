// SPDX-License-Identifier: Apache-2.0
// Resolves many names, each in a fiber, and then one of them again and again from the cache.

#include <memory>
#include <string>
#include <thread>

#include <bight/net/dns.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>

#include "dns_server.hpp"
#include "options.hpp"

namespace {

struct Measured {
  unsigned found = 0;
  double seconds = 0;
  double cpu = 0;
  double cached_ns = 0;
};

Measured measure(const bench::ResolveOptions& options) {
  bight::net::ResolverOptions settings;
  settings.servers = {bight::net::Address::loopback_v4(options.port)};
  settings.search.emplace();
  bight::net::Resolver resolver(settings);
  const bight::net::ResolveOptions how{.family = options.both ? AF_UNSPEC : AF_INET};
  Measured measured;
  unsigned started = 0;
  const bench::Watch watch;
  {
    bight::Scope scope;
    for (unsigned i = 0; i < options.concurrency; ++i) {
      scope
          .spawn([&] {
            while (started < options.names) {
              const std::string name = "host" + std::to_string(started++) + ".example.com";
              std::error_code error;
              if (!resolver.resolve(name, how, error).empty()) ++measured.found;
            }
          })
          .detach();
    }
    scope.join();
  }
  measured.seconds = watch.seconds();
  measured.cpu = watch.cpu();

  const unsigned rounds = options.smoke ? 1000 : 1'000'000;
  const std::string name = "host" + std::to_string(options.names - 1) + ".example.com";
  const bench::Watch cached;
  for (unsigned i = 0; i < rounds; ++i) {
    if (resolver.resolve(name, how).size() != 1) return {};
  }
  measured.cached_ns = cached.seconds() * 1e9 / rounds;
  return measured;
}

int resolve(bench::ResolveOptions options) {
  std::thread server;
  if (options.port == 0) {
    auto own = std::make_unique<bench::NameServer>(0);
    options.port = own->port();
    server = std::thread([own = std::move(own)] { own->serve(true); });
  }
  const Measured measured = bight::run([&] { return measure(options); });
  bench::report("bight", options, measured.found, measured.seconds, measured.cpu, measured.cached_ns);
  if (server.joinable()) server.join();
  return measured.found == options.names ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::guarded("dns_bight", [&] { return resolve(bench::ResolveOptions::parse(argc, argv)); });
}
