// SPDX-License-Identifier: Apache-2.0
#include <bight/stream.hpp>

#include <fcntl.h>
#include <pty.h>
#include <sys/eventfd.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <string>
#include <system_error>
#include <vector>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/scope.hpp>
#include <bight/select.hpp>
#include <bight/testing.hpp>
#include <bight/time.hpp>

#include "bytes.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::bytes_of;
using test::on_loop;
using test::on_sim;

std::string read_some(Stream& from, std::size_t most = 4096) {
  std::string text(most, '\0');
  text.resize(from.read(std::as_writable_bytes(std::span(text))));
  return text;
}

std::string read_to_end(Stream& from) {
  std::string all;
  for (std::string piece = read_some(from); !piece.empty(); piece = read_some(from)) all += piece;
  return all;
}

std::string read_exactly(Stream& from, std::size_t size) {
  std::string all;
  while (all.size() < size) {
    const std::string piece = read_some(from, size - all.size());
    if (piece.empty()) break;
    all += piece;
  }
  return all;
}

void fill(Stream& writer) {
  const std::string block(4096, 'f');
  writer.set_write_timeout(20ms);
  std::error_code error;
  while (!error) writer.write(bytes_of(block), error);
  EXPECT_EQ(error, std::errc::timed_out);
  writer.set_write_timeout(0s);
}

TEST(Pipe, WhatIsWrittenIsRead) {
  on_loop([] {
    Pipe pipe = make_pipe();
    pipe.writer.write_all("hello");
    EXPECT_EQ(read_some(pipe.reader), "hello");
  });
}

TEST(Pipe, AReaderWaitsForData) {
  on_loop([] {
    Pipe pipe = make_pipe();
    auto reader = spawn([&] {
      const std::string first = read_some(pipe.reader);
      return first + read_some(pipe.reader);
    });
    yield();
    pipe.writer.write_all("a");
    sleep_for(1ms);
    pipe.writer.write_all("b");
    EXPECT_EQ(reader.get(), "ab");
  });
}

TEST(Pipe, EndsWhenTheWriterIsClosed) {
  on_loop([] {
    Pipe pipe = make_pipe();
    auto reader = spawn([&] { return read_to_end(pipe.reader); });
    yield();
    pipe.writer.write_all("last words");
    pipe.writer.close();
    EXPECT_EQ(reader.get(), "last words");
  });
}

TEST(Pipe, MegabytesGoThroughInOrder) {
  on_loop([] {
    Pipe pipe = make_pipe();
    std::string sent(3'000'000, '\0');
    for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 2654435761U >> 24);
    auto writer = spawn([&] {
      pipe.writer.write_all(sent);
      pipe.writer.close();
    });
    EXPECT_EQ(read_to_end(pipe.reader), sent);
    writer.get();
  });
}

TEST(Pipe, AWriterWithoutAReaderGetsAnErrorAndNoSignal) {
  on_loop([] {
    Pipe pipe = make_pipe();
    pipe.reader.close();
    std::error_code error;
    EXPECT_EQ(pipe.writer.write(bytes_of("x"), error), 0U);
    EXPECT_EQ(error, std::errc::broken_pipe);
    try {
      pipe.writer.write_all("x");
      ADD_FAILURE() << "wrote";
    } catch (const std::system_error& failure) {
      EXPECT_EQ(failure.what(), "write to descriptor " + std::to_string(pipe.writer.fd()) + ": Broken pipe");
    }
  });
}

TEST(Pipe, AWaitingWriterHearsThatTheReaderHasGone) {
  on_loop([] {
    Pipe pipe = make_pipe();
    fill(pipe.writer);
    std::error_code error;
    auto writer = spawn([&] { pipe.writer.write(bytes_of("x"), error); });
    sleep_for(1ms);
    pipe.reader.close();
    writer.join();
    EXPECT_EQ(error, std::errc::broken_pipe);
  });
}

TEST(Pipe, AFullPipeMakesWritersWaitUntilItIsRead) {
  on_loop([] {
    Pipe pipe = make_pipe();
    fill(pipe.writer);
    bool written = false;
    auto writer = spawn([&] {
      pipe.writer.write_all("x");
      written = true;
    });
    sleep_for(1ms);
    EXPECT_FALSE(written);
    while (!written) {
      std::string room(4096, '\0');
      pipe.reader.read(std::as_writable_bytes(std::span(room)));
      sleep_for(1ms);
    }
    writer.get();
  });
}

TEST(Pipe, TimeoutsCancellationAndClosingEndAWait) {
  on_loop([] {
    Pipe pipe = make_pipe();
    std::array<std::byte, 8> buffer{};
    std::error_code error;
    pipe.reader.set_read_timeout(5ms);
    pipe.reader.read(buffer, error);
    EXPECT_EQ(error, std::errc::timed_out);
    pipe.reader.set_read_timeout(0s);

    auto cancelled = spawn([&] { pipe.reader.read(buffer, error); });
    yield();
    cancelled.cancel();
    cancelled.join();
    EXPECT_EQ(error, std::errc::operation_canceled);

    auto closed = spawn([&] { pipe.reader.read(buffer, error); });
    sleep_for(1ms);
    pipe.reader.close();
    closed.join();
    EXPECT_EQ(error, std::errc::bad_file_descriptor);
    pipe.reader.read(buffer, error);
    EXPECT_EQ(error, std::errc::bad_file_descriptor);
  });
}

TEST(Pipe, NothingIsLostWhenWaitsAreCancelled) {
  on_loop([] {
    Pipe pipe = make_pipe();
    constexpr int kCount = 500;
    std::string received;
    auto writer = spawn([&] {
      for (int i = 0; i < kCount; ++i) {
        const char letter = static_cast<char>('a' + i % 26);
        pipe.writer.write_all(std::string_view(&letter, 1));
        if (i % 3 == 0) yield();
        if (i % 7 == 0) sleep_for(10us);
      }
      pipe.writer.close();
    });
    bool ended = false;
    while (!ended) {
      static_cast<void>(move_on_after(20us, [&] {
        std::array<char, 3> buffer{};
        const std::size_t count = pipe.reader.read(std::as_writable_bytes(std::span(buffer)));
        received.append(buffer.data(), count);
        ended = count == 0;
      }));
    }
    writer.get();
    ASSERT_EQ(received.size(), static_cast<std::size_t>(kCount));
    for (int i = 0; i < kCount; ++i) EXPECT_EQ(received[static_cast<std::size_t>(i)], 'a' + i % 26);
  });
}

TEST(Pipe, IsACaseOfSelect) {
  on_loop([] {
    Pipe pipe = make_pipe();
    bool readable = false;
    bool late = false;
    select(pipe.reader.on_readable([&] { readable = true; }), after(2ms, [&] { late = true; }));
    EXPECT_TRUE(late);
    auto writer = spawn([&] { pipe.writer.write_all("x"); });
    select(pipe.reader.on_readable([&] { readable = true; }), after(10s, [&] { late = true; }));
    EXPECT_TRUE(readable);
    EXPECT_EQ(read_some(pipe.reader), "x");
    writer.get();
  });
}

TEST(Pipe, OneReaderAtATime) {
  on_loop([] {
    Pipe pipe = make_pipe();
    auto first = spawn([&] { return read_some(pipe.reader); });
    yield();
    std::array<std::byte, 8> buffer{};
    std::error_code error;
    pipe.reader.read(buffer, error);
    EXPECT_EQ(error, std::errc::device_or_resource_busy);
    pipe.writer.write_all("x");
    EXPECT_EQ(first.get(), "x");
  });
}

TEST(Pipe, TooManyDescriptorsAreAnError) {
  testing::Sim sim{{.descriptors_max = 3}};
  sim.run([] {
    Pipe first = make_pipe();
    std::error_code error;
    const Pipe second = make_pipe(error);
    EXPECT_EQ(error, std::errc::too_many_files_open);
    EXPECT_FALSE(second.reader.is_open());
  });
  EXPECT_EQ(sim.leaks(), "");
}

TEST(Pipe, SurvivesEverythingThatTheSimulatedWorldCanDo) {
  for (const std::uint64_t seed : testing::seeds(50)) {
    testing::Sim sim{{.seed = seed, .faults = testing::Faults::chaotic()}};
    sim.run([&] {
      Pipe pipe = make_pipe();
      const std::string sent(200'000, 's');
      auto writer = spawn([&] {
        pipe.writer.write_all(sent);
        pipe.writer.close();
      });
      EXPECT_EQ(read_to_end(pipe.reader), sent) << testing::replay_hint(seed);
      writer.get();
    });
    EXPECT_EQ(sim.leaks(), "");
  }
}

// --- What is there already -------------------------------------------------------------------------------------------

TEST(Stream, AdoptsADescriptor) {
  on_loop([] {
    if (on_sim()) GTEST_SKIP() << "real descriptors can not be waited on in a simulated world";
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    Stream reader = Stream::adopt(Fd(ends[0]));
    Stream writer = Stream::adopt(Fd(ends[1]));
    auto reading = spawn([&] { return read_some(reader); });
    yield();
    writer.write_all("adopted");
    EXPECT_EQ(reading.get(), "adopted");
    Fd taken = writer.release();
    EXPECT_EQ(taken.get(), ends[1]);
    EXPECT_EQ(::write(taken.get(), "raw", 3), 3);
    EXPECT_EQ(read_some(reader), "raw");
  });
}

TEST(Stream, RefusesWhatIsNotOpen) {
  on_loop([] {
    std::error_code error;
    const Stream stream = Stream::share(-1, error);
    EXPECT_EQ(error, std::errc::bad_file_descriptor);
    EXPECT_FALSE(stream.is_open());
    try {
      static_cast<void>(Stream::share(-1));
      ADD_FAILURE() << "shared nothing";
    } catch (const std::system_error& failure) {
      EXPECT_STREQ(failure.what(), "make a stream to descriptor -1: Bad file descriptor");
    }
  });
}

/// parity 2: gevent #147, O_NONBLOCK leaks to who shares standard input.
TEST(Stream, SharingLeavesTheFlagsOfOthersAlone) {
  on_loop([] {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const Fd theirs(ends[0]);
    const Fd their_end(ends[1]);
    {
      Stream reader = Stream::share(theirs.get());
      Stream writer = Stream::share(their_end.get());
      EXPECT_EQ(::fcntl(theirs.get(), F_GETFL) & O_NONBLOCK, 0);
      EXPECT_EQ(::fcntl(their_end.get(), F_GETFL) & O_NONBLOCK, 0);
      auto reading = spawn([&] { return read_some(reader); });
      yield();
      writer.write_all("shared");
      EXPECT_EQ(reading.get(), "shared");
    }
    EXPECT_EQ(::fcntl(theirs.get(), F_GETFL) & O_NONBLOCK, 0);
  });
}

TEST(Stream, SharesAFileWithItsCursor) {
  on_loop([] {
    std::FILE* file = std::tmpfile();
    ASSERT_NE(file, nullptr);
    const int fd = ::fileno(file);
    {
      Stream stream = Stream::share(fd);
      stream.write_all("one\n");
      EXPECT_EQ(::write(fd, "two\n", 4), 4);
      ::lseek(fd, 0, SEEK_SET);
      EXPECT_EQ(read_to_end(stream), "one\ntwo\n");
    }
    std::fclose(file);
  });
}

TEST(Stream, SharesASocketThatBlocks) {
  on_loop([] {
    if (on_sim()) GTEST_SKIP() << "real descriptors can not be waited on in a simulated world";
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    const Fd one(ends[0]);
    const Fd other(ends[1]);
    Stream stream = Stream::share(one.get());
    auto reading = spawn([&] { return read_some(stream); });
    yield();
    EXPECT_EQ(::write(other.get(), "over a socket", 13), 13);
    EXPECT_EQ(reading.get(), "over a socket");
    EXPECT_EQ(::fcntl(one.get(), F_GETFL) & O_NONBLOCK, 0);
  });
}

/// Waits end though the descriptor blocks: by its flags, which are others', and it can not be opened anew.
TEST(Stream, WhatBlocksIsWaitedForFirst) {
  on_loop([] {
    if (on_sim()) GTEST_SKIP() << "the system's own descriptors";
    const Fd counter(::eventfd(0, EFD_CLOEXEC));
    Stream numbers = Stream::share(counter.get());
    std::uint64_t number = 0;
    EXPECT_THROW(with_timeout(20ms, [&] { numbers.read(std::as_writable_bytes(std::span(&number, 1))); }), TimedOut);
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const Fd reader(ends[0]);
    const Fd writer(ends[1]);
    ASSERT_EQ(::fchmod(writer.get(), 0), 0);
    const int user = ::setfsuid(65534);  // root may open anything
    Stream stream = Stream::share(writer.get());
    ::setfsuid(static_cast<uid_t>(user));
    EXPECT_THROW(with_timeout(100ms, [&] { stream.write_all(std::string(std::size_t{1} << 20U, 'x')); }), TimedOut);
    stream.set_write_timeout(20ms);
    std::error_code error;
    stream.write_all(std::string(std::size_t{1} << 20U, 'x'), error);
    EXPECT_EQ(error, std::errc::timed_out);
  });
}

TEST(Stream, ATerminalWorksFromBothSides) {
  on_loop([] {
    if (on_sim()) GTEST_SKIP() << "real descriptors can not be waited on in a simulated world";
    int master_fd = -1;
    int terminal_fd = -1;
    if (::openpty(&master_fd, &terminal_fd, nullptr, nullptr, nullptr) != 0) GTEST_SKIP() << "no pseudo-terminals here";
    const Fd inherited(terminal_fd);
    Stream master = Stream::adopt(Fd(master_fd));
    {
      Stream terminal = Stream::share(inherited.get());
      EXPECT_TRUE(terminal.is_terminal());
      auto reading = spawn([&] { return read_some(terminal); });
      sleep_for(1ms);
      master.write_all("typed\nmore\n");
      EXPECT_EQ(reading.get(), "typed\n");
      EXPECT_EQ(read_some(terminal), "more\n");  // a line at a time, though both had been there
      EXPECT_EQ(::fcntl(inherited.get(), F_GETFL) & O_NONBLOCK, 0);
    }
    const std::string_view echo = "typed\r\nmore\r\n";  // which may come in pieces
    EXPECT_EQ(read_exactly(master, echo.size()), echo);
    Fd(std::move(const_cast<Fd&>(inherited))).reset();
    EXPECT_EQ(read_to_end(master), "");
  });
}

TEST(Stream, NullAndFullAndZero) {
  on_loop([] {
    if (on_sim()) GTEST_SKIP() << "real descriptors can not be waited on in a simulated world";
    Stream null = Stream::adopt(Fd(::open("/dev/null", O_RDWR | O_CLOEXEC)));
    null.write_all("gone");
    EXPECT_EQ(read_some(null), "");
    Stream full = Stream::adopt(Fd(::open("/dev/full", O_RDWR | O_CLOEXEC)));
    std::error_code error;
    full.write_all(bytes_of("x"), error);
    EXPECT_EQ(error, std::errc::no_space_on_device);
    EXPECT_EQ(read_some(full, 3), std::string(3, '\0'));
  });
}

}  // namespace
}  // namespace bight
