// SPDX-License-Identifier: Apache-2.0
#pragma once

/// A queue of values for many producers and consumers in many processes: multiprocessing's Queue and JoinableQueue.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <bight/codec.hpp>
#include <bight/error.hpp>
#include <bight/time.hpp>

namespace bight {

/// How many processes may get from a ProcessQueue at a time.
inline constexpr std::size_t process_queue_processes_max = 1024;
/// How late others may go on when a process is killed at an unlucky moment.
inline constexpr Duration process_queue_recheck = std::chrono::milliseconds(100);
/// The largest `maxsize` of a ProcessQueue.
inline constexpr std::size_t process_queue_maxsize_max = 1 << 20;

namespace detail {

/// What does not depend on the type: a queue of byte strings.
class ByteQueue {
 public:
  explicit ByteQueue(std::size_t maxsize);
  ByteQueue(const ByteQueue&) = delete;
  ByteQueue& operator=(const ByteQueue&) = delete;
  ~ByteQueue();

  [[nodiscard]] bool put(std::span<const std::byte> bytes, TimePoint until);
  [[nodiscard]] std::optional<std::vector<std::byte>> get(TimePoint until);
  void task_done();
  [[nodiscard]] bool join(TimePoint until);
  void close() noexcept;
  [[nodiscard]] bool closed() const noexcept;
  [[nodiscard]] bool empty() const noexcept;
  [[nodiscard]] std::uint64_t lost_tasks() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace detail

/// First in, first out. Made before the fork, used by reference on both sides; every process may put and get.
///
///     ProcessQueue<Job> jobs;
///     Process worker([&jobs] { while (std::optional<Job> job = jobs.get()) { run(*job); jobs.task_done(); } });
///     jobs.put(job);
///     jobs.join();     // all that was put has been dealt with
///     jobs.close();    // the workers end
///
/// Values travel as the codec has them. There is room for `maxsize` values, and in any case for no more than the buffer
/// of a socket takes, some hundred small ones: put() waits for the consumers when there is none.
///
/// A process that is killed, at whatever instruction, loses what it was putting or has got, and nothing else; it delays
/// the others by process_queue_recheck at most. What it has got without task_done() counts as dealt with, for nobody
/// else will, and is counted in lost_tasks().
///
/// A fiber waits in its loop, a thread without one in poll(2). One loop or thread of a process at a time may get; any
/// may put. Waiting throws Cancelled in a cancelled fiber; then nothing was put, or got. It throws std::system_error:
/// operation_not_supported under the sim engine, which has no other processes; too_many_files_open where a wait needs a
/// descriptor; message_size for a value of more than connection_message_max bytes.
template <class T>
class ProcessQueue {
  static_assert(Codable<T>, "bight::Codec does not know this type: give it fields(), or specialize Codec");

 public:
  static constexpr std::size_t kUnbounded = std::numeric_limits<std::size_t>::max();

  /// For `maxsize` values, one at least; or for as many as there is room for. Throws std::system_error.
  explicit ProcessQueue(std::size_t maxsize = kUnbounded) : queue_(maxsize) {}

  /// Waits for room. Throws ChannelClosed after close(), also if that comes meanwhile.
  void put(const T& value) { static_cast<void>(queue_.put(encode(value), TimePoint::max())); }
  /// Does not wait for room. Whether there was some. Throws ChannelClosed.
  [[nodiscard]] bool try_put(const T& value) { return queue_.put(encode(value), TimePoint::min()); }
  /// Waits for `limit` at most. Whether there was room. Throws ChannelClosed.
  template <class Rep, class Period>
  [[nodiscard]] bool put_for(const T& value, const std::chrono::duration<Rep, Period>& limit) {
    return queue_.put(encode(value), end_of(limit));
  }

  /// Waits for a value. Nothing: it was closed, and is empty. Throws DecodeError for what is no T.
  [[nodiscard]] std::optional<T> get() { return decoded(queue_.get(TimePoint::max())); }
  /// Does not wait. Nothing: there is none now, or never again (closed()).
  [[nodiscard]] std::optional<T> try_get() { return decoded(queue_.get(TimePoint::min())); }
  /// Waits for `limit` at most.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<T> get_for(const std::chrono::duration<Rep, Period>& limit) {
    return decoded(queue_.get(end_of(limit)));
  }

  /// What this process has got has been dealt with. Throws std::logic_error when called more often than it has got
  /// values. Does not wait.
  void task_done() { queue_.task_done(); }
  /// Waits until all that was put has been got, and task_done() called for it.
  void join() { static_cast<void>(queue_.join(TimePoint::max())); }
  /// The same for `limit` at most. Whether all was.
  template <class Rep, class Period>
  [[nodiscard]] bool join_for(const std::chrono::duration<Rep, Period>& limit) {
    return queue_.join(end_of(limit));
  }

  /// For all processes: nothing more is put; what is there can be got, then get() returns nothing. Does not wait.
  void close() noexcept { queue_.close(); }
  [[nodiscard]] bool closed() const noexcept { return queue_.closed(); }
  /// Now; others may be at it.
  [[nodiscard]] bool empty() const noexcept { return queue_.empty(); }
  /// How many values dead processes had got without task_done(), as far as join() has found.
  [[nodiscard]] std::uint64_t lost_tasks() const noexcept { return queue_.lost_tasks(); }

 private:
  template <class Rep, class Period>
  static TimePoint end_of(const std::chrono::duration<Rep, Period>& limit) noexcept {
    return limit <= limit.zero() ? TimePoint::min() : detail::saturating_add(now(), detail::saturating_duration(limit));
  }
  std::optional<T> decoded(const std::optional<std::vector<std::byte>>& bytes) {
    if (!bytes) return std::nullopt;
    try {
      return std::optional<T>(decode<T>(*bytes));
    } catch (...) {
      queue_.task_done();
      throw;
    }
  }

  detail::ByteQueue queue_;
};

}  // namespace bight
