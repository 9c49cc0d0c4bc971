// SPDX-License-Identifier: Apache-2.0
// Fetches a file over TLS 1.3 by `GET /NAME HTTP/1.0`, as fast as it comes, and throws it away.

#include "../common/arguments.hpp"
#include "../common/sockets.hpp"
#include "openssl.hpp"

#include <chrono>
#include <cstdio>
#include <iostream>
#include <vector>

namespace bench::tls {
namespace {

constexpr const char* kHelp = R"(usage: tls_fetch --port P [--host H] NAME

Prints a JSON object: bytes received, header included, the seconds that took from the request on, and the cipher.
)";

void fetch(const Endpoint& server, const std::string& name) {
  const Context context = client_context();
  SSL_CTX_set_default_read_buffer_len(context.get(), 128 * 1024);
  const Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(socket.get(), server.raw(), Endpoint::raw_size()) != 0) fail("connect to " + server.text());
  const Ssl ssl(SSL_new(context.get()));
  require(ssl != nullptr && SSL_set_fd(ssl.get(), socket.get()) == 1, "SSL_new");
  require(SSL_connect(ssl.get()) == 1, "handshake with " + server.text());

  const auto begin = std::chrono::steady_clock::now();
  const std::string request = "GET /" + name + " HTTP/1.0\r\n\r\n";
  require(SSL_write(ssl.get(), request.data(), static_cast<int>(request.size())) > 0, "send the request");
  std::vector<char> buffer(64 * 1024);
  unsigned long long bytes = 0;
  for (int size; (size = SSL_read(ssl.get(), buffer.data(), static_cast<int>(buffer.size()))) > 0;) {
    bytes += static_cast<unsigned long long>(size);
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("{\"bytes\":%llu,\"seconds\":%.6f,\"cipher\":\"%s\"}\n", bytes, took.count(),
              SSL_get_cipher_name(ssl.get()));
}

}  // namespace
}  // namespace bench::tls

int main(int argc, char** argv) {
  try {
    std::string host = "127.0.0.1";
    std::uint16_t port = 0;
    if (argc < 2 || argv[argc - 1][0] == '-') {
      std::fputs(bench::tls::kHelp, stdout);
      return 2;
    }
    const std::string name = argv[argc - 1];
    bench::Arguments arguments(argc - 1, argv);
    while (arguments.next()) {
      if (arguments.is("--host")) {
        host = arguments.value();
      } else if (arguments.is("--port")) {
        port = arguments.number<std::uint16_t>(1, 65535);
      } else {
        arguments.unknown();
      }
    }
    bench::tls::fetch(bench::Endpoint::of(host, port), name);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "tls_fetch: " << error.what() << '\n';
    return 1;
  }
}
