// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <optional>
#include <vector>

#include <bight/testing.hpp>
#include <bight/time.hpp>

#include "engine/sim_random.hpp"

namespace bight::detail {

/// The two things a descriptor can be waited on for.
enum class SimDirection : std::uint8_t { in, out };

/// Something that will happen in the simulated kernel. Refers to things by number and serial: what it was meant for may
/// be gone by then.
struct SimEvent {
  enum class Kind : std::uint8_t {
    arrive,      // a segment of connection `number` reaches the end opposite to `side`
    repeat_syn,  // of connection `number`
    retry,       // the operation on descriptor `number` in direction `side` has been delayed for long enough
    expire,      // the same, cancelled: it ends now
    datagram,    // number `number` of those on their way arrives; or the news that nobody got it
    stir,        // descriptor `number` may have become ready in direction `side`
    file,        // the operation on a file with this serial has taken its time
  };

  TimePoint when{};
  std::uint64_t sequence = 0;  // breaks ties
  std::uint64_t serial = 0;
  std::uint32_t number = 0;
  std::uint32_t ticket = 0;  // retry, expire: which operation
  Kind kind = Kind::arrive;
  std::uint8_t side = 0;
};

/// What a trace tells, in the order of the names in sim_core.cpp.
enum class SimNote : std::uint8_t {
  // Calls, with what they return.
  socket,
  bind,
  listen,
  shutdown,
  close,
  accepted,
  pipe,
  // Finished operations, with their results; in the order of OpKind.
  recv,
  recv_lent,
  send,
  send_message,
  accept,
  connect,
  poll_in,
  poll_out,
  // Arrivals, with the bytes they bring or acknowledge; in the order of SimSegment::Kind.
  syn,
  syn_ack,
  open,
  data,
  acknowledge,
  fin,
  reset,
  // What else happens.
  syn_lost,
  refused,
  reset_injected,
  stalled,
  delayed,
  cancelled,
  exhausted,
  recv_message,
  recv_many,
  send_many,
  socket_pair,
  // Datagrams, with their bytes.
  datagram,
  datagram_lost,
  datagram_dropped,
  datagram_doubled,
  datagram_late,
  unreachable,
  crashed,
  // Finished operations on files, with their results; in the order of FileVerb.
  file_open,
  file_close,
  file_read,
  file_write,
  file_seek,
  file_sync,
  file_data_sync,
  file_allocate,
  file_truncate,
  file_advise,
  file_lock,
  file_stat,
  file_set_mode,
  file_set_owner,
  file_set_times,
  file_rename,
  file_unlink,
  file_make_dir,
  file_symlink,
  file_link,
  file_read_link,
  file_read_dir,
  file_splice,
  file_copy_range,
  file_send_file,
};

/// BIGHT_SIM_SEED, if it is set.
[[nodiscard]] std::optional<std::uint64_t> sim_seed_from_environment() noexcept;

/// What all parts of a simulated world share: its clock, what is yet to happen, its dice, and its memory of what has
/// happened.
class SimCore {
 public:
  explicit SimCore(const testing::SimOptions& options);

  [[nodiscard]] const testing::SimOptions& options() const noexcept { return options_; }
  [[nodiscard]] const testing::Faults& faults() const noexcept { return options_.faults; }
  [[nodiscard]] testing::Counters& counters() noexcept { return counters_; }
  [[nodiscard]] const testing::Counters& counters() const noexcept { return counters_; }
  [[nodiscard]] SimRandom& random() noexcept { return random_; }
  [[nodiscard]] std::uint64_t next_serial() noexcept { return ++serial_; }

  // Time.

  [[nodiscard]] TimePoint now() const noexcept { return now_; }
  void advance(TimePoint to) noexcept {
    if (to > now_) now_ = to;
  }
  void schedule(SimEvent event);
  /// Takes the next event if it is due by `until`, and moves the clock to its time.
  [[nodiscard]] bool take_event(TimePoint until, SimEvent& event) noexcept;
  [[nodiscard]] bool has_events() const noexcept { return !events_.empty(); }

  // Chance.

  /// Whether a fault of this probability strikes. Never after the faults have been ended.
  [[nodiscard]] bool strikes(double probability) noexcept;
  [[nodiscard]] bool calm() const noexcept { return calm_ || now_ >= calm_from_; }
  void calm_down() noexcept { calm_ = true; }
  /// From zero (excluded) to `most`.
  [[nodiscard]] Duration some_of(Duration most) noexcept;
  [[nodiscard]] std::size_t some_of(std::size_t most) noexcept {
    return static_cast<std::size_t>(random_.between(1, most));
  }

  // Power: off from a crash to the end of the run that it befell.

  [[nodiscard]] bool powered() const noexcept { return powered_; }
  void set_powered(bool powered) noexcept { powered_ = powered; }

  // Memory.

  void note(SimNote what, std::int64_t who, std::int64_t amount) noexcept;
  [[nodiscard]] std::uint64_t hash() const noexcept { return hash_; }

 private:
  void fold(std::uint64_t value) noexcept;
  void print(SimNote what, std::int64_t who, std::int64_t amount) noexcept;

  const testing::SimOptions options_;
  SimRandom random_;
  TimePoint now_;
  TimePoint calm_from_;
  bool calm_ = false;
  bool powered_ = true;
  std::vector<SimEvent> events_;  // a heap, the next event first
  std::uint64_t sequence_ = 0;
  std::uint64_t serial_ = 0;
  std::uint64_t hash_;
  std::ostream* trace_;
  testing::Counters counters_;
};

}  // namespace bight::detail
