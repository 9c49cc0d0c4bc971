// SPDX-License-Identifier: Apache-2.0
// Our TLS server and the clients of others: openssl s_client, curl, socat, Python.
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/net/buffered.hpp>
#include <bight/net/tls.hpp>
#include <bight/scope.hpp>

#include "tls_peers.hpp"

namespace bight::test {
namespace {

using net::Pem;
using net::TlsContext;
using net::TlsServerOptions;
using net::TlsStream;
using ::testing::HasSubstr;
using ::testing::Not;

/// What the server makes of a connection.
std::string report(const TlsStream& stream) {
  const net::TlsInfo info = stream.info();
  const auto certificate = stream.peer_certificate();
  return std::string(net::to_string(info.version)) + " name=" + info.server_name + " alpn=" + info.alpn +
         " client=" + (certificate ? certificate->subject : "nobody") + (info.resumed ? " resumed" : " new");
}

/// Answers lines until "bye", or a request for "/" as HTTP would have it.
void answer(TlsStream& stream) {
  net::BufferedReader reader(stream);
  while (const auto line = reader.read_line()) {
    if (line->starts_with("GET ")) {
      const std::string body = report(stream) + "\n";
      while (!reader.read_line().value_or("").empty()) {
      }
      return stream.write_all("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) +
                              "\r\n\r\n" + body);
    }
    stream.write_all("heard " + std::string(*line) + "; " + report(stream) + "\n");
    if (*line == "bye") return;
  }
}

/// A server of ours with a folder of certificates, and what went wrong with handshakes.
struct Served {
  CertificateFolder& folder;
  std::string port;
  std::vector<std::string> failures;
  net::TlsServeStats stats;

  [[nodiscard]] std::string address() const { return "127.0.0.1:" + port; }
  /// openssl s_client that trusts our authority.
  [[nodiscard]] std::vector<std::string> s_client_args(const std::vector<std::string>& more) const {
    std::vector<std::string> args{"openssl",     "s_client",  "-connect",
                                  address(),     "-CAfile",   folder.ca(),
                                  "-servername", "localhost", "-verify_return_error"};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  /// Its run, until the server ends the connection.
  [[nodiscard]] CommandResult s_client(const std::vector<std::string>& more, const std::string& input = "bye\n") const {
    auto args = s_client_args(more);
    args.emplace_back("-ign_eof");
    return run_peer(args, input);
  }
};

TlsServerOptions server_options(const CertificateFolder& folder) {
  const Certificate certificate = folder.authority().issue(for_localhost());
  TlsServerOptions options;
  options.identities = {{.certificate = Pem::text(certificate.pem), .key = Pem::text(certificate.key_pem)}};
  return options;
}

/// The body with a server, on a loop of a real engine.
template <class Prepare, class Body>
void with_server(const std::string& program, Prepare&& prepare, Body&& body) {
  if (!is_installed(program)) GTEST_SKIP() << "there is no " << program;
  on_loop([&] {
    if (on_sim()) GTEST_SKIP() << "there are no processes in a simulated world";
    CertificateFolder folder;
    TlsServerOptions options = server_options(folder);
    prepare(folder, options);
    const auto context = TlsContext::server(options);
    auto listener = net::TcpListener::bind("127.0.0.1:0");
    Served served{folder, std::to_string(listener.local_address().port()), {}, {}};
    net::ServeControl control;
    net::TlsServeOptions serve;
    serve.serve.control = &control;
    serve.stats = &served.stats;
    serve.on_handshake_failure = [&](const TlsStream& stream, std::error_code) {
      served.failures.push_back(stream.failure());
    };
    const auto handler = [](TlsStream stream) {
      try {
        answer(stream);
      } catch (const std::system_error&) {  // a client that has gone; what it has seen is what is looked at
      }
    };
    auto server = spawn([&] { net::serve_tls(listener, context, handler, serve); });
    body(served);
    control.finish();
    server.join();
  });
}

template <class Body>
void with_server(const std::string& program, Body&& body) {
  with_server(
      program, [](CertificateFolder&, TlsServerOptions&) {}, body);
}

TEST(TlsServerForeign, OpensslSpeaksEitherVersion) {
  with_server("openssl", [](Served& served) {
    for (const char* version : {"1_2", "1_3"}) {
      const auto result = served.s_client({std::string("-tls") + version}, "hello\nbye\n");
      EXPECT_TRUE(result.success()) << describe(result);
      EXPECT_THAT(result.out, HasSubstr("Verify return code: 0 (ok)"));
      EXPECT_THAT(result.out, HasSubstr("heard hello; TLSv1." + std::string(version + 2) + " name=localhost"));
      EXPECT_THAT(result.out, HasSubstr("heard bye"));
    }
    EXPECT_EQ(served.stats.handshakes, 2U);
  });
}

TEST(TlsServerForeign, OldVersionsAreRefused) {
  with_server("openssl", [](Served& served) {
    for (const char* version : {"-tls1", "-tls1_1"}) {
      const auto result = served.s_client({version, "-cipher", "DEFAULT@SECLEVEL=0"});
      EXPECT_FALSE(result.success()) << describe(result);
      EXPECT_THAT(result.err, HasSubstr("alert protocol version"));
    }
    ASSERT_EQ(served.failures.size(), 2U);
    EXPECT_EQ(served.stats.handshakes, 0U);
    EXPECT_TRUE(served.s_client({}).success());
  });
}

TEST(TlsServerForeign, WeakCiphersAreRefused) {
  with_server("openssl", [](Served& served) {
    for (const char* cipher : {"AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "NULL:aNULL:@SECLEVEL=0"}) {
      const auto result = served.s_client({"-tls1_2", "-cipher", cipher});
      EXPECT_FALSE(result.success()) << cipher << describe(result);
    }
    EXPECT_EQ(served.stats.handshakes, 0U);
  });
}

TEST(TlsServerForeign, ApplicationProtocol) {
  const auto prepare = [](CertificateFolder&, TlsServerOptions& options) { options.alpn = {"h2", "http/1.1"}; };
  with_server("openssl", prepare, [](Served& served) {
    const auto chosen = served.s_client({"-alpn", "http/1.1,h2"});  // the server's order counts
    EXPECT_THAT(chosen.out, HasSubstr("ALPN protocol: h2"));
    EXPECT_THAT(chosen.out, HasSubstr(" alpn=h2 "));
    const auto none = served.s_client({});
    EXPECT_THAT(none.out, HasSubstr("No ALPN negotiated"));
    const auto other = served.s_client({"-alpn", "gopher"});
    EXPECT_FALSE(other.success());
    EXPECT_THAT(other.err, HasSubstr("alert no application protocol"));
  });
}

TEST(TlsServerForeign, CertificateByName) {
  const auto prepare = [](CertificateFolder& folder, TlsServerOptions& options) {
    CertificateRequest request;
    request.common_name = "other";
    request.dns_names = {"other.test", "*.wild.test"};
    request.rsa = true;
    const auto certificate = folder.authority().issue(request);
    options.identities.push_back({.certificate = Pem::text(certificate.pem), .key = Pem::text(certificate.key_pem)});
  };
  with_server("openssl", prepare, [](Served& served) {
    const auto of = [&](const std::string& name, const char* version) {
      const auto result = served.s_client({"-servername", name, version});
      EXPECT_TRUE(result.success()) << describe(result);
      return result.out;
    };
    for (const char* version : {"-tls1_2", "-tls1_3"}) {
      EXPECT_THAT(of("localhost", version), HasSubstr("subject=CN = localhost"));
      EXPECT_THAT(of("other.test", version), HasSubstr("subject=CN = other"));
      EXPECT_THAT(of("OTHER.test", version), HasSubstr("subject=CN = other"));
      EXPECT_THAT(of("a.wild.test", version), HasSubstr("subject=CN = other"));
      EXPECT_THAT(of("a.b.wild.test", version), HasSubstr("subject=CN = localhost"));
      EXPECT_THAT(of("nobody.test", version), HasSubstr("subject=CN = localhost"));
    }
  });
}

TEST(TlsServerForeign, ClientCertificate) {
  const auto prepare = [](CertificateFolder& folder, TlsServerOptions& options) {
    options.client_certificate = net::TlsClientCertificate::required;
    options.client_authorities = Pem::file(folder.ca());
    CertificateRequest request;
    request.common_name = "a client";
    request.client = true;
    folder.write("client", folder.authority().issue(request));
    folder.write("stranger", TestAuthority("somebody else").issue(request));
    request.valid_from = std::chrono::days(-9);
    request.valid_to = std::chrono::days(-3);
    folder.write("old", folder.authority().issue(request));
  };
  with_server("openssl", prepare, [](Served& served) {
    const auto with = [&](const std::string& who, const char* version) {
      return served.s_client(
          {version, "-cert", served.folder / (who + ".pem"), "-key", served.folder / (who + "_key.pem")});
    };
    for (const char* version : {"-tls1_2", "-tls1_3"}) {
      const auto good = with("client", version);
      EXPECT_TRUE(good.success()) << describe(good);
      EXPECT_THAT(good.out, HasSubstr("client=CN=a client"));
      EXPECT_THAT(with("stranger", version).err, HasSubstr("alert unknown ca"));
      EXPECT_THAT(with("old", version).err, HasSubstr("alert certificate expired"));
      const auto without = served.s_client({version});
      EXPECT_FALSE(without.success());
      EXPECT_THAT(without.out, Not(HasSubstr("heard")));
    }
    EXPECT_EQ(served.failures.size(), 6U);
    EXPECT_THAT(served.failures.at(1), HasSubstr("expired"));
  });
}

TEST(TlsServerForeign, Resumption) {
  with_server("openssl", [](Served& served) {
    const std::string session = served.folder / "session";
    for (const char* version : {"-tls1_2", "-tls1_3"}) {
      const auto first = served.s_client({version, "-sess_out", session});
      EXPECT_THAT(first.out, HasSubstr("client=nobody new")) << describe(first);
      const auto second = served.s_client({version, "-sess_in", session});
      EXPECT_THAT(second.out, HasSubstr("Reused, TLSv1.")) << describe(second);
      EXPECT_THAT(second.out, HasSubstr("client=nobody resumed"));
    }
    const auto again = served.s_client({"-tls1_2", "-reconnect"});
    EXPECT_THAT(again.out, HasSubstr("Reused, TLSv1.2")) << describe(again);
    EXPECT_EQ(served.stats.resumed, 7U);
  });
}

// A letter alone in a line, if it comes alone, is a command to s_client.

TEST(TlsServerForeign, RenegotiationIsRefused) {
  with_server("openssl", [](Served& served) {
    Peer client(served.s_client_args({"-tls1_2"}));
    client.say("hello");
    static_cast<void>(client.hear("heard hello"));
    client.say("R");
    static_cast<void>(client.hear("RENEGOTIATING"));
    static_cast<void>(client.hear("no renegotiation"));
    EXPECT_TRUE(served.s_client({}).success());
    EXPECT_EQ(served.stats.handshakes, 2U);
  });
}

TEST(TlsServerForeign, NewKeysOnTheWay) {
  with_server("openssl", [](Served& served) {
    Peer client(served.s_client_args({"-tls1_3"}));
    for (const char* command : {"K", "k", "K"}) {  // new keys for both sides, or for the client's
      client.say("before");
      static_cast<void>(client.hear("heard before"));
      client.say(command);
      static_cast<void>(client.hear("KEYUPDATE"));
      client.say("after");
      static_cast<void>(client.hear("heard after"));
    }
    client.say("bye");
    static_cast<void>(client.hear("heard bye"));
    static_cast<void>(client.hear("closed"));
  });
}

TEST(TlsServerForeign, CurlFetches) {
  const auto prepare = [](CertificateFolder&, TlsServerOptions& options) { options.alpn = {"http/1.1"}; };
  with_server("curl", prepare, [](Served& served) {
    const std::string url = "https://localhost:" + served.port + "/";
    const std::vector<std::string> common{"curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "20"};
    const auto curl = [&](const std::vector<std::string>& more) {
      auto args = common;
      args.insert(args.end(), more.begin(), more.end());
      return run_peer(args);
    };
    const auto good =
        curl({"--cacert", served.folder.ca(), "--resolve", "localhost:" + served.port + ":127.0.0.1", url});
    EXPECT_TRUE(good.success()) << describe(good);
    EXPECT_EQ(good.out, "TLSv1.3 name=localhost alpn=http/1.1 client=nobody new\n");
    const auto by_address = curl({"--cacert", served.folder.ca(), "https://127.0.0.1:" + served.port + "/"});
    EXPECT_TRUE(by_address.success()) << describe(by_address);
    const auto untrusted = curl({"--resolve", "localhost:" + served.port + ":127.0.0.1", url});
    EXPECT_EQ(untrusted.status.code(), 60) << describe(untrusted);
    const auto old = curl({"--tls-max", "1.1", "--cacert", served.folder.ca(), url, "--resolve",
                           "localhost:" + served.port + ":127.0.0.1", "--ciphers", "DEFAULT@SECLEVEL=0"});
    EXPECT_EQ(old.status.code(), 35) << describe(old);
  });
}

TEST(TlsServerForeign, PlainHttpIsTold) {
  with_server("curl", [](Served& served) {
    const auto result =
        run_peer({"curl", "--silent", "--noproxy", "*", "--max-time", "20", "http://" + served.address()});
    EXPECT_FALSE(result.success());
    ASSERT_EQ(served.failures.size(), 1U);
    EXPECT_THAT(served.failures.front(), HasSubstr("HTTP"));
  });
}

TEST(TlsServerForeign, SocatTalks) {
  with_server("socat", [](Served& served) {
    const auto result =
        run_peer({"socat", "-t", "20", "-",
                  "OPENSSL:127.0.0.1:" + served.port + ",cafile=" + served.folder.ca() + ",commonname=localhost"},
                 "hello\nbye\n");
    EXPECT_TRUE(result.success()) << describe(result);
    EXPECT_THAT(result.out, HasSubstr("heard hello"));
    EXPECT_THAT(result.out, HasSubstr("heard bye"));
  });
}

// Resumes, sends much in odd pieces, and ends as it should: sees close_notify, not just the end.
constexpr const char* kPython = R"(
import socket, ssl, sys
port, authority = int(sys.argv[1]), sys.argv[2]
context = ssl.create_default_context(cafile=authority)
def talk(session=None, version=None):
    raw = socket.create_connection(("127.0.0.1", port), timeout=20)
    with context.wrap_socket(raw, server_hostname="localhost", session=session, suppress_ragged_eofs=False) as peer:
        file = peer.makefile("rwb")
        for number in range(200):
            line = b"x" * (number * 37 % 1000) + b"\n"
            peer.sendall(line[: number % 7]); peer.sendall(line[number % 7 :])
        peer.sendall(b"bye\n")
        answers = file.read().splitlines()
        assert len(answers) == 201, len(answers)
        assert all(answers[number].startswith(b"heard " + b"x" * (number * 37 % 1000) + b";") for number in range(200))
        return peer.session, answers[-1].decode()
session, first = talk()
_, second = talk(session)
print(first); print(second)
)";

TEST(TlsServerForeign, PythonTalks) {
  with_server("python3", [](Served& served) {
    const auto result = run_peer({"python3", "-c", kPython, served.port, served.folder.ca()});
    EXPECT_TRUE(result.success()) << describe(result);
    EXPECT_THAT(result.out, HasSubstr("nobody new"));
    EXPECT_THAT(result.out, HasSubstr("nobody resumed"));
  });
}

}  // namespace
}  // namespace bight::test
