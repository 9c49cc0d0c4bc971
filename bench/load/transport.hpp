// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "clock.hpp"
#include "pattern.hpp"

#include <cerrno>
#include <cstdint>
#include <memory>
#include <span>

namespace bench::load {

// One connection and its two byte streams, both Pattern's. Owned by the run; its address stays while it is open.
struct Link {
  int fd = -1;
  std::uint32_t id = 0;
  std::uint64_t received = 0;  // bytes; the observer counts them

  // The transport's own.
  std::uint64_t sent = 0;     // bytes the kernel has taken
  std::uint64_t unsent = 0;   // bytes asked for and not yet taken
  std::uint64_t attempt = 0;  // bytes of the latest try
  std::uint32_t epoch = 0;    // how often the link was closed
  int send_error = 0;         // it spent the socket's error, so the receive that ends the link knows none
  bool sending = false;       // what is unsent will go on without being asked
};

// What a link that ended is to be reported with. EPIPE tells less than the end itself.
inline int error_of(const Link& link, int receive_error) {
  return receive_error == 0 && link.send_error != EPIPE ? link.send_error : receive_error;
}

// What a transport reports while it waits.
class Observer {
 public:
  virtual void on_bytes(Link& link, std::span<const char> bytes) = 0;
  virtual void on_lost(Link& link, int error) = 0;  // error 0: the peer closed. Nothing more comes from this link

 protected:
  ~Observer() = default;
};

// Moves bytes for one thread's links. Two peers behind it: io_uring, which costs the client a quarter less per message
// and so keeps the client from being what is measured, and epoll for where io_uring is forbidden.
class Transport {
 public:
  virtual ~Transport() = default;
  [[nodiscard]] virtual const char* name() const = 0;

  // Starts to report what arrives on link.fd, which is connected or connecting and non-blocking.
  virtual void open(Link& link) = 0;
  // Appends the next `bytes` of the link's stream.
  virtual void send(Link& link, std::uint64_t bytes) = 0;
  // Closes the descriptor. Allowed when all that was sent has been answered, and after on_lost.
  virtual void close(Link& link) = 0;
  // Moves bytes until `deadline`, and returns early after reporting something.
  virtual void wait(Nanoseconds deadline, Observer& observer) = 0;
};

struct TransportOptions {
  const Pattern& pattern;
  std::uint64_t burst = 0;       // bytes that arrive on a link at once, usually
  bool one_answer_each = false;  // links are closed after one answer
  bool resume = false;           // TLS: take up the session of an earlier link
};

std::unique_ptr<Transport> make_epoll_transport(const TransportOptions& options);

// nullptr when the kernel or its configuration does not offer io_uring, or too little of it.
std::unique_ptr<Transport> make_uring_transport(const TransportOptions& options);

// Peers as in bench::tls::client_context().
std::unique_ptr<Transport> make_tls_transport(const TransportOptions& options);

}  // namespace bench::load
