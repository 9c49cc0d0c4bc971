// SPDX-License-Identifier: Apache-2.0
// Which TCP ports of this machine are open: a thousand attempts at a time.
//
//     portscan [FIRST LAST]

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <set>

#include <bight/net/tcp.hpp>
#include <bight/pool.hpp>
#include <bight/run.hpp>

using namespace std::chrono_literals;
namespace net = bight::net;

int main(int argc, char** argv) {
  const unsigned first = argc > 2 ? static_cast<unsigned>(std::atoi(argv[1])) : 1;
  const unsigned last = argc > 2 ? static_cast<unsigned>(std::atoi(argv[2])) : 65'535;
  if (first < 1 || last > 65'535 || first > last) {
    std::fputs("usage: portscan [FIRST LAST], ports of 127.0.0.1\n", stderr);
    return 2;
  }
  try {
    bight::run([&] {
      std::set<unsigned> open;
      bight::Pool pool(1000);
      for (unsigned port = first; port <= last; ++port) {
        pool.spawn([&open, port] {
          std::error_code error;
          net::connect(net::Address::loopback_v4(static_cast<std::uint16_t>(port)), {.timeout = 5s}, error).reset();
          if (!error) open.insert(port);
        });
      }
      pool.join();
      for (const unsigned port : open) std::printf("%u\n", port);
      std::printf("%zu of %u ports are open\n", open.size(), last - first + 1);
    });
  } catch (const std::exception& error) {
    std::fprintf(stderr, "portscan: %s\n", error.what());
    return 1;
  }
}
