// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: what a name server may answer, on the whole way from its packet to the resolver's result, in a
// simulated world. Whatever comes, the resolver neither crashes nor hangs, remembers nothing wrong, and resolves the
// next name. The first two bytes say which kind of record is asked for, and how much of the reply is made to fit.

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include <bight/log.hpp>
#include <bight/net/dns.hpp>
#include <bight/testing.hpp>

#include "dns_server.hpp"

namespace {

using bight::test::DnsQuestion;
using bight::test::DnsReply;
using bight::test::DnsServer;
using bight::test::Packet;
using namespace std::chrono_literals;

void require(bool condition) {
  if (!condition) std::abort();
}

/// The fuzzer's bytes as a reply: as they are, or with the right id, or with the right header and question as well.
Packet fit(const DnsQuestion& question, const Packet& bytes, unsigned how) {
  Packet packet = bytes;
  if (how % 4 == 0) return packet;
  if (how % 4 >= 2) {
    const Packet start = DnsReply(question).take();
    packet.insert(packet.begin(), start.begin(), start.end());
    // Counts of the sections that follow, from the bytes.
    for (std::size_t i = 0; i < std::min<std::size_t>(3, bytes.size()); ++i) packet[7 + 2 * i] = bytes[i] % 8;
  }
  if (packet.size() < 3) return packet;
  packet[0] = question.message[0];
  packet[1] = question.message[1];
  packet[2] |= 0x80;
  if (how % 4 == 3) packet[2] = static_cast<unsigned char>(packet[2] ^ (how & 0x02U));  // by TCP, perhaps
  return packet;
}

void ask(bight::net::Resolver& resolver, unsigned what) {
  std::error_code error;
  switch (what % 7) {
    case 0: require(!error && resolver.resolve("victim.example", {.family = AF_INET}, error).size() <= 128); break;
    case 1: static_cast<void>(resolver.resolve("victim.example", error)); break;
    case 2: static_cast<void>(resolver.mx("victim.example", error)); break;
    case 3: static_cast<void>(resolver.srv("victim.example", error)); break;
    case 4: static_cast<void>(resolver.txt("victim.example", error)); break;
    case 5: static_cast<void>(resolver.cname("victim.example", error)); break;
    default: static_cast<void>(resolver.reverse(bight::net::Address::parse("192.0.2.1:0"), error)); break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  bight::set_log_level(bight::LogLevel::error);
  const Packet bytes(data + 2, data + size);
  bight::testing::Sim sim;
  sim.run([&] {
    DnsServer server([&](const DnsQuestion& question) -> std::vector<Packet> {
      if (question.name == "good.example") return {DnsReply(question).a("192.0.2.1").take()};
      Packet packet = fit(question, bytes, data[1]);
      if (packet.size() > 60'000) packet.resize(60'000);
      return {packet};
    });
    bight::net::ResolverOptions options;
    options.servers = {server.address()};
    options.resolv_conf.clear();
    options.hosts.clear();
    options.timeout = 1ms;
    options.tries = 1;
    bight::net::Resolver resolver(options);
    ask(resolver, data[0]);
    std::error_code error;
    options.timeout = 1s;
    bight::net::Resolver another(options);
    const auto good = another.resolve("good.example", {.family = AF_INET}, error);
    require(!error && good.size() == 1 && good.front() == bight::net::Address::parse("192.0.2.1:0"));
  });
  require(sim.leaks().empty());
  return 0;
}
