// SPDX-License-Identifier: Apache-2.0

#include <bight/net/buffered.hpp>

#include <array>
#include <string>
#include <vector>

#include <bight/deadline.hpp>
#include <bight/net/memory_stream.hpp>
#include <bight/net/unix.hpp>
#include <bight/scope.hpp>
#include <bight/stream.hpp>

#include "net_test.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using net::BufferedReader;
using net::BufferedWriter;
using net::MemoryStream;
using test::bytes_of;
using test::failure_of;
using test::on_loop;

static_assert(net::HalfClosable<net::TcpStream> && net::HalfClosable<net::UnixStream>);
static_assert(net::HalfClosable<MemoryStream> && net::ByteStream<Stream>);
static_assert(net::ByteReader<BufferedReader<MemoryStream>> && net::ByteWriter<BufferedWriter<MemoryStream>>);

class Buffered : public test::NetTest {};

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The other end of a stream that says `text`, in pieces of every size, and ends.
template <class Body>
void hearing(std::string_view text, Body&& body, net::BufferedReaderOptions options = {}) {
  for (const std::size_t piece : {std::size_t{1}, std::size_t{3}, std::size_t{100'000}}) {
    auto [mine, theirs] = MemoryStream::pair();
    Scope scope;
    scope
        .spawn([&, &theirs = theirs] {
          std::error_code error;
          for (std::size_t at = 0; at < text.size() && !error; at += piece) {
            theirs.write_all(text.substr(at, piece), error);
            yield();
          }
          theirs.close();
        })
        .detach();
    BufferedReader reader(mine, options);
    body(reader);
    mine.close();
    scope.join();
  }
}

TEST_F(Buffered, Lines) {
  on_loop([] {
    hearing("one\r\ntwo\n\n\r\nlast", [](auto& reader) {
      for (const char* line : {"one", "two", "", "", "last"}) EXPECT_EQ(reader.read_line(), line);
      EXPECT_FALSE(reader.read_line());
      EXPECT_FALSE(reader.read_line());
    });
    hearing("12345\n123456\n", [](auto& reader) {
      EXPECT_EQ(reader.read_line(5), "12345");
      EXPECT_EQ(failure_of([&] { return reader.read_line(5); }).code, std::errc::message_size);
    });
    const std::string endless(3'000, 'x');
    hearing(endless,
            [](auto& reader) {
              EXPECT_EQ(failure_of([&] { return reader.read_line(100'000); }).code, std::errc::message_size);
            },
            {.buffer_size = 16, .buffer_max = 1000});
  });
}

TEST_F(Buffered, EverythingMixed) {
  on_loop([] {
    hearing("HEAD 5\r\n\r\nhello--and--rest",
            [](auto& reader) {
              EXPECT_EQ(text_of(reader.peek(4).first(4)), "HEAD");
              EXPECT_EQ(text_of(*reader.read_until("\r\n\r\n", 100)), "HEAD 5");
              EXPECT_EQ(text_of(reader.read_exactly(5)), "hello");
              EXPECT_EQ(text_of(*reader.read_until("--", 10)), "");
              EXPECT_EQ(text_of(*reader.read_until("--", 10)), "and");
              std::string into(2, '\0');
              reader.read_exactly(std::as_writable_bytes(std::span(into)));
              EXPECT_EQ(into, "re");
              std::string rest;
              for (auto view = reader.read_available(); !view.empty(); view = reader.read_available())
                rest += text_of(view);
              EXPECT_EQ(rest, "st");
              EXPECT_EQ(failure_of([&] { return reader.read_exactly(1); }).code, std::errc::connection_aborted);
              EXPECT_FALSE(reader.read_until("x", 10));
            },
            {.buffer_size = 4});
    hearing("no end", [](auto& reader) {
      EXPECT_EQ(failure_of([&] { return reader.read_until("\n", 100); }).code, std::errc::connection_aborted);
      EXPECT_EQ(text_of(reader.buffered()), "no end") << "it is still there";
    });
  });
}

TEST_F(Buffered, LimitsOfViews) {
  on_loop([] {
    hearing(std::string(100, 'x'),
            [](auto& reader) {
              EXPECT_EQ(failure_of([&] { return reader.peek(65); }).code, std::errc::message_size);
              EXPECT_EQ(reader.peek(64).size(), 64U);
            },
            {.buffer_size = 8, .buffer_max = 64});
  });
}

TEST_F(Buffered, ACancelledReadLosesNothing) {
  on_loop([] {
    auto [mine, theirs] = MemoryStream::pair();
    BufferedReader reader(mine);
    theirs.write_all("half a");
    EXPECT_FALSE(move_on_after(1ms, [&] { static_cast<void>(reader.read_line()); }));
    theirs.write_all(" line\n");
    EXPECT_EQ(reader.read_line(), "half a line");
  });
}

TEST_F(Buffered, AnInterruptedSearchDoesNotMisleadTheNext) {
  on_loop([] {
    auto [mine, theirs] = MemoryStream::pair();
    BufferedReader reader(mine);
    theirs.write_all("one;two,");
    std::error_code error;
    EXPECT_TRUE(move_on_after(1ms, [&] { static_cast<void>(reader.read_until(":", 100, error)); })) << "it is told";
    EXPECT_EQ(error, std::errc::operation_canceled);
    const auto got = reader.read_until(";", 100);
    ASSERT_TRUE(got);
    EXPECT_EQ(text_of(*got), "one");
  });
}

TEST_F(Buffered, TheLastLineHasALimitToo) {
  on_loop([] {
    hearing("a\nlonger", [](auto& reader) {
      EXPECT_EQ(reader.read_line(5), "a");
      std::error_code error;
      EXPECT_FALSE(reader.read_line(5, error));
      EXPECT_EQ(error, std::errc::message_size);
    });
    hearing("a\nlonger", [](auto& reader) {
      EXPECT_EQ(reader.read_line(6), "a");
      EXPECT_EQ(reader.read_line(6), "longer");
    });
  });
}

TEST_F(Buffered, WritesAreGathered) {
  on_loop([] {
    auto [mine, theirs] = MemoryStream::pair(1000);
    BufferedWriter writer(mine, {.high_water = 100});
    BufferedReader reader(theirs);
    for (int n = 0; n < 9; ++n) writer.write("0123456789");
    EXPECT_EQ(writer.pending(), 90U);
    writer.write("0123456789");
    EXPECT_EQ(writer.pending(), 0U) << "the mark is reached";
    EXPECT_EQ(reader.read_available().size(), 100U);
    writer.write("ab");
    writer.write(std::string(200, 'c'));
    EXPECT_EQ(reader.read_available().size(), 202U) << "in order";
    writer.flush();
    // A slow reader holds the writer up.
    auto writing = spawn([&] {
      for (int n = 0; n < 200; ++n) writer.write("0123456789");
      writer.flush();
    });
    sleep_for(1ms);
    EXPECT_LE(writer.pending(), 100U);
    std::size_t received = 0;
    while (received < 2000) received += reader.read_available().size();
    writing.join();
    theirs.close();
    writer.write("x");
    EXPECT_EQ(failure_of([&] { writer.flush(); }).code, std::errc::broken_pipe);
  });
}

TEST_F(Buffered, Frames) {
  on_loop([] {
    auto [mine, theirs] = MemoryStream::pair();
    BufferedReader reader(theirs, {.buffer_size = 16});
    BufferedWriter writer(mine);
    net::write_frame(writer, bytes_of("first"));
    net::write_frame(writer, {});
    net::write_frame(writer, bytes_of(std::string(1000, 'x')));
    writer.flush();
    EXPECT_EQ(text_of(*net::read_frame(reader)), "first");
    EXPECT_EQ(net::read_frame(reader)->size(), 0U);
    EXPECT_EQ(net::read_frame(reader)->size(), 1000U);
    mine.write_all(std::string_view("\0\0\1\0", 4));
    EXPECT_EQ(failure_of([&] { return net::read_frame(reader, 255); }).code, std::errc::message_size);
    mine.close();
    EXPECT_EQ(failure_of([&] { return net::read_frame(reader, 256); }).code, std::errc::connection_aborted);
    hearing(std::string_view("\0\0", 2), [](auto& cut) {
      EXPECT_EQ(failure_of([&] { return net::read_frame(cut); }).code, std::errc::connection_aborted);
    });
    hearing("", [](auto& empty) { EXPECT_FALSE(net::read_frame(empty)); });
  });
}

TEST_F(Buffered, OverTcpInOnePacket) {
  on_loop([] {
    auto [client, server] = test::stream_pair();
    net::write_frame(client, bytes_of("over TCP"));
    BufferedReader reader(server);
    EXPECT_EQ(text_of(*net::read_frame(reader)), "over TCP");
  });
}

TEST_F(Buffered, StreamsInMemoryAreStreams) {
  on_loop([] {
    auto [a, b] = MemoryStream::pair(10);
    std::array<std::byte, 8> buffer;
    auto closed = spawn([&, &a = a] { return failure_of([&] { a.read(buffer); }).code; });
    yield();
    a.close();
    EXPECT_EQ(closed.get(), std::errc::bad_file_descriptor);
    EXPECT_EQ(b.read(buffer), 0U);
    EXPECT_EQ(failure_of([&, &b = b] { b.write_all("x"); }).code, std::errc::broken_pipe);
    auto [c, d] = MemoryStream::pair(10);
    c.write_all("0123456789");
    auto full = spawn([&c = c] { return failure_of([&] { c.write_all("more"); }).code; });
    yield();
    d.close();
    EXPECT_EQ(full.get(), std::errc::broken_pipe);
    auto [e, f] = MemoryStream::pair();
    e.write_all("last words");
    e.shutdown_write();
    EXPECT_EQ(failure_of([&e = e] { e.write_all("x"); }).code, std::errc::broken_pipe);
    f.write_all("answer");
    EXPECT_EQ(e.read(buffer), 6U);
    EXPECT_EQ(f.read(buffer), 8U);
    EXPECT_EQ(f.read(buffer), 2U);
    EXPECT_EQ(f.read(buffer), 0U);
    auto cancelled = spawn([&, &e = e] { return test::is_cancelled([&] { e.read(buffer); }); });
    yield();
    cancelled.cancel();
    EXPECT_TRUE(cancelled.get());
  });
}

}  // namespace
}  // namespace bight
