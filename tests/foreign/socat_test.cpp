// SPDX-License-Identifier: Apache-2.0
// Other people's programs at the other end of streams and datagrams: socat for TCP, Unix sockets and UDP; curl through
// the example proxies.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/command.hpp>
#include <bight/fiber.hpp>
#include <bight/line_reader.hpp>
#include <bight/net/buffered.hpp>
#include <bight/net/tcp.hpp>
#include <bight/net/udp.hpp>
#include <bight/net/unix.hpp>
#include <bight/scope.hpp>
#include <bight/subprocess.hpp>
#include <bight/temporary.hpp>
#include <bight/time.hpp>

#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::on_loop;

constexpr const char* kSocat = "/usr/bin/socat";
constexpr const char* kCurl = "/usr/bin/curl";

template <class Body>
void with_programs(const std::vector<const char*>& programs, Body&& body) {
  on_loop([&] {
    if (test::on_sim()) GTEST_SKIP() << "a simulated world has no other programs";
    for (const char* program : programs) {
      if (::access(program, X_OK) != 0) GTEST_SKIP() << "no " << program << " here";
    }
    body();
  });
}

std::string random_bytes(std::size_t size) {
  std::mt19937 random(4711);
  std::string bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

/// What socat says to whom it connects to, and hears. It ends its side when it has said all, and waits for the rest.
std::string socat(const std::string& peer, const std::string& input) {
  const CommandResult done = run_command({kSocat, "-t", "60", "-", peer}, {.input = input, .timeout = 60s});
  EXPECT_TRUE(done.success()) << done.to_string() << ": " << done.err;
  return done.out;
}

template <class S>
std::string read_all(S& stream) {
  std::string all;
  std::array<char, 16384> buffer{};
  while (const std::size_t count = stream.read(std::as_writable_bytes(std::span(buffer)))) {
    all.append(buffer.data(), count);
  }
  return all;
}

std::string tcp(const net::TcpListener& listener) { return "TCP:" + listener.local_address().to_string(); }

TEST(Socat, EndsItsSideFirstAndHearsTheRest) {
  with_programs({kSocat}, [] {
    auto listener = net::TcpListener::bind("127.0.0.1:0");
    const std::string data = random_bytes(3'000'000);
    auto server = spawn([&] {
      net::TcpStream peer = listener.accept();
      const std::string all = read_all(peer);  // until its end
      peer.write_all(all);
      return all.size();
    });
    EXPECT_TRUE(socat(tcp(listener), data) == data);
    EXPECT_EQ(server.get(), data.size());
  });
}

TEST(Socat, HearsTheEndFirstAndSaysTheRest) {
  with_programs({kSocat}, [] {
    auto listener = net::TcpListener::bind("[::1]:0");
    const std::string data = random_bytes(2'000'000);
    auto server = spawn([&] {
      net::TcpStream peer = listener.accept();
      peer.write_all("that is all");
      peer.shutdown_write();
      return read_all(peer);
    });
    const std::string port = std::to_string(listener.local_address().port());
    EXPECT_EQ(socat("TCP6:[::1]:" + port, data), "that is all");
    EXPECT_TRUE(server.get() == data);
  });
}

TEST(Socat, LinesAreFramedHoweverTheyCome) {
  with_programs({kSocat}, [] {
    auto listener = net::TcpListener::bind("127.0.0.1:0");
    auto server = spawn([&] {
      net::TcpStream peer = listener.accept();
      net::BufferedReader lines(peer);
      net::BufferedWriter out(peer);
      std::size_t count = 0;
      for (; const auto line = lines.read_line(); ++count) {
        out.write(std::to_string(line->size()));
        out.write("\n");
      }
      out.flush();
      peer.shutdown_write();
      return count;
    });
    std::string input;
    std::string expected;
    for (std::size_t i = 0; i < 20'000; ++i) {
      const std::size_t size = i * i % 301;
      input += std::string(size, 'x') + (i % 2 == 0 ? "\n" : "\r\n");
      expected += std::to_string(size) + "\n";
    }
    EXPECT_TRUE(socat(tcp(listener), input + "rest") == expected + "4\n");
    EXPECT_EQ(server.get(), 20'001U);
  });
}

TEST(Socat, ServesUsOverAUnixSocket) {
  with_programs({kSocat}, [] {
    const fs::TemporaryDirectory folder("bight-socat-");
    const std::string path = folder.path() + "/socket";
    Subprocess program = Subprocess::start({kSocat, "UNIX-LISTEN:" + path + ",fork", "EXEC:/bin/cat"});
    const auto address = net::UnixAddress::path(path);
    net::UnixStream peer;
    for (std::error_code error; !peer.is_open(); sleep_for(5ms)) peer = net::UnixStream::connect(address, 1s, error);
    const std::string data = random_bytes(1'000'000);
    auto writer = spawn([&] {
      peer.write_all(data);
      peer.shutdown_write();
    });
    EXPECT_TRUE(read_all(peer) == data);
    writer.join();
    peer.close();
    program.stop(1s);
  });
}

TEST(Socat, IsServedOverAUnixSocket) {
  with_programs({kSocat}, [] {
    const fs::TemporaryDirectory folder("bight-socat-");
    auto listener = net::UnixListener::bind(net::UnixAddress::path(folder.path() + "/socket"));
    const std::string data = random_bytes(1'000'000);
    auto server = spawn([&] {
      net::UnixStream peer = listener.accept();
      peer.write_all(read_all(peer));
    });
    EXPECT_TRUE(socat("UNIX-CONNECT:" + folder.path() + "/socket", data) == data);
    server.join();
  });
}

TEST(Socat, AsksOverUdp) {
  with_programs({kSocat}, [] {
    auto socket = net::UdpSocket::bind("127.0.0.1:0");
    auto server = spawn([&] {
      std::array<std::byte, 2000> buffer{};
      const auto received = socket.receive(std::span(buffer));
      socket.send_to(std::span(buffer).first(received.size), received.peer);
      return received.size;
    });
    // It waits for an answer for two seconds after it has asked, and no less.
    const std::string peer = "UDP:" + socket.local_address().to_string();
    const CommandResult done =
        run_command({kSocat, "-t", "2", "-", peer}, {.input = std::string(1000, 'u'), .timeout = 60s});
    EXPECT_EQ(done.out, std::string(1000, 'u')) << done.to_string();
    EXPECT_EQ(server.get(), 1000U);
  });
}

/// An example program that serves, and the address that it says it listens on.
class Example {
 public:
  Example(const std::string& name, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(),
                     std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() / "examples" / name);
    process_ = Subprocess::start(arguments, {.out = Redirect::pipe()});
    LineReader lines(process_.output());
    const std::string said(lines.next().value_or(""));
    address_ = said.substr(said.rfind(' ') + 1);
  }
  Example(const Example&) = delete;
  Example& operator=(const Example&) = delete;
  ~Example() {
    process_.terminate();
    static_cast<void>(process_.wait_for(5s));
  }
  [[nodiscard]] const std::string& address() const noexcept { return address_; }

 private:
  Subprocess process_;
  std::string address_;
};

/// As much of HTTP as curl needs.
void answer(net::TcpStream& peer, const std::string& body) {
  net::BufferedReader reader(peer);
  if (!reader.read_until("\r\n\r\n", 10'000)) return;
  peer.write_all("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
                 body);
}

TEST(Curl, ComesThroughTheExamples) {
  with_programs({kCurl, kSocat}, [] {
    const std::string body = random_bytes(5'000'000);
    auto listener = net::TcpListener::bind("127.0.0.1:0");
    net::ServeControl control;
    auto server =
        spawn([&] { net::serve(listener, [&](net::TcpStream peer) { answer(peer, body); }, {.control = &control}); });
    const std::string port = std::to_string(listener.local_address().port());
    {
      const Example proxy("proxy", {"127.0.0.1:0", "127.0.0.1:" + port});
      const Example socks("socks5", {"127.0.0.1:0"});
      const std::vector<std::vector<std::string>> ways{
          {"http://" + proxy.address() + "/"},
          {"--socks5-hostname", socks.address(), "http://localhost:" + port + "/"},
          {"--socks5", socks.address(), "http://127.0.0.1:" + port + "/"},
          {"--socks5-hostname", socks.address(), "http://" + proxy.address() + "/"},
      };
      for (const auto& way : ways) {
        std::vector<std::string> command{kCurl, "--silent", "--show-error", "--noproxy", "", "--max-time", "60"};
        command.insert(command.end(), way.begin(), way.end());
        const CommandResult done = run_command(command, {.timeout = 90s});
        EXPECT_TRUE(done.success()) << way.front() << ": " << done.err;
        EXPECT_TRUE(done.out == body) << way.front();
      }
      const CommandResult refused = run_command({kCurl, "--silent", "--show-error", "--noproxy", "", "--max-time", "60",
                                                 "--socks5-hostname", socks.address(), "http://127.0.0.1:1/"},
                                                {.timeout = 90s});
      EXPECT_FALSE(refused.success());
      EXPECT_THAT(socat("TCP:" + proxy.address(), "GET / HTTP/1.0\r\n\r\n"), ::testing::EndsWith(body.substr(1000)));
    }
    control.finish();
    server.join();
  });
}

}  // namespace
}  // namespace bight
