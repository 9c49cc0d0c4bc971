// SPDX-License-Identifier: Apache-2.0
// What handlers make and use: responses that can not be split, names, reasons.

#include <bight/http/message.hpp>

#include <stdexcept>
#include <string>

#include <gtest/gtest.h>

#include "answer.hpp"

namespace bight::http {
namespace {

std::string written(const Response& response, const detail::AnswerFacts& facts = {}) {
  detail::AnswerWriter writer("", true);
  detail::Output out;
  const std::string_view rest = writer.append(out, response, facts, 1000);
  std::string bytes(reinterpret_cast<const char*>(out.bytes().data()), out.size());
  return bytes.append(rest);
}

TEST(Response, HeadersGoOutAsTheyWereAdded) {
  Response response(201);
  response.add_header("Location", "/a");
  response.add_header("X-Two", " \tpadded \t");
  response.add_header("X-Two", "\xc3\xa9\ttab");
  response.add_header("X-Empty", "");
  const std::string bytes = written(response);
  EXPECT_NE(bytes.find("\r\nLocation: /a\r\nX-Two: padded\r\nX-Two: \xc3\xa9\ttab\r\nX-Empty: \r\n"), std::string::npos)
      << bytes;
}

TEST(Response, NothingGetsOutOfItsLine) {
  Response response;
  const std::string before = written(response);
  for (int c = 0; c < 256; ++c) {
    const std::string value = {'a', static_cast<char>(c), 'b'};
    if ((c >= 0x20 && c != 0x7f) || c == '\t') {
      Response fine;
      EXPECT_NO_THROW(fine.add_header("X", value)) << c;
    } else {
      EXPECT_THROW(response.add_header("X", value), std::invalid_argument) << c;
    }
    const bool token =
        std::isalnum(c) != 0 || std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string::npos;
    if (c != 0 && token) {
      Response fine;
      EXPECT_NO_THROW(fine.add_header(value, "x")) << c;
    } else {
      EXPECT_THROW(response.add_header(value, "x"), std::invalid_argument) << c;
    }
  }
  EXPECT_THROW(response.add_header("", "x"), std::invalid_argument);
  EXPECT_THROW(response.add_header("X", "a\r\nSet-Cookie: b"), std::invalid_argument);
  EXPECT_EQ(written(response), before);
}

TEST(Response, FramingIsTheServersOwn) {
  Response response;
  for (const char* name : {"Content-Length", "content-length", "Transfer-Encoding", "Connection", "Keep-Alive", "Date",
                           "Server", "Trailer", "Upgrade"}) {
    EXPECT_THROW(response.add_header(name, "1"), std::invalid_argument) << name;
  }
}

TEST(Response, StatusIsOfAFinalAnswer) {
  for (const unsigned status : {0U, 99U, 100U, 101U, 199U, 600U, 1000U}) {
    EXPECT_THROW(Response{status}, std::invalid_argument) << status;
    Response response;
    EXPECT_THROW(response.set_status(status), std::invalid_argument) << status;
    EXPECT_EQ(response.status(), 200U);
  }
  EXPECT_EQ(Response(599).status(), 599U);
}

TEST(Response, TextSaysItsCharsetWhereItMatters) {
  EXPECT_NE(written(text("plain")).find("\r\nContent-Type: text/plain\r\n"), std::string::npos);
  EXPECT_NE(written(text("caf\xc3\xa9")).find("\r\nContent-Type: text/plain; charset=utf-8\r\n"), std::string::npos);
  Response response = text("{}");
  response.add_header("content-type", "application/json");
  const std::string bytes = written(response);
  EXPECT_NE(bytes.find("\r\ncontent-type: application/json\r\n"), std::string::npos);
  EXPECT_EQ(bytes.find("text/plain"), std::string::npos);
}

TEST(Names, AreEqualInAnyCase) {
  EXPECT_TRUE(equal_names("", ""));
  EXPECT_TRUE(equal_names("Content-Type", "cONTENT-tYPE"));
  EXPECT_FALSE(equal_names("a", "b"));
  EXPECT_FALSE(equal_names("a", "aa"));
  EXPECT_FALSE(equal_names("[", "{"));  // 0x20 apart, and no letters
  EXPECT_FALSE(equal_names("\xc3", "\xe3"));
}

TEST(Reasons, AreKnownForWhatTheServerAnswers) {
  for (const unsigned status : {100U, 200U, 400U, 408U, 413U, 414U, 417U, 431U, 500U, 501U, 503U, 505U}) {
    EXPECT_FALSE(reason_phrase(status).empty()) << status;
  }
  EXPECT_EQ(reason_phrase(299), "");
}

}  // namespace
}  // namespace bight::http
