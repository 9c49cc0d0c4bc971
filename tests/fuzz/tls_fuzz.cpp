// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: arbitrary bytes where a client's handshake, and perhaps more, should be. However they are cut, the
// server's side ends in an answer, and never in a crash; what it takes to be plaintext was never encrypted.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include <bight/net/tls_context.hpp>

#include "test_certificates.hpp"
#include "tls/engine.hpp"

namespace {

using bight::net::Pem;
using bight::net::TlsContext;
using bight::net::detail::TlsEngine;

void require(bool condition) {
  if (!condition) std::abort();
}

const TlsContext& context() {
  static const TlsContext one = [] {
    const bight::test::TestAuthority authority;
    const auto named = [&](const std::string& name) {
      const auto certificate = authority.issue({.common_name = name, .dns_names = {name}});
      return bight::net::TlsIdentity{.certificate = Pem::text(certificate.pem), .key = Pem::text(certificate.key_pem)};
    };
    bight::net::TlsServerOptions options;
    options.identities = {named("localhost"), named("*.example.org")};
    options.alpn = {"h2", "http/1.1"};
    options.on_name = [](std::string_view) { return std::nullopt; };
    return TlsContext::server(options);
  }();
  return one;
}

/// The error it ended with, after the bytes in pieces of `size`.
std::error_code shake_hands(std::span<const std::byte> bytes, std::size_t size) {
  std::vector<std::byte> output;
  TlsEngine engine(bight::net::detail::current_settings(context()), {}, {}, output);
  while (!bytes.empty()) {
    const std::span<const std::byte> piece = bytes.first(std::min(size, bytes.size()));
    bytes = bytes.subspan(piece.size());
    engine.set_input(piece);
    TlsEngine::Step step = engine.handshake();
    if (step == TlsEngine::Step::wants_name) {
      require(engine.asked_name().size() <= 255);
      engine.answer_name(nullptr);
      step = engine.handshake();
    }
    if (step == TlsEngine::Step::failed) break;
    require(step == TlsEngine::Step::wants_input || step == TlsEngine::Step::ended);
    require(step == TlsEngine::Step::ended || engine.input().empty());
    if (step == TlsEngine::Step::ended) break;
  }
  require(!engine.is_established());
  return engine.error();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data, size));
  const std::error_code whole = shake_hands(bytes, size + 1);
  require(shake_hands(bytes, 1 + size / 7) == whole);
  return 0;
}
