// SPDX-License-Identifier: Apache-2.0
#include <bight/net/tls_error.hpp>

namespace bight::net {
namespace {

const char* alert_name(int number) noexcept {
  switch (number) {
    case 0: return "close_notify";
    case 10: return "unexpected_message";
    case 20: return "bad_record_mac";
    case 22: return "record_overflow";
    case 30: return "decompression_failure";
    case 40: return "handshake_failure";
    case 42: return "bad_certificate";
    case 43: return "unsupported_certificate";
    case 44: return "certificate_revoked";
    case 45: return "certificate_expired";
    case 46: return "certificate_unknown";
    case 47: return "illegal_parameter";
    case 48: return "unknown_ca";
    case 49: return "access_denied";
    case 50: return "decode_error";
    case 51: return "decrypt_error";
    case 70: return "protocol_version";
    case 71: return "insufficient_security";
    case 80: return "internal_error";
    case 86: return "inappropriate_fallback";
    case 90: return "user_canceled";
    case 100: return "no_renegotiation";
    case 109: return "missing_extension";
    case 110: return "unsupported_extension";
    case 111: return "certificate_unobtainable";
    case 112: return "unrecognized_name";
    case 113: return "bad_certificate_status_response";
    case 115: return "unknown_psk_identity";
    case 116: return "certificate_required";
    case 120: return "no_application_protocol";
    default: return nullptr;
  }
}

std::string alert_text(int number) {
  const char* name = alert_name(number);
  return "the peer has ended the connection with the alert " + (name != nullptr ? name : std::to_string(number));
}

const char* text_of(TlsError error) noexcept {
  switch (error) {
    case TlsError::certificate_expired: return "certificate has expired";
    case TlsError::certificate_not_yet_valid: return "certificate is not valid yet";
    case TlsError::host_mismatch: return "certificate is for somebody else";
    case TlsError::self_signed: return "certificate is self-signed";
    case TlsError::unknown_authority: return "certificate comes from an unknown authority";
    case TlsError::certificate_revoked: return "certificate has been revoked";
    case TlsError::revocation_unknown: return "nothing is known about whether the certificate has been revoked";
    case TlsError::certificate_invalid: return "certificate is not valid";
    case TlsError::certificate_required: return "the client has shown no certificate";
    case TlsError::no_shared_cipher: return "no cipher, curve or signature scheme that both sides have";
    case TlsError::no_shared_version: return "no version of TLS that both sides have";
    case TlsError::no_shared_application: return "no application protocol that both sides have";
    case TlsError::name_not_served: return "the client wants to reach another server";
    case TlsError::http_request: return "plain HTTP, and not TLS";
    case TlsError::not_tls: return "something else than TLS";
    case TlsError::protocol_error: return "the peer violates the protocol";
    case TlsError::truncated: return "the connection has ended without close_notify";
    case TlsError::handshake_timeout: return "the handshake has taken too long";
    case TlsError::shed: return "closed in favour of newer handshakes";
    case TlsError::bad_pem: return "not what it should be";
    case TlsError::key_mismatch: return "the key is not the certificate's";
    case TlsError::bad_option: return "an option that makes no sense";
    case TlsError::failed: return "OpenSSL has failed";
    default: return "unknown TLS error";
  }
}

class TlsCategory : public std::error_category {
 public:
  [[nodiscard]] const char* name() const noexcept override { return "tls"; }

  [[nodiscard]] std::string message(int value) const override {
    return value >= 256 ? alert_text(value - 256) : text_of(static_cast<TlsError>(value));
  }

  [[nodiscard]] std::error_condition default_error_condition(int value) const noexcept override {
    if (static_cast<TlsError>(value) == TlsError::handshake_timeout) return std::errc::timed_out;
    return {value, *this};
  }
};

}  // namespace

const std::error_category& tls_category() noexcept {
  static const TlsCategory category;
  return category;
}

}  // namespace bight::net
