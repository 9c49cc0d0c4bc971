// SPDX-License-Identifier: Apache-2.0

#include <bight/net/unix.hpp>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bight/deadline.hpp>
#include <bight/stop.hpp>

#include "net_test.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using net::UnixAddress;
using net::UnixDatagram;
using net::UnixListener;
using net::UnixStream;
using test::bytes_of;
using test::failure_of;
using test::on_loop;

/// Each has a folder of its own.
class Unix : public test::NetTest {
 protected:
  void SetUp() override {
    char name[] = "/tmp/bight-unix-XXXXXX";
    folder_ = ::mkdtemp(name);
    NetTest::SetUp();
  }
  void TearDown() override {
    NetTest::TearDown();
    std::filesystem::remove_all(folder_);
  }
  [[nodiscard]] UnixAddress at(const std::string& name) const { return UnixAddress::path(folder_ + "/" + name); }

  std::string folder_;
};

std::string read_text(UnixStream& stream, std::size_t size) {
  std::string text(size, '\0');
  stream.read_exactly(std::as_writable_bytes(std::span(text)));
  return text;
}

TEST(UnixAddresses, ArePathsAbstractNamesOrNothing) {
  EXPECT_EQ(UnixAddress::path("/run/x").to_string(), "/run/x");
  EXPECT_EQ(UnixAddress::abstract("x").to_string(), "@x");
  EXPECT_TRUE(UnixAddress().is_unnamed());
  EXPECT_EQ(UnixAddress::parse("/run/x"), UnixAddress::path("/run/x"));
  EXPECT_EQ(UnixAddress::parse("@x"), UnixAddress::abstract("x"));
  EXPECT_NE(UnixAddress::parse("./x"), UnixAddress::parse("@x"));
  EXPECT_EQ(failure_of([] { return UnixAddress::path(std::string(108, 'x')); }).code, std::errc::filename_too_long);
  EXPECT_NO_THROW(static_cast<void>(UnixAddress::path(std::string(107, 'x'))));
  EXPECT_EQ(failure_of([] { return UnixAddress::path(""); }).code, std::errc::invalid_argument);
  EXPECT_EQ(failure_of([] { return UnixAddress::path(std::string("a\0b", 3)); }).code, std::errc::invalid_argument);
  EXPECT_EQ(failure_of([] { return UnixAddress::parse("no-slash"); }).code, std::errc::invalid_argument);
  for (const UnixAddress& each : {UnixAddress::path("/run/x"), UnixAddress::abstract(std::string("a\0b", 3))}) {
    ::sockaddr_un native;
    const ::socklen_t length = each.to_native(native);
    EXPECT_EQ(UnixAddress::from_native(reinterpret_cast<const ::sockaddr*>(&native), length), each);
  }
}

TEST_F(Unix, StreamsByPathAndByAbstractName) {
  on_loop([&] {
    for (const UnixAddress& address : {at("x.sock"), UnixAddress::abstract("bight-test-" + folder_)}) {
      auto listener = UnixListener::bind(address);
      EXPECT_EQ(listener.local_address(), address);
      auto client = UnixStream::connect(address);
      auto server = listener.accept();
      EXPECT_EQ(client.peer_address(), address);
      EXPECT_TRUE(server.peer_address().is_unnamed());
      client.write_all("hello");
      EXPECT_EQ(read_text(server, 5), "hello");
      server.write_all("and back");
      client.shutdown_write();
      EXPECT_FALSE(server.read());
      EXPECT_EQ(read_text(client, 8), "and back");
      EXPECT_EQ(client.peer_credentials().pid, ::getpid());
      EXPECT_EQ(server.peer_credentials().uid, ::geteuid());
    }
    EXPECT_FALSE(std::filesystem::exists(folder_ + "/x.sock")) << "closing removes the path";
  });
}

TEST_F(Unix, LargeTransfersWait) {
  on_loop([] {
    auto [a, b] = UnixStream::pair();
    const auto data = test::pattern(3'000'000);
    auto writing = spawn([&, &a = a] {
      a.write_all(data);
      a.close();
    });
    std::uint64_t received = 0;
    while (const Chunk chunk = b.read()) {
      ASSERT_TRUE(test::matches_pattern(chunk, received));
      received += chunk.size();
    }
    EXPECT_EQ(received, data.size());
    writing.join();
  });
}

TEST_F(Unix, ErrorsAreLinuxs) {
  on_loop([&] {
    EXPECT_EQ(failure_of([&] { return UnixStream::connect(at("nothing")); }).text,
              "connect to " + folder_ + "/nothing: No such file or directory");
    { auto left = UnixListener::bind(at("left"), {.remove_on_close = false}); }
    EXPECT_EQ(failure_of([&] { return UnixStream::connect(at("left")); }).code, std::errc::connection_refused);
    EXPECT_EQ(failure_of([&] { return UnixListener::bind(at("left"), {.remove_stale = false}); }).code,
              std::errc::address_in_use);
    auto [a, b] = UnixStream::pair();
    b.close();
    EXPECT_EQ(failure_of([&, &a = a] { a.write_all("x"); }).code, std::errc::broken_pipe);
    EXPECT_FALSE(a.read());
  });
}

TEST_F(Unix, StalePathsAreReplacedButNotLiveOnes) {
  on_loop([&] {
    { auto left = UnixListener::bind(at("x"), {.remove_on_close = false}); }
    auto second = UnixListener::bind(at("x"));
    EXPECT_EQ(failure_of([&] { return UnixListener::bind(at("x")); }).code, std::errc::address_in_use);
    auto client = UnixStream::connect(at("x"));
    auto accepted = second.accept();  // the probe's connection
    if (test::on_sim()) return;
    std::ofstream(folder_ + "/file") << "precious";
    EXPECT_EQ(failure_of([&] { return UnixListener::bind(at("file")); }).code, std::errc::address_in_use);
    EXPECT_TRUE(std::filesystem::exists(folder_ + "/file"));
  });
}

TEST_F(Unix, ThePathOfAnotherIsNotRemoved) {
  on_loop([&] {
    if (test::on_sim()) GTEST_SKIP() << "paths have no identity there";
    auto first = UnixListener::bind(at("x"));
    std::filesystem::remove(folder_ + "/x");
    auto second = UnixListener::bind(at("x"));
    first.close();
    EXPECT_TRUE(std::filesystem::exists(folder_ + "/x"));
  });
}

TEST_F(Unix, PermissionsAreExact) {
  on_loop([&] {
    if (test::on_sim()) GTEST_SKIP() << "no permissions there";
    for (const ::mode_t mode : {0600U, 0666U}) {
      auto listener = UnixListener::bind(at("x"), {.mode = mode});
      struct ::stat found {};
      ASSERT_EQ(::stat((folder_ + "/x").c_str(), &found), 0);
      EXPECT_EQ(found.st_mode & 0777U, mode);
    }
  });
}

TEST_F(Unix, ConnectingWaitsForRoomInTheQueue) {
  on_loop([&] {
    auto listener = UnixListener::bind(at("x"), {.backlog = 0});
    auto first = UnixStream::connect(at("x"));
    EXPECT_EQ(failure_of([&] { return UnixStream::connect(at("x"), 20ms); }).code, std::errc::timed_out);
    auto cancelled = spawn([&] { return test::is_cancelled([&] { return UnixStream::connect(at("x")); }); });
    yield();
    cancelled.cancel();
    EXPECT_TRUE(cancelled.get());
    auto waiting = spawn([&] { return UnixStream::connect(at("x"), 10s); });
    yield();
    auto accepted = listener.accept();
    auto second = waiting.get();
    EXPECT_TRUE(second.is_open());
  });
}

TEST_F(Unix, DescriptorsArePassed) {
  on_loop([] {
    auto [a, b] = UnixStream::pair();
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    Fd reader(ends[0]);
    Fd writer(ends[1]);
    const std::array<int, 2> fds{reader.get(), writer.get()};
    if (test::on_sim()) {
      EXPECT_EQ(failure_of([&, &a = a] { a.send_with_fds(bytes_of("x"), fds); }).code,
                std::errc::operation_not_supported);
      return;
    }
    std::vector<Fd> got;
    std::array<std::byte, 64> buffer;
    auto receiving = spawn([&, &b = b] { return b.receive_with_fds(buffer, got); });
    yield();
    a.send_with_fds(bytes_of("two"), fds);
    a.write_all("plain");
    EXPECT_EQ(receiving.get(), 3U) << "ends before what comes without them";
    ASSERT_EQ(got.size(), 2U);
    EXPECT_NE(::fcntl(got[0].get(), F_GETFD) & FD_CLOEXEC, 0);
    ASSERT_EQ(::write(got[1].get(), "through", 7), 7);
    char text[8] = {};
    EXPECT_EQ(::read(reader.get(), text, 7), 7);
    EXPECT_STREQ(text, "through");
    EXPECT_EQ(b.receive_with_fds(buffer, got), 5U);
    EXPECT_TRUE(got.empty());
    // A plain read takes no descriptors, and leaks none: the test's end counts.
    a.send_with_fds(bytes_of("x"), fds);
    EXPECT_EQ(b.read(buffer), 1U);
  });
}

TEST_F(Unix, DescriptorsThatDoNotFitAreNotLost) {
  on_loop([] {
    if (test::on_sim()) GTEST_SKIP() << "none are passed there";
    auto [a, b] = UnixStream::pair();
    const Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const std::vector<int> fds(20, null.get());
    a.send_with_fds(bytes_of("x"), fds);
    ::rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    const ::rlimit tight{test::open_descriptors() + 5, before.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &tight);
    std::vector<Fd> got;
    std::array<std::byte, 8> buffer;
    std::error_code error;
    b.receive_with_fds(buffer, got, error);
    ::setrlimit(RLIMIT_NOFILE, &before);
    EXPECT_EQ(error, std::errc::too_many_files_open);
    EXPECT_TRUE(got.empty());
    a.send_with_fds(bytes_of("y"), fds);
    EXPECT_EQ(b.receive_with_fds(buffer, got), 1U);
    EXPECT_EQ(got.size(), 20U);
    EXPECT_EQ(failure_of([&, &a = a] { a.send_with_fds(bytes_of("z"), std::vector<int>(254, null.get())); }).code,
              std::errc::argument_list_too_long);
  });
}

TEST_F(Unix, DatagramsTellWhoSentThem) {
  on_loop([&] {
    auto server = UnixDatagram::bind(at("server"), {.credentials = true});
    auto client = UnixDatagram::bind(at("client"));
    std::array<std::byte, 64> buffer;
    client.send_to("hello", server.local_address());
    auto got = server.receive(buffer);
    EXPECT_EQ(got.size, 5U);
    EXPECT_EQ(got.peer, client.local_address());
    ASSERT_TRUE(got.credentials);
    EXPECT_EQ(got.credentials->pid, ::getpid());
    client.connect_to(server.local_address());
    client.send("0123456789");
    got = server.receive(std::span(buffer).first(4));
    EXPECT_TRUE(got.truncated());
    EXPECT_EQ(got.full_size, 10U);
    auto unnamed = UnixDatagram::open();
    unnamed.send_to("who?", server.local_address());
    EXPECT_TRUE(server.receive(buffer).peer.is_unnamed());
    EXPECT_EQ(failure_of([&] { unnamed.send_to("x", at("nobody")); }).text,
              "send to " + folder_ + "/nobody: No such file or directory");
    server.close();
    EXPECT_EQ(failure_of([&] { client.send("x"); }).code, std::errc::connection_refused);
  });
}

TEST_F(Unix, DatagramsWaitForRoomAndArriveInOrder) {
  on_loop([&] {
    auto server = UnixDatagram::bind(at("server"));
    auto client = UnixDatagram::open();
    auto sending = spawn([&] {
      for (int n = 0; n < 1000; ++n) client.send_to(std::to_string(n), server.local_address());
    });
    std::array<std::byte, 64> buffer;
    for (int n = 0; n < 1000; ++n) {
      const auto got = server.receive(buffer);
      ASSERT_EQ(std::string(reinterpret_cast<const char*>(buffer.data()), got.size), std::to_string(n));
    }
    sending.join();
  });
}

TEST_F(Unix, DatagramsBringDescriptors) {
  on_loop([] {
    if (test::on_sim()) GTEST_SKIP() << "none are passed there";
    auto [a, b] = UnixDatagram::pair();
    const Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const std::array<int, 1> fds{null.get()};
    std::array<std::byte, 8> buffer;
    std::vector<Fd> got;
    a.send(bytes_of("x"), fds);
    EXPECT_EQ(b.receive(buffer, &got).size, 1U);
    EXPECT_EQ(got.size(), 1U);
    a.send(bytes_of("x"), fds);
    EXPECT_EQ(b.receive(buffer).size, 1U) << "and closes them where nobody wants them";
  });
}

TEST_F(Unix, IsServed) {
  on_loop([&] {
    auto server = spawn([&] {
      return net::serve(UnixListener::bind(at("x")), [](UnixStream peer) {
        while (const Chunk chunk = peer.read()) peer.write_all(chunk);
      });
    });
    yield();
    for (int n = 0; n < 3; ++n) {
      auto client = UnixStream::connect(at("x"));
      client.write_all("echo me");
      EXPECT_EQ(read_text(client, 7), "echo me");
    }
    request_stop();
    EXPECT_EQ(server.get().accepted, 3U);
    EXPECT_FALSE(std::filesystem::exists(folder_ + "/x"));
  });
}

// What serve() promises on TCP it keeps here.
TEST_F(Unix, ServersHaveLimitsHandlesAndReports) {
  std::vector<std::string> reports;
  RunOptions loop;
  loop.on_unhandled_error = [&](const UnhandledError& error) { reports.emplace_back(error.text); };
  run(loop, [&] {
    net::ServeControl control;
    net::ServeOptions options;
    options.connections_max = 2;
    options.drain = 50ms;
    options.control = &control;
    auto listener = UnixListener::bind(at("x"));
    auto server = spawn([&] {
      return net::serve(
          listener,
          [](UnixStream peer) {
            std::error_code error;
            if (read_text(peer, 1) == "!") throw std::runtime_error("a handler's");
            static_cast<void>(peer.read(error));  // until it goes
          },
          options);
    });
    yield();
    auto first = UnixStream::connect(at("x"));
    auto second = UnixStream::connect(at("x"));
    auto third = UnixStream::connect(at("x"));  // waits in the queue
    sleep_for(10ms);
    EXPECT_EQ(control.stats().active, 2U);
    EXPECT_EQ(control.stats().accepted, 2U);
    first.write_all("!");
    EXPECT_FALSE(first.read()) << "closed with its handler's end";
    sleep_for(10ms);
    EXPECT_EQ(control.stats().accepted, 3U);
    EXPECT_EQ(control.stats().failed, 1U);

    control.stop_accepting();
    second.close();
    sleep_for(10ms);
    auto fourth = UnixStream::connect(at("x"));
    sleep_for(10ms);
    EXPECT_LE(control.stats().accepted, 4U);
    control.finish();
    const net::ServeStats stats = server.get();  // the drain is over before the third one has ended
    EXPECT_EQ(stats.peak, 2U);
    std::error_code error;
    EXPECT_FALSE(third.read(error));
  });
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_NE(reports[0].find("a handler's"), std::string::npos);
}

TEST_F(Unix, ServersTakeProxyHeaders) {
  on_loop([&] {
    for (const auto proxy : {net::ProxyProtocol::required, net::ProxyProtocol::optional}) {
      net::ServeControl control;
      auto listener = UnixListener::bind(at("x"));
      auto server = spawn([&] {
        return net::serve(
            listener,
            [](UnixStream peer) {
              peer.write_all(peer.proxy_header() != nullptr ? peer.proxy_header()->source->to_string() : "nobody");
            },
            {.proxy = proxy, .control = &control});
      });
      yield();
      auto client = UnixStream::connect(at("x"));
      client.write_all(net::proxy_header_v2(net::Address::parse("192.0.2.1:1"), net::Address::parse("192.0.2.1:2")));
      EXPECT_EQ(read_text(client, 11), "192.0.2.1:1");
      auto plain = UnixStream::connect(at("x"));
      plain.write_all("no header, and long enough to see that");
      std::error_code error;
      const Chunk answer = plain.read(error);
      EXPECT_EQ(answer.size(), proxy == net::ProxyProtocol::optional ? 6U : 0U);
      control.finish();
      EXPECT_EQ(server.get().rejected, proxy == net::ProxyProtocol::required ? 1U : 0U);
      listener.close();
    }
  });
}

TEST_F(Unix, MovedListenersAndDatagramsKeepTheirPath) {
  on_loop([&] {
    auto listener = UnixListener::bind(at("x"));
    UnixListener other = std::move(listener);
    other = UnixListener::bind(at("y"));
    if (!test::on_sim()) {
      EXPECT_FALSE(std::filesystem::exists(folder_ + "/x")) << "assigned over, it is gone";
      EXPECT_TRUE(std::filesystem::exists(folder_ + "/y"));
    }
    EXPECT_EQ(other.local_address(), at("y"));
    auto datagrams = net::UnixDatagram::bind(at("z"));
    datagrams = net::UnixDatagram::open();
    if (!test::on_sim()) {
      EXPECT_FALSE(std::filesystem::exists(folder_ + "/z"));
    }
    other.close();
    EXPECT_FALSE(std::filesystem::exists(folder_ + "/y"));
  });
}

}  // namespace
}  // namespace bight
