// SPDX-License-Identifier: Apache-2.0
// Contexts that on_name chooses, and reloads in the middle of a handshake: what a context demands is demanded.

#include <bight/net/tls_context.hpp>

#include <array>
#include <string>
#include <vector>

#include <bight/event.hpp>

#include "tls_test.hpp"

namespace bight::test {
namespace {

using net::Pem;
using net::TlsClientCertificate;
using net::TlsContext;
using net::TlsError;
using net::TlsServerOptions;
using net::TlsStream;

class TlsVirtualHosts : public NetTest {};

/// A server whose own settings ask for nothing, and that goes on with `chosen` for every name.
TlsContext going_on_with(const TlsServerOptions& chosen, TlsServerOptions own = server_options()) {
  own.on_name = [context = TlsContext::server(chosen)](std::string_view /*name*/) { return context; };
  return TlsContext::server(own);
}

TlsServerOptions asking_for_certificates() {
  TlsServerOptions options = server_options();
  options.client_certificate = TlsClientCertificate::required;
  options.client_authorities = Pem::text(authority().pem());
  return options;
}

TlsContext client_with(const Certificate& certificate) {
  auto options = client_options();
  options.identity = identity_of(certificate);
  return TlsContext::client(options);
}

TEST_F(TlsVirtualHosts, RevocationIsThatOfTheChosenContext) {
  on_loop([] {
    const Certificate alice = authority().issue({.common_name = "alice", .client = true});
    const Certificate mallory = authority().issue({.common_name = "mallory", .client = true});
    TlsServerOptions chosen = asking_for_certificates();
    chosen.revocation_lists = Pem::text(authority().revocation_list({&mallory}));
    const TlsContext server = going_on_with(chosen);
    EXPECT_FALSE(shake_hands(client_with(alice), server).server.code);
    EXPECT_EQ(shake_hands(client_with(mallory), server).server.code, TlsError::certificate_revoked);
    // And the other way round: one that does not look at lists is not told to by who chose it.
    const TlsContext lenient = going_on_with(asking_for_certificates(), chosen);
    EXPECT_FALSE(shake_hands(client_with(mallory), lenient).server.code);
  });
}

TEST_F(TlsVirtualHosts, AuthoritiesOfTheChosenContextNeedNotBeRoots) {
  on_loop([] {
    const TestAuthority middle = authority().intermediate("middle");
    TlsServerOptions chosen = asking_for_certificates();
    chosen.client_authorities = Pem::text(middle.pem());
    const Certificate below = middle.issue({.common_name = "below", .client = true});
    EXPECT_FALSE(shake_hands(client_with(below), TlsContext::server(chosen)).server.code);
    EXPECT_FALSE(shake_hands(client_with(below), going_on_with(chosen)).server.code);
  });
}

TEST_F(TlsVirtualHosts, GroupsAreThoseOfTheChosenContext) {
  on_loop([] {
    TlsServerOptions chosen = server_options();
    chosen.protocol.groups = "P-384";
    auto options = client_options();
    options.protocol.groups = "X25519";
    const TlsContext client = TlsContext::client(options);
    EXPECT_EQ(shake_hands(client, TlsContext::server(chosen)).server.code, TlsError::no_shared_cipher);
    EXPECT_EQ(shake_hands(client, going_on_with(chosen)).server.code, TlsError::no_shared_cipher);
    EXPECT_FALSE(shake_hands(client, going_on_with(server_options(), chosen)).server.code);
  });
}

/// Begins a handshake of `server`'s, calls `between` when a part of what the client says first has come, and goes on.
template <class F>
std::error_code handshake_in_two_parts(TlsContext& server, F between) {
  auto [client_end, near] = net::MemoryStream::pair();
  auto [far, server_end] = net::MemoryStream::pair();
  TlsPair pair{TlsStream::client(std::move(client_end), "localhost", client_context()),
               TlsStream::server(std::move(server_end), server)};
  std::error_code error;
  Scope scope;
  scope.spawn([&] { pair.server.handshake(error); }).detach();
  auto client = scope.spawn([&] {
    std::error_code ignored;
    pair.client.handshake(ignored);
    std::array<std::byte, 1> none;
    static_cast<void>(pair.client.read(none, ignored));
  });
  std::array<std::byte, 100> first;
  std::vector<std::byte> rest(10'000);
  const std::size_t begun = near.read(first);
  far.write_all(std::span(first).first(begun));
  for (int n = 0; n < 10; ++n) yield();
  between();
  rest.resize(near.read(rest));
  far.write_all(rest);
  auto back = scope.spawn([&, &from = far, &to = near] {
    std::array<std::byte, 4000> buffer;
    for (std::size_t n = 0; (n = from.read(buffer)) > 0;) to.write_all(std::span(buffer).first(n));
  });
  auto forth = scope.spawn([&, &from = near, &to = far] {
    std::array<std::byte, 4000> buffer;
    for (std::size_t n = 0; (n = from.read(buffer)) > 0;) to.write_all(std::span(buffer).first(n));
  });
  for (int n = 0; n < 300; ++n) yield();
  for (auto* each : {&client, &back, &forth}) each->cancel();
  pair.server.close();
  pair.client.close();
  scope.join();
  return error;
}

TEST_F(TlsVirtualHosts, AReloadDuringAHandshakeDoesNotMixTheOldWithTheNew) {
  on_loop([] {
    // Before: whoever names a server has to show a certificate. After: everybody, and nobody is asked for names.
    TlsServerOptions before = server_options();
    before.on_name = [strict = TlsContext::server(asking_for_certificates())](std::string_view) { return strict; };
    TlsContext server = TlsContext::server(before);
    EXPECT_EQ(handshake_in_two_parts(server, [] {}), TlsError::certificate_required);
    EXPECT_EQ(handshake_in_two_parts(server, [&] { server.reload(asking_for_certificates()); }),
              TlsError::certificate_required);
  });
}

TEST_F(TlsVirtualHosts, NamesThatAreNoNamesAreRefused) {
  on_loop([] {
    auto options = server_options();
    options.identities = {
        issued({.common_name = "w", .dns_names = {"www.bank.example", "localhost"}, .addresses = {"127.0.0.1"}})};
    const TlsContext server = TlsContext::server(options);
    using namespace std::string_view_literals;
    for (const std::string_view name :
         {"."sv, ".example"sv, ".bank.example"sv, "www..bank.example"sv, "localhost\0"sv, "localhost\0.x"sv,
          "127.0.0.1\0.x"sv, "[]"sv, "[127.0.0.1"sv, "\u00ad"sv, "\u3002bank.example"sv, "www.bank.example\u3002."sv,
          "www.bank.example.."sv, "local host"sv}) {
      const Handshakes done = shake_hands(client_context(), server, name);
      EXPECT_EQ(done.client.code, std::errc::invalid_argument) << name << ": " << done.client.text;
    }
    for (const std::string_view name : {"www.bank.example."sv, "WWW.Bank.Example"sv, "127.0.0.1"sv, "[127.0.0.1]"sv}) {
      EXPECT_FALSE(shake_hands(client_context(), server, name).client.code) << name;
    }
  });
}

}  // namespace
}  // namespace bight::test
