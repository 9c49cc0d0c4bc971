// SPDX-License-Identifier: Apache-2.0
// All there is of c-ares. From 1.18 (Debian 12) on; later versions deprecate some of what is used, and keep it.
#include <ares.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <list>
#include <memory>
#include <new>
#include <unordered_map>
#include <utility>

#include "dns/answer.hpp"
#include "dns/channel.hpp"
#include "dns/name.hpp"
#include "dns/query.hpp"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace bight::net::detail {
namespace {

constexpr int kInternet = 1;  // the class
constexpr std::size_t kAliasesMax = 16;
constexpr std::size_t kRecordsMax = 512;     // of an answer, that are looked at
constexpr int kNever = 24 * 60 * 60 * 1000;  // ms; of c-ares's clock, which is not the loop's

// --- Reading replies -------------------------------------------------------------------------------------------------

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
  std::string owner;
  std::uint16_t type = 0;
  std::uint16_t record_class = 0;
  std::uint32_t ttl = 0;
  std::size_t data = 0;  // where it begins
  std::uint16_t size = 0;
};

Record read_record(Reader& reader) {
  Record record;
  record.owner = reader.name();
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
  std::vector<Record> records;
  for (std::size_t i = 0; i < count && !reader.bad(); ++i) {
    if (i == kRecordsMax) break;
    Record record = read_record(reader);
    if (!reader.bad() && record.record_class == kInternet) records.push_back(std::move(record));
  }
  return records;
}

bool is(const Record& record, RecordType type) noexcept { return record.type == static_cast<std::uint16_t>(type); }

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
  for (std::size_t hops = 0; hops <= kAliasesMax; ++hops) {
    const auto alias = std::find_if(records.begin(), records.end(), [&](const Record& each) {
      return is(each, RecordType::cname) && each.owner == name;
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
                                          const std::string& name) {
  for (const Record& record : authority) {
    if (!is(record, RecordType::soa) || !(record.owner.empty() || is_within(name, record.owner))) continue;
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
  Reader reader(reply, kHeaderSize);
  reader.name();
  reader.bytes(4);
  const std::vector<Record> records = read_records(reader, word_at(reply, 6));
  if (reader.bad()) return answer;
  std::uint32_t ttl = 0xffffffffU;
  if (type != RecordType::cname && !follow_aliases(answer.name, records, reply, ttl)) return answer;
  bool found = false;
  for (const Record& record : records) {
    if (!is(record, type) || record.owner != answer.name) continue;
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
    answer.ttl = negative_ttl(read_records(reader, word_at(reply, 8)), reply, answer.name);
  }
  if (answer.ttl) answer.ttl = std::min(*answer.ttl, ttl);
  return answer;
}

Packet encode_query(const std::string& name, RecordType type, std::uint16_t id, int udp_size) {
  unsigned char* buffer = nullptr;
  int length = 0;
  const int status =
      ::ares_create_query(name.c_str(), kInternet, static_cast<int>(type), id, 1, &buffer, &length, udp_size);
  if (status == ARES_ENOMEM) throw std::bad_alloc();
  if (status != ARES_SUCCESS) return {};
  const std::unique_ptr<void, decltype(&::ares_free_string)> owned(buffer, &::ares_free_string);
  return {buffer, buffer + length};
}

// --- The channel -----------------------------------------------------------------------------------------------------

struct DnsChannel::Cares {
  /// What c-ares takes for a socket.
  struct VirtualSocket {
    ares_socket_t fd = ARES_SOCKET_BAD;
    std::size_t server = 0;
    bool connected = false;
    bool tcp = false;
    std::deque<Packet> inbox;  // with their lengths in front where it is TCP
    std::size_t taken = 0;     // of the first
    bool ready = false;        // c-ares is to look at it
    bool broken = false;       // a reply got lost, for want of memory
  };

  explicit Cares(DnsChannel& whose, const DnsConfig& config) : owner(whose) {
    ::ares_options options{};
    ::in_addr placeholder{htonl(INADDR_LOOPBACK)};
    char lookups[] = "b";
    // All that it would otherwise look for in files is said.
    options.flags = ARES_FLAG_EDNS | ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | (config.use_tcp ? ARES_FLAG_USEVC : 0);
    options.timeout = kNever;
    options.tries = 1;
    options.ndots = 1;
    options.servers = &placeholder;
    options.nservers = 1;
    options.lookups = lookups;
    options.ednspsz = kUdpSize;
    options.sock_state_cb = &state_changed;
    options.sock_state_cb_data = this;
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_NDOTS | ARES_OPT_SERVERS |
               ARES_OPT_DOMAINS | ARES_OPT_SOCK_STATE_CB | ARES_OPT_LOOKUPS | ARES_OPT_SORTLIST | ARES_OPT_EDNSPSZ |
               (config.rotate ? ARES_OPT_ROTATE : ARES_OPT_NOROTATE);
#ifdef ARES_OPT_QUERY_CACHE
    mask |= ARES_OPT_QUERY_CACHE;  // of zero seconds: there is one above
#endif
    if (::ares_init_options(&channel, &options, mask) != ARES_SUCCESS) throw std::bad_alloc();
    ::ares_set_socket_functions(channel, &kFunctions, this);
    if (!set_servers()) {
      ::ares_destroy(channel);
      throw std::bad_alloc();
    }
  }
  Cares(const Cares&) = delete;
  Cares& operator=(const Cares&) = delete;
  ~Cares() { ::ares_destroy(channel); }

  bool set_servers() {
    std::vector<::ares_addr_port_node> nodes(owner.servers_.size());
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      const Address& server = owner.servers_[i];
      ::ares_addr_port_node& node = nodes[i];
      node = {};
      node.next = i + 1 < nodes.size() ? &nodes[i + 1] : nullptr;
      node.family = server.family();
      node.udp_port = node.tcp_port = server.port();
      if (server.is_v4()) {
        node.addr.addr4 = reinterpret_cast<const ::sockaddr_in*>(server.native())->sin_addr;
      } else {
        std::memcpy(&node.addr.addr6, &reinterpret_cast<const ::sockaddr_in6*>(server.native())->sin6_addr,
                    sizeof node.addr.addr6);
      }
    }
    return ::ares_set_servers_ports(channel, nodes.data()) == ARES_SUCCESS;
  }

  static Cares& from(void* data) noexcept { return *static_cast<Cares*>(data); }

  /// Enters c-ares. What comes for its sockets meanwhile it reads before this returns, unless it is in it already.
  template <class Enter>
  void run(Enter&& enter) noexcept {
    if (std::exchange(inside, true)) return enter();
    const std::shared_ptr<DnsChannel> kept = owner.shared_from_this();  // the query that ends may be all that keeps it
    enter();
    while (VirtualSocket* socket = find_ready()) {
      socket->ready = false;
      const ares_socket_t fd = socket->fd;
      ::ares_process_fd(channel, fd, fd);  // it reads a length or a message in one go
      if (VirtualSocket* again = find(fd)) again->ready |= !again->inbox.empty() || again->broken;
    }
    inside = false;
    owner.owner_.settled();
  }

  [[nodiscard]] VirtualSocket* find_ready() noexcept {
    const auto found = std::find_if(sockets.begin(), sockets.end(), [](const auto& each) { return each.ready; });
    return found != sockets.end() ? &*found : nullptr;
  }
  [[nodiscard]] VirtualSocket* find(ares_socket_t fd) noexcept {
    const auto found = std::find_if(sockets.begin(), sockets.end(), [fd](const auto& each) { return each.fd == fd; });
    return found != sockets.end() ? &*found : nullptr;
  }

  void deliver(const Exchange& exchange, PacketView reply) noexcept {
    const auto socket = std::find_if(sockets.begin(), sockets.end(), [&](const auto& each) {
      return each.connected && each.server == exchange.server && each.tcp == exchange.tcp;
    });
    if (socket == sockets.end()) return;  // closed since then, and all queries on it have moved on
    try {
      Packet packet;
      packet.reserve(reply.size() + 2);
      if (exchange.tcp) {
        packet = {static_cast<unsigned char>(reply.size() >> 8U), static_cast<unsigned char>(reply.size())};
      }
      packet.insert(packet.end(), reply.begin(), reply.end());
      socket->inbox.push_back(std::move(packet));
    } catch (const std::bad_alloc&) {
      socket->broken = true;
    }
    run([&] { socket->ready = true; });
  }

  // What c-ares calls.

  static ares_socket_t open(int family, int type, int protocol, void* data) noexcept;
  static int close(ares_socket_t fd, void* data) noexcept;
  static int connect(ares_socket_t fd, const ::sockaddr* address, ares_socklen_t length, void* data) noexcept;
  static ares_ssize_t receive(ares_socket_t fd, void* buffer, std::size_t size, int flags, ::sockaddr* from,
                              ares_socklen_t* from_length, void* data) noexcept;
  static ares_ssize_t send(ares_socket_t fd, const ::iovec* pieces, int count, void* data) noexcept;
  static void state_changed(void* data, ares_socket_t fd, int readable, int writable) noexcept;
  static void ended(void* argument, int status, int timeouts, unsigned char* reply, int length) noexcept;
  static constexpr ::ares_socket_functions kFunctions{&open, &close, &connect, &receive, &send};

  void start_exchange(const VirtualSocket& socket, PacketView message);

  DnsChannel& owner;
  ::ares_channel channel{};
  std::list<VirtualSocket> sockets;                                      // at most two for each server
  std::unordered_map<std::uint16_t, std::shared_ptr<DnsQuery>> queries;  // by the id on the wire
  std::shared_ptr<DnsQuery> sending;
  ares_socket_t next_fd = 1;
  bool inside = false;
  static constexpr int kUdpSize = 1232;  // what fits into every network's packets (DNS flag day 2020)
};

ares_socket_t DnsChannel::Cares::open(int /*family*/, int type, int /*protocol*/, void* data) noexcept {
  Cares& self = from(data);
  try {
    VirtualSocket& socket = self.sockets.emplace_back();
    socket.fd = self.next_fd++;
    socket.tcp = type == SOCK_STREAM;
    if (self.next_fd < 0) self.next_fd = 1;
    return socket.fd;
  } catch (const std::bad_alloc&) {
    errno = ENOMEM;
    return ARES_SOCKET_BAD;
  }
}

int DnsChannel::Cares::close(ares_socket_t fd, void* data) noexcept {
  from(data).sockets.remove_if([fd](const VirtualSocket& each) { return each.fd == fd; });
  return 0;
}

int DnsChannel::Cares::connect(ares_socket_t fd, const ::sockaddr* address, ares_socklen_t length,
                               void* data) noexcept {
  Cares& self = from(data);
  VirtualSocket* socket = self.find(fd);
  const Address peer = Address::from_native(address, length);
  const std::vector<Address>& servers = self.owner.servers_;
  const auto server = std::find_if(servers.begin(), servers.end(), [&](const Address& each) {
    return each.port() == peer.port() &&
           each.host().substr(0, each.host().find('%')) == peer.host();  // it knows no scopes
  });
  if (socket == nullptr || server == servers.end()) {
    errno = ENETUNREACH;
    return -1;
  }
  socket->server = static_cast<std::size_t>(server - servers.begin());
  socket->connected = true;
  return 0;
}

ares_ssize_t DnsChannel::Cares::receive(ares_socket_t fd, void* buffer, std::size_t size, int /*flags*/,
                                        ::sockaddr* sender, ares_socklen_t* sender_length, void* data) noexcept {
  Cares& self = from(data);
  VirtualSocket* socket = self.find(fd);
  if (socket == nullptr || std::exchange(socket->broken, false)) {
    errno = ENOMEM;
    return -1;
  }
  if (socket->inbox.empty()) {
    errno = EAGAIN;
    return -1;
  }
  const Packet& packet = socket->inbox.front();
  const std::size_t count = std::min(size, packet.size() - socket->taken);
  std::memcpy(buffer, packet.data() + socket->taken, count);
  socket->taken += count;
  if (!socket->tcp || socket->taken == packet.size()) {  // what a datagram's reader has no room for is lost
    socket->inbox.pop_front();
    socket->taken = 0;
  }
  if (sender != nullptr && sender_length != nullptr) {
    const Address& server = self.owner.servers_[socket->server];
    *sender_length = std::min<ares_socklen_t>(*sender_length, server.native_size());
    std::memcpy(sender, server.native(), *sender_length);
  }
  return static_cast<ares_ssize_t>(count);
}

ares_ssize_t DnsChannel::Cares::send(ares_socket_t fd, const ::iovec* pieces, int count, void* data) noexcept {
  Cares& self = from(data);
  const VirtualSocket* socket = self.find(fd);
  if (socket == nullptr) {
    errno = EBADF;
    return -1;
  }
  try {
    if (!socket->tcp && count == 1) {
      self.start_exchange(*socket, {static_cast<const unsigned char*>(pieces->iov_base), pieces->iov_len});
      return static_cast<ares_ssize_t>(pieces->iov_len);
    }
    Packet whole;
    for (int i = 0; i < count; ++i) {
      const auto* begin = static_cast<const unsigned char*>(pieces[i].iov_base);
      whole.insert(whole.end(), begin, begin + pieces[i].iov_len);
    }
    PacketView left(whole);
    if (!socket->tcp) {
      self.start_exchange(*socket, left);
    } else {
      while (left.size() > 2) {  // whole messages, for nothing of what it sends is ever left over
        const std::size_t size = std::min<std::size_t>(word_at(left, 0), left.size() - 2);
        self.start_exchange(*socket, left.subspan(2, size));
        left = left.subspan(2 + size);
      }
    }
    return static_cast<ares_ssize_t>(whole.size());
  } catch (const std::bad_alloc&) {
    errno = ENOMEM;
    return -1;
  }
}

/// It wants to write to a TCP socket: it can, always.
void DnsChannel::Cares::state_changed(void* data, ares_socket_t fd, int /*readable*/, int writable) noexcept {
  Cares& self = from(data);
  VirtualSocket* socket = self.find(fd);
  if (socket != nullptr && writable != 0) self.run([&] { socket->ready = true; });
}

void DnsChannel::Cares::start_exchange(const VirtualSocket& socket, PacketView message) {
  if (message.size() < kHeaderSize) return;
  const std::uint16_t id = id_of(message);
  if (sending != nullptr) {  // later ones give queries ids of their own
    if (sending->id != id) queries.erase(sending->id);
    sending->id = id;
    queries.insert_or_assign(id, sending);
  }
  Exchange exchange;
  exchange.server = socket.server;
  exchange.tcp = socket.tcp;
  exchange.query.assign(message.begin(), message.end());
  const auto found = queries.find(id);
  std::error_code error = std::make_error_code(std::errc::operation_canceled);
  if (found != queries.end() && !found->second->abandoned) {
    try {
      owner.transport_->start(exchange);
      return;
    } catch (const std::system_error& failure) {  // no more fibers, or no memory for another's stack
      error = failure.code();
    }
  }
  owner.exchange_ended(exchange, {}, error);
}

void DnsChannel::Cares::ended(void* argument, int status, int /*timeouts*/, unsigned char* reply, int length) noexcept {
  if (status == ARES_EDESTRUCTION) return;
  auto& query = *static_cast<DnsQuery*>(argument);
  Cares& self = *query.channel->cares_;
  const auto found = self.queries.find(query.id);
  if (found == self.queries.end()) return;
  const std::shared_ptr<DnsQuery> kept = std::move(found->second);
  self.queries.erase(found);
  PacketView view;
  if (status == ARES_SUCCESS && reply != nullptr) view = {reply, static_cast<std::size_t>(length)};
  self.owner.owner_.pass_ended(*kept, view);
}

DnsChannel::DnsChannel(const DnsConfig& config, const TransportLimits& limits, QueryOwner& owner)
    : servers_(config.servers),
      owner_(owner),
      transport_(std::make_shared<Transport>(config.servers, limits, static_cast<TransportClient&>(*this))),
      cares_(std::make_unique<Cares>(*this, config)) {}

DnsChannel::~DnsChannel() { shut_down(); }

void DnsChannel::shut_down() noexcept {
  transport_->shut_down();
  const std::unique_ptr<Cares> ended = std::move(cares_);
}

ResolverBackend default_backend() noexcept { return ResolverBackend::dns; }

bool DnsChannel::send(const std::shared_ptr<DnsQuery>& query) {
  std::uint16_t id = query->id;
  while (cares_->queries.contains(id)) ++id;
  const Packet message = encode_query(query->name, query->type, id, Cares::kUdpSize);
  if (message.empty()) return false;
  query->id = id;
  cares_->queries.emplace(id, query);
  cares_->run([&] {
    const std::shared_ptr<DnsQuery> before = std::exchange(cares_->sending, query);
    ::ares_send(cares_->channel, message.data(), static_cast<int>(message.size()), &Cares::ended, query.get());
    cares_->sending = before;
  });
  return true;
}

void DnsChannel::abandon(DnsQuery& query) noexcept {
  query.abandoned = true;
  transport_->abandon(query.id);
}

void DnsChannel::exchange_ended(const Exchange& exchange, PacketView reply, std::error_code error) noexcept {
  const auto found = cares_->queries.find(id_of(exchange.query));
  if (found == cares_->queries.end()) return;
  const std::shared_ptr<DnsQuery> query = found->second;
  query->asked = exchange.server;
  if (!error && !reply.empty()) {
    const auto rcode = static_cast<Rcode>(rcode_of(reply));
    if (rcode == Rcode::refused) {
      error = DnsError::refused;
    } else if (rcode != Rcode::ok && rcode != Rcode::no_such_name) {
      error = DnsError::server_failure;
    }
  }
  try {
    if (error) {
      query->timed_out |= error == std::errc::timed_out;
      query->trail.push_back({exchange.server, error});
      cares_->deliver(exchange, failure_reply(exchange.query));
    } else {
      cares_->deliver(exchange, reply);
    }
  } catch (const std::bad_alloc&) {
    cares_->deliver(exchange, {});
  }
}

}  // namespace bight::net::detail
