// SPDX-License-Identifier: Apache-2.0
// TLS against networks and peers that do not mean well, and against being cancelled at any moment.

#include <bight/net/tls_stream.hpp>

#include <array>
#include <functional>
#include <random>
#include <tuple>
#include <vector>

#include <bight/deadline.hpp>
#include <bight/event.hpp>
#include <bight/time.hpp>

#include "tls_test.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::MemoryStream;
using net::TlsError;
using net::TlsStream;

class TlsHostile : public NetTest {};

using Meddle = std::function<void(std::vector<std::byte>& bytes)>;

/// Carries what comes out of one stream into the other, in pieces of random sizes, as `meddle` has changed them.
void carry(MemoryStream& from, MemoryStream& to, std::mt19937& random, std::size_t most, const Meddle& meddle) {
  std::vector<std::byte> buffer;
  std::error_code error;
  for (;;) {
    buffer.resize(1 + random() % most);
    buffer.resize(from.read(buffer, error));
    if (error || buffer.empty()) break;
    if (meddle) meddle(buffer);
    to.write_all(buffer, error);
    if (error) break;
    if (random() % 4 == 0) yield();
  }
  to.shutdown_write(error);
}

/// Two streams with somebody in between, who is `carry`.
struct Wire {
  explicit Wire(unsigned seed, std::size_t piece_max = 2000, Meddle to_server = {}, Meddle to_client = {})
      : random(seed) {
    std::tie(client_end, near) = MemoryStream::pair();
    std::tie(server_end, far) = MemoryStream::pair();
    scope.spawn([this, piece_max, to_server] { carry(near, far, random, piece_max, to_server); }).detach();
    scope.spawn([this, piece_max, to_client] { carry(far, near, random, piece_max, to_client); }).detach();
  }
  TlsPair tls() {
    return {TlsStream::client(std::move(client_end), "localhost", client_context()),
            TlsStream::server(std::move(server_end), server_context())};
  }

  std::mt19937 random;
  MemoryStream client_end;
  MemoryStream server_end;
  MemoryStream near;
  MemoryStream far;
  Scope scope;
};

/// An echo of `size` bytes. What arrives is right as far as it goes; returns how much did.
std::size_t talk(TlsPair pair, std::size_t size) {
  std::size_t received = 0;
  Scope scope;
  scope
      .spawn([&] {
        std::error_code error;
        for (;;) {
          const Chunk chunk = pair.server.read(error);
          if (error || chunk.empty()) break;
          pair.server.write_all(chunk, error);
          if (error) break;
        }
        if (!error) pair.server.shutdown_write(error);
        pair.server.close();
      })
      .detach();
  scope
      .spawn([&] {
        std::error_code error;
        pair.client.write_all(pattern(size), error);
        if (!error) pair.client.shutdown_write(error);
        if (error) pair.client.close();
      })
      .detach();
  std::error_code error;
  std::vector<std::byte> buffer(3000);
  while (received < size) {
    const std::size_t count = pair.client.read(buffer, error);
    if (error || count == 0) break;
    EXPECT_TRUE(matches_pattern(std::span(buffer).first(count), received));
    received += count;
  }
  pair.client.close();
  scope.join();
  return received;
}

TEST_F(TlsHostile, HoweverTheBytesAreCut) {
  on_loop([] {
    for (unsigned seed = 0; seed < 60; ++seed) {
      Wire wire(seed, seed % 3 == 0 ? 1 : seed % 3 == 1 ? 40 : 5000);
      EXPECT_EQ(talk(wire.tls(), 20'000), 20'000U);
    }
  });
}

TEST_F(TlsHostile, ChangedBytesNeverArrive) {
  on_loop([] {
    unsigned cut_short = 0;
    for (unsigned seed = 0; seed < 300; ++seed) {
      // Somewhere in the handshake, or in what comes after it.
      std::mt19937 dice(seed);
      const std::size_t where = dice() % (seed % 2 == 0 ? 2500 : 30'000);
      std::size_t passed = 0;
      const Meddle meddle = [&](std::vector<std::byte>& bytes) {
        if (where >= passed && where < passed + bytes.size()) {
          bytes[where - passed] ^= static_cast<std::byte>(1U << (dice() % 8));
        }
        passed += bytes.size();
      };
      Wire wire(seed, 2000, seed % 4 < 2 ? meddle : Meddle(), seed % 4 < 2 ? Meddle() : meddle);
      if (talk(wire.tls(), 20'000) < 20'000) ++cut_short;
    }
    EXPECT_GT(cut_short, 250U);
  });
}

TEST_F(TlsHostile, GarbageIsNotTls) {
  on_loop([] {
    const auto answer_to = [](std::string_view text, std::string& failure) {
      auto [near, far] = MemoryStream::pair();
      TlsStream server = TlsStream::server(std::move(far), server_context());
      near.write_all(text);
      near.shutdown_write();
      std::error_code error;
      server.handshake(error);
      failure = server.failure();
      return error;
    };
    std::string failure;
    EXPECT_EQ(answer_to("GET / HTTP/1.1\r\nHost: x\r\n\r\n", failure), TlsError::http_request);
    EXPECT_EQ(failure, "plain HTTP, and not TLS");
    EXPECT_EQ(answer_to("CONNECT x:443 HTTP/1.1\r\n\r\n", failure), TlsError::http_request);
    EXPECT_EQ(answer_to("SSH-2.0-OpenSSH_9.2\r\n and what is left", failure), TlsError::not_tls) << failure;
    EXPECT_EQ(answer_to("", failure), TlsError::truncated);
    EXPECT_EQ(answer_to("\x16\x03\x01", failure), TlsError::truncated);
    std::mt19937 random(1);
    for (int n = 0; n < 500; ++n) {
      std::string bytes(random() % 400, '\0');
      for (char& each : bytes) each = static_cast<char>(random());
      if (n % 2 == 0 && bytes.size() > 10) bytes.replace(0, 6, std::string("\x16\x03\x01\x00\x80\x01", 6));
      EXPECT_TRUE(answer_to(bytes, failure));
    }
  });
}

TEST_F(TlsHostile, AClientIsNoMoreEasilyFooled) {
  on_loop([] {
    auto [near, far] = MemoryStream::pair();
    TlsStream client = TlsStream::client(std::move(far), "localhost", client_context());
    near.write_all("220 mail.example ESMTP\r\n");
    const Failure failure = failure_of([&] { client.handshake(); });
    EXPECT_EQ(failure.code, TlsError::not_tls) << failure.text;
    EXPECT_EQ(failure.text, "TLS handshake with localhost: something else than TLS");
  });
}

TEST_F(TlsHostile, AHandshakeHasItsTime) {
  on_loop([] {
    auto [near, far] = MemoryStream::pair();
    TlsStream server = TlsStream::server(std::move(far), server_context());
    const Duration limit = on_sim() ? TlsStream::kHandshakeTimeout : 50ms;
    if (!on_sim()) server.set_handshake_timeout(limit);
    Scope scope;
    auto loris = scope.spawn([&, &wire = near] {
      constexpr std::string_view beginning("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
      for (std::size_t n = 0;; ++n) {
        wire.write_all(n < beginning.size() ? beginning.substr(n, 1) : std::string_view("x"));
        sleep_for(limit / 20);
      }
    });
    const TimePoint begin = now();
    std::error_code error;
    server.handshake(error);
    EXPECT_EQ(error, TlsError::handshake_timeout);
    EXPECT_EQ(error, std::errc::timed_out);
    EXPECT_GE(now() - begin, limit);
    if (on_sim()) {
      EXPECT_EQ(now() - begin, limit);
    }
    loris.cancel();
    static_cast<void>(server.read(error));
    EXPECT_EQ(error, TlsError::handshake_timeout);
  });
}

TEST_F(TlsHostile, OneReadHasItsTimeHoweverManyBytesCome) {
  on_loop([] {
    Wire wire(1, 4096);
    TlsPair pair = wire.tls();
    Scope scope;
    scope.spawn([&] { pair.server.handshake(); }).detach();
    pair.client.handshake();
    pair.server.handshake();
    pair.client.set_read_timeout(30ms);
    std::error_code error;
    const TimePoint begin = now();
    static_cast<void>(pair.client.read(error));
    EXPECT_EQ(error, std::errc::timed_out);
    EXPECT_GE(now() - begin, 30ms);
    pair.server.write_all("now");
    EXPECT_EQ(read_text(pair.client, 3), "now");
    pair.client.close();
    pair.server.close();
  });
}

/// Runs `body` in a fiber that is cancelled when the loop has gone round `turns` times. Whether it got to its end.
template <class F>
bool cancelled_after(int turns, F&& body) {
  bool ended = false;
  Fiber<void> fiber = spawn([&] {
    body();
    ended = true;
  });
  for (int n = 0; n < turns && !fiber.done(); ++n) yield();
  fiber.cancel();
  fiber.join();
  return ended;
}

TEST_F(TlsHostile, ACancelledHandshakeCanBeGoneOnWith) {
  on_loop([] {
    for (int turns = 0;; ++turns) {
      TlsPair pair = tls_over(MemoryStream::pair(100));
      Scope scope;
      scope.spawn([&] {
        std::error_code error;
        pair.server.handshake(error);
        EXPECT_FALSE(error) << error.message();
      }).detach();
      const bool ended = cancelled_after(turns, [&] { pair.client.handshake(); });
      pair.client.handshake();
      scope.spawn([&] { EXPECT_TRUE(pair.client.read().empty()); }).detach();
      pair.server.handshake();
      pair.server.shutdown_write();
      scope.join();
      if (ended) break;
    }
    for (int turns = 0;; ++turns) {
      TlsPair pair = tls_over(MemoryStream::pair(100));
      Scope scope;
      const auto talk_once = [&] {
        pair.client.write_all("x");
        EXPECT_TRUE(pair.client.read().empty());  // but for the tickets
      };
      scope.spawn(talk_once).detach();
      const bool ended = cancelled_after(turns, [&] { pair.server.handshake(); });
      pair.server.handshake();
      EXPECT_EQ(read_text(pair.server, 1), "x");
      pair.server.shutdown_write();
      scope.join();
      if (ended) break;
    }
  });
}

TEST_F(TlsHostile, ACancelledReadLosesNothing) {
  on_loop([] {
    constexpr std::size_t size = 60'000;
    for (int turns = 0;; turns += 3) {
      Handshakes shaken = shake_hands(tls_over(MemoryStream::pair(700)));
      TlsPair& pair = shaken.pair;
      Scope scope;
      scope.spawn([&] { pair.server.write_all(pattern(size)); }).detach();
      std::size_t received = 0;
      const auto read = [&](bool chunks) {
        std::array<std::byte, 1000> buffer;
        while (received < size) {
          const Chunk chunk = chunks ? pair.client.read() : Chunk();
          std::span<const std::byte> data = chunk;
          if (!chunks) data = std::span(buffer).first(pair.client.read(buffer));
          ASSERT_TRUE(matches_pattern(data, received)) << "after " << received;
          received += data.size();
        }
      };
      const bool ended = cancelled_after(turns, [&] { read(turns % 2 == 0); });
      read(turns % 2 != 0);
      scope.join();
      if (ended) break;
    }
  });
}

TEST_F(TlsHostile, ACancelledWriteLeavesABeginningAndASoundStream) {
  on_loop([] {
    constexpr std::size_t size = 100'000;
    for (int turns = 0;; turns += 7) {
      Handshakes shaken = shake_hands(tls_over(MemoryStream::pair(1700)));
      TlsPair& pair = shaken.pair;
      std::vector<std::byte> received;
      Scope scope;
      scope
          .spawn([&] {
            while (const Chunk chunk = pair.server.read()) {
              received.insert(received.end(), chunk.data(), chunk.data() + chunk.size());
            }
          })
          .detach();
      const bool all_at_once = turns % 2 == 0;
      std::size_t written = 0;
      const bool ended = cancelled_after(turns, [&] {
        const std::vector<std::byte> data = pattern(size);
        if (all_at_once) {
          pair.client.write_all(data);
          written = size;
        }
        while (written < size) written += pair.client.write(std::span(data).subspan(written));
      });
      pair.client.write_all("the end");
      pair.client.shutdown_write();
      scope.join();
      ASSERT_GE(received.size(), 7U);
      const std::span<const std::byte> data = std::span(received).first(received.size() - 7);
      EXPECT_TRUE(matches_pattern(data, 0));
      EXPECT_EQ(std::string(reinterpret_cast<const char*>(received.data()) + data.size(), 7), "the end");
      if (!all_at_once || ended) {
        EXPECT_EQ(data.size(), written);  // write() has said how much it took
      }
      if (ended) break;
    }
  });
}

TEST_F(TlsHostile, ClosingIsFeltAtOnce) {
  on_loop([] {
    for (int turns = 0; turns < 12; ++turns) {
      TlsPair pair = tls_over(MemoryStream::pair(100));
      Scope scope;
      scope
          .spawn([&] {
            std::error_code error;
            pair.server.handshake(error);
            pair.server.close();
          })
          .detach();
      scope
          .spawn([&] {
            std::error_code error;
            while (!error && !pair.client.read(error).empty()) {
            }
          })
          .detach();
      scope
          .spawn([&] {
            std::error_code error;
            while (!error) pair.client.write_all(std::string(1000, 'x'), error);
          })
          .detach();
      for (int n = 0; n < turns; ++n) yield();
      pair.client.close();
      scope.join();
    }
  });
}

}  // namespace
}  // namespace bight::test
