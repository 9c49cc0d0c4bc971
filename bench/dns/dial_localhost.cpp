// SPDX-License-Identifier: Apache-2.0
// What it adds to a connection that it goes to "localhost", where IPv6 is refused and IPv4 is not, instead of
// 127.0.0.1: the name, a connection in vain, and the race of happy eyeballs.

#include <algorithm>
#include <string_view>
#include <vector>

#include <bight/group.hpp>
#include <bight/net/dial.hpp>
#include <bight/net/tcp.hpp>
#include <bight/run.hpp>

#include "options.hpp"

namespace {

using bight::net::Address;
using bight::net::TcpListener;

template <class Connect>
double measure(Connect&& connect) {
  const auto begin = std::chrono::steady_clock::now();
  static_cast<void>(connect());
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
}

double part(std::vector<double>& times, double share) {
  const auto at = times.begin() + static_cast<std::ptrdiff_t>(static_cast<double>(times.size() - 1) * share);
  std::nth_element(times.begin(), at, times.end());
  return *at;
}

int dial(unsigned rounds) {
  TcpListener listener = TcpListener::bind("127.0.0.1:0");
  const std::uint16_t port = listener.local_address().port();
  std::error_code error;
  static_cast<void>(bight::net::connect(Address::loopback_v6(port), {}, error));
  if (error != std::errc::connection_refused) bench::fail("be refused by [::1]", error.value());
  bight::Group server;
  server
      .spawn([&] {
        for (std::error_code ended; !ended;) static_cast<void>(listener.accept(ended));
      })
      .detach();
  std::vector<double> by_address;
  std::vector<double> by_name;
  for (unsigned i = 0; i < rounds; ++i) {
    by_address.push_back(measure([&] { return bight::net::connect(Address::loopback_v4(port)); }));
    by_name.push_back(measure([&] { return bight::net::connect("localhost", port); }));
  }
  server.cancel_all();
  const double plain = part(by_address, 0.5);
  const double named = part(by_name, 0.5);
  std::printf("connect: 127.0.0.1 %.0f us, localhost %.0f us: adds %.0f us (p50), %.0f us (p99)\n", plain, named,
              named - plain, part(by_name, 0.99) - plain);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::guarded("dial_localhost", [&] {
    unsigned rounds = 2000;
    bench::Arguments arguments(argc, argv);
    while (arguments.next()) {
      if (arguments.is("--rounds")) {
        rounds = arguments.number<unsigned>(1, 1'000'000);
      } else if (arguments.is("--smoke")) {
        rounds = 20;
      } else {
        arguments.unknown();
      }
    }
    return bight::run([&] { return dial(rounds); });
  });
}
