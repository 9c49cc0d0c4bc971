// SPDX-License-Identifier: Apache-2.0
// TlsStream as a stream: what TcpStream's users may count on holds here, too.

#include <bight/net/tls_stream.hpp>

#include <array>
#include <thread>
#include <vector>

#include <bight/copy.hpp>
#include <bight/deadline.hpp>
#include <bight/event.hpp>
#include <bight/net/buffered.hpp>
#include <bight/net/copy_both.hpp>
#include <bight/net/unix.hpp>
#include <bight/time.hpp>

#include "loop_thread.hpp"
#include "tls_test.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::MemoryStream;
using net::TlsContext;
using net::TlsError;
using net::TlsStream;
using net::TlsVersion;

static_assert(net::HalfClosable<TlsStream> && net::ByteStream<TlsStream>);
static_assert(net::TlsCarrier<net::TcpStream> && net::TlsCarrier<net::UnixStream> && net::TlsCarrier<MemoryStream>);

class Tls : public NetTest {};

void echo_tls(TlsStream stream) {
  while (const Chunk chunk = stream.read()) stream.write_all(chunk);
  stream.shutdown_write();
}

TEST_F(Tls, ClientAndServerAgreeAndTalk) {
  on_loop([] {
    TlsPair pair = tls_pair();
    EXPECT_TRUE(pair.client.is_established());
    pair.client.write_all("hello");
    EXPECT_EQ(read_text(pair.server, 5), "hello");
    pair.server.write_all("hello to you");
    EXPECT_EQ(pair.client.read().text(), "hello to you");
    pair.client.shutdown_write();
    EXPECT_TRUE(pair.server.read().empty());
    pair.server.write_all("still there");
    EXPECT_EQ(read_text(pair.client, 11), "still there");
    pair.server.close();
    EXPECT_TRUE(pair.client.read().empty());
    EXPECT_TRUE(pair.client.read().empty());
  });
}

TEST_F(Tls, TheFirstReadOrWriteDoesTheHandshake) {
  on_loop([] {
    TlsPair pair = tls_over(tcp_pair());
    Scope scope;
    scope.spawn([&] { echo_tls(std::move(pair.server)); }).detach();
    pair.client.write_all("by itself");
    EXPECT_EQ(read_text(pair.client, 9), "by itself");
    pair.client.shutdown_write();
    EXPECT_TRUE(pair.client.read().empty());
  });
}

TEST_F(Tls, ReaderAndWriterMayBothBeginWithTheHandshake) {
  on_loop([] {
    TlsPair pair = tls_over(tcp_pair());
    Scope scope;
    scope.spawn([&] { echo_tls(std::move(pair.server)); }).detach();
    scope.spawn([&] { EXPECT_EQ(read_text(pair.client, 4), "both"); }).detach();
    scope.spawn([&] { pair.client.write_all("both"); }).detach();
    yield();
    scope
        .spawn([&] {
          while (!pair.client.is_established()) sleep_for(1ms);
        })
        .detach();
    sleep_for(10ms);
    std::error_code error;
    std::array<std::byte, 1> byte;
    while (scope.size() > 1) sleep_for(1ms);
    pair.client.shutdown_write();
    EXPECT_EQ(pair.client.read(byte, error), 0U);
    EXPECT_FALSE(error);
  });
}

TEST_F(Tls, SaysWhatWasAgreedOn) {
  on_loop([] {
    auto server = server_options();
    server.alpn = {"h2", "http/1.1"};
    auto client = client_options();
    client.alpn = {"http/1.1"};
    const TlsPair pair = tls_pair(TlsContext::client(client), TlsContext::server(server));
    for (const TlsStream* stream : {&pair.client, &pair.server}) {
      const net::TlsInfo info = stream->info();
      EXPECT_EQ(info.version, TlsVersion::tls_1_3);
      EXPECT_EQ(net::to_string(info.version), "TLSv1.3");
      EXPECT_TRUE(info.cipher.starts_with("TLS_")) << info.cipher;
      EXPECT_EQ(info.alpn, "http/1.1");
      EXPECT_EQ(stream->alpn(), "http/1.1");
      EXPECT_EQ(info.server_name, "localhost");
      EXPECT_FALSE(info.resumed);
    }
    const auto certificate = pair.client.peer_certificate();
    ASSERT_TRUE(certificate);
    EXPECT_EQ(certificate->subject, "CN=localhost");
    EXPECT_EQ(certificate->issuer, "CN=bight test CA");
    EXPECT_EQ(certificate->dns_names, std::vector<std::string>{"localhost"});
    EXPECT_EQ(certificate->addresses, (std::vector<std::string>{"127.0.0.1", "::1"}));
    EXPECT_LT(certificate->not_before, std::chrono::system_clock::now());
    EXPECT_GT(certificate->not_after, std::chrono::system_clock::now() + 24h);
    EXPECT_EQ(certificate->fingerprint.size(), 64U);
    EXPECT_NE(certificate->pem.find("BEGIN CERTIFICATE"), std::string::npos);
    EXPECT_FALSE(pair.server.peer_certificate());
  });
}

TEST_F(Tls, Version12AndItsLimits) {
  on_loop([] {
    auto old = client_options();
    old.protocol.version_max = TlsVersion::tls_1_2;
    TlsPair pair = tls_pair(TlsContext::client(old), server_context());
    EXPECT_EQ(pair.client.info().version, TlsVersion::tls_1_2);
    EXPECT_TRUE(pair.client.info().cipher.starts_with("ECDHE-")) << pair.client.info().cipher;
    pair.client.write_all("old");
    EXPECT_EQ(read_text(pair.server, 3), "old");

    auto modern = server_options();
    modern.protocol.version_min = TlsVersion::tls_1_3;
    const Handshakes refused = shake_hands(TlsContext::client(old), TlsContext::server(modern));
    EXPECT_EQ(refused.server.code, TlsError::no_shared_version) << refused.server.text;
    EXPECT_EQ(refused.client.code, TlsError::alert_protocol_version) << refused.client.text;
    EXPECT_TRUE(net::is_tls_alert(refused.client.code));
  });
}

/// Megabytes both ways at the same time, by small and large pieces.
template <class S>
void duplex(std::pair<S, S> ends, std::size_t size, std::size_t piece) {
  TlsPair pair = tls_over(std::move(ends));
  Scope scope;
  const auto send = [=](TlsStream& stream) {
    std::vector<std::byte> buffer(piece);
    for (std::size_t sent = 0; sent < size; sent += buffer.size()) {
      buffer.resize(std::min(piece, size - sent));
      fill_pattern(buffer, sent);
      stream.write_all(buffer);
    }
    stream.shutdown_write();
  };
  const auto receive = [=](TlsStream& stream, bool by_chunks) {
    std::uint64_t received = 0;
    std::vector<std::byte> buffer(piece / 2 + 1);
    for (;;) {
      const Chunk chunk = by_chunks ? stream.read() : Chunk();
      std::span<const std::byte> data = chunk;
      if (!by_chunks) data = std::span(buffer).first(stream.read(buffer));
      if (data.empty()) break;
      ASSERT_TRUE(matches_pattern(data, received)) << "after " << received;
      received += data.size();
    }
    EXPECT_EQ(received, size);
  };
  scope.spawn([&] { send(pair.client); }).detach();
  scope.spawn([&] { send(pair.server); }).detach();
  scope.spawn([&] { receive(pair.client, true); }).detach();
  scope.spawn([&] { receive(pair.server, false); }).detach();
  scope.join();
}

TEST_F(Tls, FullDuplexMegabytes) {
  on_loop([] {
    duplex(tcp_pair(), 8'000'000, 100'000);
    duplex(tcp_pair(), 1'000'000, 777);
    duplex(MemoryStream::pair(), 1'000'000, 40'000);
    duplex(MemoryStream::pair(1), 10'000, 3'000);
    duplex(MemoryStream::pair(1000), 200'000, 100'000);
    duplex(net::UnixStream::pair(), 1'000'000, 64'000);
  });
}

TEST_F(Tls, PiecesGoTogether) {
  on_loop([] {
    TlsPair pair = tls_pair();
    const std::vector<std::byte> large = pattern(300'000);
    const std::string_view small = "small";
    const std::span<const std::byte> all[] = {
        std::as_bytes(std::span(small)), {}, large, std::as_bytes(std::span(small))};
    Scope scope;
    scope
        .spawn([&] {
          pair.client.write_all(std::span<const std::span<const std::byte>>(all));
          pair.client.write_all(std::span<const std::span<const std::byte>>());
        })
        .detach();
    EXPECT_EQ(read_text(pair.server, 5), "small");
    std::vector<std::byte> received(large.size());
    pair.server.read_exactly(received);
    EXPECT_EQ(received, large);
    EXPECT_EQ(read_text(pair.server, 5), "small");
    // Two small ones are one record.
    scope.join();
    const std::span<const std::byte> two[] = {all[0], all[0]};
    pair.client.write_all(std::span<const std::span<const std::byte>>(two));
    EXPECT_EQ(pair.server.read().text(), "smallsmall");
  });
}

TEST_F(Tls, AnEndWithoutCloseNotifyIsTruncation) {
  on_loop([] {
    for (const bool by_chunk : {false, true}) {
      TlsPair pair = tls_pair();
      pair.server.write_all("all of it?");
      net::TcpStream below = std::move(*pair.server.tcp());
      below.shutdown_write();
      EXPECT_EQ(read_text(pair.client, 10), "all of it?");
      const Failure failure = failure_of([&] {
        std::array<std::byte, 10> buffer;
        if (by_chunk) {
          static_cast<void>(pair.client.read());
        } else {
          static_cast<void>(pair.client.read(buffer));
        }
      });
      EXPECT_EQ(failure.code, TlsError::truncated);
      EXPECT_NE(failure.text.find("read from localhost (127.0.0.1:"), std::string::npos) << failure.text;
      EXPECT_NE(failure.text.find("): the connection has ended without close_notify"), std::string::npos)
          << failure.text;
      std::error_code again;
      EXPECT_TRUE(pair.client.read(again).empty());
      EXPECT_EQ(again, TlsError::truncated);
    }
  });
}

TEST_F(Tls, CutAnywhereInARecordIsTruncation) {
  on_loop([] {
    for (const std::size_t kept : {0U, 1U, 4U, 5U, 6U, 20U, 80U}) {
      auto [near, far] = MemoryStream::pair();
      auto [client_end, wire] = MemoryStream::pair();
      TlsStream server = TlsStream::server(std::move(far), server_context());
      TlsStream client = TlsStream::client(std::move(client_end), "localhost", client_context());
      Scope scope;
      bool cut = false;
      scope
          .spawn([&wire = wire, &near = near] {  // what the client sends
            std::array<std::byte, 4096> buffer;
            std::error_code error;
            while (const std::size_t count = wire.read(buffer, error))
              near.write_all(std::span(buffer).first(count), error);
          })
          .detach();
      scope
          .spawn([&, &wire = wire, &near = near] {  // what the server sends
            std::array<std::byte, 4096> buffer;
            std::error_code error;
            while (const std::size_t count = near.read(buffer, error)) {
              wire.write_all(std::span(buffer).first(cut ? std::min(kept, count) : count), error);
              if (cut) break;
            }
            wire.shutdown_write(error);
          })
          .detach();
      scope.spawn([&] { server.handshake(); }).detach();
      client.handshake();
      while (!server.is_established()) yield();
      for (int n = 0; n < 10; ++n) yield();  // tickets
      cut = true;
      server.write_all(std::string(100, 'x'));
      std::error_code error;
      EXPECT_TRUE(client.read(error).empty());
      EXPECT_EQ(error, TlsError::truncated) << kept;
      client.close();
      server.close();
      wire.close();
      near.close();
    }
  });
}

TEST_F(Tls, ClosedAndBusyStreams) {
  on_loop([] {
    TlsPair pair = tls_pair();
    Scope scope;
    std::error_code waited;
    scope.spawn([&] { static_cast<void>(pair.client.read(waited)); }).detach();
    yield();
    std::error_code error;
    static_cast<void>(pair.client.read(error));
    EXPECT_EQ(error, std::errc::device_or_resource_busy);
    pair.client.close();
    scope.join();
    EXPECT_EQ(waited, std::errc::bad_file_descriptor);
    pair.client.write_all("x", error);
    EXPECT_EQ(error, std::errc::bad_file_descriptor);
    EXPECT_TRUE(pair.server.read().empty());  // the close has said goodbye
    const Failure failure = failure_of([&] { pair.client.write_all("x"); });
    EXPECT_EQ(failure.text, "write to a closed stream: Bad file descriptor");
    TlsStream none;
    EXPECT_FALSE(none.is_open());
    EXPECT_EQ(failure_of([&] { none.handshake(); }).code, std::errc::bad_file_descriptor);
    TlsPair other = tls_pair();
    other.server.shutdown_write();
    other.server.write_all("x", error);
    EXPECT_EQ(error, std::errc::broken_pipe);
  });
}

TEST_F(Tls, ResetIsNoCleanEnd) {
  on_loop([] {
    TlsPair pair = tls_pair();
    pair.server.reset();
    std::error_code error;
    static_cast<void>(pair.client.read(error));
    EXPECT_TRUE(error == std::errc::connection_reset || error == TlsError::truncated) << error.message();
  });
}

TEST_F(Tls, ReadTimeoutsLoseNothing) {
  on_loop([] {
    TlsPair pair = tls_pair();
    pair.client.set_read_timeout(20ms);
    std::error_code error;
    static_cast<void>(pair.client.read(error));
    EXPECT_EQ(error, std::errc::timed_out);
    pair.server.write_all("late");
    EXPECT_EQ(read_text(pair.client, 4), "late");
  });
}

TEST_F(Tls, BuffersLinesAndProxiesWorkOnIt) {
  on_loop([] {
    TlsPair left = tls_pair();
    TlsPair right = tls_pair();
    Scope scope;
    scope
        .spawn([&] {
          const net::CopiedBoth copied = net::copy_both(left.server, right.client);
          EXPECT_FALSE(copied.error) << copied.error.message();
          EXPECT_EQ(copied.a_to_b, 12U);
        })
        .detach();
    scope
        .spawn([&] {
          net::BufferedReader reader(right.server);
          EXPECT_EQ(reader.read_line(), "one");
          EXPECT_EQ(reader.read_line(), "two");
          EXPECT_EQ(reader.read_line(), "end");
          EXPECT_FALSE(reader.read_line());
          net::BufferedWriter writer(right.server);
          writer.write("fine");
          writer.flush();
          right.server.shutdown_write();
        })
        .detach();
    left.client.write_all("one\ntwo\nend\n");
    left.client.shutdown_write();
    EXPECT_EQ(read_text(left.client, 4), "fine");
    EXPECT_TRUE(left.client.read().empty());
    scope.join();
  });
}

TEST_F(Tls, AddressesAreThoseBelow) {
  on_loop([] {
    const TlsPair pair = tls_pair();
    EXPECT_EQ(pair.client.peer_address(), pair.server.local_address());
    const TlsPair memory = tls_over(MemoryStream::pair());
    std::error_code error;
    static_cast<void>(memory.client.peer_address(error));
    EXPECT_EQ(error, std::errc::operation_not_supported);
  });
}

TEST_F(Tls, LoopsOfAProcessShareAContext) {
  const auto work = [] {
    for (int n = 0; n < 20; ++n) duplex(MemoryStream::pair(), 30'000, 5'000);
  };
  const LoopThread one(work);
  const LoopThread two(work);
  const LoopThread three([] {
    for (int n = 0; n < 50; ++n) {
      net::TlsContext context = server_context();
      context.reload();
      yield();
    }
  });
}

}  // namespace
}  // namespace bight::test
