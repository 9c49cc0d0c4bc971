// SPDX-License-Identifier: Apache-2.0
#include "tls/openssl/settings.hpp"

#include <algorithm>
#include <array>

#include <bight/check.hpp>

#include "tls/engine.hpp"

namespace bight::net::detail {
namespace {

// Forward secrecy and authenticated encryption, or nothing.
constexpr const char* kCiphers = "ECDHE+AESGCM:ECDHE+CHACHA20";

[[noreturn]] void refuse(TlsError error, const std::string& what) {
  throw TlsFailure(error, what + ": " + drain_errors());
}

[[noreturn]] void refuse_option(const std::string& what, const std::string& why) {
  throw TlsFailure(TlsError::bad_option, "make a TLS context with " + what + ": " + why);
}

int settings_index() noexcept {
  static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

int native_version(TlsVersion version) noexcept {
  return version == TlsVersion::tls_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION;
}

void set_protocol(SSL_CTX& context, const TlsProtocolOptions& options) {
  if (options.version_min > options.version_max) refuse_option("version_min above version_max", "there is none");
  const auto check = [](bool fine, const char* what, const std::string& value) {
    if (!fine) refuse_option(std::string(what) + " '" + value + "'", drain_errors());
  };
  SSL_CTX_set_min_proto_version(&context, native_version(options.version_min));
  SSL_CTX_set_max_proto_version(&context, native_version(options.version_max));
  SSL_CTX_set_options(&context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                    SSL_OP_PRIORITIZE_CHACHA);
  // An idle connection holds no buffers, but see keeps_buffers(); see the decision on memory BIOs, too.
  SSL_CTX_set_mode(&context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
  SSL_CTX_set_read_ahead(&context, 0);  // what has not been asked for stays with us
  const std::string ciphers = options.ciphers.empty() ? kCiphers : options.ciphers;
  check(SSL_CTX_set_cipher_list(&context, ciphers.c_str()) == 1, "ciphers", ciphers);
  if (!options.cipher_suites.empty()) {
    check(SSL_CTX_set_ciphersuites(&context, options.cipher_suites.c_str()) == 1, "cipher_suites",
          options.cipher_suites);
  }
  if (!options.groups.empty()) {
    check(SSL_CTX_set1_groups_list(&context, options.groups.c_str()) == 1, "groups", options.groups);
  }
}

std::vector<unsigned char> alpn_wire(const std::vector<std::string>& names) {
  std::vector<unsigned char> wire;
  for (const std::string& each : names) {
    if (each.empty() || each.size() > 255) refuse_option("ALPN '" + each + "'", "a name has 1 to 255 bytes");
    wire.push_back(static_cast<unsigned char>(each.size()));
    wire.insert(wire.end(), each.begin(), each.end());
  }
  return wire;
}

/// Whom to trust.
void set_authorities(SSL_CTX& context, bool system, const Pem& authorities, const Pem& lists) {
  X509_STORE* store = SSL_CTX_get_cert_store(&context);
  if (system && SSL_CTX_set_default_verify_paths(&context) != 1) {
    refuse(TlsError::failed, "read the system's certificate authorities");
  }
  if (!authorities.empty()) {
    for (const X509Ptr& each : read_certificates(authorities, "the authorities")) {
      if (X509_STORE_add_cert(store, each.get()) != 1) refuse(TlsError::bad_pem, "trust " + short_subject(*each));
    }
  }
  // An authority that is trusted need not be a root.
  X509_VERIFY_PARAM* parameters = SSL_CTX_get0_param(&context);
  X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_PARTIAL_CHAIN);
  if (lists.empty()) return;
  for (const X509CrlPtr& each : read_revocation_lists(lists)) {
    if (X509_STORE_add_crl(store, each.get()) != 1) refuse(TlsError::bad_pem, "use a revocation list");
  }
  X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
}

void use_identity(SSL_CTX& context, const LoadedIdentity& identity) {
  const std::string what = "use the certificate of " + short_subject(*identity.certificate);
  if (SSL_CTX_use_certificate(&context, identity.certificate.get()) != 1 ||
      SSL_CTX_use_PrivateKey(&context, identity.key.get()) != 1) {
    refuse(TlsError::bad_pem, what);
  }
  for (const X509Ptr& each : identity.chain) {
    if (SSL_CTX_add1_chain_cert(&context, each.get()) != 1) refuse(TlsError::bad_pem, what);
  }
  // Only what was given: never certificates of authorities that happen to be trusted.
  SSL_CTX_set_mode(&context, SSL_MODE_NO_AUTO_CHAIN);
}

/// OpenSSL's: a client may have been given a session to remember.
int session_callback(SSL* ssl, SSL_SESSION* session) noexcept try {
  SslSessionPtr owned(session);
  const TlsEngine* engine = engine_of(ssl);
  if (engine == nullptr || SSL_SESSION_is_resumable(session) == 0) return static_cast<void>(owned.release()), 0;
  engine->settings().sessions->put(engine->session_key(), std::move(owned));
  return 1;
} catch (...) {
  return 1;  // no memory: it has gone with its owner
}

int alpn_callback(SSL* /*ssl*/, const unsigned char** chosen, unsigned char* size, const unsigned char* offered,
                  unsigned offered_size, void* argument) noexcept {
  const auto& ours = static_cast<const TlsSettings*>(argument)->alpn;
  unsigned char* found = nullptr;
  const int how =
      SSL_select_next_proto(&found, size, ours.data(), static_cast<unsigned>(ours.size()), offered, offered_size);
  *chosen = found;
  return how == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

std::shared_ptr<TlsSettings> begin(const SSL_METHOD* method) {
  ERR_clear_error();
  auto settings = std::make_shared<TlsSettings>();
  settings->context.reset(SSL_CTX_new(method));
  if (settings->context == nullptr) refuse(TlsError::failed, "make a TLS context");
  SSL_CTX_set_ex_data(settings->context.get(), settings_index(), settings.get());
  return settings;
}

std::shared_ptr<const TlsSettings> make_client(const TlsClientOptions& options) {
  const auto settings = begin(TLS_client_method());
  SSL_CTX& context = *settings->context;
  settings->options = options;
  settings->alpn = alpn_wire(options.alpn);
  settings->revocation = options.revocation;
  set_protocol(context, options.protocol);
  set_authorities(context, options.system_authorities, options.authorities, options.revocation_lists);
  SSL_CTX_set_verify(&context, options.dangerously_accept_any_certificate ? SSL_VERIFY_NONE : SSL_VERIFY_PEER,
                     verify_callback);
  if (options.identity) use_identity(context, read_identity(*options.identity));
  if (!settings->alpn.empty() &&
      SSL_CTX_set_alpn_protos(&context, settings->alpn.data(), static_cast<unsigned>(settings->alpn.size())) != 0) {
    refuse(TlsError::bad_option, "use ALPN");
  }
  settings->sessions = std::make_unique<TlsSessions>(options.sessions_max);
  if (options.sessions_max > 0) {
    SSL_CTX_set_session_cache_mode(&context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(&context, session_callback);
  } else {
    SSL_CTX_set_session_cache_mode(&context, SSL_SESS_CACHE_OFF);
  }
  return settings;
}

void set_client_certificates(SSL_CTX& context, const TlsServerOptions& options) {
  if (options.client_certificate == TlsClientCertificate::none) return;
  if (options.client_authorities.empty()) refuse_option("client certificates", "client_authorities are missing");
  set_authorities(context, false, options.client_authorities, options.revocation_lists);
  for (const X509Ptr& each : read_certificates(options.client_authorities, "the authorities")) {
    if (SSL_CTX_add_client_CA(&context, each.get()) != 1) refuse(TlsError::bad_pem, "name an authority to clients");
  }
  const int mode = options.client_certificate == TlsClientCertificate::required
                       ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
                       : SSL_VERIFY_PEER;
  SSL_CTX_set_verify(&context, mode, verify_callback);
}

/// A ticket is good only where what has been asked of clients is the same: it stands for having passed that.
void set_session_scope(SSL_CTX& context, const TlsServerOptions& options) {
  std::string demands = std::to_string(static_cast<int>(options.client_certificate));
  if (options.client_certificate != TlsClientCertificate::none) {
    demands +=
        std::to_string(static_cast<int>(options.revocation)) + read_pem(options.client_authorities, "the authorities");
    if (!options.revocation_lists.empty()) demands += read_pem(options.revocation_lists, "the revocation list");
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (EVP_Digest(demands.data(), demands.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1 ||
      SSL_CTX_set_session_id_context(&context, digest.data(), std::min<unsigned>(size, SSL_MAX_SID_CTX_LENGTH)) != 1) {
    refuse(TlsError::failed, "make a TLS context");
  }
}

std::shared_ptr<const TlsSettings> make_server(const TlsServerOptions& options,
                                               const std::shared_ptr<TlsTickets>& former_tickets) {
  const auto settings = begin(TLS_server_method());
  SSL_CTX& context = *settings->context;
  settings->options = options;
  settings->alpn = alpn_wire(options.alpn);
  settings->revocation = options.revocation;
  if (options.identities.empty() && !options.on_name) refuse_option("no identities", "a server has to have one");
  set_protocol(context, options.protocol);
  for (const TlsIdentity& each : options.identities) settings->identities.push_back(read_identity(each));
  if (!settings->identities.empty()) use_identity(context, settings->identities.front());
  if (settings->identities.size() > 1) SSL_CTX_set_cert_cb(&context, certificate_callback, nullptr);
  set_client_certificates(context, options);
  set_session_scope(context, options);
  if (!settings->alpn.empty()) SSL_CTX_set_alpn_select_cb(&context, alpn_callback, settings.get());
  if (options.on_name || options.alpn_required) {
    SSL_CTX_set_client_hello_cb(&context, client_hello_callback, nullptr);
  }
  SSL_CTX_set_session_cache_mode(&context, SSL_SESS_CACHE_OFF);  // tickets need none
  settings->tickets = options.ticket_keys ? options.ticket_keys->state()
                      : former_tickets    ? former_tickets
                                          : TlsTicketKeys().state();
  use_tickets(context);  // also without resumption: a context that on_name chooses may have it
  if (!options.resumption) {
    SSL_CTX_set_options(&context, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(&context, 0);
  }
  return settings;
}

std::shared_ptr<const TlsSettings> make_again(const TlsSettings& old) {
  if (const auto* client = std::get_if<TlsClientOptions>(&old.options)) return make_client(*client);
  return make_server(std::get<TlsServerOptions>(old.options), old.tickets);
}

template <class F>
auto as_code(std::error_code& error, F&& f) {
  try {
    error.clear();
    return f();
  } catch (const std::system_error& failure) {
    error = failure.code();
  } catch (const std::bad_alloc&) {
    error = std::make_error_code(std::errc::not_enough_memory);
  }
  return decltype(f())();
}

}  // namespace

const TlsSettings* settings_of(const SSL_CTX* context) noexcept {
  return static_cast<const TlsSettings*>(SSL_CTX_get_ex_data(context, settings_index()));
}

std::shared_ptr<const TlsSettings> current_settings(const TlsContext& context) {
  TlsShared& shared = *context.shared();
  const std::lock_guard lock(shared.mutex);
  return shared.settings;
}

bool is_server(const TlsSettings& settings) noexcept { return settings.is_server(); }

const TlsServerOptions* server_options(const TlsSettings& settings) noexcept {
  return std::get_if<TlsServerOptions>(&settings.options);
}

}  // namespace bight::net::detail

namespace bight::net {
namespace {

std::shared_ptr<detail::TlsShared> share(std::shared_ptr<const detail::TlsSettings> settings) {
  auto shared = std::make_shared<detail::TlsShared>();
  shared->settings = std::move(settings);
  return shared;
}

void replace(detail::TlsShared& shared, std::shared_ptr<const detail::TlsSettings> settings) {
  const std::lock_guard lock(shared.mutex);
  shared.settings.swap(settings);
}

}  // namespace

std::string_view to_string(TlsVersion version) noexcept {
  return version == TlsVersion::tls_1_2 ? "TLSv1.2" : "TLSv1.3";
}

TlsContext TlsContext::client(const TlsClientOptions& options) {
  return TlsContext(share(detail::make_client(options)));
}

TlsContext TlsContext::client(const TlsClientOptions& options, std::error_code& error) {
  return TlsContext(detail::as_code(error, [&] { return share(detail::make_client(options)); }));
}

TlsContext TlsContext::server(const TlsServerOptions& options) {
  return TlsContext(share(detail::make_server(options, nullptr)));
}

TlsContext TlsContext::server(const TlsServerOptions& options, std::error_code& error) {
  return TlsContext(detail::as_code(error, [&] { return share(detail::make_server(options, nullptr)); }));
}

const TlsContext& TlsContext::default_client() {
  static const TlsContext context = client();
  return context;
}

void TlsContext::reload() { replace(*shared_, detail::make_again(*detail::current_settings(*this))); }

void TlsContext::reload(std::error_code& error) {
  detail::as_code(error, [this] {
    reload();
    return true;
  });
}

void TlsContext::reload(const TlsClientOptions& options) {
  BIGHT_CHECK(!is_server(), "a server's TlsContext can not become a client's");
  replace(*shared_, detail::make_client(options));
}

void TlsContext::reload(const TlsServerOptions& options) {
  BIGHT_CHECK(is_server(), "a client's TlsContext can not become a server's");
  replace(*shared_, detail::make_server(options, detail::current_settings(*this)->tickets));
}

bool TlsContext::is_server() const noexcept { return detail::current_settings(*this)->is_server(); }

}  // namespace bight::net
