// SPDX-License-Identifier: Apache-2.0
// An echo server: one fiber per connection, each a plain loop. Try it with `nc 127.0.0.1 7000`.

#include <chrono>
#include <cstdint>
#include <utility>

#include <bight/net/tcp.hpp>

#include "options.hpp"

using namespace std::chrono_literals;
namespace net = bight::net;

int main(int argc, char** argv) {
  const auto options = example::parse_options(argc, argv, "echo", "Sends back what it receives.", 7000);

  return example::run_server(options, [](net::TcpListener listener) {
    std::uint64_t served = 0;  // by the fibers of one loop, which never run at the same time: a plain number will do
    const auto echo = [&served](net::TcpStream peer) {
      while (bight::Chunk data = peer.read()) {
        peer.write_all(data);
        ++served;
      }
    };
    // Until SIGTERM or SIGINT; then connections that are still open have so long to end.
    net::serve(std::move(listener), echo, {.drain = 8s});
    return served;
  });
}
