// SPDX-License-Identifier: Apache-2.0
#pragma once

/// TLS 1.2 and 1.3, on OpenSSL. All of it; the parts, in reading order:
///
///     net::TlsStream peer = net::connect_tls("example.org", 443);   // certificate and name are checked
///     peer.write_all("GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n");
///     while (bight::Chunk data = peer.read()) use(data);
///
///     auto context = net::TlsContext::server(
///         {.identities = {{.certificate = net::Pem::file("cert.pem"), .key = net::Pem::file("key.pem")}}});
///     net::serve_tls(listener, context, [](net::TlsStream client) { ... });

#include <bight/net/tls_context.hpp>  // certificates, keys, whom to trust
#include <bight/net/tls_error.hpp>    // what can go wrong
#include <bight/net/tls_serve.hpp>    // a server
#include <bight/net/tls_stream.hpp>   // a connection
