// SPDX-License-Identifier: Apache-2.0
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <new>
#include <optional>

#include <bight/file.hpp>

#include "engine/quiet_write.hpp"
#include "file_state.hpp"
#include "loop.hpp"
#include "perform.hpp"

namespace bight {
namespace {

using detail::CursorTurn;
using detail::FileOp;
using detail::FileState;
using detail::FileUse;
using detail::FileVerb;
using detail::kAtCursor;

constexpr std::size_t kLargestTransfer = 0x7ffff000;  // what the kernel moves with one call at most: read(2), Notes

/// Reads that are not tried in memory first after one that was in vain: so a file that is not in memory pays for one
/// attempt in so many.
constexpr std::uint8_t kColdAfterMiss = 16;

/// A FIFO is O_NONBLOCK and has its bytes in memory: the call never waits. It raises no SIGPIPE.
std::size_t move_through_fifo(const FileOp& op, std::error_code& error) noexcept {
  if (detail::Loop::require().require_fiber().cancel_pending()) {
    error = std::make_error_code(std::errc::operation_canceled);
    return 0;
  }
  ::ssize_t count = 0;
  do {
    count = op.verb == FileVerb::read ? ::readv(op.fd, op.pieces, static_cast<int>(op.count))
                                      : detail::quiet_write(op.fd, op.pieces->iov_base, op.pieces->iov_len);
  } while (count < 0 && errno == EINTR);
  error = count < 0 ? std::error_code(errno, std::generic_category()) : std::error_code();
  if (!error) detail::Loop::require().charge();  // as what never waits may go on for ever
  return count < 0 ? 0 : static_cast<std::size_t>(count);
}

void wait_until_ready(FileState& state, bool reads, std::error_code& error) noexcept {
  try {
    if (state.closed) {
      error = std::make_error_code(std::errc::bad_file_descriptor);
      return;
    }
    if (!state.watch) state.watch.emplace(state.fd);
    reads ? state.watch->wait_readable(error) : state.watch->wait_writable(error);
  } catch (const std::bad_alloc&) {
    error = std::make_error_code(std::errc::not_enough_memory);
  }
}

/// Some bytes in one go, for the file and the turn that the caller holds.
std::size_t move_some(FileState& state, FileVerb verb, std::span<const ::iovec> pieces, std::int64_t offset,
                      std::error_code& error) noexcept {
  const bool reads = verb == FileVerb::read;
  const bool fifo = state.type == S_IFIFO;
  // A FIFO that nobody has opened for writing yet reads as ended: its first reader waits until that has changed.
  bool wait = fifo && reads && !state.begun;
  for (;;) {
    error.clear();
    if (wait) wait_until_ready(state, reads, error);
    if (error) return 0;
    state.begun = true;
    FileOp op(verb, state.fd);
    op.pieces = pieces.data();
    op.count = static_cast<unsigned>(pieces.size());
    op.offset = offset;
    op.appends = state.appends;
    op.non_blocking = state.waits();
    op.try_first = reads && state.cached && state.cold == 0;
    op.to_device = !state.cached || (reads && state.cold != 0);
    if (state.cold != 0) --state.cold;
    const std::size_t count = fifo ? move_through_fifo(op, error) : detail::settle(op, error);
    if (op.missed) state.cold = kColdAfterMiss;
    if (!op.non_blocking || error != std::errc::resource_unavailable_try_again) return count;
    wait = true;
  }
}

std::int64_t place(std::uint64_t offset, std::error_code& error) noexcept {
  if (offset > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    error = std::make_error_code(std::errc::invalid_argument);
  }
  return static_cast<std::int64_t>(offset);
}

::iovec piece_of(std::span<const std::byte> bytes) noexcept {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): a write only reads
  return {const_cast<std::byte*>(bytes.data()), std::min(bytes.size(), kLargestTransfer)};
}

/// One read or write of one piece.
std::size_t move_once(FileState* state, FileVerb verb, std::span<const std::byte> bytes,
                      std::optional<std::uint64_t> offset, std::error_code& error) noexcept {
  const FileUse use(state, error);
  if (!use || bytes.empty()) return 0;
  const std::int64_t where = offset ? place(*offset, error) : kAtCursor;
  if (error) return 0;
  const CursorTurn turn(*use, !offset, error);
  if (error) return 0;
  const ::iovec piece = piece_of(bytes);
  return move_some(*use, verb, {&piece, 1}, where, error);
}

/// One read or write of several pieces.
template <class Byte>
std::size_t move_pieces(FileState* state, FileVerb verb, std::span<const std::span<Byte>> spans,
                        std::optional<std::uint64_t> offset, std::error_code& error) noexcept {
  const FileUse use(state, error);
  if (!use) return 0;
  std::array<::iovec, File::kPiecesMax> pieces;
  std::size_t count = 0;
  std::size_t size = 0;
  for (const std::span<Byte>& span : spans) {
    if (count == pieces.size() || size == kLargestTransfer) break;
    if (span.empty()) continue;
    pieces[count] = piece_of(span);
    pieces[count].iov_len = std::min(pieces[count].iov_len, kLargestTransfer - size);
    size += pieces[count].iov_len;
    ++count;
  }
  if (count == 0) return 0;
  const std::int64_t where = offset ? place(*offset, error) : kAtCursor;
  if (error) return 0;
  const CursorTurn turn(*use, !offset, error);
  if (error) return 0;
  return move_some(*use, verb, {pieces.data(), count}, where, error);
}

/// All of `bytes`, in as many goes as it takes. What ends it early, when there is no error, is `at_end`.
std::size_t move_all(FileState* state, FileVerb verb, std::span<const std::byte> bytes,
                     std::optional<std::uint64_t> offset, std::errc at_end, std::error_code& error) noexcept {
  const FileUse use(state, error);
  if (!use) return 0;
  const std::int64_t start = offset ? place(*offset, error) : kAtCursor;
  if (error) return 0;
  const CursorTurn turn(*use, !offset, error);
  std::size_t moved = 0;
  while (moved < bytes.size() && !error) {
    const ::iovec piece = piece_of(bytes.subspan(moved));
    const std::int64_t where = offset ? start + static_cast<std::int64_t>(moved) : kAtCursor;
    const std::size_t count = move_some(*use, verb, {&piece, 1}, where, error);
    if (count == 0 && !error) error = std::make_error_code(at_end);
    moved += count;
  }
  return moved;
}

constexpr std::errc kEndOfFile = std::errc::no_message_available;
constexpr std::errc kNoProgress = std::errc::io_error;  // the kernel took nothing, and does not say why

}  // namespace

// --- Reading ---------------------------------------------------------------------------------------------------------

std::size_t File::read(std::span<std::byte> buffer, std::error_code& error) noexcept {
  return move_once(state_, FileVerb::read, buffer, std::nullopt, error);
}

std::size_t File::read_at(std::span<std::byte> buffer, std::uint64_t offset, std::error_code& error) noexcept {
  return move_once(state_, FileVerb::read, buffer, offset, error);
}

std::size_t File::read(std::span<const std::span<std::byte>> buffers, std::error_code& error) noexcept {
  return move_pieces(state_, FileVerb::read, buffers, std::nullopt, error);
}

std::size_t File::read_at(std::span<const std::span<std::byte>> buffers, std::uint64_t offset,
                          std::error_code& error) noexcept {
  return move_pieces(state_, FileVerb::read, buffers, offset, error);
}

std::size_t File::read_exactly(std::span<std::byte> buffer, std::error_code& error) noexcept {
  return move_all(state_, FileVerb::read, buffer, std::nullopt, kEndOfFile, error);
}

std::size_t File::read_exactly_at(std::span<std::byte> buffer, std::uint64_t offset, std::error_code& error) noexcept {
  return move_all(state_, FileVerb::read, buffer, offset, kEndOfFile, error);
}

// --- Writing ---------------------------------------------------------------------------------------------------------

std::size_t File::write(std::span<const std::byte> data, std::error_code& error) noexcept {
  return move_once(state_, FileVerb::write, data, std::nullopt, error);
}

std::size_t File::write_at(std::span<const std::byte> data, std::uint64_t offset, std::error_code& error) noexcept {
  return move_once(state_, FileVerb::write, data, offset, error);
}

std::size_t File::write(std::span<const std::span<const std::byte>> pieces, std::error_code& error) noexcept {
  return move_pieces(state_, FileVerb::write, pieces, std::nullopt, error);
}

std::size_t File::write_at(std::span<const std::span<const std::byte>> pieces, std::uint64_t offset,
                           std::error_code& error) noexcept {
  return move_pieces(state_, FileVerb::write, pieces, offset, error);
}

std::size_t File::write_all(std::span<const std::byte> data, std::error_code& error) noexcept {
  return move_all(state_, FileVerb::write, data, std::nullopt, kNoProgress, error);
}

std::size_t File::write_all(std::string_view text, std::error_code& error) noexcept {
  return write_all(std::as_bytes(std::span(text)), error);
}

std::size_t File::write_all_at(std::span<const std::byte> data, std::uint64_t offset, std::error_code& error) noexcept {
  return move_all(state_, FileVerb::write, data, offset, kNoProgress, error);
}

}  // namespace bight
