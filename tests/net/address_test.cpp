// SPDX-License-Identifier: Apache-2.0
#include <bight/net/address.hpp>

#include <arpa/inet.h>
#include <net/if.h>
#include <sys/resource.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <system_error>
#include <unordered_set>
#include <vector>

#include <gtest/gtest.h>

#include "child.hpp"

namespace bight::net {
namespace {

TEST(AddressTest, PrintsWhatItParsed) {
  for (const std::string text :
       {"0.0.0.0:0", "192.0.2.1:80", "255.255.255.255:65535", "127.0.0.1:4711", "[::]:0", "[::1]:80",
        "[2001:db8::1]:443", "[2001:db8:1:2:3:4:5:6]:65535", "[::ffff:192.0.2.1]:80"}) {
    const auto address = Address::try_parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->to_string(), text);
    EXPECT_EQ(Address::parse(text), *address);
    EXPECT_EQ(Address::parse(address->host(), address->port()), *address);
    EXPECT_EQ(address->is_v6(), text.front() == '[');
    EXPECT_NE(address->is_v6(), address->is_v4());
  }
}

TEST(AddressTest, KnowsShortForms) {
  EXPECT_EQ(Address::parse("localhost:80").to_string(), "127.0.0.1:80");
  EXPECT_EQ(Address::parse("*:80").to_string(), "0.0.0.0:80");
  EXPECT_EQ(Address::parse(":80").to_string(), "0.0.0.0:80");
  EXPECT_EQ(Address::parse("[2001:DB8:0:0:0:0:0:1]:80").to_string(), "[2001:db8::1]:80");
}

using namespace std::string_view_literals;

// clang-format off
constexpr auto kNoAddresses = std::to_array<std::string_view>({
    "", ":", "80", "127.0.0.1", "127.0.0.1:", "127.0.0.1: 80", "127.0.0.1:80 ", " 127.0.0.1:80", "127.0.0.1:+80",
    "127.0.0.1:-1", "127.0.0.1:65536", "127.0.0.1:99999999999999999999", "127.0.0.1:080", "127.0.0.1:0x50",
    "127.0.0.1:http", "127.0.0:80", "127.0.0.0.1:80", "127.0.0.256:80", "127.0.0.01:80", "127.1:80", "2130706433:80",
    "0x7f.0.0.1:80", "example.org:80", "LOCALHOST:80", "**:80", "::1:80", "::1", "[::1]", "[::1]80", "[::1]:",
    "[::1]:65536", "[::1:80", "::1]:80", "[]:80", "[", "[]", "[:80", "]:80", "[::1]]:80", "[[::1]]:80",
    "[127.0.0.1]:80", "[localhost]:80", "[*]:80", "[1:2:3:4:5:6:7]:80", "[1:2:3:4:5:6:7:8:9]:80", "[::1::2]:80",
    "[12345::]:80", "[::g]:80", "[::1%]:80", "[fe80::1%no-such-interface]:80", "[fe80::1%0]:80",
    "[fe80::1%4294967296]:80", "[%lo]:80", "127.0.0.1%lo:80", "127.0.0.1\0:80"sv, "127.0.0.1:80\0"sv, "[::1\0]:80"sv,
    "tcp://127.0.0.1:80", "127.0.0.1:80/", "127.0.0.1:80,127.0.0.1:81", "\xff\xfe:80",
});
// clang-format on

TEST(AddressTest, RefusesEverythingElse) {
  for (const std::string_view text : kNoAddresses) {
    EXPECT_FALSE(Address::try_parse(text)) << text;
    EXPECT_THROW(static_cast<void>(Address::parse(text)), std::system_error) << text;
  }
  EXPECT_FALSE(Address::try_parse(std::string(1'000'000, '1') + ":80"));
  EXPECT_FALSE(Address::try_parse("[" + std::string(1'000'000, ':') + "]:80"));
  EXPECT_FALSE(Address::try_parse("[fe80::1%" + std::string(1'000'000, 'x') + "]:80"));
  EXPECT_FALSE(Address::try_parse("127.0.0.1:" + std::string(1'000'000, '1')));
}

TEST(AddressTest, TakesHostAndPortApart) {
  EXPECT_EQ(Address::parse("192.0.2.1", 80).to_string(), "192.0.2.1:80");
  EXPECT_EQ(Address::parse("::1", 80).to_string(), "[::1]:80");
  EXPECT_EQ(Address::parse("[::1]", 80).to_string(), "[::1]:80");
  EXPECT_EQ(Address::parse("localhost", 80).to_string(), "127.0.0.1:80");
  EXPECT_EQ(Address::parse("*", 80).to_string(), "0.0.0.0:80");
  EXPECT_EQ(Address::parse("", 80).to_string(), "0.0.0.0:80");
  for (const auto* host : {"example.org", "127.0.0.1:80", "[::1", "::1]", "[127.0.0.1]", "[]", "[", ":", " "}) {
    EXPECT_FALSE(Address::try_parse(host, 80)) << host;
  }
}

TEST(AddressTest, SaysWhatIsWrong) {
  const auto complaint = [](std::string_view text) -> std::string {
    try {
      static_cast<void>(Address::parse(text));
    } catch (const std::system_error& error) {
      EXPECT_EQ(error.code(), std::errc::invalid_argument);
      return error.what();
    }
    return "none";
  };
  EXPECT_EQ(complaint("127.0.0.1"), "address \"127.0.0.1\": the port is missing: Invalid argument");
  EXPECT_EQ(complaint("127.0.0.1:http"),
            "address \"127.0.0.1:http\": the port is not a number from 0 to 65535: Invalid argument");
  EXPECT_EQ(complaint("::1:80"),
            "address \"::1:80\": an IPv6 address goes in brackets when a port follows: Invalid argument");
  EXPECT_EQ(complaint("example.org:80"),
            "address \"example.org:80\": not an IPv4 or IPv6 address (names are not looked up here): Invalid argument");
  EXPECT_EQ(complaint("[fe80::1%none]:80"),
            "address \"[fe80::1%none]:80\": there is no such interface: Invalid argument");
  // What goes into a log from outside is harmless there.
  EXPECT_EQ(complaint("a\nb\x1b:80").find_first_of("\n\x1b"), std::string::npos);
  EXPECT_LT(complaint(std::string(1'000'000, 'x')).size(), 250U);
}

TEST(AddressTest, ScopesAreInterfaces) {
  const unsigned index = ::if_nametoindex("lo");
  if (index == 0) GTEST_SKIP() << "there is no interface called lo";
  const Address by_name = Address::parse("[fe80::1%lo]:80");
  EXPECT_EQ(by_name, Address::parse("[fe80::1%" + std::to_string(index) + "]:80"));
  EXPECT_EQ(by_name.to_string(), "[fe80::1%lo]:80");
  EXPECT_EQ(by_name.host(), "fe80::1%lo");
  EXPECT_NE(by_name, Address::parse("[fe80::1]:80"));
  // An interface without a name, because there is none with that number.
  EXPECT_EQ(Address::parse("[fe80::1%4294967295]:80").to_string(), "[fe80::1%4294967295]:80");
}

// Looking an interface up takes a descriptor, and that there is none says nothing about the interface.
TEST(AddressTest, ScopesThatCanNotBeLookedUp) {
  if (::if_nametoindex("lo") == 0) GTEST_SKIP() << "there is no interface called lo";
  const test::Ended ended = test::in_child([] {
    const ::rlimit none{0, 0};
    ::setrlimit(RLIMIT_NOFILE, &none);
    static_cast<void>(Address::parse("[fe80::1%lo]:80"));
    return 0;
  });
  EXPECT_TRUE(ended.says("its interface could not be looked up")) << test::describe(ended);
}

TEST(AddressTest, ClassifiesAddresses) {
  EXPECT_TRUE(Address::parse("127.1.2.3:1").is_loopback());
  EXPECT_TRUE(Address::parse("[::1]:1").is_loopback());
  EXPECT_TRUE(Address::parse("[::ffff:127.0.0.1]:1").is_loopback());
  EXPECT_FALSE(Address::parse("128.0.0.1:1").is_loopback());
  EXPECT_FALSE(Address::parse("[::2]:1").is_loopback());
  EXPECT_FALSE(Address::parse("[::ffff:10.0.0.1]:1").is_loopback());
  EXPECT_TRUE(Address().is_unspecified());
  EXPECT_TRUE(Address::any_v4(80).is_unspecified());
  EXPECT_TRUE(Address::any_v6(80).is_unspecified());
  EXPECT_FALSE(Address::loopback_v4(80).is_unspecified());
  EXPECT_FALSE(Address::loopback_v6(80).is_unspecified());
  EXPECT_EQ(Address().to_string(), "0.0.0.0:0");
  EXPECT_EQ(Address::any_v6(80).to_string(), "[::]:80");
  EXPECT_EQ(Address::loopback_v4(80).to_string(), "127.0.0.1:80");
  EXPECT_EQ(Address::loopback_v6(80).with_port(81).to_string(), "[::1]:81");
  EXPECT_EQ(Address::loopback_v4(80).family(), AF_INET);
  EXPECT_EQ(Address::loopback_v6(80).family(), AF_INET6);
}

TEST(AddressTest, GoesToTheSystemAndBack) {
  for (const auto* text : {"192.0.2.1:80", "[2001:db8::1]:443"}) {
    const Address address = Address::parse(text);
    EXPECT_EQ(Address::from_native(address.native(), address.native_size()), address);
    EXPECT_EQ(Address::from_native(address.native(), address.native_size() - 1), Address()) << "cut short";
  }
  ::sockaddr_in v4{};
  std::memcpy(&v4, Address::parse("192.0.2.1:80").native(), sizeof v4);
  EXPECT_EQ(v4.sin_family, AF_INET);
  EXPECT_EQ(v4.sin_port, htons(80));
  EXPECT_EQ(v4.sin_addr.s_addr, htonl(0xc0000201));

  ::sockaddr_un other{};
  other.sun_family = AF_UNIX;
  EXPECT_EQ(Address::from_native(reinterpret_cast<const ::sockaddr*>(&other), sizeof other), Address());
  EXPECT_EQ(Address::from_native(nullptr, 0), Address());
  EXPECT_EQ(Address::from_native(reinterpret_cast<const ::sockaddr*>(&other), 0), Address());
}

TEST(AddressTest, IsOrdered) {
  std::vector<Address> sorted;
  for (const auto* text : {"0.0.0.0:0", "9.0.0.0:2", "10.0.0.0:1", "10.0.0.0:2", "255.0.0.0:0", "[::]:0", "[::1]:80",
                           "[::1]:81", "[fe80::1]:80", "[fe80::1%1]:80", "[fe80::1%2]:80", "[fe80::1]:81"}) {
    sorted.push_back(Address::parse(text));
  }
  std::sort(sorted.begin(), sorted.end());
  const std::vector<Address> in_order = sorted;
  std::mt19937 random(1);  // NOLINT(bugprone-random-generator-seed): the same every time
  std::shuffle(sorted.begin(), sorted.end(), random);
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(sorted, in_order);
  EXPECT_EQ(std::set<Address>(sorted.begin(), sorted.end()).size(), sorted.size());
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    for (std::size_t j = 0; j < sorted.size(); ++j) {
      EXPECT_EQ(sorted[i] < sorted[j], i < j);
      EXPECT_EQ(sorted[i] == sorted[j], i == j);
    }
  }
  EXPECT_LT(Address::parse("9.0.0.0:2"), Address::parse("10.0.0.0:1")) << "as numbers, not as bytes of this machine";
  EXPECT_LT(Address::parse("[::1]:2"), Address::parse("[::1]:256"));
}

TEST(AddressTest, HashesSpread) {
  const std::hash<Address> hash;
  EXPECT_EQ(hash(Address::parse("[::1]:80")), hash(Address::loopback_v6(80)));
  std::unordered_set<Address> all;
  std::set<std::size_t> low_bits;
  constexpr std::uint16_t kPorts = 4096;
  for (std::uint16_t port = 0; port < kPorts; ++port) {
    for (const Address& each : {Address::loopback_v4(port), Address::loopback_v6(port)}) {
      all.insert(each);
      low_bits.insert(hash(each) % (std::size_t{1} << 16U));
    }
  }
  EXPECT_EQ(all.size(), 2U * kPorts);
  EXPECT_GT(low_bits.size(), 7'000U);  // 7,700 of 8,192 by chance
}

TEST(AddressTest, RandomOnesSurviveTheRoundTrip) {
  std::mt19937_64 random(7);  // NOLINT(bugprone-random-generator-seed): the same every time
  for (int i = 0; i < 20'000; ++i) {
    ::sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = static_cast<in_port_t>(random());
    for (auto& each : v6.sin6_addr.s6_addr) each = random() % 3 == 0 ? 0 : static_cast<std::uint8_t>(random());
    const Address address = Address::from_native(reinterpret_cast<const ::sockaddr*>(&v6), sizeof v6);
    ASSERT_EQ(Address::parse(address.to_string()), address) << address.to_string();

    ::sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = static_cast<in_port_t>(random());
    v4.sin_addr.s_addr = static_cast<in_addr_t>(random());
    const Address other = Address::from_native(reinterpret_cast<const ::sockaddr*>(&v4), sizeof v4);
    ASSERT_EQ(Address::parse(other.to_string()), other) << other.to_string();
  }
}

TEST(AddressTest, NoiseIsHarmless) {
  std::mt19937_64 random(11);  // NOLINT(bugprone-random-generator-seed): the same every time
  constexpr std::string_view kLetters = "0123456789abcdef:.[]%*lo ";
  for (int i = 0; i < 200'000; ++i) {
    std::string text(random() % 24, ' ');
    for (char& each : text) each = kLetters[random() % kLetters.size()];
    if (const auto address = Address::try_parse(text)) {
      EXPECT_EQ(Address::parse(address->to_string()), *address) << text;
    }
  }
}

}  // namespace
}  // namespace bight::net
