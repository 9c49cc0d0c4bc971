// SPDX-License-Identifier: Apache-2.0
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <exception>
#include <new>
#include <string>
#include <type_traits>
#include <utility>

#include <bight/check.hpp>
#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/log.hpp>
#include <bight/net/tcp.hpp>
#include <bight/net/unix.hpp>
#include <bight/report.hpp>
#include <bight/scope.hpp>
#include <bight/stop.hpp>
#include <bight/this_shard.hpp>

namespace bight::net {
namespace {

constexpr Duration kNoFiberPause = std::chrono::milliseconds(10);

// For a look at what is there. However busy the machine, the loop asks the engine before it looks for timers due.
constexpr Duration kLook = std::chrono::milliseconds(1);

// How long one that has more than its share of the connections holds back before it looks again; doubles up to the
// last.
constexpr Duration kHoldBack = std::chrono::milliseconds(1);
constexpr Duration kHoldBackMax = std::chrono::milliseconds(64);

// How long one that shares a listener waits for its connections before it looks whether one is there that another one
// was woken for and does not take: with io_uring the kernel may wake a process that hangs, and no other then.
constexpr Duration kLookAgain = std::chrono::seconds(1);

bool is_broken_connection(std::error_code error) noexcept {
  return error == std::errc::connection_reset || error == std::errc::connection_aborted ||
         error == std::errc::timed_out || error == std::errc::broken_pipe || error == std::errc::not_connected;
}

/// The listeners that shards share are TCP's.
template <class Listener>
constexpr bool kMayBeShared = requires(Listener& listener) {
  listener.is_shared();
};

/// One serve() under way. Two fibers of its own accept and watch for the stop; the caller's waits for them.
template <class Listener>
class Server final : private detail::ServerFace {
 public:
  using Stream = decltype(std::declval<Listener&>().accept());
  using Handler = std::function<void(Stream)>;
  static constexpr bool kHasAddresses = std::is_same_v<Stream, TcpStream>;

  Server(Listener& listener, const Handler& handler, const ServeOptions& options)
      : listener_(listener), handler_(handler), options_(options) {
    BIGHT_CHECK(options.connections_max > 0, "a server that may have no connection can not serve");
    BIGHT_CHECK(options.control == nullptr || !options.control->is_attached(),
                "a ServeControl is used for two servers at a time");
    BIGHT_CHECK(options.proxy != ProxyProtocol::optional || options.proxy_trusted || !kHasAddresses,
                "a server that takes optional PROXY headers has to be told whom to believe: proxy_trusted");
    connection_options_.stack_size = options.stack_size;
    std::error_code ignored;
    address_ = listener.local_address(ignored).to_string();
    where_ = "the handler of a connection to " + address_;
    if (options.control != nullptr) options.control->attach(*this);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() {
    if (options_.control != nullptr) options_.control->detach();
  }

  ServeStats run(bool close_listener);

 private:
  class Place;
  struct Connection;

  // ServerFace
  void accepting_changed() noexcept override;
  void finish() noexcept override {
    if (acceptor_ != nullptr) acceptor_->cancel();
  }
  [[nodiscard]] const ServeStats& stats() const noexcept override { return stats_; }

  [[nodiscard]] bool is_paused() const noexcept {
    return options_.control != nullptr && !options_.control->is_accepting();
  }
  [[nodiscard]] bool is_finished() const noexcept {
    return options_.control != nullptr && options_.control->is_finished();
  }
  [[nodiscard]] bool looks_again() noexcept;
  void accept_until_told();
  void accept_all(Scope& accepting);
  bool wait_for_place(Scope& accepting);
  void wait_for_share();
  void empty_queue();
  void start(Stream stream);
  void rest(const char* missing, const std::exception& error);
  void handle(Stream stream);
  [[nodiscard]] bool admit(Stream& stream);
  [[nodiscard]] bool trusts(Stream& stream) const;
  [[nodiscard]] bool has_proxy_header(Stream& stream);
  [[nodiscard]] bool read_proxy_header(Stream& stream);
  void drain();

  Listener& listener_;
  const Handler& handler_;
  const ServeOptions& options_;
  SpawnOptions connection_options_;
  std::string address_;  // these two for reports; made here once, as making them later may fail
  std::string where_;
  ServeStats stats_;
  std::size_t connections_ = 0;
  Fiber<void>* acceptor_ = nullptr;
  Fiber<void> full_;  // while there are connections_max: ends when there are fewer
  std::error_code full_error_;
  bool no_fiber_told_ = false;
  std::error_code failure_;  // of accepting
  Scope handlers_;           // goes first: they use the rest
};

/// One of connections_max. Given back wherever it goes: at a connection's end, or when it never came to a fiber.
template <class Listener>
class Server<Listener>::Place {
 public:
  explicit Place(Server& server) noexcept : server_(&server) {
    server.stats_.active = ++server.connections_;
    server.stats_.peak = std::max(server.stats_.peak, server.connections_);
    this_shard::note_accepted();
  }
  Place(Place&& other) noexcept : server_(std::exchange(other.server_, nullptr)) {}
  Place& operator=(Place&&) = delete;
  ~Place() {
    if (server_ == nullptr) return;
    this_shard::note_closed();
    if (server_->options_.connection_is_request) this_shard::note_request();
    server_->stats_.active = --server_->connections_;
    if (server_->full_) server_->full_.cancel();
  }
  [[nodiscard]] Server& server() const noexcept { return *server_; }

 private:
  Server* server_;
};

/// What a connection's fiber runs, and what reports call it.
template <class Listener>
struct Server<Listener>::Connection {
  Place place;  // outlives the stream, so that a connection whose place is taken has been closed
  Stream stream;

  void operator()() { place.server().handle(std::move(stream)); }
};

template <class Listener>
ServeStats Server<Listener>::run(bool close_listener) {
  const bool looked_again = looks_again();
  accept_until_told();
  if (looked_again) listener_.set_timeout(Duration::zero());
  if (options_.on_drain) options_.on_drain();
  if (close_listener) {
    if ((stop_requested() && !this_shard::is_retiring()) || is_finished()) empty_queue();
    listener_.close();
  }
  drain();
  if (failure_) bight::detail::throw_error(failure_, "accept on " + address_);
  return stats_;
}

/// Whether this has given accepting a limit that it had not.
template <class Listener>
bool Server<Listener>::looks_again() noexcept {
  if constexpr (kMayBeShared<Listener>) {
    if (listener_.is_shared() && listener_.socket().read_timeout() == Duration::zero()) {
      listener_.set_timeout(kLookAgain);
      return true;
    }
  }
  return false;
}

template <class Listener>
void Server<Listener>::accept_until_told() {
  Fiber<void> acceptor;  // outlives the scope, whose fibers use it
  Scope accepting;
  if (is_finished()) return;
  acceptor = accepting.spawn({.name = "serve: accept"}, [&] { accept_all(accepting); });
  struct Known {
    Fiber<void>*& pointer;
    ~Known() { pointer = nullptr; }
  } const known{acceptor_};
  acceptor_ = &acceptor;
  accepting
      .spawn({.name = "serve: wait for the stop"},
             [&] {
               wait_for_stop();
               acceptor.cancel();
             })
      .detach();
  acceptor.join();
  accepting.cancel();
  accepting.join();
}

template <class Listener>
void Server<Listener>::accept_all(Scope& accepting) {
  while (wait_for_place(accepting)) {
    if constexpr (kMayBeShared<Listener>) {
      if (listener_.is_shared()) wait_for_share();
    }
    std::error_code error;
    Stream stream = listener_.accept(error);
    if (!error) {
      ++stats_.accepted;
      start(std::move(stream));
    } else if (error == std::errc::operation_canceled || error == std::errc::bad_file_descriptor) {
      return;
    } else if (error != std::errc::timed_out) {  // the listener's timeout is no reason to end
      failure_ = error;
      return;
    }
  }
}

/// False: the listener is of no use any more.
template <class Listener>
bool Server<Listener>::wait_for_place(Scope& accepting) {
  while (connections_ >= options_.connections_max || is_paused()) {
    if (!listener_.is_open()) return false;
    try {
      // A fiber whose end is the news. What it waits for never comes, for a socket that listens is not writable; but it
      // hears of the listener's closing.
      full_error_ = std::make_error_code(std::errc::operation_canceled);  // perhaps before it begins
      full_ = accepting.spawn({.name = "serve: connections_max"},
                              [this] { listener_.socket().wait_writable(full_error_); });
    } catch (const std::exception& error) {
      rest("to wait with at connections_max", error);
      continue;
    }
    full_.join();
    full_.detach();
    if (full_error_ == std::errc::operation_canceled) continue;
    if (full_error_ && full_error_ != std::errc::bad_file_descriptor) failure_ = full_error_;
    return !full_error_;  // without one it listens no more; accept() can say why
  }
  return true;
}

/// Of processes that share a listener, one that has clearly more connections than the others leaves new ones to them.
/// While it holds back it is not among those whom the kernel wakes. But it takes one that nobody else takes.
template <class Listener>
void Server<Listener>::wait_for_share() {
  if constexpr (kMayBeShared<Listener>) {
    Duration pause = kHoldBack;
    while (this_shard::has_more_than_its_share() && listener_.is_open()) {
      sleep_for(pause);
      if (listener_.has_waiting()) return;
      pause = std::min(pause * 2, kHoldBackMax);
    }
  }
}

/// Accepts whom the system has let in already: they took it for a promise, and closing the listener would reset them.
template <class Listener>
void Server<Listener>::empty_queue() {
  listener_.set_timeout(kLook);
  // As many as the queue holds, for without an end to those who come there would be none to this.
  for (int left = listener_.backlog(); left >= 0 && connections_ < options_.connections_max; --left) {
    std::error_code error;
    Stream stream = listener_.accept(error);
    if (error == std::errc::operation_canceled) throw Cancelled{};
    if (error) return;
    ++stats_.accepted;
    start(std::move(stream));
  }
}

template <class Listener>
void Server<Listener>::start(Stream stream) {
  try {
    handlers_.spawn(connection_options_, Connection{Place(*this), std::move(stream)}).detach();
  } catch (const std::exception& error) {
    ++stats_.unserved;
    rest("for a connection, which is closed", error);
  }
}

/// There are too many fibers, or there is no memory for another one. That may pass.
template <class Listener>
void Server<Listener>::rest(const char* missing, const std::exception& error) {
  if (!std::exchange(no_fiber_told_, true)) {
    try {
      bight::detail::log_warning(std::string("serve: no fiber ") + missing + " (said once): " + error.what());
    } catch (const std::bad_alloc&) {
      bight::detail::log_warning("serve: no fiber, no memory");
    }
  }
  sleep_for(kNoFiberPause);
}

template <class Listener>
void Server<Listener>::handle(Stream stream) {
  try {
    if (!admit(stream)) {
      ++stats_.rejected;
      return;
    }
    handler_(std::move(stream));
  } catch (const Cancelled&) {
    throw;
  } catch (const std::system_error& error) {
    ++stats_.failed;
    if (!is_broken_connection(error.code())) bight::detail::report_unhandled(std::current_exception(), where_);
  } catch (...) {
    ++stats_.failed;
    bight::detail::report_unhandled(std::current_exception(), where_);
  }
}

/// False: it is not to be served.
template <class Listener>
bool Server<Listener>::admit(Stream& stream) {
  switch (options_.proxy) {
    case ProxyProtocol::off: return true;
    case ProxyProtocol::required: return trusts(stream) && read_proxy_header(stream);
    case ProxyProtocol::optional: return !trusts(stream) || !has_proxy_header(stream) || read_proxy_header(stream);
  }
  return false;
}

template <class Listener>
bool Server<Listener>::trusts(Stream& stream) const {
  if constexpr (kHasAddresses) {
    std::error_code error;
    const Address peer = stream.peer_address(error);
    return !options_.proxy_trusted || (!error && options_.proxy_trusted(peer));
  } else {
    return true;
  }
}

/// Whether the stream begins with one. Takes nothing from it.
template <class Listener>
bool Server<Listener>::has_proxy_header(Stream& stream) {
  ProxyBeginning beginning = ProxyBeginning::maybe;
  const auto look = [&] {
    std::array<std::byte, kProxyBeginningMax> buffer;
    std::size_t seen = 0;
    for (Duration pause = kLook; beginning == ProxyBeginning::maybe;) {
      ::iovec piece{buffer.data(), buffer.size()};
      ::msghdr message{};
      message.msg_iov = &piece;
      message.msg_iovlen = 1;
      std::error_code error;
      const std::size_t count = stream.socket().receive_message(message, MSG_PEEK, error);
      if (error == std::errc::operation_canceled) this_fiber::checkpoint();
      if (error || count == 0) return;  // the handler will find that out
      beginning = begins_with_proxy_header(std::span(buffer).first(count));
      if (beginning != ProxyBeginning::maybe) return;
      // Some bytes of a header have come, which happens once in a blue moon. There is no waiting for more of them than
      // are there, and at their end there are no more to come.
      pause = count > seen ? kLook : std::min(pause * 2, kHoldBackMax);
      seen = count;
      sleep_for(pause);
    }
  };
  return move_on_after(options_.proxy_timeout, look) && beginning == ProxyBeginning::yes;
}

/// False: there is none, or not in time.
template <class Listener>
bool Server<Listener>::read_proxy_header(Stream& stream) {
  ProxyParser parser(options_.proxy_header_max);
  std::error_code error;
  const bool in_time = move_on_after(options_.proxy_timeout, [&] {
    std::array<std::byte, 512> buffer;
    while (const std::size_t wanted = parser.wanted()) {
      const std::size_t count = stream.read(std::span(buffer).first(std::min(wanted, buffer.size())), error);
      if (error == std::errc::operation_canceled) this_fiber::checkpoint();
      if (error || count == 0) return;
      parser.feed(std::span(buffer).first(count));
    }
  });
  if (!in_time || parser.wanted() != 0 || parser.complaint() != nullptr) return false;
  stream.set_proxy_header(parser.header());
  return true;
}

template <class Listener>
void Server<Listener>::accepting_changed() noexcept {
  if (is_paused()) {
    listener_.socket().expire_read();  // has an accept under way look again
  } else if (full_) {
    full_.cancel();
  }
}

template <class Listener>
void Server<Listener>::drain() {
  if (!handlers_.wait_until(bight::detail::saturating_add(now(), options_.drain))) handlers_.cancel();
  handlers_.join();
}

}  // namespace

ServeStats serve(TcpListener& listener, const std::function<void(TcpStream)>& handler, const ServeOptions& options) {
  return Server<TcpListener>(listener, handler, options).run(false);
}

ServeStats serve(TcpListener&& listener, const std::function<void(TcpStream)>& handler, const ServeOptions& options) {
  TcpListener own = std::move(listener);
  return Server<TcpListener>(own, handler, options).run(true);
}

ServeStats serve(UnixListener& listener, const std::function<void(UnixStream)>& handler, const ServeOptions& options) {
  return Server<UnixListener>(listener, handler, options).run(false);
}

ServeStats serve(UnixListener&& listener, const std::function<void(UnixStream)>& handler, const ServeOptions& options) {
  UnixListener own = std::move(listener);
  return Server<UnixListener>(own, handler, options).run(true);
}

}  // namespace bight::net
