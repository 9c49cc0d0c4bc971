// SPDX-License-Identifier: Apache-2.0
// A TCP proxy: whoever connects is connected to a server, and everything goes both ways.
//
//     proxy 127.0.0.1:8080 127.0.0.1:80                  as it comes
//     proxy --send-proxy 127.0.0.1:8080 127.0.0.1:80     tells the server whom it comes from

#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include <bight/net/copy_both.hpp>
#include <bight/net/proxy_protocol.hpp>
#include <bight/net/tcp.hpp>
#include <bight/run.hpp>

using namespace std::chrono_literals;
namespace net = bight::net;

namespace {

void forward(net::TcpStream client, const net::Address& server_address, bool tells) {
  net::TcpStream server = net::connect(server_address, {.timeout = 10s});
  if (tells) server.write_all(net::proxy_header_v2(client.peer_address(), client.local_address()));
  net::copy_both(client, server, {.idle = 5min});
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string_view> words(argv + 1, argv + argc);
  const bool tells = !words.empty() && words.front() == "--send-proxy";
  if (tells) words.erase(words.begin());
  if (words.size() != 2) {
    std::fputs("usage: proxy [--send-proxy] LISTEN:PORT SERVER:PORT\n", stderr);
    return 2;
  }
  try {
    return bight::run([&] {
      const net::Address server = net::Address::parse(words[1]);
      auto listener = net::TcpListener::bind(words[0]);
      std::printf("listening on %s\n", listener.local_address().to_string().c_str());
      std::fflush(stdout);
      net::serve(std::move(listener), [&](net::TcpStream client) { forward(std::move(client), server, tells); });
      return 0;
    });
  } catch (const std::exception& error) {
    std::fprintf(stderr, "proxy: %s\n", error.what());
    return 1;
  }
}
