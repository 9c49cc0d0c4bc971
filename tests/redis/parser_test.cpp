// SPDX-License-Identifier: Apache-2.0

#include "redis_client/parser.hpp"

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "redis_client/command.hpp"
#include "redis_client/endpoint.hpp"
#include "redis_client/print.hpp"

namespace redis {
namespace {

using namespace std::string_literals;
using ::testing::HasSubstr;

/// What comes out of `wire` in pieces of the given size; ends with "!" and the complaint, if there is one.
std::vector<std::string> parse(std::string_view wire, std::size_t piece, const Limits& limits = {}) {
  Parser parser(limits);
  std::vector<std::string> replies;
  for (std::size_t at = 0; at < wire.size() && parser.complaint() == nullptr; at += piece) {
    std::string_view bytes = wire.substr(at, piece);
    while (auto value = parser.next(bytes)) replies.push_back(pretty(*value));
    EXPECT_TRUE(bytes.empty() || parser.complaint() != nullptr);
  }
  if (parser.complaint() != nullptr) replies.push_back("!"s + parser.complaint());
  return replies;
}

/// However it is cut, the outcome is the same.
std::vector<std::string> parse(std::string_view wire, const Limits& limits = {}) {
  const std::vector<std::string> whole = parse(wire, wire.size(), limits);
  for (const std::size_t piece : {1, 2, 3, 7, 16}) EXPECT_EQ(parse(wire, piece, limits), whole);
  return whole;
}

std::string one(std::string_view wire, const Limits& limits = {}) {
  const std::vector<std::string> all = parse(wire, limits);
  EXPECT_EQ(all.size(), 1U);
  return all.empty() ? "" : all.front();
}

TEST(RedisParser, EveryTypeOfResp2) {
  EXPECT_EQ(one("+OK\r\n"), "OK\n");
  EXPECT_EQ(one("+\r\n"), "\n");
  EXPECT_EQ(one("-ERR no\r\n"), "(error) ERR no\n");
  EXPECT_EQ(one(":-42\r\n"), "(integer) -42\n");
  EXPECT_EQ(one(":9223372036854775807\r\n"), "(integer) 9223372036854775807\n");
  EXPECT_EQ(one("$5\r\na\r\nb\0\r\n"s), "\"a\\r\\nb\\x00\"\n");
  EXPECT_EQ(one("$0\r\n\r\n"), "\"\"\n");
  EXPECT_EQ(one("$-1\r\n"), "(nil)\n");
  EXPECT_EQ(one("*-1\r\n"), "(nil)\n");
  EXPECT_EQ(one("*0\r\n"), "(empty array)\n");
  EXPECT_EQ(one("*3\r\n:1\r\n*2\r\n$1\r\na\r\n$-1\r\n+x\r\n"), "1) (integer) 1\n2) 1) \"a\"\n   2) (nil)\n3) x\n");
}

TEST(RedisParser, EveryTypeOfResp3) {
  EXPECT_EQ(one("_\r\n"), "(nil)\n");
  EXPECT_EQ(one(",1.5e3\r\n"), "(double) 1500\n");
  EXPECT_EQ(one(",inf\r\n"), "(double) inf\n");
  EXPECT_EQ(one(",-inf\r\n"), "(double) -inf\n");
  EXPECT_EQ(one(",nan\r\n"), "(double) nan\n");
  EXPECT_EQ(one("#t\r\n"), "(true)\n");
  EXPECT_EQ(one("#f\r\n"), "(false)\n");
  EXPECT_EQ(one("(-3492890328409238509324850943850943825024385\r\n"),
            "(big number) -3492890328409238509324850943850943825024385\n");
  EXPECT_EQ(one("!9\r\nSYNTAX\r\nx\r\n"), "(error) SYNTAX\r\nx\n");
  EXPECT_EQ(one("=8\r\ntxt:some\r\n"), "some\n");
  EXPECT_EQ(one("%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n_\r\n"), "1# a => (integer) 1\n2# b => 1) (nil)\n");
  EXPECT_EQ(one("%0\r\n"), "(empty hash)\n");
  EXPECT_EQ(one("~2\r\n+a\r\n+b\r\n"), "1~ a\n2~ b\n");
  EXPECT_EQ(one(">2\r\n+message\r\n+x\r\n"), "1) message\n2) x\n");
}

TEST(RedisParser, AttributesBelongToWhatComesNext) {
  std::string_view bytes = "|1\r\n+ttl\r\n:3600\r\n*2\r\n|1\r\n+near\r\n#t\r\n$1\r\na\r\n:2\r\n+next\r\n";
  Parser parser;
  const auto list = parser.next(bytes);
  ASSERT_TRUE(list);
  ASSERT_EQ(list->attributes().size(), 2U);
  EXPECT_EQ(list->attributes()[1].integer(), 3600);
  ASSERT_EQ(list->items()[0].attributes().size(), 2U);
  EXPECT_EQ(list->items()[0].attributes()[0].text(), "near");
  EXPECT_TRUE(list->items()[1].attributes().empty());
  const auto next = parser.next(bytes);
  ASSERT_TRUE(next);
  EXPECT_TRUE(next->attributes().empty());
  EXPECT_EQ(one("|0\r\n+x\r\n"), "x\n");
  EXPECT_EQ(one("|1\r\n+a\r\n+b\r\n|1\r\n+a\r\n+b\r\n+x\r\n"), "!attributes of attributes");
}

TEST(RedisParser, SeveralRepliesInOnePiece) {
  EXPECT_EQ(parse("+a\r\n$1\r\nb\r\n*1\r\n:3\r\n:4\r\n"),
            (std::vector<std::string>{"a\n", "\"b\"\n", "1) (integer) 3\n", "(integer) 4\n"}));
  EXPECT_TRUE(parse("*2\r\n:1\r\n").empty());
}

TEST(RedisParser, WhatIsWrongIsToldAndNothingIsTakenAnyMore) {
  for (const std::string_view wire : {"x\r\n",
                                      "\r\n",
                                      "+OK\n",
                                      "+O\rK\r\n",
                                      ":\r\n",
                                      ":1a\r\n",
                                      ":+1\r\n",
                                      ":9223372036854775808\r\n",
                                      "$\r\n",
                                      "$-2\r\n",
                                      "$1\r\nab\r\n",
                                      "$1\r\na\n\r",
                                      "*-2\r\n",
                                      "*1x\r\n",
                                      "%-1\r\n",
                                      "_x\r\n",
                                      "#\r\n",
                                      "#true\r\n",
                                      ",\r\n",
                                      ",1e999\r\n",
                                      ",0x10\r\n",
                                      "(\r\n",
                                      "(-\r\n",
                                      "(1.5\r\n",
                                      "=3\r\ntxt\r\n",
                                      "=4\r\ntxt;\r\n",
                                      "$?\r\n",
                                      "*?\r\n",
                                      "*1\r\n>1\r\n+a\r\n"}) {
    EXPECT_THAT(one(wire), ::testing::StartsWith("!")) << wire;
  }
  Parser parser;
  std::string_view bytes = "x\r\n+OK\r\n";
  EXPECT_FALSE(parser.next(bytes));
  const std::size_t left = bytes.size();
  EXPECT_FALSE(parser.next(bytes));
  EXPECT_EQ(bytes.size(), left);
}

TEST(RedisParser, HasALimitForEverything) {
  const Limits few{.depth_max = 2, .line_max = 8, .bulk_max = 4, .elements_max = 5, .reply_max = 60};
  EXPECT_EQ(one("+12345678\r\n", few), "12345678\n");
  EXPECT_EQ(one("+123456789\r\n", few), "!a line that is too long");
  EXPECT_EQ(one("$4\r\nabcd\r\n", few), "\"abcd\"\n");
  EXPECT_EQ(one("$5\r\n", few), "!a string of more bytes than allowed");
  EXPECT_EQ(one("*1\r\n*1\r\n:1\r\n", few), "1) 1) (integer) 1\n");
  EXPECT_EQ(one("*1\r\n*1\r\n*1\r\n", few), "!lists within lists, deeper than allowed");
  EXPECT_EQ(one("*6\r\n", few), "!a reply of more elements than allowed");
  EXPECT_EQ(one("%3\r\n", few), "!a reply of more elements than allowed");
  EXPECT_EQ(one("*3\r\n*3\r\n", few), "!a reply of more elements than allowed");
  EXPECT_EQ(one("*18446744073709551615\r\n"), "!a reply of more elements than allowed");
  EXPECT_EQ(one("%9223372036854775809\r\n"), "!a reply of more elements than allowed");
  std::string many = "*5\r\n";
  for (int i = 0; i < 5; ++i) many += "+12345678\r\n";
  EXPECT_EQ(one(many, few), "1) 12345678\n2) 12345678\n3) 12345678\n4) 12345678\n5) 12345678\n");
  many = "*5\r\n";
  for (int i = 0; i < 5; ++i) many += "$4\r\nabcd\r\n";
  EXPECT_EQ(one(many + "", Limits{.reply_max = 50}), "!a reply of more bytes than allowed");
  EXPECT_EQ(parse("+1\r\n+2\r\n+3\r\n", Limits{.elements_max = 1, .reply_max = 4}).size(), 3U) << "each begins anew";
}

TEST(RedisParser, WhatIsOnlyAnnouncedTakesNoMemory) {
  std::string deep;
  for (int i = 0; i < 31; ++i) deep += "*1000\r\n";
  Parser parser;
  std::string_view bytes = deep;
  EXPECT_FALSE(parser.next(bytes));
  EXPECT_EQ(parser.complaint(), nullptr);
  EXPECT_TRUE(parser.in_reply());
}

Value random_value(std::mt19937& random, unsigned depth, std::string& wire);

Value random_list(std::mt19937& random, unsigned depth, std::string& wire) {
  const bool map = random() % 3 == 0;
  const std::size_t size = random() % 4;
  wire += (map ? "%" : "*") + std::to_string(size) + "\r\n";
  Value::Items items;
  for (std::size_t i = 0; i < size * (map ? 2 : 1); ++i) items.push_back(random_value(random, depth + 1, wire));
  return {map ? Type::map : Type::array, std::move(items)};
}

Value random_value(std::mt19937& random, unsigned depth, std::string& wire) {
  switch (random() % (depth < 4 ? 6 : 4)) {
    case 0: {
      const auto number = static_cast<std::int64_t>(random()) - 1'000'000'000;
      wire += ":" + std::to_string(number) + "\r\n";
      return Value(number);
    }
    case 1: {
      std::string text(random() % 50, '\0');
      for (char& c : text) c = static_cast<char>(random());
      wire += "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
      return {Type::text, text};
    }
    case 2: wire += "_\r\n"; return {};
    case 3: wire += "#t\r\n"; return Value(true);
    default: return random_list(random, depth, wire);
  }
}

TEST(RedisParser, RandomRepliesInRandomPieces) {
  std::mt19937 random(4711);
  for (int round = 0; round < 300; ++round) {
    std::string wire;
    std::vector<Value> sent;
    for (int i = 0; i < 5; ++i) sent.push_back(random_value(random, 0, wire));
    Parser parser;
    std::vector<Value> received;
    for (std::size_t at = 0; at < wire.size();) {
      const std::size_t size = 1 + random() % 40;
      std::string_view bytes = std::string_view(wire).substr(at, size);
      at += bytes.size();
      while (auto value = parser.next(bytes)) received.push_back(std::move(*value));
      ASSERT_EQ(parser.complaint(), nullptr);
    }
    ASSERT_EQ(received, sent);
  }
}

TEST(RedisValue, ReadAsSomethingElseTellsWhatItIs) {
  const auto refusal = [](const Value& value) -> std::string {
    try {
      static_cast<void>(value.integer());
    } catch (const UnexpectedReply& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refusal(Value(Type::text, "x")), "redis: a text was sent where an integer was expected");
  EXPECT_THAT(refusal(Value(Type::error, "ERR bad")), HasSubstr("ERR bad"));
  EXPECT_EQ(refusal(Value(std::int64_t{1})), "");
  const Value map(Type::map, {Value(Type::text, "a"), Value(std::int64_t{1}), Value(Type::text, "b"), Value()});
  ASSERT_NE(map.find("a"), nullptr);
  EXPECT_EQ(map.find("a")->integer(), 1);
  EXPECT_EQ(map.find("c"), nullptr);
  EXPECT_EQ(ServerError("WRONGTYPE Operation").kind(), "WRONGTYPE");
}

TEST(RedisCommand, IsSentAsAListOfStrings) {
  std::string wire;
  Command("SET", "key", std::string("a\r\nb"), 42, -1.5).append_to(wire);
  EXPECT_EQ(wire, "*5\r\n$3\r\nSET\r\n$3\r\nkey\r\n$4\r\na\r\nb\r\n$2\r\n42\r\n$4\r\n-1.5\r\n");
  EXPECT_EQ(Command("get", "x").name(), "get");
  EXPECT_EQ(Command("get", "x").effect(), Effect::none);
  EXPECT_EQ(Command("Select", 1).effect(), Effect::alters);
  EXPECT_EQ(Command("subscribe", "x").effect(), Effect::takes_over);
  EXPECT_EQ(Command("CLIENT", "reply", "OFF").effect(), Effect::takes_over);
  EXPECT_EQ(Command("CLIENT", "ID").effect(), Effect::alters);
  EXPECT_EQ(Command("CLIENT").effect(), Effect::alters);
}

TEST(RedisEndpoint, ParsesUrls) {
  Endpoint all = Endpoint::parse("redis://us%65r:p%40ss:w%2Ford@example.org:6380/3");
  EXPECT_EQ(all.user, "user");
  EXPECT_EQ(all.password, "p@ss:w/ord");
  EXPECT_EQ(all.host, "example.org");
  EXPECT_EQ(all.port, 6380);
  EXPECT_EQ(all.database, 3U);
  EXPECT_EQ(all.to_string(), "example.org:6380");
  EXPECT_EQ(Endpoint::parse("redis://").to_string(), "127.0.0.1:6379");
  EXPECT_EQ(Endpoint::parse("redis://:pw@[::1]:1/").to_string(), "[::1]:1");
  EXPECT_EQ(Endpoint::parse("redis://:pw@h").password, "pw");
  const Endpoint path = Endpoint::parse("unix://:pw@/run/redis.sock?db=2");
  EXPECT_EQ(path.unix_path, "/run/redis.sock");
  EXPECT_EQ(path.password, "pw");
  EXPECT_EQ(path.database, 2U);
  for (const char* wrong : {"", "http://x", "redis://h:x", "redis://h:65536", "redis://h/a", "redis://[::1", "unix://",
                            "unix:///x?y=1", "redis://%zz@h", "redis://%4@h", "rediss://h"}) {
    EXPECT_THROW(static_cast<void>(Endpoint::parse(wrong)), std::invalid_argument) << wrong;
  }
}

TEST(RedisWords, AreTakenApartAsByTheShellOfRedis) {
  using Words = std::vector<std::string>;
  EXPECT_EQ(split_words(R"(  set  key "a \"b\"\n\x41" 'it''s' )"), std::nullopt);
  EXPECT_EQ(split_words(R"(set key "a \"b\"\n\x41" 'it\'s')"), (Words{"set", "key", "a \"b\"\nA", "it's"}));
  EXPECT_EQ(split_words(" "), Words{});
  EXPECT_EQ(split_words(R"(get "")"), (Words{"get", ""}));
  EXPECT_EQ(split_words("get \"x"), std::nullopt);
}

}  // namespace
}  // namespace redis
