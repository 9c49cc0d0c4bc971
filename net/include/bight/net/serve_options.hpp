// SPDX-License-Identifier: Apache-2.0
#pragma once

/// How serve() serves: tcp.hpp, unix.hpp.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>

#include <bight/net/address.hpp>
#include <bight/net/proxy_protocol.hpp>
#include <bight/time.hpp>

namespace bight::net {

class ServeControl;

/// Whether connections begin with a header that says whom they really come from: proxy_protocol.hpp.
///
/// Whoever is believed can pretend to be anybody: in logs, limits and rules of access. So only proxies must be: either
/// nobody else can reach the listener, or ServeOptions::proxy_trusted knows them.
enum class ProxyProtocol : unsigned char {
  off,
  /// Each has to; those that do not, or that come from somebody who is not trusted, are closed.
  required,
  /// A header is taken if it comes from somebody who is trusted. Connections without one (a health check, a client of
  /// the proxy's own host) are what they seem to be; from others a header is data like any other. For listeners on TCP
  /// proxy_trusted has to be set. One whose peer waits to be spoken to first is taken to have none after proxy_timeout.
  optional,
};

struct ServeOptions {
  std::size_t connections_max = 1'000'000;    ///< beyond this, no more are accepted until one ends
  Duration drain = std::chrono::seconds(10);  ///< from the stop request to the cancelling of what still runs; zero: at
                                              ///< once
  std::size_t stack_size = 0;                 ///< of the handlers' fibers; 0: the loop's default
  bool connection_is_request = true;  ///< a connection that has ended counts as a request served (this_shard.hpp); off
                                      ///< for handlers that count their requests
  /// Called once when accepting has ended, for whatever reason, and the drain begins: time to tell handlers that wait
  /// for nothing in particular. Not when the caller is cancelled. Must not wait.
  std::function<void()> on_drain{};
  ProxyProtocol proxy = ProxyProtocol::off;
  /// Whose headers are believed, by the address that the connection comes from. Empty: everybody's, with `required`.
  /// Not asked on Unix sockets, where the permissions of the path say who can connect. Must not wait.
  std::function<bool(const Address&)> proxy_trusted{};
  Duration proxy_timeout = std::chrono::seconds(5);         ///< for the whole of the header
  std::size_t proxy_header_max = ProxyParser::kDefaultMax;  ///< bytes
  ServeControl* control = nullptr;                          ///< a handle for others; outlives the call
};

struct ServeStats {
  std::uint64_t accepted = 0;
  std::uint64_t failed = 0;    ///< handlers that ended with an error
  std::uint64_t rejected = 0;  ///< connections without the PROXY header they should have had
  std::uint64_t unserved = 0;  ///< closed for want of fibers or memory
  std::size_t active = 0;      ///< connections that are being served now
  std::size_t peak = 0;        ///< the most that were at a time
};

namespace detail {

/// A serve() under way, as its control sees it.
class ServerFace {
 public:
  virtual void accepting_changed() noexcept = 0;
  virtual void finish() noexcept = 0;
  [[nodiscard]] virtual const ServeStats& stats() const noexcept = 0;

 protected:
  ~ServerFace() = default;
};

}  // namespace detail

/// A handle on a serve() under way, for other fibers of its loop, its handlers included. One for each; when that
/// serve() has returned, the control can be used for another one.
class ServeControl {
 public:
  ServeControl() noexcept = default;
  ServeControl(const ServeControl&) = delete;
  ServeControl& operator=(const ServeControl&) = delete;

  /// Accepts no more: who connects waits in the listener's queue. One connection that is being accepted may still come.
  /// What is being served goes on.
  void stop_accepting() noexcept { set_accepting(false); }
  void start_accepting() noexcept { set_accepting(true); }
  [[nodiscard]] bool is_accepting() const noexcept { return accepting_; }
  /// Has that serve() do what it does at a stop, alone: accept no more, drain, return. Before serve() was called: it
  /// will do so at once.
  void finish() noexcept {
    finished_ = true;
    if (server_ != nullptr) server_->finish();
  }
  /// As it is now; before and after serve(): nothing, and how it ended.
  [[nodiscard]] ServeStats stats() const noexcept { return server_ != nullptr ? server_->stats() : last_; }

  // For serve() alone.
  void attach(detail::ServerFace& server) noexcept { server_ = &server; }
  void detach() noexcept {
    last_ = server_->stats();
    server_ = nullptr;
    finished_ = false;
  }
  [[nodiscard]] bool is_attached() const noexcept { return server_ != nullptr; }
  [[nodiscard]] bool is_finished() const noexcept { return finished_; }

 private:
  void set_accepting(bool on) noexcept {
    accepting_ = on;
    if (server_ != nullptr) server_->accepting_changed();
  }

  detail::ServerFace* server_ = nullptr;
  bool accepting_ = true;
  bool finished_ = false;
  ServeStats last_;
};

}  // namespace bight::net
