// SPDX-License-Identifier: Apache-2.0
#include <bight/net/address.hpp>

#include <arpa/inet.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <system_error>

namespace bight::net {
namespace {

/// What is wrong with a text, for people; null: nothing. Both try_parse and parse go by it, so they can not disagree.
using Complaint = const char*;

constexpr std::size_t kHostMax = INET6_ADDRSTRLEN + IF_NAMESIZE;

/// A string for interfaces that want a zero at its end.
class ZeroEnded {
 public:
  /// Empty if `text` is too long or holds a zero itself; neither is ever an address.
  explicit ZeroEnded(std::string_view text) noexcept {
    if (text.size() < sizeof text_ && text.find('\0') == std::string_view::npos) text.copy(text_, text.size());
  }
  [[nodiscard]] const char* get() const noexcept { return text_; }

 private:
  char text_[kHostMax + 1] = {};
};

constexpr bool all_digits(std::string_view text) noexcept {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// Decimal, without a sign, spaces or zeros in front.
template <class Number>
bool parse_number(std::string_view text, Number& number) noexcept {
  if (!all_digits(text) || (text.size() > 1 && text.front() == '0')) return false;
  return std::from_chars(text.data(), text.data() + text.size(), number).ec == std::errc();
}

Complaint parse_scope(std::string_view text, std::uint32_t& scope) noexcept {
  if (all_digits(text))
    return parse_number(text, scope) && scope != 0 ? nullptr : "the number of an interface is wrong";
  scope = ::if_nametoindex(ZeroEnded(text).get());
  if (scope != 0) return nullptr;
  // It takes a descriptor to find out.
  return errno == ENODEV || errno == ENXIO ? "there is no such interface" : "its interface could not be looked up";
}

Complaint parse_v6(std::string_view host, std::uint16_t port, Address& address) noexcept {
  ::sockaddr_in6 native{};
  native.sin6_family = AF_INET6;
  native.sin6_port = htons(port);
  const std::size_t percent = host.find('%');
  if (::inet_pton(AF_INET6, ZeroEnded(host.substr(0, percent)).get(), &native.sin6_addr) != 1)
    return "not an IPv6 address";
  if (percent != std::string_view::npos) {
    if (const Complaint complaint = parse_scope(host.substr(percent + 1), native.sin6_scope_id)) return complaint;
  }
  address = Address::from_native(reinterpret_cast<const ::sockaddr*>(&native), sizeof native);
  return nullptr;
}

Complaint parse_host(std::string_view host, std::uint16_t port, Address& address) noexcept {
  if (host.empty() || host == "*") {
    address = Address::any_v4(port);
    return nullptr;
  }
  if (host == "localhost") {
    address = Address::loopback_v4(port);
    return nullptr;
  }
  if (host.size() > 1 && host.front() == '[' && host.back() == ']') {
    return parse_v6(host.substr(1, host.size() - 2), port, address);
  }
  if (host.find(':') != std::string_view::npos) return parse_v6(host, port, address);
  ::sockaddr_in native{};
  native.sin_family = AF_INET;
  native.sin_port = htons(port);
  if (::inet_pton(AF_INET, ZeroEnded(host).get(), &native.sin_addr) != 1) {
    return "not an IPv4 or IPv6 address (names are not looked up here)";
  }
  address = Address::from_native(reinterpret_cast<const ::sockaddr*>(&native), sizeof native);
  return nullptr;
}

Complaint parse_both(std::string_view text, Address& address) noexcept {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return "the port is missing";
  const std::string_view host = text.substr(0, colon);
  if (!host.empty() && host.front() == '[') {
    if (host.back() != ']') return "behind an address in brackets comes a colon and the port";
  } else if (host.find(':') != std::string_view::npos) {
    return "an IPv6 address goes in brackets when a port follows";
  }
  std::uint16_t port = 0;
  if (!parse_number(text.substr(colon + 1), port)) return "the port is not a number from 0 to 65535";
  return parse_host(host, port, address);
}

[[noreturn]] void reject(std::string_view text, Complaint complaint) {
  constexpr std::size_t kShown = 100;  // it may come from anywhere, and goes into logs
  std::string what = "address \"";
  for (const char c : text.substr(0, kShown)) what += c >= ' ' && c != '\x7f' ? c : '?';
  what.append(text.size() > kShown ? "...\": " : "\": ").append(complaint);
  throw std::system_error(std::make_error_code(std::errc::invalid_argument), what);
}

}  // namespace

Address::Address() noexcept : storage_{.v6 = {}} {
  storage_.v4 = {};
  storage_.v4.sin_family = AF_INET;
}

std::optional<Address> Address::try_parse(std::string_view text) noexcept {
  Address address;
  return parse_both(text, address) == nullptr ? std::optional(address) : std::nullopt;
}

Address Address::parse(std::string_view text) {
  Address address;
  if (const Complaint complaint = parse_both(text, address)) reject(text, complaint);
  return address;
}

std::optional<Address> Address::try_parse(std::string_view host, std::uint16_t port) noexcept {
  Address address;
  return parse_host(host, port, address) == nullptr ? std::optional(address) : std::nullopt;
}

Address Address::parse(std::string_view host, std::uint16_t port) {
  Address address;
  if (const Complaint complaint = parse_host(host, port, address)) reject(host, complaint);
  return address;
}

Address Address::any_v4(std::uint16_t port) noexcept { return Address().with_port(port); }

Address Address::any_v6(std::uint16_t port) noexcept {
  Address address;
  address.storage_.v6 = {};
  address.storage_.v6.sin6_family = AF_INET6;
  return address.with_port(port);
}

Address Address::loopback_v4(std::uint16_t port) noexcept {
  Address address = any_v4(port);
  address.storage_.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

Address Address::loopback_v6(std::uint16_t port) noexcept {
  Address address = any_v6(port);
  address.storage_.v6.sin6_addr = IN6ADDR_LOOPBACK_INIT;
  return address;
}

Address Address::from_native(const ::sockaddr* address, ::socklen_t length) noexcept {
  Address result;
  if (address == nullptr || length < sizeof address->sa_family) return result;
  if (address->sa_family == AF_INET && length >= sizeof(::sockaddr_in)) {
    ::sockaddr_in native;
    std::memcpy(&native, address, sizeof native);
    result.storage_.v4.sin_port = native.sin_port;
    result.storage_.v4.sin_addr = native.sin_addr;
  } else if (address->sa_family == AF_INET6 && length >= sizeof(::sockaddr_in6)) {
    ::sockaddr_in6 native;
    std::memcpy(&native, address, sizeof native);
    native.sin6_flowinfo = 0;  // of one packet rather than of an address
    result.storage_.v6 = native;
  }
  return result;
}

bool Address::is_loopback() const noexcept {
  constexpr std::uint32_t kLoopbackNet = 127;
  if (is_v4()) return ntohl(storage_.v4.sin_addr.s_addr) >> 24U == kLoopbackNet;
  const ::in6_addr& address = storage_.v6.sin6_addr;
  return IN6_IS_ADDR_LOOPBACK(&address) || (IN6_IS_ADDR_V4MAPPED(&address) && address.s6_addr[12] == kLoopbackNet);
}

bool Address::is_unspecified() const noexcept {
  if (is_v4()) return storage_.v4.sin_addr.s_addr == INADDR_ANY;
  return IN6_IS_ADDR_UNSPECIFIED(&storage_.v6.sin6_addr);
}

std::uint16_t Address::port() const noexcept { return ntohs(is_v4() ? storage_.v4.sin_port : storage_.v6.sin6_port); }

Address Address::with_port(std::uint16_t port) const noexcept {
  Address result = *this;
  (is_v4() ? result.storage_.v4.sin_port : result.storage_.v6.sin6_port) = htons(port);
  return result;
}

std::string Address::to_string() const {
  std::string text = is_v4() ? host() : '[' + host() + ']';
  return text.append(1, ':').append(std::to_string(port()));
}

std::string Address::host() const {
  char text[INET6_ADDRSTRLEN] = {};
  if (is_v4()) {
    ::inet_ntop(AF_INET, &storage_.v4.sin_addr, text, sizeof text);
    return text;
  }
  ::inet_ntop(AF_INET6, &storage_.v6.sin6_addr, text, sizeof text);
  const std::uint32_t scope = storage_.v6.sin6_scope_id;
  if (scope == 0) return text;
  char name[IF_NAMESIZE] = {};
  std::string host = text;
  return host.append(1, '%').append(::if_indextoname(scope, name) != nullptr ? name : std::to_string(scope));
}

::socklen_t Address::native_size() const noexcept { return is_v4() ? sizeof storage_.v4 : sizeof storage_.v6; }

bool operator==(const Address& a, const Address& b) noexcept { return std::is_eq(a <=> b); }

std::strong_ordering operator<=>(const Address& a, const Address& b) noexcept {
  if (a.is_v4() != b.is_v4()) return a.is_v4() ? std::strong_ordering::less : std::strong_ordering::greater;
  if (a.is_v4()) {
    const auto by_address = ntohl(a.storage_.v4.sin_addr.s_addr) <=> ntohl(b.storage_.v4.sin_addr.s_addr);
    return std::is_neq(by_address) ? by_address : a.port() <=> b.port();
  }
  const ::sockaddr_in6& x = a.storage_.v6;
  const ::sockaddr_in6& y = b.storage_.v6;
  const auto by_address = std::memcmp(&x.sin6_addr, &y.sin6_addr, sizeof x.sin6_addr) <=> 0;
  if (std::is_neq(by_address)) return by_address;
  const auto by_port = a.port() <=> b.port();
  return std::is_neq(by_port) ? by_port : x.sin6_scope_id <=> y.sin6_scope_id;
}

}  // namespace bight::net

std::size_t std::hash<bight::net::Address>::operator()(const bight::net::Address& address) const noexcept {
  // The same for the same address in every run, so that what is replayed from a seed stays the same.
  constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15;  // 2^64 over the golden ratio
  std::uint64_t mixed = address.port();
  const auto mix = [&mixed](std::uint64_t word) {
    mixed = (mixed ^ word) * kOdd;
    mixed ^= mixed >> 29U;
  };
  if (address.is_v4()) {
    ::sockaddr_in native;
    std::memcpy(&native, address.native(), sizeof native);
    mix(native.sin_addr.s_addr);
  } else {
    ::sockaddr_in6 native;
    std::memcpy(&native, address.native(), sizeof native);
    std::uint64_t words[2];
    std::memcpy(words, &native.sin6_addr, sizeof words);
    mix(words[0]);
    mix(words[1]);
    mix(native.sin6_scope_id);
  }
  mix(0);
  return static_cast<std::size_t>(mixed);
}
