// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What the tests of TLS share.

#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <bight/net/memory_stream.hpp>
#include <bight/net/tls.hpp>
#include <bight/scope.hpp>

#include "net_test.hpp"
#include "test_certificates.hpp"

namespace bight::test {

/// One for all tests of a program: a key takes a moment.
inline const TestAuthority& authority() {
  static const TestAuthority one;
  return one;
}

inline net::TlsIdentity identity_of(const Certificate& certificate) {
  return {.certificate = net::Pem::text(certificate.pem), .key = net::Pem::text(certificate.key_pem)};
}

inline net::TlsIdentity issued(CertificateRequest request) { return identity_of(authority().issue(request)); }

inline const net::TlsIdentity& localhost() {
  static const net::TlsIdentity one =
      issued({.common_name = "localhost", .dns_names = {"localhost"}, .addresses = {"127.0.0.1", "::1"}});
  return one;
}

inline net::TlsServerOptions server_options() { return {.identities = {localhost()}}; }

inline net::TlsClientOptions client_options() {
  return {.system_authorities = false, .authorities = net::Pem::text(authority().pem())};
}

inline net::TlsContext server_context() {
  static const net::TlsContext one = net::TlsContext::server(server_options());
  return one;
}

inline net::TlsContext client_context() {
  static const net::TlsContext one = net::TlsContext::client(client_options());
  return one;
}

/// Both ends of a connection.
struct TlsPair {
  net::TlsStream client;
  net::TlsStream server;
};

/// How a handshake went on both sides.
struct Handshakes {
  TlsPair pair;
  Failure client;
  Failure server;
};

inline Handshakes shake_hands(TlsPair pair) {
  Handshakes result{std::move(pair), {}, {}};
  Scope scope;
  scope
      .spawn([&] {
        result.server = failure_of([&] { result.pair.server.handshake(); });
        if (result.server.code) result.pair.server.close();
      })
      .detach();
  result.client = failure_of([&] { result.pair.client.handshake(); });
  if (result.client.code) result.pair.client.close();
  scope.join();
  return result;
}

template <class S>
TlsPair tls_over(std::pair<S, S> ends, const net::TlsContext& client = client_context(),
                 const net::TlsContext& server = server_context(), std::string_view name = "localhost") {
  return {net::TlsStream::client(std::move(ends.first), name, client),
          net::TlsStream::server(std::move(ends.second), server)};
}

inline std::pair<net::TcpStream, net::TcpStream> tcp_pair() {
  StreamPair pair = stream_pair();
  return {std::move(pair.client), std::move(pair.server)};
}

/// Over memory, where no test depends on what sockets do.
inline Handshakes shake_hands(const net::TlsContext& client, const net::TlsContext& server,
                              std::string_view name = "localhost") {
  return shake_hands(tls_over(net::MemoryStream::pair(), client, server, name));
}

inline TlsPair tls_pair(const net::TlsContext& client = client_context(),
                        const net::TlsContext& server = server_context()) {
  Handshakes done = shake_hands(tls_over(tcp_pair(), client, server));
  EXPECT_FALSE(done.client.code) << done.client.text;
  EXPECT_FALSE(done.server.code) << done.server.text;
  return std::move(done.pair);
}

template <class S>
std::string read_text(S& stream, std::size_t size) {
  std::string text(size, '\0');
  stream.read_exactly(std::as_writable_bytes(std::span(text)));
  return text;
}

}  // namespace bight::test
