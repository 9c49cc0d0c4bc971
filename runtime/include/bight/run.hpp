// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <bight/error.hpp>
#include <bight/stats.hpp>
#include <bight/time.hpp>

namespace bight {

/// What moves the bytes. `automatic`: io_uring where the kernel allows it, else epoll; the environment's BIGHT_ENGINE
/// overrides it. A choice made here overrides the environment. `sim` is a world in memory with a virtual clock, for
/// tests (testing.hpp).
enum class EngineChoice : unsigned char { automatic, uring, epoll, sim };

[[nodiscard]] std::string_view to_string(EngineChoice choice) noexcept;
/// The inverse: "auto", "uring", "epoll", "sim". Nothing for any other text.
[[nodiscard]] std::optional<EngineChoice> parse_engine(std::string_view text) noexcept;

/// A fiber that was not (or no longer) waited for ended with an error.
struct UnhandledError {
  std::uint64_t fiber_id;
  std::string_view fiber_name;
  std::string_view text;  ///< what() and the type, or the type alone
  std::exception_ptr error;
};

namespace detail {
class SimWorld;
}

struct RunOptions {
  EngineChoice engine = EngineChoice::automatic;
  std::size_t stack_size = 64 * 1024;        ///< bytes of address space a fiber gets; only pages it touches use memory
  std::size_t main_stack_size = 256 * 1024;  ///< the same for the fiber that runs `main`
  std::size_t stacks_kept = 4096;            ///< unused stacks whose memory is kept for the next fibers
  std::size_t fibers_max = 4'000'000;        ///< spawn throws std::system_error (EAGAIN) beyond this many live fibers
  unsigned slice_switches = 256;             ///< fibers run between two looks at I/O and timers, at most
  Duration slice_time = std::chrono::microseconds(500);  ///< time spent on them, about, at most
  std::size_t receive_buffers =
      128;                        ///< 64 KiB each, lent to reads that bring no buffer; 4 KiB ones are made beyond them
  std::size_t splice_pipes = 64;  ///< pipes by which streams go from socket to socket without passing through memory,
                                  ///< at most at a time; those beyond pass through it
  std::size_t posts_max = 1'000'000;  ///< callbacks from other threads that may wait; beyond, Remote::post throws
  unsigned ring_entries = 256;        ///< io_uring submission queue
  unsigned ring_workers = 16;  ///< threads that the kernel may make for io_uring operations on files, which it may have
                               ///< to wait for; they count against RLIMIT_NPROC. Other engines: see OffloadPool
  /// SIGTERM and SIGINT request a stop: see stop.hpp. Only the first loop of a process, and only those that nobody has
  /// subscribed to: see signal.hpp.
  bool stop_on_signals = true;
  /// A fiber that runs for longer than this without waiting, while others wait for their turn, is reported: a warning
  /// with its name and stack, once each time. Zero: off. Nothing: the environment's BIGHT_WATCHDOG ("50ms", "2s",
  /// "off"), else 100 ms in debug builds of bight and off in others. Others wait when a fiber is ready, an operation is
  /// under way, a timer is due, or a callback has been posted. Real time only: never under the sim engine.
  ///
  /// It takes a thread per loop, and SIGURG (whose default is to be ignored), which is sent to the loop's thread when
  /// there is something to report; a handler that the program has for it before run() keeps getting its own. A system
  /// call in which such a fiber blocks may return EINTR then, if it is one that SA_RESTART does not help (poll,
  /// nanosleep).
  std::optional<Duration> watchdog{};
  /// Called for an error nobody will see; empty: one line on standard error. Must not throw.
  std::function<void(const UnhandledError&)> on_unhandled_error{};
  detail::SimWorld* sim = nullptr;  ///< set by testing::Sim
};

namespace detail {
/// Runs a loop on this thread with `main(argument)` in its first fiber until all fibers have ended. Returns 0, or 128 +
/// the number of the signal that ended main.
int run_loop(const RunOptions& options, void (*main)(void*), void* argument);
}  // namespace detail

/// Makes a loop on this thread, runs `main` in its first fiber, and returns when it and every fiber it led to (daemons
/// excepted) have ended. Then returns main's result; 0 for void. run() is the outermost scope: when main throws, all
/// other fibers are cancelled and waited for, and run() throws the same.
///
/// One loop per thread at a time; several threads may have one each. Do not call fork(2) while it runs; Process does so
/// as it has to be done. Throws EngineUnavailable, Deadlock. SIGTERM or SIGINT: when someone waits for a stop request
/// (servers do), it is made and they drain; otherwise, and at the second signal, main is cancelled and run() returns
/// 128 + the signal's number (if main's result is none that an int converts to, run() throws FiberCancelled instead).
template <class Main>
auto run(const RunOptions& options, Main&& main) {
  using R = std::invoke_result_t<Main&>;
  if constexpr (std::is_void_v<R>) {
    auto call = [&main] { main(); };  // Main may be const, or a reference to a function
    return detail::run_loop(
        options, [](void* argument) { (*static_cast<decltype(call)*>(argument))(); }, &call);
  } else {
    struct Call {
      std::remove_reference_t<Main>& main;
      std::optional<R> result;
    } call{main, std::nullopt};
    const int status = detail::run_loop(
        options,
        [](void* argument) {
          auto& c = *static_cast<Call*>(argument);
          c.result.emplace(c.main());
        },
        &call);
    if constexpr (std::is_convertible_v<int, R>) {
      return call.result ? std::move(*call.result) : static_cast<R>(status);
    } else {
      if (!call.result) throw FiberCancelled("run: a signal has cancelled main, so there is no result");
      return std::move(*call.result);
    }
  }
}

template <class Main>
requires std::is_invocable_v<Main&>
auto run(Main&& main) { return run(RunOptions{}, std::forward<Main>(main)); }

/// The calling thread's loop.
namespace this_loop {

[[nodiscard]] bool exists() noexcept;
[[nodiscard]] LoopStats stats() noexcept;
/// "uring", "epoll" or "sim".
[[nodiscard]] std::string_view engine_name() noexcept;
/// One line per live fiber: id, name, state, what it waits for, where it was spawned.
[[nodiscard]] std::string dump_fibers();

}  // namespace this_loop
}  // namespace bight
