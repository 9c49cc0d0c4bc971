// SPDX-License-Identifier: Apache-2.0
#include "transport.hpp"

#include "../common/sockets.hpp"
#include "../common/uring.hpp"

#include <algorithm>
#include <bit>
#include <vector>

namespace bench::load {
namespace {

// What an operation was. User data is the link's id, the link's epoch and this.
enum class Kind : std::uint8_t { receive, try_send, finish_send };

constexpr std::uint32_t kEpochMask = 0xff'ffff;

// Messages arrive by multishot receives into shared buffers, which are free again as soon as they are checked. Sends
// are gathered into the one enter per turn and tried there without waiting: one that succeeds posts no completion, and
// what one leaves over is handed to the kernel to finish.
class UringTransport final : public Transport {
 public:
  UringTransport(const TransportOptions& options, Ring&& ring)
      : pattern_(options.pattern),
        one_answer_each_(options.one_answer_each),
        ring_(std::move(ring)),
        buffers_(ring_, shape_for(options.burst)) {}

  [[nodiscard]] const char* name() const override { return "uring"; }

  void open(Link& link) override {
    if (links_.size() <= link.id) links_.resize(link.id + 1);
    links_[link.id] = &link;
    receive(link);
  }

  void send(Link& link, std::uint64_t bytes) override {
    link.unsent += bytes;
    if (link.sending) return;
    link.sending = true;
    to_send_.push_back(&link);
  }

  // The next epoch makes what still completes for the old descriptor a stranger.
  void close(Link& link) override {
    if (link.sending) std::erase(to_send_, &link);
    ::close(link.fd);
    link.fd = -1;
    link.sending = false;
    link.send_error = 0;
    link.epoch = (link.epoch + 1) & kEpochMask;
  }

  void wait(Nanoseconds deadline, Observer& observer) override {
    for (Link* link : to_send_) link->unsent <= Pattern::kRun ? try_send(*link) : finish_send(*link);
    to_send_.clear();
    const timespec left = between(now(), deadline);
    __kernel_timespec timeout{.tv_sec = left.tv_sec, .tv_nsec = left.tv_nsec};
    io_uring_cqe* first = nullptr;
    const int result = ::io_uring_submit_and_wait_timeout(ring_.raw(), &first, 1, &timeout, nullptr);
    if (result < 0 && result != -ETIME && result != -EINTR) fail("io_uring_enter", -result);
    ring_.reap([&](const io_uring_cqe& completion) { finish(completion, observer); });
    buffers_.publish();
  }

 private:
  // Buffers of the size that usually comes at once, for a message in two buffers costs two receives.
  static BufferRing::Shape shape_for(std::uint64_t burst) {
    constexpr std::uint64_t kMemory = 4 * 1024 * 1024;
    const std::uint64_t size = std::clamp<std::uint64_t>(std::bit_ceil(burst), 4096, 64 * 1024);
    return {.size = static_cast<std::uint32_t>(size), .count = static_cast<std::uint32_t>(kMemory / size)};
  }

  static std::uint64_t tag(const Link& link, Kind kind) {
    return std::uint64_t{link.id} << 32 | std::uint64_t{link.epoch} << 8 | static_cast<std::uint64_t>(kind);
  }

  void receive(Link& link) {
    io_uring_sqe* entry = ring_.entry();
    if (one_answer_each_) {
      ::io_uring_prep_recv(entry, link.fd, nullptr, 0, 0);
    } else {
      ::io_uring_prep_recv_multishot(entry, link.fd, nullptr, 0, 0);
    }
    entry->ioprio |= IORING_RECVSEND_POLL_FIRST;
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = BufferRing::kGroup;
    entry->user_data = tag(link, Kind::receive);
  }

  io_uring_sqe* prepare_send(Link& link, Kind kind, int flags) {
    link.attempt = std::min<std::uint64_t>(link.unsent, Pattern::kRun);
    io_uring_sqe* entry = ring_.entry();
    ::io_uring_prep_send(entry, link.fd, pattern_.at(link.id, link.sent), link.attempt,
                         flags | MSG_WAITALL | MSG_NOSIGNAL);
    entry->user_data = tag(link, kind);
    return entry;
  }

  // Counted as done until a completion says otherwise, which comes before the next turn. One per link and turn: a
  // second could overtake what a first one leaves over.
  void try_send(Link& link) {
    prepare_send(link, Kind::try_send, MSG_DONTWAIT)->flags |= IOSQE_CQE_SKIP_SUCCESS;
    link.sent += link.attempt;
    link.unsent -= link.attempt;
    link.sending = false;
  }

  void finish_send(Link& link) {
    link.sending = link.unsent > 0;
    if (link.sending) prepare_send(link, Kind::finish_send, 0);
  }

  void finish(const io_uring_cqe& completion, Observer& observer) {
    Link& link = *links_[completion.user_data >> 32];
    const auto kind = static_cast<Kind>(completion.user_data & 0xff);
    const bool is_current = (completion.user_data >> 8 & kEpochMask) == link.epoch;
    if (kind == Kind::receive) return received(link, is_current, completion, observer);
    if (is_current && kind == Kind::try_send) return try_failed(link, completion.res);
    if (is_current) return some_finished(link, completion.res);
  }

  void received(Link& link, bool is_current, const io_uring_cqe& completion, Observer& observer) {
    const std::uint32_t epoch = link.epoch;
    if (is_current) {
      if (completion.res > 0) {
        observer.on_bytes(link, {buffers_.at(BufferRing::id_of(completion)), static_cast<std::size_t>(completion.res)});
      } else if (!is_passing(completion.res)) {
        observer.on_lost(link, error_of(link, -completion.res));
      }
    }
    if ((completion.flags & IORING_CQE_F_BUFFER) != 0) buffers_.give_back(BufferRing::id_of(completion));
    const bool ended = (completion.flags & IORING_CQE_F_MORE) == 0;
    if (is_current && ended && link.fd >= 0 && link.epoch == epoch) receive(link);
  }

  static bool is_passing(int result) { return result == -ENOBUFS || result == -EAGAIN || result == -EINTR; }

  // That the link ended is left to the receive to report, after the last answer.
  void try_failed(Link& link, int result) {
    if (result < 0 && !is_passing(result)) {
      link.send_error = -result;
      return;
    }
    const std::uint64_t rest = link.attempt - static_cast<std::uint64_t>(std::max(result, 0));
    link.sent -= rest;
    link.unsent += rest;
    if (link.sending) std::erase(to_send_, &link);
    finish_send(link);
  }

  void some_finished(Link& link, int result) {
    if (result < 0 && !is_passing(result)) {
      link.send_error = -result;
      return;
    }
    link.sent += static_cast<std::uint64_t>(std::max(result, 0));
    link.unsent -= static_cast<std::uint64_t>(std::max(result, 0));
    finish_send(link);
  }

  const Pattern& pattern_;
  bool one_answer_each_;
  Ring ring_;
  BufferRing buffers_;
  std::vector<Link*> links_;
  std::vector<Link*> to_send_;
};

}  // namespace

std::unique_ptr<Transport> make_uring_transport(const TransportOptions& options) {
  std::optional<Ring> ring = Ring::open({});
  return ring ? std::make_unique<UringTransport>(options, std::move(*ring)) : nullptr;
}

}  // namespace bench::load
