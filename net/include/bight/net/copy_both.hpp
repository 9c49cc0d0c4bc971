// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <system_error>

#include <bight/deadline.hpp>
#include <bight/detail/socket_copy.hpp>
#include <bight/fiber.hpp>
#include <bight/net/byte_stream.hpp>
#include <bight/scope.hpp>
#include <bight/socket.hpp>
#include <bight/time.hpp>

namespace bight::net {

struct CopyBothOptions {
  Duration idle{0};                             ///< nothing has moved either way for so long: timed_out; zero: no limit
  std::size_t buffer = std::size_t{32} * 1024;  ///< for each direction, of streams that are no sockets
};

struct CopiedBoth {
  std::uint64_t a_to_b = 0;  ///< bytes that were taken by the other side
  std::uint64_t b_to_a = 0;
  std::error_code error{};  ///< what ended it, if that was not the end of both streams
};

namespace detail {

using bight::detail::copy_sockets;
using bight::detail::CopyProgress;

template <class From, class To>
void copy_bytes(From& from, To& to, std::size_t size, CopyProgress& progress, std::error_code& error) {
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(size);
  for (;;) {
    const std::size_t count = from.read(std::span(buffer.get(), size), error);
    if (error || count == 0) return;
    progress.moved();
    to.write_all(std::span<const std::byte>(buffer.get(), count), error);
    if (error) return;
    progress.add(count);
  }
}

template <class S>
concept OwnsSocket = requires(S& stream) {
  { stream.socket() } -> std::same_as<Socket&>;
};

template <class From, class To>
void copy_one_way(From& from, To& to, const CopyBothOptions& options, CopyProgress& progress, std::error_code& error) {
  if constexpr (OwnsSocket<From> && OwnsSocket<To>) {
    copy_sockets(from.socket(), to.socket(), progress, error);
  } else {
    copy_bytes(from, to, options.buffer, progress, error);
  }
  if (error) return;
  std::error_code gone;  // then the other direction will find that out
  to.shutdown_write(gone);
}

}  // namespace detail

/// What a proxy does: everything that comes from one goes to the other, both ways at the same time, until both have
/// ended. When one ends, the other is told so (shutdown_write), and what it still has to say is waited for. An error in
/// one direction ends the other, too. Throws Cancelled in a cancelled fiber, and std::system_error if there is no
/// fiber; errors of the streams are in what is returned. Neither is closed.
///
/// Nobody else may read from or write to them meanwhile. What was read from one and could not be written any more is
/// lost. Between sockets, streams of large pieces go by splice(2), through a pipe of the loop's
/// (RunOptions::splice_pipes) that is held only while there are bytes in it.
template <HalfClosable A, HalfClosable B>
CopiedBoth copy_both(A& a, B& b, const CopyBothOptions& options = {}) {
  CopiedBoth result;
  const auto run = [&](Deadline* idle) {
    Scope scope;
    const auto one_way = [&](auto& from, auto& to, std::uint64_t& copied) {
      bight::detail::CopyProgress progress;
      progress.idle = idle;
      progress.idle_limit = options.idle;
      std::error_code error;
      detail::copy_one_way(from, to, options, progress, error);
      copied = progress.copied;
      if (!error || error == std::errc::operation_canceled) return;
      if (!result.error) result.error = error;
      scope.cancel();
    };
    scope.spawn({.name = "copy_both"}, [&] { one_way(a, b, result.a_to_b); }).detach();
    scope.spawn({.name = "copy_both"}, [&] { one_way(b, a, result.b_to_a); }).detach();
    scope.join();
  };
  if (options.idle == Duration::zero()) {
    run(nullptr);
  } else if (!move_on_after(options.idle, [&](Deadline& idle) { run(&idle); }) && !result.error) {
    result.error = std::make_error_code(std::errc::timed_out);
  }
  return result;
}

}  // namespace bight::net
