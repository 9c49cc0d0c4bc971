// SPDX-License-Identifier: Apache-2.0
#include <bight/detail/socket_copy.hpp>

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include <bight/socket.hpp>

#include "buffers.hpp"
#include "engine/quiet_write.hpp"
#include "loop.hpp"
#include "splice_pipes.hpp"

namespace bight::detail {
namespace {

// Through this process a piece costs two copies of its bytes; through a pipe, the handling of its pages, twice. The
// latter is worth it for pieces such as these, when they come in a row; and no more when such small ones do.
constexpr std::size_t kLarge = std::size_t{32} * 1024;
constexpr unsigned kLargeInARow = 2;
constexpr std::size_t kSmall = std::size_t{8} * 1024;
constexpr unsigned kSmallInARow = 16;
constexpr std::size_t kStep = std::size_t{64} * 1024;  // bytes that count as much as a switch

/// One direction by splice(2), as long as that is the better way.
class Splice {
 public:
  Splice(Socket& from, Socket& to, CopyProgress& progress) noexcept
      : loop_(Loop::require()), from_(from), to_(to), progress_(progress) {}

  void run(std::error_code& error) {
    // What the engine has taken in already only a read gets.
    if (!from_.set_direct(true)) return;
    loop_.engine().sockets().adopt(from_.fd());  // splice(2) asks the open file whether it may wait
    loop_.engine().sockets().adopt(to_.fd());
    while (fill_and_drain(error)) from_.wait_readable(error);
    static_cast<void>(from_.set_direct(false));
  }

 private:
  /// What there is, with a pipe that is given back before anybody waits for more. False: it is over, or large pieces
  /// are.
  [[nodiscard]] bool fill_and_drain(std::error_code& error) {
    if (error) return false;
    SplicePipes::Loan loan(loop_.splice_pipes());
    if (!loan) return false;
    SplicePipes::Pipe& pipe = *loan;
    while (progress_.goes_on(error) && small_ < kSmallInARow) {
      const std::uint64_t most = std::min<std::uint64_t>(progress_.left(), SplicePipes::kPiece);
      const ::ssize_t count =
          ::splice(from_.fd(), nullptr, pipe.in.get(), nullptr, most, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
      if (count > 0) {
        pipe.held = static_cast<std::size_t>(count);
        small_ = pipe.held < kSmall ? small_ + 1 : 0;
        progress_.moved();
        drain(pipe, error);
        let_others(static_cast<std::size_t>(count), error);
      } else if (count == 0) {
        progress_.over = true;
      } else if (errno == EAGAIN) {
        return true;
      } else if (errno != EINTR) {
        error.assign(errno, std::generic_category());
      }
    }
    return false;
  }

  void drain(SplicePipes::Pipe& pipe, std::error_code& error) {
    while (pipe.held > 0 && !error) {
      const ::ssize_t count = quiet_splice(pipe.out.get(), to_.fd(), pipe.held);
      if (count > 0) {
        pipe.held -= static_cast<std::size_t>(count);
        progress_.add(static_cast<std::size_t>(count));
      } else if (count < 0 && errno == EAGAIN) {
        to_.wait_writable(error);
      } else if (count == 0 || errno != EINTR) {
        error.assign(count < 0 ? errno : EPIPE, std::generic_category());
      }
    }
  }

  /// A stream whose both ends are always ready would let nobody else run, and not hear that it is cancelled.
  void let_others(std::size_t count, std::error_code& error) {
    loop_.charge(1 + static_cast<int>(count / kStep));
    if (!error && loop_.require_fiber().cancel_pending()) error = std::make_error_code(std::errc::operation_canceled);
  }

  Loop& loop_;
  Socket& from_;
  Socket& to_;
  CopyProgress& progress_;
  unsigned small_ = 0;
};

/// A piece as it comes. Returns its size.
std::size_t copy_piece(Socket& from, Socket& to, CopyProgress& progress, std::error_code& error) {
  const Chunk chunk = from.read(error);
  if (error) return 0;
  progress.over = !chunk;
  progress.moved();
  std::span<const std::byte> data = chunk;
  while (!data.empty() && !error) {
    const std::size_t count = to.write(data, error);
    progress.add(count);
    data = data.subspan(count);
  }
  return chunk.size();
}

}  // namespace

void copy_sockets(Socket& from, Socket& to, CopyProgress& progress, std::error_code& error) {
  error.clear();
  const bool simulated = Loop::require().engine_is_virtual();
  unsigned large = 0;
  while (progress.goes_on(error) && progress.left() >= BufferPool::kSize) {
    large = copy_piece(from, to, progress, error) >= kLarge ? large + 1 : 0;
    if (error || progress.over || simulated || large < kLargeInARow) continue;
    Splice(from, to, progress).run(error);
    large = 0;
  }
}

}  // namespace bight::detail
