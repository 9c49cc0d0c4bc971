// SPDX-License-Identifier: Apache-2.0
#pragma once

/// A world in memory to test servers and clients in: a clock that jumps, a network with latency and faults, and a seed
/// that decides it all, so that what happened once happens again.
///
///     bight::testing::Sim sim{{.seed = 42, .faults = bight::testing::Faults::chaotic()}};
///     sim.run([] { /* the same server and client code as ever, in one loop */ });
///     EXPECT_EQ(sim.leaks(), "");
///
/// What is real: fibers, scopes, timers, deadlines, sockets, everything above the system calls. What is simulated: the
/// clock; TCP and UDP over IPv4 and IPv6 with every address there is, multicast and broadcast included; Unix sockets,
/// with path names of the world's own (no folders, no permissions) and abstract ones, but without passing descriptors;
/// pipes; a disk with files on it (empty but for /tmp), whose power may fail: Sim::crash. All of it with the errors
/// that Linux gives, to a process of root's with a umask of 022. What there is not: segmentation offload, processes,
/// signals, name servers. Descriptors of the simulated kernel count from 1000, the lowest free number first; the
/// process's own mean nothing to it.
///
/// Time stands still while fibers run and jumps to whatever comes next when all of them wait, so an hour of sleep costs
/// nothing. Should a fiber spin until something has come (rather than wait for it), time starts to creep after a while,
/// so that it does come. Time does not wait for other threads: to a fiber that waits for one, a limit of its own seems
/// to expire at once.
///
/// What a seed decides, it decides alike on every machine and in every build, as long as the code under test does the
/// same: whatever asks real clocks, other threads, addresses of objects or std::random_device has histories of its own.
///
/// In a world without faults any program runs: BIGHT_ENGINE=sim makes bight::run use one of its own, with the seed of
/// BIGHT_SIM_SEED (default 1). BIGHT_SIM_TRACE=1 prints what happens in a world on standard error, a line each: the
/// time, what it is, the descriptor (or -1 - N: connection N, at an end that has none), and a result or a count of
/// bytes.

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <bight/run.hpp>
#include <bight/time.hpp>

namespace bight::testing {

/// What may go wrong, and how often: probabilities from 0 to 1. All of it is within what a real kernel and network may
/// do, so code that fails under it is wrong.
struct Faults {
  // Operations
  double short_read = 0;   ///< a read gets only part of what is there
  double short_write = 0;  ///< a write takes only part of what there is room for
  double delay = 0;        ///< an operation that could finish takes up to delay_max longer
  Duration delay_max = std::chrono::milliseconds(2);
  double spurious = 0;     ///< an operation is woken, has to start anew, and may find that nothing has come
  double reorder = 0;      ///< what finishes at the same time on different descriptors is handed over in another order
  double cancel_race = 0;  ///< a cancelled operation goes on for up to delay_max; data that comes meanwhile wins

  // Connections
  double refuse = 0;    ///< connecting to a listener fails with ECONNREFUSED all the same
  double syn_loss = 0;  ///< a connection request is lost: repeated after 1 s, 2 s ... 64 s, then ETIMEDOUT
  double reset = 0;  ///< a segment of data tears the connection down: what is on its way is lost, both ends see a reset
  double split = 0;  ///< data travels in two segments or more, where one would have done
  double stall = 0;  ///< a segment, and with it all behind it, takes up to stall_max longer
  Duration stall_max = std::chrono::seconds(2);

  // Datagrams
  double datagram_loss = 0;       ///< it never arrives
  double datagram_duplicate = 0;  ///< it arrives twice
  double datagram_reorder = 0;    ///< it takes up to datagram_delay_max longer, and others overtake it
  Duration datagram_delay_max = std::chrono::milliseconds(20);

  // Accepting
  double accept_abort = 0;      ///< the connection is reset just before it is accepted: ECONNABORTED
  double accept_exhausted = 0;  ///< accepting fails with EMFILE, for up to exhausted_max from then on
  Duration exhausted_max = std::chrono::milliseconds(50);

  // Files; short_read, short_write and cancel_race hold for them as well
  double file_error = 0;  ///< a read, write, copy or sync fails with EIO; after a sync, what it was for may be lost
  double no_space = 0;    ///< the disk is full, for up to no_space_max from then on: ENOSPC
  Duration no_space_max = std::chrono::milliseconds(50);
  double file_delay = 0;  ///< an operation on a file takes up to file_delay_max longer
  Duration file_delay_max = std::chrono::milliseconds(50);
  double open_exhausted = 0;  ///< opening fails with EMFILE or ENFILE, for up to exhausted_max from then on

  [[nodiscard]] static constexpr Faults none() noexcept { return {}; }
  /// All of it, often.
  [[nodiscard]] static Faults chaotic() noexcept;
};

struct SimOptions {
  std::uint64_t seed = 1;
  Faults faults{};
  Duration faults_until = Duration::max();  ///< since the start of the world; from then on nothing goes wrong any more

  /// Of a segment, one way: each draws its own, none overtakes another.
  Duration latency_min = std::chrono::microseconds(20);
  Duration latency_max = std::chrono::microseconds(200);
  std::uint64_t bandwidth = 0;  ///< bytes a second, in each direction of each connection; 0: without limit

  std::size_t send_buffer = 256 * 1024;     ///< bytes that were written and have not arrived, at most; at least 1
  std::size_t receive_buffer = 256 * 1024;  ///< bytes that have arrived and have not been read, at most; at least 1
  std::size_t descriptors_max = 1'000'000;  ///< beyond this many open ones: EMFILE

  Duration file_latency_min = std::chrono::microseconds(10);  ///< of an operation on a file: each draws its own
  Duration file_latency_max = std::chrono::microseconds(100);
  std::uint64_t disk_size = std::uint64_t{1} << 40U;      ///< bytes in pages of 4 KiB; beyond: ENOSPC
  std::uint64_t file_size_max = std::uint64_t{1} << 43U;  ///< bytes; beyond: EFBIG

  std::ostream* trace = nullptr;  ///< where to print what happens; outlives the world
};

/// What has happened in a world so far.
struct Counters {
  std::uint64_t events = 0;  ///< arrivals and other things that the simulated kernel had to wait for
  std::uint64_t connections_made = 0;
  std::uint64_t connections_refused = 0;  ///< because nobody listened, or by Faults::refuse
  std::uint64_t segments = 0;             ///< of data
  std::uint64_t bytes = 0;                ///< of data that arrived
  std::uint64_t resets = 0;               ///< sent, for whatever reason
  std::uint64_t descriptors_peak = 0;
  std::uint64_t datagrams = 0;              ///< that arrived, at each of who gets them; without Unix sockets'
  std::uint64_t datagrams_dropped = 0;      ///< for want of room in the receiver's buffer
  std::uint64_t datagrams_unreachable = 0;  ///< because there was nobody
  std::uint64_t file_operations = 0;        ///< carried out; not counted are those that take no time, such as closing
  std::uint64_t crashes = 0;

  // Faults that took effect
  std::uint64_t short_reads = 0;
  std::uint64_t short_writes = 0;
  std::uint64_t delays = 0;
  std::uint64_t spurious = 0;
  std::uint64_t reorders = 0;
  std::uint64_t cancel_races = 0;
  std::uint64_t refusals = 0;
  std::uint64_t syns_lost = 0;
  std::uint64_t resets_injected = 0;
  std::uint64_t splits = 0;
  std::uint64_t stalls = 0;
  std::uint64_t accept_failures = 0;
  std::uint64_t datagrams_lost = 0;
  std::uint64_t datagrams_doubled = 0;
  std::uint64_t datagrams_late = 0;
  std::uint64_t file_errors = 0;
  std::uint64_t disk_full = 0;  ///< by Faults::no_space
  std::uint64_t file_delays = 0;
  std::uint64_t open_failures = 0;
};

/// What Sim::run throws when the power has failed meanwhile: see Sim::crash.
class Crashed : public std::runtime_error {
 public:
  Crashed() : std::runtime_error("the simulated world has lost its power") {}
};

/// The disk of a world, seen from outside: nothing of this takes time or meets with faults, and what is written is
/// there for good. Paths are absolute. Errors are std::system_error. Valid as long as its Sim.
class SimDisk {
 public:
  explicit SimDisk(detail::SimWorld& world) noexcept : world_(&world) {}

  /// Replaces what the file has; makes it, and the directories it is in, where they are missing.
  void write(const std::string& path, std::string_view bytes);
  [[nodiscard]] std::string read(const std::string& path) const;
  [[nodiscard]] bool exists(const std::string& path) const;
  /// The names in a directory, sorted.
  [[nodiscard]] std::vector<std::string> list(const std::string& path) const;

 private:
  detail::SimWorld* world_;
};

/// One world, and loops run in it, one after the other: the world lasts from one run() to the next, with its clock and
/// its connections. Owned by the test. Belongs to one thread; quiesce() and the questions may be called from inside
/// run() as well as between runs.
class Sim {
 public:
  explicit Sim(const SimOptions& options = {});
  ~Sim();
  Sim(const Sim&) = delete;
  Sim& operator=(const Sim&) = delete;

  /// bight::run in this world: returns what `main` returns, throws what it throws, ends when all fibers have ended.
  /// Server and clients are fibers of this one loop.
  template <class Main>
  requires std::is_invocable_v<Main&>
  auto run(Main&& main) { return run(RunOptions{}, std::forward<Main>(main)); }
  /// The same; options.engine and options.sim are overridden.
  template <class Main>
  auto run(RunOptions options, Main&& main) {
    options.engine = EngineChoice::sim;
    options.sim = world_.get();
    const Settle settle{*this};
    const std::uint64_t crashes = counters().crashes;
    try {
      auto result = bight::run(options, std::forward<Main>(main));
      check_power(crashes);
      return result;
    } catch (...) {
      check_power(crashes);
      throw;
    }
  }

  /// Ends all faults from now on: what has been delayed or stalled still comes late, but it comes. For checks of
  /// liveness: chaos first, then calm, in which everything has to come to its end.
  void quiesce() noexcept;

  /// The power fails, and comes back. All descriptors and connections are gone, and of the files there is what the disk
  /// has. That is what was synced, and of the rest whatever the seed says:
  ///
  ///  - Each write that the file has not been synced after (File::sync, data_sync) is there, or is not, or some of its
  ///    sectors are; so is each truncation, and each hole. Later ones may be there without earlier ones.
  ///  - Each name made, moved or removed in a directory that has not been synced after is changed, or is not: syncing a
  ///    file makes nothing of its name. A change is never there in part; a rename between two directories lasts once
  ///    both have been synced. Of changes of the same name or the same file none is there without those before it;
  ///    otherwise later ones may be there without earlier ones.
  ///
  /// Permissions, owners and times of what there is are as they were last. A new directory is lost with all in it,
  /// synced or not, when its own name is.
  ///
  /// This is what POSIX promises, and less than some file systems do. In a run, as from a fiber, that is its end:
  /// nothing works any more, all fibers are cancelled, and run() throws Crashed once they have ended.
  void crash() noexcept;
  /// The same, in the midst of a run: when so many more operations on files have been carried out, in place of the next
  /// one. With 0, 1, 2 … a test can let the power fail everywhere.
  void crash_after(std::uint64_t operations) noexcept;

  [[nodiscard]] SimDisk files() noexcept { return SimDisk(*world_); }

  /// The world's time. It starts at one second, not at zero.
  [[nodiscard]] TimePoint now() const noexcept;
  [[nodiscard]] std::uint64_t seed() const noexcept;
  /// A digest of everything that has happened: each event with its time, descriptor and byte count. Equal histories,
  /// equal hashes.
  [[nodiscard]] std::uint64_t trace_hash() const noexcept;
  [[nodiscard]] const Counters& counters() const noexcept;

  /// What is still open, one line each; empty when nothing is. After run(): what the code under test has leaked.
  [[nodiscard]] std::string leaks() const;

 private:
  void check_power(std::uint64_t crashes_before) const {
    if (counters().crashes != crashes_before) throw Crashed();
  }

  struct WorldDeleter {
    void operator()(detail::SimWorld* world) const noexcept;
  };
  struct Settle {
    Sim& sim;
    ~Settle() { sim.settle(); }
  };

  /// Lets what is on its way arrive, so that connections whose ends have been closed come to their end.
  void settle() noexcept;

  std::unique_ptr<detail::SimWorld, WorldDeleter> world_;
};

/// The seeds a test should run with: first, first + 1 … count of them; or the one in the environment's BIGHT_SIM_SEED
/// alone, to replay it.
[[nodiscard]] std::vector<std::uint64_t> seeds(std::size_t count, std::uint64_t first = 1);

/// What to print next to a failure: "seed 17; to replay: BIGHT_SIM_SEED=17 BIGHT_SIM_TRACE=1".
[[nodiscard]] std::string replay_hint(std::uint64_t seed);

}  // namespace bight::testing
