// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What can go wrong with TLS, beside what can go wrong with any stream.

#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace bight::net {

/// Values of std::error_code, in a category of their own ("tls").
enum class TlsError {
  // The peer's certificate, or one that vouches for it, is not good.
  certificate_expired = 1,
  certificate_not_yet_valid,
  host_mismatch,         ///< it is somebody else's
  self_signed,           ///< it vouches for itself, and is not among the authorities
  unknown_authority,     ///< no authority that we know vouches for it
  certificate_revoked,   ///< a revocation list names it
  revocation_unknown,    ///< there is no valid revocation list of its authority
  certificate_invalid,   ///< any other reason: wrong purpose, bad signature, weak key
  certificate_required,  ///< a client that has to have one sent none

  // The two do not agree.
  no_shared_cipher,       ///< no cipher, curve or signature scheme that both have
  no_shared_version,      ///< no version of TLS that both have
  no_shared_application,  ///< no application protocol (ALPN) that both have
  name_not_served,        ///< TlsServerOptions::on_name has nothing for the name that the client asked for

  // What comes is not what it should be.
  http_request,    ///< plain HTTP where TLS should begin
  not_tls,         ///< something else that is no TLS
  protocol_error,  ///< a violation of the protocol, or data that were changed on their way

  // The end.
  truncated,          ///< the connection has ended without the peer's word that it does: data may be missing
  handshake_timeout,  ///< equals std::errc::timed_out
  shed,               ///< serve_tls: there were too many handshakes, and this one had waited longest

  // Making a TlsContext.
  bad_pem,       ///< no certificate, key or revocation list where one should be
  key_mismatch,  ///< the key is not the certificate's
  bad_option,    ///< a list of ciphers, groups or protocols that makes no sense

  /// Whatever else OpenSSL has to say; the text tells.
  failed,

  // Alerts: what the peer had to say against this side before it ended the connection (RFC 8446, 6.2). 256 and its
  // number; those that have no name here have a value all the same.
  alert_unexpected_message = 256 + 10,
  alert_bad_record_mac = 256 + 20,
  alert_handshake_failure = 256 + 40,
  alert_bad_certificate = 256 + 42,
  alert_unsupported_certificate = 256 + 43,
  alert_certificate_revoked = 256 + 44,
  alert_certificate_expired = 256 + 45,
  alert_certificate_unknown = 256 + 46,
  alert_illegal_parameter = 256 + 47,
  alert_unknown_ca = 256 + 48,
  alert_access_denied = 256 + 49,
  alert_decode_error = 256 + 50,
  alert_decrypt_error = 256 + 51,
  alert_protocol_version = 256 + 70,
  alert_insufficient_security = 256 + 71,
  alert_internal_error = 256 + 80,
  alert_user_canceled = 256 + 90,
  alert_missing_extension = 256 + 109,
  alert_unsupported_extension = 256 + 110,
  alert_unrecognized_name = 256 + 112,
  alert_certificate_required = 256 + 116,
  alert_no_application_protocol = 256 + 120,
};

[[nodiscard]] const std::error_category& tls_category() noexcept;
[[nodiscard]] inline std::error_code make_error_code(TlsError error) noexcept {
  return {static_cast<int>(error), tls_category()};
}
/// Whether it is an alert that the peer has sent.
[[nodiscard]] inline bool is_tls_alert(std::error_code error) noexcept {
  return error.category() == tls_category() && error.value() >= 256;
}

/// What the throwing forms throw. The text has all that is known: "TLS handshake with example.org (192.0.2.1:443):
/// certificate has expired: CN=example.org, valid until 2026-01-01".
class TlsFailure : public std::system_error {
 public:
  TlsFailure(std::error_code error, std::string text) : std::system_error(error), text_(std::move(text)) {}
  [[nodiscard]] const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

}  // namespace bight::net

template <>
struct std::is_error_code_enum<bight::net::TlsError> : std::true_type {};
