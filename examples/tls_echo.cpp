// SPDX-License-Identifier: Apache-2.0
// An echo server by TLS. Try it with `openssl s_client -connect 127.0.0.1:7443`.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <bight/net/tls.hpp>

#include "options.hpp"

using namespace std::chrono_literals;
namespace net = bight::net;

namespace {

constexpr const char* kWhat =
    "Sends back what it receives, by TLS.\n\n"
    "  --cert F            its certificate, and those between it and the authority, PEM; reloaded at SIGHUP\n"
    "                      with --shards\n"
    "  --key F             the key, PEM; without it, looked for in the certificate's file\n"
    "  --alpn A,B          application protocols, the preferred first\n"
    "  --client-ca F       clients have to show a certificate of these authorities\n"
    "  --tls-1.2           nothing newer\n"
    "  --verbose           says who is there, and why handshakes fail";

struct TlsOptions {
  net::TlsServerOptions server;
  bool verbose = false;
};

std::vector<std::string> split(std::string_view list) {
  std::vector<std::string> parts;
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    parts.emplace_back(list.substr(0, comma));
    list = comma == std::string_view::npos ? std::string_view() : list.substr(comma + 1);
  }
  return parts;
}

/// Takes the options that are TLS's out of the command line.
TlsOptions parse_tls_options(std::vector<char*>& arguments) {
  TlsOptions options;
  net::TlsIdentity identity;
  std::vector<char*> others = {arguments.front()};
  for (std::size_t n = 1; n < arguments.size(); ++n) {
    const std::string_view option = arguments[n];
    const auto value = [&]() -> std::string {
      if (n + 1 == arguments.size()) example::give_up("tls_echo", std::string(option) + " needs a value", 2);
      return arguments[++n];
    };
    if (option == "--cert") {
      identity.certificate = net::Pem::file(value());
    } else if (option == "--key") {
      identity.key = net::Pem::file(value());
    } else if (option == "--alpn") {
      options.server.alpn = split(value());
    } else if (option == "--client-ca") {
      options.server.client_authorities = net::Pem::file(value());
      options.server.client_certificate = net::TlsClientCertificate::required;
    } else if (option == "--tls-1.2") {
      options.server.protocol.version_max = net::TlsVersion::tls_1_2;
    } else if (option == "--verbose") {
      options.verbose = true;
    } else {
      others.push_back(arguments[n]);
    }
  }
  arguments = std::move(others);
  options.server.identities = {std::move(identity)};
  return options;
}

void say_who(const net::TlsStream& peer) {
  const net::TlsInfo info = peer.info();
  const auto certificate = peer.peer_certificate();
  std::printf("%s: %s %s%s%s%s%s%s\n", peer.peer_address().to_string().c_str(),
              std::string(net::to_string(info.version)).c_str(), info.cipher.c_str(),
              info.alpn.empty() ? "" : (", " + info.alpn).c_str(), info.resumed ? ", resumed" : "",
              info.server_name.empty() ? "" : (", for " + info.server_name).c_str(), certificate ? ", from " : "",
              certificate ? certificate->subject.c_str() : "");
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) try {
  std::vector<char*> arguments(argv, argv + argc);
  TlsOptions tls = parse_tls_options(arguments);
  const auto options =
      example::parse_options(static_cast<int>(arguments.size()), arguments.data(), "tls_echo", kWhat, 7443);
  if (tls.server.identities.front().certificate.empty()) {
    example::give_up("tls_echo", "--cert is missing: a server has to have a certificate (--help lists the options)", 2);
  }
  // Before there are several processes: so each can read the tickets that the others give out.
  tls.server.ticket_keys = net::TlsTicketKeys();
  const net::TlsContext first = net::TlsContext::server(tls.server);

  return example::run_server(options, [&](net::TcpListener listener) {
    net::TlsContext context = first;
    if (example::supervised(options)) context.reload();  // a worker that takes another's place: what the files say now
    std::uint64_t served = 0;
    const auto echo = [&](net::TlsStream peer) {
      if (tls.verbose) say_who(peer);
      while (bight::Chunk data = peer.read()) {
        peer.write_all(data);
        ++served;
      }
      peer.shutdown_write();
    };
    net::TlsServeOptions serve;
    serve.serve.drain = 8s;
    serve.on_handshake_failure = [&](const net::TlsStream& peer, std::error_code error) {
      if (!tls.verbose) return;
      std::printf("handshake failed: %s\n", !peer.failure().empty() ? peer.failure().c_str() : error.message().c_str());
      std::fflush(stdout);
    };
    net::serve_tls(std::move(listener), context, echo, serve);
    return served;
  });
} catch (const std::exception& error) {
  example::give_up("tls_echo", error.what(), 1);
}
