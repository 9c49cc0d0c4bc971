// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "answer.hpp"
#include "name.hpp"

namespace bight::net::detail {
namespace {

constexpr std::size_t kQuestionTail = 4;  // type and class
constexpr std::size_t kQuestionCount = 4;
constexpr std::size_t kAdditionalCount = 10;
constexpr unsigned char kResponse = 0x80;
constexpr unsigned char kOpcode = 0x78;

/// Lengths of labels are below 'A', so that they can be compared like letters.
bool equal_letters(unsigned char a, unsigned char b) noexcept {
  return lower(static_cast<char>(a)) == lower(static_cast<char>(b));
}

bool is_mere_error(PacketView reply) noexcept {
  switch (static_cast<Rcode>(rcode_of(reply))) {
    case Rcode::ok:
    case Rcode::no_such_name: return false;
    default: return word_at(reply, kQuestionCount) == 0;
  }
}

}  // namespace

std::size_t end_of_question(PacketView query) noexcept {
  std::size_t at = kHeaderSize;
  while (at < query.size() && query[at] != 0) at += query[at] + std::size_t{1};
  return std::min(at + 1 + kQuestionTail, query.size());
}

bool is_reply_to(PacketView reply, PacketView query) noexcept {
  if (reply.size() < kHeaderSize || id_of(reply) != id_of(query)) return false;
  if ((reply[2] & kResponse) == 0 || (reply[2] & kOpcode) != (query[2] & kOpcode)) return false;
  if (is_mere_error(reply)) return true;
  const std::size_t end = end_of_question(query);
  if (word_at(reply, kQuestionCount) != 1 || reply.size() < end) return false;
  if (std::memcmp(query.data() + kHeaderSize, reply.data() + kHeaderSize, end - kHeaderSize) == 0) return true;
  return std::equal(query.begin() + kHeaderSize, query.begin() + static_cast<std::ptrdiff_t>(end),
                    reply.begin() + kHeaderSize, equal_letters);
}

Packet without_opt(PacketView query) {
  const std::size_t end = end_of_question(query);
  if (end == query.size()) return {};
  Packet bare(query.begin(), query.begin() + static_cast<std::ptrdiff_t>(end));
  bare[kAdditionalCount] = bare[kAdditionalCount + 1] = 0;
  return bare;
}

Packet failure_reply(PacketView query) {
  const auto end = static_cast<std::ptrdiff_t>(end_of_question(query));
  Packet reply(query.begin(), query.begin() + end);
  reply[2] |= kResponse;
  reply[3] = static_cast<unsigned char>(Rcode::server_failure);
  reply[kAdditionalCount] = reply[kAdditionalCount + 1] = 0;
  return reply;
}

}  // namespace bight::net::detail
