// SPDX-License-Identifier: Apache-2.0
#pragma once

// OpenSSL, for the sources in this folder alone, and owners of what it hands out.

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <bight/net/tls_stream.hpp>

namespace bight::net::detail {

template <auto Free>
struct FreedBy {
  template <class T>
  void operator()(T* what) const noexcept {
    Free(what);
  }
};

inline void free_general_names(GENERAL_NAMES* names) noexcept { GENERAL_NAMES_free(names); }

using SslContextPtr = std::unique_ptr<SSL_CTX, FreedBy<SSL_CTX_free>>;
using SslSessionPtr = std::unique_ptr<SSL_SESSION, FreedBy<SSL_SESSION_free>>;
using X509Ptr = std::unique_ptr<X509, FreedBy<X509_free>>;
using X509CrlPtr = std::unique_ptr<X509_CRL, FreedBy<X509_CRL_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, FreedBy<EVP_PKEY_free>>;
using BioPtr = std::unique_ptr<BIO, FreedBy<BIO_free_all>>;
using GeneralNamesPtr = std::unique_ptr<GENERAL_NAMES, FreedBy<free_general_names>>;

// --- Errors. OpenSSL keeps them in a queue for each thread, which fibers share: it is emptied before a call whose
// errors are to be told, and by whoever has read them.

/// The oldest error in the queue as words; empties it. "no more is known" if there is none.
[[nodiscard]] std::string drain_errors();

/// What an error of the queue is to us, with 0 for none.
[[nodiscard]] std::error_code classify_error(unsigned long error) noexcept;
/// X509_V_ERR_...
[[nodiscard]] std::error_code classify_verdict(int verdict) noexcept;

// --- Certificates

[[nodiscard]] std::string name_text(const X509_NAME* name);
/// "CN=example.org", or something else that it can be known by.
[[nodiscard]] std::string short_subject(const X509& certificate);
/// "2026-01-01"
[[nodiscard]] std::string day_text(const ASN1_TIME* time);
[[nodiscard]] TlsCertificate describe_certificate(const X509& certificate);
/// "a.example, 192.0.2.1"
[[nodiscard]] std::string names_text(const X509& certificate);

}  // namespace bight::net::detail
