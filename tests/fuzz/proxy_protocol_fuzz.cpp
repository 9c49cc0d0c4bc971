// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: PROXY headers out of arbitrary bytes, in pieces of any size. However they are cut, the outcome is
// the same, and no byte behind the header is taken.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>

#include <bight/net/proxy_protocol.hpp>

namespace {

using bight::net::ProxyParser;

void require(bool condition) {
  if (!condition) std::abort();
}

std::size_t feed(ProxyParser& parser, std::span<const std::byte> bytes, std::size_t at_once) {
  std::size_t fed = 0;
  while (const std::size_t wanted = std::min({parser.wanted(), bytes.size() - fed, at_once})) {
    parser.feed(bytes.subspan(fed, wanted));
    fed += wanted;
  }
  return fed;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data, size));
  ProxyParser whole;
  ProxyParser pieces;
  const std::size_t taken = feed(whole, bytes, size + 1);
  feed(pieces, bytes, 1);
  require((whole.complaint() == nullptr) == (pieces.complaint() == nullptr) || whole.wanted() != 0);
  if (whole.complaint() != nullptr || whole.wanted() != 0) return 0;
  require(pieces.wanted() == 0 && pieces.complaint() == nullptr);
  require(whole.header().source == pieces.header().source && taken <= ProxyParser::kDefaultMax);
  require(whole.header().source.has_value() == whole.header().destination.has_value());
  if (!whole.header().source) return 0;
  ProxyParser again;
  const std::string written = bight::net::proxy_header_v2(*whole.header().source, *whole.header().destination);
  feed(again, std::as_bytes(std::span(written)), written.size());
  require(again.complaint() == nullptr && again.header().source == whole.header().source);
  return 0;
}
