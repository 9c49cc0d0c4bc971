// SPDX-License-Identifier: Apache-2.0
#include <bight/copy.hpp>

#include <chrono>
#include <random>
#include <string>
#include <system_error>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/filesystem.hpp>
#include <bight/scope.hpp>
#include <bight/temporary.hpp>
#include <bight/time.hpp>

#include "on_loop.hpp"
#include "socket_pair.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::bytes_of;
using test::connect_pair;
using test::on_loop;
using test::on_sim;
using test::SocketPair;

std::string random_text(std::size_t size) {
  std::mt19937 random(static_cast<unsigned>(size));
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

template <class Source>
std::string read_to_end(Source& source) {
  std::string all;
  std::string piece(65536, '\0');
  std::error_code error;
  for (;;) {
    const std::size_t count = source.read(std::as_writable_bytes(std::span(piece)), error);
    EXPECT_FALSE(error) << error.message();
    if (error || count == 0) return all;
    all.append(piece, 0, count);
  }
}

template <class Body>
void in_directory(Body&& body) {
  on_loop([&] {
    const fs::TemporaryDirectory directory("bight-copy-test-");
    body(directory);
  });
}

constexpr std::size_t kSize = std::size_t{1500} * 1000;

TEST(Copy, BetweenFilesFromCursorToCursor) {
  in_directory([](const fs::TemporaryDirectory& in) {
    const std::string text = random_text(kSize);
    fs::write_file(in / "from", text);
    fs::write_file(in / "to", "head");
    File from = File::open(in / "from");
    File to = File::open(in / "to", {.read = true, .write = true});
    from.seek(100);
    to.seek(0, SeekFrom::end);
    EXPECT_EQ(copy_data(from, to, 1000), 1000U);
    EXPECT_EQ(from.tell(), 1100U);
    EXPECT_EQ(to.tell(), 1004U);
    EXPECT_EQ(copy_data(from, to), kSize - 1100);
    EXPECT_TRUE(fs::read_file(in / "to") == "head" + text.substr(100));
    EXPECT_EQ(copy_data(from, to), 0U) << "at the end";
    std::error_code error;
    copy_data(from, from, error);
    EXPECT_EQ(error, std::errc::invalid_argument);
  });
}

TEST(Copy, OppositeCopiesDoNotWaitForEachOther) {
  in_directory([](const fs::TemporaryDirectory& in) {
    fs::write_file(in / "a", random_text(kSize));
    fs::write_file(in / "b", random_text(kSize / 2));
    File a = File::open(in / "a", {.read = true, .write = true});
    File b = File::open(in / "b", {.read = true, .write = true});
    Scope scope;
    scope.spawn([&] { copy_data(a, b, 1000); });
    scope.spawn([&] { copy_data(b, a, 1000); });
    scope.join();
  });
}

TEST(Copy, ToAFileThatIsAppendedTo) {
  in_directory([](const fs::TemporaryDirectory& in) {
    fs::write_file(in / "from", "new");
    fs::write_file(in / "to", "old ");
    File from = File::open(in / "from");
    File to = File::open(in / "to", {.append = true});
    EXPECT_EQ(copy_data(from, to), 3U);
    EXPECT_EQ(fs::read_file(in / "to"), "old new");
  });
}

TEST(Copy, FileToSocketAndBack) {
  in_directory([](const fs::TemporaryDirectory& in) {
    const std::string text = random_text(kSize);
    fs::write_file(in / "from", text);
    SocketPair pair = connect_pair();
    Scope scope;
    scope.spawn([&] {
      File from = File::open(in / "from");
      EXPECT_EQ(copy_data(from, pair.client), kSize);
      EXPECT_EQ(from.tell(), kSize);
      pair.client.close();
    });
    File to = File::create(in / "to");
    EXPECT_EQ(copy_data(pair.server, to), kSize);
    scope.join();
    EXPECT_TRUE(fs::read_file(in / "to") == text);
  });
}

TEST(Copy, FileToPipeAndBack) {
  in_directory([](const fs::TemporaryDirectory& in) {
    const std::string text = random_text(kSize);
    fs::write_file(in / "from", text);
    Pipe pipe = make_pipe();
    Scope scope;
    scope.spawn([&] {
      File from = File::open(in / "from");
      EXPECT_EQ(copy_data(from, pipe.writer), kSize);
      pipe.writer.close();
    });
    File to = File::create(in / "to");
    EXPECT_EQ(copy_data(pipe.reader, to, 1000), 1000U);
    EXPECT_EQ(copy_data(pipe.reader, to), kSize - 1000);
    scope.join();
    EXPECT_TRUE(fs::read_file(in / "to") == text);
  });
}

TEST(Copy, PipeToSocketToPipe) {
  on_loop([] {
    const std::string text = random_text(kSize);
    Pipe first = make_pipe();
    Pipe last = make_pipe();
    SocketPair pair = connect_pair();
    Scope scope;
    scope.spawn([&] {
      first.writer.write_all(text);
      first.writer.close();
    });
    scope.spawn([&] {
      EXPECT_EQ(copy_data(first.reader, pair.client), kSize);
      pair.client.close();
    });
    scope.spawn([&] {
      EXPECT_EQ(copy_data(pair.server, last.writer), kSize);
      last.writer.close();
    });
    EXPECT_TRUE(read_to_end(last.reader) == text);
    scope.join();
  });
}

TEST(Copy, BetweenSocketsAndBetweenPipes) {
  on_loop([] {
    const std::string text = random_text(kSize);
    SocketPair one = connect_pair();
    SocketPair two = connect_pair();
    Pipe first = make_pipe();
    Pipe second = make_pipe();
    Scope scope;
    scope.spawn([&] {
      std::error_code error;
      one.client.write_all(bytes_of(text), error);
      one.client.close();
    });
    scope.spawn([&] {
      EXPECT_EQ(copy_data(one.server, two.client), kSize);
      two.client.close();
    });
    EXPECT_TRUE(read_to_end(two.server) == text);
    scope.spawn([&] {
      first.writer.write_all(text);
      first.writer.close();
    });
    scope.spawn([&] {
      EXPECT_EQ(copy_data(first.reader, second.writer), kSize);
      second.writer.close();
    });
    EXPECT_TRUE(read_to_end(second.reader) == text);
    scope.join();
  });
}

TEST(Copy, BetweenSocketsUpToALimit) {
  on_loop([] {
    const std::string text = random_text(kSize);
    SocketPair one = connect_pair();
    SocketPair two = connect_pair();
    Scope scope;
    scope.spawn([&] {
      std::error_code error;
      one.client.write_all(bytes_of(text), error);
    });
    scope.spawn([&] {
      std::error_code error;
      std::uint64_t copied = 0;
      for (const std::uint64_t limit : {1U, 1000U, 70'000U, 1'000'000U, 65'536U, 0U}) {
        EXPECT_EQ(copy_data(one.server, two.client, limit, error), limit);
        EXPECT_FALSE(error) << error.message();
        copied += limit;
      }
      std::string rest(kSize - copied, '\0');
      for (std::size_t have = 0; have < rest.size() && !error;) {
        have += one.server.read(std::as_writable_bytes(std::span(rest)).subspan(have), error);
      }
      EXPECT_TRUE(rest == text.substr(copied)) << "no byte more than the limit has been taken";
      two.client.write_all(bytes_of(rest), error);
      two.client.close();
    });
    EXPECT_TRUE(read_to_end(two.server) == text);
    scope.join();
  });
}

TEST(Copy, WhatASocketHasTakenInBeforeComesFirst) {
  on_loop([] {
    SocketPair pair = connect_pair();
    std::error_code error;
    pair.client.write_all(bytes_of("first"), error);
    EXPECT_EQ(pair.server.read(error).size(), 5U);  // lent by the loop, which from now on reads ahead
    pair.client.write_all(bytes_of("second, "), error);
    sleep_for(5ms);
    pair.client.write_all(bytes_of("third"), error);
    pair.client.close();
    Pipe pipe = make_pipe();
    with_timeout(10s, [&] { EXPECT_EQ(copy_data(pair.server, pipe.writer), 13U); });
    pipe.writer.close();
    EXPECT_EQ(read_to_end(pipe.reader), "second, third");
  });
}

TEST(Copy, ASlowReaderHoldsItBack) {
  in_directory([](const fs::TemporaryDirectory& in) {
    const std::string text = random_text(kSize);
    fs::write_file(in / "from", text);
    SocketPair pair = test::connect_narrow_pair();
    Scope scope;
    bool copied = false;
    scope.spawn([&] {
      File from = File::open(in / "from");
      EXPECT_EQ(copy_data(from, pair.client), kSize);
      copied = true;
      pair.client.close();
    });
    sleep_for(20ms);
    EXPECT_FALSE(copied);
    EXPECT_TRUE(read_to_end(pair.server) == text);
    scope.join();
  });
}

TEST(Copy, CancelledTheCursorTellsHowFarItCame) {
  in_directory([](const fs::TemporaryDirectory& in) {
    const std::string text = random_text(kSize);
    fs::write_file(in / "from", text);
    for (int round = 0; round < 20; ++round) {
      SocketPair pair = test::connect_narrow_pair();
      File from = File::open(in / "from");
      std::error_code error;
      std::uint64_t copied = 0;
      {
        Scope scope;
        Fiber<void> fiber = scope.spawn([&] { copied = copy_data(from, pair.client, error); });
        if (round % 2 == 0) sleep_for(1ms * round);
        for (int i = 0; i < round; ++i) yield();
        fiber.cancel();
        scope.join();
      }
      EXPECT_EQ(error, std::errc::operation_canceled);
      EXPECT_EQ(from.tell(), copied);
      pair.client.close();
      EXPECT_TRUE(read_to_end(pair.server) == text.substr(0, copied));
    }
  });
}

TEST(Copy, TimeLimitsAndErrorsEndIt) {
  in_directory([](const fs::TemporaryDirectory& in) {
    fs::write_file(in / "from", random_text(kSize));
    SocketPair pair = test::connect_narrow_pair();
    File from = File::open(in / "from");
    EXPECT_THROW(with_timeout(20ms, [&] { copy_data(from, pair.client); }), TimedOut);
    pair.client.set_write_timeout(20ms);
    std::error_code error;
    copy_data(from, pair.client, error);
    EXPECT_EQ(error, std::errc::timed_out);
    pair.server.close();
    copy_data(from, pair.client, error);
    EXPECT_TRUE(error == std::errc::broken_pipe || error == std::errc::connection_reset) << error.message();
    Pipe pipe = make_pipe();
    pipe.reader.close();
    copy_data(from, pipe.writer, error);
    EXPECT_EQ(error, std::errc::broken_pipe) << error.message();
    from.close();
    copy_data(from, pipe.writer, error);
    EXPECT_EQ(error, std::errc::bad_file_descriptor) << error.message();
  });
}

TEST(Copy, ToAnEndThatHasGoneIsAnErrorAndNoSignal) {
  on_loop([] {
    std::error_code error;
    Pipe pipe = make_pipe();
    Pipe gone = make_pipe();
    SocketPair pair = connect_pair();
    pipe.writer.write_all("what nobody wants");
    gone.reader.close();
    copy_data(pipe.reader, gone.writer, error);
    EXPECT_EQ(error, std::errc::broken_pipe) << error.message();
    pair.server.close();
    const std::string much(30000, 'x');
    do {  // the first bytes may be sent before the peer can say that it has gone
      pipe.writer.write_all(much);
      copy_data(pipe.reader, pair.client, much.size(), error);
    } while (!error);
    EXPECT_TRUE(error == std::errc::broken_pipe || error == std::errc::connection_reset) << error.message();
  });
}

TEST(Copy, ASocketThatIsClosedMeanwhileIsLeftAlone) {
  in_directory([](const fs::TemporaryDirectory& in) {
    const std::string text = random_text(kSize);
    fs::write_file(in / "from", text);
    for (int round = 0; round < 20; ++round) {
      SocketPair pair = test::connect_narrow_pair();
      std::error_code error;
      Scope scope;
      scope.spawn([&] {
        File from = File::open(in / "from");
        copy_data(from, pair.client, error);
      });
      for (int i = 0; i < round; ++i) yield();
      pair.client.close();
      // Its number may be another's at once, who must not get what was meant for it.
      SocketPair other = connect_pair();
      scope.join();
      other.client.close();
      EXPECT_EQ(read_to_end(other.server), "");
      EXPECT_EQ(error, std::errc::bad_file_descriptor) << error.message();
    }
  });
}

}  // namespace
}  // namespace bight
