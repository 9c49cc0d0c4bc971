// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What TLS connections have in common: certificates, keys, whom to trust, and what was agreed on before.

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <bight/net/tls_error.hpp>

namespace bight::net {

namespace detail {
struct TlsShared;
struct TlsTickets;
class TlsEngine;
}  // namespace detail

/// Certificates, keys or revocation lists in PEM: a text, or a file, which is read when a context is made and at each
/// reload(). May hold several.
class Pem {
 public:
  Pem() = default;  ///< nothing
  [[nodiscard]] static Pem text(std::string pem) { return {std::move(pem), false}; }
  [[nodiscard]] static Pem file(const std::filesystem::path& path) { return {path.string(), true}; }

  [[nodiscard]] bool empty() const noexcept { return value_.empty(); }
  [[nodiscard]] bool is_file() const noexcept { return is_file_; }
  /// The text, or the file's name.
  [[nodiscard]] const std::string& value() const noexcept { return value_; }

 private:
  Pem(std::string value, bool is_file) : value_(std::move(value)), is_file_(is_file) {}

  std::string value_;
  bool is_file_ = false;
};

/// Who one is: a certificate, and the key to prove it with.
struct TlsIdentity {
  Pem certificate{};       ///< one's own first, then those between it and the authority
  Pem key{};               ///< empty: in the same PEM as the certificate
  std::string password{};  ///< of the key, if it has one
};

enum class TlsVersion : unsigned char { tls_1_2, tls_1_3 };

/// "TLSv1.3"
[[nodiscard]] std::string_view to_string(TlsVersion version) noexcept;

/// Which certificates have to be on a valid revocation list of their authority's, if lists are given.
enum class TlsRevocation : unsigned char {
  listed,   ///< those whose authority has a list among them; of others nothing is known, and they pass
  required  ///< all but the root
};

/// What both sides can be told. The defaults are those to have: change them for peers that can not be changed.
struct TlsProtocolOptions {
  TlsVersion version_min = TlsVersion::tls_1_2;
  TlsVersion version_max = TlsVersion::tls_1_3;
  std::string ciphers{};        ///< of TLS 1.2, ciphers(1); empty: those with forward secrecy and authentication (AEAD)
  std::string cipher_suites{};  ///< of TLS 1.3; empty: all
  std::string groups{};         ///< for the key exchange, as "X25519:P-256"; empty: OpenSSL's
};

struct TlsClientOptions {
  /// Trust whom the system trusts. Off: only `authorities`. SSL_CERT_FILE and SSL_CERT_DIR tell where the system's are.
  bool system_authorities = true;
  Pem authorities{};  ///< to be trusted besides
  Pem revocation_lists{};
  TlsRevocation revocation = TlsRevocation::listed;
  /// Talk to whoever answers, whatever the certificate: who stands in between reads and changes everything, unnoticed.
  /// For tools that look at certificates themselves.
  bool dangerously_accept_any_certificate = false;

  std::optional<TlsIdentity> identity{};  ///< to show servers that ask
  std::vector<std::string> alpn{};        ///< application protocols ("h2", "http/1.1"), the preferred first
  std::size_t sessions_max = 1024;        ///< remembered, to shorten later handshakes with the same servers; 0: none
  TlsProtocolOptions protocol{};
};

struct TlsTicketOptions {
  /// A new key so often; tickets of a key are good for as long again, and are renewed when they are used.
  std::chrono::seconds rotation = std::chrono::hours(12);
};

/// The keys that session tickets are sealed with: who has them can read the tickets of every connection. A handle,
/// cheap to copy; any thread. They change with the time of day, in every process that has had them by fork the same
/// way, and old ones can not be found from new ones.
class TlsTicketKeys {
 public:
  /// Random ones. To be made before fork for processes that are to know each other's tickets (shards).
  explicit TlsTicketKeys(const TlsTicketOptions& options = {});
  /// For several machines, or a program that is to know the tickets of its predecessor: the same from the same secret,
  /// of 32 bytes at least. Who learns it can read old tickets, too. Throws std::system_error with invalid_argument.
  [[nodiscard]] static TlsTicketKeys from_secret(std::span<const std::byte> secret,
                                                 const TlsTicketOptions& options = {});

  /// On to the next key now, in this process alone.
  void rotate();

  [[nodiscard]] const std::shared_ptr<detail::TlsTickets>& state() const noexcept { return tickets_; }

 private:
  explicit TlsTicketKeys(std::shared_ptr<detail::TlsTickets> tickets) noexcept : tickets_(std::move(tickets)) {}

  std::shared_ptr<detail::TlsTickets> tickets_;
};

/// Whether clients have to show a certificate.
enum class TlsClientCertificate : unsigned char {
  none,       ///< they are not asked
  requested,  ///< they may; a bad one ends the handshake
  required,
};

struct TlsServerOptions;

/// A client's or a server's settings, with the certificates and keys read: cheap to copy (copies are the same context),
/// to be used by any number of connections, loops and threads, and in forked processes. Making one reads files, and
/// blocks the thread for that: a millisecond or so.
///
/// TLS 1.2 and 1.3, without compression, renegotiation and early data (0-RTT); clients check certificates and names.
class TlsContext {
 public:
  /// Throws TlsFailure, with bad_pem, key_mismatch, bad_option, or the error of reading a file.
  [[nodiscard]] static TlsContext client(const TlsClientOptions& options = {});
  [[nodiscard]] static TlsContext client(const TlsClientOptions& options, std::error_code& error);
  [[nodiscard]] static TlsContext server(const TlsServerOptions& options);
  [[nodiscard]] static TlsContext server(const TlsServerOptions& options, std::error_code& error);
  /// A client's with the default options: one for the whole process, made when it is first asked for. Throws.
  [[nodiscard]] static const TlsContext& default_client();

  /// Reads the files again: new certificates without a restart. Handshakes that begin from now on see the new ones, in
  /// all copies of the context; connections stay as they are, and tickets good. Any thread. Throws what making it
  /// throws, and then everything stays as it was.
  void reload();
  void reload(std::error_code& error);
  /// The same with other options. A client's stays a client's.
  void reload(const TlsClientOptions& options);
  void reload(const TlsServerOptions& options);

  [[nodiscard]] bool is_server() const noexcept;

  [[nodiscard]] const std::shared_ptr<detail::TlsShared>& shared() const noexcept { return shared_; }

 private:
  explicit TlsContext(std::shared_ptr<detail::TlsShared> shared) noexcept : shared_(std::move(shared)) {}

  std::shared_ptr<detail::TlsShared> shared_;
};

struct TlsServerOptions {
  /// Clients that name a server get a certificate for that name (of several, one that they can use); others, and for
  /// names that no certificate is for, the first.
  std::vector<TlsIdentity> identities{};
  /// Asked first, with the name that a client wants to reach, empty if it tells none: a context whose certificates and
  /// protocol settings to go on with, or nothing for this one's. May wait. What it throws ends the handshake; a
  /// TlsFailure with name_not_served sends the alert that says so.
  std::function<std::optional<TlsContext>(std::string_view name)> on_name{};

  TlsClientCertificate client_certificate = TlsClientCertificate::none;
  Pem client_authorities{};  ///< who may vouch for clients; the system's authorities never do
  Pem revocation_lists{};
  TlsRevocation revocation = TlsRevocation::listed;

  std::vector<std::string> alpn{};  ///< application protocols, the preferred first
  /// End the handshake with clients that know none of `alpn` or tell none. Off: only with those that tell some, and
  /// none of them.
  bool alpn_required = false;
  bool resumption = true;                      ///< give clients tickets, which shorten their later handshakes
  std::optional<TlsTicketKeys> ticket_keys{};  ///< empty: of this context's own
  TlsProtocolOptions protocol{};
};

}  // namespace bight::net
