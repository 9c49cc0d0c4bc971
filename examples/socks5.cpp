// SPDX-License-Identifier: Apache-2.0
// A SOCKS5 server (RFC 1928) without authentication, for CONNECT: `curl --socks5-hostname 127.0.0.1:1080 …`.

#include <arpa/inet.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>

#include <bight/deadline.hpp>
#include <bight/net/copy_both.hpp>
#include <bight/net/dial.hpp>
#include <bight/net/tcp.hpp>
#include <bight/run.hpp>

using namespace std::chrono_literals;
namespace net = bight::net;

namespace {

enum : unsigned char { kVersion = 5, kConnect = 1, kV4 = 1, kName = 3, kV6 = 4, kNoMethod = 0xff };
enum class Answer : unsigned char { succeeded = 0, failed = 1, refused = 5, unknown_command = 7, unknown_address = 8 };

template <std::size_t N>
std::array<unsigned char, N> take(net::TcpStream& client) {
  std::array<unsigned char, N> bytes;
  client.read_exactly(std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

void send(net::TcpStream& client, std::string_view bytes) { client.write_all(bytes); }

void answer(net::TcpStream& client, Answer what) {
  const std::array<char, 10> bytes{kVersion, static_cast<char>(what), 0, kV4};  // and an address that means nothing
  send(client, {bytes.data(), bytes.size()});
}

std::uint16_t take_port(net::TcpStream& client) {
  const auto bytes = take<2>(client);
  return static_cast<std::uint16_t>(bytes[0] << 8U | bytes[1]);
}

struct Target {
  std::string host;
  std::uint16_t port = 0;
};

template <std::size_t N>
std::string take_numeric(net::TcpStream& client, int family) {
  const auto bytes = take<N>(client);
  std::array<char, INET6_ADDRSTRLEN> text{};
  return ::inet_ntop(family, bytes.data(), text.data(), text.size());
}

std::optional<Target> take_target(net::TcpStream& client, unsigned kind) {
  Target target;
  if (kind == kV4) {
    target.host = take_numeric<4>(client, AF_INET);
  } else if (kind == kV6) {
    target.host = take_numeric<16>(client, AF_INET6);
  } else if (kind == kName) {
    target.host.resize(take<1>(client)[0]);
    client.read_exactly(std::as_writable_bytes(std::span(target.host)));
  } else {
    return std::nullopt;
  }
  target.port = take_port(client);
  return target;
}

/// What the client wants to be connected to. Nothing: it has been told why not.
std::optional<Target> negotiate(net::TcpStream& client) {
  const auto greeting = take<2>(client);
  if (greeting[0] != kVersion) return std::nullopt;
  bool without_authentication = false;
  for (unsigned n = 0; n < greeting[1]; ++n) without_authentication = take<1>(client)[0] == 0 || without_authentication;
  send(client, without_authentication ? std::string_view("\x05\x00", 2) : std::string_view("\x05\xff", 2));
  if (!without_authentication) return std::nullopt;
  const auto request = take<4>(client);
  if (request[0] != kVersion) return std::nullopt;
  std::optional<Target> target = take_target(client, request[3]);
  if (!target) {
    answer(client, Answer::unknown_address);
  } else if (request[1] != kConnect) {
    answer(client, Answer::unknown_command);
    target.reset();
  }
  return target;
}

void serve_client(net::TcpStream client) {
  const auto target = bight::with_timeout(10s, [&] { return negotiate(client); });
  if (!target) return;
  std::error_code error;
  net::TcpStream server = net::connect(target->host, target->port, {.timeout = 10s}, error);
  if (error) {
    answer(client, error == std::errc::connection_refused ? Answer::refused : Answer::failed);
    return;
  }
  answer(client, Answer::succeeded);
  net::copy_both(client, server, {.idle = 5min});
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return bight::run([&] {
      auto listener = net::TcpListener::bind(argc > 1 ? argv[1] : "127.0.0.1:1080");
      std::printf("listening on %s\n", listener.local_address().to_string().c_str());
      std::fflush(stdout);
      net::serve(std::move(listener), serve_client);
      return 0;
    });
  } catch (const std::exception& error) {
    std::fprintf(stderr, "socks5: %s\n", error.what());
    return 1;
  }
}
