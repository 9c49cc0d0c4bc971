// SPDX-License-Identifier: Apache-2.0
#include "transport.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <deque>
#include <memory>
#include <new>
#include <utility>

#include <bight/error.hpp>

namespace bight::net::detail {
namespace {

constexpr std::size_t kInARow = 16;
constexpr std::size_t kBudget = 64;  // packets read in a row before other fibers get their turn
constexpr std::size_t kSentMax = 16;

std::span<const std::byte> bytes_of(const Packet& packet) noexcept { return std::as_bytes(std::span(packet)); }

Duration left_until(TimePoint when) noexcept { return std::max(Duration(1), when - now()); }  // zero would be no limit

std::error_code cancelled() noexcept { return std::make_error_code(std::errc::operation_canceled); }
std::error_code timed_out() noexcept { return std::make_error_code(std::errc::timed_out); }

}  // namespace

/// Room for what comes to a port at a time. Of replies that are longer than what was offered to be taken, the beginning
/// will do: they are asked for once more, over TCP.
class Transport::Inbox {
 public:
  Inbox() noexcept {
    for (std::size_t i = 0; i < kPackets; ++i) {
      pieces_[i] = {bytes_[i].data(), bytes_[i].size()};
      headers_[i].msg_hdr = {};
      headers_[i].msg_hdr.msg_iov = &pieces_[i];
      headers_[i].msg_hdr.msg_iovlen = 1;
    }
  }
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;

  /// Waits for one, and takes at most `most`. How many.
  std::size_t receive(Socket& socket, std::size_t most, std::error_code& error) {
    return socket.receive_messages(std::span(headers_).first(std::clamp(most, std::size_t{1}, kPackets)), error);
  }
  [[nodiscard]] PacketView operator[](std::size_t i) const noexcept {
    return PacketView(bytes_[i]).first(std::min<std::size_t>(headers_[i].msg_len, kSize));
  }

 private:
  static constexpr std::size_t kPackets = 16;
  static constexpr std::size_t kSize = 1280;  // more than was offered

  std::array<::mmsghdr, kPackets> headers_;
  std::array<::iovec, kPackets> pieces_;
  std::array<std::array<unsigned char, kSize>, kPackets> bytes_;
};

/// What is sent from one UDP socket.
struct Transport::Port {
  std::size_t server = 0;
  Socket socket;
  bool open = false;      // and connected
  bool retired = false;   // its fiber ends
  bool flushing = false;  // what is queued is about to be sent
  std::size_t uses = 0;
  std::deque<Exchange> pending;      // in the order of their deadlines, for all have the same limit
  std::deque<std::uint16_t> queued;  // ids of those yet to be sent
  Fiber<> fiber;

  [[nodiscard]] Exchange* find(std::uint16_t id) noexcept {
    const auto found =
        std::find_if(pending.begin(), pending.end(), [id](const Exchange& each) { return each.id == id; });
    return found != pending.end() ? &*found : nullptr;
  }
  Exchange remove(const Exchange& exchange) {
    const auto at =
        std::find_if(pending.begin(), pending.end(), [&](const Exchange& each) { return &each == &exchange; });
    Exchange removed = std::move(*at);
    pending.erase(at);
    return removed;
  }
};

/// What is asked over one TCP connection.
struct Transport::Call {
  Exchange exchange;
  Fiber<> fiber;
  bool over = false;
};

template <class Each>
struct Transport::Listed {
  Listed(std::shared_ptr<Transport> whose, std::list<std::shared_ptr<Each>> Transport::*which,
         std::shared_ptr<Each> what) noexcept
      : transport(std::move(whose)), list(which), each(std::move(what)) {}
  Listed(Listed&&) noexcept = default;
  Listed& operator=(Listed&&) = delete;
  ~Listed() {
    if (transport != nullptr) ((*transport).*list).remove(each);
  }

  std::shared_ptr<Transport> transport;
  std::list<std::shared_ptr<Each>> Transport::*list;
  std::shared_ptr<Each> each;
};

/// What the fiber that sends has, also if it never runs.
struct Transport::Sender {
  explicit Sender(std::shared_ptr<Transport> whose) noexcept : transport(std::move(whose)) {}
  Sender(Sender&&) noexcept = default;
  Sender& operator=(Sender&&) = delete;
  ~Sender() {
    if (transport != nullptr) transport->stop_sending();
  }

  std::shared_ptr<Transport> transport;
};

Transport::Transport(std::vector<Address> servers, const TransportLimits& limits, TransportClient& client)
    : servers_(std::move(servers)),
      limits_(limits),
      client_(&client),
      tcp_permits_(static_cast<std::ptrdiff_t>(limits.tcp_max)) {}

Transport::~Transport() = default;

void Transport::start(Exchange& exchange) {
  if (closed_) throw std::system_error(cancelled());
  exchange.deadline = bight::detail::saturating_add(now(), limits_.timeout);
  exchange.id = id_of(exchange.query);
  exchange.tcp ? start_tcp(exchange) : start_udp(exchange);
}

void Transport::end(const Exchange& exchange, PacketView reply, std::error_code error) noexcept {
  if (error == std::errc::timed_out) ++stats_.timeouts;
  if (client_ != nullptr) client_->exchange_ended(exchange, reply, error);
}

void Transport::abandon(std::uint16_t id) noexcept {
  for (const auto& port : ports_) {
    Exchange* exchange = port->find(id);
    if (exchange == nullptr) continue;
    const Exchange removed = port->remove(*exchange);
    if (port->pending.empty()) {
      port->retired = true;
      port->fiber.cancel();
    }
    end(removed, {}, cancelled());
    return;
  }
  for (const auto& call : calls_) {
    if (call->over || call->exchange.id != id) continue;
    call->over = true;
    call->fiber.cancel();
    end(call->exchange, {}, cancelled());
    return;
  }
}

void Transport::shut_down() noexcept {
  client_ = nullptr;
  for (const auto& port : ports_) port->fiber.cancel();
  for (const auto& call : calls_) call->fiber.cancel();
}

// --- UDP -------------------------------------------------------------------------------------------------------------

void Transport::start_udp(Exchange& exchange) {
  std::shared_ptr<Port> port = ports_.size() < limits_.ports_max ? nullptr : shared_port(exchange.server);
  const bool fresh = port == nullptr;
  if (fresh) {
    port = std::make_shared<Port>();
    port->server = exchange.server;
  }
  const std::uint16_t id = exchange.id;
  port->pending.push_back(std::move(exchange));
  port->queued.push_back(id);
  try {
    if (fresh) {
      ports_.push_back(port);
      port->fiber = spawn({.name = "dns port", .daemon = true},
                          [listed = Listed<Port>(shared_from_this(), &Transport::ports_, port)] {
                            listed.transport->run_port(listed.each);
                          });
    } else {
      flush(port);
    }
    ++port->uses;
    ++stats_.queries;
  } catch (...) {
    exchange = std::move(port->pending.back());
    port->pending.pop_back();
    port->queued.pop_back();
    if (fresh) ports_.remove(port);
    throw;
  }
}

/// One of those that go on for a while, each for a few queries in a row, which go out together; null: there is none.
std::shared_ptr<Transport::Port> Transport::shared_port(std::size_t server) noexcept {
  for (std::size_t tried = 0; tried < ports_.size(); ++tried) {
    std::shared_ptr<Port> port = ports_.front();
    const bool fits = port->server == server && port->uses < limits_.port_queries && !port->retired;
    if (!fits || ++shared_in_a_row_ >= kInARow) {
      ports_.splice(ports_.end(), ports_, ports_.begin());
      shared_in_a_row_ = 0;
    }
    if (fits) return port;
  }
  return nullptr;
}

void Transport::run_port(const std::shared_ptr<Port>& port) {
  std::error_code error;
  try {
    error = serve_port(port);
  } catch (const Cancelled&) {
    error = cancelled();
  } catch (...) {
    error = std::make_error_code(std::errc::not_enough_memory);
  }
  port->open = false;
  port->socket.close();
  ports_.remove(port);
  if (ports_.empty() && inboxes_.size() > 1) inboxes_.resize(1);
  if (error == std::errc::operation_canceled && !port->pending.empty()) closed_ = true;
  while (!port->pending.empty()) end(port->remove(port->pending.front()), {}, error ? error : cancelled());
}

/// Returns when no answer is due any more, or with an error of the socket.
std::error_code Transport::serve_port(const std::shared_ptr<Port>& port) {
  const Address& server = servers_[port->server];
  std::error_code error;
  port->socket = Socket::open(server.family(), SOCK_DGRAM, IPPROTO_UDP, error);
  if (!error) port->socket.connect(server.native(), server.native_size(), error);
  if (error) return error;
  port->open = true;
  flush(port);
  std::unique_ptr<Inbox> inbox;
  if (inboxes_.empty()) {
    inbox = std::make_unique<Inbox>();
    inboxes_.reserve(limits_.ports_max);
  } else {
    inbox = std::move(inboxes_.back());
    inboxes_.pop_back();
  }
  error = receive(port, *inbox);
  if (inboxes_.size() < inboxes_.capacity()) inboxes_.push_back(std::move(inbox));
  return error;
}

std::error_code Transport::receive(const std::shared_ptr<Port>& port, Inbox& inbox) {
  for (std::size_t count = 0; !port->pending.empty();) {
    std::error_code error;
    port->socket.set_read_timeout(left_until(port->pending.front().deadline));
    const std::size_t came = inbox.receive(port->socket, port->pending.size() + 1, error);
    if (error && error != std::errc::timed_out) return error;
    for (std::size_t i = 0; !error && i < came; ++i) take(port, inbox[i]);
    expire(*port);
    count += came;
    if (count < kBudget && !(port->pending.empty() && is_busy())) continue;
    count = 0;
    yield();  // who has got an answer often asks the next question
  }
  return {};
}

/// No more ports are opened, and one of them has something to wait for.
bool Transport::is_busy() const noexcept {
  return ports_.size() >= limits_.ports_max &&
         std::any_of(ports_.begin(), ports_.end(), [](const auto& each) { return !each->pending.empty(); });
}

/// It is sent when the fibers that are ready have run, who may have more to send.
void Transport::flush(const std::shared_ptr<Port>& port) {
  if (!port->open || port->flushing || port->queued.empty()) return;  // whoever opens it, or is at it, will come to it
  unsent_.push_back(port);
  port->flushing = true;
  if (sending_) return;
  try {
    spawn({.name = "dns send", .daemon = true}, [sender = Sender{shared_from_this()}] {
      sender.transport->send_all();
    }).detach();
  } catch (...) {
    stop_sending();
    throw;
  }
  sending_ = true;
}

void Transport::stop_sending() noexcept {
  for (const auto& port : unsent_) port->flushing = false;
  unsent_.clear();
  sending_ = false;
}

/// One port waits for another: but a socket has room for more than may be under way from it.
void Transport::send_all() {
  while (!unsent_.empty()) {
    const std::shared_ptr<Port> port = std::move(unsent_.front());
    unsent_.pop_front();
    send_queued(*port);
    port->flushing = false;
  }
}

/// Sends what is queued; what can not be sent ends with the error.
void Transport::send_queued(Port& port) {
  while (port.open && !port.queued.empty()) {
    const std::uint16_t first = port.queued.front();
    std::error_code error;
    std::size_t sent = 0;
    try {
      sent = send_some(port, error);
    } catch (const std::bad_alloc&) {
      error = std::make_error_code(std::errc::not_enough_memory);
    }
    if (error == std::errc::operation_canceled) return port.queued.clear();
    if (!error) {
      port.queued.erase(port.queued.begin(), port.queued.begin() + static_cast<std::ptrdiff_t>(sent));
      continue;
    }
    port.queued.pop_front();
    if (Exchange* exchange = port.find(first)) end(port.remove(*exchange), {}, error);
  }
}

/// The first of what is queued, or several. How many went out, or were over already.
std::size_t Transport::send_some(Port& port, std::error_code& error) {
  std::array<::mmsghdr, kSentMax> headers;
  std::array<::iovec, kSentMax> pieces;
  outbox_.clear();
  std::size_t count = 0;
  for (; count < std::min(kSentMax, port.queued.size()); ++count) {
    const Exchange* exchange = port.find(port.queued[count]);
    if (exchange == nullptr) break;  // over already
    outbox_.insert(outbox_.end(), exchange->query.begin(), exchange->query.end());
    pieces[count].iov_len = exchange->query.size();
  }
  if (count == 0) return 1;
  unsigned char* at = outbox_.data();
  for (std::size_t i = 0; i < count; ++i) {
    pieces[i].iov_base = std::exchange(at, at + pieces[i].iov_len);
    headers[i] = {};
    headers[i].msg_hdr.msg_iov = &pieces[i];
    headers[i].msg_hdr.msg_iovlen = 1;
  }
  return port.socket.send_messages(std::span(headers).first(count), error);
}

void Transport::take(const std::shared_ptr<Port>& port, PacketView packet) {
  Exchange* exchange = packet.size() < kHeaderSize ? nullptr : port->find(id_of(packet));
  if (exchange == nullptr || !is_reply_to(packet, exchange->query)) {
    ++stats_.rejected;
    return;
  }
  if (rcode_of(packet) == static_cast<unsigned>(Rcode::format_error) && !exchange->opt_dropped) {
    Packet bare = without_opt(exchange->query);
    if (!bare.empty()) {
      exchange->query = std::move(bare);
      exchange->opt_dropped = true;
      ++stats_.queries;
      port->queued.push_back(exchange->id);
      flush(port);
      return;
    }
  }
  end(port->remove(*exchange), packet, {});
}

void Transport::expire(Port& port) {
  const TimePoint time = now();
  while (!port.pending.empty() && port.pending.front().deadline <= time) {
    end(port.remove(port.pending.front()), {}, timed_out());
  }
}

// --- TCP -------------------------------------------------------------------------------------------------------------

void Transport::start_tcp(Exchange& exchange) {
  auto call = std::make_shared<Call>();
  call->exchange = std::move(exchange);
  calls_.push_back(call);
  try {
    call->fiber = spawn({.name = "dns call", .daemon = true},
                        [listed = Listed<Call>(shared_from_this(), &Transport::calls_, call)] {
                          listed.transport->run_call(listed.each);
                        });
    ++stats_.queries;
    ++stats_.tcp_queries;
  } catch (...) {
    exchange = std::move(call->exchange);
    calls_.pop_back();
    throw;
  }
}

void Transport::run_call(const std::shared_ptr<Call>& call) {
  std::error_code error;
  Packet reply;
  try {
    if (tcp_permits_.try_acquire_until(call->exchange.deadline)) {
      struct Permit {
        Semaphore& permits;
        ~Permit() { permits.release(); }
      } permit{tcp_permits_};
      reply = converse(*call, error);
    } else {
      error = timed_out();
    }
  } catch (const Cancelled&) {
    error = cancelled();
  } catch (...) {  // a server may announce more than there is memory for
    error = std::make_error_code(std::errc::not_enough_memory);
  }
  calls_.remove(call);
  if (error == std::errc::operation_canceled && !call->over) closed_ = true;
  if (!std::exchange(call->over, true)) end(call->exchange, reply, error);
}

/// All within the exchange's limit, however the server deals out its bytes.
Packet Transport::converse(Call& call, std::error_code& error) {
  const Address& server = servers_[call.exchange.server];
  const Packet& query = call.exchange.query;
  Socket socket = Socket::open(server.family(), SOCK_STREAM, IPPROTO_TCP, error);
  if (error) return {};
  socket.set_option(IPPROTO_TCP, TCP_NODELAY, 1, error);
  socket.set_write_timeout(left_until(call.exchange.deadline));
  socket.connect(server.native(), server.native_size(), error);
  if (error) return {};
  Packet framed{static_cast<unsigned char>(query.size() >> 8U), static_cast<unsigned char>(query.size())};
  framed.insert(framed.end(), query.begin(), query.end());
  socket.set_write_timeout(left_until(call.exchange.deadline));
  socket.write_all(bytes_of(framed), error);
  if (error) return {};

  const auto read_whole = [&](std::span<std::byte> into) {
    while (!into.empty()) {
      if (now() >= call.exchange.deadline) error = timed_out();
      if (error) return;
      socket.set_read_timeout(left_until(call.exchange.deadline));
      const std::size_t count = socket.read(into, error);
      if (!error && count == 0) error = std::make_error_code(std::errc::connection_aborted);
      if (error) return;
      into = into.subspan(count);
    }
  };
  std::array<unsigned char, 2> size{};
  read_whole(std::as_writable_bytes(std::span(size)));
  if (error) return {};
  Packet reply(word_at(size, 0));
  read_whole(std::as_writable_bytes(std::span(reply)));
  if (error) return {};
  if (!is_reply_to(reply, query)) {
    ++stats_.rejected;
    error = std::make_error_code(std::errc::bad_message);
  }
  return reply;
}

}  // namespace bight::net::detail
