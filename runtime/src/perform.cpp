// SPDX-License-Identifier: Apache-2.0
#include "perform.hpp"

#include <cerrno>
#include <new>
#include <string>
#include <system_error>

#include <bight/error.hpp>
#include <bight/offload.hpp>

#include "deadline_clock.hpp"
#include "loop.hpp"

namespace bight::detail {
namespace {

const char* name_of(OpKind kind) noexcept {
  switch (kind) {
    case OpKind::recv:
    case OpKind::recv_lent:
    case OpKind::recv_message:
    case OpKind::recv_many: return "recv";
    case OpKind::send:
    case OpKind::send_message:
    case OpKind::send_many: return "send";
    case OpKind::accept: return "accept";
    case OpKind::connect: return "connect";
    case OpKind::poll_in: return "readability";
    case OpKind::poll_out: return "writability";
    case OpKind::read: return "read";
    case OpKind::write: return "write";
    case OpKind::file: return "a file";
  }
  return "?";
}

void describe(const FileOp& op, std::string& text) {
  text.append(name_of(op.verb));
  if (op.path[0] != '\0') {
    text.append(" of ").append(op.path);
  } else {
    text.append(" of the file with descriptor ").append(std::to_string(op.fd));
  }
}

/// A fiber in an operation. It leaves only when the engine has finished the operation: what asks it to leave earlier (a
/// cancellation, the timeout, the descriptor's closing) asks the engine to make haste and notes why.
struct OpParking : Parking {
  static const ParkingKind kKind;
  OpParking(FiberControl& who, Op& operation) noexcept : Parking(who, kKind), op(operation) {}

  void hurry(int why) noexcept {
    if (op.state != Op::State::started) return;  // it is over; the fiber has yet to run
    if (reason == 0) reason = why;
    Loop& loop = *fiber->loop;
    ++loop.counters().operations_cancelled;
    loop.engine().cancel(op);
  }

  Op& op;
  int reason = 0;
};

const ParkingKind OpParking::kKind{
    [](Parking& parking) noexcept { static_cast<OpParking&>(parking).hurry(ECANCELED); },
    [](const Parking& parking, std::string& text) {
      const Op& waited = static_cast<const OpParking&>(parking).op;
      if (waited.kind == OpKind::file) {
        describe(static_cast<const FileOp&>(waited), text);
        return;
      }
      text.append(name_of(waited.kind)).append(" on descriptor ").append(std::to_string(waited.fd));
    }};

struct OpTimer : Timer {
  explicit OpTimer(OpParking& timed) noexcept
      : Timer([](Timer& timer) noexcept { static_cast<OpTimer&>(timer).parking.hurry(ETIMEDOUT); }), parking(timed) {}
  OpParking& parking;
};

void wake_waiter(Op& op) noexcept { Loop::current()->make_ready(*op.fiber); }

/// Apart, so that a wait without a limit has no timer in its frame: frames of parked fibers are what a server's cache
/// is full of.
[[gnu::noinline]] void park_until(Loop& loop, OpParking& parking, TimePoint expiry) noexcept {
  OpTimer timer(parking);
  loop.timers().arm(timer, expiry);
  loop.park(parking);
  loop.timers().disarm(timer);
}

void hurry_fiber(Op& op, int why) noexcept {
  if (op.fiber->parking != nullptr) static_cast<OpParking*>(op.fiber->parking)->hurry(why);
}

/// Waits for a started operation. `expiry` is set by the first of several waits.
void wait_for(Loop& loop, Op& op, FiberControl& self, Duration timeout, TimePoint& expiry) noexcept {
  OpParking parking(self, op);
  op.fiber = &self;
  op.done = wake_waiter;
  op.hurry = hurry_fiber;
  ++loop.counters().operations_in_flight;
  if (timeout > Duration::zero()) {
    if (expiry == TimePoint{}) expiry = end_of(loop, timeout);
    park_until(loop, parking, expiry);
  } else {
    loop.park(parking);
  }
  if (parking.reason != 0 && (op.result == -ECANCELED || op.result == -EAGAIN)) op.result = -parking.reason;
}

/// The fiber that waits for `op`, which may be null or not waited for, is to leave.
void hurry(Op* op, int why) noexcept {
  if (op != nullptr && op->hurry != nullptr) op->hurry(*op, why);
}

/// A closing has to be done in any case: here if no thread is to be had.
void refuse(FileOp& op, int error) noexcept {
  // EAGAIN, which is what the system says then, means of a lock that somebody has it, and would be waited for.
  op.result = error == EAGAIN ? -ENOMEM : -error;
  if (op.verb == FileVerb::close) run_file_call(op);
}

void run_on_thread(FileOp& op) noexcept {
  try {
    offload([&op]() noexcept { run_file_call(op); });
  } catch (const Cancelled&) {
    op.result = -ECANCELED;
  } catch (const std::system_error& error) {  // not one thread could be started
    refuse(op, error.code().value());
  } catch (const std::bad_alloc&) {
    refuse(op, ENOMEM);
  }
}

}  // namespace

int perform(Op& op, FdState& state, Direction direction) {
  Loop& loop = Loop::require();
  FiberControl& self = loop.require_fiber();
  Op*& slot = direction == Direction::reading ? state.reader : state.writer;
  if (slot != nullptr) return -EBUSY;
  const Duration timeout = direction == Direction::reading ? state.read_timeout : state.write_timeout;
  TimePoint expiry{};
  slot = &op;
  do {
    if (self.cancel_pending()) {
      op.result = -ECANCELED;
      break;
    }
    ++loop.counters().operations_started;
    if (loop.engine().start(op)) {
      ++loop.counters().operations_immediate;
      slot = nullptr;  // before others run: to them the operation is over
      loop.charge();
      return op.result;
    }
    wait_for(loop, op, self, timeout, expiry);
  } while (op.result == -EAGAIN && slot == &op);
  // Meanwhile the descriptor may have been closed, and its number may belong to another.
  if (slot == &op) slot = nullptr;
  return op.result == -EAGAIN ? -EBADF : op.result;
}

int perform(FileOp& op) noexcept {
  Loop& loop = Loop::require();
  FiberControl& self = loop.require_fiber();
  if (self.cancel_pending()) return op.result = -ECANCELED;
  ++loop.counters().operations_started;
  switch (loop.engine().start_file(op)) {
    case FileStart::done:
      ++loop.counters().operations_immediate;
      loop.charge();
      break;
    case FileStart::started: {
      TimePoint no_limit{};
      wait_for(loop, op, self, Duration::zero(), no_limit);
      break;
    }
    case FileStart::blocking: run_on_thread(op); break;
  }
  return op.result;
}

void abandon(Op* op) noexcept { hurry(op, EBADF); }

void expire(Op* op) noexcept { hurry(op, ETIMEDOUT); }

}  // namespace bight::detail
