// SPDX-License-Identifier: Apache-2.0
// Our TLS client and the servers of others: openssl s_server, socat, Python.
#include <array>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/net/buffered.hpp>
#include <bight/net/tls.hpp>

#include "tls_peers.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::Pem;
using net::TlsClientOptions;
using net::TlsContext;
using net::TlsError;
using net::TlsStream;
using ::testing::HasSubstr;

TlsClientOptions trusting(const CertificateFolder& folder) {
  TlsClientOptions options;
  options.system_authorities = false;
  options.authorities = Pem::file(folder.ca());
  return options;
}

struct Talked {
  std::error_code error;
  std::string text;  // the answer, or what went wrong
  net::TlsInfo info;
};

/// Connects, says a line and hears one.
Talked talk(std::uint16_t port, const TlsContext& context, const std::string& line = "hello",
            const std::string& name = "localhost") {
  net::TlsConnectOptions options;
  options.context = context;
  options.name = name;
  return with_timeout(kPatience, [&] {
    Talked talked;
    try {
      auto stream = net::connect_tls("127.0.0.1", port, options);
      stream.write_all(line + "\n");
      net::BufferedReader reader(stream);
      talked.text = reader.read_line().value_or("the end");
      talked.info = stream.info();
    } catch (const std::system_error& error) {
      talked.error = error.code();
      talked.text = error.what();
    }
    return talked;
  });
}

/// Reads to the end.
std::string fetch(std::uint16_t port, const TlsContext& context, const std::string& request) {
  net::TlsConnectOptions options;
  options.context = context;
  options.name = "localhost";
  return with_timeout(kPatience, [&] {
    auto stream = net::connect_tls("127.0.0.1", port, options);
    stream.write_all(request);
    std::string all;
    while (const Chunk chunk = stream.read()) all.append(reinterpret_cast<const char*>(chunk.data()), chunk.size());
    return all;
  });
}

template <class Body>
void with_folder(const std::string& program, Body&& body) {
  if (!is_installed(program)) GTEST_SKIP() << "there is no " << program;
  on_loop([&] {
    if (on_sim()) GTEST_SKIP() << "there are no processes in a simulated world";
    CertificateFolder folder;
    folder.write("server", folder.authority().issue(for_localhost()));
    body(folder);
  });
}

/// openssl s_server on a free port, which sends lines back reversed unless told otherwise.
class OpensslServer {
 public:
  OpensslServer(const CertificateFolder& folder, const std::string& who, std::vector<std::string> more = {"-rev"})
      : server_(arguments(folder, who, std::move(more))), port_(server_.hear_port("ACCEPT ")) {}

  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  void kill() noexcept { server_.kill(); }

 private:
  static std::vector<std::string> arguments(const CertificateFolder& folder, const std::string& who,
                                            std::vector<std::string> more) {
    std::vector<std::string> all{"openssl", "s_server",
                                 "-accept", "127.0.0.1:0",
                                 "-cert",   folder / (who + ".pem"),
                                 "-key",    folder / (who + "_key.pem")};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  Peer server_;
  std::uint16_t port_;
};

TEST(TlsClientForeign, OpensslOfEitherVersion) {
  with_folder("openssl", [](CertificateFolder& folder) {
    const auto context = TlsContext::client(trusting(folder));
    for (const char* version : {"2", "3"}) {
      OpensslServer server(folder, "server", {"-rev", std::string("-tls1_") + version});
      const Talked talked = talk(server.port(), context);
      EXPECT_EQ(talked.text, "olleh");
      EXPECT_EQ(net::to_string(talked.info.version), std::string("TLSv1.") + version);
    }
  });
}

TEST(TlsClientForeign, OpensslsStatusPage) {
  with_folder("openssl", [](CertificateFolder& folder) {
    OpensslServer server(folder, "server", {"-www"});
    const auto page = fetch(server.port(), TlsContext::client(trusting(folder)), "GET / HTTP/1.0\r\n\r\n");
    EXPECT_THAT(page, HasSubstr("HTTP/1.0 200 ok"));
    EXPECT_THAT(page, HasSubstr("TLSv1.3"));
    EXPECT_THAT(page, HasSubstr("</pre></BODY></HTML>"));
  });
}

TEST(TlsClientForeign, OldVersionsAreRefused) {
  with_folder("openssl", [](CertificateFolder& folder) {
    const auto context = TlsContext::client(trusting(folder));
    for (const char* version : {"-tls1", "-tls1_1"}) {
      OpensslServer server(folder, "server", {"-rev", version, "-cipher", "DEFAULT@SECLEVEL=0"});
      const Talked talked = talk(server.port(), context);
      EXPECT_TRUE(talked.error == TlsError::no_shared_version || talked.error == TlsError::alert_protocol_version)
          << talked.text;
    }
  });
}

TEST(TlsClientForeign, AnotherGroupThanOffered) {
  with_folder("openssl", [](CertificateFolder& folder) {
    OpensslServer server(folder, "server", {"-rev", "-groups", "P-384"});  // asks for another hello
    EXPECT_EQ(talk(server.port(), TlsContext::client(trusting(folder))).text, "olleh");
  });
}

TEST(TlsClientForeign, BadCertificatesHaveTheirErrors) {
  with_folder("openssl", [](CertificateFolder& folder) {
    auto request = for_localhost();
    request.valid_to = std::chrono::days(-1);
    request.valid_from = std::chrono::days(-5);
    folder.write("expired", folder.authority().issue(request));
    request.valid_from = std::chrono::days(1);
    request.valid_to = std::chrono::days(2);
    folder.write("early", folder.authority().issue(request));
    folder.write("alone", self_signed(for_localhost()));
    folder.write("stranger", TestAuthority("somebody else").issue(for_localhost()));
    request = for_localhost();
    request.dns_names = {"elsewhere.test"};
    folder.write("elsewhere", folder.authority().issue(request));
    const Certificate revoked = folder.authority().issue(for_localhost());
    folder.write("revoked", revoked);
    auto options = trusting(folder);
    options.revocation_lists = Pem::text(folder.authority().revocation_list({&revoked}));
    const auto context = TlsContext::client(options);
    const std::vector<std::pair<const char*, TlsError>> cases{
        {"expired", TlsError::certificate_expired}, {"early", TlsError::certificate_not_yet_valid},
        {"alone", TlsError::self_signed},           {"stranger", TlsError::unknown_authority},
        {"elsewhere", TlsError::host_mismatch},     {"revoked", TlsError::certificate_revoked}};
    for (const auto& [who, error] : cases) {
      OpensslServer server(folder, who);
      const Talked talked = talk(server.port(), context);
      EXPECT_EQ(talked.error, error) << who << ": " << talked.text;
      EXPECT_THAT(talked.text, HasSubstr("127.0.0.1"));
    }
    OpensslServer good(folder, "server");
    EXPECT_EQ(talk(good.port(), context).text, "olleh");
    EXPECT_EQ(talk(good.port(), context, "hello", "127.0.0.1").text, "olleh");
    EXPECT_EQ(talk(good.port(), context, "hello", "127.0.0.2").error, TlsError::host_mismatch);
  });
}

TEST(TlsClientForeign, ChainThroughAnIntermediate) {
  with_folder("openssl", [](CertificateFolder& folder) {
    const auto intermediate = folder.authority().intermediate("in between");
    folder.write("long", intermediate.issue(for_localhost()));
    const Certificate between{intermediate.pem(), ""};
    OpensslServer server(folder, "long", {"-rev", "-cert_chain", folder.write("between.pem", between.pem)});
    EXPECT_EQ(talk(server.port(), TlsContext::client(trusting(folder))).text, "olleh");
    auto options = trusting(folder);
    options.revocation_lists = Pem::text(folder.authority().revocation_list({&between}));
    EXPECT_EQ(talk(server.port(), TlsContext::client(options)).error, TlsError::certificate_revoked);
    OpensslServer without(folder, "long");
    EXPECT_EQ(talk(without.port(), TlsContext::client(trusting(folder))).error, TlsError::unknown_authority);
  });
}

TEST(TlsClientForeign, OwnCertificate) {
  with_folder("openssl", [](CertificateFolder& folder) {
    CertificateRequest request;
    request.common_name = "a client";
    request.client = true;
    const auto mine = folder.authority().issue(request);
    for (const char* version : {"-tls1_2", "-tls1_3"}) {
      OpensslServer server(folder, "server",
                           {"-rev", "-Verify", "1", "-verify_return_error", "-CAfile", folder.ca(), version});
      auto options = trusting(folder);
      const Talked without = talk(server.port(), TlsContext::client(options));
      EXPECT_TRUE(without.error == TlsError::alert_certificate_required ||
                  without.error == TlsError::alert_handshake_failure)
          << without.text;
      options.identity = net::TlsIdentity{.certificate = Pem::text(mine.pem), .key = Pem::text(mine.key_pem)};
      EXPECT_EQ(talk(server.port(), TlsContext::client(options)).text, "olleh");
    }
  });
}

TEST(TlsClientForeign, ApplicationProtocol) {
  with_folder("openssl", [](CertificateFolder& folder) {
    OpensslServer server(folder, "server", {"-rev", "-alpn", "h2,http/1.1"});
    auto options = trusting(folder);
    options.alpn = {"http/1.1", "h2"};
    EXPECT_EQ(talk(server.port(), TlsContext::client(options)).info.alpn, "h2");
    options.alpn = {"gopher"};
    EXPECT_EQ(talk(server.port(), TlsContext::client(options)).error, TlsError::alert_no_application_protocol);
  });
}

TEST(TlsClientForeign, Resumption) {
  with_folder("openssl", [](CertificateFolder& folder) {
    for (const char* version : {"-tls1_2", "-tls1_3"}) {
      OpensslServer server(folder, "server", {"-rev", version});
      const auto context = TlsContext::client(trusting(folder));
      EXPECT_FALSE(talk(server.port(), context).info.resumed);
      EXPECT_TRUE(talk(server.port(), context).info.resumed);
      EXPECT_TRUE(talk(server.port(), context).info.resumed);
      EXPECT_FALSE(talk(server.port(), TlsContext::client(trusting(folder))).info.resumed);
    }
  });
}

TEST(TlsClientForeign, EndWithoutAWordIsTruncation) {
  with_folder("openssl", [](CertificateFolder& folder) {
    OpensslServer server(folder, "server");
    net::TlsConnectOptions options;
    options.context = TlsContext::client(trusting(folder));
    options.name = "localhost";
    auto stream = net::connect_tls("127.0.0.1", server.port(), options);
    stream.write_all("hello\n");
    std::array<std::byte, 6> answer{};
    stream.read_exactly(answer);
    server.kill();
    std::error_code error;
    with_timeout(kPatience, [&] { static_cast<void>(stream.read(error)); });
    EXPECT_TRUE(error == TlsError::truncated || error == std::errc::connection_reset) << error.message();
  });
}

TEST(TlsClientForeign, SocatEchoes) {
  with_folder("socat", [](CertificateFolder& folder) {
    // socat can not say which free port it has got, so it is told one: again, should somebody else be faster.
    for (int tried = 0; tried < 5; ++tried) {
      auto probe = net::TcpListener::bind("127.0.0.1:0");
      const std::uint16_t port = probe.local_address().port();
      probe.close();
      Peer server({"socat", "-d", "-d",
                   "OPENSSL-LISTEN:" + std::to_string(port) + ",bind=127.0.0.1,reuseaddr,verify=0,cert=" +
                       (folder / "server.pem") + ",key=" + (folder / "server_key.pem"),
                   "PIPE"});
      try {
        static_cast<void>(server.hear_port("listening on"));
      } catch (const std::runtime_error&) {
        continue;
      }
      EXPECT_EQ(talk(port, TlsContext::client(trusting(folder)), "over and over").text, "over and over");
      return;
    }
    FAIL() << "socat could not listen";
  });
}

// Echoes in records of odd sizes, and asks for the end by unwrap(), which wants an answer.
constexpr const char* kPython = R"(
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
listener = socket.create_server(("127.0.0.1", 0))
print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
raw, _ = listener.accept()
raw.settimeout(20)
peer = context.wrap_socket(raw, server_side=True, suppress_ragged_eofs=False)
size = 1
while data := peer.recv(100000):
    while data:
        peer.sendall(data[:size])
        data = data[size:]
        size = size * 7 % 20011
peer.unwrap()
print("well", flush=True)
sys.stdin.read()
)";

TEST(TlsClientForeign, PythonEchoesMuch) {
  with_folder("python3", [](CertificateFolder& folder) {
    Peer server({"python3", "-c", kPython, folder / "server.pem", folder / "server_key.pem"});
    const auto port = server.hear_port("listening on");
    net::TlsConnectOptions options;
    options.context = TlsContext::client(trusting(folder));
    options.name = "localhost";
    with_timeout(kPatience, [&] {
      auto stream = net::connect_tls("127.0.0.1", port, options);
      std::string sent(3'000'000, '\0');
      for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 31 + i / 251);
      auto writer = spawn([&] {
        stream.write_all(sent);
        stream.shutdown_write();
      });
      std::string received;
      while (const Chunk chunk = stream.read())
        received.append(reinterpret_cast<const char*>(chunk.data()), chunk.size());
      writer.get();
      EXPECT_EQ(received == sent, true);
    });
    EXPECT_EQ(server.hear("well"), "well");
  });
}

}  // namespace
}  // namespace bight::test
