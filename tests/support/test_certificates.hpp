// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

namespace bight::test {

/// What a certificate is to say. Names go into subjectAltName; the common name is only for people to read.
struct CertificateRequest {
  std::string common_name{};
  std::vector<std::string> dns_names{};
  std::vector<std::string> addresses{};  ///< "127.0.0.1", "::1"
  std::chrono::days valid_from{-1};      ///< from now, as is
  std::chrono::days valid_to{30};
  bool client = false;  ///< its use is to be a client's, not a server's
  bool rsa = false;     ///< of 2048 bits, which takes a tenth of a second; else P-256
};

struct Certificate {
  std::string pem;  ///< the leaf, then the intermediates up to but without the root
  std::string key_pem;
};

/// An authority that exists in memory for as long as a test, so that nothing checked in can expire. Copies are the same
/// authority. Throws std::runtime_error with what OpenSSL says. May be used from one thread at a time.
class TestAuthority {
 public:
  explicit TestAuthority(const std::string& common_name = "bight test CA");

  /// Its own certificate, without its key.
  [[nodiscard]] std::string pem() const;

  [[nodiscard]] Certificate issue(const CertificateRequest& request) const;

  /// A revocation list, good for a day, of these. Only the first certificate of each counts, and it has to be of this
  /// authority: `{authority.intermediate("…").pem(), ""}` revokes an intermediate.
  [[nodiscard]] std::string revocation_list(std::initializer_list<const Certificate*> revoked) const;

  /// An authority that this one vouches for. What it issues carries its certificate along.
  [[nodiscard]] TestAuthority intermediate(const std::string& common_name) const;

 private:
  struct Identity;
  explicit TestAuthority(std::shared_ptr<const Identity> identity);

  std::shared_ptr<const Identity> identity_;
};

/// One that nobody vouches for.
[[nodiscard]] Certificate self_signed(const CertificateRequest& request);

}  // namespace bight::test
