// SPDX-License-Identifier: Apache-2.0
// The parser on bytes: verdicts, what a request holds, and that neither depends on how the bytes were split.

#include "parser.hpp"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "corpus.hpp"
#include "parse_all.hpp"

namespace bight::http::testing {

void PrintTo(const Transcript& transcript, std::ostream* out) {
  *out << transcript.requests.size() << " requests, refused " << transcript.refused << ", incomplete "
       << transcript.incomplete;
  for (const Parsed& request : transcript.requests)
    *out << "\n  " << request.method << ' ' << request.target << " '" << request.body << "'";
}

namespace {

// Whole, byte by byte, and at every place in two.
void expect_in_all_splits(std::string_view name, std::string_view bytes, const Transcript& expected,
                          const Limits& limits = {}) {
  EXPECT_EQ(parse_bytewise(bytes, limits), expected) << name;
  for (std::size_t at = 1; at < bytes.size(); ++at) {
    ASSERT_EQ(parse_all({bytes.substr(0, at), bytes.substr(at)}, limits), expected) << name << ", split at " << at;
  }
}

void expect_verdicts(const std::vector<Case>& cases) {
  for (const Case& one : cases) {
    const Transcript transcript = parse_whole(one.bytes);
    EXPECT_EQ(transcript.refused, one.refused) << one.name;
    EXPECT_EQ(transcript.requests.size(), one.requests) << one.name;
    EXPECT_FALSE(transcript.incomplete && one.refused == 0) << one.name;
    expect_in_all_splits(one.name, one.bytes, transcript);
  }
}

Parsed only_request(std::string_view bytes) {
  const Transcript transcript = parse_whole(bytes);
  EXPECT_EQ(transcript.requests.size(), 1U) << transcript.refused;
  return transcript.requests.empty() ? Parsed{} : transcript.requests.front();
}

TEST(Parser, AcceptsWhatIsRight) { expect_verdicts(good_cases()); }
TEST(Parser, RefusesWhatIsWrong) { expect_verdicts(bad_cases()); }

TEST(Parser, BeginningsOfRequestsAreIncomplete) {
  for (const Case& one : good_cases()) {
    const std::string_view bytes = one.bytes;
    for (std::size_t size = 1; size < bytes.size(); ++size) {
      const Transcript transcript = parse_whole(bytes.substr(0, size));
      EXPECT_EQ(transcript.refused, 0U) << one.name << " up to " << size;
      EXPECT_TRUE(transcript.incomplete || transcript.requests.size() < one.requests) << one.name << " up to " << size;
    }
  }
}

TEST(Parser, RequestHoldsWhatCame) {
  const Parsed request = only_request(
      "POST /a/b%20c?d=e&f HTTP/1.1\r\nHost: Example.com:80\r\nX-One: 1\r\nx-two:  a b \t\r\nEmpty:\r\nContent-Length: "
      "4\r\n\r\nbody");
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.target, "/a/b%20c?d=e&f");
  EXPECT_EQ(request.path, "/a/b%20c");
  EXPECT_EQ(request.query, "d=e&f");
  EXPECT_EQ(request.host, "Example.com:80");
  EXPECT_EQ(request.version_minor, 1U);
  EXPECT_TRUE(request.keep_alive);
  const std::vector<std::pair<std::string, std::string>> headers{
      {"Host", "Example.com:80"}, {"X-One", "1"}, {"x-two", "a b"}, {"Empty", ""}, {"Content-Length", "4"}};
  EXPECT_EQ(request.headers, headers);
  EXPECT_EQ(request.body, "body");
  EXPECT_TRUE(request.trailers.empty());
}

TEST(Parser, TargetsComeApart) {
  const auto parts = [](const std::string& target) {
    const bool absolute = target.starts_with("http");
    const Parsed request =
        only_request((target == "*" ? "OPTIONS " : "GET ") + target + " HTTP/1.1\r\nHost: h:1\r\n\r\n");
    EXPECT_EQ(request.host, absolute ? "h:1" : "h:1");
    return request.path + " " + request.query;
  };
  EXPECT_EQ(parts("/"), "/ ");
  EXPECT_EQ(parts("/?"), "/ ");
  EXPECT_EQ(parts("/a?b?c"), "/a b?c");
  EXPECT_EQ(parts("//a"), "//a ");
  EXPECT_EQ(parts("*"), "* ");
  EXPECT_EQ(parts("http://h:1"), "/ ");
  EXPECT_EQ(parts("http://h:1/"), "/ ");
  EXPECT_EQ(parts("HTTP://h:1?q"), "/ q");
  EXPECT_EQ(parts("https://h:1/a/b?q"), "/a/b q");
}

TEST(Parser, ChunkedBodyIsPutTogether) {
  const Transcript transcript = parse_whole(
      chunked("5;ext\r\nhello\r\n2\r\n, \r\n5\r\nworld\r\n0\r\nX-Sum: 12\r\nx-more:\r\n\r\n") + get_with(""));
  ASSERT_EQ(transcript.requests.size(), 2U);
  EXPECT_EQ(transcript.requests[0].body, "hello, world");
  const std::vector<std::pair<std::string, std::string>> trailers{{"X-Sum", "12"}, {"x-more", ""}};
  EXPECT_EQ(transcript.requests[0].trailers, trailers);
  EXPECT_EQ(transcript.requests[1].body, "");
  EXPECT_TRUE(transcript.requests[1].trailers.empty());
}

TEST(Parser, KeepAliveIsAsTheVersionAndTheClientSay) {
  const auto keeps = [](std::string_view version, std::string_view lines) {
    return only_request("GET / HTTP/" + std::string(version) + "\r\nHost: x\r\n" + std::string(lines) + "\r\n")
        .keep_alive;
  };
  EXPECT_TRUE(keeps("1.1", ""));
  EXPECT_FALSE(keeps("1.1", "Connection: close\r\n"));
  EXPECT_FALSE(keeps("1.1", "connection: Close\r\n"));
  EXPECT_FALSE(keeps("1.1", "Connection: keep-alive, close\r\n"));
  EXPECT_FALSE(keeps("1.1", "Connection: a,\tclose ,b\r\n"));
  EXPECT_FALSE(keeps("1.1", "Connection: keep-alive\r\nConnection: close\r\n"));
  EXPECT_TRUE(keeps("1.1", "Connection: closed\r\n"));
  EXPECT_TRUE(keeps("1.1", "Connection: \r\n"));
  EXPECT_FALSE(keeps("1.0", ""));
  EXPECT_TRUE(keeps("1.0", "Connection: Keep-Alive\r\n"));
  EXPECT_FALSE(keeps("1.0", "Connection: keep-alive, close\r\n"));
}

TEST(Parser, MethodsAreTold) {
  for (const Method method : {Method::get, Method::head, Method::post, Method::put, Method::delete_, Method::options,
                              Method::patch, Method::trace}) {
    Request request;
    const Limits limits;
    detail::Parser parser(limits, request);
    parser.start();
    std::string bytes = line(std::string(to_string(method)) + " / HTTP/1.1");
    ASSERT_EQ(parser.advance(bytes.data(), bytes.size()), detail::Parser::Progress::complete) << to_string(method);
    EXPECT_EQ(request.method(), method);
    EXPECT_EQ(request.method_name(), to_string(method));
  }
  EXPECT_EQ(only_request(line("PROPFIND / HTTP/1.1")).method, "PROPFIND");
}

TEST(Parser, FieldsAreFoundInAnyCase) {
  Request request;
  const Limits limits;
  detail::Parser parser(limits, request);
  parser.start();
  std::string bytes = get_with("Twice: 1\r\ntWICE: 2\r\nEmpty:\r\n");
  ASSERT_EQ(parser.advance(bytes.data(), bytes.size()), detail::Parser::Progress::complete);
  EXPECT_EQ(request.header("TWICE"), "1");
  EXPECT_EQ(request.header("host"), "x");
  EXPECT_EQ(request.headers().find("empty"), std::string_view(""));
  EXPECT_EQ(request.headers().find("absent"), std::nullopt);
  EXPECT_EQ(request.header("absent"), "");
  EXPECT_EQ(std::count_if(request.headers().begin(), request.headers().end(),
                          [](Field field) { return equal_names(field.name, "twice"); }),
            2);
}

TEST(Parser, ExpectationIsTakenOnce) {
  Request request;
  const Limits limits;
  detail::Parser parser(limits, request);
  parser.start();
  std::string bytes = post_with("Expect: 100-Continue\r\nContent-Length: 1\r\n", "");
  ASSERT_EQ(parser.advance(bytes.data(), bytes.size()), detail::Parser::Progress::incomplete);
  EXPECT_TRUE(parser.in_body());
  EXPECT_TRUE(parser.take_expectation());
  EXPECT_FALSE(parser.take_expectation());
}

// --- limits ----------------------------------------------------------------------------------------------------------

Limits small_limits() {
  Limits limits;
  limits.target_bytes_max = 20;
  limits.header_bytes_max = 60;
  limits.header_count_max = 4;
  limits.body_bytes_max = 10;
  limits.chunk_extension_bytes_max = 5;
  limits.chunk_extension_bytes_total_max = 12;
  return limits;
}

void expect_limit(const std::string& within, const std::string& beyond, unsigned status) {
  const Transcript accepted = parse_whole(within, small_limits());
  EXPECT_EQ(accepted.refused, 0U) << within;
  EXPECT_EQ(accepted.requests.size(), 1U) << within;
  expect_in_all_splits(within, within, accepted, small_limits());
  const Transcript refused = parse_whole(beyond, small_limits());
  EXPECT_EQ(refused.refused, status) << beyond;
  EXPECT_TRUE(refused.requests.empty()) << beyond;
  expect_in_all_splits(beyond, beyond, refused, small_limits());
}

TEST(ParserLimits, Target) {
  expect_limit(line("GET /" + std::string(19, 'a') + " HTTP/1.1"), line("GET /" + std::string(20, 'a') + " HTTP/1.1"),
               414);
  expect_limit(line("OPTIONS /" + std::string(19, 'a') + " HTTP/1.1"), "GET /" + std::string(100, 'a'), 414);
}

TEST(ParserLimits, HeaderBytes) {
  const std::size_t host = std::string_view("Host: x\r\n").size();
  const auto with = [&](std::size_t bytes) { return get_with("A: " + std::string(bytes - host - 5, 'a') + "\r\n"); };
  expect_limit(with(60), with(61), 431);
  expect_limit(with(60), "GET / HTTP/1.1\r\nA: " + std::string(100, 'a'), 431);
}

TEST(ParserLimits, HeaderCount) {
  expect_limit(get_with("A: 1\r\nB: 2\r\nC: 3\r\n"), get_with("A:\r\nB:\r\nC:\r\nD:\r\n"), 431);
}

TEST(ParserLimits, TrailersCountAsHeaders) {
  expect_limit(chunked("0\r\nA:\r\nB:\r\n\r\n"), chunked("0\r\nA:\r\nB:\r\nC:\r\n\r\n"), 431);
  // Host and Transfer-Encoding have taken 37 of the 60 bytes.
  expect_limit(chunked("0\r\nA: " + std::string(18, 'a') + "\r\n\r\n"),
               chunked("0\r\nA: " + std::string(19, 'a') + "\r\n\r\n"), 431);
  expect_limit(chunked("0\r\n\r\n"), chunked("0\r\nA: " + std::string(100, 'a')), 431);
}

TEST(ParserLimits, Body) {
  expect_limit(post_with("Content-Length: 10\r\n", "0123456789"), post_with("Content-Length: 11\r\n", "01234567890"),
               413);
  expect_limit(chunked("a\r\n0123456789\r\n0\r\n\r\n"), chunked("b\r\n01234567890\r\n0\r\n\r\n"), 413);
  expect_limit(chunked("5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n"), chunked("5\r\n01234\r\n6\r\n567890\r\n0\r\n\r\n"),
               413);
}

TEST(ParserLimits, ChunkExtensions) {
  expect_limit(chunked("1;aaaa\r\nx\r\n0\r\n\r\n"), chunked("1;aaaaa\r\nx\r\n0\r\n\r\n"), 400);
  expect_limit(chunked("1;aaaa\r\nx\r\n1;aaa\r\nx\r\n0;aa\r\n\r\n"),
               chunked("1;aaaa\r\nx\r\n1;aaa\r\nx\r\n0;aaa\r\n\r\n"), 400);
}

// A body in tiny chunks does not need more memory than it has, nor more time than its bytes deserve.
TEST(ParserLimits, TinyChunksAreClosedUp) {
  Limits limits;
  limits.body_bytes_max = 1000;
  Request request;
  detail::Parser parser(limits, request);
  parser.start();
  std::string bytes = chunked("");
  const std::size_t head = bytes.size();
  std::size_t most = 0;
  for (int i = 0; i < 1000; ++i) {
    bytes += "1\r\nx\r\n";
    ASSERT_EQ(parser.advance(bytes.data(), bytes.size()), detail::Parser::Progress::incomplete);
    bytes.resize(parser.size());
    most = std::max(most, bytes.size());
  }
  EXPECT_EQ(most, head + 1000);
  bytes += "0\r\n\r\n";
  ASSERT_EQ(parser.advance(bytes.data(), bytes.size()), detail::Parser::Progress::complete);
  EXPECT_EQ(request.body(), std::string(1000, 'x'));
}

}  // namespace
}  // namespace bight::http::testing
