// SPDX-License-Identifier: Apache-2.0
#include "connection.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/run.hpp>
#include <bight/this_shard.hpp>

namespace bight::http::detail {
namespace {

// A larger body is not copied behind its head, but sent from where it is.
constexpr std::size_t kInlineBodyMax = 16 * 1024;

// Once this part of a body has come, all of its memory is taken in one go. Not before: a length is quickly claimed.
constexpr std::size_t kBelievedFrom = 32;

// A look at what is there. However busy the machine, the loop asks the engine before it looks for timers due.
constexpr Duration kLook = std::chrono::milliseconds(1);

// After the stop: who has connected and asked for nothing yet has been on the way, and took being let in for a promise.
constexpr Duration kFirstRequestPatience = std::chrono::milliseconds(500);

// After so many requests that came in one go others get their turn; handlers that do not wait could go on for long.
constexpr unsigned kRequestsInARow = 64;

// To be called where the handler's exception has been caught: the same, with the request it was about.
std::exception_ptr failure_of(const Request& request) noexcept {
  constexpr std::size_t target_shown_max = 200;
  try {
    std::string what = "the handler of ";
    what.append(request.method_name())
        .append(" ")
        .append(request.target().substr(0, target_shown_max))
        .append(" failed: ");
    try {
      throw;
    } catch (const std::exception& error) {
      what += error.what();
    } catch (...) {
      what += "what it threw is no std::exception";
    }
    std::throw_with_nested(std::runtime_error(what));
  } catch (...) {
    return std::current_exception();
  }
}

}  // namespace

// --- ServerState -----------------------------------------------------------------------------------------------------

ServerState::ServerState(const Handler& to_call, const ServerOptions& how)
    : handler(to_call),
      options(how),
      exchanges(how.limits),
      writer(how.server_name, this_loop::engine_name() == "sim") {}

void ServerState::link(Connection& connection) noexcept {
  connection.next_ = std::exchange(first, &connection);
  if (connection.next_ != nullptr) connection.next_->previous_ = &connection;
}

void ServerState::unlink(Connection& connection) noexcept {
  (connection.previous_ != nullptr ? connection.previous_->next_ : first) = connection.next_;
  if (connection.next_ != nullptr) connection.next_->previous_ = connection.previous_;
}

// Daemon or not, what it refers to is here.
ServerState::~ServerState() {
  if (!grace) return;
  grace.cancel();
  const Shield shield;
  grace.join();
}

void ServerState::stop() {
  stopping = true;
  if (!this_shard::is_retiring() || options.keep_alive_grace == Duration::zero()) {
    close_idle();
    return;
  }
  idle_until = bight::detail::saturating_add(now(), std::min(options.keep_alive_grace, options.drain));
  try {
    grace = spawn({.name = "http: keep-alive grace", .daemon = true}, [this] {
      sleep_until(idle_until);
      close_idle();
    });
  } catch (const std::exception&) {  // no fiber to wait with
    close_idle();
  }
}

void ServerState::close_idle() noexcept {
  idle_until = TimePoint{};
  for (Connection* connection = first; connection != nullptr; connection = connection->next_) {
    if (connection->waiting_) connection->stream_.socket().expire_read();
  }
}

// --- Sending ---------------------------------------------------------------------------------------------------------

template <class Data>
void Connection::send(const Data& data, std::error_code& error) {
  stream_.write_all(data, error);
  // After a mere close, the system would go on offering what this client does not take.
  if (error == std::errc::timed_out) stream_.reset();
}

// --- Conversation ----------------------------------------------------------------------------------------------------

/// The requests that came in one go, and the rest of the last one of them.
class Connection::Conversation {
 public:
  Conversation(Connection& connection, Exchange& exchange, Chunk& chunk) noexcept
      : connection_(connection), server_(connection.server_), exchange_(exchange), chunk_(chunk) {}
  Conversation(const Conversation&) = delete;
  Conversation& operator=(const Conversation&) = delete;

  Next run();

 private:
  enum class Waiting : std::uint8_t { no, for_head, for_body };

  static constexpr unsigned kComplete = 0;  // beside statuses to refuse a request with
  static constexpr unsigned kGone = 1;

  unsigned receive();
  bool read_more();
  void hold();
  bool set_timeout();
  Next answer();
  Next refuse(unsigned status);
  void respond(const AnswerFacts& facts, const Response& response);
  void flush();

  [[nodiscard]] std::span<char> unread() noexcept {
    if (!exchange_.held.empty()) return std::span<char>(exchange_.held).subspan(taken_);
    return std::span<char>(reinterpret_cast<char*>(chunk_.data()), chunk_.size()).subspan(taken_);
  }
  /// Whether nothing has come of the next request but the empty line that old clients send behind a body.
  [[nodiscard]] bool idle() noexcept {
    const std::span<char> bytes = unread();
    return std::string_view("\r\n").starts_with({bytes.data(), bytes.size()});
  }

  Connection& connection_;
  ServerState& server_;
  Exchange& exchange_;
  Chunk& chunk_;           // what came; nothing, once it has been copied to where more can follow it
  std::size_t taken_ = 0;  // of that, by requests that are done
  TimePoint deadline_{};   // of the part of the request that is waited for
  Waiting waiting_ = Waiting::no;
  std::error_code error_;  // of the stream
};

Connection::Next Connection::Conversation::run() {
  unsigned in_a_row = 0;
  do {
    if (++in_a_row % kRequestsInARow == 0) yield();
    exchange_.parser.start();
    waiting_ = Waiting::no;
    const unsigned status = receive();
    if (status == kGone) return Next::close;
    if (status != kComplete) return refuse(status);
    taken_ += exchange_.parser.size();
    if (const Next next = answer(); next != Next::go_on) return next;
  } while (!unread().empty());

  // The buffer goes back before the answers leave, so that another connection has it while this one waits.
  Chunk().swap(chunk_);
  flush();
  return error_ ? Next::close : Next::go_on;
}

// Waits until the next request has come whole.
unsigned Connection::Conversation::receive() {
  for (;;) {
    const std::span<char> bytes = unread();
    switch (exchange_.parser.advance(bytes.data(), bytes.size())) {
      case Parser::Progress::complete: return kComplete;
      case Parser::Progress::refused: return exchange_.parser.status();
      case Parser::Progress::incomplete: break;
    }
    if (read_more()) continue;
    if (idle()) return kGone;
    // What has come is no request and never will be; but whoever is still there can be told.
    if (error_ && error_ != std::errc::timed_out) return kGone;
    const unsigned status = error_ ? 408 : 400;
    error_.clear();
    return status;
  }
}

// False: nothing more came, for the reason in error_, or because the client has ended its side.
bool Connection::Conversation::read_more() {
  hold();
  flush();  // the client may wait for these answers before it sends the rest
  if (!error_ && exchange_.parser.take_expectation()) {
    connection_.send(std::string_view("HTTP/1.1 100 Continue\r\n\r\n"), error_);
  }
  if (error_) {
    // A client that does not take its answers is not one whose request is late.
    if (error_ == std::errc::timed_out) error_ = std::make_error_code(std::errc::connection_aborted);
    return false;
  }
  if (!idle() && !set_timeout()) return false;
  const Chunk more = idle() ? connection_.wait_for_request() : connection_.stream_.read(error_);
  const auto* begin = reinterpret_cast<const char*>(more.data());
  exchange_.held.insert(exchange_.held.end(), begin, begin + more.size());
  return !more.empty();
}

// Copies what has come of the request to where more can be put behind it, or makes room there.
void Connection::Conversation::hold() {
  std::vector<char>& held = exchange_.held;
  const std::span<const char> kept = unread().first(exchange_.parser.size());
  if (held.empty()) {
    held.assign(kept.begin(), kept.end());
    Chunk().swap(chunk_);
  } else {
    if (taken_ > 0) held.erase(held.begin(), held.begin() + static_cast<std::ptrdiff_t>(taken_));
    held.resize(exchange_.parser.size());
  }
  taken_ = 0;
  const std::size_t expected = exchange_.parser.expected_size();
  if (held.size() >= expected / kBelievedFrom) held.reserve(expected);
}

// Has the next read end when the time for this part of the request is over. False: it is.
bool Connection::Conversation::set_timeout() {
  const Waiting waiting = exchange_.parser.in_body() ? Waiting::for_body : Waiting::for_head;
  const TimePoint time = now();
  if (waiting != waiting_) {
    waiting_ = waiting;
    const ServerOptions& options = server_.options;
    const Duration limit = waiting == Waiting::for_head ? options.header_timeout : options.body_timeout;
    deadline_ = limit == Duration::zero() ? TimePoint::max() : bight::detail::saturating_add(time, limit);
  }
  if (deadline_ <= time) {
    error_ = std::make_error_code(std::errc::timed_out);
    return false;
  }
  connection_.stream_.set_read_timeout(deadline_ == TimePoint::max() ? Duration::zero() : deadline_ - time);
  return true;
}

Connection::Next Connection::Conversation::answer() {
  Request& request = exchange_.request;
  const bool last = ++connection_.requests_ >= server_.options.requests_per_connection_max;
  AnswerFacts facts{request.method() == Method::head, request.version_minor() == 0, last || !request.keep_alive()};
  ++server_.stats.requests;
  this_shard::note_request();
  try {
    const Response response = server_.handler(request);
    facts.close |= response.closes_connection() || server_.stopping;
    respond(facts, response);
    if (!facts.close) return error_ ? Next::close : Next::go_on;
  } catch (const Cancelled&) {
    throw;
  } catch (...) {
    connection_.failure_ = failure_of(request);
  }
  if (connection_.failure_) {
    ++server_.stats.failed;
    facts.close = true;
    respond(facts, text("Internal Server Error\n", 500));
  }
  flush();
  // A client that has said that this is all expects no more than the end. What any other has sent meanwhile, unread,
  // would turn it into a reset, and that would take the answer away from it.
  const bool expects_more = request.keep_alive() || !unread().empty();
  return error_ || !expects_more ? Next::close : Next::linger;
}

Connection::Next Connection::Conversation::refuse(unsigned status) {
  ++server_.stats.refused;
  AnswerFacts facts;
  facts.to_head = exchange_.request.method() == Method::head;
  facts.close = true;
  respond(facts, text(std::string(reason_phrase(status)) + '\n', status));
  flush();
  return error_ ? Next::close : Next::linger;
}

void Connection::Conversation::respond(const AnswerFacts& facts, const Response& response) {
  Output& out = exchange_.out;
  const std::string_view rest = server_.writer.append(out, response, facts, kInlineBodyMax);
  if (!rest.empty()) {
    const std::span<const std::byte> pieces[] = {out.bytes(), std::as_bytes(std::span(rest))};
    connection_.send(std::span<const std::span<const std::byte>>(pieces), error_);
    out.clear();
  } else if (out.size() >= server_.options.pipeline_bytes_max) {
    flush();
  }
}

void Connection::Conversation::flush() {
  Output& out = exchange_.out;
  if (out.empty() || error_) return;
  connection_.send(out.bytes(), error_);
  out.clear();
}

// --- Connection ------------------------------------------------------------------------------------------------------

Connection::Connection(ServerState& server, net::TcpStream stream) noexcept
    : server_(server), stream_(std::move(stream)) {
  server_.link(*this);
  stream_.set_write_timeout(server_.options.write_timeout);
}

Connection::~Connection() { server_.unlink(*this); }

void Connection::run() {
  const Place place(server_);
  Next next = Next::go_on;
  while (next == Next::go_on) {
    Chunk chunk = wait_for_request();
    if (chunk.empty()) return;  // the end, an error, or silence for too long: the client is owed nothing
    next = converse(chunk);
  }
  if (next == Next::linger) linger();
  if (failure_) std::rethrow_exception(failure_);
}

// How the next request begins; empty: there is none.
Chunk Connection::wait_for_request() {
  std::error_code error;
  if (!server_.stopping || server_.idle_until != TimePoint{}) {
    stream_.set_read_timeout(server_.options.idle_timeout);
    waiting_ = true;
    Chunk chunk = stream_.read(error);
    waiting_ = false;
    if (error != std::errc::timed_out || !server_.stopping || server_.idle_until != TimePoint{}) return chunk;
  }
  // To close on a request that is there already would be to reset the client.
  stream_.set_read_timeout(requests_ == 0 ? kFirstRequestPatience : kLook);
  return stream_.read(error);
}

// Apart from run(), so that nothing of this is on the stack of a connection that waits.
[[gnu::noinline]] Connection::Next Connection::converse(Chunk& chunk) {
  const ExchangePool::Lease exchange(server_.exchanges);
  return Conversation(*this, *exchange, chunk).run();
}

void Connection::shed() {
  Response response = text("Service Unavailable\n", 503);
  response.add_header("Retry-After", "1");
  Output out;
  AnswerFacts facts;
  facts.close = true;
  server_.writer.append(out, response, facts, kInlineBodyMax);
  std::error_code error;
  send(out.bytes(), error);
  if (!error) linger();
}

[[gnu::noinline]] void Connection::linger() {
  std::error_code error;
  stream_.shutdown_write(error);
  const TimePoint deadline = bight::detail::saturating_add(now(), server_.options.linger_timeout);
  std::size_t bytes = 0;
  while (!error && bytes < server_.options.linger_bytes_max) {
    const Duration left = deadline - now();
    if (left <= Duration::zero()) return;
    stream_.set_read_timeout(left);
    const Chunk rubbish = stream_.read(error);
    if (rubbish.empty()) return;
    bytes += rubbish.size();
  }
}

}  // namespace bight::http::detail
