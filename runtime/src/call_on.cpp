// SPDX-License-Identifier: Apache-2.0
#include <bight/call_on.hpp>

#include <system_error>

#include <bight/error.hpp>

#include "remote_queue.hpp"

namespace bight::detail {

/// The right to run the call's body, and the duty to say when that is over. Goes with the posted callback into the
/// fiber; wherever it is dropped, be it unused, the caller is told. (Once the callback was posted that happens on the
/// loop's thread in any case.)
class RemoteCall::Ticket {
 public:
  explicit Ticket(RemoteCall& call) noexcept : call_(&call) {}
  Ticket(Ticket&& other) noexcept : call_(std::exchange(other.call_, nullptr)) {}
  Ticket& operator=(Ticket&&) = delete;
  ~Ticket() {
    if (call_ != nullptr) call_->finish();
  }
  [[nodiscard]] RemoteCall& call() const noexcept { return *call_; }
  void forget() noexcept { call_ = nullptr; }

 private:
  RemoteCall* call_;
};

/// Goes to the loop to cancel the fiber there. In the caller's frame, which stays until it has been delivered.
struct RemoteCall::CancelWake : RemoteWake {
  explicit CancelWake(RemoteCall& what) noexcept
      : RemoteWake([](RemoteWake& wake) noexcept {
          auto& self = static_cast<CancelWake&>(wake);
          if (self.call.fiber_) self.call.fiber_.cancel();
          self.delivered.notify();
        }),
        call(what) {}
  RemoteCall& call;
  CrossWaiter delivered{"the cancellation of a call to another loop"};
};

void RemoteCall::perform(const Remote& remote) {
  enter_cross_wait();
  struct Post {
    Ticket ticket;
    void operator()() { ticket.call().start_fiber(std::move(ticket)); }
  };
  bool posted = false;
  try {
    posted = remote.post(Post{Ticket(*this)});
  } catch (...) {  // the ticket has been dropped, which has notified us
    done_.wait_certain();
    throw;
  }
  if (done_.wait() == CrossWaiter::Outcome::cancelled) cancel(remote);
  if (!posted) {
    throw std::system_error(std::make_error_code(std::errc::no_such_process), "call_on: that loop has ended");
  }
}

/// On the loop's thread.
void RemoteCall::start_fiber(Ticket ticket) noexcept {
  // What the fiber takes over when there is one: until then the ticket is here, so that what spawn throws is noted
  // before the caller is told.
  struct Duty {
    explicit Duty(RemoteCall& what) noexcept : call(&what) {}
    Duty(Duty&& other) noexcept : call(std::exchange(other.call, nullptr)) {}
    Duty& operator=(Duty&&) = delete;
    ~Duty() {
      if (call != nullptr && call->launched_) call->finish();
    }
    RemoteCall* call;
  };
  try {
    SpawnOptions how;
    how.name = "call_on";
    fiber_ = spawn(how, [duty = Duty(*this)] { duty.call->body_(*duty.call); });
    launched_ = true;
    ticket.forget();
  } catch (...) {
    error_ = std::current_exception();
  }
}

/// On the loop's thread; or on the caller's, if the loop has not taken the call.
void RemoteCall::finish() noexcept {
  fiber_.detach();
  done_.notify();
}

/// The caller's wait was cut short: has the fiber there cancelled, and waits for its end.
void RemoteCall::cancel(const Remote& remote) noexcept {
  cancelled_ = true;
  CancelWake wake(*this);
  if (remote.queue_->wake(wake)) wake.delivered.wait_certain();
  done_.wait_certain();
}

void RemoteCall::fail() const {
  if (error_ != nullptr) std::rethrow_exception(error_);
  if (cancelled_) throw Cancelled{};
  throw FiberCancelled("call_on: the fiber on the other loop was cancelled");
}

}  // namespace bight::detail
