// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include <openssl/pem.h>

#include "tls/openssl/settings.hpp"

namespace bight::net::detail {
namespace {

std::string place_of(const Pem& pem, std::string_view what) {
  return std::string(what) + (pem.is_file() ? " in " + pem.value() : " given");
}

BioPtr memory_of(const std::string& text) {
  BioPtr memory(BIO_new_mem_buf(text.data(), static_cast<int>(std::min<std::size_t>(text.size(), INT32_MAX))));
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

/// In place of OpenSSL's own, which would ask at the terminal.
int give_password(char* into, int size, int /*writing*/, void* password) noexcept {
  if (password == nullptr) return -1;
  const auto& text = *static_cast<const std::string*>(password);
  if (text.empty() || text.size() > static_cast<std::size_t>(size)) return -1;
  std::memcpy(into, text.data(), text.size());
  return static_cast<int>(text.size());
}

/// Everything of a kind that `text` has. OpenSSL's readers skip what is of another kind.
template <class Owner, class Read>
std::vector<Owner> read_all(const Pem& pem, std::string_view what, Read read) {
  const std::string text = read_pem(pem, what);
  const BioPtr memory = memory_of(text);
  std::vector<Owner> all;
  ERR_clear_error();
  for (;;) {
    Owner next(read(memory.get()));
    if (next == nullptr) break;
    all.push_back(std::move(next));
  }
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  const std::string why = drain_errors();
  if (!at_end || all.empty()) {
    const std::string said = at_end ? "there is none" : why;
    throw TlsFailure(TlsError::bad_pem, "read " + place_of(pem, what) + ": " + said);
  }
  return all;
}

std::string lower_case(std::string text) {
  for (char& each : text) {
    if (each >= 'A' && each <= 'Z') each = static_cast<char>(each - 'A' + 'a');
  }
  return text;
}

KeyPtr read_key(const Pem& pem, const std::string& password) {
  const std::string text = read_pem(pem, "the private key");
  const BioPtr memory = memory_of(text);
  ERR_clear_error();
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): OpenSSL's call-backs take what is not to be changed so
  KeyPtr key(PEM_read_bio_PrivateKey(memory.get(), nullptr, give_password, const_cast<std::string*>(&password)));
  if (key != nullptr) return key;
  const bool none = text.find("PRIVATE KEY-----") == std::string::npos;
  const bool locked = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_BAD_PASSWORD_READ && password.empty();
  const std::string why = drain_errors();
  throw TlsFailure(TlsError::bad_pem, "read " + place_of(pem, "the private key") + ": " +
                                          (none     ? "there is none"
                                           : locked ? "it is encrypted, and no password was given"
                                                    : why));
}

}  // namespace

std::string read_pem(const Pem& pem, std::string_view what) {
  if (!pem.is_file()) return pem.value();
  errno = 0;
  std::ifstream file(pem.value(), std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file || file.bad()) {
    const std::error_code error(errno != 0 ? errno : EIO, std::generic_category());
    throw TlsFailure(error, "read " + place_of(pem, what) + ": " + error.message());
  }
  return std::move(text).str();
}

std::vector<X509Ptr> read_certificates(const Pem& pem, std::string_view what) {
  return read_all<X509Ptr>(pem, what,
                           [](BIO* from) { return PEM_read_bio_X509_AUX(from, nullptr, give_password, nullptr); });
}

std::vector<X509CrlPtr> read_revocation_lists(const Pem& pem) {
  return read_all<X509CrlPtr>(pem, "the revocation list",
                              [](BIO* from) { return PEM_read_bio_X509_CRL(from, nullptr, give_password, nullptr); });
}

LoadedIdentity read_identity(const TlsIdentity& identity) {
  LoadedIdentity loaded;
  loaded.chain = read_certificates(identity.certificate, "the certificate");
  loaded.certificate = std::move(loaded.chain.front());
  loaded.chain.erase(loaded.chain.begin());
  const Pem& key = identity.key.empty() ? identity.certificate : identity.key;
  loaded.key = read_key(key, identity.password);
  if (X509_check_private_key(loaded.certificate.get(), loaded.key.get()) != 1) {
    ERR_clear_error();
    throw TlsFailure(TlsError::key_mismatch, "use " + place_of(key, "the private key") + ": it is not that of " +
                                                 place_of(identity.certificate, "the certificate") + ", " +
                                                 short_subject(*loaded.certificate));
  }
  for (const std::string& each : describe_certificate(*loaded.certificate).dns_names) {
    loaded.names.push_back(lower_case(each));
  }
  return loaded;
}

}  // namespace bight::net::detail
