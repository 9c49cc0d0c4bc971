// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/event.hpp>
#include <bight/net/dns.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>

#include "dns_world.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::Address;
using net::DnsError;
using net::Resolver;
using net::ResolverOptions;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class DnsTest : public DnsWorldTest {};

/// 192.0.2.1 for every name, no IPv6.
std::vector<Packet> usual(const DnsQuestion& question) {
  DnsReply reply(question);
  if (question.type == kA) {
    reply.a("192.0.2.1");
  } else {
    reply.soa("example", 60, 60);
  }
  return {reply.take()};
}

std::vector<Packet> no_such_name(const DnsQuestion& question) {
  return {DnsReply(question).rcode(3).soa("example", 60, 30).take()};
}

std::vector<Packet> silence(const DnsQuestion& /*question*/) { return {}; }

/// After cancellations: what was cancelled gets its turn to end.
void let_end() {
  while (this_loop::stats().operations_in_flight > 2) sleep_for(1ms);  // those are the server's
}

// --- Addresses -------------------------------------------------------------------------------------------------------

TEST_F(DnsTest, FindsTheAddressesOfBothFamilies) {
  on_loop([] {
    DnsServer server([](const DnsQuestion& question) -> std::vector<Packet> {
      DnsReply reply(question);
      if (question.type == kA) return {reply.a("127.0.0.1").a("127.0.0.2").take()};
      return {reply.aaaa("::1").take()};
    });
    Resolver resolver(asking(server));
    EXPECT_THAT(texts(resolver.resolve("both.example")), ElementsAre("::1", "127.0.0.1", "127.0.0.2"));
    EXPECT_THAT(server.asked(), UnorderedElementsAre("A both.example", "AAAA both.example"));
    EXPECT_EQ(resolver.resolve("both.example", {.port = 80})[1], Address::parse("127.0.0.1:80"));
    EXPECT_EQ(resolver.lookup("both.example").canonical_name, "both.example");
  });
}

TEST_F(DnsTest, OfOneFamilyAsksForThatAlone) {
  on_loop([] {
    DnsServer server(usual);
    Resolver resolver(asking(server));
    EXPECT_THAT(texts(resolver.resolve("v4.example", {.family = AF_INET})), ElementsAre("192.0.2.1"));
    EXPECT_THAT(server.asked(), ElementsAre("A v4.example"));
    std::error_code error;
    EXPECT_THAT(resolver.resolve("v4.example", {.family = AF_INET6}, error), IsEmpty());
    EXPECT_EQ(error, DnsError::no_data);
  });
}

TEST_F(DnsTest, FollowsAliases) {
  on_loop([] {
    DnsServer server([](const DnsQuestion& question) -> std::vector<Packet> {
      DnsReply reply(question);
      reply.cname("Two.example", 50).cname("three.example", 40, "two.example");
      if (question.type == kA) reply.a("192.0.2.3", 60, "three.example").a("192.0.2.66", 60, "evil.example");
      return {reply.take()};
    });
    Resolver resolver(asking(server));
    const net::HostInfo info = resolver.lookup("One.example");
    EXPECT_THAT(texts(info.addresses), ElementsAre("192.0.2.3"));
    EXPECT_EQ(info.canonical_name, "three.example");
    EXPECT_LE(info.ttl, 40s);
    EXPECT_EQ(resolver.stats().queries, 2U);
  });
}

TEST_F(DnsTest, NumericAndSpecialNamesAskNobody) {
  on_loop([] {
    DnsServer server(usual);
    Resolver resolver(asking(server));
    EXPECT_THAT(texts(resolver.resolve("192.0.2.7")), ElementsAre("192.0.2.7"));
    EXPECT_THAT(texts(resolver.resolve("2001:db8::1")), ElementsAre("2001:db8::1"));
    EXPECT_THAT(texts(resolver.resolve("[::1]")), ElementsAre("::1"));
    EXPECT_THAT(texts(resolver.resolve("localhost")), ElementsAre("::1", "127.0.0.1"));
    EXPECT_THAT(texts(resolver.resolve("LocalHost.")), ElementsAre("::1", "127.0.0.1"));
    EXPECT_THAT(texts(resolver.resolve("app.localhost", {.family = AF_INET})), ElementsAre("127.0.0.1"));
    std::error_code error;
    static_cast<void>(resolver.resolve("hidden.onion", error));
    EXPECT_EQ(error, DnsError::no_such_name);
    static_cast<void>(resolver.resolve("192.0.2.7", {.family = AF_INET6}, error));
    EXPECT_EQ(error, DnsError::no_data);
    EXPECT_THAT(server.asked(), IsEmpty());
  });
}

TEST_F(DnsTest, RefusesWhatIsNoName) {
  on_loop([] {
    DnsServer server(usual);
    Resolver resolver(asking(server));
    const std::string label(63, 'a');
    const std::string longest = label + '.' + label + '.' + label + '.' + std::string(61, 'b');
    ASSERT_EQ(longest.size(), 253U);
    EXPECT_THAT(texts(resolver.resolve(longest + '.')), ElementsAre("192.0.2.1"));
    server.clear();
    for (const std::string& name :
         {std::string(), std::string("."), std::string("a..b"), std::string(".a"), 'x' + longest,
          'x' + label + ".example", std::string("white space"), std::string("nul\0byte", 8), std::string("back\\slash"),
          std::string("127.1"), std::string("0x7f000001"), std::string("2130706433"), std::string("1.2.3.4.5"),
          std::string("new\nline"), std::string(100'000, 'a')}) {
      std::error_code error;
      static_cast<void>(resolver.resolve(name, error));
      EXPECT_EQ(error, DnsError::invalid_name) << name.substr(0, 80);
    }
    EXPECT_THAT(server.asked(), IsEmpty());
    const Failure failure = failure_of([&] { static_cast<void>(resolver.resolve("a\nb")); });
    EXPECT_EQ(failure.text, "resolve a?b: not a valid name");
  });
}

TEST_F(DnsTest, NamesBeyondAsciiGoThroughIdna) {
  on_loop([] {
    DnsServer server(usual);
    Resolver resolver(asking(server));
    std::error_code error;
    static_cast<void>(resolver.resolve("B\u00fccher.example", {.family = AF_INET}, error));
    if (error == DnsError::idna_unsupported) GTEST_SKIP() << "a build without libidn2";
    EXPECT_FALSE(error) << error.message();
    EXPECT_THAT(server.asked(), ElementsAre("A xn--bcher-kva.example"));
    static_cast<void>(resolver.resolve("\xff\xfe.example", error));
    EXPECT_EQ(error, DnsError::invalid_name);
  });
}

// --- Errors ----------------------------------------------------------------------------------------------------------

TEST_F(DnsTest, ErrorsTellWhomItAsked) {
  on_loop([] {
    unsigned rcode = 3;
    DnsServer server(
        [&](const DnsQuestion& question) -> std::vector<Packet> { return {DnsReply(question).rcode(rcode).take()}; });
    Resolver resolver(asking(server));
    const auto text = [&] { return failure_of([&] { static_cast<void>(resolver.resolve("example.invalid")); }).text; };
    const std::string asked = " (asked " + server.address().to_string() + ")";
    EXPECT_EQ(text(), "resolve example.invalid: no such name" + asked);
    rcode = 0;
    EXPECT_EQ(text(), "resolve example.invalid: the name has no such records" + asked);
    rcode = 2;
    EXPECT_EQ(text(), "resolve example.invalid: the server failed" + asked);
    rcode = 5;
    EXPECT_EQ(text(), "resolve example.invalid: refused" + asked);
    rcode = 4;
    EXPECT_EQ(text(), "resolve example.invalid: the server failed" + asked);
  });
}

TEST_F(DnsTest, GivesUpAfterItsTries) {
  on_loop([] {
    DnsServer server(silence);
    ResolverOptions options = asking(server);
    options.timeout = 50ms;
    options.tries = 3;
    Resolver resolver(options);
    const TimePoint begin = now();
    const Failure failure =
        failure_of([&] { static_cast<void>(resolver.resolve("silent.example", {.family = AF_INET})); });
    EXPECT_EQ(failure.code, DnsError::timed_out);
    EXPECT_EQ(failure.code, std::errc::timed_out);
    EXPECT_EQ(failure.text, "resolve silent.example: timed out (asked " + server.address().to_string() + ")");
    EXPECT_GE(now() - begin, 150ms);
    EXPECT_LT(now() - begin, 5s);
    EXPECT_EQ(server.asked().size(), 3U);
    EXPECT_EQ(resolver.stats().timeouts, 3U);
  });
}

TEST_F(DnsTest, OneAnswerOfThreeTriesIsEnough) {
  on_loop([] {
    int asked = 0;
    DnsServer server([&](const DnsQuestion& question) { return ++asked < 3 ? silence(question) : usual(question); });
    ResolverOptions options = asking(server);
    options.timeout = 50ms;
    options.tries = 3;
    Resolver resolver(options);
    EXPECT_THAT(texts(resolver.resolve("late.example", {.family = AF_INET})), ElementsAre("192.0.2.1"));
  });
}

TEST_F(DnsTest, NobodyThereIsRefused) {
  on_loop([] {
    ResolverOptions options;
    {
      DnsServer server(usual);
      options = asking(server);
    }
    Resolver resolver(options);
    std::error_code error;
    static_cast<void>(resolver.resolve("any.example", error));
    EXPECT_EQ(error, DnsError::refused) << error.message();
  });
}

TEST_F(DnsTest, TheNextServerIsAsked) {
  on_loop([] {
    DnsServer broken(
        [](const DnsQuestion& question) -> std::vector<Packet> { return {DnsReply(question).rcode(2).take()}; });
    DnsServer mute(silence);
    DnsServer good(usual);
    ResolverOptions options = asking(good);
    options.servers = {broken.address(), mute.address(), good.address()};
    options.timeout = 50ms;
    {
      Resolver resolver(options);
      EXPECT_THAT(texts(resolver.resolve("a.example", {.family = AF_INET})), ElementsAre("192.0.2.1"));
      EXPECT_EQ(broken.asked().size() + mute.asked().size() + good.asked().size(), 3U);
    }
    options.servers = {broken.address(), mute.address()};
    options.tries = 1;
    Resolver resolver(options);
    const Failure failure = failure_of([&] { static_cast<void>(resolver.resolve("a.example", {.family = AF_INET})); });
    EXPECT_EQ(failure.code, DnsError::timed_out);
    EXPECT_EQ(failure.text, "resolve a.example: timed out (asked " + broken.address().to_string() +
                                ": the server failed; " + mute.address().to_string() + ": timed out)");
  });
}

TEST_F(DnsTest, RotatesServers) {
  on_loop([] {
    DnsServer one(usual);
    DnsServer two(usual);
    ResolverOptions options = asking(one);
    options.servers = {one.address(), two.address()};
    options.rotate = true;
    Resolver resolver(options);
    for (int i = 0; i < 10; ++i) {
      static_cast<void>(resolver.resolve("n" + std::to_string(i) + ".example", {.family = AF_INET}));
    }
    EXPECT_EQ(one.asked().size(), 5U);
    EXPECT_EQ(two.asked().size(), 5U);
  });
}

TEST_F(DnsTest, ALimitOfTheCallersInterruptsALookup) {
  on_loop([] {
    DnsServer server(silence);
    {
      Resolver resolver(asking(server));
      EXPECT_THROW(with_timeout(20ms, [&] { static_cast<void>(resolver.resolve("silent.example")); }), TimedOut);
      std::error_code error;
      EXPECT_FALSE(move_on_after(20ms, [&] {
        static_cast<void>(resolver.resolve("silent.example", error));
        this_fiber::checkpoint();
      }));
      EXPECT_EQ(error, std::errc::operation_canceled);
      EXPECT_EQ(resolver.stats().in_flight, 0U);
    }
    let_end();
  });
}

// --- The cache -------------------------------------------------------------------------------------------------------

TEST_F(DnsTest, RemembersForAsLongAsTheAnswerSays) {
  on_loop([] {
    DnsServer server(usual);
    Resolver resolver(asking(server));
    for (int i = 0; i < 5; ++i) EXPECT_THAT(texts(resolver.resolve("Name.example")), ElementsAre("192.0.2.1"));
    EXPECT_EQ(server.asked().size(), 2U);
    EXPECT_EQ(resolver.stats().cache_hits, 4U);
    EXPECT_EQ(resolver.stats().cached, 3U) << "A, AAAA, and both together";
    resolver.clear_cache();
    EXPECT_THAT(texts(resolver.resolve("name.example")), ElementsAre("192.0.2.1"));
    EXPECT_EQ(server.asked().size(), 4U);
    if (!on_sim()) return;  // only there an hour takes no time
    sleep_for(59s);
    static_cast<void>(resolver.resolve("name.example"));
    EXPECT_EQ(server.asked().size(), 4U);
    sleep_for(2s);
    static_cast<void>(resolver.resolve("name.example"));
    EXPECT_EQ(server.asked().size(), 6U);
  });
}

TEST_F(DnsTest, RemembersThatThereIsNone) {
  on_loop([] {
    DnsServer server(no_such_name);
    Resolver resolver(asking(server));
    for (int i = 0; i < 5; ++i) {
      const Failure failure = failure_of([&] { static_cast<void>(resolver.resolve("none.example")); });
      EXPECT_EQ(failure.code, DnsError::no_such_name);
      EXPECT_EQ(failure.text, "resolve none.example: no such name (asked " + server.address().to_string() + ")");
    }
    EXPECT_EQ(server.asked().size(), 2U);
    if (!on_sim()) return;
    sleep_for(31s);  // the SOA record's last field
    std::error_code error;
    static_cast<void>(resolver.resolve("none.example", error));
    EXPECT_EQ(server.asked().size(), 4U);
  });
}

TEST_F(DnsTest, WithoutSoaOrTtlItRemembersNothing) {
  on_loop([] {
    DnsServer server([](const DnsQuestion& question) -> std::vector<Packet> {
      if (question.name == "none.example") return {DnsReply(question).rcode(3).take()};
      return {DnsReply(question).a("192.0.2.1", 0).take()};
    });
    Resolver resolver(asking(server));
    std::error_code error;
    for (int i = 0; i < 2; ++i) {
      static_cast<void>(resolver.resolve("none.example", {.family = AF_INET}, error));
      static_cast<void>(resolver.resolve("zero.example", {.family = AF_INET}, error));
    }
    EXPECT_EQ(server.asked().size(), 4U);
    EXPECT_EQ(resolver.stats().cached, 0U);
  });
}

TEST_F(DnsTest, TtlsHaveAFloorAndACeiling) {
  on_loop([] {
    if (!on_sim()) GTEST_SKIP() << "hours go by";
    DnsServer server([](const DnsQuestion& question) -> std::vector<Packet> {
      return {DnsReply(question).a("192.0.2.1", question.name == "zero.example" ? 0 : 0x7fffffff).take()};
    });
    ResolverOptions options = asking(server);
    options.ttl_min = 10s;
    options.ttl_max = 1h;
    Resolver resolver(options);
    const auto ask = [&](const char* name) { static_cast<void>(resolver.resolve(name, {.family = AF_INET})); };
    ask("zero.example");
    ask("long.example");
    sleep_for(9s);
    ask("zero.example");
    EXPECT_EQ(server.asked().size(), 2U);
    sleep_for(2s);
    ask("zero.example");
    EXPECT_EQ(server.asked().size(), 3U);
    sleep_for(1h);
    ask("long.example");
    EXPECT_EQ(server.asked().size(), 4U);
  });
}

TEST_F(DnsTest, TheCacheIsBounded) {
  on_loop([] {
    DnsServer server(usual);
    ResolverOptions options = asking(server);
    options.cache_entries = 20;
    Resolver resolver(options);
    for (int i = 0; i < 200; ++i) {
      static_cast<void>(resolver.resolve("n" + std::to_string(i) + ".example", {.family = AF_INET}));
    }
    EXPECT_EQ(resolver.stats().cached, 20U);
    server.clear();
    static_cast<void>(resolver.resolve("n199.example", {.family = AF_INET}));
    EXPECT_THAT(server.asked(), IsEmpty());
    static_cast<void>(resolver.resolve("n100.example", {.family = AF_INET}));
    EXPECT_EQ(server.asked().size(), 1U);
  });
}

// --- Many at a time --------------------------------------------------------------------------------------------------

TEST_F(DnsTest, EqualQuestionsAreAskedOnce) {
  on_loop([] {
    DnsServer server(usual);
    Resolver resolver(asking(server));
    Scope scope;
    int found = 0;
    for (int i = 0; i < 50; ++i) {
      scope.spawn([&] { found += texts(resolver.resolve("shared.example")) == std::vector<std::string>{"192.0.2.1"}; })
          .detach();
    }
    scope.join();
    EXPECT_EQ(found, 50);
    EXPECT_EQ(server.asked().size(), 2U);
    EXPECT_EQ(resolver.stats().shared, 98U);
  });
}

TEST_F(DnsTest, WhoIsCancelledLeavesTheOthersWaiting) {
  on_loop([] {
    Event answer_now;
    DnsServer server([&](const DnsQuestion& question) {
      answer_now.wait();
      return usual(question);
    });
    Resolver resolver(asking(server));
    Scope scope;
    std::vector<Fiber<std::vector<std::string>>> fibers;
    for (int i = 0; i < 3; ++i) {
      fibers.push_back(scope.spawn([&] { return texts(resolver.resolve("shared.example", {.family = AF_INET})); }));
    }
    while (server.asked().empty()) sleep_for(1ms);
    fibers[0].cancel();  // it has begun the query
    fibers[0].join();
    EXPECT_EQ(fibers[0].status(), FiberStatus::cancelled);
    fibers[2].cancel();
    answer_now.set();
    EXPECT_THAT(fibers[1].get(), ElementsAre("192.0.2.1"));
    EXPECT_EQ(server.asked().size(), 1U);
  });
}

TEST_F(DnsTest, NobodyWaitsAnyMoreEndsTheQuery) {
  on_loop([] {
    DnsServer server(silence);
    {
      const std::uint64_t before = this_loop::stats().descriptors_open;
      Resolver resolver(asking(server));
      Scope scope;
      auto fiber = scope.spawn([&] { static_cast<void>(resolver.resolve("silent.example")); });
      while (server.asked().size() < 2) sleep_for(1ms);
      fiber.cancel();
      fiber.join();
      let_end();
      EXPECT_EQ(resolver.stats().in_flight, 0U);
      EXPECT_EQ(this_loop::stats().descriptors_open, before) << this_loop::dump_fibers();
    }
  });
}

TEST_F(DnsTest, DestroyedItEndsWhatIsUnderWay) {
  on_loop([] {
    DnsServer server(silence);
    auto resolver = std::make_unique<Resolver>(asking(server));
    Scope scope;
    auto fiber = scope.spawn([&] {
      std::error_code error;
      static_cast<void>(resolver->resolve("silent.example", error));
      return error;
    });
    while (server.asked().size() < 2) sleep_for(1ms);
    resolver.reset();
    EXPECT_EQ(fiber.get(), DnsError::shut_down);
    let_end();
  });
}

TEST_F(DnsTest, MoreThanMayBeUnderWayTakeTurns) {
  on_loop([] {
    std::size_t at_once = 0;
    std::size_t most = 0;
    DnsServer server([&](const DnsQuestion& question) {
      most = std::max(most, ++at_once);
      sleep_for(2ms);
      --at_once;
      return usual(question);
    });
    ResolverOptions options = asking(server);
    options.queries_max = 5;
    Resolver resolver(options);
    Scope scope;
    int found = 0;
    for (int i = 0; i < 60; ++i) {
      scope
          .spawn([&, i] {
            static_cast<void>(resolver.resolve("n" + std::to_string(i) + ".example"));
            ++found;
          })
          .detach();
    }
    scope.join();
    EXPECT_EQ(found, 60);
    EXPECT_EQ(most, 5U);
  });
}

TEST_F(DnsTest, ManyShareAFewPorts) {
  on_loop([] {
    DnsServer server(usual);
    ResolverOptions options = asking(server);
    options.ports_max = 4;
    options.port_queries = 30;
    options.timeout = 20s;
    Resolver resolver(options);
    Scope scope;
    int found = 0;
    for (int i = 0; i < 150; ++i) {
      scope
          .spawn([&, i] {
            static_cast<void>(resolver.resolve("n" + std::to_string(i) + ".example", {.family = AF_INET}));
            ++found;
          })
          .detach();
    }
    scope.join();
    EXPECT_EQ(found, 150);
    EXPECT_EQ(server.asked().size(), 150U);
    const std::set<std::uint16_t> ports(server.ports().begin(), server.ports().end());
    EXPECT_GE(ports.size(), 5U) << "each serves thirty";
    EXPECT_LE(ports.size(), 10U);
  });
}

TEST_F(DnsTest, EachQueryHasAPortOfItsOwn) {
  on_loop([] {
    DnsServer server(usual);
    Resolver resolver(asking(server));
    for (int i = 0; i < 20; ++i) static_cast<void>(resolver.resolve("n" + std::to_string(i) + ".example"));
    const std::set<std::uint16_t> ports(server.ports().begin(), server.ports().end());
    EXPECT_GE(ports.size(), 30U) << "of 40 queries";
  });
}

// --- Hostile servers -------------------------------------------------------------------------------------------------

TEST_F(DnsTest, WhatAnswersNothingIsWaitedOut) {
  on_loop([] {
    DnsServer server([](const DnsQuestion& question) -> std::vector<Packet> {
      std::vector<Packet> packets;
      const auto forge = [&](auto&& change) {
        Packet packet = DnsReply(question).a("192.0.2.66").take();
        change(packet);
        packets.push_back(packet);
      };
      forge([](Packet& packet) { packet[0] ^= 1; });      // another id
      forge([](Packet& packet) { packet[2] &= 0x7f; });   // a question
      forge([](Packet& packet) { packet[2] |= 0x10; });   // another opcode
      forge([](Packet& packet) { packet[13] ^= 0x02; });  // another name
      forge([](Packet& packet) { packet[5] = 0; });       // no question
      forge([](Packet& packet) { packet.resize(11); });   // not even a header
      forge([](Packet& packet) { packet.resize(20); });   // half a question
      forge([](Packet& packet) { packet.clear(); });      // nothing at all
      packets.push_back(Packet(300, 0xff));
      packets.push_back(usual(question).front());
      return packets;
    });
    Resolver resolver(asking(server));
    EXPECT_THAT(texts(resolver.resolve("forged.example", {.family = AF_INET})), ElementsAre("192.0.2.1"));
    EXPECT_EQ(resolver.stats().rejected, 9U);
    EXPECT_EQ(server.asked().size(), 1U);
  });
}

TEST_F(DnsTest, AnswersFromElsewhereDoNotArrive) {
  on_loop([] {
    DnsServer* forger = nullptr;
    DnsServer server([&](const DnsQuestion& question) {
      forger->send_to(question.from, DnsReply(question).a("192.0.2.66").take());
      sleep_for(5ms);
      return usual(question);
    });
    DnsServer other(silence);  // the right id, question and port, from the wrong address
    forger = &other;
    Resolver resolver(asking(server));
    EXPECT_THAT(texts(resolver.resolve("forged.example", {.family = AF_INET})), ElementsAre("192.0.2.1"));
  });
}

TEST_F(DnsTest, WhatIsNoAnswerIsAnErrorAndPoisonsNothing) {
  on_loop([] {
    int kind = 0;
    DnsServer server([&](const DnsQuestion& question) -> std::vector<Packet> {
      DnsReply reply(question);
      switch (kind) {
        case 0: return {reply.cname("b.example").cname("a.example", 60, "b.example").take()};  // a loop
        case 1: return {reply.record(kA, Packet{1, 2, 3}).take()};                             // three bytes
        case 2: return {reply.record(kCname, Packet{0xc0, 0xff}).take()};                      // leads outside
        case 3: {                                                                              // more than there is
          Packet packet = reply.a("192.0.2.66").take();
          packet[7] = 200;
          return {packet};
        }
        case 4: {  // cut in the middle of a record
          Packet packet = reply.a("192.0.2.66").take();
          packet.resize(packet.size() - 2);
          return {packet};
        }
        case 5: {  // a name that points to itself
          Packet packet = reply.a("192.0.2.66").take();
          const std::size_t owner = packet.size() - 16;
          packet[owner + 1] = static_cast<unsigned char>(owner);
          return {packet};
        }
        default: return {};
      }
    });
    Resolver resolver(asking(server));
    for (kind = 0; kind < 6; ++kind) {
      std::error_code error;
      EXPECT_THAT(resolver.resolve("a.example", {.family = AF_INET}, error), IsEmpty()) << kind;
      EXPECT_EQ(error, DnsError::malformed_answer) << kind << ' ' << error.message();
    }
    EXPECT_EQ(resolver.stats().cached, 0U);
  });
}

TEST_F(DnsTest, WhatWasNotAskedForIsNotTaken) {
  on_loop([] {
    DnsServer server([](const DnsQuestion& question) -> std::vector<Packet> {
      DnsReply reply(question);
      reply.a("192.0.2.66", 9999, "bank.example");
      if (question.type == kA) reply.a("192.0.2.1");
      return {reply.take()};
    });
    Resolver resolver(asking(server));
    EXPECT_THAT(texts(resolver.resolve("shop.example", {.family = AF_INET})), ElementsAre("192.0.2.1"));
    server.clear();
    static_cast<void>(resolver.resolve("bank.example", {.family = AF_INET}));
    EXPECT_THAT(server.asked(), ElementsAre("A bank.example"));
  });
}

TEST_F(DnsTest, WhatComesAlongPoisonsNothing) {
  on_loop([] {
    DnsServer server([](const DnsQuestion& question) -> std::vector<Packet> {
      if (question.name == "bank.example") return usual(question);
      DnsReply reply(question);
      reply.cname("bank.example").a("192.0.2.66", 9999, "bank.example");
      reply.additional(kA, {192, 0, 2, 66}, "bank.example").additional(kA, {192, 0, 2, 66}, "ns.example");
      return {reply.take()};
    });
    Resolver resolver(asking(server));
    const net::HostInfo shop = resolver.lookup("shop.example", {.family = AF_INET});
    EXPECT_THAT(texts(shop.addresses), ElementsAre("192.0.2.66")) << "it is the shop's to say where the shop is";
    EXPECT_EQ(shop.canonical_name, "bank.example");
    EXPECT_THAT(texts(resolver.resolve("bank.example", {.family = AF_INET})), ElementsAre("192.0.2.1"));
    EXPECT_THAT(server.asked(), ElementsAre("A shop.example", "A bank.example"));
  });
}

TEST_F(DnsTest, AReplyCountsAtThePortThatAskedOnly) {
  on_loop([] {
    std::vector<DnsQuestion> questions;
    DnsServer* self = nullptr;
    DnsServer server([&](const DnsQuestion& question) -> std::vector<Packet> {
      questions.push_back(question);
      if (questions.size() < 2) {
        while (questions.size() < 2) sleep_for(1ms);
        return usual(question);
      }
      for (std::size_t i : {0, 1}) {  // right but for where it goes
        const Packet forged = DnsReply(questions[i]).a("192.0.2.66").take();
        self->send_to(questions[1 - i].from, forged);
      }
      return usual(question);
    });
    self = &server;
    Resolver resolver(asking(server));
    Scope scope;
    for (const char* name : {"one.example", "two.example"}) {
      scope
          .spawn([&, name] {
            EXPECT_THAT(texts(resolver.resolve(name, {.family = AF_INET})), ElementsAre("192.0.2.1")) << name;
          })
          .detach();
    }
    scope.join();
    EXPECT_GE(resolver.stats().rejected, 1U) << "the other's port may be gone by then";
  });
}

TEST_F(DnsTest, MoreThanWasOfferedIsAskedForByTcp) {
  on_loop([] {
    DnsServer server([](const DnsQuestion& question) -> std::vector<Packet> {
      DnsReply reply(question);
      for (int i = 0; i < 100; ++i) reply.a("192.0.2." + std::to_string(question.tcp ? i : 200));
      return {reply.take()};
    });
    Resolver resolver(asking(server));
    EXPECT_EQ(resolver.resolve("many.example", {.family = AF_INET}).front().host(), "192.0.2.0");
    EXPECT_THAT(server.asked(), ElementsAre("A many.example", "A many.example over TCP"));
  });
}

TEST_F(DnsTest, HugeAnswersAreBounded) {
  on_loop([] {
    DnsServer server([](const DnsQuestion& question) -> std::vector<Packet> {
      if (!question.tcp) return {DnsReply(question).truncated().take()};
      DnsReply reply(question);
      for (int i = 0; i < 4000; ++i) reply.a("192.0.2." + std::to_string(i % 256));  // 64 KB
      return {reply.take()};
    });
    Resolver resolver(asking(server));
    EXPECT_EQ(resolver.resolve("huge.example").size(), 128U);
    EXPECT_EQ(resolver.resolve("huge.example").size(), 128U) << "from the cache";
  });
}

TEST_F(DnsTest, CutAnswersComeByTcp) {
  on_loop([] {
    DnsServer server([](const DnsQuestion& question) -> std::vector<Packet> {
      DnsReply reply(question);
      if (!question.tcp) return {reply.truncated().take()};
      for (int i = 0; i < 100; ++i) reply.a("192.0.2." + std::to_string(i));
      return {reply.take()};
    });
    Resolver resolver(asking(server));
    EXPECT_EQ(resolver.resolve("many.example", {.family = AF_INET}).size(), 100U);
    EXPECT_THAT(server.asked(), ElementsAre("A many.example", "A many.example over TCP"));
    EXPECT_EQ(resolver.stats().tcp_queries, 1U);
  });
}

TEST_F(DnsTest, ByTcpFromTheStart) {
  on_loop([] {
    DnsServer server(usual);
    ResolverOptions options = asking(server);
    options.use_tcp = true;
    Resolver resolver(options);
    EXPECT_THAT(texts(resolver.resolve("a.example")), ElementsAre("192.0.2.1"));
    EXPECT_THAT(server.asked(), UnorderedElementsAre("A a.example over TCP", "AAAA a.example over TCP"));
  });
}

TEST_F(DnsTest, CutForEverIsAnError) {
  on_loop([] {
    DnsServer server(
        [](const DnsQuestion& question) -> std::vector<Packet> { return {DnsReply(question).truncated().take()}; });
    Resolver resolver(asking(server));
    std::error_code error;
    static_cast<void>(resolver.resolve("cut.example", {.family = AF_INET}, error));
    EXPECT_EQ(error, DnsError::malformed_answer) << error.message();
    EXPECT_EQ(server.asked().size(), 2U);
  });
}

TEST_F(DnsTest, DribblingTcpHasTheSameLimit) {
  on_loop([] {
    DnsServer server([](const DnsQuestion& question) -> std::vector<Packet> {
      if (!question.tcp) return {DnsReply(question).truncated().take()};
      return std::vector<Packet>(10'000, Packet{0});  // promises 0 * 256 + 0 bytes, then goes on and on
    });
    server.raw_tcp = true;
    server.drip = 10ms;
    ResolverOptions options = asking(server);
    options.timeout = 100ms;
    options.tries = 1;
    Resolver resolver(options);
    const TimePoint begin = now();
    std::error_code error;
    static_cast<void>(resolver.resolve("slow.example", {.family = AF_INET}, error));
    EXPECT_TRUE(error);
    EXPECT_LT(now() - begin, 3s);
  });
}

TEST_F(DnsTest, HalfATcpAnswerTimesOut) {
  on_loop([] {
    DnsServer server([](const DnsQuestion& question) -> std::vector<Packet> {
      if (!question.tcp) return {DnsReply(question).truncated().take()};
      std::vector<Packet> bytes(10'000, Packet{0});
      bytes[0] = {0xff, 0xff};
      return bytes;
    });
    server.raw_tcp = true;
    server.drip = 10ms;
    ResolverOptions options = asking(server);
    options.timeout = 100ms;
    options.tries = 1;
    Resolver resolver(options);
    std::error_code error;
    static_cast<void>(resolver.resolve("slow.example", {.family = AF_INET}, error));
    EXPECT_EQ(error, DnsError::timed_out) << error.message();
  });
}

TEST_F(DnsTest, AFloodOfGarbageHoldsNobodyUp) {
  on_loop([] {
    DnsServer server([](const DnsQuestion& question) -> std::vector<Packet> {
      if (question.name == "good.example") return usual(question);
      return std::vector<Packet>(3000, Packet(100, 0x55));
    });
    ResolverOptions options = asking(server);
    options.timeout = 300ms;
    options.tries = 1;
    Resolver resolver(options);
    Scope scope;
    auto bad = scope.spawn([&] {
      std::error_code error;
      static_cast<void>(resolver.resolve("bad.example", {.family = AF_INET}, error));
      return error;
    });
    EXPECT_THAT(texts(resolver.resolve("good.example", {.family = AF_INET})), ElementsAre("192.0.2.1"));
    EXPECT_EQ(bad.get(), DnsError::timed_out);
  });
}

TEST_F(DnsTest, ServersThatKnowNoEdnsAreAskedWithout) {
  on_loop([] {
    DnsServer server([](const DnsQuestion& question) -> std::vector<Packet> {
      if (question.edns) return {DnsReply(question).rcode(1).take()};
      return usual(question);
    });
    Resolver resolver(asking(server));
    EXPECT_THAT(texts(resolver.resolve("old.example", {.family = AF_INET})), ElementsAre("192.0.2.1"));
    EXPECT_EQ(server.asked().size(), 2U);
  });
}

// --- Other records ---------------------------------------------------------------------------------------------------

TEST_F(DnsTest, OtherRecords) {
  on_loop([] {
    DnsServer server([](const DnsQuestion& question) -> std::vector<Packet> {
      DnsReply reply(question);
      switch (question.type) {
        case kMx: reply.mx(20, "b.example").mx(10, "A.example"); break;
        case kSrv: reply.srv(2, 0, 5061, "s2.example").srv(1, 5, 5060, "s1.example"); break;
        case kTxt: reply.txt({"v=spf1 ", "-all"}).txt({"two"}); break;
        case kNs: reply.record(kNs, encode_name("ns1.example")); break;
        case kPtr: reply.record(kPtr, encode_name("host.example")); break;
        case kCname: reply.cname("real.example"); break;
        default: break;
      }
      return {reply.take()};
    });
    Resolver resolver(asking(server));
    EXPECT_THAT(resolver.mx("example"), ElementsAre(net::MxRecord{10, "a.example"}, net::MxRecord{20, "b.example"}));
    EXPECT_THAT(resolver.srv("_sip._tcp.example"),
                ElementsAre(net::SrvRecord{1, 5, 5060, "s1.example"}, net::SrvRecord{2, 0, 5061, "s2.example"}));
    EXPECT_THAT(resolver.txt("example"), ElementsAre("v=spf1 -all", "two"));
    EXPECT_THAT(resolver.ns("example"), ElementsAre("ns1.example"));
    EXPECT_EQ(resolver.cname("www.example"), "real.example");
    EXPECT_THAT(resolver.reverse(Address::parse("192.0.2.17:80")), ElementsAre("host.example"));
    EXPECT_THAT(resolver.reverse(Address::parse("[2001:db8::1]:80")), ElementsAre("host.example"));
    EXPECT_THAT(resolver.ptr("17.2.0.192.in-addr.arpa"), ElementsAre("host.example"));
    EXPECT_THAT(server.asked(),
                ElementsAre("MX example", "SRV _sip._tcp.example", "TXT example", "NS example", "CNAME www.example",
                            "PTR 17.2.0.192.in-addr.arpa",
                            "PTR 1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"));
    EXPECT_THAT(resolver.reverse(Address::parse("127.0.0.1:0")), ElementsAre("localhost"));
    const Failure failure = failure_of([&] { static_cast<void>(resolver.mx("..")); });
    EXPECT_EQ(failure.text, "find the MX records of ..: not a valid name");
  });
}

// --- Search lists and files ------------------------------------------------------------------------------------------

TEST_F(DnsTest, SearchesDomains) {
  on_loop([] {
    DnsServer server([](const DnsQuestion& question) {
      return question.name == "db.two.example" || question.name == "a.b" ? usual(question) : no_such_name(question);
    });
    ResolverOptions options = asking(server);
    options.search = {"one.example", "two.example"};
    Resolver resolver(options);
    const auto resolve = [&](const char* name) {
      server.clear();
      std::error_code error;
      static_cast<void>(resolver.resolve(name, {.family = AF_INET}, error));
      return server.asked();
    };
    EXPECT_THAT(resolve("db"), ElementsAre("A db.one.example", "A db.two.example"));
    EXPECT_THAT(resolve("db."), ElementsAre("A db"));
    EXPECT_THAT(resolve("a.b"), ElementsAre("A a.b"));
    EXPECT_THAT(resolve("x.y"), ElementsAre("A x.y", "A x.y.one.example", "A x.y.two.example"));
    EXPECT_THAT(resolve("z"), ElementsAre("A z.one.example", "A z.two.example", "A z"));
  });
}

class TempFile {
 public:
  explicit TempFile(const std::string& text) {
    path_ = ::testing::TempDir() + "bight-dns-" + std::to_string(::getpid()) + '-' + std::to_string(count_++);
    write(text);
  }
  ~TempFile() { std::filesystem::remove(path_); }
  void write(const std::string& text) const {
    std::FILE* file = std::fopen(path_.c_str(), "w");
    ASSERT_NE(file, nullptr);
    std::fputs(text.c_str(), file);
    std::fclose(file);
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  static inline int count_ = 0;
  std::string path_;
};

TEST_F(DnsTest, TheHostsFileComesFirstAndIsReadAgain) {
  const TempFile hosts("127.0.0.9 Box.example box # ours\n::1 box\nnonsense\n300.1.1.1 x\n");
  on_loop([&] {
    DnsServer server(usual);
    ResolverOptions options = asking(server);
    options.hosts = hosts.path();
    options.config_check = 1ms;
    Resolver resolver(options);
    EXPECT_THAT(texts(resolver.resolve("BOX")), ElementsAre("::1", "127.0.0.9"));
    EXPECT_EQ(resolver.lookup("box").canonical_name, "box.example");
    EXPECT_THAT(resolver.reverse(Address::parse("127.0.0.9:0")), ElementsAre("Box.example", "box"));
    EXPECT_THAT(server.asked(), IsEmpty());
    hosts.write("127.0.0.10 box\n# and more\n");
    sleep_for(2ms);
    EXPECT_THAT(texts(resolver.resolve("box")), ElementsAre("127.0.0.10"));
    std::error_code error;
    static_cast<void>(resolver.resolve("box", {.family = AF_INET6}, error));
    EXPECT_THAT(server.asked(), ElementsAre("AAAA box")) << "it may have one that the file does not know";
  });
}

TEST_F(DnsTest, ResolvConfIsReadAgain) {
  const TempFile conf("search one.example\noptions ndots:2 timeout:1 attempts:1\n");
  on_loop([&] {
    DnsServer server(no_such_name);
    ResolverOptions options = asking(server);
    options.resolv_conf = conf.path();
    options.config_check = 1ms;
    Resolver resolver(options);
    std::error_code error;
    static_cast<void>(resolver.resolve("a.b", {.family = AF_INET}, error));
    EXPECT_THAT(server.asked(), ElementsAre("A a.b.one.example", "A a.b"));
    server.clear();
    conf.write("search two.example # moved\n");
    sleep_for(2ms);
    static_cast<void>(resolver.resolve("a.b", {.family = AF_INET}, error));
    EXPECT_THAT(server.asked(), ElementsAre("A a.b", "A a.b.two.example")) << "and nothing was remembered";
  });
}

// --- Others ----------------------------------------------------------------------------------------------------------

TEST_F(DnsTest, OptionsThatMakeNoSense) {
  const auto rejected = [](auto&& change) {
    ResolverOptions options;
    change(options);
    try {
      const Resolver resolver(options);
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(rejected([](auto& options) { options.tries = 0; }), "Resolver: tries is 0");
  EXPECT_EQ(rejected([](auto& options) { options.timeout = Duration(0); }), "Resolver: the timeout is not above zero");
  EXPECT_EQ(rejected([](auto& options) { options.servers = {Address()}; }), "Resolver: a server's port is 0");
  EXPECT_NE(rejected([](auto& options) { options.queries_max = 0; }), "");
}

TEST_F(DnsTest, ALoopHasItsOwn) {
  std::uint64_t lookups = 0;
  for (int i = 0; i < 2; ++i) {
    on_loop([&] {
      EXPECT_THAT(texts(net::resolve("127.0.0.1")), ElementsAre("127.0.0.1"));
      EXPECT_EQ(&net::this_loop_resolver(), &net::this_loop_resolver());
      lookups = net::this_loop_resolver().stats().lookups;
    });
    EXPECT_EQ(lookups, 1U) << "another one for the second loop";
  }
}

TEST_F(DnsTest, TheEndOfTheLoopEndsWhatDaemonsWaitFor) {
  ResolverOptions options;
  options.servers = {Address::parse("127.0.0.1:9"), Address::parse("127.0.0.2:9")};
  std::unique_ptr<Resolver> resolver;
  int ended = 0;
  for (int i = 0; i < 3; ++i) {
    bight::run({.stop_on_signals = false}, [&] {
      DnsServer mute(silence);
      DnsServer other(silence);
      if (resolver == nullptr) {
        options = asking(mute);
        options.servers.push_back(other.address());
        options.use_tcp = i == 1;
        resolver = std::make_unique<Resolver>(options);
      }
      for (int j = 0; j < 3; ++j) {
        spawn({.daemon = true}, [&ended, &resolver, j] {
          struct Count {
            int& ended;
            ~Count() { ++ended; }
          } count{ended};
          static_cast<void>(resolver->resolve("silent" + std::to_string(j) + ".example"));
        }).detach();
      }
      for (int j = 0; j <= i; ++j) yield();  // before their first packets, or after
    });
    if (i == 0) resolver.reset();
  }
  EXPECT_GE(ended, 6);
}

TEST_F(DnsTest, TheSystemsOwnWay) {
  on_loop([] {
    if (on_sim()) GTEST_SKIP() << "getaddrinfo knows nothing of this world";
    ResolverOptions options;
    options.backend = net::ResolverBackend::system;
    Resolver resolver(options);
    EXPECT_FALSE(resolver.resolve("localhost").empty());
    EXPECT_TRUE(resolver.resolve("localhost").front().is_loopback());
    std::error_code error;
    static_cast<void>(resolver.mx("example", error));
    EXPECT_EQ(error, DnsError::unsupported_query);
    static_cast<void>(resolver.resolve("a..b", error));
    EXPECT_EQ(error, DnsError::invalid_name);
  });
}

}  // namespace
}  // namespace bight::test
