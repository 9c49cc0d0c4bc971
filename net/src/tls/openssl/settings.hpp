// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include <bight/net/tls_context.hpp>

#include "tls/openssl/library.hpp"

namespace bight::net::detail {

/// What clients remember of servers: sessions, by whom they were with. The oldest go when there are too many. Any
/// thread.
class TlsSessions {
 public:
  explicit TlsSessions(std::size_t most) : most_(most) {}

  void put(const std::string& key, SslSessionPtr session);
  /// One of TLS 1.3 is given once: who sees a ticket twice knows that it is the same client.
  [[nodiscard]] SslSessionPtr take(const std::string& key);

 private:
  struct Entry {
    std::string key;
    std::deque<SslSessionPtr> sessions{};
  };
  using Entries = std::list<Entry>;

  std::mutex mutex_;
  std::size_t most_;
  Entries entries_;  // those used last at the front
  std::unordered_map<std::string_view, Entries::iterator> by_key_;
};

/// A certificate that was read, and for whom it is.
struct LoadedIdentity {
  X509Ptr certificate;
  std::vector<X509Ptr> chain;
  KeyPtr key;
  std::vector<std::string> names;  // in lower case; "*.example.org" stands for one label more

  [[nodiscard]] bool is_for(std::string_view name) const noexcept;
};

/// What a context is from one reload to the next. Never changes, so threads may share it.
struct TlsSettings {
  std::variant<TlsClientOptions, TlsServerOptions> options;
  SslContextPtr context;
  std::vector<LoadedIdentity> identities;  // a server's that has several
  std::vector<unsigned char> alpn;         // as on the wire
  TlsRevocation revocation = TlsRevocation::listed;
  std::unique_ptr<TlsSessions> sessions;  // a client's
  std::shared_ptr<TlsTickets> tickets;    // a server's

  [[nodiscard]] bool is_server() const noexcept { return std::holds_alternative<TlsServerOptions>(options); }
};

struct TlsShared {
  std::mutex mutex;
  std::shared_ptr<const TlsSettings> settings;
};

// --- Reading PEM. All throw TlsFailure that names `what` and where it should have been.

[[nodiscard]] std::string read_pem(const Pem& pem, std::string_view what);
[[nodiscard]] std::vector<X509Ptr> read_certificates(const Pem& pem, std::string_view what);
[[nodiscard]] std::vector<X509CrlPtr> read_revocation_lists(const Pem& pem);
[[nodiscard]] LoadedIdentity read_identity(const TlsIdentity& identity);

/// Has the server's connections seal their tickets with these.
void use_tickets(SSL_CTX& context);

/// The engine that a connection of OpenSSL's belongs to.
[[nodiscard]] TlsEngine* engine_of(const SSL* ssl) noexcept;
/// The settings that were made into a context of OpenSSL's.
[[nodiscard]] const TlsSettings* settings_of(const SSL_CTX* context) noexcept;

// OpenSSL's call-backs, as it wants them: engine.cpp, identities.cpp.
int verify_callback(int fine, X509_STORE_CTX* store) noexcept;
int client_hello_callback(SSL* ssl, int* alert, void* argument) noexcept;
int certificate_callback(SSL* ssl, void* argument) noexcept;

}  // namespace bight::net::detail
