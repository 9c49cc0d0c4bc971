// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <bight/net/address.hpp>
#include <bight/net/dns.hpp>

namespace bight::net::detail {

using Packet = std::vector<unsigned char>;
using PacketView = std::span<const unsigned char>;

/// Kinds of records, by their numbers on the wire.
enum class RecordType : std::uint16_t {
  a = 1,
  ns = 2,
  cname = 5,
  soa = 6,
  ptr = 12,
  mx = 15,
  txt = 16,
  aaaa = 28,
  srv = 33
};

/// What servers have said about a name and a kind of record. Shared, and never changed once it is made.
struct DnsAnswer {
  std::error_code error;                     // none, or no_such_name, or no_data
  std::string name;                          // what the name is an alias for, or the name
  std::optional<std::uint32_t> ttl;          // in seconds; none: not to be kept
  TimePoint expires{};                       // what comes of that; not in the future: not kept
  std::shared_ptr<const std::string> asked;  // whom

  // Of these, those that were asked for.
  std::vector<Address> addresses;
  std::vector<std::string> names;  // of NS, PTR, CNAME; the texts of TXT
  std::vector<MxRecord> mx;
  std::vector<SrvRecord> srv;
};

// --- The wire: dns_cares.cpp -----------------------------------------------------------------------------------------

inline constexpr std::size_t kHeaderSize = 12;
inline constexpr std::size_t kMessageMax = 65535;

/// A question, with an OPT record that offers to take `udp_size` bytes by UDP. Throws std::bad_alloc.
class EncodedQuery {
 public:
  EncodedQuery(const std::string& name, RecordType type, std::uint16_t id, int udp_size);
  EncodedQuery(const EncodedQuery&) = delete;
  EncodedQuery& operator=(const EncodedQuery&) = delete;
  ~EncodedQuery();

  /// Empty: the name has no encoding.
  [[nodiscard]] PacketView view() const noexcept { return {data_, static_cast<std::size_t>(size_)}; }

 private:
  unsigned char* data_ = nullptr;
  int size_ = 0;
};

/// Makes of a reply what it says about `name`. The reply's rcode is 0 or 3 (no such name), and its question has been
/// looked at. Only records of `name` and of what it is an alias for count. Never reads outside; whatever is wrong is
/// malformed_answer in `error`.
[[nodiscard]] DnsAnswer parse_answer(PacketView reply, const std::string& name, RecordType type,
                                     std::error_code& error);

// --- Headers, which need no library ----------------------------------------------------------------------------------

enum class Rcode : unsigned char { ok = 0, format_error = 1, server_failure = 2, no_such_name = 3, refused = 5 };

/// Of what has a header.
[[nodiscard]] inline std::uint16_t id_of(PacketView message) noexcept {
  return static_cast<std::uint16_t>(message[0] << 8U | message[1]);
}
[[nodiscard]] inline unsigned rcode_of(PacketView message) noexcept { return message[3] & 0xFU; }
[[nodiscard]] inline bool is_truncated(PacketView message) noexcept { return (message[2] & 0x02U) != 0; }
/// The number at `at`: counts of the header and the like.
[[nodiscard]] inline unsigned word_at(PacketView message, std::size_t at) noexcept {
  return static_cast<unsigned>(message[at]) << 8U | message[at + 1];
}
/// Where the question of an EncodedQuery ends, or of a reply to it.
[[nodiscard]] std::size_t end_of_question(PacketView query) noexcept;
/// Whether `reply` is one to `query`: the id, the opcode, and the same question, whatever its letters' case. A reply
/// that gives a mere error need not repeat the question.
[[nodiscard]] bool is_reply_to(PacketView reply, PacketView query) noexcept;
/// The query without its OPT record, for servers that do not know of it. Empty if it has none.
[[nodiscard]] Packet without_opt(PacketView query);
/// What a server that fails would answer.
[[nodiscard]] Packet failure_reply(PacketView query);

}  // namespace bight::net::detail
