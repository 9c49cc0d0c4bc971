// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include <bight/check.hpp>

#include "engine/engine.hpp"
#include "engine/sim_attempts.hpp"
#include "engine/sim_bell.hpp"
#include "engine/sim_world.hpp"

namespace bight::detail {
namespace {

constexpr SimDirection direction_of(OpKind kind) noexcept {
  switch (kind) {
    case OpKind::recv:
    case OpKind::recv_lent:
    case OpKind::recv_message:
    case OpKind::recv_many:
    case OpKind::accept:
    case OpKind::poll_in:
    case OpKind::read: return SimDirection::in;
    case OpKind::send:
    case OpKind::send_message:
    case OpKind::send_many:
    case OpKind::connect:
    case OpKind::poll_out:
    case OpKind::write:
    case OpKind::file: return SimDirection::out;
  }
  return SimDirection::in;
}

constexpr SimNote note_of(OpKind kind) noexcept {
  if (kind == OpKind::read) return SimNote::recv;
  if (kind == OpKind::write) return SimNote::send;
  if (kind == OpKind::recv_message) return SimNote::recv_message;
  if (kind == OpKind::recv_many) return SimNote::recv_many;
  if (kind == OpKind::send_many) return SimNote::send_many;
  return static_cast<SimNote>(static_cast<int>(SimNote::recv) + static_cast<int>(kind));
}
static_assert(note_of(OpKind::poll_out) == SimNote::poll_out);

constexpr SimNote note_of(FileVerb verb) noexcept {
  return static_cast<SimNote>(static_cast<int>(SimNote::file_open) + static_cast<int>(verb));
}
static_assert(note_of(FileVerb::send_file) == SimNote::file_send_file);

/// Operations on the sockets and files of a simulated world.
class SimEngine final : public Engine, private SimOperations {
 public:
  SimEngine(const EngineContext& context, SimWorld& world, std::unique_ptr<SimWorld> own)
      : own_(std::move(own)), world_(world), core_(world.core), attempts_(world, context.buffers) {
    world_.attach(*this);
  }
  SimEngine(const SimEngine&) = delete;
  SimEngine& operator=(const SimEngine&) = delete;
  ~SimEngine() override;

  [[nodiscard]] std::string_view name() const noexcept override { return "sim"; }
  [[nodiscard]] bool start(Op& op) noexcept override;
  [[nodiscard]] FileStart start_file(FileOp& op) noexcept override;
  void run_file_here(FileOp& op) noexcept override;
  void cancel(Op& op) noexcept override;
  void wait(TimePoint until, OpList& finished) noexcept override;
  /// Always: a fiber that spins until something comes would otherwise never let time pass.
  [[nodiscard]] bool has_work() const noexcept override { return true; }
  [[nodiscard]] bool may_finish() const noexcept override {
    return !finished_.empty() || (waiting_ > 0 && core_.has_events());
  }
  void wake() noexcept override { bell_.ring(); }
  void forget(int fd) noexcept override;
  [[nodiscard]] int send_now(const Op& op) noexcept override;
  [[nodiscard]] TimePoint now() const noexcept override { return core_.now(); }
  [[nodiscard]] bool virtual_time() const noexcept override { return true; }
  [[nodiscard]] SocketCalls& sockets() noexcept override { return world_.calls; }
  void add_stats(LoopStats& stats) const noexcept override {
    stats.engine_calls += waits_;
    stats.engine_entries += core_.counters().events;
  }

 private:
  // SimOperations
  void poke(SimSocket& socket, SimDirection direction) noexcept override;
  void on_time(const SimEvent& event) noexcept override;
  void lose_power() noexcept override;

  void attempt_waiting(SimSocket& socket, SimDirection direction) noexcept;
  void hold(SimSocket& socket, SimDirection direction, SimEvent::Kind kind) noexcept;
  void end(SimSlot& slot, int result) noexcept;
  void cancel_file(FileOp& op) noexcept;
  void on_file(std::uint64_t serial) noexcept;
  void end_file(FileOp& op, int result) noexcept;
  [[nodiscard]] Duration file_latency() noexcept;
  void hand_over(OpList& into) noexcept;
  void shuffle() noexcept;
  void run_until(TimePoint until) noexcept;
  void creep() noexcept;

  std::unique_ptr<SimWorld> own_;
  SimWorld& world_;
  SimCore& core_;
  SimAttempts attempts_;
  SimBell bell_;
  std::map<std::uint64_t, FileOp*> files_;  // under way, by serial
  std::vector<Op*> finished_;               // and not yet gathered
  std::size_t waiting_ = 0;
  unsigned idle_polls_ = 0;  // in a row
  std::uint64_t waits_ = 0;
};

SimEngine::~SimEngine() {
  BIGHT_CHECK(waiting_ == 0 && finished_.empty(), "the loop ended before its operations did");
  world_.detach();
}

// --- The life of an operation ----------------------------------------------------------------------------------------

bool SimEngine::start(Op& op) noexcept {
  if (!core_.powered()) {
    op.result = -ECANCELED;
    return true;
  }
  SimSocket* socket = world_.descriptors.find(op.fd);
  if (socket == nullptr) {
    op.result = op.fd < SimDescriptors::kFirst ? -EOPNOTSUPP : -EBADF;  // the real kernel's can not be waited on here
    return true;
  }
  const SimDirection direction = direction_of(op.kind);
  SimSlot& slot = socket->slot(direction);
  BIGHT_CHECK(slot.op == nullptr,
              "an operation was started while another waits on the same descriptor in the same direction");
  const bool held = op.kind != OpKind::connect && core_.strikes(core_.faults().delay);
  if (!held) {
    if (const int result = attempts_.attempt(*socket, op); result != SimAttempts::kWait) {
      op.result = result;
      core_.note(note_of(op.kind), op.fd, result);
      return true;
    }
  }
  op.state = Op::State::started;
  slot.op = &op;
  ++waiting_;
  if (held) hold(*socket, direction, SimEvent::Kind::retry);
  return false;
}

int SimEngine::send_now(const Op& op) noexcept {
  SimSocket* socket = world_.descriptors.find(op.fd);
  if (socket == nullptr || !core_.powered()) return -EBADF;
  Op attempt(op.kind, op.fd);
  attempt.data = op.data;
  attempt.size = op.size;
  const int result = attempts_.attempt(*socket, attempt);
  return result == SimAttempts::kWait ? -EAGAIN : result;
}

void SimEngine::cancel(Op& op) noexcept {
  if (op.kind == OpKind::file) {
    cancel_file(static_cast<FileOp&>(op));
    return;
  }
  SimSocket* socket = world_.descriptors.find(op.fd);
  if (socket == nullptr || op.cancelled) return;
  SimSlot& slot = socket->slot(direction_of(op.kind));
  if (slot.op != &op) return;  // finished already
  op.cancelled = true;
  if (core_.strikes(core_.faults().cancel_race)) {
    ++core_.counters().cancel_races;
    core_.note(SimNote::cancelled, op.fd, 0);
    hold(*socket, direction_of(op.kind), SimEvent::Kind::expire);
    slot.delayed = false;  // what comes meanwhile may finish it
  } else {
    end(slot, -ECANCELED);
  }
}

void SimEngine::forget(int fd) noexcept {
  SimSocket* socket = world_.descriptors.find(fd);
  if (socket == nullptr) return;
  for (SimSlot& slot : socket->slots) {
    if (slot.op != nullptr) end(slot, -ECANCELED);
  }
}

void SimEngine::poke(SimSocket& socket, SimDirection direction) noexcept {
  SimSlot& slot = socket.slot(direction);
  if (slot.op == nullptr || slot.delayed) return;
  if (!slot.op->cancelled) {
    if (core_.strikes(core_.faults().spurious)) {
      ++core_.counters().spurious;
      end(slot, -EAGAIN);
      return;
    }
    if (core_.strikes(core_.faults().delay)) {
      hold(socket, direction, SimEvent::Kind::retry);
      return;
    }
  }
  attempt_waiting(socket, direction);
}

void SimEngine::on_time(const SimEvent& event) noexcept {
  if (event.kind == SimEvent::Kind::file) {
    on_file(event.serial);
    return;
  }
  SimSocket* socket = world_.descriptors.find(static_cast<int>(event.number), event.serial);
  if (socket == nullptr) return;
  const auto direction = static_cast<SimDirection>(event.side);
  SimSlot& slot = socket->slot(direction);
  if (slot.op == nullptr || slot.ticket != event.ticket) return;
  slot.delayed = false;
  attempt_waiting(*socket, direction);
  if (event.kind == SimEvent::Kind::expire && slot.op != nullptr) end(slot, -ECANCELED);
}

void SimEngine::attempt_waiting(SimSocket& socket, SimDirection direction) noexcept {
  SimSlot& slot = socket.slot(direction);
  if (const int result = attempts_.attempt(socket, *slot.op); result != SimAttempts::kWait) end(slot, result);
}

/// Leaves an operation alone for a while.
void SimEngine::hold(SimSocket& socket, SimDirection direction, SimEvent::Kind kind) noexcept {
  SimSlot& slot = socket.slot(direction);
  slot.delayed = true;
  SimEvent event;
  event.kind = kind;
  event.when = core_.now() + core_.some_of(core_.faults().delay_max);
  event.number = static_cast<std::uint32_t>(socket.fd);
  event.serial = socket.serial;
  event.ticket = ++slot.ticket;
  event.side = static_cast<std::uint8_t>(direction);
  core_.schedule(event);
  if (kind == SimEvent::Kind::retry) {
    ++core_.counters().delays;
    core_.note(SimNote::delayed, socket.fd, 0);
  }
}

void SimEngine::end(SimSlot& slot, int result) noexcept {
  Op& op = *std::exchange(slot.op, nullptr);
  ++slot.ticket;
  slot.delayed = false;
  --waiting_;
  if (result < 0 && op.size > 0 && (op.kind == OpKind::recv || op.kind == OpKind::read)) {
    // A kernel may write here until now. Doing so lets the sanitizers find a frame that did not wait for it.
    auto* last = static_cast<volatile char*>(op.data) + (op.size - 1);
    *last = *last;
  }
  op.result = result;
  op.state = Op::State::done;
  finished_.push_back(&op);
}

void SimEngine::lose_power() noexcept {
  world_.descriptors.for_each([this](SimSocket& socket) { forget(socket.fd); });
  while (!files_.empty()) end_file(*files_.begin()->second, -ECANCELED);
}

// --- Files -----------------------------------------------------------------------------------------------------------

/// What is to be done is done when its time is over; until then it has not begun and can be cancelled.
FileStart SimEngine::start_file(FileOp& op) noexcept {
  if (op.verb == FileVerb::close || never_waits(op) || !core_.powered()) {
    run_file_here(op);
    return FileStart::done;
  }
  op.state = Op::State::started;
  ++waiting_;
  SimEvent event;
  event.kind = SimEvent::Kind::file;
  event.serial = op.scratch[0] = core_.next_serial();
  event.when = core_.now() + file_latency();
  files_.emplace(event.serial, &op);
  core_.schedule(event);
  return FileStart::started;
}

void SimEngine::run_file_here(FileOp& op) noexcept {
  const bool closing = op.verb == FileVerb::close;
  op.result = core_.powered() || closing ? world_.file_attempts.carry_out(op) : -ECANCELED;
  if (closing && !core_.powered()) op.result = 0;  // it is closed
  core_.note(note_of(op.verb), op.fd, op.result);
}

Duration SimEngine::file_latency() noexcept {
  const testing::SimOptions& options = core_.options();
  Duration time(
      static_cast<Duration::rep>(core_.random().between(static_cast<std::uint64_t>(options.file_latency_min.count()),
                                                        static_cast<std::uint64_t>(options.file_latency_max.count()))));
  if (core_.strikes(core_.faults().file_delay)) {
    ++core_.counters().file_delays;
    time += core_.some_of(core_.faults().file_delay_max);
  }
  return time;
}

void SimEngine::cancel_file(FileOp& op) noexcept {
  if (op.cancelled || op.state != Op::State::started) return;
  op.cancelled = true;
  if (core_.strikes(core_.faults().cancel_race)) {  // it has begun
    ++core_.counters().cancel_races;
    core_.note(SimNote::cancelled, op.fd, 0);
  } else {
    end_file(op, -ECANCELED);
  }
}

void SimEngine::on_file(std::uint64_t serial) noexcept {
  const auto found = files_.find(serial);
  if (found == files_.end()) return;  // cancelled
  if (world_.crash_is_due()) {
    world_.crash();
    return;
  }
  FileOp& op = *found->second;
  end_file(op, world_.file_attempts.attempt(op));
}

void SimEngine::end_file(FileOp& op, int result) noexcept {
  files_.erase(op.scratch[0]);
  --waiting_;
  op.result = result;
  op.state = Op::State::done;
  finished_.push_back(&op);
}

// --- Time ------------------------------------------------------------------------------------------------------------

void SimEngine::wait(TimePoint until, OpList& finished) noexcept {
  ++waits_;
  const TimePoint before = core_.now();
  run_until(until);
  if (!finished_.empty() || core_.now() != before) {
    idle_polls_ = 0;
  } else if (until <= before) {
    creep();
  }
  hand_over(finished);
}

void SimEngine::run_until(TimePoint until) noexcept {
  bool woken = bell_.answer();
  const bool had_events = core_.has_events();
  while (world_.step(core_.now())) {  // what is due comes first, whatever else there is
  }
  while (finished_.empty() && !woken && world_.step(until)) {
    while (world_.step(core_.now())) {
    }
    woken = bell_.answer();
  }
  if (!finished_.empty() || woken) return;
  if (until != TimePoint::max()) {
    core_.advance(until);
  } else if (!had_events) {  // else that may have been all: the loop has to find out whether this is a deadlock
    bell_.wait();
  }
}

/// Fibers that spin until something has come would wait for ever in a world whose clock stands still.
void SimEngine::creep() noexcept {
  constexpr unsigned kPatience = 256;
  constexpr Duration kStep = std::chrono::microseconds(1);
  if (++idle_polls_ > kPatience) {
    --idle_polls_;
    core_.advance(core_.now() + kStep);
  }
}

void SimEngine::hand_over(OpList& into) noexcept {
  if (finished_.size() > 1 && core_.strikes(core_.faults().reorder)) shuffle();
  for (Op* op : finished_) {
    const bool file = op->kind == OpKind::file;
    core_.note(file ? note_of(static_cast<FileOp*>(op)->verb) : note_of(op->kind), op->fd, op->result);
    into.push(*op);
  }
  finished_.clear();
}

/// Between descriptors only: the operations on one keep their order.
void SimEngine::shuffle() noexcept {
  ++core_.counters().reorders;
  const std::uint64_t salt = core_.random().next();
  const auto key = [salt](const Op* op) { return (salt ^ static_cast<std::uint64_t>(op->fd)) * 0x9e3779b97f4a7c15; };
  std::stable_sort(finished_.begin(), finished_.end(), [&](const Op* a, const Op* b) { return key(a) < key(b); });
}

}  // namespace

std::unique_ptr<Engine> make_sim_engine(const EngineContext& context) {
  if (context.options.sim != nullptr) return std::make_unique<SimEngine>(context, *context.options.sim, nullptr);
  testing::SimOptions options;
  options.seed = sim_seed_from_environment().value_or(options.seed);
  auto own = std::make_unique<SimWorld>(options);
  SimWorld& world = *own;
  return std::make_unique<SimEngine>(context, world, std::move(own));
}

}  // namespace bight::detail
