// SPDX-License-Identifier: Apache-2.0
#pragma once

// Bytes that clients send, good and bad, with what they deserve. Each is tried on the parser in every way of splitting
// it, and on a server over a connection.

#include <string>
#include <string_view>
#include <vector>

namespace bight::http::testing {

struct Case {
  std::string_view name;
  std::string bytes;
  unsigned refused;      // the status of the refusal that ends it; 0: none
  std::size_t requests;  // how many requests are accepted before
};

/// A request with these header lines behind the ones it needs.
inline std::string get_with(std::string_view lines) {
  return "GET / HTTP/1.1\r\nHost: x\r\n" + std::string(lines) + "\r\n";
}
inline std::string post_with(std::string_view lines, std::string_view body) {
  return "POST / HTTP/1.1\r\nHost: x\r\n" + std::string(lines) + "\r\n" + std::string(body);
}
inline std::string chunked(std::string_view body) { return post_with("Transfer-Encoding: chunked\r\n", body); }
inline std::string line(std::string_view request_line) { return std::string(request_line) + "\r\nHost: x\r\n\r\n"; }
inline std::string host(std::string_view value) { return "GET / HTTP/1.1\r\nHost: " + std::string(value) + "\r\n\r\n"; }

template <std::size_t N>
std::string bytes(const char (&literal)[N]) {  // with its NULs
  return {literal, N - 1};
}

inline std::vector<Case> good_cases() {
  return {
      {"smallest", get_with(""), 0, 1},
      {"HTTP/1.0 without a host", "GET / HTTP/1.0\r\n\r\n", 0, 1},
      {"an empty line in front", "\r\n" + get_with(""), 0, 1},
      {"an empty line between", get_with("") + "\r\n" + get_with(""), 0, 2},
      {"three in a row", get_with("") + get_with("A: b\r\n") + get_with(""), 0, 3},
      {"fields of every shape", get_with("A:\r\nB: \r\nC:d\r\nE: \tf \t\r\ng: h i,\"j\"\r\nK: \xc3\xa9\r\n"), 0, 1},
      {"names of every token character", get_with("!#$%&'*+-.^_`|~09azAZ: x\r\n"), 0, 1},
      {"absolute-form", "GET http://x/a?b HTTP/1.1\r\nHost: x\r\n\r\n", 0, 1},
      {"absolute-form, its port left out", "GET http://x/ HTTP/1.1\r\nHost: X:80\r\n\r\n", 0, 1},
      {"absolute-form, Host's port left out", "GET http://x:80/ HTTP/1.1\r\nHost: x\r\n\r\n", 0, 1},
      {"absolute-form, both left out", "GET http://x:/ HTTP/1.1\r\nHost: x\r\n\r\n", 0, 1},
      {"absolute-form of https, port left out", "GET HTTPS://[::1]:443/ HTTP/1.1\r\nHost: [::1]\r\n\r\n", 0, 1},
      {"absolute-form without path", "GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", 0, 1},
      {"asterisk-form", line("OPTIONS * HTTP/1.1"), 0, 1},
      {"odd but visible characters in the target", line("GET /a|\"<>{}^`%zz?[]\\ HTTP/1.1"), 0, 1},
      {"an extension method", line("PROPFIND / HTTP/1.1"), 0, 1},
      {"host with port", host("example.com:8080"), 0, 1},
      {"host, IPv6", host("[::1]:8080"), 0, 1},
      {"host with an escape", host("a%41.example"), 0, 1},
      {"Content-Length", post_with("Content-Length: 5\r\n", "hello"), 0, 1},
      {"Content-Length 0", post_with("Content-Length: 0\r\n", ""), 0, 1},
      {"Content-Length with leading zeros", post_with("Content-Length: 005\r\n", "hello"), 0, 1},
      {"GET with a body", get_with("Content-Length: 3\r\n") + "abc" + get_with(""), 0, 2},
      {"a body that looks like a request", post_with("Content-Length: 27\r\n", get_with("")) + get_with(""), 0, 2},
      {"chunked, nothing", chunked("0\r\n\r\n"), 0, 1},
      {"chunked", chunked("5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n") + get_with(""), 0, 2},
      {"chunked, upper and lower case sizes", chunked("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"), 0, 1},
      {"chunked, leading zeros", chunked("0000000000000003\r\nabc\r\n000\r\n\r\n"), 0, 1},
      {"chunked, extensions", chunked("3;a\r\nabc\r\n3;a=b;c=\"d e\"\r\nabc\r\n0;x\r\n\r\n"), 0, 1},
      {"chunked, trailers", chunked("3\r\nabc\r\n0\r\nA: b\r\nC:\r\n\r\n") + get_with(""), 0, 2},
      {"chunked in another case", post_with("transfer-encoding: CHUNKED\r\n", "0\r\n\r\n"), 0, 1},
      {"Expect", post_with("Expect: 100-continue\r\nContent-Length: 1\r\n", "x"), 0, 1},
      {"Expect in HTTP/1.0 means nothing", "GET / HTTP/1.0\r\nExpect: the moon\r\n\r\n", 0, 1},
  };
}

inline std::vector<Case> bad_syntax_cases() {
  return {
      {"no request line", "GARBAGE\r\n\r\n", 400, 0},
      {"TLS", bytes("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), 400, 0},
      {"no version", "GET /\r\n\r\n", 400, 0},
      {"no target", line("GET HTTP/1.1"), 400, 0},
      {"empty target", line("GET  HTTP/1.1"), 400, 0},
      {"two spaces", line("GET  / HTTP/1.1"), 400, 0},
      {"two spaces before the version", line("GET /  HTTP/1.1"), 400, 0},
      {"space in the target", line("GET /a b HTTP/1.1"), 400, 0},
      {"space behind the version", line("GET / HTTP/1.1 "), 400, 0},
      {"space in front", line(" GET / HTTP/1.1"), 400, 0},
      {"tab for a space", line("GET\t/ HTTP/1.1"), 400, 0},
      {"method that is no token", line("G(T / HTTP/1.1"), 400, 0},
      {"fragment", line("GET /#a HTTP/1.1"), 400, 0},
      {"relative target", line("GET a HTTP/1.1"), 400, 0},
      {"target of another scheme", line("GET ftp://x/ HTTP/1.1"), 400, 0},
      {"asterisk for GET", line("GET * HTTP/1.1"), 400, 0},
      {"bytes above ASCII in the target", line("GET /\xc3\xa9 HTTP/1.1"), 400, 0},
      {"NUL in the target", line(bytes("GET /\0 HTTP/1.1")), 400, 0},
      {"DEL in the target", line("GET /\x7f HTTP/1.1"), 400, 0},
      {"lower-case protocol", line("GET / http/1.1"), 400, 0},
      {"another protocol", line("SOURCE / ICE/1.0"), 400, 0},
      {"version of one number", line("GET / HTTP/1"), 400, 0},
      {"version of three digits", line("GET / HTTP/1.11"), 400, 0},
      {"version with a comma", line("GET / HTTP/1,1"), 400, 0},
      {"two empty lines in front", "\r\n\r\n" + get_with(""), 400, 0},
      {"bare LF in front", "\n" + get_with(""), 400, 0},
      {"bare CR in front", "\r" + get_with(""), 400, 0},

      {"bare LFs", "GET / HTTP/1.1\nHost: x\n\n", 400, 0},
      {"bare LF behind the request line", "GET / HTTP/1.1\nHost: x\r\n\r\n", 400, 0},
      {"bare LF behind a header", "GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400, 0},
      {"bare LF for the empty line", "GET / HTTP/1.1\r\nHost: x\r\n\n", 400, 0},
      {"bare CR behind a header", "GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n", 400, 0},
      {"CR CR LF", "GET / HTTP/1.1\r\nHost: x\r\r\n\r\n", 400, 0},
      {"bare CR in a value", get_with("A: b\rc\r\n"), 400, 0},
      {"NUL in a value", get_with(bytes("A: b\0c\r\n")), 400, 0},
      {"control character in a value", get_with("A: b\x01\r\n"), 400, 0},
      {"vertical tab around a value", get_with("A:\vb\r\n"), 400, 0},
      {"DEL in a value", get_with("A: b\x7f\r\n"), 400, 0},
      {"NUL in a name", get_with(bytes("A\0b: c\r\n")), 400, 0},
      {"fold", get_with("A: b\r\n c\r\n"), 400, 0},
      {"fold with a tab", get_with("A: b\r\n\tc\r\n"), 400, 0},
      {"Content-Length in a fold", get_with("A: b\r\n Content-Length: 5\r\n"), 400, 0},
      {"space before the first header", "GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400, 0},
      {"space before the colon", get_with("A : b\r\n"), 400, 0},
      {"tab before the colon", get_with("A\t: b\r\n"), 400, 0},
      {"space before the colon of Content-Length", post_with("Content-Length : 5\r\n", "hello"), 400, 0},
      {"space in a name", get_with("A b: c\r\n"), 400, 0},
      {"no name", get_with(": b\r\n"), 400, 0},
      {"no colon", get_with("abc\r\n"), 400, 0},
      {"only a space", get_with(" \r\n"), 400, 0},
      {"quote in a name", get_with("A\"b: c\r\n"), 400, 0},
      {"bracket in a name", get_with("A[b: c\r\n"), 400, 0},
      {"byte above ASCII in a name", get_with("A\xff: c\r\n"), 400, 0},
  };
}

inline std::vector<Case> bad_framing_cases() {
  const std::string_view hello = "hello";
  const std::string_view none = "0\r\n\r\n";
  return {
      {"no Host", "GET / HTTP/1.1\r\n\r\n", 400, 0},
      {"two Hosts", get_with("Host: x\r\n"), 400, 0},
      {"two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: x\r\nhost: y\r\n\r\n", 400, 0},
      {"empty Host", host(""), 400, 0},
      {"Host with a user", host("a@b"), 400, 0},
      {"Host with a path", host("a/b"), 400, 0},
      {"Host with a comma", host("a,b"), 400, 0},
      {"Host with a space", host("a b"), 400, 0},
      {"Host with a query", host("a?b"), 400, 0},
      {"Host with letters for a port", host("a:b"), 400, 0},
      {"Host with a port too long", host("a:123456"), 400, 0},
      {"Host with two colons", host("a:1:2"), 400, 0},
      {"Host with an open bracket", host("[::1"), 400, 0},
      {"Host with something behind the bracket", host("[::1]x"), 400, 0},
      {"Host with a half escape", host("a%4"), 400, 0},
      {"Host other than the target's", "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", 400, 0},
      {"port other than the target's", "GET http://a/ HTTP/1.1\r\nHost: a:8080\r\n\r\n", 400, 0},
      {"https with the port of http", "GET https://a/ HTTP/1.1\r\nHost: a:80\r\n\r\n", 400, 0},
      {"user in the target", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0},
      {"user in the target of HTTP/1.0", "GET http://u@a/ HTTP/1.0\r\n\r\n", 400, 0},
      {"no host in the target", "GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0},

      {"Content-Length twice", post_with("Content-Length: 5\r\nContent-Length: 5\r\n", hello), 400, 0},
      {"two Content-Lengths", post_with("Content-Length: 5\r\nContent-Length: 6\r\n", hello), 400, 0},
      {"a list of Content-Lengths", post_with("Content-Length: 5, 5\r\n", hello), 400, 0},
      {"empty Content-Length", post_with("Content-Length:\r\n", hello), 400, 0},
      {"Content-Length with a plus", post_with("Content-Length: +5\r\n", hello), 400, 0},
      {"Content-Length with a minus", post_with("Content-Length: -5\r\n", hello), 400, 0},
      {"hexadecimal Content-Length", post_with("Content-Length: 0x5\r\n", hello), 400, 0},
      {"Content-Length with a space in it", post_with("Content-Length: 5 0\r\n", hello), 400, 0},
      {"Content-Length with a fraction", post_with("Content-Length: 5.0\r\n", hello), 400, 0},
      {"Content-Length of 20 digits", post_with("Content-Length: 18446744073709551621\r\n", hello), 400, 0},
      {"Content-Length and chunked", post_with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", none), 400, 0},
      {"chunked and Content-Length", post_with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", none), 400, 0},
      {"empty Transfer-Encoding", post_with("Transfer-Encoding:\r\n", none), 400, 0},
      {"Content-Length and empty Transfer-Encoding", post_with("Content-Length: 5\r\nTransfer-Encoding:\r\n", none),
       400, 0},
      {"two Transfer-Encodings", post_with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", none), 400,
       0},
      {"chunked, then identity", post_with("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", none), 400,
       0},
      {"a list, then chunked", post_with("Transfer-Encoding: gzip, chunked\r\nTransfer-Encoding: chunked\r\n", none),
       400, 0},
      {"chunked, empty", post_with("Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n", none), 400, 0},
      {"identity", post_with("Transfer-Encoding: identity\r\n", none), 400, 0},
      {"not ending in chunked", post_with("Transfer-Encoding: chunked, gzip\r\n", none), 400, 0},
      {"chunked twice in a list", post_with("Transfer-Encoding: chunked, chunked\r\n", none), 400, 0},
      {"list with nothing behind the comma", post_with("Transfer-Encoding: chunked,\r\n", none), 400, 0},
      {"xchunked", post_with("Transfer-Encoding: xchunked\r\n", none), 400, 0},
      {"chunkedx", post_with("Transfer-Encoding: chunkedx\r\n", none), 400, 0},
      {"quoted chunked", post_with("Transfer-Encoding: \"chunked\"\r\n", none), 400, 0},
      {"chunked with a parameter", post_with("Transfer-Encoding: chunked;q=1\r\n", none), 400, 0},
      {"vertical tab before chunked", post_with("Transfer-Encoding: \vchunked\r\n", none), 400, 0},
      {"chunked in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, 0},
      {"unknown coding", post_with("Transfer-Encoding: gzip, chunked\r\n", none), 501, 0},

      {"unknown method", line("BREW / HTTP/1.1"), 501, 0},
      {"lower-case method", line("get / HTTP/1.1"), 501, 0},
      {"CONNECT", line("CONNECT x:443 HTTP/1.1"), 501, 0},
      {"HTTP/2.0", line("GET / HTTP/2.0"), 505, 0},
      {"HTTP/1.2", line("GET / HTTP/1.2"), 505, 0},
      {"HTTP/0.9", line("GET / HTTP/0.9"), 505, 0},
      {"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, 0},
      {"unknown expectation", get_with("Expect: the moon\r\n"), 417, 0},
  };
}

inline std::vector<Case> bad_chunk_cases() {
  return {
      {"no size", chunked("\r\nabc\r\n0\r\n\r\n"), 400, 0},
      {"no size, and no chunk", chunked("\r\n\r\n"), 400, 0},
      {"an extension without a size", chunked(";a\r\n\r\n"), 400, 0},
      {"size that is no number", chunked("x\r\nabc\r\n0\r\n\r\n"), 400, 0},
      {"size with 0x", chunked("0x3\r\nabc\r\n0\r\n\r\n"), 400, 0},
      {"size with a plus", chunked("+3\r\nabc\r\n0\r\n\r\n"), 400, 0},
      {"size with a minus", chunked("-3\r\nabc\r\n0\r\n\r\n"), 400, 0},
      {"size with an underscore", chunked("3_0\r\nabc\r\n0\r\n\r\n"), 400, 0},
      {"space before the size", chunked(" 3\r\nabc\r\n0\r\n\r\n"), 400, 0},
      {"space behind the size", chunked("3 \r\nabc\r\n0\r\n\r\n"), 400, 0},
      {"size of 17 digits", chunked("00000000000000003\r\nabc\r\n0\r\n\r\n"), 400, 0},
      {"largest size", chunked("ffffffffffffffff\r\nabc\r\n0\r\n\r\n"), 413, 0},
      {"size behind which a bare LF stands", chunked("3\nabc\r\n0\r\n\r\n"), 400, 0},
      {"size behind which a bare CR stands", chunked("3\rabc\r\n0\r\n\r\n"), 400, 0},
      {"chunk longer than its size", chunked("3\r\nabcd\r\n0\r\n\r\n"), 400, 0},
      {"chunk shorter than its size", chunked("4\r\nabc\r\n0\r\n\r\n"), 400, 0},
      {"chunk behind which a bare LF stands", chunked("3\r\nabc\n0\r\n\r\n"), 400, 0},
      {"chunk behind which a bare CR stands", chunked("3\r\nabc\r0\r\n\r\n"), 400, 0},
      {"another byte for the CR behind a chunk", chunked("3\r\nabcX\n0\r\n\r\n"), 400, 0},
      {"another byte for the LF behind a chunk", chunked("3\r\nabc\rX0\r\n\r\n"), 400, 0},
      {"bare LF in an extension", chunked("3;a\nabc\r\n0\r\n\r\n"), 400, 0},
      {"bare CR in an extension", chunked("3;a\rb\r\nabc\r\n0\r\n\r\n"), 400, 0},
      {"NUL in an extension", chunked(bytes("3;a\0\r\nabc\r\n0\r\n\r\n")), 400, 0},
      {"extension without end", chunked("3;" + std::string(300, 'a')), 400, 0},
      {"bare LF behind the last chunk", chunked("0\n\r\n"), 400, 0},
      {"bare LF for the end", chunked("0\r\n\n"), 400, 0},
      {"trailer that is none", chunked("0\r\nabc\r\n\r\n"), 400, 0},
      {"fold in the trailers", chunked("0\r\nA: b\r\n c\r\n\r\n"), 400, 0},
      {"space before the first trailer", chunked("0\r\n A: b\r\n\r\n"), 400, 0},
      {"space before a trailer's colon", chunked("0\r\nA : b\r\n\r\n"), 400, 0},
      {"bare CR in a trailer", chunked("0\r\nA: b\rc\r\n\r\n"), 400, 0},
      {"Content-Length in the trailers", chunked("0\r\nContent-Length: 5\r\n\r\n"), 400, 0},
      {"Transfer-Encoding in the trailers", chunked("0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400, 0},
      {"Host in the trailers", chunked("0\r\nhost: y\r\n\r\n"), 400, 0},
  };
}

inline std::vector<Case> bad_cases() {
  std::vector<Case> all;
  for (auto* cases : {&bad_syntax_cases, &bad_framing_cases, &bad_chunk_cases}) {
    const auto some = cases();
    all.insert(all.end(), some.begin(), some.end());
  }
  // Behind good requests a bad one is as bad, and they are not.
  const std::size_t count = all.size();
  for (std::size_t i = 0; i < count; ++i) {
    all.push_back(
        {all[i].name, get_with("") + post_with("Content-Length: 2\r\n", "\r\n") + all[i].bytes, all[i].refused, 2});
  }
  return all;
}

}  // namespace bight::http::testing
