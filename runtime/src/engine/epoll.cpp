// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <system_error>
#include <utility>

#include <bight/check.hpp>
#include <bight/fd.hpp>

#include "buffers.hpp"
#include "engine/engine.hpp"
#include "engine/quiet_write.hpp"
#include "engine/system_sockets.hpp"
#include "fd_table.hpp"
#include "put_off_signals.hpp"

namespace bight::detail {
namespace {

/// What this engine remembers of a descriptor, in FdState::engine_flags. Zero, where a descriptor starts: try first.
enum : std::uint8_t {
  kRegistered = 1,  // in the epoll set, for reading
  kForWriting = 2,  // in the epoll set, for writing, too
  kDrained = 4,     // nothing to read when last looked; the next edge clears it
  kFull = 8,        // no room to write when last looked; the next edge clears it
  kExhaust = 16,    // an end, an error or urgent data has been announced: a short read does not mean drained
  kExclusive = 32,  // registered for one accept: see take_turn()
};

constexpr bool reads(OpKind kind) noexcept {
  return kind == OpKind::recv || kind == OpKind::recv_lent || kind == OpKind::accept || kind == OpKind::poll_in ||
         kind == OpKind::read || kind == OpKind::recv_message || kind == OpKind::recv_many;
}

constexpr bool would_block(int error) noexcept { return error == EAGAIN || error == EWOULDBLOCK; }

/// Readiness from an edge-triggered epoll set, the transfers by plain system calls. A descriptor is registered when
/// something first has to wait for it, and never touched again: no epoll_ctl(2) per operation. What an edge said is
/// kept in flags until a call finds it used up: a read that returns less than it was given room for has emptied the
/// socket (epoll(7), "Do I need to continuously read"), so the EAGAIN that a second one would bring is saved. That
/// does not hold for datagrams, nor once the peer's end or urgent data has been announced, for which no edge will come
/// again.
class EpollEngine final : public Engine {
 public:
  explicit EpollEngine(const EngineContext& context);

  [[nodiscard]] std::string_view name() const noexcept override { return "epoll"; }
  [[nodiscard]] bool start(Op& op) noexcept override;
  void cancel(Op& op) noexcept override;
  void wait(TimePoint until, OpList& finished) noexcept override;
  [[nodiscard]] bool has_work() const noexcept override { return waiting_ != 0 || !cancelled_.empty(); }
  [[nodiscard]] bool may_finish() const noexcept override { return has_work(); }
  void wake() noexcept override;
  void forget(int fd) noexcept override;
  void close_in_forked_child() noexcept override {
    epoll_.reset();
    wake_up_.reset();
  }
  [[nodiscard]] TimePoint now() const noexcept override { return std::chrono::time_point_cast<Duration>(Clock::now()); }
  [[nodiscard]] SocketCalls& sockets() noexcept override { return sockets_; }
  void add_stats(LoopStats& stats) const noexcept override {
    stats.engine_calls += waits_;
    stats.engine_entries += controls_;
  }

 private:
  static constexpr std::uint64_t kWakeUp = ~std::uint64_t{0};

  [[nodiscard]] bool attempt(Op& op, FdState& state) noexcept;
  [[nodiscard]] bool attempt_read(Op& op, FdState& state) noexcept;
  [[nodiscard]] bool attempt_write(Op& op, FdState& state) noexcept;
  [[nodiscard]] bool receive(Op& op, FdState& state, void* data, std::size_t size) noexcept;
  [[nodiscard]] bool receive_messages(Op& op, FdState& state) noexcept;
  [[nodiscard]] bool receive_lent(Op& op, FdState& state) noexcept;
  [[nodiscard]] bool attempt_connect(Op& op, FdState& state) noexcept;
  [[nodiscard]] int watch(int fd, FdState& state, bool writing) noexcept;
  [[nodiscard]] int take_turn(int fd, FdState& state) noexcept;
  void unregister(int fd, FdState& state) noexcept;
  [[nodiscard]] bool accept_announced(FdState& state, OpList& finished) noexcept;
  void accept_after_all(Op& op, FdState& state) noexcept;
  [[nodiscard]] int wait_for_events(const timespec* timeout) noexcept;
  void on_event(const epoll_event& event, OpList& finished) noexcept;
  void release(Op* op, OpList& finished) noexcept;

  FdTable& descriptors_;
  BufferPool& buffers_;
  SystemSockets sockets_;
  Fd epoll_;
  Fd wake_up_;
  OpList cancelled_;
  std::size_t waiting_ = 0;
  bool nanoseconds_ = true;  // whether epoll_pwait2(2) is to be had
  std::uint64_t waits_ = 0;
  std::uint64_t controls_ = 0;
  std::array<epoll_event, 256> events_{};
};

EpollEngine::EpollEngine(const EngineContext& context) : descriptors_(context.descriptors), buffers_(context.buffers) {
  epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) throw std::system_error(errno, std::generic_category(), "make the epoll engine: epoll_create1");
  wake_up_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_up_) throw std::system_error(errno, std::generic_category(), "make the epoll engine: eventfd");
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;  // edges: it need not be read to be quiet
  event.data.u64 = kWakeUp;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_up_.get(), &event) != 0) {
    throw std::system_error(errno, std::generic_category(), "make the epoll engine: epoll_ctl");
  }
}

bool EpollEngine::start(Op& op) noexcept {
  FdState& state = descriptors_[op.fd];
  const bool reading = reads(op.kind);
  if ((state.engine_flags & (reading ? kDrained : kFull)) == 0 && attempt(op, state)) return true;
  const bool in_turn = op.kind == OpKind::accept && state.shared;
  if (const int error = in_turn ? take_turn(op.fd, state) : watch(op.fd, state, !reading); error != 0) {
    op.result = -error;
    return true;
  }
  op.state = Op::State::started;
  ++waiting_;
  return false;
}

bool EpollEngine::attempt(Op& op, FdState& state) noexcept {
  return reads(op.kind) ? attempt_read(op, state) : attempt_write(op, state);
}

bool EpollEngine::attempt_read(Op& op, FdState& state) noexcept {
  switch (op.kind) {
    case OpKind::recv:
    case OpKind::read: return receive(op, state, op.data, op.size);
    case OpKind::recv_lent: return receive_lent(op, state);
    case OpKind::recv_message:
    case OpKind::recv_many: return receive_messages(op, state);
    case OpKind::accept:
      // An accept4 in vain costs nearly as much as one that is not: it makes the socket first.
      if (op.phase == 0 && is_ready(op.fd, POLLIN) == -EAGAIN) {
        op.result = -EAGAIN;
        break;
      }
      do op.result = ::accept4(op.fd, nullptr, nullptr, SOCK_CLOEXEC);
      while (op.result < 0 && errno == EINTR);
      if (op.result < 0) op.result = -errno;
      break;
    default:  // poll_in
      op.result = is_ready(op.fd, POLLIN);
      break;
  }
  if (op.result >= 0 || !would_block(-op.result)) return true;
  state.engine_flags |= kDrained;
  return false;
}

bool EpollEngine::receive(Op& op, FdState& state, void* data, std::size_t size) noexcept {
  ssize_t count = 0;
  do count = op.kind == OpKind::read ? ::read(op.fd, data, size) : ::recv(op.fd, data, size, MSG_DONTWAIT);
  while (count < 0 && errno == EINTR);
  if (count >= 0) {
    op.result = static_cast<std::int32_t>(count);
    const bool emptied = count > 0 && static_cast<std::size_t>(count) < size && !state.datagrams;
    if (emptied && (state.engine_flags & kExhaust) == 0) state.engine_flags |= kDrained;
    return true;
  }
  if (would_block(errno)) {
    state.engine_flags |= kDrained;
    return false;
  }
  op.result = -errno;
  return true;
}

bool EpollEngine::receive_messages(Op& op, FdState& state) noexcept {
  op.result = transfer_messages(op);
  if (op.result < 0 && would_block(-op.result)) {
    state.engine_flags |= kDrained;
    return false;
  }
  // Fewer messages than there was room for: the kernel has looked for another one in vain.
  const bool emptied = op.kind == OpKind::recv_many && op.result > 0 && static_cast<std::size_t>(op.result) < op.size;
  if (emptied && (state.engine_flags & kExhaust) == 0) state.engine_flags |= kDrained;
  return true;
}

bool EpollEngine::receive_lent(Op& op, FdState& state) noexcept {
  const BufferPool::Buffer buffer = buffers_.take();
  if (buffer.data == nullptr) {
    op.result = -ENOMEM;
    return true;
  }
  const bool done = receive(op, state, buffer.data, buffer.size);
  if (done && op.result > 0) {
    op.data = buffer.data;
    op.buffer_id = buffer.id;
  } else {
    buffers_.give_back(buffer.data, buffer.id);
  }
  return done;
}

bool EpollEngine::attempt_write(Op& op, FdState& state) noexcept {
  ssize_t count = 0;
  switch (op.kind) {
    case OpKind::send:
      do count = ::send(op.fd, op.data, op.size, MSG_DONTWAIT | MSG_NOSIGNAL);
      while (count < 0 && errno == EINTR);
      break;
    case OpKind::send_message:
      do count = ::sendmsg(op.fd, static_cast<const msghdr*>(op.data), MSG_DONTWAIT | MSG_NOSIGNAL);
      while (count < 0 && errno == EINTR);
      break;
    case OpKind::send_many:
      op.result = transfer_messages(op);
      if (op.result != -EAGAIN) return true;
      state.engine_flags |= kFull;
      return false;
    case OpKind::write:
      do count = quiet_write(op.fd, op.data, op.size);
      while (count < 0 && errno == EINTR);
      break;
    case OpKind::connect: return attempt_connect(op, state);
    default:  // poll_out
      op.result = is_ready(op.fd, POLLOUT);
      if (op.result != -EAGAIN) return true;
      state.engine_flags |= kFull;
      return false;
  }
  if (count < 0 && would_block(errno)) {
    state.engine_flags |= kFull;
    return false;
  }
  op.result = count >= 0 ? static_cast<std::int32_t>(count) : -errno;
  return true;
}

/// phase 0: not begun; 1: under way, its end shows as writability.
bool EpollEngine::attempt_connect(Op& op, FdState& state) noexcept {
  if (op.phase == 1) {
    int error = 0;
    ::socklen_t length = sizeof error;
    if (::getsockopt(op.fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
    op.result = -error;
    return true;
  }
  op.phase = 1;
  if (::connect(op.fd, static_cast<const ::sockaddr*>(op.data), static_cast<::socklen_t>(op.size)) == 0) {
    op.result = 0;
    return true;
  }
  // EINTR: the attempt goes on in the background, as with EINPROGRESS (connect(2)).
  if (errno == EINPROGRESS || errno == EINTR) {
    state.engine_flags |= kFull;
    return false;
  }
  op.result = -errno;
  return true;
}

/// Makes sure that edges of the direction are reported. Returns 0 or errno.
int EpollEngine::watch(int fd, FdState& state, bool writing) noexcept {
  if ((state.engine_flags & kExclusive) != 0) unregister(fd, state);  // can not be changed: epoll_ctl(2)
  const std::uint8_t wanted = writing ? kRegistered | kForWriting : kRegistered;
  if ((state.engine_flags & wanted) == wanted) return 0;
  epoll_event event{};
  event.events = EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET;
  if (writing || (state.engine_flags & kForWriting) != 0) event.events |= EPOLLOUT;
  event.data.u64 = static_cast<std::uint32_t>(fd) | std::uint64_t{state.generation} << 32U;
  const int verb = (state.engine_flags & kRegistered) != 0 ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  ++controls_;
  if (::epoll_ctl(epoll_.get(), verb, fd, &event) != 0) return errno;
  state.engine_flags |= wanted;
  return 0;
}

/// Has the next connection to a listener that other processes have, too, wake this one if none of the others is told
/// (EPOLLEXCLUSIVE). One registration per accept: who has had one goes to the end of the kernel's list, so connections
/// go round, where a registration that stays would bring nearly all of them to whoever registered first; and who does
/// not accept is not told in place of somebody who does. Two calls more per connection that is waited for.
int EpollEngine::take_turn(int fd, FdState& state) noexcept {
  if ((state.engine_flags & kRegistered) != 0) unregister(fd, state);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLEXCLUSIVE;
  event.data.u64 = static_cast<std::uint32_t>(fd) | std::uint64_t{state.generation} << 32U;
  ++controls_;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return errno;
  state.engine_flags |= kRegistered | kExclusive;
  return 0;
}

void EpollEngine::unregister(int fd, FdState& state) noexcept {
  epoll_event unused{};
  ++controls_;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, &unused);
  state.engine_flags &= static_cast<std::uint8_t>(~(kRegistered | kForWriting | kExclusive));
}

/// Not left to the fiber: cancelled before its turn comes, it would leave a connection of which nobody else is told.
bool EpollEngine::accept_announced(FdState& state, OpList& finished) noexcept {
  Op* op = state.reader;
  if (op == nullptr || op->kind != OpKind::accept || op->state != Op::State::started || op->cancelled) return false;
  int fd = -1;
  do fd = ::accept4(op->fd, nullptr, nullptr, SOCK_CLOEXEC);
  while (fd < 0 && errno == EINTR);
  if (fd < 0 && would_block(errno)) return false;
  op->result = fd >= 0 ? fd : -errno;
  op->state = Op::State::done;
  --waiting_;
  state.engine_flags &= static_cast<std::uint8_t>(~kDrained);
  finished.push(*op);
  return true;
}

/// The kernel may have told this process of a connection, and nobody else, just when its accept is cancelled.
void EpollEngine::accept_after_all(Op& op, FdState& state) noexcept {
  if (!state.open || state.reader != &op || (state.engine_flags & kExclusive) == 0) return;
  unregister(op.fd, state);
  if (is_ready(op.fd, POLLIN) != 0) return;
  const int fd = ::accept4(op.fd, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd >= 0) op.result = fd;
}

void EpollEngine::cancel(Op& op) noexcept {
  if (op.cancelled) return;
  op.cancelled = true;
  op.result = -ECANCELED;
  if (op.kind == OpKind::accept) accept_after_all(op, descriptors_[op.fd]);
  --waiting_;
  cancelled_.push(op);
}

void EpollEngine::wait(TimePoint until, OpList& finished) noexcept {
  timespec limit{};
  const timespec* timeout = &limit;
  if (!cancelled_.empty() || until == TimePoint::min()) {
    // a poll
  } else if (until == TimePoint::max()) {
    timeout = nullptr;
  } else if (const Duration left = until - now(); left > Duration::zero()) {
    limit.tv_sec = left / std::chrono::seconds(1);
    limit.tv_nsec = (left % std::chrono::seconds(1)).count();
  }
  ++waits_;
  const int count = wait_for_events(timeout);
  for (int i = 0; i < count; ++i) on_event(events_[static_cast<std::size_t>(i)], finished);
  while (Op* op = cancelled_.pop()) finished.push(*op);
}

int EpollEngine::wait_for_events(const timespec* timeout) noexcept {
  const auto room = static_cast<int>(events_.size());
  run_put_off_signals();
  if (nanoseconds_) {
    const int count = ::epoll_pwait2(epoll_.get(), events_.data(), room, timeout, nullptr);
    if (count >= 0 || errno == EINTR) return count;
    nanoseconds_ = false;  // kernels before Linux 5.11, and seccomp filters from before it
  }
  std::int64_t milliseconds = -1;
  if (timeout != nullptr) {  // rounded up: no timer fires early
    milliseconds = std::min<std::int64_t>(timeout->tv_sec, 1'000'000) * 1000 + (timeout->tv_nsec + 999'999) / 1'000'000;
  }
  const int count = ::epoll_wait(epoll_.get(), events_.data(), room, static_cast<int>(milliseconds));
  BIGHT_CHECK(count >= 0 || errno == EINTR, "epoll_wait failed: was the loop's descriptor closed by somebody?");
  return count;
}

void EpollEngine::on_event(const epoll_event& event, OpList& finished) noexcept {
  if (event.data.u64 == kWakeUp) return;
  const auto fd = static_cast<int>(event.data.u64 & 0xffffffffU);
  FdState& state = descriptors_[fd];
  if (!state.open || state.generation != event.data.u64 >> 32U) return;  // of an earlier descriptor with this number
  constexpr std::uint32_t kEnds = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
  if ((event.events & (kEnds | EPOLLPRI)) != 0) state.engine_flags |= kExhaust;
  if ((state.engine_flags & kExclusive) != 0) {
    unregister(fd, state);
    if (accept_announced(state, finished)) return;
  }
  if ((event.events & (EPOLLIN | kEnds)) != 0) {
    state.engine_flags &= static_cast<std::uint8_t>(~kDrained);
    release(state.reader, finished);
  }
  if ((event.events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) {
    state.engine_flags &= static_cast<std::uint8_t>(~kFull);
    release(state.writer, finished);
  }
}

/// The transfer itself is left to the fiber, when its turn comes: then a lent buffer is taken, filled, used and given
/// back in one go, and the next fiber finds the same one in the cache.
void EpollEngine::release(Op* op, OpList& finished) noexcept {
  if (op == nullptr || op->state != Op::State::started || op->cancelled) return;
  --waiting_;
  op->phase = 1;  // announced
  op->state = Op::State::done;
  op->result = -EAGAIN;
  finished.push(*op);
}

void EpollEngine::wake() noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_up_.get(), &one, sizeof one);
}

void EpollEngine::forget(int fd) noexcept {
  // close(2) takes a descriptor out of the set, unless another one refers to the same open file (epoll(7)).
  const FdState& state = descriptors_[fd];
  if (!state.shared || (state.engine_flags & kRegistered) == 0) return;
  epoll_event unused{};
  ++controls_;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, &unused);
}

}  // namespace

std::unique_ptr<Engine> make_epoll_engine(const EngineContext& context) {
  return std::make_unique<EpollEngine>(context);
}

}  // namespace bight::detail
