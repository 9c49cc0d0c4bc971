// SPDX-License-Identifier: Apache-2.0
#include <bight/line_reader.hpp>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>
#include <string>
#include <system_error>
#include <vector>

#include <gtest/gtest.h>

#include <bight/error.hpp>
#include <bight/filesystem.hpp>
#include <bight/scope.hpp>
#include <bight/stream.hpp>
#include <bight/temporary.hpp>

#include "on_loop.hpp"

namespace bight {
namespace {

using test::on_loop;
using Lines = std::vector<std::string>;

/// Gives a text in pieces of a size, then an end, then what may have been added since.
struct TextSource {
  std::string text;
  std::size_t most = 1000000;
  std::size_t at = 0;
  std::size_t fails_at = ~std::size_t{0};
  std::size_t read(std::span<std::byte> buffer, std::error_code& error) {
    error.clear();
    if (at >= fails_at) {
      error = std::make_error_code(std::errc::io_error);
      return 0;
    }
    const std::size_t count = std::min({buffer.size(), most, text.size() - at});
    std::memcpy(buffer.data(), text.data() + at, count);
    at += count;
    return count;
  }
};

Lines lines_of(const std::string& text, std::size_t most, const LineReaderOptions& options = {}) {
  TextSource source{text, most};
  LineReader reader(source, options);
  Lines lines;
  for (const std::string_view line : reader) lines.emplace_back(line);
  return lines;
}

TEST(LineReader, CutsAtTheEndsOfLines) {
  for (const std::size_t most : {1U, 2U, 3U, 7U, 1000U}) {
    EXPECT_EQ(lines_of("one\ntwo\n\nfour\n", most), (Lines{"one", "two", "", "four"}));
    EXPECT_EQ(lines_of("one\r\ntwo\r\n\r\nf\rour\r\r\n", most), (Lines{"one", "two", "", "f\rour\r"}));
    EXPECT_EQ(lines_of("one\nlast", most), (Lines{"one", "last"}));
    EXPECT_EQ(lines_of("last\r", most), (Lines{"last\r"}));
    EXPECT_EQ(lines_of("", most), Lines{});
    EXPECT_EQ(lines_of("\n", most), (Lines{""}));
    EXPECT_EQ(lines_of(std::string("a\0b\n", 4), most), (Lines{std::string("a\0b", 3)}));
  }
}

TEST(LineReader, RandomTextsComeBackWhole) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    Lines lines(random() % 50);
    std::string text;
    for (std::string& line : lines) {
      line.assign(random() % 300, static_cast<char>('a' + random() % 26));
      text += line + (random() % 2 == 0 ? "\n" : "\r\n");
    }
    const LineReaderOptions options{.line_max = 300, .read_size = 1 + random() % 64};
    EXPECT_EQ(lines_of(text, 1 + random() % 100, options), lines);
  }
}

TEST(LineReader, ALineThatIsTooLongIsAnErrorOnceAndThenPassed) {
  for (const std::size_t most : {1U, 4U, 1000U}) {
    TextSource source{"12345\n123456\r\n12345\r\n" + std::string(100, 'x') + "\nend", most};
    LineReader reader(source, {.line_max = 5, .read_size = 8});
    std::error_code error;
    EXPECT_EQ(reader.next(error), "12345");
    EXPECT_EQ(reader.next(error), std::nullopt);
    EXPECT_EQ(error, std::errc::message_size);
    EXPECT_EQ(reader.next(error), "12345") << "its end does not count";
    EXPECT_EQ(reader.next(error), std::nullopt);
    EXPECT_EQ(error, std::errc::message_size);
    EXPECT_EQ(reader.next(error), "end");
    EXPECT_EQ(reader.next(error), std::nullopt);
    EXPECT_FALSE(error);
  }
  TextSource source{"too long"};
  LineReader reader(source, {.line_max = 3});
  try {
    static_cast<void>(reader.next());
    ADD_FAILURE() << "no error";
  } catch (const std::system_error& error) {
    EXPECT_STREQ(error.what(), "read a line: it is longer than 3 bytes: Message too long");
  }
}

TEST(LineReader, WhatWasReadBeforeAnErrorIsKept) {
  TextSource source{"one\ntwo", 5};
  source.fails_at = 5;
  LineReader reader(source);
  std::error_code error;
  EXPECT_EQ(reader.next(error), "one");
  EXPECT_EQ(reader.next(error), std::nullopt);
  EXPECT_EQ(error, std::errc::io_error);
  EXPECT_EQ(reader.buffered(), "t");
  source.fails_at = ~std::size_t{0};
  EXPECT_EQ(reader.next(error), "two");
}

TEST(LineReader, AnUnfinishedLineMayBeWaitedFor) {
  TextSource source{"one\ntw"};
  LineReader reader(source, {.partial_at_end = false});
  EXPECT_EQ(reader.next(), "one");
  EXPECT_EQ(reader.next(), std::nullopt);
  source.text += "o\nth";
  EXPECT_EQ(reader.next(), "two");
  EXPECT_EQ(reader.next(), std::nullopt);
  EXPECT_EQ(reader.buffered(), "th");
}

TEST(LineReader, ReadsFilesAndStreams) {
  on_loop([] {
    const fs::TemporaryDirectory in("bight-line-test-");
    std::string text;
    for (int i = 0; i < 10000; ++i) text += "line " + std::to_string(i) + "\n";
    fs::write_file(in / "f", text);
    File file = File::open(in / "f");
    int next = 0;
    for (const std::string_view line : LineReader(file)) EXPECT_EQ(line, "line " + std::to_string(next++));
    EXPECT_EQ(next, 10000);
    Pipe pipe = make_pipe();
    Scope scope;
    scope.spawn([&] {
      pipe.writer.write_all(text);
      pipe.writer.close();
    });
    next = 0;
    for (const std::string_view line : LineReader(pipe.reader)) EXPECT_EQ(line, "line " + std::to_string(next++));
    EXPECT_EQ(next, 10000);
    scope.join();
  });
}

}  // namespace
}  // namespace bight
