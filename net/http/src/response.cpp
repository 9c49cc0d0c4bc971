// SPDX-License-Identifier: Apache-2.0
#include <bight/http/message.hpp>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "syntax.hpp"

namespace bight::http {
namespace {

constexpr std::string_view kPlainText = "Content-Type: text/plain\r\n";
constexpr std::string_view kPlainTextUtf8 = "Content-Type: text/plain; charset=utf-8\r\n";

// The server's own to write; two of one of these, or one that is wrong, and the client loses track of where the answer
// ends.
bool is_reserved(std::string_view name) noexcept {
  constexpr std::string_view reserved[] = {"connection", "content-length",    "date",    "keep-alive",      "server",
                                           "trailer",    "transfer-encoding", "upgrade", "proxy-connection"};
  return std::any_of(std::begin(reserved), std::end(reserved),
                     [name](std::string_view other) { return equal_names(name, other); });
}

std::uint16_t checked_status(unsigned status) {
  if (status < 200 || status > 599)
    throw std::invalid_argument("an HTTP answer's status is from 200 to 599, not " + std::to_string(status));
  return static_cast<std::uint16_t>(status);
}

bool is_ascii(std::string_view text) noexcept {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

}  // namespace

Response::Response(unsigned status) : status_(checked_status(status)) {}

void Response::set_status(unsigned status) { status_ = checked_status(status); }

void Response::add_header(std::string_view name, std::string_view value) {
  if (!detail::is_token(name))
    throw std::invalid_argument("not a header's name: it has to be a token (RFC 9110 5.6.2)");
  if (!detail::is_field_value(value)) {
    throw std::invalid_argument("the value of header " + std::string(name) + " has a control character in it");
  }
  if (is_reserved(name)) throw std::invalid_argument("the server itself writes the header " + std::string(name));
  if (equal_names(name, "content-type")) type_line_ = {};
  fields_.append(name).append(": ").append(detail::trimmed(value)).append("\r\n");
}

Response text(std::string body, unsigned status) {
  Response response(status);
  response.type_line_ = is_ascii(body) ? kPlainText : kPlainTextUtf8;
  response.body_ = std::move(body);
  return response;
}

std::string_view reason_phrase(unsigned status) noexcept {
  switch (status) {
    // clang-format off
    case 100: return "Continue";
    case 101: return "Switching Protocols";
    case 103: return "Early Hints";
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 203: return "Non-Authoritative Information";
    case 204: return "No Content";
    case 205: return "Reset Content";
    case 206: return "Partial Content";
    case 207: return "Multi-Status";
    case 208: return "Already Reported";
    case 226: return "IM Used";
    case 300: return "Multiple Choices";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 303: return "See Other";
    case 304: return "Not Modified";
    case 305: return "Use Proxy";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 402: return "Payment Required";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 406: return "Not Acceptable";
    case 407: return "Proxy Authentication Required";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 411: return "Length Required";
    case 412: return "Precondition Failed";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 416: return "Range Not Satisfiable";
    case 417: return "Expectation Failed";
    case 421: return "Misdirected Request";
    case 422: return "Unprocessable Content";
    case 423: return "Locked";
    case 424: return "Failed Dependency";
    case 425: return "Too Early";
    case 426: return "Upgrade Required";
    case 428: return "Precondition Required";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 451: return "Unavailable For Legal Reasons";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    case 506: return "Variant Also Negotiates";
    case 507: return "Insufficient Storage";
    case 508: return "Loop Detected";
    case 511: return "Network Authentication Required";
    default: return {};
      // clang-format on
  }
}

}  // namespace bight::http
