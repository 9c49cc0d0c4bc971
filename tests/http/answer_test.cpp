// SPDX-License-Identifier: Apache-2.0
// The bytes of answers.

#include "answer.hpp"

#include <stdexcept>
#include <string>

#include <gtest/gtest.h>

#include <bight/http/message.hpp>

namespace bight::http::detail {
namespace {

std::string text_of(const Output& out) { return {reinterpret_cast<const char*>(out.bytes().data()), out.size()}; }

// The date, which is of now, made one of then.
std::string written(const Response& response, const AnswerFacts& facts = {}, std::string_view server = "test") {
  AnswerWriter writer(server, false);
  Output out;
  EXPECT_EQ(writer.append(out, response, facts, 1000), "");
  std::string bytes = text_of(out);
  const std::size_t date = bytes.find("Date: ");
  return bytes.replace(date, bytes.find("\r\n", date) - date, "Date: D");
}

TEST(Answer, IsAsInTheBook) {
  EXPECT_EQ(written(text("hello")),
            "HTTP/1.1 200 OK\r\nDate: D\r\nServer: test\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello");
  EXPECT_EQ(written(text("no", 404), {}, ""),
            "HTTP/1.1 404 Not Found\r\nDate: D\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno");
  EXPECT_EQ(written(Response(299), {}, ""), "HTTP/1.1 299 \r\nDate: D\r\nContent-Length: 0\r\n\r\n");
}

TEST(Answer, HasNoBodyWhereThereMayBeNone) {
  const auto with = [](unsigned status) { return written(text("body", status), {}, ""); };
  EXPECT_EQ(with(204), "HTTP/1.1 204 No Content\r\nDate: D\r\nContent-Type: text/plain\r\n\r\n");
  EXPECT_EQ(with(304), "HTTP/1.1 304 Not Modified\r\nDate: D\r\nContent-Type: text/plain\r\n\r\n");
  EXPECT_EQ(with(205),
            "HTTP/1.1 205 Reset Content\r\nDate: D\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n");
  AnswerFacts to_head;
  to_head.to_head = true;
  EXPECT_EQ(written(text("body"), to_head, ""),
            "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\n");
}

TEST(Answer, SaysWhetherTheConnectionStays) {
  AnswerFacts facts;
  EXPECT_EQ(written(Response(), facts).find("Connection"), std::string::npos);
  facts.from_http_1_0 = true;
  EXPECT_NE(written(Response(), facts).find("\r\nConnection: keep-alive\r\n"), std::string::npos);
  facts.close = true;
  EXPECT_NE(written(Response(), facts).find("\r\nConnection: close\r\n"), std::string::npos);
  facts.from_http_1_0 = false;
  EXPECT_NE(written(Response(), facts).find("\r\nConnection: close\r\n"), std::string::npos);
}

TEST(Answer, LargeBodiesAreNotCopied) {
  AnswerWriter writer("", false);
  Output out;
  Response response;
  response.set_body(std::string(100, 'x'));
  EXPECT_EQ(writer.append(out, response, {}, 100), "");
  const std::size_t joined = out.size();
  const std::string_view rest = writer.append(out, response, {}, 99);
  EXPECT_EQ(rest.data(), response.body().data());
  EXPECT_EQ(rest.size(), 100U);
  EXPECT_EQ(out.size(), 2 * joined - 100);
  AnswerFacts to_head;
  to_head.to_head = true;
  EXPECT_EQ(writer.append(out, response, to_head, 99), "");
}

TEST(Answer, AnswersFollowOneAnother) {
  AnswerWriter writer("", false);
  Output out;
  std::string all;
  for (int i = 0; i < 200; ++i) {
    const Response response = text(std::string(static_cast<std::size_t>(i) * 5, 'x'));
    Output one;
    writer.append(one, response, {}, 10'000);
    writer.append(out, response, {}, 10'000);
    all += text_of(one);
  }
  // The second may have changed on the way, and with it the date; so without it.
  EXPECT_EQ(text_of(out).size(), all.size());
  EXPECT_EQ(text_of(out).substr(out.size() - 995), all.substr(all.size() - 995));
}

TEST(Answer, DatesAreOfTheFormThatHttpWants) {
  AnswerWriter writer("", false);
  Output out;
  const std::time_t before = std::time(nullptr);
  writer.append(out, Response(), {}, 0);
  const std::time_t after = std::time(nullptr);
  const std::string bytes = text_of(out);
  const std::string date = bytes.substr(bytes.find("Date: ") + 6, 29);
  std::tm parts{};
  const char* end = ::strptime(date.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  ASSERT_NE(end, nullptr) << date;
  EXPECT_EQ(*end, '\0') << date;
  const std::time_t told = ::timegm(&parts);
  EXPECT_GE(told, before - 1);  // the coarse clock is late by a tick
  EXPECT_LE(told, after);
  char again[64];
  ASSERT_EQ(std::strftime(again, sizeof again, "%a, %d %b %Y %H:%M:%S GMT", &parts), 29U);
  EXPECT_EQ(date, again);
}

TEST(Answer, ServerNamesStayInTheirLine) { EXPECT_THROW(AnswerWriter("a\r\nb", false), std::invalid_argument); }

}  // namespace
}  // namespace bight::http::detail
