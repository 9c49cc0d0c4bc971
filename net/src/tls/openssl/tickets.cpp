// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include <bight/check.hpp>
#include <bight/error.hpp>

#include "tls/openssl/settings.hpp"

namespace bight::net::detail {
namespace {

using Secret = std::array<unsigned char, 32>;

/// What follows from a secret for a purpose, and tells nothing about it.
Secret derive(std::span<const unsigned char> secret, std::string_view purpose, std::int64_t number) {
  std::string message(purpose);
  for (unsigned shift = 0; shift < 64; shift += 8) {
    message += static_cast<char>(static_cast<std::uint64_t>(number) >> shift & 0xffU);
  }
  Secret derived{};
  unsigned size = 0;
  if (HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
           reinterpret_cast<const unsigned char*>(message.data()), message.size(), derived.data(), &size) == nullptr) {
    throw TlsFailure(TlsError::failed, "derive a ticket key: " + drain_errors());
  }
  return derived;
}

struct TicketKey {
  std::int64_t number = -1;
  std::array<unsigned char, 16> name{};
  Secret cipher{};
  Secret mac{};

  TicketKey() = default;
  TicketKey(std::span<const unsigned char> secret, std::int64_t n)
      : number(n), cipher(derive(secret, "ticket cipher", n)), mac(derive(secret, "ticket mac", n)) {
    const Secret whole = derive(secret, "ticket name", n);
    std::copy_n(whole.begin(), name.size(), name.begin());
  }
  TicketKey(const TicketKey&) = default;
  TicketKey& operator=(const TicketKey&) = default;
  ~TicketKey() {
    OPENSSL_cleanse(cipher.data(), cipher.size());
    OPENSSL_cleanse(mac.data(), mac.size());
  }
};

}  // namespace

struct TlsTickets {
  TlsTickets(std::span<const unsigned char> first, std::chrono::seconds every, bool forgets_secrets)
      : rotation(std::max(every, std::chrono::seconds(1))),
        forgets(forgets_secrets),
        secret(first.begin(), first.end()),
        number(present()),
        current(secret, number) {
    if (!forgets) previous = TicketKey(secret, number - 1);
  }
  TlsTickets(const TlsTickets&) = delete;
  TlsTickets& operator=(const TlsTickets&) = delete;
  ~TlsTickets() { OPENSSL_cleanse(secret.data(), secret.size()); }

  /// How many periods there have been since 1970, and how often somebody has turned the wheel by hand.
  [[nodiscard]] std::int64_t present() const noexcept {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::seconds>(now) / rotation + by_hand;
  }

  /// The clock may also have been put back: then it stays as it is.
  void catch_up() {
    for (const std::int64_t now = present(); number < now;) {
      if (forgets) {
        Secret next = derive(secret, "next secret", number);
        std::copy(next.begin(), next.end(), secret.begin());
        OPENSSL_cleanse(next.data(), next.size());
        ++number;
      } else {
        number = now;
      }
      previous = current.number == number - 1 ? current : TicketKey();
      if (!forgets && previous.number < 0) previous = TicketKey(secret, number - 1);
      current = TicketKey(secret, number);
    }
  }

  std::mutex mutex;
  std::chrono::seconds rotation;
  bool forgets;
  std::int64_t by_hand = 0;
  std::vector<unsigned char> secret;
  std::int64_t number;
  TicketKey current;
  TicketKey previous;
};

namespace {

bool set_keys(const TicketKey& key, const unsigned char* vector, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac, bool seal) {
  // NOLINTBEGIN(cppcoreguidelines-pro-type-const-cast): parameters of OpenSSL's may be for writing, too
  char digest[] = "SHA256";
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, const_cast<unsigned char*>(key.mac.data()), key.mac.size()),
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
  // NOLINTEND(cppcoreguidelines-pro-type-const-cast)
  return EVP_MAC_CTX_set_params(mac, parameters) == 1 &&
         EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), nullptr, key.cipher.data(), vector, seal ? 1 : 0) == 1;
}

/// OpenSSL's: seals (1: done) or opens a ticket (0: not one of ours, 1: fine, 2: fine, but to be renewed); -1: an
/// error.
int ticket_callback(SSL* ssl, unsigned char* name, unsigned char* vector, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac,
                    int seal) noexcept try {
  TlsTickets& tickets = *settings_of(SSL_get_SSL_CTX(ssl))->tickets;
  TicketKey key;
  int answer = 1;
  {
    const std::lock_guard lock(tickets.mutex);
    tickets.catch_up();
    if (seal != 0 || std::equal(tickets.current.name.begin(), tickets.current.name.end(), name)) {
      key = tickets.current;
      // A client of TLS 1.3 uses a ticket once, and so gets another one each time.
      if (seal == 0 && SSL_version(ssl) == TLS1_3_VERSION) answer = 2;
    } else if (tickets.previous.number >= 0 &&
               std::equal(tickets.previous.name.begin(), tickets.previous.name.end(), name)) {
      key = tickets.previous;
      answer = 2;
    } else {
      return 0;
    }
  }
  if (seal != 0) {
    std::copy(key.name.begin(), key.name.end(), name);
    if (RAND_bytes(vector, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1) return -1;
  }
  return set_keys(key, vector, cipher, mac, seal != 0) ? answer : -1;
} catch (...) {
  return -1;
}

}  // namespace

void use_tickets(SSL_CTX& context) {
  SSL_CTX_set_tlsext_ticket_key_evp_cb(&context, ticket_callback);
  SSL_CTX_set_timeout(&context, static_cast<long>(2 * settings_of(&context)->tickets->rotation.count()));
}

}  // namespace bight::net::detail

namespace bight::net {

TlsTicketKeys::TlsTicketKeys(const TlsTicketOptions& options) {
  detail::Secret secret{};
  if (RAND_bytes(secret.data(), static_cast<int>(secret.size())) != 1) {
    throw TlsFailure(TlsError::failed, "make a ticket key: " + detail::drain_errors());
  }
  tickets_ = std::make_shared<detail::TlsTickets>(secret, options.rotation, true);
  OPENSSL_cleanse(secret.data(), secret.size());
}

TlsTicketKeys TlsTicketKeys::from_secret(std::span<const std::byte> secret, const TlsTicketOptions& options) {
  constexpr std::size_t kLeast = 32;
  if (secret.size() < kLeast) {
    bight::detail::throw_error(std::make_error_code(std::errc::invalid_argument),
                               "make ticket keys from a secret of less than 32 bytes");
  }
  const std::span bytes(reinterpret_cast<const unsigned char*>(secret.data()), secret.size());
  return TlsTicketKeys(std::make_shared<detail::TlsTickets>(bytes, options.rotation, false));
}

void TlsTicketKeys::rotate() {
  const std::lock_guard lock(tickets_->mutex);
  ++tickets_->by_hand;
  tickets_->catch_up();
}

}  // namespace bight::net
