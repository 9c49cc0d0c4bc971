// SPDX-License-Identifier: Apache-2.0
#include <bight/connection.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>

#include <gtest/gtest.h>

#include <bight/channel.hpp>
#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/scope.hpp>
#include <bight/select.hpp>

#include "bytes.hpp"
#include "child.hpp"
#include "on_loop.hpp"
#include "open_fds.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using Bytes = std::vector<std::byte>;

constexpr std::size_t kInline = connection_inline_max;

Bytes pattern(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 256);
  return bytes;
}

/// Runs the body, but not in a simulated world, which has no processes.
void on_real_loop(const std::function<void()>& body) {
  on_loop([&] {
    if (on_sim()) GTEST_SKIP() << "a simulated world has no other processes";
    body();
  });
}

/// A child that sends back what it gets until the end; then ends with 0.
int echo(Connection& end) {
  while (auto message = end.receive_bytes()) end.send_bytes(*message);
  return 0;
}

struct EchoProcess {
  EchoProcess() : EchoProcess(make_connection_pair()) {}
  explicit EchoProcess(std::pair<Connection, Connection> pair)
      : near(std::move(pair.first)), child([&] {
          near.close();
          int status = 0;
          run(RunOptions{.stop_on_signals = false}, [&] { status = echo(pair.second); });
          return status;
        }) {}
  Connection near;
  Child child;
};

/// What the error_code form of an operation reports.
template <class Operation>
std::error_code error_of(Operation&& operation) {
  std::error_code error;
  operation(error);
  return error;
}

bool simulated() {
  const char* engine = std::getenv("BIGHT_ENGINE");  // NOLINT(concurrency-mt-unsafe)
  return engine != nullptr && std::string_view(engine) == "sim";
}

TEST(Connection, messages_of_all_sizes_go_there_and_back) {
  if (simulated()) GTEST_SKIP() << "a simulated world has no other processes";
  EchoProcess other;
  on_loop([&] {
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{1}, std::size_t{64}, kInline - 1, kInline, kInline + 1, std::size_t{5'000'000}}) {
      const Bytes sent = pattern(size);
      other.near.send_bytes(sent);
      EXPECT_EQ(other.near.receive_bytes(), sent) << size;
    }
    other.near.close();
  });
  const Ended ended = other.child.wait();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

TEST(Connection, values_go_both_ways) {
  on_real_loop([] {
    Connection a;
    Connection b;
    std::tie(a, b) = make_connection_pair();
    a.send(std::string("hello"));
    b.send(std::pair<int, std::vector<double>>(7, {1.5, 2.5}));
    EXPECT_EQ(b.receive<std::string>(), "hello");
    EXPECT_EQ((a.receive<std::pair<int, std::vector<double>>>()), (std::pair<int, std::vector<double>>(7, {1.5, 2.5})));
    a.send(std::vector<int>(100'000, 5));
    EXPECT_EQ(b.receive<std::vector<int>>(), std::vector<int>(100'000, 5));
    a.send(1);
    EXPECT_THROW(static_cast<void>(b.receive<std::string>()), DecodeError);
    a.send(1);
    std::error_code error;
    EXPECT_EQ(b.receive<std::string>(error), std::nullopt);
    EXPECT_EQ(error, std::errc::bad_message);
    a.send(2);
    EXPECT_EQ(b.receive<int>(error), 2);  // one that was wrong leaves the next one alone
    EXPECT_FALSE(error);
  });
}

// gevent-parity, 46: _TestPoll.test_boundaries, test_dont_merge, test_empty_string.
TEST(Connection, poll_keeps_messages_apart) {
  on_real_loop([] {
    Connection a;
    Connection b;
    std::tie(a, b) = make_connection_pair();
    EXPECT_FALSE(b.poll(0ms));
    EXPECT_FALSE(b.poll(1ms));
    a.send_bytes({});
    a.send_bytes(bytes_of("a"));
    a.send_bytes(bytes_of("bb"));
    for (const std::size_t size : {0, 1, 2}) {
      EXPECT_TRUE(b.poll(0ms));
      EXPECT_TRUE(b.poll(1s));
      EXPECT_EQ(b.receive_bytes()->size(), size);
    }
    EXPECT_FALSE(b.poll(0ms));
    auto late = spawn([&] {
      sleep_for(1ms);
      a.send_bytes(bytes_of("c"));
    });
    EXPECT_TRUE(b.poll(60s));
    EXPECT_EQ(b.try_receive<char>(), 'c');
    EXPECT_EQ(b.try_receive<char>(), std::nullopt);
    EXPECT_FALSE(b.at_end());
    a.close();
    EXPECT_TRUE(b.poll(60s));
    EXPECT_EQ(b.try_receive<char>(), std::nullopt);
    EXPECT_TRUE(b.at_end());
  });
}

TEST(Connection, the_end_comes_after_what_was_sent) {
  on_real_loop([] {
    Connection a;
    Connection b;
    std::tie(a, b) = make_connection_pair();
    a.send(1);
    b.send(9);  // a goes without having read it
    a.close();
    EXPECT_EQ(b.receive<int>(), 1);
    EXPECT_EQ(b.receive<int>(), std::nullopt);
    EXPECT_EQ(b.receive<int>(), std::nullopt);
    EXPECT_TRUE(b.at_end());
    EXPECT_EQ(error_of([&](std::error_code& error) { b.send(2, error); }), std::errc::broken_pipe);
    EXPECT_EQ(error_of([&](std::error_code& error) { a.send(2, error); }), std::errc::bad_file_descriptor);
    try {
      b.send(2);
      ADD_FAILURE();
    } catch (const std::system_error& error) {
      EXPECT_NE(std::string(error.what()).find("send through a connection"), std::string::npos) << error.what();
    }
  });
}

TEST(Connection, a_killed_peer_is_the_end) {
  if (simulated()) GTEST_SKIP() << "a simulated world has no other processes";
  Connection near;
  Connection far;
  std::tie(near, far) = make_connection_pair();
  Child child([&] {
    near.close();
    far.send(std::string("ready"));
    for (;;) ::pause();
    return 0;
  });
  far.close();
  on_loop([&] {
    EXPECT_EQ(near.receive<std::string>(), "ready");
    for (int i = 0; i < 10; ++i) near.send(i);
    auto killer = spawn([&] {
      sleep_for(1ms);
      ::kill(child.pid(), SIGKILL);
    });
    EXPECT_EQ(near.receive<std::string>(), std::nullopt);
    near.close();
  });
  EXPECT_TRUE(child.wait().by(SIGKILL));
}

TEST(Connection, limits_and_cancellation_take_nothing) {
  on_real_loop([] {
    Connection a;
    Connection b;
    std::tie(a, b) = make_connection_pair();
    EXPECT_EQ(b.receive_for<int>(1ms), std::nullopt);
    EXPECT_FALSE(b.at_end());
    auto receiver = spawn([&b] { static_cast<void>(b.receive<int>()); });
    yield();
    receiver.cancel();
    receiver.join();
    a.send(5);
    EXPECT_EQ(b.receive<int>(), 5);
    EXPECT_THROW(with_timeout(1ms, [&b] { return b.receive<int>(); }), TimedOut);
    // A full socket.
    int sent = 0;
    while (a.try_send(sent)) ++sent;
    EXPECT_GT(sent, 50);
    EXPECT_FALSE(a.send_for(-1, 1ms));
    auto sender = spawn([&a] { a.send(-2); });
    yield();
    sender.cancel();
    sender.join();
    for (int i = 0; i < sent; ++i) EXPECT_EQ(b.receive<int>(), i);
    EXPECT_EQ(b.try_receive<int>(), std::nullopt);
    // A fiber that has been cancelled neither sends nor receives.
    a.send(1);
    auto late = spawn([&a, &b] {
      try {
        sleep_for(1h);
      } catch (const Cancelled&) {
      }
      EXPECT_EQ(error_of([&](std::error_code& error) { a.send(2, error); }), std::errc::operation_canceled);
      EXPECT_EQ(error_of([&](std::error_code& error) { static_cast<void>(b.receive<int>(error)); }),
                std::errc::operation_canceled);
    });
    yield();
    late.cancel();
    late.join();
    EXPECT_EQ(b.receive<int>(), 1);
    EXPECT_EQ(b.try_receive<int>(), std::nullopt);
  });
}

TEST(Connection, close_wakes_who_waits) {
  on_real_loop([] {
    Connection a;
    Connection b;
    std::tie(a, b) = make_connection_pair();
    std::vector<Fiber<std::error_code>> waiting;
    for (int i = 0; i < 3; ++i) {
      waiting.push_back(
          spawn([&b] { return error_of([&](std::error_code& error) { static_cast<void>(b.receive<int>(error)); }); }));
    }
    yield();
    yield();
    b.close();
    for (auto& each : waiting) EXPECT_EQ(each.get(), std::errc::bad_file_descriptor);
    // A Connection that is destroyed does the same.
    auto pair = std::make_unique<std::pair<Connection, Connection>>(make_connection_pair());
    auto other = spawn([&end = pair->first] {
      return error_of([&](std::error_code& error) { static_cast<void>(end.receive<int>(error)); });
    });
    yield();
    pair.reset();
    EXPECT_EQ(other.get(), std::errc::bad_file_descriptor);
  });
}

TEST(Connection, fibers_share_an_end_in_turns) {
  on_real_loop([] {
    constexpr int kFibers = 20;
    constexpr int kEach = 200;
    Connection a;
    Connection b;
    std::tie(a, b) = make_connection_pair();
    Scope scope;
    for (int i = 0; i < kFibers; ++i) {
      scope.spawn([&a, i] {
        for (int k = 0; k < kEach; ++k) a.send(std::pair(i, std::string(1000, static_cast<char>('a' + k % 26))));
      });
    }
    std::array<int, kFibers> counts{};
    for (int i = 0; i < 3; ++i) {
      scope.spawn([&] {
        while (auto got = b.receive<std::pair<int, std::string>>()) ++counts[static_cast<std::size_t>(got->first)];
      });
    }
    auto done = [&] { return std::all_of(counts.begin(), counts.end(), [](int n) { return n == kEach; }); };
    while (!done()) sleep_for(1ms);
    a.close();
    scope.join();
    EXPECT_TRUE(done());
  });
}

TEST(Connection, who_looks_takes_nothing_from_who_waits) {
  on_real_loop([] {
    constexpr int kMessages = 5000;
    Connection a;
    Connection b;
    std::tie(a, b) = make_connection_pair();
    std::vector<int> counts(kMessages);
    const auto count = [&](const std::optional<Bytes>& got) {
      if (!got) return;
      int number = 0;
      ASSERT_EQ(got->size(), 2000U);
      std::memcpy(&number, got->data(), sizeof number);
      ++counts.at(static_cast<std::size_t>(number));
      EXPECT_EQ(std::count(got->begin() + sizeof number, got->end(), static_cast<std::byte>(number)), 2000 - 4);
    };
    Scope scope;
    for (int i = 0; i < 2; ++i) {
      scope.spawn([&] {
        while (auto got = b.receive_bytes()) count(got);
      });
      scope.spawn([&] {
        for (; !b.at_end(); yield()) count(b.receive_bytes_for(0ms));
      });
    }
    for (int i = 0; i < kMessages; ++i) {
      Bytes message(2000, static_cast<std::byte>(i));
      std::memcpy(message.data(), &i, sizeof i);
      a.send_bytes(message);
      if (i % 7 == 0) yield();
    }
    a.close();
    scope.join();
    EXPECT_EQ(std::count(counts.begin(), counts.end(), 1), kMessages);
  });
}

TEST(Connection, what_has_come_outlives_the_end_that_it_came_to) {
  on_real_loop([] {
    auto [a, b] = make_connection_pair();
    auto [first, second] = make_connection_pair();
    std::optional<Bytes> got;
    std::error_code error;
    Scope scope;
    scope.spawn([&, &to = b] { got = to.receive_bytes(error); });
    scope.spawn([&, &from = second, &closed = b] {  // wakes before the other one, after its message has come
      static_cast<void>(from.receive<int>());
      closed.close();
    });
    sleep_for(1ms);
    first.send(1);
    a.send_bytes(pattern(60'000));
    scope.join();
    if (error) {
      EXPECT_EQ(error, std::errc::bad_file_descriptor);  // it had not come yet
    } else {
      EXPECT_EQ(got, pattern(60'000));
    }
  });
}

TEST(Connection, is_a_case_of_select) {
  on_real_loop([] {
    Connection a;
    Connection b;
    std::tie(a, b) = make_connection_pair();
    Connection c;
    Connection d;
    std::tie(c, d) = make_connection_pair();
    int from_b = 0;
    int from_d = 0;
    auto look = [&] {
      return select(b.on_readable([&] { from_b = b.receive<int>().value_or(-1); }),
                    d.on_readable([&] { from_d = d.receive<int>().value_or(-1); }), after(60s, [] {}));
    };
    auto sender = spawn([&] { c.send(3); });
    EXPECT_EQ(look(), 1U);
    EXPECT_EQ(from_d, 3);
    a.send(4);
    EXPECT_EQ(look(), 0U);
    EXPECT_EQ(from_b, 4);
    a.close();
    EXPECT_EQ(look(), 0U);
    EXPECT_EQ(from_b, -1);
    EXPECT_EQ(select(d.on_readable([] {}), after(1ms, [] {})), 1U);
  });
}

// gevent-parity, 46: _TestConnection.test_fd_transfer.
TEST(Connection, descriptors_are_passed) {
  if (simulated()) GTEST_SKIP() << "a simulated world has no other processes";
  const std::size_t before = open_fds();
  {
    Connection near;
    Connection far;
    std::tie(near, far) = make_connection_pair();
    Child child([&near, &far] {
      near.close();
      auto message = far.receive_message();
      if (!message || message->fds.size() != 2) return 1;
      for (const Fd& each : message->fds) {
        if ((::fcntl(each.get(), F_GETFD) & FD_CLOEXEC) == 0) return 2;
      }
      const std::string_view text = "written by the child";
      if (::write(message->fds[1].get(), text.data(), text.size()) < 0) return 3;
      // An end is passed as well, and used at once.
      Connection mine;
      Connection given;
      std::tie(mine, given) = make_connection_pair();
      const Fd end = given.release();
      far.send_with_fds(encode(std::string("an end")), std::array{end.get()});
      mine.send(42);
      return 0;
    });
    far.close();
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
    const Fd read_end(pipe[0]);
    const Fd write_end(pipe[1]);
    on_loop([&] {
      near.send_with_fds({}, pipe);
      auto message = near.receive_message();
      ASSERT_TRUE(message && message->fds.size() == 1);
      EXPECT_EQ(decode<std::string>(message->bytes), "an end");
      Connection end(std::move(message->fds[0]));
      EXPECT_EQ(end.receive<int>(), 42);
      EXPECT_EQ(end.receive<int>(), std::nullopt);
      near.close();
    });
    const Ended ended = child.wait();
    EXPECT_TRUE(ended.with(0)) << describe(ended);
    std::array<char, 64> text{};
    EXPECT_EQ(::read(read_end.get(), text.data(), text.size()), 20);
    EXPECT_STREQ(text.data(), "written by the child");
  }
  EXPECT_EQ(open_fds(), before);
}

TEST(Connection, descriptors_do_not_leak) {
  on_real_loop([] {
    Connection a;
    Connection b;
    std::tie(a, b) = make_connection_pair();
    static_cast<void>(b.poll(1ms));
    const std::size_t before = open_fds();
    const std::vector<int> fds(connection_fds_max, a.fd());
    a.send_with_fds(pattern(10), fds);
    a.send_with_fds(pattern(kInline * 2), fds);
    a.send_with_fds(pattern(10), fds);
    EXPECT_EQ(error_of([&](std::error_code& error) {
                a.send_with_fds({}, std::vector<int>(connection_fds_max + 1, a.fd()), error);
              }),
              std::errc::argument_list_too_long);
    EXPECT_EQ(b.receive_message()->fds.size(), connection_fds_max);
    EXPECT_EQ(b.receive_message()->bytes, pattern(kInline * 2));
    EXPECT_EQ(b.receive_bytes(), pattern(10));  // who does not ask for descriptors gets none
    EXPECT_EQ(open_fds(), before);
    a.send_with_fds({}, fds);
  });
}

TEST(Connection, running_out_of_descriptors_is_an_error) {
  if (simulated()) GTEST_SKIP() << "a simulated world has no other processes";
  const Ended ended = in_child([] {
    Connection a;
    Connection b;
    std::tie(a, b) = make_connection_pair();
    std::vector<int> fds(10, STDERR_FILENO);
    a.send_with_fds({}, fds);
    a.send_bytes(pattern(kInline + 1));
    a.send(7);
    const std::size_t open = open_fds();
    const ::rlimit limit{open + 4, open + 4};
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return 1;
    std::error_code error;
    if (b.receive_message(error) || error != std::errc::too_many_files_open) return 2;
    if (open_fds() != open) return 3;
    if (b.receive_bytes(error) != pattern(kInline + 1) || error) return 4;
    if (b.receive<int>(error) != 7 || error) return 5;
    return 0;
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

/// Sends `bytes` with `fds` as they are through an end.
void send_as_is(int socket, std::string_view bytes, std::span<const int> fds = {}) {
  std::array<std::byte, CMSG_SPACE(sizeof(int) * 200)> control{};
  iovec piece{const_cast<char*>(bytes.data()), bytes.size()};  // NOLINT(cppcoreguidelines-pro-type-const-cast)
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  ASSERT_EQ(::sendmsg(socket, &message, MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
}

TEST(Connection, what_is_no_message_is_an_error) {
  on_real_loop([] {
    Connection a;
    Connection b;
    std::tie(a, b) = make_connection_pair();
    static_cast<void>(b.poll(1ms));
    const std::size_t before = open_fds();
    const std::size_t size = 100;
    const std::string_view size_bytes(reinterpret_cast<const char*>(&size), sizeof size);
    const std::string large = std::string("m\0\0\0", 4) + std::string(size_bytes);
    const Fd unsealed(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    ASSERT_EQ(::ftruncate(unsealed.get(), 100), 0);
    const Fd short_one(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    ASSERT_EQ(::fcntl(short_one.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL), 0);
    send_as_is(a.fd(), "b");
    send_as_is(a.fd(), "xxxx");
    send_as_is(a.fd(), std::string("b\0\0\0", 4) + std::string(kInline + 1, 'x'));
    send_as_is(a.fd(), std::string_view("b\1\0\0", 4));
    send_as_is(a.fd(), std::string_view("b\0\0\0", 4), std::array{a.fd(), a.fd()});
    send_as_is(a.fd(), std::string_view("b\0\0\0", 4), std::vector<int>(150, a.fd()));
    send_as_is(a.fd(), large);
    send_as_is(a.fd(), large, std::array{unsealed.get()});
    send_as_is(a.fd(), large, std::array{short_one.get()});
    send_as_is(a.fd(), large, std::array{a.fd()});
    send_as_is(a.fd(), std::string_view("m\0\0\0\1", 5), std::array{unsealed.get()});
    const Fd file(::open(testing::TempDir().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    ASSERT_EQ(::ftruncate(file.get(), 100), 0);
    send_as_is(a.fd(), large, std::array{file.get()});
    send_as_is(a.fd(), "", std::array{a.fd(), a.fd()});
    for (int i = 0; i < 13; ++i) {
      std::error_code error;
      EXPECT_EQ(b.receive_message(error), std::nullopt) << i;
      EXPECT_EQ(error, i == 5 ? std::errc::too_many_files_open : std::errc::bad_message) << i;
    }
    EXPECT_EQ(open_fds(), before + 3);
    EXPECT_FALSE(b.at_end());
    a.send(1);
    EXPECT_EQ(b.receive<int>(), 1);
  });
}

TEST(Connection, size_has_a_limit_on_both_sides) {
  on_real_loop([] {
    Connection a;
    Connection b;
    std::tie(a, b) = make_connection_pair();
    EXPECT_EQ(a.message_max(), connection_message_max);
    a.set_message_max(1000);
    EXPECT_EQ(error_of([&](std::error_code& error) { a.send_bytes(pattern(1001), error); }), std::errc::message_size);
    a.send_bytes(pattern(1000));
    b.set_message_max(999);
    std::error_code error;
    EXPECT_EQ(b.receive_bytes(error), std::nullopt);
    EXPECT_EQ(error, std::errc::message_size);
    a.set_message_max(kInline * 4);
    a.send_bytes(pattern(kInline * 3));
    EXPECT_EQ(b.receive_bytes(error), std::nullopt);
    EXPECT_EQ(error, std::errc::message_size);
    // Even where somebody has left the socket little room.
    const int little = 4096;
    ASSERT_EQ(::setsockopt(a.fd(), SOL_SOCKET, SO_SNDBUF, &little, sizeof little), 0);
    b.set_message_max(kInline);
    a.send_bytes(pattern(kInline));
    EXPECT_EQ(b.receive_bytes(), pattern(kInline));
  });
}

TEST(Connection, threads_without_a_loop_wait_too) {
  Connection a;
  Connection b;
  std::tie(a, b) = make_connection_pair();
  std::thread other([&b] {
    while (auto got = b.receive<int>()) b.send(*got + 1);
  });
  for (int i = 0; i < 100; ++i) {
    a.send(i);
    EXPECT_EQ(a.receive<int>(), i + 1);
  }
  EXPECT_EQ(a.receive_for<int>(1ms), std::nullopt);
  a.close();
  other.join();
}

/// Fibers wait on it here while the process forks; the child uses its copy in a loop of its own.
TEST(Connection, survives_a_fork_in_the_middle_of_a_wait) {
  on_real_loop([] {
    Connection a;
    Connection b;
    std::tie(a, b) = make_connection_pair();
    Connection back;
    Connection answer;
    std::tie(back, answer) = make_connection_pair();
    auto receiver = spawn([&b] { return b.receive<std::string>(); });
    auto second = spawn([&b] { return b.receive<std::string>(); });
    yield();
    yield();
    Child child([&] {
      b.send(std::string("from the child"));  // which goes to a, its parent's and its own
      int status = 1;
      run(RunOptions{.stop_on_signals = false}, [&] {
        if (a.receive<std::string>() == "from the child") status = 0;
        answer.send(status);
        a.close();
        b.close();
      });
      return status;
    });
    EXPECT_EQ(back.receive<int>(), 0);
    a.send(std::string("one"));
    a.send(std::string("two"));
    EXPECT_EQ(receiver.get(), "one");
    EXPECT_EQ(second.get(), "two");
    const Ended ended = child.wait();
    EXPECT_TRUE(ended.with(0)) << describe(ended);
  });
}

TEST(Connection, is_made_of_such_sockets_only) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  const Fd other(pipe[1]);
  EXPECT_THROW(Connection(Fd(pipe[0])), std::system_error);
  EXPECT_THROW(Connection(Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0))), std::system_error);
  EXPECT_THROW(Connection{Fd()}, std::system_error);
  EXPECT_FALSE(Connection());
}

TEST(Connection, a_simulated_world_has_no_others) {
  on_loop([] {
    if (!on_sim()) GTEST_SKIP() << "of the sim engine";
    Connection a;
    Connection b;
    std::tie(a, b) = make_connection_pair();
    try {
      static_cast<void>(b.receive<int>());
      ADD_FAILURE();
    } catch (const std::system_error& error) {
      EXPECT_EQ(error.code(), std::errc::operation_not_supported);
      EXPECT_NE(std::string(error.what()).find("a simulated world has no other processes"), std::string::npos);
    }
    EXPECT_THROW(static_cast<void>(b.on_readable([] {})), std::system_error);
  });
}

}  // namespace
}  // namespace bight::test
