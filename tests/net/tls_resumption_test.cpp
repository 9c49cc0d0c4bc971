// SPDX-License-Identifier: Apache-2.0
// What clients and servers that know each other save.

#include <bight/net/tls_context.hpp>

#include <array>

#include "tls_test.hpp"

namespace bight::test {
namespace {

using net::TlsContext;
using net::TlsTicketKeys;
using net::TlsVersion;

class TlsResumption : public NetTest {};

/// A conversation, so that the client has seen its tickets. Whether it was resumed, as both sides have it.
bool converse(const TlsContext& client, const TlsContext& server) {
  Handshakes done = shake_hands(client, server);
  EXPECT_FALSE(done.client.code) << done.client.text;
  EXPECT_FALSE(done.server.code) << done.server.text;
  if (done.client.code || done.server.code) return false;
  done.pair.server.write_all("hi");
  EXPECT_EQ(read_text(done.pair.client, 2), "hi");
  EXPECT_EQ(done.pair.client.info().resumed, done.pair.server.info().resumed);
  return done.pair.client.info().resumed;
}

TlsContext client_of(TlsVersion most) {
  auto options = client_options();
  options.protocol.version_max = most;
  return TlsContext::client(options);
}

TEST_F(TlsResumption, WorksInBothVersions) {
  on_loop([] {
    const TlsContext server = TlsContext::server(server_options());
    for (const TlsVersion version : {TlsVersion::tls_1_2, TlsVersion::tls_1_3}) {
      const TlsContext client = client_of(version);
      EXPECT_FALSE(converse(client, server));
      for (int n = 0; n < 10; ++n) EXPECT_TRUE(converse(client, server)) << n;
      EXPECT_FALSE(converse(client_of(version), server));
    }
  });
}

TEST_F(TlsResumption, KeepsThePeersCertificate) {
  on_loop([] {
    auto options = server_options();
    options.client_certificate = net::TlsClientCertificate::required;
    options.client_authorities = net::Pem::text(authority().pem());
    const TlsContext server = TlsContext::server(options);
    auto mine = client_options();
    mine.identity = issued({.common_name = "alice", .client = true});
    const TlsContext client = TlsContext::client(mine);
    EXPECT_FALSE(converse(client, server));
    const Handshakes again = shake_hands(client, server);
    EXPECT_TRUE(again.pair.server.info().resumed);
    ASSERT_TRUE(again.pair.server.peer_certificate());
    EXPECT_EQ(again.pair.server.peer_certificate()->subject, "CN=alice");
    ASSERT_TRUE(again.pair.client.peer_certificate());
    EXPECT_EQ(again.pair.client.peer_certificate()->subject, "CN=localhost");
  });
}

TEST_F(TlsResumption, CanBeSwitchedOffOnEitherSide) {
  on_loop([] {
    auto server = server_options();
    server.resumption = false;
    const TlsContext forgetful = TlsContext::server(server);
    auto options = client_options();
    options.sessions_max = 0;
    const TlsContext client = TlsContext::client(options);
    for (const TlsVersion version : {TlsVersion::tls_1_2, TlsVersion::tls_1_3}) {
      const TlsContext other = client_of(version);
      for (int n = 0; n < 3; ++n) {
        EXPECT_FALSE(converse(other, forgetful));
        EXPECT_FALSE(converse(client, server_context()));
      }
    }
  });
}

TEST_F(TlsResumption, GoesWithTheKeys) {
  on_loop([] {
    const std::array<std::byte, 32> secret{std::byte{1}};
    const TlsTicketKeys shared;
    const auto with = [](const TlsTicketKeys& keys) {
      auto options = server_options();
      options.ticket_keys = keys;
      return TlsContext::server(options);
    };
    const TlsContext client = client_of(TlsVersion::tls_1_3);
    EXPECT_FALSE(converse(client, with(shared)));
    EXPECT_TRUE(converse(client, with(shared)));
    EXPECT_FALSE(converse(client, with(TlsTicketKeys())));
    EXPECT_FALSE(converse(client, with(TlsTicketKeys::from_secret(secret))));
    EXPECT_TRUE(converse(client, with(TlsTicketKeys::from_secret(secret))));
    EXPECT_THROW(static_cast<void>(TlsTicketKeys::from_secret(std::span(secret).first(31))), std::system_error);
  });
}

TEST_F(TlsResumption, KeysRotate) {
  on_loop([] {
    const std::array<std::byte, 40> secret{std::byte{2}};
    for (TlsTicketKeys keys : {TlsTicketKeys(), TlsTicketKeys::from_secret(secret)}) {
      auto options = server_options();
      options.ticket_keys = keys;
      const TlsContext server = TlsContext::server(options);
      const TlsContext client = client_of(TlsVersion::tls_1_3);
      EXPECT_FALSE(converse(client, server));
      keys.rotate();
      EXPECT_TRUE(converse(client, server));  // by the old one, and gets a ticket of the new one
      keys.rotate();
      EXPECT_TRUE(converse(client, server));
      keys.rotate();
      keys.rotate();
      EXPECT_FALSE(converse(client, server));
    }
  });
}

TEST_F(TlsResumption, SurvivesAReloadThatAsksForNoMore) {
  on_loop([] {
    TlsContext server = TlsContext::server(server_options());
    const TlsContext client = client_of(TlsVersion::tls_1_3);
    EXPECT_FALSE(converse(client, server));
    server.reload();
    EXPECT_TRUE(converse(client, server));
    auto stricter = server_options();
    stricter.client_certificate = net::TlsClientCertificate::requested;
    stricter.client_authorities = net::Pem::text(authority().pem());
    server.reload(stricter);
    EXPECT_FALSE(converse(client, server));
  });
}

TEST_F(TlsResumption, IsForOneNameAlone) {
  on_loop([] {
    auto options = server_options();
    options.identities = {issued({.common_name = "two", .dns_names = {"a.example", "b.example"}})};
    const TlsContext server = TlsContext::server(options);
    const TlsContext client = client_of(TlsVersion::tls_1_3);
    for (const std::string_view name : {"a.example", "b.example"}) {
      Handshakes done = shake_hands(client, server, name);
      EXPECT_FALSE(done.pair.client.info().resumed);
      done.pair.server.write_all("x");
      EXPECT_EQ(read_text(done.pair.client, 1), "x");
    }
    EXPECT_TRUE(shake_hands(client, server, "a.example").pair.client.info().resumed);
  });
}

TEST_F(TlsResumption, RemembersSoManyServersAtMost) {
  on_loop([] {
    auto options = server_options();
    options.identities = {issued({.common_name = "all", .dns_names = {"*.many.example"}})};
    const TlsContext server = TlsContext::server(options);
    auto few = client_options();
    few.sessions_max = 2;
    const TlsContext client = TlsContext::client(few);
    const auto resumed = [&](std::string_view name) {
      Handshakes done = shake_hands(client, server, name);
      done.pair.server.write_all("x");
      EXPECT_EQ(read_text(done.pair.client, 1), "x");
      return done.pair.client.info().resumed;
    };
    EXPECT_FALSE(resumed("a.many.example"));
    EXPECT_FALSE(resumed("b.many.example"));
    EXPECT_TRUE(resumed("a.many.example"));
    EXPECT_FALSE(resumed("c.many.example"));  // b is forgotten
    EXPECT_TRUE(resumed("a.many.example"));
    EXPECT_FALSE(resumed("b.many.example"));
  });
}

}  // namespace
}  // namespace bight::test
