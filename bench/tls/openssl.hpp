// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the bare TLS programs need of OpenSSL.

#include <memory>
#include <stdexcept>
#include <string>

#include <openssl/err.h>
#include <openssl/ssl.h>

namespace bench::tls {

struct FreeSsl {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL_SESSION* session) const { SSL_SESSION_free(session); }
};
using Ssl = std::unique_ptr<SSL, FreeSsl>;
using Context = std::unique_ptr<SSL_CTX, FreeSsl>;
using Session = std::unique_ptr<SSL_SESSION, FreeSsl>;

// Throws "<attempt>: <why>" from the oldest error of this thread; forgets the others.
[[noreturn]] inline void fail_ssl(const std::string& attempt) {
  char text[256] = "no reason given";
  if (const unsigned long error = ERR_get_error(); error != 0) ERR_error_string_n(error, text, sizeof text);
  ERR_clear_error();
  throw std::runtime_error(attempt + ": " + text);
}

inline void require(bool good, const std::string& attempt) {
  if (!good) fail_ssl(attempt);
}

inline Context server_context(const std::string& certificate, const std::string& key) {
  Context context(SSL_CTX_new(TLS_server_method()));
  require(context != nullptr, "SSL_CTX_new");
  require(SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION) == 1, "set the lowest version");
  require(SSL_CTX_use_certificate_chain_file(context.get(), certificate.c_str()) == 1, "load " + certificate);
  require(SSL_CTX_use_PrivateKey_file(context.get(), key.c_str(), SSL_FILETYPE_PEM) == 1, "load " + key);
  return context;
}

// Trusts everybody: it is this machine that it talks to, and what checking costs is not what is measured. The one
// cipher it offers is thereby what all servers use.
inline Context client_context() {
  Context context(SSL_CTX_new(TLS_client_method()));
  require(context != nullptr, "SSL_CTX_new");
  require(SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION) == 1, "set the lowest version");
  require(SSL_CTX_set_ciphersuites(context.get(), "TLS_AES_128_GCM_SHA256") == 1, "choose the cipher");
  require(SSL_CTX_set1_groups_list(context.get(), "X25519") == 1, "choose the group");
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_NONE, nullptr);
  SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_read_ahead(context.get(), 1);
  return context;
}

}  // namespace bench::tls
