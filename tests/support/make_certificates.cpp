// SPDX-License-Identifier: Apache-2.0
// Certificates for programs that want them in files: benchmarks, tests of the examples, trying things by hand.

#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include "test_certificates.hpp"

namespace {

constexpr const char* kHelp = R"(usage: make_certificates [--rsa] FOLDER

Writes into FOLDER, which is made if need be:

  ca.pem                      an authority
  cert.pem, key.pem           a server's, for localhost, *.test, 127.0.0.1 and ::1
  client.pem, client_key.pem  a client's
  expired.pem, wrong.pem, revoked.pem, self_signed.pem, each with ..._key.pem: a server's that are none, and
  crl.pem                     the revocation list

  --rsa  the server's has an RSA key of 2048 bits, not one on P-256
)";

void write(const std::filesystem::path& file, const std::string& text) {
  std::ofstream out(file);
  out << text;
  if (!out.flush()) throw std::runtime_error("cannot write " + file.string());
}

void write(const std::filesystem::path& folder, const std::string& name, const bight::test::Certificate& certificate) {
  write(folder / (name + ".pem"), certificate.pem);
  write(folder / (name == "cert" ? "key.pem" : name + "_key.pem"), certificate.key_pem);
}

void make(const std::filesystem::path& folder, bool rsa) {
  std::filesystem::create_directories(folder);
  const bight::test::TestAuthority authority;
  bight::test::CertificateRequest server;
  server.common_name = "localhost";
  server.dns_names = {"localhost", "*.test"};
  server.addresses = {"127.0.0.1", "::1"};
  server.rsa = rsa;
  bight::test::CertificateRequest client;
  client.common_name = "a client";
  client.client = true;
  auto expired = server;
  expired.valid_from = std::chrono::days(-30);
  expired.valid_to = std::chrono::days(-1);
  bight::test::CertificateRequest wrong;
  wrong.common_name = "elsewhere.example";
  wrong.dns_names = {"elsewhere.example"};

  write(folder / "ca.pem", authority.pem());
  write(folder, "cert", authority.issue(server));
  write(folder, "client", authority.issue(client));
  write(folder, "expired", authority.issue(expired));
  write(folder, "wrong", authority.issue(wrong));
  write(folder, "self_signed", bight::test::self_signed(server));
  const auto revoked = authority.issue(server);
  write(folder, "revoked", revoked);
  write(folder / "crl.pem", authority.revocation_list({&revoked}));
}

}  // namespace

int main(int argc, char** argv) try {
  const bool rsa = argc == 3 && std::string(argv[1]) == "--rsa";
  if (argc != (rsa ? 3 : 2) || argv[argc - 1][0] == '-') {
    std::fputs(kHelp, argc == 2 && std::string(argv[1]) == "--help" ? stdout : stderr);
    return argc == 2 && std::string(argv[1]) == "--help" ? 0 : 2;
  }
  make(argv[argc - 1], rsa);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "make_certificates: %s\n", error.what());
  return 1;
}
