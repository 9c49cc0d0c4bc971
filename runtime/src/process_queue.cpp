// SPDX-License-Identifier: Apache-2.0
#include <bight/process_queue.hpp>

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>

#include <bight/check.hpp>
#include <bight/connection.hpp>
#include <bight/process_lock.hpp>
#include <bight/shared_memory.hpp>

#include "brief_lock.hpp"
#include "descriptor_wait.hpp"
#include "message_socket.hpp"
#include "per_process.hpp"
#include "process_table.hpp"
#include "token.hpp"

// The values lie in a socket, where the kernel keeps them whole: each is put and got by one system call, so whoever is
// killed has done it or not, and getting needs no lock.
//
// How many are there nobody counts, for a getter could be killed before it has counted. The kernel tells how many bytes
// there are; those who put, one at a time, write down the sizes of what they put, so that the last ones which add up to
// that number are those that are still there.
//
// How many are being dealt with is told by a table with a number for each process. A getter adds one to its own before
// it looks for a value, and takes it back if there was none: so what is not in the socket any more is in the table, and
// when first the one and then the other is found empty, with nothing put in between, all has been dealt with.

namespace bight::detail {
namespace {

using Slot = ProcessTable::Slot;

/// Sizes of what has been put, the oldest that may still be there first. Changed under the lock only.
struct Shared {
  std::atomic<std::uint64_t> puts;  // begun
  std::atomic<std::uint64_t> lost_tasks;
  std::atomic<bool> closed;
  std::atomic<bool> putters_wait;
  std::atomic<bool> joiners_wait;
  std::uint64_t head;
  std::uint64_t tail;
  std::uint64_t sum;        // of the sizes from head to tail
  std::uint32_t intention;  // what is being put; 0: nothing
};

constexpr std::size_t kTableOffset = 256;
static_assert(sizeof(Shared) <= kTableOffset);
constexpr std::size_t kSizesOffset = kTableOffset + ProcessTable::bytes_for(process_queue_processes_max);
constexpr int kBufferBytes = 4 * 1024 * 1024;  // as much of it as the system allows (net.core.wmem_max)

[[noreturn]] void throw_wait_error(std::error_code error, const char* what) {
  std::string text = what;
  if (in_simulated_world()) text += ": a simulated world has no other processes";
  throw_error(error, text);
}

bool is_over(TimePoint until) noexcept {
  return until == TimePoint::min() || (until != TimePoint::max() && until <= now());
}

TimePoint next_look(TimePoint until) noexcept { return std::min(until, saturating_add(now(), process_queue_recheck)); }

}  // namespace

struct ByteQueue::Impl {
  explicit Impl(std::size_t most);

  [[nodiscard]] bool bounded() const noexcept { return maxsize != 0; }
  [[nodiscard]] Shared& shared() const noexcept { return memory.as<Shared>(); }
  [[nodiscard]] std::uint32_t& size_at(std::uint64_t place) const noexcept {
    return memory.as<std::uint32_t>(kSizesOffset + place % (maxsize + 1) * sizeof(std::uint32_t));
  }
  [[nodiscard]] std::uint64_t bytes_there() const noexcept;
  [[nodiscard]] std::uint64_t count() const noexcept;
  void mend() const noexcept;
  [[nodiscard]] bool adds_up(std::uint64_t bytes, std::uint64_t tail) const noexcept;
  enum class Put : unsigned char { done, no_count, no_buffer };
  [[nodiscard]] Put try_put(OutgoingMessage& message, std::size_t size);
  [[nodiscard]] Slot& slot();
  void finish_task(Slot& of);

  std::size_t maxsize;  // 0: as many as there is room for
  SharedMemory memory;
  ProcessTable table;
  ProcessLock lock;
  Token room;
  Token done;
  Fd in;
  Connection out;
  PerProcess<std::atomic<Slot*>> own;
};

ByteQueue::Impl::Impl(std::size_t most)
    : maxsize(most > process_queue_maxsize_max ? 0 : most),
      memory(kSizesOffset + (maxsize + 1) * sizeof(std::uint32_t)),
      table({&memory.as<Slot>(kTableOffset), process_queue_processes_max}) {
  std::error_code error;
  auto [first, second] = make_message_sockets(error);
  if (error) throw std::system_error(error, "make a ProcessQueue: socketpair");
  ::setsockopt(first.get(), SOL_SOCKET, SO_SNDBUF, &kBufferBytes, sizeof kBufferBytes);
  in = std::move(first);
  out = Connection(std::move(second));
}

/// Of the messages that are there.
std::uint64_t ByteQueue::Impl::bytes_there() const noexcept {
  int bytes = 0;
  return ::ioctl(out.fd(), SIOCINQ, &bytes) == 0 ? static_cast<std::uint64_t>(bytes) : 0;
}

/// How many values are there; with the lock.
std::uint64_t ByteQueue::Impl::count() const noexcept {
  Shared& state = shared();
  const std::uint64_t there = bytes_there();
  while (state.sum > there && state.head != state.tail) state.sum -= size_at(state.head++);
  return state.tail - state.head;
}

/// Whether the last of the values before `tail` have so many bytes.
bool ByteQueue::Impl::adds_up(std::uint64_t bytes, std::uint64_t tail) const noexcept {
  std::uint64_t sum = 0;
  while (sum < bytes && tail != shared().head) sum += size_at(--tail);
  return sum == bytes;
}

/// With the lock, after its owner was killed: it may have put a value without having counted it.
void ByteQueue::Impl::mend() const noexcept {
  Shared& state = shared();
  const std::uint64_t there = bytes_there();
  if (state.intention != 0 && !adds_up(there, state.tail)) {
    size_at(state.tail) = state.intention;
    if (state.tail - state.head > maxsize) ++state.head;
    ++state.tail;
  }
  state.intention = 0;
  state.sum = 0;
  for (std::uint64_t place = state.head; place != state.tail; ++place) state.sum += size_at(place);
}

ByteQueue::Impl::Put ByteQueue::Impl::try_put(OutgoingMessage& message, std::size_t size) {
  std::error_code error;
  bool sent = false;
  Shared& state = shared();
  if (!bounded()) {
    sent = message.try_send(in.get(), error);
  } else {
    const BriefLock held(lock, [this] { mend(); });
    if (count() >= maxsize) {
      state.putters_wait = true;  // before the look that counts
      if (count() >= maxsize) return Put::no_count;
    }
    size_at(state.tail) = static_cast<std::uint32_t>(size);
    state.intention = static_cast<std::uint32_t>(size);
    sent = message.try_send(in.get(), error);
    if (sent) {
      size = message.wire_size();  // less, where the socket takes so little that it has gone into memory
      size_at(state.tail) = static_cast<std::uint32_t>(size);
      ++state.tail;
      state.sum += size;
    }
    state.intention = 0;
  }
  if (error == std::errc::broken_pipe) throw ChannelClosed{};
  if (error) throw std::system_error(error, "put into a ProcessQueue");
  return sent ? Put::done : Put::no_buffer;
}

/// This process's place in the table.
Slot& ByteQueue::Impl::slot() {
  std::atomic<Slot*>& known = own.get();
  Slot* mine = known.load();
  if (mine == nullptr) {
    const BriefLock held(lock, [this] { mend(); });
    mine = table.mine();
    known = mine;
  }
  if (mine == nullptr) {
    throw std::system_error(std::make_error_code(std::errc::no_buffer_space),
                            "get from a ProcessQueue: more processes than process_queue_processes_max do");
  }
  return *mine;
}

void ByteQueue::Impl::finish_task(Slot& of) {
  --of.held;
  if (shared().joiners_wait.exchange(false)) done.post();
}

ByteQueue::ByteQueue(std::size_t maxsize) {
  BIGHT_CHECK(maxsize > 0, "a ProcessQueue holds one value at least");
  impl_ = std::make_unique<Impl>(maxsize);
}

ByteQueue::~ByteQueue() = default;

bool ByteQueue::put(std::span<const std::byte> bytes, TimePoint until) {
  std::error_code error;
  if (bytes.size() > connection_message_max) {  // nobody could get it
    throw std::system_error(std::make_error_code(std::errc::message_size),
                            "put " + std::to_string(bytes.size()) + " bytes into a ProcessQueue");
  }
  OutgoingMessage message(bytes, {}, error);
  if (error) throw std::system_error(error, "put into a ProcessQueue");
  bool posted = false;
  for (;;) {
    if (cancelled_here()) throw Cancelled{};
    if (closed()) throw ChannelClosed{};
    ++impl_->shared().puts;
    const Impl::Put put = impl_->try_put(message, message.wire_size());
    if (put == Impl::Put::done) break;
    if (is_over(until)) return false;
    if (std::exchange(posted, false)) {
      impl_->room.take();  // for nothing; and looks again, lest it was posted since
      continue;
    }
    // For the count to fall: the token says so. For the socket's buffer: the kernel does.
    error = put == Impl::Put::no_count ? wait_ready_aside(impl_->room.fd(), Readiness::readable, next_look(until))
                                       : wait_ready_aside(impl_->in.get(), Readiness::writable, next_look(until));
    posted = !error && put == Impl::Put::no_count;
    if (error && error != std::errc::timed_out) throw_wait_error(error, "wait for room in a ProcessQueue");
  }
  charge_here();
  return true;
}

std::optional<std::vector<std::byte>> ByteQueue::get(TimePoint until) {
  Slot& mine = impl_->slot();
  for (;;) {
    ++mine.held;
    std::optional<std::vector<std::byte>> bytes;
    try {
      bytes = impl_->out.receive_bytes_for(Duration::zero());
    } catch (...) {
      impl_->finish_task(mine);
      throw;
    }
    if (bytes) {
      if (impl_->shared().putters_wait.load() && impl_->shared().putters_wait.exchange(false)) impl_->room.post();
      return bytes;
    }
    impl_->finish_task(mine);
    if (impl_->out.at_end() || is_over(until)) return std::nullopt;
    const Duration limit = until == TimePoint::max() ? Duration::max() : Duration(until - now());
    if (!impl_->out.poll(limit)) return std::nullopt;
  }
}

void ByteQueue::task_done() {
  Slot& mine = impl_->slot();
  if (mine.held == 0) throw std::logic_error("task_done() was called more often than this process has got values");
  impl_->finish_task(mine);
}

bool ByteQueue::join(TimePoint until) {
  Shared& state = impl_->shared();
  for (;;) {
    if (cancelled_here()) throw Cancelled{};
    state.joiners_wait = true;
    const std::uint64_t puts = state.puts;
    if (empty()) {
      if (impl_->table.total() != 0) state.lost_tasks += impl_->table.reap();
      if (impl_->table.total() == 0 && empty() && state.puts == puts) return true;
    }
    if (is_over(until)) return false;
    const std::error_code error = wait_ready_aside(impl_->done.fd(), Readiness::readable, next_look(until));
    if (!error) impl_->done.take();
    if (error && error != std::errc::timed_out) throw_wait_error(error, "wait for the tasks of a ProcessQueue");
  }
}

void ByteQueue::close() noexcept {
  ::shutdown(impl_->in.get(), SHUT_WR);
  impl_->shared().closed = true;
  impl_->room.post();
}

bool ByteQueue::closed() const noexcept { return impl_->shared().closed; }
bool ByteQueue::empty() const noexcept { return impl_->bytes_there() == 0; }
std::uint64_t ByteQueue::lost_tasks() const noexcept { return impl_->shared().lost_tasks; }

}  // namespace bight::detail
