// SPDX-License-Identifier: Apache-2.0
#include <bight/net/proxy_protocol.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include <bight/check.hpp>

namespace bight::net {
namespace {

constexpr std::string_view kSignature("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr std::string_view kLineStart = "PROXY ";
constexpr std::size_t kFixed = 16;  // of a header of version 2
constexpr std::uint8_t kChecksum = 0x03;

enum : unsigned { kFamilyNone = 0x0, kFamilyV4 = 0x1, kFamilyV6 = 0x2, kFamilyUnix = 0x3 };
constexpr std::size_t kV4Size = 12;
constexpr std::size_t kV6Size = 36;
constexpr std::size_t kUnixSize = 216;

bool begins_alike(std::string_view a, std::string_view b) noexcept {
  const std::size_t both = std::min(a.size(), b.size());
  return a.substr(0, both) == b.substr(0, both);
}

unsigned byte_at(std::string_view text, std::size_t index) noexcept { return static_cast<unsigned char>(text[index]); }

std::uint16_t number_at(std::string_view text, std::size_t index) noexcept {
  return static_cast<std::uint16_t>(byte_at(text, index) << 8U | byte_at(text, index + 1));
}

/// Decimal, as the protocol has it: no sign, no zeros in front.
bool parse_port(std::string_view text, std::uint16_t& port) noexcept {
  if (text.empty() || text.size() > 5 || (text.size() > 1 && text.front() == '0')) return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size();
}

/// A plain address of the family: no names, brackets or scopes.
std::optional<Address> parse_plain(std::string_view host, std::uint16_t port, bool v6) noexcept {
  const bool plain = !host.empty() && host.find_first_not_of("0123456789abcdefABCDEF:.") == std::string_view::npos;
  if (!plain) return std::nullopt;
  const std::optional<Address> address = Address::try_parse(host, port);
  return address && address->is_v6() == v6 ? address : std::nullopt;
}

Address address_at(std::string_view bytes, bool v6, std::uint16_t port) noexcept {
  if (v6) {
    ::sockaddr_in6 native{};
    native.sin6_family = AF_INET6;
    native.sin6_port = htons(port);
    std::memcpy(&native.sin6_addr, bytes.data(), sizeof native.sin6_addr);
    return Address::from_native(reinterpret_cast<const ::sockaddr*>(&native), sizeof native);
  }
  ::sockaddr_in native{};
  native.sin_family = AF_INET;
  native.sin_port = htons(port);
  std::memcpy(&native.sin_addr, bytes.data(), sizeof native.sin_addr);
  return Address::from_native(reinterpret_cast<const ::sockaddr*>(&native), sizeof native);
}

std::string bytes_of(const Address& address) {
  if (address.is_v4()) {
    ::sockaddr_in native;
    std::memcpy(&native, address.native(), sizeof native);
    return {reinterpret_cast<const char*>(&native.sin_addr), sizeof native.sin_addr};
  }
  ::sockaddr_in6 native;
  std::memcpy(&native, address.native(), sizeof native);
  return {reinterpret_cast<const char*>(&native.sin6_addr), sizeof native.sin6_addr};
}

void append_number(std::string& text, std::size_t number) {
  text.append(1, static_cast<char>(number >> 8U & 0xffU)).append(1, static_cast<char>(number & 0xffU));
}

/// Without its scope, which means nothing to others.
std::string host_of(const Address& address) {
  const std::string host = address.host();
  return host.substr(0, host.find('%'));
}

/// CRC-32C (Castagnoli), of `text` with the four bytes at `hole` taken for zeros.
std::uint32_t checksum_of(std::string_view text, std::size_t hole) noexcept {
  std::uint32_t crc = ~0U;
  for (std::size_t n = 0; n < text.size(); ++n) {
    crc ^= n >= hole && n < hole + 4 ? 0 : byte_at(text, n);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1U ^ ((crc & 1U) != 0 ? 0x82f63b78U : 0);
  }
  return ~crc;
}

}  // namespace

const ProxyHeader::Tlv* ProxyHeader::find(std::uint8_t type) const noexcept {
  const auto found = std::find_if(tlvs.begin(), tlvs.end(), [type](const Tlv& each) { return each.type == type; });
  return found == tlvs.end() ? nullptr : &*found;
}

ProxyBeginning begins_with_proxy_header(std::span<const std::byte> data) noexcept {
  const std::string_view text(reinterpret_cast<const char*>(data.data()), data.size());
  if (text.starts_with(kLineStart) || text.starts_with(kSignature)) return ProxyBeginning::yes;
  return begins_alike(text, kLineStart) || begins_alike(text, kSignature) ? ProxyBeginning::maybe : ProxyBeginning::no;
}

std::size_t ProxyParser::wanted() const noexcept {
  if (done_ || complaint_ != nullptr) return 0;
  if (text_.size() < kSignature.size()) return kSignature.size() - text_.size();  // no header is shorter
  if (text_.front() == kLineStart.front()) return wanted_of_line();
  if (text_.size() < kFixed) return kFixed - text_.size();
  return kFixed + number_at(text_, 14) - text_.size();
}

/// The line ends nowhere before as many bytes: so few that one by one would do, but a system call each.
std::size_t ProxyParser::wanted_of_line() const noexcept {
  if (text_.back() == '\r') return 1;
  constexpr std::size_t kSpaces = 5;  // PROXY TCP4 source destination port port
  const auto spaces = static_cast<std::size_t>(std::count(text_.begin(), text_.end(), ' '));
  const bool addressed = text_.compare(kLineStart.size(), 3, "TCP") == 0;
  const std::size_t missing = addressed && spaces < kSpaces ? 2 * (kSpaces - spaces) : 0;
  return missing + (addressed && text_.back() == ' ' ? 1 : 0) + 2;
}

void ProxyParser::feed(std::span<const std::byte> data) {
  BIGHT_CHECK(data.size() <= wanted(), "a ProxyParser was fed more than it wanted");
  text_.append(reinterpret_cast<const char*>(data.data()), data.size());
  check_beginning();
  if (complaint_ != nullptr || text_.size() < kSignature.size()) return;
  if (text_.front() != kLineStart.front()) {
    if (text_.size() >= kFixed && kFixed + number_at(text_, 14) > header_max_) complaint_ = "the header is too long";
    if (complaint_ == nullptr && text_.size() >= kFixed && text_.size() == kFixed + number_at(text_, 14))
      parse_binary();
  } else if (text_.back() == '\n') {
    parse_line();
  } else if (text_.find('\n') != std::string::npos) {
    complaint_ = "a line that ends too early";
  } else if (text_.size() + 1 >= kV1Max) {
    complaint_ = "the line is too long";
  }
}

void ProxyParser::check_beginning() noexcept {
  if (!begins_alike(text_, kSignature) && !begins_alike(text_, kLineStart)) complaint_ = "no PROXY header";
}

void ProxyParser::parse_line() {
  done_ = true;
  std::string_view line = text_;
  if (line.size() < 2 || line[line.size() - 2] != '\r' || line.find('\r') != line.size() - 2) {
    complaint_ = "a line that ends wrongly";
    return;
  }
  line = line.substr(kLineStart.size(), line.size() - kLineStart.size() - 2);
  constexpr std::string_view kUnknown = "UNKNOWN";
  if (line.substr(0, kUnknown.size()) == kUnknown && (line.size() == kUnknown.size() || line[kUnknown.size()] == ' '))
    return;  // whatever follows
  std::array<std::string_view, 5> words;
  for (std::string_view& word : words) {
    const std::size_t space = &word == &words.back() ? std::string_view::npos : line.find(' ');
    word = line.substr(0, space);
    line = space == std::string_view::npos ? std::string_view() : line.substr(space + 1);
  }
  const bool v6 = words[0] == "TCP6";
  std::uint16_t from = 0;
  std::uint16_t to = 0;
  if ((!v6 && words[0] != "TCP4") || !parse_port(words[3], from) || !parse_port(words[4], to)) {
    complaint_ = "a malformed line";
    return;
  }
  header_.source = parse_plain(words[1], from, v6);
  header_.destination = parse_plain(words[2], to, v6);
  if (!header_.source || !header_.destination) complaint_ = "a malformed address";
}

void ProxyParser::parse_binary() {
  done_ = true;
  header_.version = 2;
  const unsigned version = byte_at(text_, 12) >> 4U;
  const unsigned command = byte_at(text_, 12) & 0xfU;
  const unsigned family = byte_at(text_, 13) >> 4U;
  const unsigned transport = byte_at(text_, 13) & 0xfU;
  if (version != 2 || command > 1) {
    complaint_ = "an unknown version or command";
  } else if (family > kFamilyUnix || transport > 2) {
    complaint_ = "an unknown family";
  } else if (command == 1) {  // of a connection of the proxy's own, the rest means nothing
    parse_addresses(std::string_view(text_).substr(kFixed), transport == 0 ? unsigned{kFamilyNone} : family);
  }
}

void ProxyParser::parse_addresses(std::string_view body, unsigned family) {
  constexpr std::array<std::size_t, 4> kSizes{0, kV4Size, kV6Size, kUnixSize};
  const std::size_t size = kSizes[family];
  if (body.size() < size) {
    complaint_ = "the addresses are cut short";
    return;
  }
  if (family == kFamilyNone) return;  // and neither do they here
  if (family != kFamilyUnix) {
    const bool v6 = family == kFamilyV6;
    const std::size_t each = v6 ? 16 : 4;
    header_.source = address_at(body, v6, number_at(body, 2 * each));
    header_.destination = address_at(body.substr(each), v6, number_at(body, 2 * each + 2));
  }
  parse_tlvs(body.substr(size), kFixed + size);
}

/// `offset`: of `rest` in the header.
void ProxyParser::parse_tlvs(std::string_view rest, std::size_t offset) {
  constexpr std::size_t kHead = 3;
  while (!rest.empty()) {
    if (rest.size() < kHead || rest.size() - kHead < number_at(rest, 1)) {
      complaint_ = "an extension is cut short";
      return;
    }
    const std::size_t size = number_at(rest, 1);
    const auto type = static_cast<std::uint8_t>(byte_at(rest, 0));
    const std::string_view value = rest.substr(kHead, size);
    if (type == kChecksum) {
      const bool whole = size == 4;
      const std::uint32_t told =
          whole ? std::uint32_t{number_at(value, 0)} << 16U | std::uint32_t{number_at(value, 2)} : 0;
      if (!whole || told != checksum_of(text_, offset + kHead)) {
        complaint_ = "the checksum is wrong";
        return;
      }
    }
    header_.tlvs.push_back({type, std::string(value)});
    rest = rest.substr(kHead + size);
    offset += kHead + size;
  }
}

std::string proxy_header_v1(const Address& source, const Address& destination) {
  if (source.is_v4() != destination.is_v4()) return "PROXY UNKNOWN\r\n";
  return std::string(source.is_v4() ? "PROXY TCP4 " : "PROXY TCP6 ")
      .append(host_of(source) + ' ' + host_of(destination) + ' ')
      .append(std::to_string(source.port()) + ' ' + std::to_string(destination.port()) + "\r\n");
}

std::string proxy_header_v2(const Address& source, const Address& destination, std::span<const ProxyHeader::Tlv> tlvs) {
  const bool known = source.is_v4() == destination.is_v4();
  std::string body;
  if (known) {
    body = bytes_of(source) + bytes_of(destination);
    append_number(body, source.port());
    append_number(body, destination.port());
  }
  for (const ProxyHeader::Tlv& each : tlvs) {
    BIGHT_CHECK(each.value.size() <= 0xffff, "an extension of a PROXY header has at most 65535 bytes");
    body.append(1, static_cast<char>(each.type));
    append_number(body, each.value.size());
    body.append(each.value);
  }
  BIGHT_CHECK(body.size() <= 0xffff, "a PROXY header has at most 65535 bytes");
  std::string header(kSignature);
  header.append(1, '\x21').append(1, static_cast<char>(!known ? 0x00 : source.is_v4() ? 0x11 : 0x21));
  append_number(header, body.size());
  return header + body;
}

}  // namespace bight::net
