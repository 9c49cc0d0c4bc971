// SPDX-License-Identifier: Apache-2.0
#pragma once

/// HAProxy's PROXY protocol, versions 1 and 2: a header by which a proxy tells a server, in front of all else, whom the
/// connection comes from. serve() reads it if it is told to (ServeOptions::proxy); this is what it does that with, and
/// what writes such headers.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <bight/net/address.hpp>

namespace bight::net {

/// What a header says.
struct ProxyHeader {
  /// Type-length-value of version 2: what the proxy adds (0x01 ALPN, 0x02 authority, 0x20 TLS …), as it came.
  struct Tlv {
    std::uint8_t type = 0;
    std::string value{};
  };

  int version = 1;
  /// The two ends of the connection that the proxy has accepted. Nothing: it speaks for itself (a health check), or the
  /// connection is of no Internet family; then this connection's own addresses hold.
  std::optional<Address> source{};
  std::optional<Address> destination{};
  std::vector<Tlv> tlvs{};

  /// The first of a type, or null.
  [[nodiscard]] const Tlv* find(std::uint8_t type) const noexcept;
};

/// Reads a header from bytes as they come. It never wants more than the header has, so what follows stays in the
/// socket.
///
///     ProxyParser parser;
///     while (const std::size_t wanted = parser.wanted()) parser.feed(what was read: that many bytes at most);
///     if (parser.complaint() == nullptr) use(parser.header());
class ProxyParser {
 public:
  static constexpr std::size_t kV1Max = 107;        // of the whole line, by the protocol
  static constexpr std::size_t kDefaultMax = 4096;  // of a whole header of version 2

  explicit ProxyParser(std::size_t header_max = kDefaultMax) : header_max_(header_max) {}

  /// How many bytes the header has at least beyond those that it was fed. 0: it is there, or nothing can come of it.
  [[nodiscard]] std::size_t wanted() const noexcept;
  /// Up to wanted() bytes.
  void feed(std::span<const std::byte> data);
  /// What is wrong with it; null: nothing, so far.
  [[nodiscard]] const char* complaint() const noexcept { return complaint_; }
  /// When nothing is wanted any more, and there is no complaint.
  [[nodiscard]] const ProxyHeader& header() const noexcept { return header_; }

 private:
  [[nodiscard]] std::size_t wanted_of_line() const noexcept;
  void check_beginning() noexcept;
  void parse_line();
  void parse_binary();
  void parse_addresses(std::string_view body, unsigned family);
  void parse_tlvs(std::string_view rest, std::size_t offset);

  std::size_t header_max_;
  std::string text_;
  const char* complaint_ = nullptr;
  bool done_ = false;
  ProxyHeader header_;
};

/// Whether what begins with these bytes begins with a header: `maybe`, if they are too few to tell.
enum class ProxyBeginning : unsigned char { no, maybe, yes };
[[nodiscard]] ProxyBeginning begins_with_proxy_header(std::span<const std::byte> data) noexcept;
/// With so many bytes there is no maybe.
inline constexpr std::size_t kProxyBeginningMax = 12;

/// A header to send in front of everything else. Addresses of different families: of an unknown connection.
[[nodiscard]] std::string proxy_header_v1(const Address& source, const Address& destination);
[[nodiscard]] std::string proxy_header_v2(const Address& source, const Address& destination,
                                          std::span<const ProxyHeader::Tlv> tlvs = {});

}  // namespace bight::net
