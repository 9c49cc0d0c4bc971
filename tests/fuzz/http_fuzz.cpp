// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: the HTTP parser over arbitrary bytes, split at arbitrary places. Whatever the bytes, it reads no
// byte that is not there (a sanitizer's to see), keeps its limits, and makes the same of them whole, byte by byte and
// in the pieces the input asks for.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "parse_all.hpp"

namespace {

using namespace bight::http::testing;  // NOLINT(google-build-using-namespace)

void require(bool condition) {
  if (!condition) std::abort();
}

// Small, so that short inputs reach them; and one in a few inputs has the real ones.
bight::http::Limits limits_from(std::uint8_t byte) {
  bight::http::Limits limits;
  if (byte % 4 == 0) return limits;
  limits.target_bytes_max = 8 + byte;
  limits.header_bytes_max = 32 + std::size_t{byte} * 2;
  limits.header_count_max = 1 + byte % 8;
  limits.body_bytes_max = byte;
  limits.chunk_extension_bytes_max = byte % 16;
  limits.chunk_extension_bytes_total_max = byte % 32;
  return limits;
}

std::vector<std::string_view> split(std::string_view bytes, const std::uint8_t* sizes, std::size_t count) {
  std::vector<std::string_view> pieces;
  for (std::size_t i = 0; i < count && !bytes.empty(); ++i) {
    const std::size_t size = std::min<std::size_t>(std::size_t{sizes[i]} + 1, bytes.size());
    pieces.push_back(bytes.substr(0, size));
    bytes.remove_prefix(size);
  }
  if (!bytes.empty()) pieces.push_back(bytes);
  return pieces;
}

void check_limits(const Transcript& transcript, const bight::http::Limits& limits) {
  for (const Parsed& request : transcript.requests) {
    require(request.target.size() <= limits.target_bytes_max);
    require(request.headers.size() + request.trailers.size() <= limits.header_count_max);
    require(request.body.size() <= limits.body_bytes_max);
    require(request.version_minor == 0 || !request.host.empty());
    for (const auto* fields : {&request.headers, &request.trailers}) {
      for (const auto& [name, value] : *fields) {
        require(!name.empty() && name.find_first_of(" \t\r\n:") == std::string::npos);
        require(value.find_first_of("\r\n") == std::string::npos && value.find('\0') == std::string::npos);
      }
    }
  }
}

}  // namespace

// The first byte chooses the limits, the next eight the pieces.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t choices = 9;
  if (size < choices) return 0;
  const bight::http::Limits limits = limits_from(data[0]);
  const std::string_view bytes(reinterpret_cast<const char*>(data) + choices, size - choices);
  const Transcript whole = parse_whole(bytes, limits);
  check_limits(whole, limits);
  require(parse_all(split(bytes, data + 1, choices - 1), limits) == whole);
  constexpr std::size_t bytewise_max = 4096;  // every look costs a copy
  if (bytes.size() <= bytewise_max) require(parse_bytewise(bytes, limits) == whole);
  return 0;
}
