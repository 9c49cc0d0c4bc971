// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <system_error>

#include <bight/socket.hpp>
#include <bight/time.hpp>

namespace bight::net::detail {

/// A socket that listens, of whatever family, and what it takes to accept from it for years: what TcpListener and
/// UnixListener are made of. See TcpListener for what happens when descriptors or memory run out.
class Acceptor {
 public:
  Acceptor() noexcept = default;
  /// `budget`: connections taken in a row before other fibers get their turn; `pause`: how long accepting rests when
  /// descriptors or memory have run out.
  Acceptor(Socket socket, unsigned budget, Duration pause) noexcept;

  /// Waits for a connection.
  [[nodiscard]] Socket accept(std::error_code& error);
  void close() noexcept;

  [[nodiscard]] Socket& socket() noexcept { return socket_; }
  [[nodiscard]] const Socket& socket() const noexcept { return socket_; }

 private:
  [[nodiscard]] Socket ride_out(std::error_code& error);
  void note_exhaustion(std::error_code error) noexcept;

  Socket socket_;
  Socket reserve_;  // a descriptor to give up when there are no others: see ride_out()
  unsigned budget_ = 1;
  unsigned accepted_in_a_row_ = 0;
  Duration pause_{};
  TimePoint outage_over_{};
};

}  // namespace bight::net::detail
