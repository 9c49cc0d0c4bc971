// SPDX-License-Identifier: Apache-2.0
#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <string>
#include <system_error>
#include <utility>

#include <bight/check.hpp>
#include <bight/fd.hpp>

#include "buffers.hpp"
#include "engine/engine.hpp"
#include "engine/file_ring.hpp"
#include "engine/hangup_check.hpp"
#include "engine/quiet_write.hpp"
#include "engine/receive_feed.hpp"
#include "engine/receive_ring.hpp"
#include "engine/system_sockets.hpp"
#include "fd_table.hpp"
#include "put_off_signals.hpp"

namespace bight::detail {
namespace {

/// What this engine remembers of a descriptor, in FdState::engine_flags.
enum : std::uint8_t {
  kNoMoreToAccept = 1,  // accept4(2) said so; cleared by the next connection
  kFull = 2,            // no room to write when last tried; the next write waits for room first
  kDrained = 4,         // the last receive left nothing behind: poll before trying
  kBulk = 8,            // whole buffers come at a time: receive one by one, lest one stream take all buffers
};

/// Op::phase. An operation has at most one submission under way, except while its poll is being removed.
enum : std::uint8_t {
  kTransfer = 0,  // the operation itself
  kPoll = 1,      // waiting for room, by a multishot poll
  kUnpoll = 2,    // room has come, the poll is on its way out
  kFed = 3,       // waiting for its descriptor's feed; the kernel does not know of it
  kAwait = 4,     // waiting until something can be read
};

/// Completion-based: every wait of a turn goes to the kernel with one io_uring_enter(2), which also brings what has
/// finished.
///
/// - Receives wait in the kernel with the caller's buffer (or, lent ones, take a buffer from a registered ring when
/// data has come).
/// - Sends are attempted inside the enter (MSG_DONTWAIT), many at a time; that is most of what io_uring saves. One that
/// finds no room
///   polls for it. The poll is a multishot one: one-shot polls for room fire at once, for ever, when the peer has ended
///   its side, since the kernel adds POLLRDHUP to every poll's events.
/// - Every submission completes before its operation is finished, so an operation's address serves as its identity;
/// completions of
///   cancel requests carry none and are ignored.
class UringEngine final : public Engine {
 public:
  explicit UringEngine(const EngineContext& context) : descriptors_(context.descriptors), buffers_(context.buffers) {}
  ~UringEngine() override;

  /// Empty, or why this kernel can not carry the engine.
  [[nodiscard]] std::string init(unsigned entries, unsigned workers);

  [[nodiscard]] std::string_view name() const noexcept override { return "uring"; }
  [[nodiscard]] bool start(Op& op) noexcept override;
  [[nodiscard]] FileStart start_file(FileOp& op) noexcept override;
  void cancel(Op& op) noexcept override;
  void wait(TimePoint until, OpList& finished) noexcept override;
  [[nodiscard]] bool has_work() const noexcept override {
    return waiting_ != 0 || !cancelled_.empty() || io_uring_sq_ready(&ring_) != 0;
  }
  [[nodiscard]] bool may_finish() const noexcept override { return waiting_ != 0 || !cancelled_.empty(); }
  void wake() noexcept override;
  void forget(int fd) noexcept override;
  [[nodiscard]] bool takes_ahead(int fd) noexcept override;
  void close_in_forked_child() noexcept override {
    ::close(ring_.ring_fd);  // its memory is not there: see init()
    wake_up_.reset();
  }
  [[nodiscard]] TimePoint now() const noexcept override { return std::chrono::time_point_cast<Duration>(Clock::now()); }
  [[nodiscard]] SocketCalls& sockets() noexcept override { return sockets_; }
  void add_stats(LoopStats& stats) const noexcept override {
    stats.engine_calls += enters_;
    stats.engine_entries += entries_;
  }

 private:
  static constexpr std::uint64_t kIgnored = 0;
  static constexpr std::uint64_t kWakeUp = 1;
  static constexpr std::uint64_t kFeedTag = 2;  // beside a feed's address; an operation's has no low bits set
  /// Operations on devices are handed over so many at a time, not at the end of the turn: or the device would be idle
  /// while the fibers that its last completions woke make up their minds, one after the other. Two is what the kernel
  /// does not plug, that is, collect for the device. docs/decisions/0010-files.md has figures.
  static constexpr unsigned kDeviceBatch = 2;
  static constexpr std::uint32_t kQueuedMax = 4;  // pieces that may wait in a feed before it is stopped

  [[nodiscard]] io_uring_sqe* entry() noexcept;
  void submit(Op& op) noexcept;
  void submit(FileOp& op) noexcept;
  void prepare_receive(io_uring_sqe& sqe, Op& op) noexcept;
  void poll_for_room(Op& op) noexcept;
  void remove(Op& op) noexcept;
  void arm_wake_up() noexcept;
  [[nodiscard]] bool accept_now(Op& op) noexcept;
  [[nodiscard]] static bool transfer_now(Op& op, FdState& state) noexcept;
  [[nodiscard]] static bool message_now(Op& op, FdState& state) noexcept;
  void accept_after_all(Op& op) noexcept;
  void enter(TimePoint until) noexcept;
  void reap(OpList& finished) noexcept;
  void on_completion(Op& op, int result, unsigned flags, OpList& finished) noexcept;
  void on_poll(Op& op, int result, unsigned flags, OpList& finished) noexcept;
  [[nodiscard]] bool settle_transfer(Op& op, int result, unsigned flags) noexcept;
  [[nodiscard]] bool settle_lent(Op& op) noexcept;
  [[nodiscard]] ReceiveFeed* feed_for(const Op& op, FdState& state) noexcept;
  [[nodiscard]] bool start_fed(ReceiveFeed& feed, Op& op) noexcept;
  void arm(ReceiveFeed& feed) noexcept;
  void stop(ReceiveFeed& feed) noexcept;
  void serve(ReceiveFeed& feed, Op& op) noexcept;
  void on_feed(ReceiveFeed& feed, int result, unsigned flags, OpList& finished) noexcept;
  void take_in(ReceiveFeed& feed, int result, unsigned flags) noexcept;
  void go_on(ReceiveFeed& feed, int result, OpList& finished) noexcept;
  void drop(ReceiveFeed& feed) noexcept;
  void submit_now() noexcept;
  [[nodiscard]] bool lend_small(Op& op) noexcept;
  void finish(Op& op, OpList& finished) noexcept;

  FdTable& descriptors_;
  BufferPool& buffers_;
  SystemSockets sockets_;
  FileRing files_;
  io_uring ring_{};
  bool ring_made_ = false;
  ReceiveRing receive_ring_;
  Fd wake_up_;
  std::uint64_t wake_count_ = 0;
  bool wake_armed_ = false;
  FeedQueue feed_queue_;
  HangupCheck hangups_;
  std::size_t feeds_armed_ = 0;
  OpList cancelled_;  // that the kernel did not know of
  std::size_t waiting_ = 0;
  std::uint64_t batch_ = 0;        // of submissions, counted
  unsigned kept_from_device_ = 0;  // operations of this batch
  std::uint64_t enters_ = 0;
  std::uint64_t entries_ = 0;
};

/// Whether it is a plain system call, before which only readiness is waited for.
constexpr bool transfers_now(OpKind kind) noexcept {
  return kind == OpKind::read || kind == OpKind::write || kind == OpKind::recv_many || kind == OpKind::send_many;
}

std::string failure(const char* what, int error) {
  return std::string(what) + ": " + std::generic_category().message(error);
}

std::string UringEngine::init(unsigned entries, unsigned workers) {
  io_uring_params params{};
  params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
  params.cq_entries = entries * 4;  // more would only pass more cache lines through; what does not fit the kernel keeps
  const int made = io_uring_queue_init_params(entries, &ring_, &params);
  if (made == -EINVAL && entries == 0) return "RunOptions::ring_entries is 0";
  if (made == -EINVAL) return "this kernel is older than Linux 6.1 (no IORING_SETUP_DEFER_TASKRUN)";
  if (made == -EPERM)
    return failure("io_uring_setup", EPERM) + " (forbidden by seccomp, or by the sysctl kernel.io_uring_disabled)";
  if (made < 0) return failure("io_uring_setup", -made);
  ring_made_ = true;
  if (const int result = io_uring_ring_dontfork(&ring_); result < 0)
    return failure("madvise(MADV_DONTFORK) of the ring", -result);
  io_uring_register_ring_fd(&ring_);  // saves a look-up per enter; where it fails the ring works all the same
  wake_up_ = Fd(::eventfd(0, EFD_CLOEXEC));
  if (!wake_up_) return failure("eventfd", errno);
  feed_queue_.init(buffers_.count());
  files_.init(ring_, workers);
  return receive_ring_.init(ring_, buffers_);
}

UringEngine::~UringEngine() {
  // The kernel must be done with this object before it goes: leaving the ring alone does not wait for that.
  OpList none;
  while (wake_armed_ || feeds_armed_ != 0) {
    if (wake_armed_) wake();
    io_uring_submit_and_wait(&ring_, 1);
    reap(none);
  }
  receive_ring_.close(ring_, buffers_);
  if (ring_made_) io_uring_queue_exit(&ring_);
}

io_uring_sqe* UringEngine::entry() noexcept {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (sqe == nullptr) {  // the ring is full: hand over what it holds
    submit_now();
    sqe = io_uring_get_sqe(&ring_);
  }
  ++entries_;
  return sqe;
}

void UringEngine::submit_now() noexcept {
  ++enters_;
  ++batch_;
  kept_from_device_ = 0;
  io_uring_submit(&ring_);
}

bool UringEngine::start(Op& op) noexcept {
  FdState& state = descriptors_[op.fd];
  if (ReceiveFeed* feed = feed_for(op, state)) return start_fed(*feed, op);
  if (op.kind == OpKind::accept && accept_now(op)) return true;
  if (transfers_now(op.kind) && transfer_now(op, state)) return true;
  if (state.datagrams && message_now(op, state)) return true;
  if (op.kind == OpKind::recv_lent && !receive_ring_.available() && !lend_small(op)) return true;
  op.state = Op::State::started;
  ++waiting_;
  const bool writes = op.kind == OpKind::send || op.kind == OpKind::send_message || op.kind == OpKind::write ||
                      op.kind == OpKind::send_many;
  if (op.kind == OpKind::poll_out || (writes && (state.engine_flags & kFull) != 0)) {
    poll_for_room(op);
  } else {
    submit(op);
  }
  return false;
}

FileStart UringEngine::start_file(FileOp& op) noexcept {
  if (!files_.offers(op)) return Engine::start_file(op);
  if (read_from_memory(op)) return FileStart::done;
  op.state = Op::State::started;
  ++waiting_;
  submit(op);
  return FileStart::started;
}

void UringEngine::submit(FileOp& op) noexcept {
  io_uring_sqe* sqe = entry();
  FileRing::prepare(*sqe, op);
  io_uring_sqe_set_data(sqe, &op);
  if (op.to_device && ++kept_from_device_ == kDeviceBatch) submit_now();
}

bool UringEngine::accept_now(Op& op) noexcept {
  std::uint8_t& flags = descriptors_[op.fd].engine_flags;
  if ((flags & kNoMoreToAccept) != 0) return false;
  // An accept4 in vain costs nearly as much as one that is not: it makes the socket first.
  if (is_ready(op.fd, POLLIN) == -EAGAIN) {
    flags |= kNoMoreToAccept;
    return false;
  }
  do op.result = ::accept4(op.fd, nullptr, nullptr, SOCK_CLOEXEC);
  while (op.result < 0 && errno == EINTR);
  if (op.result >= 0) return true;
  op.result = -errno;
  if (op.result != -EAGAIN) return true;
  flags |= kNoMoreToAccept;
  return false;
}

/// The kernel's own operations on what is no socket would do: but they make a thread wait for what has O_NONBLOCK
/// unset, end with EAGAIN where it is set, and raise SIGPIPE. Many messages at once it has no operation for.
bool UringEngine::transfer_now(Op& op, FdState& state) noexcept {
  const bool reading = op.kind == OpKind::read || op.kind == OpKind::recv_many;
  const std::uint8_t in_vain = reading ? kDrained : kFull;
  if ((state.engine_flags & in_vain) != 0) return false;
  if (op.kind == OpKind::recv_many || op.kind == OpKind::send_many) {
    op.result = transfer_messages(op);
    // Fewer than there was room for: the kernel has looked for another one in vain.
    if (reading && op.result > 0 && static_cast<std::size_t>(op.result) < op.size) state.engine_flags |= kDrained;
  } else {
    ssize_t count = 0;
    do count = reading ? ::read(op.fd, op.data, op.size) : quiet_write(op.fd, op.data, op.size);
    while (count < 0 && errno == EINTR);
    op.result = count >= 0 ? static_cast<std::int32_t>(count) : -errno;
  }
  if (op.result != -EAGAIN) return true;
  state.engine_flags |= in_vain;
  return false;
}

/// A datagram goes out at once, nearly always, and comes in a row with others: then an operation for each, with the
/// switches of fibers that go with it, costs more than the system call.
bool UringEngine::message_now(Op& op, FdState& state) noexcept {
  if (op.kind == OpKind::recv_message) {
    if ((state.engine_flags & kDrained) != 0) return false;
    op.result = transfer_messages(op);
    if (op.result != -EAGAIN) return true;
    state.engine_flags |= kDrained;
  } else if (op.kind == OpKind::send_message) {
    if ((state.engine_flags & kFull) != 0) return false;
    op.result = transfer_messages(op);
    if (op.result != -EAGAIN) return true;
    state.engine_flags |= kFull;
  }
  return false;
}

/// Of several loops that share a listener the kernel wakes one. It may have been this one, just when its accept was
/// cancelled: then nobody else will hear of the connection.
void UringEngine::accept_after_all(Op& op) noexcept {
  const FdState& state = descriptors_[op.fd];
  if (!state.open || state.reader != &op) return;
  const int fd = ::accept4(op.fd, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd >= 0) op.result = fd;
}

void UringEngine::submit(Op& op) noexcept {
  io_uring_sqe* sqe = entry();
  op.phase = kTransfer;
  switch (op.kind) {
    case OpKind::recv:
    case OpKind::recv_lent: prepare_receive(*sqe, op); break;
    case OpKind::send: io_uring_prep_send(sqe, op.fd, op.data, op.size, MSG_DONTWAIT | MSG_NOSIGNAL); break;
    case OpKind::send_message:
      io_uring_prep_sendmsg(sqe, op.fd, static_cast<const msghdr*>(op.data), MSG_DONTWAIT | MSG_NOSIGNAL);
      break;
    case OpKind::accept: io_uring_prep_accept(sqe, op.fd, nullptr, nullptr, SOCK_CLOEXEC); break;
    case OpKind::connect:
      io_uring_prep_connect(sqe, op.fd, static_cast<const ::sockaddr*>(op.data), static_cast<::socklen_t>(op.size));
      break;
    case OpKind::poll_in: io_uring_prep_poll_add(sqe, op.fd, POLLIN); break;
    case OpKind::recv_message:
      io_uring_prep_recvmsg(sqe, op.fd, static_cast<::msghdr*>(op.data),
                            static_cast<unsigned>(op.size) | MSG_CMSG_CLOEXEC);
      if ((descriptors_[op.fd].engine_flags & kDrained) != 0) sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
      break;
    case OpKind::read:
    case OpKind::recv_many:
      io_uring_prep_poll_add(sqe, op.fd, POLLIN);
      op.phase = kAwait;
      break;
    case OpKind::send_many:
    case OpKind::write:
    case OpKind::poll_out: break;  // see start()
    case OpKind::file: break;      // see start_file()
  }
  io_uring_sqe_set_data(sqe, &op);
}

void UringEngine::prepare_receive(io_uring_sqe& sqe, Op& op) noexcept {
  if (op.kind == OpKind::recv_lent && op.data == nullptr) {
    io_uring_prep_recv(&sqe, op.fd, nullptr, BufferPool::kSize, 0);
    sqe.flags |= IOSQE_BUFFER_SELECT;
    sqe.buf_group = ReceiveRing::kGroup;
  } else {
    io_uring_prep_recv(&sqe, op.fd, op.data, op.size, 0);
  }
  // A request is rarely there already when the answer to the last one has just gone out: then polling first saves the
  // vain attempt.
  if ((descriptors_[op.fd].engine_flags & kDrained) != 0) sqe.ioprio |= IORING_RECVSEND_POLL_FIRST;
}

void UringEngine::poll_for_room(Op& op) noexcept {
  io_uring_sqe* sqe = entry();
  op.phase = kPoll;
  io_uring_prep_poll_multishot(sqe, op.fd, POLLOUT);
  io_uring_sqe_set_data(sqe, &op);
}

void UringEngine::remove(Op& op) noexcept {
  io_uring_sqe* sqe = entry();
  io_uring_prep_cancel(sqe, &op, 0);
  io_uring_sqe_set_data64(sqe, kIgnored);
}

void UringEngine::cancel(Op& op) noexcept {
  if (std::exchange(op.cancelled, true)) return;
  if (op.phase == kFed) {
    static_cast<ReceiveFeed*>(descriptors_[op.fd].engine_data)->waiting = nullptr;
    op.result = -ECANCELED;
    --waiting_;
    cancelled_.push(op);
  } else if (op.phase != kUnpoll) {
    remove(op);
  }
}

void UringEngine::arm_wake_up() noexcept {
  io_uring_sqe* sqe = entry();
  io_uring_prep_read(sqe, wake_up_.get(), &wake_count_, sizeof wake_count_, 0);
  io_uring_sqe_set_data64(sqe, kWakeUp);
  wake_armed_ = true;
}

void UringEngine::wait(TimePoint until, OpList& finished) noexcept {
  if (!wake_armed_) arm_wake_up();
  if (const TimePoint due = hangups_.due(); due != TimePoint::max()) {
    // Asked anew, the receive says how things are.
    if (now() >= due) hangups_.run([this](ReceiveFeed& feed) { stop(feed); });
    until = std::min(until, hangups_.due());
  }
  // What has been completed but not gathered must not be slept on.
  if (io_uring_cq_ready(&ring_) != 0 || !cancelled_.empty()) until = TimePoint::min();
  enter(until);
  reap(finished);
  while (Op* op = cancelled_.pop()) finished.push(*op);
}

void UringEngine::enter(TimePoint until) noexcept {
  ++batch_;
  kept_from_device_ = 0;
  const bool polls = until == TimePoint::min();
  if (polls) {
    const unsigned flags = __atomic_load_n(ring_.sq.kflags, __ATOMIC_RELAXED);
    if (io_uring_sq_ready(&ring_) == 0 && (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) == 0) return;
    ++enters_;
    io_uring_submit_and_get_events(&ring_);
    return;
  }
  ++enters_;
  run_put_off_signals();
  if (until == TimePoint::max()) {
    io_uring_submit_and_wait(&ring_, 1);
    return;
  }
  const Duration left = std::max(until - now(), Duration::zero());
  __kernel_timespec limit{left / std::chrono::seconds(1), (left % std::chrono::seconds(1)).count()};
  io_uring_cqe* first = nullptr;
  io_uring_submit_and_wait_timeout(&ring_, &first, 1, &limit, nullptr);
}

void UringEngine::reap(OpList& finished) noexcept {
  unsigned head = 0;
  unsigned count = 0;
  io_uring_cqe* cqe = nullptr;
  io_uring_for_each_cqe(&ring_, head, cqe) {
    ++count;
    if (cqe->user_data == kWakeUp) {
      wake_armed_ = false;
    } else if ((cqe->user_data & kFeedTag) != 0) {
      // NOLINTNEXTLINE(performance-no-int-to-ptr): the kernel carries integers
      on_feed(*reinterpret_cast<ReceiveFeed*>(cqe->user_data - kFeedTag), cqe->res, cqe->flags, finished);
    } else if (cqe->user_data != kIgnored) {
      on_completion(*static_cast<Op*>(io_uring_cqe_get_data(cqe)), cqe->res, cqe->flags, finished);
    }
  }
  io_uring_cq_advance(&ring_, count);
}

void UringEngine::on_completion(Op& op, int result, unsigned flags, OpList& finished) noexcept {
  BIGHT_CHECK(op.state == Op::State::started, "a completion came for an operation that is not under way");
  if (op.kind == OpKind::file) {
    auto& file_op = static_cast<FileOp&>(op);
    FileRing::settle(file_op, result) ? finish(op, finished) : submit(file_op);
  } else if (op.phase != kTransfer) {
    on_poll(op, result, flags, finished);
  } else if (settle_transfer(op, result, flags)) {
    finish(op, finished);
  } else {
    submit(op);
  }
}

/// Whether the operation is over; if not, it is to be submitted once more.
bool UringEngine::settle_transfer(Op& op, int result, unsigned flags) noexcept {
  std::uint8_t& state = descriptors_[op.fd].engine_flags;
  if ((flags & IORING_CQE_F_BUFFER) != 0) {
    const std::uint32_t id = flags >> IORING_CQE_BUFFER_SHIFT;
    if (result > 0) {
      op.data = buffers_.address(id);
      op.buffer_id = id;
      buffers_.note_lent();
    } else {
      receive_ring_.give(id);
    }
  }
  op.result = result;
  switch (op.kind) {
    case OpKind::recv:
    case OpKind::recv_lent: {
      const bool more = (flags & IORING_CQE_F_SOCK_NONEMPTY) != 0;
      state = static_cast<std::uint8_t>(more ? state & ~kDrained : state | kDrained);
      return op.kind == OpKind::recv || settle_lent(op);
    }
    case OpKind::recv_message:
      if (result >= 0) state &= static_cast<std::uint8_t>(~kDrained);
      return true;
    case OpKind::send:
    case OpKind::send_message:
      if (result == -EAGAIN) state |= kFull;
      return true;
    case OpKind::accept:
      if (result == -ECANCELED) accept_after_all(op);
      if (op.result >= 0) state &= static_cast<std::uint8_t>(~kNoMoreToAccept);
      return true;
    default:
      if (op.kind == OpKind::poll_in && result > 0) op.result = 0;
      return true;
  }
}

/// When the ring of buffers was empty, the receive is repeated into a small one.
bool UringEngine::settle_lent(Op& op) noexcept {
  if (op.result > 0) return true;
  if (op.data != nullptr) {
    buffers_.give_back(static_cast<std::byte*>(op.data), op.buffer_id);
    op.data = nullptr;
    return true;
  }
  if (op.result != -ENOBUFS || op.cancelled) return true;
  descriptors_[op.fd].engine_flags &=
      static_cast<std::uint8_t>(~kDrained);  // data is there: that is why a buffer was wanted
  return !lend_small(op);
}

bool UringEngine::lend_small(Op& op) noexcept {
  const BufferPool::Buffer small = buffers_.take_small();
  op.data = small.data;
  op.size = small.size;
  op.buffer_id = small.id;
  if (small.data == nullptr) op.result = -ENOMEM;
  return small.data != nullptr;
}

void UringEngine::on_poll(Op& op, int result, unsigned flags, OpList& finished) noexcept {
  if (op.phase == kAwait) {
    op.result = result < 0 ? result : op.cancelled ? -ECANCELED : -EAGAIN;
    descriptors_[op.fd].engine_flags &= static_cast<std::uint8_t>(~kDrained);
    finish(op, finished);
    return;
  }
  const bool last = (flags & IORING_CQE_F_MORE) == 0;
  if (op.phase == kPoll) {
    const bool room = result < 0 || (result & (POLLOUT | POLLERR | POLLHUP)) != 0;
    if (!last) {
      if (room) {
        op.phase = kUnpoll;
        if (!op.cancelled) remove(op);
      }
      return;
    }
    op.result = result < 0 ? result : 0;
    if (result >= 0 && !room && !op.cancelled) {
      poll_for_room(op);
      return;
    }
  } else {
    if (!last) return;
    op.result = 0;
  }
  if (op.result == 0) descriptors_[op.fd].engine_flags &= static_cast<std::uint8_t>(~kFull);
  if (op.result == 0 && op.kind != OpKind::poll_out) op.result = op.cancelled ? -ECANCELED : -EAGAIN;
  finish(op, finished);
}

void UringEngine::finish(Op& op, OpList& finished) noexcept {
  --waiting_;
  op.state = Op::State::done;
  finished.push(op);
}

void UringEngine::wake() noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_up_.get(), &one, sizeof one);
}

void UringEngine::forget(int fd) noexcept {
  // Submissions name it by its number, which may be another's soon.
  FdState& state = descriptors_[fd];
  auto* feed = static_cast<ReceiveFeed*>(std::exchange(state.engine_data, nullptr));
  const bool named = state.reader != nullptr || state.writer != nullptr ||
                     (feed != nullptr && feed->armed && feed->armed_in == batch_);
  if (named && io_uring_sq_ready(&ring_) != 0) submit_now();
  if (feed != nullptr) drop(*feed);
}

bool UringEngine::takes_ahead(int fd) noexcept {
  const auto* feed = static_cast<const ReceiveFeed*>(descriptors_[fd].engine_data);
  return feed != nullptr && (feed->queued != 0 || feed->end != ReceiveFeed::kOpen || feed->armed);
}

// --- Feeds
// ----------

/// The feed that a read has to go through, or null.
ReceiveFeed* UringEngine::feed_for(const Op& op, FdState& state) noexcept {
  if (op.kind != OpKind::recv_lent && op.kind != OpKind::recv && op.kind != OpKind::poll_in) return nullptr;
  if (state.untaken || state.direct) return nullptr;
  auto* feed = static_cast<ReceiveFeed*>(state.engine_data);
  if (feed == nullptr && op.kind == OpKind::recv_lent && (state.engine_flags & kBulk) == 0 &&
      receive_ring_.available()) {
    feed = new (std::nothrow) ReceiveFeed(op.fd);
    state.engine_data = feed;
  }
  if (feed == nullptr) return nullptr;
  const bool idle = feed->queued == 0 && feed->end == ReceiveFeed::kOpen && !feed->armed;
  if (!idle || ((state.engine_flags & kBulk) == 0 && op.kind == OpKind::recv_lent)) return feed;
  // It has nothing and expects nothing, and this read is better served without it.
  return nullptr;
}

bool UringEngine::start_fed(ReceiveFeed& feed, Op& op) noexcept {
  if (feed.queued != 0 || feed.end != ReceiveFeed::kOpen) {
    serve(feed, op);
    return true;
  }
  if (!feed.armed) arm(feed);
  op.state = Op::State::started;
  op.phase = kFed;
  ++waiting_;
  feed.waiting = &op;
  return false;
}

void UringEngine::arm(ReceiveFeed& feed) noexcept {
  io_uring_sqe* sqe = entry();
  io_uring_prep_recv_multishot(sqe, feed.fd, nullptr, 0, 0);
  // Not IORING_RECVSEND_POLL_FIRST: with it (Linux 6.18) a reset that is there already, behind data, is never told.
  sqe->flags |= IOSQE_BUFFER_SELECT;
  sqe->buf_group = ReceiveRing::kGroup;
  io_uring_sqe_set_data64(sqe, reinterpret_cast<std::uintptr_t>(&feed) + kFeedTag);
  feed.armed = true;
  feed.stopping = false;
  feed.armed_in = batch_;
  ++feeds_armed_;
}

void UringEngine::stop(ReceiveFeed& feed) noexcept {
  if (!feed.armed || std::exchange(feed.stopping, true)) return;
  io_uring_sqe* sqe = entry();
  io_uring_prep_cancel64(sqe, reinterpret_cast<std::uintptr_t>(&feed) + kFeedTag, 0);
  io_uring_sqe_set_data64(sqe, kIgnored);
}

/// Gives a read what the feed has: data first, then how it ended.
void UringEngine::serve(ReceiveFeed& feed, Op& op) noexcept {
  if (op.kind == OpKind::poll_in) {
    op.result = 0;
    return;
  }
  if (feed.queued == 0) {
    op.result = std::exchange(feed.end, ReceiveFeed::kOpen);  // asked again, the kernel will say it again
    return;
  }
  const std::uint32_t id = feed.first;
  FeedQueue::Piece& piece = feed_queue_.front(feed);
  std::byte* data = buffers_.address(id) + piece.begin;
  const std::uint32_t size = piece.end - piece.begin;
  if (op.kind == OpKind::recv_lent) {
    op.data = data;
    op.buffer_id = id;
    op.result = static_cast<std::int32_t>(size);
    buffers_.note_lent();
    feed_queue_.pop(feed);
    return;
  }
  const auto taken = static_cast<std::uint32_t>(std::min<std::size_t>(size, op.size));
  std::memcpy(op.data, data, taken);
  op.result = static_cast<std::int32_t>(taken);
  piece.begin += taken;
  if (piece.begin == piece.end) {
    feed_queue_.pop(feed);
    receive_ring_.give(id);
  }
}

void UringEngine::on_feed(ReceiveFeed& feed, int result, unsigned flags, OpList& finished) noexcept {
  take_in(feed, result, flags);
  if (feed.orphaned) {
    if (!feed.armed) delete &feed;
    return;
  }
  if (result == static_cast<int>(BufferPool::kSize)) {
    descriptors_[feed.fd].engine_flags |= kBulk;
    stop(feed);
  }
  go_on(feed, result, finished);
}

void UringEngine::take_in(ReceiveFeed& feed, int result, unsigned flags) noexcept {
  if ((flags & IORING_CQE_F_BUFFER) != 0) {
    const std::uint32_t id = flags >> IORING_CQE_BUFFER_SHIFT;
    if (result > 0 && !feed.orphaned) {
      feed_queue_.push(feed, id, static_cast<std::uint32_t>(result));
    } else {
      receive_ring_.give(id);
    }
  }
  if ((flags & IORING_CQE_F_MORE) != 0) {
    if (!feed.orphaned) hangups_.add(feed, [this] { return now(); });
    return;
  }
  hangups_.remove(feed);
  feed.armed = false;
  --feeds_armed_;
  if (result <= 0 && result != -ECANCELED && result != -ENOBUFS && result != -EAGAIN && result != -EINTR)
    feed.end = result;
}

void UringEngine::go_on(ReceiveFeed& feed, int result, OpList& finished) noexcept {
  Op* op = feed.waiting;
  if (op == nullptr) {
    if (feed.queued >= kQueuedMax) stop(feed);
    return;
  }
  if (feed.queued != 0 || feed.end != ReceiveFeed::kOpen) {
    feed.waiting = nullptr;
    serve(feed, *op);
    finish(*op, finished);
    return;
  }
  if (feed.armed) return;
  // It has ended without news: out of buffers, or stopped.
  if (result != -ENOBUFS && (descriptors_[feed.fd].engine_flags & kBulk) == 0) {
    arm(feed);
    return;
  }
  feed.waiting = nullptr;
  if (result == -ENOBUFS && op->kind == OpKind::recv_lent && !lend_small(*op)) {
    finish(*op, finished);
    return;
  }
  descriptors_[feed.fd].engine_flags &= static_cast<std::uint8_t>(~kDrained);
  submit(*op);
}

/// The descriptor is closed. The feed goes now, or with its last completion.
void UringEngine::drop(ReceiveFeed& feed) noexcept {
  hangups_.remove(feed);
  for (; feed.queued != 0; feed_queue_.pop(feed)) receive_ring_.give(feed.first);
  feed.orphaned = true;
  if (feed.armed) {
    stop(feed);
  } else {
    delete &feed;
  }
}

}  // namespace

std::unique_ptr<Engine> make_uring_engine(const EngineContext& context, std::string& why) {
  auto engine = std::make_unique<UringEngine>(context);
  why = engine->init(context.options.ring_entries, context.options.ring_workers);
  if (!why.empty()) return nullptr;
  return engine;
}

}  // namespace bight::detail
