// SPDX-License-Identifier: Apache-2.0
// Messages through sockets: recvmsg(2) and its kin, over UDP and Unix sockets.

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <bight/fiber.hpp>
#include <bight/socket.hpp>

#include "on_loop.hpp"
#include "socket_pair.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::bytes_of;
using test::on_loop;
using test::require_ok;

/// A UDP socket on a free port of 127.0.0.1, and its address.
struct Bound {
  Socket socket;
  ::sockaddr_in address{};

  Bound() {
    std::error_code error;
    socket = Socket::open(AF_INET, SOCK_DGRAM, 0, error);
    require_ok(error, "socket");
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socket.bind(name(), sizeof address, error);
    require_ok(error, "bind");
    ::sockaddr_storage bound{};
    socket.local_name(bound, error);
    std::memcpy(&address, &bound, sizeof address);
  }
  [[nodiscard]] const ::sockaddr* name() const noexcept { return reinterpret_cast<const ::sockaddr*>(&address); }
};

/// A msghdr with all that it points to.
struct Envelope {
  std::array<char, 64> data{};
  ::iovec piece{data.data(), data.size()};
  ::sockaddr_in name{};
  ::msghdr message{};

  explicit Envelope(std::size_t room = 64) {
    piece.iov_len = room;
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_name = &name;
    message.msg_namelen = sizeof name;
  }
  Envelope(std::string_view text, const ::sockaddr_in& to) : Envelope(text.size()) {
    text.copy(data.data(), data.size());
    name = to;
  }
  [[nodiscard]] std::string text(std::size_t size) const { return {data.data(), size}; }
};

TEST(Datagram, ComesWithItsSendersAddress) {
  on_loop([] {
    Bound receiver;
    Bound sender;
    std::error_code error;
    auto waiting = spawn([&] {
      Envelope got;
      std::error_code failed;
      const std::size_t size = receiver.socket.receive_message(got.message, 0, failed);
      require_ok(failed, "recvmsg");
      EXPECT_EQ(got.name.sin_port, sender.address.sin_port);
      EXPECT_EQ(got.message.msg_flags & MSG_TRUNC, 0);
      return got.text(size);
    });
    yield();
    const Envelope out("hello", receiver.address);
    EXPECT_EQ(sender.socket.send_message(out.message, error), 5U);
    EXPECT_FALSE(error);
    EXPECT_EQ(waiting.get(), "hello");
  });
}

TEST(Datagram, TooLargeIsCutAndSaysSo) {
  on_loop([] {
    Bound receiver;
    Bound sender;
    std::error_code error;
    const Envelope out("0123456789", receiver.address);
    sender.socket.send_message(out.message, error);
    sender.socket.send_message(out.message, error);
    Envelope got(4);
    EXPECT_EQ(receiver.socket.receive_message(got.message, 0, error), 4U);
    EXPECT_NE(got.message.msg_flags & MSG_TRUNC, 0);
    Envelope again(4);
    EXPECT_EQ(receiver.socket.receive_message(again.message, MSG_TRUNC, error), 10U);
    EXPECT_EQ(again.text(4), "0123");
  });
}

TEST(Datagram, ManyWithOneCall) {
  on_loop([] {
    Bound receiver;
    Bound sender;
    std::error_code error;
    std::vector<Envelope> out;
    out.reserve(8);
    std::array<::mmsghdr, 8> messages{};
    for (std::size_t n = 0; n < 5; ++n) {
      out.emplace_back("datagram " + std::to_string(n), receiver.address);
      messages[n].msg_hdr = out.back().message;
      messages[n].msg_hdr.msg_iov = &out.back().piece;
      messages[n].msg_hdr.msg_name = &out.back().name;
      out.back().piece.iov_base = out.back().data.data();
    }
    auto receiving = spawn([&] {
      std::vector<std::string> texts;
      while (texts.size() < 5) {
        std::array<std::array<char, 16>, 8> data{};
        std::array<::iovec, 8> pieces{};
        std::array<::mmsghdr, 8> got{};
        for (std::size_t n = 0; n < 8; ++n) {
          pieces[n] = {data[n].data(), data[n].size()};
          got[n].msg_hdr.msg_iov = &pieces[n];
          got[n].msg_hdr.msg_iovlen = 1;
        }
        std::error_code failed;
        const std::size_t count = receiver.socket.receive_messages(got, failed);
        require_ok(failed, "recvmmsg");
        for (std::size_t n = 0; n < count; ++n) texts.emplace_back(data[n].data(), got[n].msg_len);
      }
      return texts;
    });
    yield();
    EXPECT_EQ(sender.socket.send_messages(std::span(messages).first(5), error), 5U);
    EXPECT_EQ(messages[4].msg_len, 10U);
    EXPECT_EQ(receiving.get(),
              (std::vector<std::string>{"datagram 0", "datagram 1", "datagram 2", "datagram 3", "datagram 4"}));
  });
}

TEST(Datagram, WaitsEndByCancelTimeoutAndClose) {
  on_loop([] {
    Bound receiver;
    const auto outcome = [&] {
      return spawn([&] {
        Envelope got;
        std::error_code error;
        receiver.socket.receive_message(got.message, 0, error);
        return error;
      });
    };
    receiver.socket.set_read_timeout(1ms);
    EXPECT_EQ(outcome().get(), std::errc::timed_out);
    receiver.socket.set_read_timeout(0ms);
    const auto many = [&] {
      return spawn([&] {
        ::mmsghdr message{};
        std::error_code error;
        receiver.socket.receive_messages({&message, 1}, error);
        return error;
      });
    };
    auto cancelled = many();
    yield();
    cancelled.cancel();
    EXPECT_EQ(cancelled.get(), std::errc::operation_canceled);
    auto closed = many();
    yield();
    receiver.socket.close();
    EXPECT_EQ(closed.get(), std::errc::bad_file_descriptor);
  });
}

TEST(Datagram, NobodyThereIsToldToTheConnected) {
  on_loop([] {
    Bound sender;
    ::sockaddr_in gone{};
    {
      const Bound receiver;
      gone = receiver.address;
    }
    std::error_code error;
    sender.socket.connect(reinterpret_cast<const ::sockaddr*>(&gone), sizeof gone, error);
    EXPECT_FALSE(error);
    EXPECT_EQ(sender.socket.write(bytes_of("anybody?"), error), 8U);
    std::array<std::byte, 8> buffer{};
    sender.socket.read(buffer, error);
    EXPECT_EQ(error, std::errc::connection_refused);
  });
}

TEST(SocketPairs, OfEachType) {
  on_loop([] {
    for (const int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
      std::error_code error;
      auto [a, b] = Socket::open_pair(AF_UNIX, type, 0, error);
      require_ok(error, "socketpair");
      auto reading = spawn([&b = b] {
        std::array<std::byte, 16> buffer{};
        std::error_code failed;
        return b.read(buffer, failed);
      });
      yield();
      EXPECT_EQ(a.write(bytes_of("one"), error), 3U);
      EXPECT_EQ(reading.get(), 3U);
      EXPECT_EQ(b.write(bytes_of("two"), error), 3U);
      const Chunk chunk = a.read(error);
      EXPECT_EQ(chunk.size(), 3U);
      if (type == SOCK_DGRAM) continue;
      b.close();
      EXPECT_FALSE(a.read(error));
      EXPECT_FALSE(error);
      a.write(bytes_of("nobody"), error);
      EXPECT_EQ(error, std::errc::broken_pipe);
    }
  });
}

TEST(SocketPairs, AreOfUnixSocketsOnly) {
  on_loop([] {
    std::error_code error;
    const auto pair = Socket::open_pair(AF_INET, SOCK_STREAM, 0, error);
    EXPECT_EQ(error, std::errc::operation_not_supported);
    EXPECT_FALSE(pair.first);
  });
}

TEST(RemoveName, OfASocketOnly) {
  on_loop([] {
    std::error_code error;
    Socket::remove_name("/no/such/name", error);
    EXPECT_EQ(error, std::errc::no_such_file_or_directory);
    if (test::on_sim()) return;
    Socket::remove_name("/dev/null", error);
    EXPECT_EQ(error, std::errc::not_a_socket);
  });
}

}  // namespace
}  // namespace bight
