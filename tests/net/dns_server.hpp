// SPDX-License-Identifier: Apache-2.0
#pragma once

/// A name server for tests: fibers of the loop under test that speak DNS on a port of 127.0.0.1, over UDP and TCP, and
/// answer whatever the test says.

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <bight/group.hpp>
#include <bight/mutex.hpp>
#include <bight/net/address.hpp>
#include <bight/net/tcp.hpp>
#include <bight/socket.hpp>

namespace bight::test {

using Packet = std::vector<unsigned char>;

// Kinds of records.
inline constexpr unsigned kA = 1;
inline constexpr unsigned kNs = 2;
inline constexpr unsigned kCname = 5;
inline constexpr unsigned kSoa = 6;
inline constexpr unsigned kPtr = 12;
inline constexpr unsigned kMx = 15;
inline constexpr unsigned kTxt = 16;
inline constexpr unsigned kAaaa = 28;
inline constexpr unsigned kSrv = 33;
inline constexpr unsigned kOpt = 41;

struct DnsQuestion {
  Packet message;
  std::string name;  // without a dot at the end
  unsigned type = 0;
  bool tcp = false;
  bool edns = false;
  net::Address from;
};

inline void append_word(Packet& packet, unsigned value) {
  packet.push_back(static_cast<unsigned char>(value >> 8U));
  packet.push_back(static_cast<unsigned char>(value));
}

inline void append_long(Packet& packet, std::uint32_t value) {
  append_word(packet, value >> 16U);
  append_word(packet, value & 0xffffU);
}

inline Packet encode_name(std::string_view name) {
  Packet packet;
  while (!name.empty()) {
    const std::string_view label = name.substr(0, name.find('.'));
    packet.push_back(static_cast<unsigned char>(label.size()));
    packet.insert(packet.end(), label.begin(), label.end());
    name.remove_prefix(std::min(name.size(), label.size() + 1));
  }
  packet.push_back(0);
  return packet;
}

/// A reply, piece by piece. Records without an owner are of the name asked for.
class DnsReply {
 public:
  explicit DnsReply(const DnsQuestion& question) : name_(question.name) {
    message_.assign(question.message.begin(), question.message.begin() + 12);
    message_[2] = static_cast<unsigned char>(0x80U | (message_[2] & 0x79U));
    message_[3] = 0x80;
    std::fill(message_.begin() + 6, message_.end(), 0);
    const Packet encoded = encode_name(question.name);
    const auto begin = question.message.begin() + 12;
    message_.insert(message_.end(), begin, begin + static_cast<std::ptrdiff_t>(encoded.size() + 4));
  }

  DnsReply& rcode(unsigned code) {
    message_[3] = static_cast<unsigned char>(0x80U | code);
    return *this;
  }
  DnsReply& truncated() {
    message_[2] |= 0x02U;
    return *this;
  }
  DnsReply& record(unsigned type, const Packet& data, std::uint32_t ttl = 60, std::string_view owner = {}) {
    return add(6, type, data, ttl, owner);
  }
  DnsReply& a(std::string_view address, std::uint32_t ttl = 60, std::string_view owner = {}) {
    const net::Address parsed = net::Address::parse(address, 0);
    const auto& native = *reinterpret_cast<const ::sockaddr_in*>(parsed.native());
    Packet data(4);
    std::memcpy(data.data(), &native.sin_addr, 4);
    return record(kA, data, ttl, owner);
  }
  DnsReply& aaaa(std::string_view address, std::uint32_t ttl = 60, std::string_view owner = {}) {
    const net::Address parsed = net::Address::parse(address, 0);
    const auto& native = *reinterpret_cast<const ::sockaddr_in6*>(parsed.native());
    Packet data(16);
    std::memcpy(data.data(), &native.sin6_addr, 16);
    return record(kAaaa, data, ttl, owner);
  }
  DnsReply& cname(std::string_view target, std::uint32_t ttl = 60, std::string_view owner = {}) {
    return record(kCname, encode_name(target), ttl, owner);
  }
  DnsReply& mx(unsigned preference, std::string_view host) {
    Packet data;
    append_word(data, preference);
    return record(kMx, join(data, encode_name(host)));
  }
  DnsReply& srv(unsigned priority, unsigned weight, unsigned port, std::string_view host) {
    Packet data;
    append_word(data, priority);
    append_word(data, weight);
    append_word(data, port);
    return record(kSrv, join(data, encode_name(host)));
  }
  DnsReply& txt(const std::vector<std::string>& strings) {
    Packet data;
    for (const std::string& each : strings) {
      data.push_back(static_cast<unsigned char>(each.size()));
      data.insert(data.end(), each.begin(), each.end());
    }
    return record(kTxt, data);
  }
  /// In the authority section: for how long "no" holds.
  DnsReply& soa(std::string_view zone, std::uint32_t ttl, std::uint32_t minimum) {
    Packet data = join(encode_name("ns." + std::string(zone)), encode_name("root." + std::string(zone)));
    for (const std::uint32_t each : {1U, 2U, 3U, 4U, minimum}) append_long(data, each);
    return add(8, kSoa, data, ttl, zone);
  }
  DnsReply& additional(unsigned type, const Packet& data, std::string_view owner, std::uint32_t ttl = 9999) {
    return add(10, type, data, ttl, owner);
  }
  [[nodiscard]] Packet take() { return std::move(message_); }

 private:
  static Packet join(Packet first, const Packet& second) {
    first.insert(first.end(), second.begin(), second.end());
    return first;
  }
  DnsReply& add(std::size_t count_at, unsigned type, const Packet& data, std::uint32_t ttl, std::string_view owner) {
    const Packet name = owner.empty() ? Packet{0xc0, 12} : encode_name(owner);
    message_.insert(message_.end(), name.begin(), name.end());
    append_word(message_, type);
    append_word(message_, 1);
    append_long(message_, ttl);
    append_word(message_, static_cast<unsigned>(data.size()));
    message_.insert(message_.end(), data.begin(), data.end());
    const unsigned count = message_[count_at] * 256U + message_[count_at + 1] + 1;
    message_[count_at] = static_cast<unsigned char>(count >> 8U);
    message_[count_at + 1] = static_cast<unsigned char>(count);
    return *this;
  }

  std::string name_;
  Packet message_;
};

/// Answers every question with what `answer` returns: any number of packets, in order. It is called in a fiber of its
/// own for each question, so it may wait.
class DnsServer {
 public:
  using Answer = std::function<std::vector<Packet>(const DnsQuestion&)>;

  explicit DnsServer(Answer answer, const char* host = "127.0.0.1") : answer_(std::move(answer)) {
    std::error_code error;
    listener_ = net::TcpListener::bind(net::Address::parse(host, 0));  // TCP's port, and UDP's of the same number
    address_ = listener_.local_address();
    udp_ = Socket::open(address_.family(), SOCK_DGRAM, IPPROTO_UDP, error);
    if (!error) udp_.bind(address_.native(), address_.native_size(), error);
    if (error) throw std::system_error(error, "bind a UDP socket");
    group_.spawn({.name = "dns server, udp"}, [this] { serve_udp(); }).detach();
    group_.spawn({.name = "dns server, tcp"}, [this] { serve_tcp(); }).detach();
  }

  [[nodiscard]] const net::Address& address() const noexcept { return address_; }
  /// Questions so far: "A example.org", "AAAA example.org over TCP".
  [[nodiscard]] const std::vector<std::string>& asked() const noexcept { return asked_; }
  [[nodiscard]] const std::vector<std::uint16_t>& ports() const noexcept { return ports_; }
  void clear() { asked_.clear(); }
  /// A packet of our own accord.
  void send_to(const net::Address& peer, const Packet& packet) {
    ::iovec piece{const_cast<unsigned char*>(packet.data()), packet.size()};
    ::msghdr message{};
    message.msg_name = const_cast<::sockaddr*>(peer.native());
    message.msg_namelen = peer.native_size();
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    const std::scoped_lock lock(sending_);
    std::error_code error;
    udp_.send_message(message, error);
  }

  [[nodiscard]] static std::string type_name(unsigned type) {
    switch (type) {
      case kA: return "A";
      case kAaaa: return "AAAA";
      case kMx: return "MX";
      case kSrv: return "SRV";
      case kTxt: return "TXT";
      case kNs: return "NS";
      case kPtr: return "PTR";
      case kCname: return "CNAME";
      default: return "TYPE" + std::to_string(type);
    }
  }

  [[nodiscard]] static DnsQuestion parse(Packet message) {
    DnsQuestion question;
    std::size_t at = 12;
    while (at < message.size() && message[at] != 0) {
      if (!question.name.empty()) question.name += '.';
      const std::size_t length = message[at];
      question.name.append(reinterpret_cast<const char*>(message.data()) + at + 1, length);
      at += length + 1;
    }
    if (message.size() >= at + 5) question.type = message[at + 1] * 256U + message[at + 2];
    question.edns = message.size() > at + 5;
    question.message = std::move(message);
    return question;
  }

 private:
  void note(const DnsQuestion& question) {
    asked_.push_back(type_name(question.type) + ' ' + question.name + (question.tcp ? " over TCP" : ""));
    ports_.push_back(question.from.port());
  }

  void serve_udp() {
    for (;;) {
      Packet packet(4096);
      ::sockaddr_storage from{};
      ::iovec piece{packet.data(), packet.size()};
      ::msghdr message{};
      message.msg_name = &from;
      message.msg_namelen = sizeof from;
      message.msg_iov = &piece;
      message.msg_iovlen = 1;
      std::error_code error;
      const std::size_t size = udp_.receive_message(message, 0, error);
      if (error == std::errc::operation_canceled) return;
      if (error || size < 12) continue;
      packet.resize(size);
      DnsQuestion question = parse(std::move(packet));
      question.from = net::Address::from_native(reinterpret_cast<const ::sockaddr*>(&from), message.msg_namelen);
      note(question);
      group_
          .spawn([this, question = std::move(question)] {
            for (const Packet& each : answer_(question)) send_to(question.from, each);
          })
          .detach();
    }
  }

  void serve_tcp() {
    std::error_code error;
    while (true) {
      net::TcpStream peer = listener_.accept(error);
      if (error) return;
      group_.spawn([this, peer = std::move(peer)]() mutable { converse(peer); }).detach();
    }
  }

  void converse(net::TcpStream& peer) {
    std::error_code error;
    for (;;) {
      unsigned char length[2] = {};
      peer.read_exactly(std::as_writable_bytes(std::span(length)), error);
      if (error) return;
      Packet message(length[0] * 256U + length[1]);
      peer.read_exactly(std::as_writable_bytes(std::span(message)), error);
      if (error || message.size() < 12) return;
      DnsQuestion question = parse(std::move(message));
      question.tcp = true;
      note(question);
      const std::vector<Packet> answers = answer_(question);
      for (const Packet& each : answers) {
        Packet framed;
        if (!raw_tcp) append_word(framed, static_cast<unsigned>(each.size()));
        framed.insert(framed.end(), each.begin(), each.end());
        peer.write_all(std::as_bytes(std::span(framed)), error);
        if (error) return;
        if (drip > Duration::zero()) sleep_for(drip);
      }
    }
  }

 public:
  bool raw_tcp = false;  // what is answered over TCP brings its length itself
  Duration drip{0};      // between the pieces of an answer over TCP

 private:
  Answer answer_;
  net::TcpListener listener_;
  Socket udp_;
  Mutex sending_;
  net::Address address_;
  std::vector<std::string> asked_;
  std::vector<std::uint16_t> ports_;
  Group group_;
};

}  // namespace bight::test
