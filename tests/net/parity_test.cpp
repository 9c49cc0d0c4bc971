// SPDX-License-Identifier: Apache-2.0
// What gevent's own tests say of sockets and servers, where no other test here says it: docs/parity.md has the list.
#include <sys/socket.h>

#include <chrono>
#include <string>
#include <system_error>

#include <bight/deadline.hpp>
#include <bight/fd.hpp>
#include <bight/fd_watch.hpp>
#include <bight/fiber.hpp>
#include <bight/net/tcp.hpp>
#include <bight/stop.hpp>

#include "net_test.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::on_loop;
using test::stream_pair;

class Parity : public test::NetTest {};

/// Writes until nothing more is taken.
void fill(net::TcpStream& stream) {
  const std::string piece(1'000'000, 'x');
  EXPECT_FALSE(move_on_after(50ms, [&] {
    for (;;) stream.write_all(piece);
  }));
}

// test__socket.py::test_sendall_empty, test_sendall_empty_with_timeout
TEST_F(Parity, SendallOfNothingDoesNotWaitForRoom) {
  on_loop([] {
    auto pair = stream_pair();
    fill(pair.client);
    pair.client.set_timeout(20ms);
    std::error_code error = std::make_error_code(std::errc::io_error);
    pair.client.write_all("", error);
    EXPECT_FALSE(error);
    with_timeout(1h, [&] { pair.client.write_all(""); });
  });
}

// test__socket.py::test_sendall_timeout
TEST_F(Parity, ATimeLimitHoldsForHoweverMuchIsSent) {
  on_loop([] {
    auto pair = stream_pair();
    const std::string much(100'000'000, 'x');
    EXPECT_THROW(with_timeout(100ms, [&] { pair.client.write_all(much); }), TimedOut);
  });
}

// test__server.py::test_server_repr_when_handle_is_instancemethod and its kin: after stop(), ECONNREFUSED
TEST_F(Parity, AServerThatHasStoppedRefuses) {
  on_loop([] {
    auto listener = net::TcpListener::bind("127.0.0.1:0");
    const net::Address address = listener.local_address();
    auto server =
        spawn([&] { net::serve(std::move(listener), [](net::TcpStream peer) { peer.write_all("served"); }); });
    EXPECT_EQ(net::connect(address).read().size(), 6U);
    request_stop();
    server.join();
    std::error_code error;
    static_cast<void>(net::connect(address, error));
    EXPECT_EQ(error, std::errc::connection_refused);
  });
}

// test__select.py, test__selectors.py::TestPossibleCrashes
TEST_F(Parity, ADescriptorThatWasClosedBeforeIsNotWaitedOn) {
  on_loop([] {
    if (test::on_sim()) GTEST_SKIP() << "the process's own descriptors are not the simulated world's";
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    ::close(ends[0]);
    std::error_code error;  // or none: then its owner's next call tells
    EXPECT_TRUE(move_on_after(10s, [&] { wait_readable(ends[0], error); }));
    ::close(ends[1]);
  });
}

TEST_F(Parity, ADescriptorThatIsClosedMeanwhileIsWaitedOnInVainAtWorst) {
  on_loop([] {
    if (test::on_sim()) GTEST_SKIP() << "the process's own descriptors are not the simulated world's";
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    auto waiting = spawn([&] {
      std::error_code error;
      return move_on_after(100ms, [&] { wait_readable(ends[0], error); });
    });
    yield();
    ::close(ends[0]);
    static_cast<void>(waiting.get());  // either way, it has ended
    ::close(ends[1]);
    auto pair = stream_pair();  // whose numbers are those
    pair.client.write_all("x");
    EXPECT_EQ(pair.server.read().size(), 1U);
  });
}

}  // namespace
}  // namespace bight
