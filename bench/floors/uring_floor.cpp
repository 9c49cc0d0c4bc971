// SPDX-License-Identifier: Apache-2.0
// The cheapest io_uring server we know how to write: what every layer above io_uring has to be compared with.
//
// One enter per turn submits all answers of the turn and waits. A connection has one multishot receive for its whole
// life; bytes arrive in shared buffers and are sent back out of them. Sends are tried without waiting, so they are over
// when the enter returns, and only those that did not succeed post a completion. Measured and not better: receives into
// buffers of the connections' own (3 to 10 % dearer at 64 B, and a page for each idle connection), linked receives,
// direct descriptors, closing through the ring.

#include "../common/uring.hpp"
#include "floor.hpp"

#include <memory>

#include <poll.h>

namespace bench::floors {
namespace {

constexpr const char* kHelp = R"(usage: uring_floor [options]

A bare single-threaded io_uring server: the floor that servers on an io_uring engine are compared with. Needs Linux 6.1.

  --host H           IPv4 address to listen on (127.0.0.1)
  --port P           port; 0 picks a free one (0)
  --mode echo|http   send back what comes, or answer every blank line with a fixed HTTP response (echo)
  --smoke            check a few exchanges with itself, and end; code 77 when io_uring is not available
  --help             this text

Prints 'listening on ADDRESS:PORT' when ready; on SIGTERM or SIGINT prints 'served N' and ends. N counts answered
requests, or receives that were echoed.
)";

// Large enough for one message of most kinds, for a message in two buffers costs two receives; and few, because the
// kernel goes through all of them in turn, and through the cache with them. Fewer than 128 run out at 512 busy
// connections.
constexpr BufferRing::Shape kBuffers{.size = 64 * 1024, .count = 128};

constexpr long kAcceptRetry = 10'000'000;  // nanoseconds, when there were no descriptors left

enum class Kind : std::uint8_t { accept, retry_accept, receive, stop_receiving, try_send, finish_send, stop };

constexpr std::uint64_t tag(Kind kind, int fd = 0) {
  return static_cast<std::uint64_t>(kind) << 32 | static_cast<std::uint32_t>(fd);
}

// A received buffer in the queue of its connection.
struct Chunk {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  std::uint16_t next = 0;
};

constexpr std::uint16_t kNone = 0xffff;

enum class Sending : std::uint8_t { nothing, queued, tried, armed };

struct Connection {
  // What it has to send: chunks, once it is blocked their copy in `rest`, or HTTP answers.
  std::uint16_t first = kNone;
  std::uint16_t last = kNone;
  std::unique_ptr<Rest> rest;
  std::uint64_t owed = 0;  // bytes of answers

  std::uint32_t attempt = 0;  // bytes of the send under way
  Sending sending = Sending::nothing;
  bool receiving = false;
  bool stopping = false;  // a cancel of the receive is under way
  bool ended = false;     // the peer sends no more
  BlankLines requests;
};

class UringFloor {
 public:
  UringFloor(Mode mode, Descriptor listener, const StopSignals& signals, Ring&& ring)
      : mode_(mode), listener_(std::move(listener)), ring_(std::move(ring)), buffers_(ring_, kBuffers) {
    accept();
    io_uring_sqe* entry = ring_.entry();
    ::io_uring_prep_poll_add(entry, signals.fd(), POLLIN);
    entry->user_data = tag(Kind::stop);
  }

  std::uint64_t run() {
    while (!stopped_) turn();
    return served_;
  }

 private:
  void turn() {
    const int result = ::io_uring_submit_and_wait(ring_.raw(), 1);
    if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY) fail("io_uring_enter", -result);
    const bool all_submitted = ::io_uring_sq_ready(ring_.raw()) == 0;
    if (mode_ == Mode::http) answers_.refresh(std::time(nullptr));
    ring_.reap([this](const io_uring_cqe& completion) { handle(completion); });
    if (all_submitted) settle_tries();
    for (const int fd : to_send_) try_send(fd);
    to_send_.clear();
    buffers_.publish();
  }

  void handle(const io_uring_cqe& completion) {
    const int fd = static_cast<int>(completion.user_data & 0xffff'ffff);
    switch (static_cast<Kind>(completion.user_data >> 32)) {
      case Kind::receive: return received(fd, completion);
      case Kind::try_send:
      case Kind::finish_send: return sent_some(fd, completion.res);
      case Kind::accept: return accepted(completion);
      case Kind::retry_accept: return accept();
      case Kind::stop_receiving: of(fd).stopping = false; return go_on(fd);
      case Kind::stop: stopped_ = true; return;
    }
  }

  Connection& of(int fd) { return connections_[static_cast<std::size_t>(fd)]; }

  // Accepting

  void accept() {
    io_uring_sqe* entry = ring_.entry();
    ::io_uring_prep_multishot_accept(entry, listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    entry->user_data = tag(Kind::accept);
  }

  void accepted(const io_uring_cqe& completion) {
    const int fd = completion.res;
    if (fd >= 0) {
      const auto place = static_cast<std::size_t>(fd);
      if (connections_.size() <= place) connections_.resize(place + place / 2 + 64);
      receive(fd);
    }
    if ((completion.flags & IORING_CQE_F_MORE) != 0) return;
    const bool exhausted = fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM;
    exhausted ? accept_later() : accept();
  }

  void accept_later() {
    io_uring_sqe* entry = ring_.entry();
    ::io_uring_prep_timeout(entry, &accept_retry_, 0, 0);
    entry->user_data = tag(Kind::retry_accept);
  }

  // Receiving

  void receive(int fd) {
    io_uring_sqe* entry = ring_.entry();
    ::io_uring_prep_recv_multishot(entry, fd, nullptr, 0, 0);
    entry->ioprio |= IORING_RECVSEND_POLL_FIRST;
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = BufferRing::kGroup;
    entry->user_data = tag(Kind::receive, fd);
    of(fd).receiving = true;
  }

  void received(int fd, const io_uring_cqe& completion) {
    Connection& connection = of(fd);
    if (completion.res > 0) {
      const std::uint16_t id = BufferRing::id_of(completion);
      const auto size = static_cast<std::uint32_t>(completion.res);
      mode_ == Mode::echo ? echo(connection, id, size) : answer(connection, id, size);
      want_send(fd, connection);
    } else {
      if ((completion.flags & IORING_CQE_F_BUFFER) != 0) buffers_.give_back(BufferRing::id_of(completion));
      if (!is_passing(completion.res)) connection.ended = true;
      if (completion.res < 0 && connection.ended) drop_pending(connection);
    }
    if ((completion.flags & IORING_CQE_F_MORE) != 0) return;
    connection.receiving = false;
    go_on(fd);
  }

  static bool is_passing(int result) {
    return result == -EAGAIN || result == -EINTR || result == -ENOBUFS || result == -ECANCELED;
  }

  void echo(Connection& connection, std::uint16_t id, std::uint32_t size) {
    ++served_;
    if (connection.rest) {
      std::vector<char>& later = connection.rest->later;
      later.insert(later.end(), buffers_.at(id), buffers_.at(id) + size);
      return buffers_.give_back(id);
    }
    chunks_[id] = {.begin = 0, .end = size, .next = kNone};
    (connection.first == kNone ? connection.first : chunks_[connection.last].next) = id;
    connection.last = id;
  }

  void answer(Connection& connection, std::uint16_t id, std::uint32_t size) {
    const std::uint32_t requests = connection.requests.count({buffers_.at(id), size});
    buffers_.give_back(id);
    served_ += requests;
    connection.owed += requests * answers_.size();
  }

  // A blocked connection gets no more input, or its rest would grow without bound.
  void stop_receiving(int fd, Connection& connection) {
    if (!connection.receiving || connection.stopping) return;
    connection.stopping = true;
    io_uring_sqe* entry = ring_.entry();
    ::io_uring_prep_cancel64(entry, tag(Kind::receive, fd), 0);
    entry->user_data = tag(Kind::stop_receiving, fd);
  }

  // Sending. One operation per connection at a time: a second could overtake what the first leaves over.

  [[nodiscard]] std::span<const char> pending(const Connection& connection) const {
    if (connection.rest) return connection.rest->pending();
    if (mode_ == Mode::http) return answers_.next(connection.owed);
    if (connection.first == kNone) return {};
    const Chunk& chunk = chunks_[connection.first];
    return {buffers_.at(connection.first) + chunk.begin, chunk.end - chunk.begin};
  }

  void advance(Connection& connection, std::uint32_t sent) {
    if (connection.rest) {
      if (!connection.rest->advance(sent)) connection.rest.reset();
    } else if (mode_ == Mode::http) {
      connection.owed -= sent;
    } else if ((chunks_[connection.first].begin += sent) == chunks_[connection.first].end) {
      drop_chunk(connection);
    }
  }

  void drop_chunk(Connection& connection) {
    const std::uint16_t id = std::exchange(connection.first, chunks_[connection.first].next);
    buffers_.give_back(id);
  }

  void drop_pending(Connection& connection) {
    // The kernel may still read from what is under way.
    if (connection.sending == Sending::tried || connection.sending == Sending::armed) return;
    while (connection.first != kNone) drop_chunk(connection);
    connection.rest.reset();
    connection.owed = 0;
  }

  void want_send(int fd, Connection& connection) {
    if (connection.sending != Sending::nothing) return;
    connection.sending = Sending::queued;
    to_send_.push_back(fd);
  }

  io_uring_sqe* prepare_send(int fd, Connection& connection, Kind kind, int flags) {
    const std::span<const char> bytes = pending(connection);
    connection.attempt = static_cast<std::uint32_t>(bytes.size());
    io_uring_sqe* entry = ring_.entry();
    ::io_uring_prep_send(entry, fd, bytes.data(), bytes.size(), flags | MSG_WAITALL | MSG_NOSIGNAL);
    entry->user_data = tag(kind, fd);
    return entry;
  }

  void try_send(int fd) {
    Connection& connection = of(fd);
    if (connection.sending != Sending::queued) return;
    connection.sending = Sending::nothing;
    if (pending(connection).empty()) return go_on(fd);
    io_uring_sqe* entry = prepare_send(fd, connection, Kind::try_send, MSG_DONTWAIT);
    if (!has_more_to_do(connection)) entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
    connection.sending = Sending::tried;
    tried_.push_back(fd);
  }

  // After the send under way: then its success has to be told, or the next wait might wait for nothing.
  [[nodiscard]] bool has_more_to_do(const Connection& connection) const {
    const bool is_last = connection.first == connection.last && connection.owed <= connection.attempt;
    return !connection.receiving || connection.ended || !is_last;
  }

  // What was tried and has not posted a completion is sent.
  void settle_tries() {
    for (const int fd : tried_) {
      Connection& connection = of(fd);
      if (connection.sending != Sending::tried) continue;
      connection.sending = Sending::nothing;
      advance(connection, connection.attempt);
      go_on(fd);
    }
    tried_.clear();
  }

  // A try that left something over, or a step of what follows such a one.
  void sent_some(int fd, int result) {
    Connection& connection = of(fd);
    connection.sending = Sending::nothing;
    if (result < 0 && !is_passing(result)) return give_up(fd, connection);
    if (result > 0) advance(connection, static_cast<std::uint32_t>(result));
    if (pending(connection).empty()) return go_on(fd);
    keep_rest(connection);
    stop_receiving(fd, connection);
    prepare_send(fd, connection, Kind::finish_send, 0);
    connection.sending = Sending::armed;
  }

  // Gives the buffers of a blocked connection back: others need them, and it may be blocked for long.
  void keep_rest(Connection& connection) {
    if (mode_ == Mode::http || connection.rest) return;
    auto rest = std::make_unique<Rest>();
    while (connection.first != kNone) {
      const std::span<const char> bytes = pending(connection);
      rest->bytes.insert(rest->bytes.end(), bytes.begin(), bytes.end());
      drop_chunk(connection);
    }
    connection.rest = std::move(rest);
  }

  void give_up(int fd, Connection& connection) {
    drop_pending(connection);
    connection.ended = true;
    stop_receiving(fd, connection);
    go_on(fd);
  }

  // The next step of a connection that may have come to rest: send, receive, or close.
  void go_on(int fd) {
    Connection& connection = of(fd);
    if (connection.sending != Sending::nothing) return;
    if (!pending(connection).empty()) return want_send(fd, connection);
    if (connection.receiving || connection.stopping) return;
    if (!connection.ended) return receive(fd);
    connection = {};
    ::close(fd);
  }

  Mode mode_;
  Descriptor listener_;
  Ring ring_;
  BufferRing buffers_;
  std::array<Chunk, kBuffers.count> chunks_;  // by buffer
  std::vector<Connection> connections_;       // by descriptor
  std::vector<int> to_send_;                  // in the next enter
  std::vector<int> tried_;                    // in the last enter
  Answers answers_;
  __kernel_timespec accept_retry_{.tv_sec = 0, .tv_nsec = kAcceptRetry};
  std::uint64_t served_ = 0;
  bool stopped_ = false;
};

}  // namespace
}  // namespace bench::floors

int main(int argc, char** argv) {
  using namespace bench::floors;
  return floor_main(argc, argv, kHelp, [](const Options& options, bench::Descriptor listener, StopSignals& signals) {
    std::optional<bench::Ring> ring = bench::Ring::open({});
    if (!ring) throw Unavailable(std::string("io_uring is not available here: ") + std::strerror(errno));
    const std::uint64_t served = UringFloor(options.mode, std::move(listener), signals, std::move(*ring)).run();
    signals.take();
    return served;
  });
}
