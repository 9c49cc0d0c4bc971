// SPDX-License-Identifier: Apache-2.0
#include <bight/detail/readiness_case.hpp>

#include <poll.h>

#include <cerrno>
#include <new>
#include <string>
#include <system_error>

#include <bight/check.hpp>

#include "engine/op.hpp"
#include "fd_table.hpp"
#include "loop.hpp"

namespace bight::detail {

/// The operation of a case, and who waits for its end.
struct ReadinessOp : Op {
  enum class Stage : unsigned char { idle, in_flight, over };

  ReadinessOp(Readiness what, int descriptor, ReadinessCaseBase& whose) noexcept
      : Op(what == Readiness::readable ? OpKind::poll_in : OpKind::poll_out, descriptor), of(whose) {}

  [[nodiscard]] Op*& slot() const noexcept { return kind == OpKind::poll_in ? of.state_->reader : of.state_->writer; }

  ReadinessCaseBase& of;
  Stage stage = Stage::idle;
  int reason = 0;               // why it is to end early
  Parking* settling = nullptr;  // the fiber in settle()
};

namespace {

using Stage = ReadinessOp::Stage;

const ParkingKind kSettling{
    nullptr, [](const Parking&, std::string& text) { text += "the end of a select's wait for a descriptor"; }};

}  // namespace

ReadinessCaseBase::ReadinessCaseBase(int fd, FdState* state, Readiness what) noexcept : state_(state) {
  static_assert(sizeof(ReadinessOp) <= sizeof memory_);
  ::new (static_cast<void*>(memory_)) ReadinessOp(what, fd, *this);
}

ReadinessCaseBase::~ReadinessCaseBase() {
  BIGHT_CHECK(op().stage != Stage::in_flight, "a case of a select ends before its select");
  op().~ReadinessOp();
}

ReadinessOp& ReadinessCaseBase::op() noexcept { return *std::launder(reinterpret_cast<ReadinessOp*>(memory_)); }

/// Whether it is over, well or not.
bool ReadinessCaseBase::start() noexcept {
  ReadinessOp& operation = op();
  if (operation.stage != Stage::idle) return operation.stage == Stage::over;
  Loop& loop = Loop::require();
  operation.stage = Stage::over;
  if (state_ == nullptr || !state_->open) {
    operation.result = -EBADF;
    return true;
  }
  if (operation.slot() != nullptr) {
    operation.result = -EBUSY;
    return true;
  }
  ++loop.counters().operations_started;
  if (loop.engine().start(operation)) {
    ++loop.counters().operations_immediate;
    return true;
  }
  operation.stage = Stage::in_flight;
  operation.slot() = &operation;
  ++loop.counters().operations_in_flight;
  operation.hurry = [](Op& hurried, int why) noexcept {
    auto& self = static_cast<ReadinessOp&>(hurried);
    if (self.stage != Stage::in_flight) return;
    if (self.reason == 0) self.reason = why;
    Loop::require().engine().cancel(self);
  };
  operation.done = [](Op& finished) noexcept {
    auto& self = static_cast<ReadinessOp&>(finished);
    self.stage = Stage::over;
    if (self.slot() == &self) self.slot() = nullptr;
    if (self.reason != 0 && self.result == -ECANCELED) self.result = -self.reason;
    if (self.of.wait_ != nullptr) self.of.wait_->choose(self.of);
    if (self.settling != nullptr) Loop::require().make_ready(*self.settling->fiber);
  };
  return false;
}

bool ReadinessCaseBase::ready() noexcept {
  ReadinessOp& operation = op();
  if (operation.stage == Stage::over) return true;
  const short events = operation.kind == OpKind::poll_in ? POLLIN : POLLOUT;
  const bool known = state_ != nullptr && state_->open && operation.slot() == nullptr &&
                     Loop::require().engine().sockets().poll(operation.fd, events) == 0;
  return known || start();
}

bool ReadinessCaseBase::enlist(SelectWait& wait) noexcept {
  wait_ = &wait;
  return start();
}

void ReadinessCaseBase::settle() noexcept {
  ReadinessOp& operation = op();
  if (operation.stage != Stage::in_flight) return;
  Loop& loop = Loop::require();
  ++loop.counters().operations_cancelled;
  loop.engine().cancel(operation);
  Parking parking(loop.require_fiber(), kSettling);
  operation.settling = &parking;
  loop.park(parking);
  operation.settling = nullptr;
}

void ReadinessCaseBase::throw_failure() {
  const int result = op().result;
  if (result >= 0 || result == -EAGAIN) return;
  throw std::system_error(-result, std::generic_category(), "select: descriptor " + std::to_string(op().fd));
}

}  // namespace bight::detail
