// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include <bight/event.hpp>
#include <bight/fiber.hpp>
#include <bight/time.hpp>

#include "command.hpp"
#include "limits.hpp"
#include "transport.hpp"
#include "value.hpp"

namespace redis {

/// The connection is of no use any more: lost, closed, or what came through it makes no sense.
class ConnectionLost : public std::system_error {
 public:
  ConnectionLost(std::error_code error, const std::string& what, bool maybe_executed)
      : std::system_error(error, what), maybe_executed_(maybe_executed) {}
  /// Whether the server may have done what it was asked to. False: nothing of the request has left this process.
  [[nodiscard]] bool maybe_executed() const noexcept { return maybe_executed_; }

 private:
  bool maybe_executed_;
};

struct ExchangeOptions {
  /// A call that is not answered within this time takes the connection for dead, and so does the next one if nobody
  /// has waited for it so long; zero: no limit.
  bight::Duration reply_timeout = std::chrono::seconds(30);
  std::size_t output_max = std::size_t{1024} * 1024;  ///< bytes that wait to be sent; beyond, callers wait
  std::size_t calls_max = 100'000;                    ///< unanswered; beyond, callers wait
  Limits limits{};
  /// Replies that look like messages of subscriptions are pushes, and confirmations are replies.
  bool subscriber = false;
};

/// Requests out, replies in, in order: what Connection and Subscriber have in common. Any number of fibers of the loop
/// may call at the same time. Two fibers do the work, so nobody who calls can leave half a request behind: the one
/// sends all that has gathered meanwhile with one write, the other reads and hands out.
///
/// A call that is cancelled has been sent as a whole, will be, or has not been begun; its reply is waited for in its
/// place, and dropped. So replies are never mixed up, and the connection stays as good as it was.
class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  using OnPush = std::function<void(Value)>;  ///< called by the reading fiber, which waits as long as this does
  using OnEnd = std::function<void()>;        ///< called once when the connection has ended; must not wait

  /// `peer` is for messages.
  [[nodiscard]] static std::shared_ptr<Exchange> start(std::unique_ptr<Transport> transport, std::string peer,
                                                       const ExchangeOptions& options, OnPush on_push, OnEnd on_end);
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  ~Exchange() = default;

  /// Waits for the reply, which may be an error of the server's. Throws ConnectionLost, Cancelled.
  [[nodiscard]] Value call(const Command& command);
  /// The same for several requests, already put together.
  [[nodiscard]] std::vector<Value> call(const std::string& requests, std::size_t replies, bool blocking);

  [[nodiscard]] bool alive() const noexcept { return !error_; }
  /// How many calls wait for replies, cancelled ones included.
  [[nodiscard]] std::size_t unanswered() const noexcept { return pending_.size(); }
  [[nodiscard]] const std::string& peer() const noexcept { return peer_; }
  /// Ends the calls under way with ConnectionLost. Harmless when repeated.
  void close() noexcept;
  /// Waits until both fibers have ended, after close().
  void join() noexcept;

 private:
  struct Slot {  // a caller that waits; in its frame
    Value* next;
    std::uint64_t number = 0;  // of the call
    bight::Event done{};
    bool failed = false;
    bool maybe_executed = false;
  };
  struct Pending {
    Slot* slot;  // null: the caller has gone
    std::size_t left;
    std::uint64_t begin;  // of the request, in all that was ever to be sent
    bight::TimePoint due;
  };

  Exchange(std::unique_ptr<Transport> transport, std::string peer, const ExchangeOptions& options, OnPush on_push,
           OnEnd on_end)
      : transport_(std::move(transport)),
        peer_(std::move(peer)),
        options_(options),
        on_push_(std::move(on_push)),
        on_end_(std::move(on_end)) {}

  template <class Append>
  void enqueue(Slot& slot, std::size_t replies, bool blocking, const Append& append);
  void await(Slot& slot, bool blocking);
  void abandon(const Slot& slot) noexcept;
  [[nodiscard]] bool has_limit(bool blocking) const noexcept {
    return !blocking && options_.reply_timeout != bight::Duration::zero();
  }
  void wait_for_room();
  [[nodiscard]] bool full() const noexcept {
    return output_.size() >= options_.output_max || pending_.size() >= options_.calls_max;
  }
  void read_replies();
  void write_requests();
  [[nodiscard]] bool is_push(const Value& value) const;
  void accept(Value value);
  void fail(std::error_code error, std::string_view reason) noexcept;
  [[noreturn]] void throw_lost(bool maybe_executed) const;

  std::unique_ptr<Transport> transport_;
  std::string peer_;
  ExchangeOptions options_;
  OnPush on_push_;
  OnEnd on_end_;
  std::deque<Pending> pending_;
  std::uint64_t answered_ = 0;  // calls, so the number of the first that is pending
  std::string output_;
  std::uint64_t queued_ = 0;    // bytes that were ever put into output_
  std::uint64_t started_ = 0;   // of these, those that were given to the transport
  bight::AutoResetEvent wake_;  // the writer
  bight::Event room_;
  std::error_code error_;
  std::string reason_;
  bight::Fiber<> reader_;
  bight::Fiber<> writer_;
};

}  // namespace redis
