// SPDX-License-Identifier: Apache-2.0
#pragma once

// Runs the parser over bytes that come in pieces, as a connection would, and writes down what it made of them.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <bight/http/message.hpp>

#include "parser.hpp"

namespace bight::http::testing {

/// Copies of everything a request has.
struct Parsed {
  std::string method;
  std::string target;
  std::string path;
  std::string query;
  std::string host;
  unsigned version_minor = 1;
  bool keep_alive = false;
  std::vector<std::pair<std::string, std::string>> headers;
  std::vector<std::pair<std::string, std::string>> trailers;
  std::string body;

  friend bool operator==(const Parsed&, const Parsed&) = default;
};

/// The requests found, and how the bytes ended: refused with a status, or 0.
struct Transcript {
  std::vector<Parsed> requests;
  unsigned refused = 0;
  bool incomplete = false;  // bytes are left that are the beginning of a request

  friend bool operator==(const Transcript&, const Transcript&) = default;
};

inline std::vector<std::pair<std::string, std::string>> copy_of(const Fields& fields) {
  std::vector<std::pair<std::string, std::string>> copy;
  for (const Field field : fields) copy.emplace_back(field.name, field.value);
  return copy;
}

inline Parsed copy_of(const Request& request) {
  return {std::string(request.method_name()),
          std::string(request.target()),
          std::string(request.path()),
          std::string(request.query()),
          std::string(request.host()),
          request.version_minor(),
          request.keep_alive(),
          copy_of(request.headers()),
          copy_of(request.trailers()),
          std::string(request.body())};
}

/// Feeds `pieces` one after the other. The bytes kept are moved to memory of their own, of exactly their size, before
/// every look, so that a sanitizer sees a look beyond them or at where they have been.
inline Transcript parse_all(const std::vector<std::string_view>& pieces, const Limits& limits = {}) {
  Transcript transcript;
  Request request;
  detail::Parser parser(limits, request);
  parser.start();
  std::string kept;
  for (const std::string_view piece : pieces) {
    kept += piece;
    while (!kept.empty()) {
      const std::unique_ptr<char[]> bytes(new char[kept.size()]);
      kept.copy(bytes.get(), kept.size());
      const auto progress = parser.advance(bytes.get(), kept.size());
      if (progress == detail::Parser::Progress::refused) {
        transcript.refused = parser.status();
        return transcript;
      }
      if (progress == detail::Parser::Progress::incomplete) {
        kept.assign(bytes.get(), parser.size());
        break;
      }
      transcript.requests.push_back(copy_of(request));
      kept.erase(0, parser.size());
      parser.start();
    }
  }
  transcript.incomplete = !kept.empty();
  return transcript;
}

inline Transcript parse_whole(std::string_view bytes, const Limits& limits = {}) { return parse_all({bytes}, limits); }

inline Transcript parse_bytewise(std::string_view bytes, const Limits& limits = {}) {
  std::vector<std::string_view> pieces;
  for (std::size_t at = 0; at < bytes.size(); ++at) pieces.push_back(bytes.substr(at, 1));
  return parse_all(pieces, limits);
}

}  // namespace bight::http::testing
