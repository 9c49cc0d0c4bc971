// SPDX-License-Identifier: Apache-2.0
// A UDP echo server. Try it with `nc -u 127.0.0.1 7001`. With --batch it takes many datagrams with one system call and
// sends them back with another; without, each has a fiber, as in gevent's DatagramServer.

#include <cstdio>
#include <cstring>
#include <exception>

#include <bight/net/udp.hpp>
#include <bight/run.hpp>

namespace net = bight::net;

int main(int argc, char** argv) {
  const bool batch = argc > 1 && std::strcmp(argv[1], "--batch") == 0;
  const char* address = argc > (batch ? 2 : 1) ? argv[batch ? 2 : 1] : "127.0.0.1:7001";
  try {
    bight::run([&] {
      auto socket = net::UdpSocket::bind(address, {.packet_info = !batch, .receive_segments = batch});
      std::printf("listening on %s\n", socket.local_address().to_string().c_str());
      std::fflush(stdout);
      if (!batch) {
        net::serve_datagrams(socket, [](const net::UdpRequest& request) { request.reply(request.data); });
        return;
      }
      for (net::UdpBatch datagrams(64, net::kUdpBufferMax);;) {  // until a stop cancels it
        socket.receive_many(datagrams);
        socket.send_many(datagrams);
      }
    });
  } catch (const bight::Cancelled&) {
  } catch (const std::exception& error) {
    std::fprintf(stderr, "udp_echo: %s\n", error.what());
    return 1;
  }
}
