// SPDX-License-Identifier: Apache-2.0

#include <bight/net/proxy_protocol.hpp>

#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace bight::net {
namespace {

/// Feeds as much as is wanted at a time. Returns how much that was in all.
std::size_t feed_all(ProxyParser& parser, std::string_view text, std::size_t at_once = 1000) {
  std::size_t fed = 0;
  while (const std::size_t wanted = std::min({parser.wanted(), text.size() - fed, at_once})) {
    parser.feed(std::as_bytes(std::span(text)).subspan(fed, wanted));
    fed += wanted;
  }
  return fed;
}

const Address kFrom4 = Address::parse("192.0.2.1:1234");
const Address kTo4 = Address::parse("198.51.100.255:65535");
const Address kFrom6 = Address::parse("[2001:db8::1]:1");
const Address kTo6 = Address::parse("[2001:db8::ffff]:443");

TEST(ProxyProtocolHeader, IsReadAsItIsWritten) {
  for (const std::string& header : {proxy_header_v1(kFrom4, kTo4), proxy_header_v2(kFrom4, kTo4),
                                    proxy_header_v1(kFrom6, kTo6), proxy_header_v2(kFrom6, kTo6)}) {
    for (const std::size_t at_once : {1U, 7U, 1000U}) {
      ProxyParser parser;
      EXPECT_EQ(feed_all(parser, header + "and more", at_once), header.size());
      ASSERT_EQ(parser.complaint(), nullptr);
      EXPECT_EQ(parser.wanted(), 0U);
      EXPECT_EQ(parser.header().source, header.size() == 0 || parser.header().source->is_v4() ? kFrom4 : kFrom6);
      EXPECT_EQ(parser.header().destination, parser.header().source->is_v4() ? kTo4 : kTo6);
      EXPECT_EQ(parser.header().version, header.front() == 'P' ? 1 : 2);
    }
  }
}

TEST(ProxyProtocolHeader, NeverWantsMoreThanThereIs) {
  for (const std::string_view line : {"PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
                                      "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", "PROXY TCP6 :: :: 0 0\r\n"}) {
    ProxyParser parser;
    std::string stream = std::string(line) + "data";
    EXPECT_EQ(feed_all(parser, stream), line.size()) << line;
    EXPECT_EQ(parser.complaint(), nullptr) << line;
  }
}

TEST(ProxyProtocolHeader, ExtensionsAreKept) {
  const std::vector<ProxyHeader::Tlv> tlvs{{0x02, "example.org"}, {0x01, "h2"}, {0xea, ""}};
  ProxyParser parser;
  feed_all(parser, proxy_header_v2(kFrom4, kTo4, tlvs));
  ASSERT_EQ(parser.complaint(), nullptr);
  ASSERT_EQ(parser.header().tlvs.size(), 3U);
  EXPECT_EQ(parser.header().find(0x02)->value, "example.org");
  EXPECT_EQ(parser.header().find(0x42), nullptr);
}

TEST(ProxyProtocolHeader, AChecksumIsChecked) {
  // CRC-32C of the header with zeros in its place, reckoned by another program.
  std::string header = proxy_header_v2(kFrom4, kTo4, std::vector<ProxyHeader::Tlv>{{0x03, std::string(4, '\0')}});
  ProxyParser wrong;
  feed_all(wrong, header);
  EXPECT_STREQ(wrong.complaint(), "the checksum is wrong");
  ProxyParser short_one;
  feed_all(short_one, proxy_header_v2(kFrom4, kTo4, std::vector<ProxyHeader::Tlv>{{0x03, "abc"}}));
  EXPECT_STREQ(short_one.complaint(), "the checksum is wrong");
  header.replace(header.size() - 4, 4, "\x9b\xf8\x84\x78");
  ProxyParser right;
  feed_all(right, header);
  EXPECT_EQ(right.complaint(), nullptr);
}

TEST(ProxyProtocolHeader, AProxysOwnConnectionHasNoAddresses) {
  std::string header = proxy_header_v2(kFrom4, kTo4);
  header[12] = '\x20';
  ProxyParser parser;
  feed_all(parser, header);
  ASSERT_EQ(parser.complaint(), nullptr);
  EXPECT_FALSE(parser.header().source);
  ProxyParser unknown;
  feed_all(unknown, proxy_header_v2(kFrom4, kTo6));
  ASSERT_EQ(unknown.complaint(), nullptr);
  EXPECT_FALSE(unknown.header().source);
  EXPECT_EQ(proxy_header_v1(kFrom4, kTo6), "PROXY UNKNOWN\r\n");
}

TEST(ProxyProtocolHeader, OtherThingsAreRefused) {
  const std::string v2 = proxy_header_v2(kFrom4, kTo4);
  const auto with = [&](std::size_t at, char byte) {
    std::string text = v2;
    text[at] = byte;
    return text;
  };
  for (const std::string& text : std::vector<std::string>{"GET / HTTP/1.1\r\n",
                                                          "PROXX TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
                                                          "PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n",
                                                          "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
                                                          "PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
                                                          "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
                                                          "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
                                                          "PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n",
                                                          "PROXY TCP4 ::1 ::2 1 2\r\n",
                                                          "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
                                                          "PROXY TCP4 localhost 2.2.2.2 1 2\r\n",
                                                          "PROXY TCP4 1.1.1.1 2.2.2.2 1 -2\r\n",
                                                          "PROXY TCP6 fe80::1%lo fe80::2 1 2\r\n",
                                                          "PROXY UNKNOWNX\r\n",
                                                          "PROXY UNKNOWN " + std::string(100, 'x'),
                                                          "PROXY TCP4 " + std::string(100, ' '),
                                                          with(0, 'x'),
                                                          with(12, '\x31'),
                                                          with(12, '\x22'),
                                                          with(13, '\x41'),
                                                          with(13, '\x13'),
                                                          with(15, '\x0b'),
                                                          with(14, '\x7f')}) {
    ProxyParser parser;
    feed_all(parser, text);
    EXPECT_NE(parser.complaint(), nullptr) << text;
    EXPECT_EQ(parser.wanted(), 0U);
  }
}

}  // namespace
}  // namespace bight::net
