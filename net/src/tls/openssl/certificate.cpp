// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>

#include <array>
#include <ctime>

#include <openssl/pem.h>

#include "tls/openssl/library.hpp"

namespace bight::net::detail {
namespace {

std::string text_of(BIO& memory) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(&memory, &data);
  return size > 0 ? std::string(data, static_cast<std::size_t>(size)) : std::string();
}

std::string hexadecimal(const unsigned char* data, std::size_t size) {
  constexpr const char* digits = "0123456789abcdef";
  std::string text;
  text.reserve(2 * size);
  for (std::size_t n = 0; n < size; ++n) text.append({digits[data[n] >> 4U], digits[data[n] & 15U]});
  return text;
}

std::chrono::system_clock::time_point time_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return {};
  return std::chrono::system_clock::from_time_t(::timegm(&parts));
}

std::string address_text(const ASN1_OCTET_STRING* bytes) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const int family = ASN1_STRING_length(bytes) == 4 ? AF_INET : AF_INET6;
  if (ASN1_STRING_length(bytes) != 4 && ASN1_STRING_length(bytes) != 16) return {};
  return ::inet_ntop(family, ASN1_STRING_get0_data(bytes), text.data(), text.size()) != nullptr ? text.data() : "";
}

/// A name with a zero in it, as forged ones have, ends there for nobody.
std::string visible(const ASN1_STRING* name) {
  std::string text(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name)),
                   static_cast<std::size_t>(ASN1_STRING_length(name)));
  for (char& each : text) {
    if (each < ' ' || each > '~') each = '?';
  }
  return text;
}

void list_names(const X509& certificate, std::vector<std::string>& dns, std::vector<std::string>& addresses) {
  const GeneralNamesPtr names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr)));
  if (names == nullptr) return;
  for (int n = 0; n < sk_GENERAL_NAME_num(names.get()); ++n) {
    const GENERAL_NAME* each = sk_GENERAL_NAME_value(names.get(), n);
    if (each->type == GEN_DNS) dns.push_back(visible(each->d.dNSName));
    if (each->type == GEN_IPADD) addresses.push_back(address_text(each->d.iPAddress));
  }
}

}  // namespace

std::string name_text(const X509_NAME* name) {
  const BioPtr memory(BIO_new(BIO_s_mem()));
  if (memory == nullptr || X509_NAME_print_ex(memory.get(), name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) < 0) {
    ERR_clear_error();
    return "?";
  }
  return text_of(*memory);
}

std::string short_subject(const X509& certificate) {
  const X509_NAME* name = X509_get_subject_name(&certificate);
  std::array<char, 256> common{};
  if (X509_NAME_get_text_by_NID(name, NID_commonName, common.data(), common.size()) > 0) {
    std::string text = "CN=";
    for (const char* each = common.data(); *each != '\0'; ++each) text += *each < ' ' ? '?' : *each;
    return text;
  }
  std::string all = name_text(name);
  return !all.empty() ? all : names_text(certificate);
}

std::string day_text(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) {
    ERR_clear_error();
    return "?";
  }
  std::array<char, 32> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%d", &parts)};
}

std::string names_text(const X509& certificate) {
  constexpr std::size_t kShown = 8;
  std::vector<std::string> names;
  list_names(certificate, names, names);
  std::string text;
  for (std::size_t n = 0; n < names.size() && n < kShown; ++n) text += (n > 0 ? ", " : "") + names[n];
  if (names.size() > kShown) text += " and " + std::to_string(names.size() - kShown) + " more";
  ERR_clear_error();
  return !text.empty() ? text : "no name at all";
}

TlsCertificate describe_certificate(const X509& certificate) {
  TlsCertificate what;
  what.subject = name_text(X509_get_subject_name(&certificate));
  what.issuer = name_text(X509_get_issuer_name(&certificate));
  const ASN1_INTEGER* serial = X509_get0_serialNumber(&certificate);
  what.serial = hexadecimal(ASN1_STRING_get0_data(serial), static_cast<std::size_t>(ASN1_STRING_length(serial)));
  list_names(certificate, what.dns_names, what.addresses);
  what.not_before = time_of(X509_get0_notBefore(&certificate));
  what.not_after = time_of(X509_get0_notAfter(&certificate));
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (X509_digest(&certificate, EVP_sha256(), digest.data(), &size) == 1) {
    what.fingerprint = hexadecimal(digest.data(), size);
  }
  const BioPtr memory(BIO_new(BIO_s_mem()));
  if (memory != nullptr && PEM_write_bio_X509(memory.get(), &certificate) == 1) what.pem = text_of(*memory);
  ERR_clear_error();
  return what;
}

}  // namespace bight::net::detail
