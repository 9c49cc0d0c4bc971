// SPDX-License-Identifier: Apache-2.0
#include "tls/openssl/library.hpp"

namespace bight::net::detail {
namespace {

/// The errors of OpenSSL's that have a name here. 0: it has none.
TlsError known_reason(int reason) noexcept {
  switch (reason) {
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SHARED_GROUPS:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SUITABLE_GROUPS:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
    case SSL_R_NO_CIPHERS_AVAILABLE:
    case SSL_R_WRONG_CIPHER_RETURNED:
    case SSL_R_UNKNOWN_CIPHER_RETURNED: return TlsError::no_shared_cipher;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_UNSUPPORTED_SSL_VERSION:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_VERSION_TOO_HIGH:
    case SSL_R_UNKNOWN_PROTOCOL:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
    case SSL_R_WRONG_SSL_VERSION: return TlsError::no_shared_version;
    case SSL_R_NO_APPLICATION_PROTOCOL: return TlsError::no_shared_application;
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST: return TlsError::http_request;
    case SSL_R_WRONG_VERSION_NUMBER: return TlsError::not_tls;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return TlsError::certificate_required;
    case SSL_R_CERTIFICATE_VERIFY_FAILED: return TlsError::certificate_invalid;
    case SSL_R_UNEXPECTED_EOF_WHILE_READING: return TlsError::truncated;
    default: return TlsError{};
  }
}

}  // namespace

std::string drain_errors() {
  const unsigned long error = ERR_get_error();
  ERR_clear_error();
  if (error == 0) return "no more is known";
  if (const char* reason = ERR_reason_error_string(error)) return reason;
  return "OpenSSL's error " + std::to_string(error);
}

std::error_code classify_error(unsigned long error) noexcept {
  if (error == 0) return TlsError::failed;
  if (ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE) return std::make_error_code(std::errc::not_enough_memory);
  if (ERR_GET_LIB(error) != ERR_LIB_SSL) return TlsError::failed;
  const int reason = ERR_GET_REASON(error);
  // An alert that was received; above those are reasons again.
  if (reason >= SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256) {
    return static_cast<TlsError>(256 + reason - SSL_AD_REASON_OFFSET);
  }
  const TlsError known = known_reason(reason);
  return known != TlsError{} ? known : TlsError::protocol_error;
}

std::error_code classify_verdict(int verdict) noexcept {
  switch (verdict) {
    case X509_V_ERR_CERT_HAS_EXPIRED: return TlsError::certificate_expired;
    case X509_V_ERR_CERT_NOT_YET_VALID: return TlsError::certificate_not_yet_valid;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH: return TlsError::host_mismatch;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT: return TlsError::self_signed;
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_UNTRUSTED: return TlsError::unknown_authority;
    case X509_V_ERR_CERT_REVOKED: return TlsError::certificate_revoked;
    case X509_V_ERR_UNABLE_TO_GET_CRL:
    case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
    case X509_V_ERR_CRL_NOT_YET_VALID:
    case X509_V_ERR_CRL_HAS_EXPIRED:
    case X509_V_ERR_CRL_SIGNATURE_FAILURE:
    case X509_V_ERR_KEYUSAGE_NO_CRL_SIGN:
    case X509_V_ERR_DIFFERENT_CRL_SCOPE:
    case X509_V_ERR_CRL_PATH_VALIDATION_ERROR: return TlsError::revocation_unknown;
    case X509_V_ERR_OUT_OF_MEM: return std::make_error_code(std::errc::not_enough_memory);
    default: return TlsError::certificate_invalid;
  }
}

}  // namespace bight::net::detail
