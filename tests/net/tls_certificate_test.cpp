// SPDX-License-Identifier: Apache-2.0
// Whom TLS lets in: certificates, names, authorities, revocation, and what is said about those that are not good.

#include <bight/net/tls_context.hpp>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>

#include <bight/time.hpp>

#include "tls_test.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::Pem;
using net::TlsClientCertificate;
using net::TlsContext;
using net::TlsError;
using net::TlsRevocation;
using net::TlsVersion;
using std::chrono::days;

class TlsCertificates : public NetTest {};

TlsContext serving(const Certificate& certificate) {
  return TlsContext::server({.identities = {identity_of(certificate)}});
}

struct Expected {
  TlsError client;
  std::string_view text;  // a part of it
  TlsError server;
};

void expect_refusal(const TlsContext& client, const TlsContext& server, const Expected& expected,
                    std::string_view name = "localhost") {
  const Handshakes result = shake_hands(client, server, name);
  EXPECT_EQ(result.client.code, expected.client) << result.client.text;
  EXPECT_NE(result.client.text.find(expected.text), std::string::npos) << result.client.text;
  std::error_code server_error;
  Handshakes again = shake_hands(tls_over(tcp_pair(), client, server, name));
  // A server that is done before the client hears of it by its first read.
  if (!again.server.code) static_cast<void>(again.pair.server.read(again.server.code));
  EXPECT_EQ(again.server.code, expected.server) << again.server.code.message();
  EXPECT_TRUE(again.client.text.starts_with("TLS handshake with " + std::string(name) + " (127.0.0.1:"))
      << again.client.text;
}

TEST_F(TlsCertificates, EachThatIsBadHasAnErrorOfItsOwn) {
  on_loop([] {
    const std::vector<std::string> names = {"localhost"};
    const auto issue = [&](days from, days to) {
      return authority().issue({.common_name = "some server", .dns_names = names, .valid_from = from, .valid_to = to});
    };
    expect_refusal(client_context(), serving(issue(days(-10), days(-2))),
                   {TlsError::certificate_expired, ": certificate has expired: CN=some server, valid until 2",
                    TlsError::alert_certificate_expired});
    expect_refusal(client_context(), serving(issue(days(2), days(10))),
                   {TlsError::certificate_not_yet_valid, "certificate is not valid yet: CN=some server, valid from 2",
                    TlsError::alert_bad_certificate});
    expect_refusal(client_context(), serving(self_signed({.common_name = "myself", .dns_names = names})),
                   {TlsError::self_signed, "certificate is self-signed: CN=myself", TlsError::alert_unknown_ca});
    const TestAuthority stranger("a stranger");
    expect_refusal(
        client_context(), serving(stranger.issue({.common_name = "theirs", .dns_names = names})),
        {TlsError::unknown_authority, "certificate comes from an unknown authority: CN=theirs, issued by CN=a stranger",
         TlsError::alert_unknown_ca});
    expect_refusal(client_context(), serving(authority().issue({.common_name = "nobody"})),
                   {TlsError::host_mismatch,
                    "certificate is for somebody else: CN=nobody is for no name at all, and not "
                    "for localhost",
                    TlsError::alert_bad_certificate});
    expect_refusal(
        client_context(), serving(authority().issue({.common_name = "a client", .dns_names = names, .client = true})),
        {TlsError::certificate_invalid, "unsuitable certificate purpose", TlsError::alert_unsupported_certificate});
  });
}

TEST_F(TlsCertificates, AreForNames) {
  on_loop([] {
    const TlsContext server = serving(authority().issue(
        {.common_name = "several", .dns_names = {"one.example", "*.two.example"}, .addresses = {"127.0.0.1", "::1"}}));
    for (const std::string_view name :
         {"one.example", "ONE.Example", "one.example.", "a.two.example", "127.0.0.1", "::1", "[::1]"}) {
      const Handshakes result = shake_hands(client_context(), server, name);
      EXPECT_FALSE(result.client.code) << result.client.text;
    }
    for (const std::string_view name : {"two.example", "a.b.two.example", "one.example.org", "several", "127.0.0.2"}) {
      const Handshakes result = shake_hands(client_context(), server, name);
      EXPECT_EQ(result.client.code, TlsError::host_mismatch) << name << ": " << result.client.text;
      EXPECT_NE(result.client.text.find("is for one.example, *.two.example, 127.0.0.1, ::1, and not for "),
                std::string::npos)
          << result.client.text;
    }
  });
}

TEST_F(TlsCertificates, AnAddressIsNoNameToAskFor) {
  on_loop([] {
    const Handshakes result = shake_hands(client_context(), server_context(), "127.0.0.1");
    EXPECT_EQ(result.pair.server.info().server_name, "");
    EXPECT_TRUE(result.pair.server.is_established());
  });
}

TEST_F(TlsCertificates, WhoWantsNoCheckHasToSaySo) {
  on_loop([] {
    auto options = client_options();
    options.dangerously_accept_any_certificate = true;
    const TlsContext any = TlsContext::client(options);
    for (const Certificate& bad :
         {self_signed({.common_name = "myself"}),
          authority().issue({.common_name = "old", .valid_from = days(-10), .valid_to = days(-2)})}) {
      const Handshakes result = shake_hands(any, serving(bad));
      EXPECT_FALSE(result.client.code) << result.client.text;
      ASSERT_TRUE(result.pair.client.peer_certificate());
    }
  });
}

TEST_F(TlsCertificates, TheSystemsAuthoritiesDoNotVouchForOurs) {
  on_loop([] {
    const Handshakes result = shake_hands(TlsContext::default_client(), server_context());
    EXPECT_EQ(result.client.code, TlsError::unknown_authority) << result.client.text;
    const Handshakes both =
        shake_hands(TlsContext::client({.authorities = Pem::text(authority().pem())}), server_context());
    EXPECT_FALSE(both.client.code) << both.client.text;
  });
}

TEST_F(TlsCertificates, ChainsGoByIntermediates) {
  on_loop([] {
    const TestAuthority middle = authority().intermediate("middle");
    const TestAuthority low = middle.intermediate("low");
    const Certificate leaf = low.issue({.common_name = "leaf", .dns_names = {"localhost"}});
    const Handshakes result = shake_hands(client_context(), serving(leaf));
    EXPECT_FALSE(result.client.code) << result.client.text;
    const auto chain = result.pair.client.peer_chain();
    ASSERT_EQ(chain.size(), 3U);
    EXPECT_EQ(chain[1].subject, "CN=low");
    EXPECT_EQ(chain[2].issuer, "CN=bight test CA");
    Certificate alone = leaf;
    alone.pem.resize(alone.pem.find("-----END CERTIFICATE-----") + 26);
    expect_refusal(client_context(), serving(alone),
                   {TlsError::unknown_authority, "CN=leaf, issued by CN=low", TlsError::alert_unknown_ca});
    // One that is trusted need not be a root.
    auto partial = client_options();
    partial.authorities = Pem::text(low.pem());
    const Handshakes by_part = shake_hands(TlsContext::client(partial), serving(alone));
    EXPECT_FALSE(by_part.client.code) << by_part.client.text;
  });
}

TEST_F(TlsCertificates, ThatAreRevokedAreRefused) {
  on_loop([] {
    const TestAuthority middle = authority().intermediate("middle");
    const Certificate good = authority().issue({.common_name = "good", .dns_names = {"localhost"}});
    const Certificate bad = authority().issue({.common_name = "bad", .dns_names = {"localhost"}});
    const Certificate below = middle.issue({.common_name = "below", .dns_names = {"localhost"}});
    const Certificate middle_itself{middle.pem(), ""};
    auto options = client_options();
    options.revocation_lists = Pem::text(authority().revocation_list({&bad}));
    const TlsContext listed = TlsContext::client(options);
    EXPECT_FALSE(shake_hands(listed, serving(good)).client.code);
    EXPECT_FALSE(shake_hands(listed, serving(below)).client.code);
    expect_refusal(
        listed, serving(bad),
        {TlsError::certificate_revoked, "certificate has been revoked: CN=bad", TlsError::alert_certificate_revoked});
    options.revocation = TlsRevocation::required;
    const TlsContext required = TlsContext::client(options);
    EXPECT_FALSE(shake_hands(required, serving(good)).client.code);
    EXPECT_EQ(shake_hands(required, serving(below)).client.code, TlsError::revocation_unknown);
    options.revocation_lists = Pem::text(authority().revocation_list({&middle_itself}) + middle.revocation_list({}));
    expect_refusal(TlsContext::client(options), serving(below),
                   {TlsError::certificate_revoked, "CN=middle", TlsError::alert_certificate_revoked});
  });
}

TEST_F(TlsCertificates, OfClients) {
  on_loop([] {
    auto server = server_options();
    server.client_authorities = Pem::text(authority().pem());
    server.client_certificate = TlsClientCertificate::required;
    const TlsContext required = TlsContext::server(server);
    server.client_certificate = TlsClientCertificate::requested;
    const TlsContext requested = TlsContext::server(server);
    auto client = client_options();
    client.identity = issued({.common_name = "alice", .client = true});
    const TlsContext alice = TlsContext::client(client);
    for (const TlsContext& context : {required, requested}) {
      const Handshakes result = shake_hands(alice, context);
      ASSERT_FALSE(result.server.code) << result.server.text;
      ASSERT_TRUE(result.pair.server.peer_certificate());
      EXPECT_EQ(result.pair.server.peer_certificate()->subject, "CN=alice");
    }
    const Handshakes none = shake_hands(client_context(), requested);
    EXPECT_FALSE(none.server.code) << none.server.text;
    EXPECT_FALSE(none.pair.server.peer_certificate());

    Handshakes refused = shake_hands(tls_over(net::MemoryStream::pair(), client_context(), required));
    EXPECT_EQ(refused.server.code, TlsError::certificate_required) << refused.server.text;
    std::error_code error;  // a client of 1.3 hears of it later
    static_cast<void>(refused.pair.client.read(error));
    EXPECT_EQ(error, TlsError::alert_certificate_required) << error.message();
    EXPECT_EQ(refused.pair.client.failure(), "the peer has ended the connection with the alert certificate_required");

    const TestAuthority stranger("a stranger");
    client.identity = identity_of(stranger.issue({.common_name = "mallory", .client = true}));
    for (const TlsContext& context : {required, requested}) {
      const Handshakes result = shake_hands(TlsContext::client(client), context);
      EXPECT_EQ(result.server.code, TlsError::unknown_authority) << result.server.text;
    }
    client.identity = issued({.common_name = "a server's"});
    EXPECT_EQ(shake_hands(TlsContext::client(client), required).server.code, TlsError::certificate_invalid);
  });
}

TEST_F(TlsCertificates, AreChosenByTheNameAskedFor) {
  on_loop([] {
    const auto named = [](const std::string& name, bool rsa = false) {
      return issued({.common_name = name, .dns_names = {name}, .rsa = rsa});
    };
    const TlsContext server =
        TlsContext::server({.identities = {named("one.example"), named("*.two.example"), named("three.example"),
                                           named("three.example", true)}});
    for (const auto& [asked, shown] : {std::pair("one.example", "CN=one.example"),
                                       {"x.two.example", "CN=*.two.example"},
                                       {"three.example", "CN=three.example"}}) {
      const Handshakes result = shake_hands(client_context(), server, asked);
      ASSERT_FALSE(result.client.code) << result.client.text;
      EXPECT_EQ(result.pair.client.peer_certificate()->subject, shown);
    }
    auto only_rsa = client_options();
    only_rsa.protocol.version_max = TlsVersion::tls_1_2;
    only_rsa.protocol.ciphers = "ECDHE-RSA-AES128-GCM-SHA256";
    const Handshakes rsa = shake_hands(TlsContext::client(only_rsa), server, "three.example");
    EXPECT_FALSE(rsa.client.code) << rsa.client.text;
    EXPECT_EQ(rsa.pair.client.info().cipher, "ECDHE-RSA-AES128-GCM-SHA256");
    const Handshakes other = shake_hands(client_context(), server, "four.example");
    EXPECT_EQ(other.client.code, TlsError::host_mismatch);
    EXPECT_NE(other.client.text.find("is for one.example, and not for four.example"), std::string::npos);
  });
}

TEST_F(TlsCertificates, OrByACallBackThatMayWait) {
  on_loop([] {
    const TlsContext blue = TlsContext::server(
        {.identities = {issued({.common_name = "blue", .dns_names = {"blue.example"}})}, .alpn = {"blue/1"}});
    auto options = server_options();
    std::string asked;
    options.on_name = [&](std::string_view name) -> std::optional<TlsContext> {
      asked = name;
      sleep_for(5ms);
      if (name == "blue.example") return blue;
      if (name == "red.example") throw net::TlsFailure(TlsError::name_not_served, "red.example is gone");
      if (name == "broken.example") throw std::runtime_error("it is broken");
      return std::nullopt;
    };
    const TlsContext server = TlsContext::server(options);
    auto client = client_options();
    client.alpn = {"blue/1"};
    const Handshakes result = shake_hands(TlsContext::client(client), server, "blue.example");
    EXPECT_FALSE(result.client.code) << result.client.text;
    EXPECT_EQ(asked, "blue.example");
    EXPECT_EQ(result.pair.server.alpn(), "blue/1");
    EXPECT_EQ(result.pair.server.info().server_name, "blue.example");
    EXPECT_FALSE(shake_hands(client_context(), server).client.code);
    EXPECT_FALSE(shake_hands(client_context(), server, "127.0.0.1").client.code);
    EXPECT_EQ(asked, "");

    const Handshakes red = shake_hands(client_context(), server, "red.example");
    EXPECT_EQ(red.client.code, TlsError::alert_unrecognized_name) << red.client.text;
    EXPECT_EQ(red.server.code, TlsError::name_not_served);
    EXPECT_NE(red.server.text.find("red.example is gone"), std::string::npos) << red.server.text;
    const Handshakes broken = shake_hands(client_context(), server, "broken.example");
    EXPECT_EQ(broken.client.code, TlsError::alert_internal_error) << broken.client.text;
    EXPECT_NE(broken.server.text.find("it is broken"), std::string::npos) << broken.server.text;
  });
}

TEST_F(TlsCertificates, ApplicationProtocols) {
  on_loop([] {
    auto server = server_options();
    server.alpn = {"h2", "http/1.1"};
    const TlsContext lenient = TlsContext::server(server);
    server.alpn_required = true;
    const TlsContext strict = TlsContext::server(server);
    auto client = client_options();
    client.alpn = {"http/1.1", "h2"};
    const TlsContext both = TlsContext::client(client);
    client.alpn = {"smtp"};
    const TlsContext other = TlsContext::client(client);
    for (const TlsContext& context : {lenient, strict}) {
      EXPECT_EQ(shake_hands(both, context).pair.client.alpn(), "h2");  // as the server prefers it
      const Handshakes refused = shake_hands(other, context);
      EXPECT_EQ(refused.server.code, TlsError::no_shared_application) << refused.server.text;
      EXPECT_EQ(refused.client.code, TlsError::alert_no_application_protocol) << refused.client.text;
    }
    EXPECT_EQ(shake_hands(client_context(), lenient).pair.client.alpn(), "");
    const Handshakes silent = shake_hands(client_context(), strict);
    EXPECT_EQ(silent.server.code, TlsError::no_shared_application) << silent.server.text;
    EXPECT_EQ(shake_hands(both, server_context()).pair.client.alpn(), "");
  });
}

TEST_F(TlsCertificates, CiphersThatNobodyShares) {
  on_loop([] {
    auto server = server_options();
    server.protocol.version_max = TlsVersion::tls_1_2;
    server.protocol.ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384";
    auto client = client_options();
    client.protocol.ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256";
    const Handshakes refused = shake_hands(TlsContext::client(client), TlsContext::server(server));
    EXPECT_EQ(refused.server.code, TlsError::no_shared_cipher) << refused.server.text;
    EXPECT_EQ(refused.client.code, TlsError::alert_handshake_failure) << refused.client.text;
  });
}

TEST(TlsContexts, SayWhatIsWrongWithThem) {
  const Certificate one = authority().issue({.common_name = "one"});
  const Certificate two = authority().issue({.common_name = "two"});
  const auto failure = [](const net::TlsServerOptions& options) {
    return failure_of([&] { static_cast<void>(TlsContext::server(options)); });
  };
  const auto identity = [](const std::string& certificate, const std::string& key) {
    return net::TlsServerOptions{.identities = {{.certificate = Pem::text(certificate), .key = Pem::text(key)}}};
  };
  EXPECT_EQ(failure(identity(one.pem, two.key_pem)).code, TlsError::key_mismatch);
  EXPECT_EQ(failure(identity(one.pem, two.key_pem)).text,
            "use the private key given: it is not that of the certificate given, CN=one");
  EXPECT_EQ(failure(identity("nothing", one.key_pem)).text, "read the certificate given: there is none");
  EXPECT_EQ(failure(identity(one.pem, one.pem)).text, "read the private key given: there is none");
  EXPECT_EQ(failure(identity(one.key_pem + one.pem, "")).code, std::error_code());
  std::string broken = one.pem;
  broken[40] ^= 1;
  EXPECT_EQ(failure(identity(broken, one.key_pem)).code, TlsError::bad_pem);
  EXPECT_EQ(failure({}).code, TlsError::bad_option);
  EXPECT_EQ(failure({.identities = {{.certificate = Pem::file("/nowhere/x.pem")}}}).text,
            "read the certificate in /nowhere/x.pem: No such file or directory");
  auto options = identity(one.pem, one.key_pem);
  options.protocol.ciphers = "NONSENSE";
  EXPECT_EQ(failure(options).code, TlsError::bad_option);
  options = identity(one.pem, one.key_pem);
  options.client_certificate = TlsClientCertificate::required;
  EXPECT_EQ(failure(options).text, "make a TLS context with client certificates: client_authorities are missing");
  std::error_code error;
  EXPECT_EQ(TlsContext::client({.authorities = Pem::text("x")}, error).shared(), nullptr);
  EXPECT_EQ(error, TlsError::bad_pem);
}

TEST(TlsContexts, ReloadFromFiles) {
  const auto folder = std::filesystem::temp_directory_path() / ("bight-tls-" + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  const auto write = [&](const Certificate& certificate) {
    std::ofstream(folder / "cert.pem") << certificate.pem;
    std::ofstream(folder / "key.pem") << certificate.key_pem;
  };
  write(authority().issue({.common_name = "first", .dns_names = {"localhost"}}));
  TlsContext server = TlsContext::server(
      {.identities = {{.certificate = Pem::file(folder / "cert.pem"), .key = Pem::file(folder / "key.pem")}}});
  const TlsContext copy = server;
  const auto subject = [&] {
    std::string shown;
    on_loop([&] { shown = shake_hands(client_context(), copy).pair.client.peer_certificate()->subject; });
    return shown;
  };
  EXPECT_EQ(subject(), "CN=first");
  write(authority().issue({.common_name = "second", .dns_names = {"localhost"}}));
  EXPECT_EQ(subject(), "CN=first");
  server.reload();
  EXPECT_EQ(subject(), "CN=second");
  std::ofstream(folder / "key.pem") << "broken";
  std::error_code error;
  server.reload(error);
  EXPECT_EQ(error, TlsError::bad_pem);
  EXPECT_EQ(subject(), "CN=second");
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace bight::test
