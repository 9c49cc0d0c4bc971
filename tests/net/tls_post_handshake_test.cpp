// SPDX-License-Identifier: Apache-2.0
// What TLS 1.3 says between the data, by a peer that can be told what to say and when: OpenSSL itself.

#include <bight/net/tls_stream.hpp>

#include <array>
#include <string>
#include <vector>

#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <bight/deadline.hpp>
#include <bight/time.hpp>

#include "tls_test.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::MemoryStream;
using net::TlsError;
using net::TlsStream;

class TlsPostHandshake : public NetTest {};

/// Tickets so large that they take several records.
int grow_ticket(SSL* ssl, void* /*argument*/) {
  const std::string data(2000, 'd');
  return SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), data.data(), data.size());
}

SSL_TICKET_RETURN take_ticket(SSL*, SSL_SESSION*, const unsigned char*, std::size_t, SSL_TICKET_STATUS, void*) {
  return SSL_TICKET_RETURN_IGNORE;
}

SSL_CTX* raw_server() {
  SSL_CTX* context = SSL_CTX_new(TLS_server_method());
  BIO* text = BIO_new_mem_buf(localhost().certificate.value().data(), -1);
  X509* certificate = PEM_read_bio_X509(text, nullptr, nullptr, nullptr);
  SSL_CTX_use_certificate(context, certificate);
  X509_free(certificate);
  BIO_free(text);
  text = BIO_new_mem_buf(localhost().key.value().data(), -1);
  EVP_PKEY* key = PEM_read_bio_PrivateKey(text, nullptr, nullptr, nullptr);
  SSL_CTX_use_PrivateKey(context, key);
  EVP_PKEY_free(key);
  BIO_free(text);
  SSL_CTX_set_max_send_fragment(context, 512);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_session_ticket_cb(context, grow_ticket, take_ticket, nullptr);
  return context;
}

/// A client that trusts everybody, or a server, over one end of a MemoryStream.
class RawPeer {
 public:
  explicit RawPeer(MemoryStream stream, bool server = false) : stream_(std::move(stream)) {
    context_ = server ? raw_server() : SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context_, TLS1_3_VERSION);
    ssl_ = SSL_new(context_);
    in_ = BIO_new(BIO_s_mem());
    out_ = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl_, in_, out_);
    server ? SSL_set_accept_state(ssl_) : SSL_set_connect_state(ssl_);
  }
  RawPeer(const RawPeer&) = delete;
  RawPeer& operator=(const RawPeer&) = delete;
  ~RawPeer() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }

  void handshake() {
    while (SSL_do_handshake(ssl_) != 1) {
      send();
      receive();
    }
  }
  /// What it has to say, as records.
  std::vector<std::byte> take() {
    std::vector<std::byte> bytes(BIO_ctrl_pending(out_));
    if (!bytes.empty()) BIO_read(out_, bytes.data(), static_cast<int>(bytes.size()));
    return bytes;
  }
  void send() { stream_.write_all(take()); }
  void receive() {
    std::array<std::byte, 4096> buffer;
    const std::size_t count = stream_.read(buffer);
    ASSERT_GT(count, 0U);
    BIO_write(in_, buffer.data(), static_cast<int>(count));
  }
  std::string read(std::size_t size) {
    std::string text;
    std::array<char, 4096> buffer;
    while (text.size() < size) {
      const int count = SSL_read(ssl_, buffer.data(), static_cast<int>(std::min(size - text.size(), buffer.size())));
      if (count > 0) {
        text.append(buffer.data(), static_cast<std::size_t>(count));
        continue;
      }
      if (SSL_get_error(ssl_, count) != SSL_ERROR_WANT_READ) return text + " and no more";
      receive();
    }
    return text;
  }
  void write(std::string_view text) {
    ASSERT_EQ(SSL_write(ssl_, text.data(), static_cast<int>(text.size())), static_cast<int>(text.size()));
  }
  /// A request for new keys, in records of its own.
  std::vector<std::byte> key_update() {
    SSL_key_update(ssl_, SSL_KEY_UPDATE_REQUESTED);
    SSL_do_handshake(ssl_);
    return take();
  }
  [[nodiscard]] SSL* ssl() noexcept { return ssl_; }
  [[nodiscard]] MemoryStream& stream() noexcept { return stream_; }

 private:
  MemoryStream stream_;
  SSL_CTX* context_;
  SSL* ssl_;
  BIO* in_;
  BIO* out_;
};

/// A client as above and a server, which have agreed.
struct RawPair {
  explicit RawPair(std::size_t capacity = std::size_t{64} * 1024) : RawPair(MemoryStream::pair(capacity)) {}
  explicit RawPair(std::pair<MemoryStream, MemoryStream> ends)
      : client(std::move(ends.first)), server(TlsStream::server(std::move(ends.second), server_context())) {
    Scope scope;
    scope.spawn([this] { server.handshake(); }).detach();
    client.handshake();
    client.send();
    scope.join();
    client.write("x");
    client.send();
    EXPECT_EQ(read_text(server, 1), "x");
    server.write_all("y");
    EXPECT_EQ(client.read(1), "y");
  }
  RawPeer client;
  TlsStream server;
};

TEST_F(TlsPostHandshake, NewKeysAreAgreedOnInBetween) {
  on_loop([] {
    RawPair pair;
    for (int n = 0; n < 5; ++n) {
      pair.client.stream().write_all(pair.client.key_update());
      pair.client.write("ping");
      pair.client.send();
      EXPECT_EQ(read_text(pair.server, 4), "ping");
      pair.server.write_all("pong");
      EXPECT_EQ(pair.client.read(4), "pong");
    }
  });
}

/// Both have a lot to say, and the peer does one thing at a time: it reads when it has written. What it asks for while
/// nothing can be sent to it does not keep the reader from reading, which is what it waits for.
TEST_F(TlsPostHandshake, AReplyThatCanNotBeSentDoesNotKeepAReader) {
  on_loop([] {
    RawPair pair(1000);
    // The way to the client is full, and no writer waits.
    pair.server.set_write_timeout(5ms);
    std::error_code error;
    std::size_t sent = 0;
    while (!error) {
      pair.server.write_all(std::string(100, 'z'), error);
      if (!error) sent += 100;
    }
    EXPECT_EQ(error, std::errc::timed_out);
    pair.server.set_write_timeout(0s);
    Scope scope;
    std::string got;
    auto reader = scope.spawn([&] {
      const Failure failure = failure_of([&] { got = read_text(pair.server, 10'000); });
      EXPECT_EQ(failure.text, "");
    });
    pair.client.stream().write_all(pair.client.key_update());
    pair.client.write(std::string(10'000, 'a'));
    const bool in_time = move_on_after(2s, [&] {
      pair.client.send();
      reader.join();
    });
    EXPECT_TRUE(in_time);
    EXPECT_EQ(got.size(), 10'000U);
    // And it is sent when there is room.
    pair.client.read(sent);
    pair.server.reset();
    scope.join();
    yield();  // the fiber that sent it hears of that
  });
}

/// What comes after the peer's last word is looked at by nobody, also not by a write, for which OpenSSL may want to go
/// on with a message that has begun.
TEST_F(TlsPostHandshake, WhatFollowsTheEndIsForNobody) {
  on_loop([] {
    RawPair pair;
    pair.client.write("last");
    SSL_shutdown(pair.client.ssl());
    std::vector<std::byte> bytes = pair.client.take();
    bytes.insert(bytes.end(), 3000, std::byte{0x17});
    pair.client.stream().write_all(bytes);
    EXPECT_EQ(read_text(pair.server, 4), "last");
    EXPECT_TRUE(pair.server.read().empty());
    pair.server.write_all("bye");
    EXPECT_TRUE(pair.server.read().empty());
    EXPECT_EQ(pair.client.read(3), "bye");
  });
}

/// While a message has come in part, OpenSSL writes nothing: a writer waits for the rest, whoever receives it.
TEST_F(TlsPostHandshake, WritersWaitForTheRestOfAMessage) {
  on_loop([] {
    for (const bool reads : {false, true}) {
      for (const bool ends : {false, true}) {
        auto ends_of = MemoryStream::pair();
        RawPeer server(std::move(ends_of.first), true);
        TlsStream client = TlsStream::client(std::move(ends_of.second), "localhost", client_context());
        Scope scope;
        scope.spawn([&] { client.handshake(); }).detach();
        server.handshake();
        server.send();
        ASSERT_EQ(SSL_new_session_ticket(server.ssl()), 1);
        SSL_do_handshake(server.ssl());
        const std::vector<std::byte> ticket = server.take();
        ASSERT_GT(ticket.size(), 2000U);
        scope.join();
        const std::size_t first =
            5 + std::to_integer<std::size_t>(ticket[3]) * 256 + std::to_integer<std::size_t>(ticket[4]);
        ASSERT_LT(first, ticket.size());
        std::string got;
        if (reads) scope.spawn([&] { got = read_text(client, 3); }).detach();
        server.stream().write_all(std::span(ticket).first(first));
        if (!reads) {
          client.set_read_timeout(1ms);
          std::error_code error;
          static_cast<void>(client.read(error));
          EXPECT_EQ(error, std::errc::timed_out);
          client.set_read_timeout(0s);
        }
        for (int n = 0; n < 10; ++n) yield();
        scope
            .spawn([&] {
              if (ends) return client.shutdown_write();
              client.write_all("out");
            })
            .detach();
        for (int n = 0; n < 10; ++n) yield();
        server.stream().write_all(std::span(ticket).subspan(first));
        server.write("in.");
        server.send();
        EXPECT_EQ(server.read(3), ends ? " and no more" : "out");
        if (!reads) got = read_text(client, 3);
        scope.join();
        EXPECT_EQ(got, "in.");
      }
    }
  });
}

TEST_F(TlsPostHandshake, FloodsOfRequestsEndTheConnection) {
  on_loop([] {
    RawPair pair(2000);
    Scope scope;
    std::error_code error;
    auto reader = scope.spawn([&] {
      static_cast<void>(pair.server.read(error));
      pair.server.close();
    });
    std::error_code flooding;
    for (int n = 0; n < 20'000 && !flooding && !reader.done(); ++n) {
      pair.client.stream().write_all(pair.client.key_update(), flooding);
    }
    pair.client.stream().close();
    scope.join();
    yield();
    EXPECT_EQ(error, TlsError::protocol_error) << error.message();
  });
}

}  // namespace
}  // namespace bight::test
