// SPDX-License-Identifier: Apache-2.0
// The resolver's parts that need no loop.
#include <algorithm>
#include <deque>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dns/answer.hpp"
#include "dns/cache.hpp"
#include "dns/config.hpp"
#include "dns/name.hpp"
#include "dns/order.hpp"
#include "dns_server.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::Address;
using net::DnsError;
using net::ResolverOptions;
using net::detail::DnsAnswer;
using net::detail::DnsCache;
using net::detail::DnsConfig;
using net::detail::NameKind;
using net::detail::RecordType;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

Address at(const char* host) { return Address::parse(host, 0); }

// --- Names -----------------------------------------------------------------------------------------------------------

TEST(DnsNameTest, IsLowerCaseWithoutItsLastDot) {
  std::error_code error;
  const auto name = net::detail::parse_name("WWW.Example.COM.", NameKind::host, error);
  EXPECT_FALSE(error);
  EXPECT_EQ(name.text, "www.example.com");
  EXPECT_TRUE(name.full);
  EXPECT_FALSE(net::detail::parse_name("_sip._tcp.example", NameKind::host, error).full);
  EXPECT_FALSE(error);
  EXPECT_EQ(net::detail::parse_name("Our Printer._ipp._tcp.local", NameKind::any, error).text,
            "our printer._ipp._tcp.local");
  EXPECT_FALSE(error);
}

TEST(DnsNameTest, OfAnAddress) {
  EXPECT_EQ(net::detail::reverse_name(at("192.0.2.17")), "17.2.0.192.in-addr.arpa");
  EXPECT_EQ(net::detail::reverse_name(at("2001:db8::567:89ab")),
            "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
}

TEST(DnsNameTest, Within) {
  EXPECT_TRUE(net::detail::is_within("localhost", "localhost"));
  EXPECT_TRUE(net::detail::is_within("a.localhost", "localhost"));
  EXPECT_FALSE(net::detail::is_within("notlocalhost", "localhost"));
  EXPECT_FALSE(net::detail::is_within("localhost.example", "localhost"));
}

// --- Files -----------------------------------------------------------------------------------------------------------

TEST(DnsConfigTest, ReadsResolvConf) {
  const DnsConfig config = net::detail::make_config({}, R"(# a comment
nameserver 192.0.2.1
nameserver  2001:db8::1   ; another
nameserver not-an-address
nameserver
domain forgotten.example
search one.example  Two.Example bad..name
options ndots:3 attempts:4 timeout:2 rotate use-vc no-such-option ndots:x
bogus line
)");
  EXPECT_THAT(config.servers, ElementsAre(Address::parse("192.0.2.1:53"), Address::parse("[2001:db8::1]:53")));
  EXPECT_THAT(config.search, ElementsAre("one.example", "two.example"));
  EXPECT_EQ(config.ndots, 3U);
  EXPECT_EQ(config.tries, 4U);
  EXPECT_EQ(config.timeout, 2s);
  EXPECT_TRUE(config.rotate);
  EXPECT_TRUE(config.use_tcp);
}

TEST(DnsConfigTest, HasDefaultsAndLimits) {
  const DnsConfig config = net::detail::make_config({}, "");
  EXPECT_THAT(config.servers, ElementsAre(Address::parse("127.0.0.1:53")));
  EXPECT_THAT(config.search, IsEmpty());
  EXPECT_EQ(config.timeout, 2s);
  EXPECT_EQ(config.tries, 3U);
  std::string many = "options ndots:99999999999 attempts:99 timeout:9999 ndots:99\nsearch a b c d e f g h i j\n";
  for (int i = 0; i < 50; ++i) many += "nameserver 192.0.2." + std::to_string(i) + '\n';
  const DnsConfig limited = net::detail::make_config({}, many);
  EXPECT_EQ(limited.servers.size(), 8U);
  EXPECT_EQ(limited.search.size(), 6U);
  EXPECT_EQ(limited.ndots, 15U);
  EXPECT_EQ(limited.tries, 10U);
  EXPECT_EQ(limited.timeout, 60s);
}

TEST(DnsConfigTest, OptionsComeFirst) {
  ResolverOptions options;
  options.servers = {Address::parse("127.0.0.1:5353")};
  options.search.emplace();
  options.tries = 7;
  options.timeout = 10ms;
  const DnsConfig config = net::detail::make_config(options, "nameserver 192.0.2.1\nsearch x\noptions attempts:4\n");
  EXPECT_THAT(config.servers, ElementsAre(Address::parse("127.0.0.1:5353")));
  EXPECT_THAT(config.search, IsEmpty());
  EXPECT_EQ(config.tries, 7U);
  EXPECT_EQ(config.timeout, 10ms);
}

TEST(HostsTest, Reads) {
  const net::detail::Hosts hosts(
      "127.0.0.1\tlocalhost\n::1 localhost ip6-localhost\n\n  # nothing\n10.0.0.1 a.B a a\r\n");
  ASSERT_NE(hosts.find("localhost"), nullptr);
  EXPECT_THAT(hosts.find("localhost")->addresses, ElementsAre(at("127.0.0.1"), at("::1")));
  EXPECT_EQ(hosts.find("a")->canonical_name, "a.b");
  EXPECT_EQ(hosts.find("nobody"), nullptr);
  EXPECT_THAT(hosts.names_of(Address::parse("10.0.0.1:80")), ElementsAre("a.B", "a"));
}

// --- The cache -------------------------------------------------------------------------------------------------------

std::shared_ptr<const DnsAnswer> some_answer() { return std::make_shared<DnsAnswer>(); }

TEST(DnsCacheTest, DropsWhatIsPastItsTime) {
  DnsCache cache(10, {1, 2});
  const TimePoint start{1s};
  cache.put(cache.key_of("a", 1), some_answer(), start + 10s);
  EXPECT_NE(cache.find(cache.key_of("a", 1), start + 9s), nullptr);
  EXPECT_EQ(cache.find(cache.key_of("a", 28), start), nullptr);
  EXPECT_EQ(cache.find(cache.key_of("a", 1), start + 10s), nullptr);
  EXPECT_EQ(cache.size(), 0U);
}

TEST(DnsCacheTest, DropsWhatWasNotUsedForLongest) {
  DnsCache cache(3, {1, 2});
  const TimePoint start{1s};
  for (const char* name : {"a", "b", "c"}) cache.put(cache.key_of(name, 1), some_answer(), start + 10s);
  EXPECT_NE(cache.find(cache.key_of("a", 1), start), nullptr);
  cache.put(cache.key_of("d", 1), some_answer(), start + 10s);
  EXPECT_EQ(cache.find(cache.key_of("b", 1), start), nullptr);
  EXPECT_NE(cache.find(cache.key_of("a", 1), start), nullptr);
  cache.put(cache.key_of("a", 1), some_answer(), start + 20s);
  EXPECT_EQ(cache.size(), 3U);
  EXPECT_NE(cache.find(cache.key_of("a", 1), start + 15s), nullptr);
}

TEST(DnsCacheTest, FindsWhatIsThereWhateverComesAndGoes) {
  constexpr std::size_t kMost = 100;
  DnsCache cache(kMost, {1, 2});
  const TimePoint start{1s};
  std::deque<std::pair<std::string, std::shared_ptr<const DnsAnswer>>> model;  // the last one used last
  std::mt19937 random(4711);
  for (int i = 0; i < 20'000; ++i) {
    const std::string name = std::to_string(random() % 300);
    const auto known = std::find_if(model.begin(), model.end(), [&](const auto& each) { return each.first == name; });
    const std::shared_ptr<const DnsAnswer> found = cache.find(cache.key_of(name, 1), start);
    ASSERT_EQ(found, known != model.end() ? known->second : nullptr) << name << " in step " << i;
    if (known != model.end()) model.erase(known);
    auto answer = std::make_shared<DnsAnswer>();
    answer->name = i % 2 == 0 ? name : "an alias";
    if (i % 3 != 0 && found != nullptr) {
      model.emplace_back(name, found);
      continue;
    }
    cache.put(cache.key_of(name, 1), answer, start + 10s);
    model.emplace_back(name, answer);
    if (model.size() > kMost) model.pop_front();
    ASSERT_EQ(cache.size(), model.size());
  }
}

TEST(DnsCacheTest, HashesAsSipHashDoes) {
  // Appendix A of the paper.
  std::string text;
  for (char c = 0; c < 15; ++c) text += c;
  EXPECT_EQ(net::detail::sip_hash({0x0706050403020100, 0x0f0e0d0c0b0a0908}, text), 0xa129ca6149be45e5U);
}

// --- Order: the examples of RFC 6724, section 10.2 -------------------------------------------------------------------

std::vector<std::string> sorted(std::vector<net::detail::Destination> destinations) {
  net::detail::sort_destinations(destinations);
  std::vector<std::string> result;
  for (const auto& each : destinations) result.push_back(each.address.host());
  return result;
}

TEST(DnsOrderTest, ExamplesOfTheStandard) {
  EXPECT_THAT(sorted({{at("198.51.100.121"), at("169.254.13.78")}, {at("2001:db8:1::1"), at("2001:db8:1::2")}}),
              ElementsAre("2001:db8:1::1", "198.51.100.121"));
  EXPECT_THAT(sorted({{at("2001:db8:1::1"), at("fe80::1")}, {at("198.51.100.121"), at("198.51.100.117")}}),
              ElementsAre("198.51.100.121", "2001:db8:1::1"));
  EXPECT_THAT(sorted({{at("10.1.2.3"), at("10.1.2.4")}, {at("2001:db8:1::1"), at("2001:db8:1::2")}}),
              ElementsAre("2001:db8:1::1", "10.1.2.3"));
  EXPECT_THAT(sorted({{at("2001:db8:1::1"), at("2001:db8:1::2")}, {at("fe80::1"), at("fe80::2")}}),
              ElementsAre("fe80::1", "2001:db8:1::1"));
  EXPECT_THAT(
      sorted({{at("2001:db8:1::1"), at("2002:c633:6401::2")}, {at("2002:c633:6401::1"), at("2002:c633:6401::2")}}),
      ElementsAre("2002:c633:6401::1", "2001:db8:1::1"));
}

TEST(DnsOrderTest, ThereIsNoWayToGoesLast) {
  EXPECT_THAT(sorted({{at("2001:db8::1"), std::nullopt}, {at("192.0.2.1"), at("192.0.2.2")}}),
              ElementsAre("192.0.2.1", "2001:db8::1"));
}

TEST(DnsOrderTest, EqualsStayAsTheyWere) {
  EXPECT_THAT(sorted({{at("192.0.2.9"), at("192.0.2.2")}, {at("192.0.2.3"), at("192.0.2.2")}}),
              ElementsAre("192.0.2.9", "192.0.2.3"));
  EXPECT_THAT(sorted({{at("2001:db8:5::1"), at("2001:db8::2")}, {at("2001:db8::7"), at("2001:db8::2")}}),
              ElementsAre("2001:db8::7", "2001:db8:5::1"))
      << "but for the longer common prefix";
}

// --- Messages --------------------------------------------------------------------------------------------------------

Packet encode_query(const std::string& name, RecordType type, std::uint16_t id, int udp_size) {
  const net::detail::EncodedQuery query(name, type, id, udp_size);
  return {query.view().begin(), query.view().end()};
}

class DnsMessageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (net::default_resolver_backend() != net::ResolverBackend::dns) GTEST_SKIP() << "a build without c-ares";
  }
};

TEST_F(DnsMessageTest, Queries) {
  const Packet query = encode_query("www.example.com", RecordType::a, 0x1234, 1232);
  const DnsQuestion question = DnsServer::parse(query);
  EXPECT_EQ(question.name, "www.example.com");
  EXPECT_EQ(question.type, kA);
  EXPECT_TRUE(question.edns);
  EXPECT_EQ(net::detail::id_of(query), 0x1234);
  const Packet bare = net::detail::without_opt(query);
  EXPECT_EQ(bare.size(), net::detail::end_of_question(query));
  EXPECT_THAT(net::detail::without_opt(bare), IsEmpty());
  EXPECT_TRUE(net::detail::is_reply_to(net::detail::failure_reply(query), query));
  EXPECT_FALSE(net::detail::is_reply_to(query, query));
  EXPECT_THAT(encode_query(std::string(300, 'a'), RecordType::a, 1, 0), IsEmpty());
}

/// Whatever is cut off or changed, it is read to its end and no further (a sanitizer's to see), and judged.
TEST_F(DnsMessageTest, CutAndChangedReplies) {
  DnsQuestion question = DnsServer::parse(encode_query("www.example.com", RecordType::a, 7, 0));
  const Packet whole =
      DnsReply(question).cname("b.example.com").a("192.0.2.1", 60, "b.example.com").soa("example.com", 9, 9).take();
  std::error_code error;
  DnsAnswer answer = net::detail::parse_answer(whole, "www.example.com", RecordType::a, error);
  EXPECT_FALSE(error);
  EXPECT_THAT(answer.addresses, ElementsAre(at("192.0.2.1")));
  EXPECT_EQ(answer.name, "b.example.com");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const Packet cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    static_cast<void>(net::detail::parse_answer(cut, "www.example.com", RecordType::a, error));
  }
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const unsigned char value : {0x00, 0x01, 0x3f, 0x40, 0x7f, 0xc0, 0xff}) {
      Packet changed = whole;
      changed[i] = value;
      for (const RecordType type :
           {RecordType::a, RecordType::aaaa, RecordType::mx, RecordType::srv, RecordType::txt, RecordType::cname}) {
        answer = net::detail::parse_answer(changed, "www.example.com", type, error);
        EXPECT_LE(answer.addresses.size(), 1U);
      }
    }
  }
}

TEST_F(DnsMessageTest, NegativeAnswersHoldForTheLesserOfTwoTimes) {
  const DnsQuestion question = DnsServer::parse(encode_query("www.example.com", RecordType::a, 7, 0));
  const auto ttl_of = [&](DnsReply reply) {
    std::error_code error;
    const DnsAnswer answer = net::detail::parse_answer(reply.take(), "www.example.com", RecordType::a, error);
    EXPECT_TRUE(answer.error);
    return answer.ttl;
  };
  EXPECT_EQ(ttl_of(DnsReply(question).rcode(3).soa("example.com", 100, 30)), 30U);
  EXPECT_EQ(ttl_of(DnsReply(question).rcode(3).soa("example.com", 10, 30)), 10U);
  EXPECT_EQ(ttl_of(DnsReply(question).soa("example.com", 10, 30)), 10U);
  EXPECT_EQ(ttl_of(DnsReply(question).rcode(3)), std::nullopt);
  EXPECT_EQ(ttl_of(DnsReply(question).rcode(3).soa("other.com", 10, 30)), std::nullopt) << "not its business";
  EXPECT_EQ(ttl_of(DnsReply(question).rcode(3).soa("example.com", 0xffffffff, 30)), 0U) << "RFC 2181: not a time";
}

}  // namespace
}  // namespace bight::test
