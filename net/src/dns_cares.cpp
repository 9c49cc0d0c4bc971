// SPDX-License-Identifier: Apache-2.0
// All there is of c-ares: how messages are written, and names in them read. From 1.18 (Debian 12) on; later versions
// deprecate some of what is used, and keep it.
#include <ares.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "dns/answer.hpp"
#include "dns/channel.hpp"
#include "dns/name.hpp"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace bight::net::detail {
namespace {

constexpr int kInternet = 1;  // the class
constexpr std::size_t kAliasesMax = 16;
constexpr std::size_t kRecordsMax = 512;  // of an answer, that are looked at

// --- Reading replies -------------------------------------------------------------------------------------------------

/// What most records begin with: a reference to the question's name.
constexpr unsigned kToQuestion = 0xc000U | kHeaderSize;

/// Walks over a reply. What would lead out of it makes it bad, and everything read from then on empty.
class Reader {
 public:
  Reader(PacketView reply, std::size_t at) noexcept : reply_(reply), at_(at) {}

  [[nodiscard]] bool bad() const noexcept { return bad_; }
  [[nodiscard]] std::size_t at() const noexcept { return at_; }

  std::uint16_t word() noexcept {
    if (!has(2)) return 0;
    const auto value = static_cast<std::uint16_t>(word_at(reply_, at_));
    at_ += 2;
    return value;
  }
  std::uint32_t long_word() noexcept {
    const std::uint32_t high = word();
    return high << 16U | word();
  }
  PacketView bytes(std::size_t count) noexcept {
    if (!has(count)) return {};
    at_ += count;
    return reply_.subspan(at_ - count, count);
  }
  /// Goes over what is next if it is that.
  bool skip(std::uint16_t word) noexcept {
    if (bad_ || reply_.size() - at_ < 2 || word_at(reply_, at_) != word) return false;
    at_ += 2;
    return true;
  }
  /// In lower case, without a dot at the end; what can not be printed is escaped.
  std::string name() {
    if (!has(1)) return {};
    char* text = nullptr;
    long length = 0;
    const int status =
        ::ares_expand_name(reply_.data() + at_, reply_.data(), static_cast<int>(reply_.size()), &text, &length);
    if (status == ARES_ENOMEM) throw std::bad_alloc();
    if (status != ARES_SUCCESS) {
      bad_ = true;
      return {};
    }
    const std::unique_ptr<char, decltype(&::ares_free_string)> owned(text, &::ares_free_string);
    at_ += static_cast<std::size_t>(length);
    return lower(text);
  }

 private:
  bool has(std::size_t count) noexcept {
    if (count > reply_.size() - at_) bad_ = true;
    return !bad_;
  }

  PacketView reply_;
  std::size_t at_;
  bool bad_ = false;
};

struct Record {
  bool of_question = false;  // then `owner` is empty
  std::string owner;
  std::uint16_t type = 0;
  std::uint16_t record_class = 0;
  std::uint32_t ttl = 0;
  std::size_t data = 0;  // where it begins
  std::uint16_t size = 0;
};

Record read_record(Reader& reader) {
  Record record;
  record.of_question = reader.skip(kToQuestion);
  if (!record.of_question) record.owner = reader.name();
  record.type = reader.word();
  record.record_class = reader.word();
  record.ttl = reader.long_word();
  if (record.ttl > 0x7fffffffU) record.ttl = 0;  // RFC 2181
  record.size = reader.word();
  record.data = reader.at();
  reader.bytes(record.size);
  return record;
}

std::vector<Record> read_records(Reader& reader, std::size_t count) {
  constexpr std::size_t kUsual = 8;
  std::vector<Record> records;
  records.reserve(std::min(count, kUsual));
  for (std::size_t i = 0; i < count && !reader.bad(); ++i) {
    if (i == kRecordsMax) break;
    Record record = read_record(reader);
    if (!reader.bad() && record.record_class == kInternet) records.push_back(std::move(record));
  }
  return records;
}

bool is(const Record& record, RecordType type) noexcept { return record.type == static_cast<std::uint16_t>(type); }

/// Whether it is one of `name`, in a reply about `question`.
bool is_of(const Record& record, const std::string& name, const std::string& question) noexcept {
  return (record.of_question ? question : record.owner) == name;
}

/// The strings of a TXT record, joined.
std::string read_text(PacketView data, bool& bad) {
  std::string text;
  while (!data.empty()) {
    const std::size_t length = data[0];
    if (length >= data.size()) {
      bad = true;
      break;
    }
    text.append(reinterpret_cast<const char*>(data.data()) + 1, length);
    data = data.subspan(length + 1);
  }
  return text;
}

/// Takes a record of the kind that was asked for into the answer. Whether it is one.
bool take_record(DnsAnswer& answer, const Record& record, PacketView reply) {
  Reader reader(reply.first(record.data + record.size), record.data);
  bool bad = false;
  switch (static_cast<RecordType>(record.type)) {
    case RecordType::a: {
      if (record.size != 4) return false;
      ::sockaddr_in native{};
      native.sin_family = AF_INET;
      std::memcpy(&native.sin_addr, reader.bytes(4).data(), 4);
      answer.addresses.push_back(Address::from_native(reinterpret_cast<const ::sockaddr*>(&native), sizeof native));
      return true;
    }
    case RecordType::aaaa: {
      if (record.size != 16) return false;
      ::sockaddr_in6 native{};
      native.sin6_family = AF_INET6;
      std::memcpy(&native.sin6_addr, reader.bytes(16).data(), 16);
      answer.addresses.push_back(Address::from_native(reinterpret_cast<const ::sockaddr*>(&native), sizeof native));
      return true;
    }
    case RecordType::ns:
    case RecordType::ptr:
    case RecordType::cname: answer.names.push_back(reader.name()); break;
    case RecordType::mx: {
      MxRecord mx;
      mx.preference = reader.word();
      mx.host = reader.name();
      answer.mx.push_back(std::move(mx));
      break;
    }
    case RecordType::srv: {
      SrvRecord srv;
      srv.priority = reader.word();
      srv.weight = reader.word();
      srv.port = reader.word();
      srv.host = reader.name();
      answer.srv.push_back(std::move(srv));
      break;
    }
    case RecordType::txt: answer.names.push_back(read_text(reader.bytes(record.size), bad)); break;
    case RecordType::soa: break;
  }
  return !bad && !reader.bad() &&
         (record.type == static_cast<std::uint16_t>(RecordType::txt) || reader.at() == record.data + record.size);
}

/// Follows aliases from `name` through the records. Returns false for a loop. `ttl` becomes the least on the way.
bool follow_aliases(std::string& name, const std::vector<Record>& records, PacketView reply, std::uint32_t& ttl) {
  const bool any =
      std::any_of(records.begin(), records.end(), [](const Record& each) { return is(each, RecordType::cname); });
  if (!any) return true;
  const std::string question = name;
  for (std::size_t hops = 0; hops <= kAliasesMax; ++hops) {
    const auto alias = std::find_if(records.begin(), records.end(), [&](const Record& each) {
      return is(each, RecordType::cname) && is_of(each, name, question);
    });
    if (alias == records.end()) return true;
    Reader reader(reply.first(alias->data + alias->size), alias->data);
    name = reader.name();
    if (reader.bad() || name.empty()) return false;
    ttl = std::min(ttl, alias->ttl);
  }
  return false;
}

/// How long "no" holds: the least of the SOA record's TTL and its last field (RFC 2308). Without one it is not kept.
std::optional<std::uint32_t> negative_ttl(const std::vector<Record>& authority, PacketView reply,
                                          const std::string& name, const std::string& question) {
  for (const Record& record : authority) {
    const std::string& zone = record.of_question ? question : record.owner;
    if (!is(record, RecordType::soa) || !(zone.empty() || is_within(name, zone))) continue;
    Reader reader(reply.first(record.data + record.size), record.data);
    reader.name();
    reader.name();
    for (int i = 0; i < 4; ++i) reader.long_word();
    const std::uint32_t minimum = reader.long_word();
    if (!reader.bad()) return std::min(record.ttl, minimum);
  }
  return std::nullopt;
}

}  // namespace

DnsAnswer parse_answer(PacketView reply, const std::string& name, RecordType type, std::error_code& error) {
  error = DnsError::malformed_answer;
  DnsAnswer answer;
  answer.name = name;
  if (reply.size() < kHeaderSize || is_truncated(reply) || word_at(reply, 4) != 1) return answer;
  Reader reader(reply, end_of_question(reply));
  const std::vector<Record> records = read_records(reader, word_at(reply, 6));
  if (reader.bad()) return answer;
  std::uint32_t ttl = 0xffffffffU;
  if (type != RecordType::cname && !follow_aliases(answer.name, records, reply, ttl)) return answer;
  bool found = false;
  for (const Record& record : records) {
    if (!is(record, type) || !is_of(record, answer.name, name)) continue;
    if (!take_record(answer, record, reply)) return answer;
    ttl = std::min(ttl, record.ttl);
    found = true;
  }
  error.clear();
  if (found) {
    answer.ttl = ttl;
    return answer;
  }
  const bool nothing = rcode_of(reply) == static_cast<unsigned>(Rcode::no_such_name);
  answer.error = nothing ? DnsError::no_such_name : DnsError::no_data;
  if (records.size() < kRecordsMax) {
    answer.ttl = negative_ttl(read_records(reader, word_at(reply, 8)), reply, answer.name, name);
  }
  if (answer.ttl) answer.ttl = std::min(*answer.ttl, ttl);
  return answer;
}

EncodedQuery::EncodedQuery(const std::string& name, RecordType type, std::uint16_t id, int udp_size) {
  const int status =
      ::ares_create_query(name.c_str(), kInternet, static_cast<int>(type), id, 1, &data_, &size_, udp_size);
  if (status == ARES_ENOMEM) throw std::bad_alloc();
}

EncodedQuery::~EncodedQuery() { ::ares_free_string(data_); }

ResolverBackend default_backend() noexcept { return ResolverBackend::dns; }

}  // namespace bight::net::detail
