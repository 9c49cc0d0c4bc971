// SPDX-License-Identifier: Apache-2.0
#include "test_certificates.hpp"

#include <atomic>
#include <stdexcept>
#include <string_view>
#include <utility>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

namespace bight::test {
namespace {

template <class T, void (*free_it)(T*)>
struct Free {
  void operator()(T* it) const { free_it(it); }
};
template <class T, void (*free_it)(T*)>
using Owned = std::unique_ptr<T, Free<T, free_it>>;

using Key = Owned<EVP_PKEY, EVP_PKEY_free>;
using X509Pointer = Owned<X509, X509_free>;
using List = Owned<X509_CRL, X509_CRL_free>;
using Extension = Owned<X509_EXTENSION, X509_EXTENSION_free>;
using Time = Owned<ASN1_TIME, ASN1_STRING_free>;

constexpr long kVersion3 = 2;
constexpr long kListVersion2 = 1;

void require(bool good, const char* attempt) {
  if (good) return;
  char text[256] = "";
  ERR_error_string_n(ERR_get_error(), text, sizeof text);
  throw std::runtime_error(std::string(attempt) + ": " + text);
}

template <class Pointer>
Pointer require_made(Pointer made, const char* attempt) {
  require(made != nullptr, attempt);
  return made;
}

Key new_key(bool rsa) { return Key(require_made(rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256"), "make a key")); }

template <class Write>
std::string to_pem(const Write& write) {
  struct CloseBio {
    void operator()(BIO* bio) const { BIO_free(bio); }
  };
  const std::unique_ptr<BIO, CloseBio> memory(BIO_new(BIO_s_mem()));
  require(memory != nullptr && write(memory.get()) == 1, "write PEM");
  char* text = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &text);
  return {text, static_cast<std::size_t>(size)};
}

std::string pem_of(X509* certificate) {
  return to_pem([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate); });
}

std::string pem_of(EVP_PKEY* key) {
  return to_pem([&](BIO* bio) { return PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr); });
}

void name_subject(X509* certificate, const std::string& common_name) {
  const auto* text = reinterpret_cast<const unsigned char*>(common_name.c_str());
  require(X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_UTF8, text, -1, -1, 0) == 1,
          "name the subject");
}

void extend(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Extension extension(require_made(X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str()), value.c_str()));
  require(X509_add_ext(certificate, extension.get(), -1) == 1, value.c_str());
}

std::string alternative_names(const CertificateRequest& request) {
  std::string list;
  for (const auto& name : request.dns_names) list += (list.empty() ? "DNS:" : ",DNS:") + name;
  for (const auto& address : request.addresses) list += (list.empty() ? "IP:" : ",IP:") + address;
  return list;
}

void set_day(ASN1_TIME* time, std::chrono::days from_now) {
  require(X509_time_adj_ex(time, static_cast<int>(from_now.count()), 0, nullptr) != nullptr, "set a date");
}

// Without signature, for the extensions that name the issuer want its certificate.
X509Pointer new_certificate(const CertificateRequest& request, EVP_PKEY* key) {
  static std::atomic<long> serial = 1000;  // no two of a process are alike, whoever issues them
  X509Pointer made(require_made(X509_new(), "make a certificate"));
  require(X509_set_version(made.get(), kVersion3) == 1, "set the version");
  require(ASN1_INTEGER_set(X509_get_serialNumber(made.get()), ++serial) == 1, "set the serial number");
  set_day(X509_getm_notBefore(made.get()), request.valid_from);
  set_day(X509_getm_notAfter(made.get()), request.valid_to);
  name_subject(made.get(), request.common_name);
  require(X509_set_pubkey(made.get(), key) == 1, "set the public key");
  return made;
}

void sign(X509* certificate, X509* issuer, EVP_PKEY* issuer_key) {
  require(X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) == 1, "name the issuer");
  extend(certificate, issuer, NID_subject_key_identifier, "hash");
  if (certificate != issuer) extend(certificate, issuer, NID_authority_key_identifier, "keyid");
  require(X509_sign(certificate, issuer_key, EVP_sha256()) > 0, "sign a certificate");
}

void make_authority(X509* certificate) {
  extend(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE");
  extend(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign");
}

void make_leaf(X509* certificate, const CertificateRequest& request) {
  extend(certificate, certificate, NID_basic_constraints, "critical,CA:FALSE");
  extend(certificate, certificate, NID_key_usage, "critical,digitalSignature,keyEncipherment");
  extend(certificate, certificate, NID_ext_key_usage, request.client ? "clientAuth" : "serverAuth");
  if (const auto names = alternative_names(request); !names.empty()) {
    extend(certificate, certificate, NID_subject_alt_name, names);
  }
}

CertificateRequest authority_request(const std::string& common_name) {
  CertificateRequest request;
  request.common_name = common_name;
  request.valid_from = std::chrono::days(-3650);  // before any leaf, also one that expired long ago
  request.valid_to = std::chrono::days(3650);
  return request;
}

X509Pointer parse(const std::string& pem) {
  const Owned<BIO, BIO_free_all> memory(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return X509Pointer(require_made(PEM_read_bio_X509(memory.get(), nullptr, nullptr, nullptr), "read a certificate"));
}

}  // namespace

struct TestAuthority::Identity {
  Key key;
  X509Pointer certificate;
  std::string chain;  // what leaves carry along: nothing of a root
};

TestAuthority::TestAuthority(const std::string& common_name) {
  auto identity = std::make_shared<Identity>();
  identity->key = new_key(false);
  identity->certificate = new_certificate(authority_request(common_name), identity->key.get());
  make_authority(identity->certificate.get());
  sign(identity->certificate.get(), identity->certificate.get(), identity->key.get());
  identity_ = std::move(identity);
}

TestAuthority::TestAuthority(std::shared_ptr<const Identity> identity) : identity_(std::move(identity)) {}

std::string TestAuthority::pem() const { return pem_of(identity_->certificate.get()); }

Certificate TestAuthority::issue(const CertificateRequest& request) const {
  const Key key = new_key(request.rsa);
  const X509Pointer made = new_certificate(request, key.get());
  make_leaf(made.get(), request);
  sign(made.get(), identity_->certificate.get(), identity_->key.get());
  return {pem_of(made.get()) + identity_->chain, pem_of(key.get())};
}

TestAuthority TestAuthority::intermediate(const std::string& common_name) const {
  auto identity = std::make_shared<Identity>();
  identity->key = new_key(false);
  identity->certificate = new_certificate(authority_request(common_name), identity->key.get());
  make_authority(identity->certificate.get());
  sign(identity->certificate.get(), identity_->certificate.get(), identity_->key.get());
  identity->chain = pem_of(identity->certificate.get()) + identity_->chain;
  return TestAuthority(std::move(identity));
}

std::string TestAuthority::revocation_list(std::initializer_list<const Certificate*> revoked) const {
  const List list(require_made(X509_CRL_new(), "make a revocation list"));
  require(X509_CRL_set_version(list.get(), kListVersion2) == 1, "set the version");
  require(X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(identity_->certificate.get())) == 1,
          "name the issuer");
  const Time time(require_made(ASN1_TIME_new(), "make a date"));
  set_day(time.get(), std::chrono::days(-1));
  require(X509_CRL_set1_lastUpdate(list.get(), time.get()) == 1, "date the list");
  for (const Certificate* each : revoked) {
    const X509Pointer certificate = parse(each->pem);
    Owned<X509_REVOKED, X509_REVOKED_free> entry(require_made(X509_REVOKED_new(), "make an entry"));
    require(X509_REVOKED_set_serialNumber(entry.get(), X509_get_serialNumber(certificate.get())) == 1 &&
                X509_REVOKED_set_revocationDate(entry.get(), time.get()) == 1 &&
                X509_CRL_add0_revoked(list.get(), entry.get()) == 1,
            "revoke a certificate");
    static_cast<void>(entry.release());  // the list's now
  }
  set_day(time.get(), std::chrono::days(1));
  require(X509_CRL_set1_nextUpdate(list.get(), time.get()) == 1, "date the list");
  require(X509_CRL_sort(list.get()) == 1 && X509_CRL_sign(list.get(), identity_->key.get(), EVP_sha256()) > 0,
          "sign a revocation list");
  return to_pem([&](BIO* bio) { return PEM_write_bio_X509_CRL(bio, list.get()); });
}

Certificate self_signed(const CertificateRequest& request) {
  const Key key = new_key(request.rsa);
  const X509Pointer made = new_certificate(request, key.get());
  make_leaf(made.get(), request);
  sign(made.get(), made.get(), key.get());
  return {pem_of(made.get()), pem_of(key.get())};
}

}  // namespace bight::test
