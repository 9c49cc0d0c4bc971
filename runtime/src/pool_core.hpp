// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include <bight/connection.hpp>
#include <bight/event.hpp>
#include <bight/group.hpp>
#include <bight/process.hpp>
#include <bight/process_pool.hpp>
#include <bight/semaphore.hpp>

#include "lane.hpp"
#include "pool_server.hpp"

namespace bight::detail {

/// The pool's side of one worker.
struct PoolWorkerSeat {
  struct Sent {
    std::uint64_t ticket;
    std::shared_ptr<PoolTask> task;
  };

  PoolWorkerSeat(std::uint32_t number, Fd socket, const Fd& memory, std::size_t message_max)
      : id(number), lane(std::move(socket), memory.get(), 0, message_max) {}

  std::uint32_t id;
  pid_t pid = 0;  // until it has started
  Lane lane;
  std::deque<Sent> sent;
  Lane::Sending sending;  // of `partial`
  std::shared_ptr<PoolTask> partial;
  std::uint64_t next_ticket = 1;
  std::size_t given = 0;  // tasks it has begun or will
  bool ready = false;
  bool gone = false;
  std::string unfit;  // why its initializer failed
};

/// What a ProcessPool is made of: a server process, which forks; a fiber that listens to it; per worker a lane, and a
/// fiber that takes results out of it.
class PoolCore {
 public:
  explicit PoolCore(ProcessPoolOptions options);
  PoolCore(const PoolCore&) = delete;
  PoolCore& operator=(const PoolCore&) = delete;
  ~PoolCore();

  void submit(std::shared_ptr<PoolTask> task);
  void withdraw(PoolTask& task) noexcept;
  void close() noexcept;
  void terminate() noexcept;
  void join();
  [[nodiscard]] const ProcessPoolOptions& options() const noexcept { return options_; }
  [[nodiscard]] ProcessPoolStats stats() const noexcept;
  [[nodiscard]] std::vector<pid_t> worker_pids() const;

 private:
  using Seat = PoolWorkerSeat;
  using SeatPtr = std::shared_ptr<Seat>;

  static constexpr std::size_t kAhead = 16;  // tasks sent to a worker, the one that runs included
  static constexpr unsigned kUnfitMax = 5;   // workers that end in a row before they serve
  static constexpr Duration kBackOff = std::chrono::milliseconds(5);  // doubles

  // The server.
  void start_server();
  void listen();
  [[nodiscard]] bool take_report();
  void on_server_lost();

  // Workers.
  void start_worker();
  void replace(bool served, const std::string& why);
  void on_ended(std::uint32_t worker, int status);
  void settle(Seat& seat, const std::string& how, int signal);
  void attend(Seat& seat);
  void kill(const Seat& seat);
  void lose_server() noexcept;
  [[nodiscard]] SeatPtr find(std::uint32_t worker) const noexcept;

  // Tasks.
  [[nodiscard]] bool take_results(Seat& seat);
  [[nodiscard]] bool on_message(Seat& seat, const Lane::Message& message);
  void feed();
  [[nodiscard]] Seat* freest() noexcept;
  [[nodiscard]] bool has_room(const Seat& seat) const noexcept;
  void offer(Seat& seat, std::shared_ptr<PoolTask> task);
  void steal_for_idle();
  void go_on_writing(Seat& seat) noexcept;
  void finish(PoolTask& task, const std::exception_ptr& error) noexcept;
  void end(PoolTask& task) noexcept;
  void fail_all(const std::exception_ptr& error) noexcept;
  void give_up(const std::string& why);
  void check_open() const;

  const ProcessPoolOptions options_;
  std::exception_ptr broken_;  // no worker can be had any more
  bool closing_ = false;
  bool terminated_ = false;
  bool finishing_ = false;  // all is done, the workers are to end
  unsigned unfit_ = 0;      // ends in a row before ready
  std::uint32_t next_worker_ = 1;
  std::deque<std::shared_ptr<PoolTask>> queue_;
  std::size_t queued_ = 0;   // of those, not withdrawn
  std::size_t pending_ = 0;  // tasks that are not over
  ProcessPoolStats counts_;
  Semaphore room_;
  Event drained_;
  std::vector<SeatPtr> seats_;
  Process server_;
  Connection control_;
  Group fibers_;  // last: they use the rest
};

}  // namespace bight::detail
