// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <bight/fd.hpp>
#include <bight/socket.hpp>

namespace bight::detail {

/// What a ProcessPool and one of its workers share: a ring of bytes each way, and who has which task.
///
/// A ring has one writer and one reader. Positions only grow; what they differ by is in the ring. Who finds nothing to
/// read (or no room) says so in the ring, looks once more, and waits for a byte on the lane's socket; the other one
/// looks for that after each move. Both do so with a full fence in between, so one of them sees the other.
struct LaneRing {
  static constexpr std::size_t kBytes = 64 * 1024;

  alignas(64) std::atomic<std::uint64_t> written{0};
  std::atomic<std::uint32_t> writer_waits{0};
  alignas(64) std::atomic<std::uint64_t> read{0};
  std::atomic<std::uint32_t> reader_sleeps{0};
  alignas(64) std::array<std::byte, kBytes> bytes;
};

struct LaneMemory {
  static constexpr std::size_t kTasks = 64;

  std::array<LaneRing, 2> rings;                                     // to the worker, to the pool
  alignas(64) std::array<std::atomic<std::uint64_t>, kTasks> tasks;  // see LaneClaim
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free,
              "memory between processes can have no locks of libatomic");

/// Whose a task is that is on its way to a worker: the worker claims it to begin it, the pool to take it back; one of
/// them is first. So when a worker dies it is known what it had begun.
class LaneClaim {
 public:
  LaneClaim(LaneMemory& memory, std::uint64_t ticket) noexcept
      : word_(memory.tasks[ticket % LaneMemory::kTasks]), ticket_(ticket) {}
  void offer() noexcept { word_.store(word(kOffered), std::memory_order_relaxed); }  // published with the task
  [[nodiscard]] bool begin() noexcept { return take(kBegun); }
  [[nodiscard]] bool withdraw() noexcept { return take(kWithdrawn); }

 private:
  static constexpr std::uint64_t kOffered = 1;
  static constexpr std::uint64_t kBegun = 2;
  static constexpr std::uint64_t kWithdrawn = 3;

  [[nodiscard]] std::uint64_t word(std::uint64_t state) const noexcept { return ticket_ * 4 + state; }
  [[nodiscard]] bool take(std::uint64_t state) noexcept {
    std::uint64_t offered = word(kOffered);
    return word_.compare_exchange_strong(offered, word(state), std::memory_order_acq_rel);
  }

  std::atomic<std::uint64_t>& word_;
  std::uint64_t ticket_;
};

/// The memory, mapped.
class LaneMapping {
 public:
  LaneMapping() noexcept = default;
  /// Throws std::system_error.
  explicit LaneMapping(int fd);
  LaneMapping(const LaneMapping&) = delete;
  LaneMapping& operator=(const LaneMapping&) = delete;
  ~LaneMapping();
  [[nodiscard]] LaneMemory& operator*() const noexcept { return *memory_; }

  /// New memory, zeroed. Throws std::system_error.
  [[nodiscard]] static Fd make();

 private:
  LaneMemory* memory_ = nullptr;
};

/// One end of a lane, in a loop.
class Lane {
 public:
  struct Message {
    std::uint32_t kind = 0;
    std::uint64_t ticket = 0;
    std::span<const std::byte> bytes;  // until the next receive
  };
  /// One that is being written; longer ones go in pieces.
  struct Sending {
    std::uint32_t kind = 0;
    std::uint64_t ticket = 0;
    std::span<const std::byte> bytes;
    bool begun = false;
  };
  enum class Got : unsigned char { nothing, message, nonsense };

  /// `own`: the place of the ring that this end writes to. Throws std::system_error.
  Lane(Fd socket, int memory, unsigned own, std::size_t message_max);

  /// As much as there is room for. Whether that was all. Does not wait; publish() when done.
  [[nodiscard]] bool write(Sending& sending) noexcept;
  /// Wakes the other end, if it sleeps and there is something new for it.
  void publish() noexcept;
  /// Does not wait.
  [[nodiscard]] Got receive(Message& message);

  /// Whether wait() is to end when there is room to write, too. Also while somebody waits already; then look for room
  /// once more.
  void want_room(bool wanted) noexcept;
  /// Waits until there is something to receive (unless only room is waited for), or wanted room to write. False: the
  /// other end is gone. Throws Cancelled.
  enum class Want : unsigned char { message, only_room };
  [[nodiscard]] bool wait(Want want);
  /// All of it; waits. False: the other end is gone.
  [[nodiscard]] bool send(Sending sending);

  [[nodiscard]] LaneClaim claim(std::uint64_t ticket) noexcept { return {*mapping_, ticket}; }
  /// Ends waits here, and the other end's.
  void close() noexcept;

 private:
  struct Frame {
    std::uint32_t size;
    std::uint32_t kind;
    std::uint64_t ticket;
  };
  static constexpr std::uint32_t kMore = 1U << 31U;
  static constexpr std::size_t kPiece = 16 * 1024;

  [[nodiscard]] LaneRing& out() const noexcept { return (*mapping_).rings[own_]; }
  [[nodiscard]] LaneRing& in() const noexcept { return (*mapping_).rings[1 - own_]; }
  [[nodiscard]] std::size_t room() const noexcept;
  [[nodiscard]] bool over(Want want) const noexcept;
  [[nodiscard]] bool sleep(Want want);
  void ring_bell() noexcept;
  static void copy_in(LaneRing& ring, std::uint64_t at, const void* from, std::size_t size) noexcept;
  static void copy_out(const LaneRing& ring, std::uint64_t at, void* to, std::size_t size) noexcept;

  Socket socket_;
  LaneMapping mapping_;
  const unsigned own_;
  const std::size_t message_max_;
  std::uint64_t written_ = 0;  // this end's own positions: what stands in shared memory is for the other one
  std::uint64_t read_ = 0;
  bool unpublished_ = false;
  bool room_wanted_ = false;
  std::vector<std::byte> assembled_;
  bool assembling_ = false;
};

}  // namespace bight::detail
