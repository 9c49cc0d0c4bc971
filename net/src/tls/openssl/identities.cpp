// SPDX-License-Identifier: Apache-2.0
// Which certificate a server shows to whom.

#include <algorithm>

#include "tls/openssl/settings.hpp"

namespace bight::net::detail {
namespace {

bool equal_without_case(std::string_view lower, std::string_view other) noexcept {
  return std::equal(lower.begin(), lower.end(), other.begin(), other.end(),
                    [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? static_cast<char>(b - 'A' + 'a') : b); });
}

bool use(SSL* ssl, const LoadedIdentity& identity) noexcept {
  STACK_OF(X509)* chain = sk_X509_new_null();
  if (chain == nullptr) return false;
  bool fine = true;
  for (const X509Ptr& each : identity.chain) fine = fine && sk_X509_push(chain, each.get()) > 0;
  // A second one for the same kind of key is for names that the first is not for: it would take its place.
  fine = fine && SSL_use_cert_and_key(ssl, identity.certificate.get(), identity.key.get(), chain, 0) == 1;
  sk_X509_free(chain);
  return fine;
}

}  // namespace

bool LoadedIdentity::is_for(std::string_view name) const noexcept {
  return std::any_of(names.begin(), names.end(), [name](std::string_view each) {
    if (!each.starts_with("*.")) return equal_without_case(each, name);
    const std::size_t dot = name.find('.');
    return dot != std::string_view::npos && dot > 0 && equal_without_case(each.substr(1), name.substr(dot));
  });
}

/// OpenSSL's, before it chooses a certificate: 1, go on; 0, an error.
int certificate_callback(SSL* ssl, void* /*argument*/) noexcept {
  const TlsSettings& settings = *settings_of(SSL_get_SSL_CTX(ssl));
  const char* asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (asked == nullptr) return 1;
  bool found = false;
  for (const LoadedIdentity& each : settings.identities) {
    if (!each.is_for(asked)) continue;
    if (!found) SSL_certs_clear(ssl);
    found = true;
    // One of a kind is enough; a client that can not use it may be able to use one of another kind.
    if (!use(ssl, each)) ERR_clear_error();
  }
  return 1;
}

}  // namespace bight::net::detail
