// SPDX-License-Identifier: Apache-2.0
#include "lane.hpp"

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <system_error>
#include <utility>

#include <bight/error.hpp>

#include "loop.hpp"

namespace bight::detail {
namespace {

constexpr std::size_t kKept = 1024 * 1024;  // bytes of memory for messages that an end keeps for the next one
constexpr std::size_t kAlign = 16;          // of frames, so that none of their heads is split

constexpr std::size_t padded(std::size_t size) noexcept { return (size + kAlign - 1) / kAlign * kAlign; }

void full_fence() noexcept {
#if defined(BIGHT_TSAN)
  // TSan does not know fences; an operation that everybody orders itself by does the same.
  static std::atomic<int> order{0};
  order.fetch_add(1, std::memory_order_seq_cst);
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

}  // namespace

Fd LaneMapping::make() {
  Fd memory(::memfd_create("bight-lane", MFD_CLOEXEC));
  if (!memory) throw_error({errno, std::generic_category()}, "make a lane to a worker: memfd_create");
  if (::ftruncate(memory.get(), sizeof(LaneMemory)) != 0)
    throw_error({errno, std::generic_category()}, "make a lane to a worker: ftruncate");
  return memory;
}

LaneMapping::LaneMapping(int fd) {
  void* const mapped = ::mmap(nullptr, sizeof(LaneMemory), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) throw_error({errno, std::generic_category()}, "map a lane to a worker: mmap");
  ::madvise(mapped, sizeof(LaneMemory), MADV_DONTFORK);  // it is between these two
  memory_ = static_cast<LaneMemory*>(mapped);            // all zeros, as each of its members begins
}

LaneMapping::~LaneMapping() {
  if (memory_ != nullptr) ::munmap(memory_, sizeof(LaneMemory));
}

Lane::Lane(Fd socket, int memory, unsigned own, std::size_t message_max)
    : socket_(socket.release()), mapping_(memory), own_(own), message_max_(message_max) {}

// --- Bytes -----------------------------------------------------------------------------------------------------------

void Lane::copy_in(LaneRing& ring, std::uint64_t at, const void* from, std::size_t size) noexcept {
  const std::size_t begin = at % LaneRing::kBytes;
  const std::size_t first = std::min(size, LaneRing::kBytes - begin);
  if (first != 0) std::memcpy(ring.bytes.data() + begin, from, first);
  if (size != first) std::memcpy(ring.bytes.data(), static_cast<const std::byte*>(from) + first, size - first);
}

void Lane::copy_out(const LaneRing& ring, std::uint64_t at, void* to, std::size_t size) noexcept {
  const std::size_t begin = at % LaneRing::kBytes;
  const std::size_t first = std::min(size, LaneRing::kBytes - begin);
  if (first != 0) std::memcpy(to, ring.bytes.data() + begin, first);
  if (size != first) std::memcpy(static_cast<std::byte*>(to) + first, ring.bytes.data(), size - first);
}

/// The other end may have gone mad, so what it says is bounded.
std::size_t Lane::room() const noexcept {
  const std::uint64_t used = written_ - out().read.load(std::memory_order_acquire);
  return used > LaneRing::kBytes ? 0 : LaneRing::kBytes - static_cast<std::size_t>(used);
}

bool Lane::write(Sending& sending) noexcept {
  LaneRing& ring = out();
  while (!sending.begun || !sending.bytes.empty()) {
    const std::size_t least = sizeof(Frame) + padded(std::min<std::size_t>(sending.bytes.size(), kPiece));
    if (room() < least) return false;
    const std::size_t size = std::min(sending.bytes.size(), kPiece);
    const Frame frame{static_cast<std::uint32_t>(size), sending.kind | (size < sending.bytes.size() ? kMore : 0),
                      sending.ticket};
    copy_in(ring, written_, &frame, sizeof frame);
    copy_in(ring, written_ + sizeof frame, sending.bytes.data(), size);
    written_ += sizeof frame + padded(size);
    ring.written.store(written_, std::memory_order_release);
    sending.bytes = sending.bytes.subspan(size);
    sending.begun = true;
    unpublished_ = true;
  }
  return true;
}

void Lane::publish() noexcept {
  if (!std::exchange(unpublished_, false)) return;
  full_fence();
  if (out().reader_sleeps.load(std::memory_order_relaxed) != 0) ring_bell();
}

Lane::Got Lane::receive(Message& message) {
  LaneRing& ring = in();
  if (!assembling_) {
    if (assembled_.capacity() > kKept) std::vector<std::byte>().swap(assembled_);  // = {} would keep its memory
    assembled_.clear();
  }
  for (;;) {
    const std::uint64_t there = ring.written.load(std::memory_order_acquire) - read_;
    if (there == 0) return Got::nothing;
    if (there > LaneRing::kBytes || there < sizeof(Frame)) return Got::nonsense;
    Frame frame{};
    copy_out(ring, read_, &frame, sizeof frame);
    if (frame.size > kPiece || sizeof frame + padded(frame.size) > there) return Got::nonsense;
    if (assembled_.size() + frame.size > message_max_ + LaneRing::kBytes) return Got::nonsense;
    const std::size_t before = assembled_.size();
    assembled_.resize(before + frame.size);
    copy_out(ring, read_ + sizeof frame, assembled_.data() + before, frame.size);
    read_ += sizeof frame + padded(frame.size);
    ring.read.store(read_, std::memory_order_release);
    full_fence();
    if (ring.writer_waits.load(std::memory_order_relaxed) != 0) ring_bell();
    assembling_ = (frame.kind & kMore) != 0;
    if (assembling_) continue;
    message = {frame.kind, frame.ticket, assembled_};
    return Got::message;
  }
}

// --- Waiting ---------------------------------------------------------------------------------------------------------

void Lane::ring_bell() noexcept {
  const char byte = 0;
  // No room for it: then there are bytes enough on the way. No peer: that is found out elsewhere.
  if (!socket_) return;
  ssize_t sent = 0;
  do sent = ::send(socket_.fd(), &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  // No memory, say: who sleeps would sleep for ever. So both sides see the end of the lane.
  if (sent < 0 && errno != EAGAIN) ::shutdown(socket_.fd(), SHUT_RDWR);
}

void Lane::want_room(bool wanted) noexcept {
  if (room_wanted_ == wanted) return;
  room_wanted_ = wanted;
  out().writer_waits.store(wanted ? 1 : 0, std::memory_order_relaxed);
  full_fence();
}

void Lane::close() noexcept {
  std::error_code error;  // there may be copies of the descriptor in other processes
  if (socket_) socket_.shutdown(SHUT_RDWR, error);
  socket_.close();
}

bool Lane::over(Want want) const noexcept {
  if (want == Want::message && in().written.load(std::memory_order_acquire) != read_) return true;
  return room_wanted_ && room() >= sizeof(Frame) + kPiece;
}

bool Lane::wait(Want want) {
  struct Spin : SpinWait {
    Spin(FiberControl& who, const Lane& what, Want for_what) noexcept
        : SpinWait(who,
                   [](const SpinWait& wait) noexcept {
                     const auto& self = static_cast<const Spin&>(wait);
                     return self.lane.over(self.want);
                   }),
          lane(what),
          want(for_what) {}
    const Lane& lane;
    Want want;
  };
  if (over(want)) return true;
  Loop& loop = Loop::require();
  if (loop.require_fiber().cancel_pending()) throw Cancelled{};
  Spin spin(loop.require_fiber(), *this, want);
  loop.spin_for(spin);
  if (spin.interrupted) throw Cancelled{};
  if (spin.came) return true;
  const TimePoint start = loop.now();
  const bool there = sleep(want);
  if (!spin.spun) loop.process_spins().slept(loop.now() - start);
  return there;
}

bool Lane::sleep(Want want) {
  const auto say = [this, want](std::uint32_t value) noexcept {
    if (want == Want::message) in().reader_sleeps.store(value, std::memory_order_relaxed);
  };
  say(1);
  full_fence();
  std::error_code error;
  std::size_t count = 1;
  while (!over(want) && !error && count != 0) {
    std::array<std::byte, 64> bells{};
    count = socket_.read(bells, error);
  }
  say(0);
  if (error == std::errc::operation_canceled) throw Cancelled{};
  // Ends: closed here, or closed there with bytes unread. Anything else is no end, and must not be taken for one.
  if (error && error != std::errc::bad_file_descriptor && error != std::errc::connection_reset) {
    throw std::system_error(error, "listen to a process pool's lane");
  }
  return over(want);  // also when the other end is gone: what it has written is there still
}

bool Lane::send(Sending sending) {
  while (!write(sending)) {
    publish();
    want_room(true);
    if (!wait(Want::only_room)) return false;
  }
  want_room(false);
  publish();
  return true;
}

}  // namespace bight::detail
