// SPDX-License-Identifier: Apache-2.0
#include <bight/detail/wait_list.hpp>

#include <bight/error.hpp>

#include "deadline_clock.hpp"
#include "loop.hpp"

namespace bight::detail {
namespace {

/// A fiber parked for one link.
struct LinkParking : Parking {
  static const ParkingKind kCancellable;
  static const ParkingKind kPatient;

  LinkParking(FiberControl& who, const ParkingKind& how, WaitLink& waited, DescribeWait what) noexcept
      : Parking(who, how), link(waited), describe(what) {
    link.parking = this;
    link.woken = [](WaitLink& woken) noexcept {
      FiberControl& waiter = *woken.parking->fiber;
      waiter.loop->make_ready(waiter);
    };
  }

  /// Ends the wait without its having been served.
  void leave() noexcept {
    link.list->remove(link);
    fiber->loop->make_ready(*fiber);
  }

  WaitLink& link;
  DescribeWait describe;
};

void describe_link(const Parking& parking, std::string& text) {
  const auto& self = static_cast<const LinkParking&>(parking);
  self.describe(self.link, text);
}

const ParkingKind LinkParking::kCancellable{
    [](Parking& parking) noexcept { static_cast<LinkParking&>(parking).leave(); }, describe_link};
const ParkingKind LinkParking::kPatient{nullptr, describe_link};

struct LinkTimer : Timer {
  explicit LinkTimer(LinkParking& timed) noexcept
      : Timer([](Timer& timer) noexcept {
          auto& self = static_cast<LinkTimer&>(timer);
          if (!self.parking.link.linked()) return;  // served, and yet to run
          self.expired = true;
          self.parking.leave();
        }),
        parking(timed) {}
  LinkParking& parking;
  bool expired = false;
};

/// Apart, so that a wait without a limit has no timer in its frame.
[[gnu::noinline]] bool park_until(Loop& loop, LinkParking& parking, TimePoint until) noexcept {
  LinkTimer timer(parking);
  loop.timers().arm(timer, until);
  loop.park(parking);
  loop.timers().disarm(timer);
  return timer.expired;
}

}  // namespace

WaitEnd wait_in(WaitList& list, WaitLink& link, DescribeWait describe, TimePoint until, bool first) noexcept {
  Loop& loop = Loop::require();
  FiberControl& self = loop.require_fiber();
  if (self.cancel_pending()) return WaitEnd::cancelled;
  LinkParking parking(self, LinkParking::kCancellable, link, describe);
  if (first) {
    list.push_front(link);
  } else {
    list.push(link);
  }
  if (until == TimePoint::max()) {
    loop.park(parking);
  } else if (park_until(loop, parking, until)) {
    return WaitEnd::timed_out;
  }
  return parking.interrupted ? WaitEnd::cancelled : WaitEnd::woken;
}

void wait_uncancelled(WaitList& list, WaitLink& link, DescribeWait describe) noexcept {
  Loop& loop = Loop::require();
  LinkParking parking(loop.require_fiber(), LinkParking::kPatient, link, describe);
  list.push(link);
  loop.park(parking);
}

bool wait_or_throw(WaitList& list, WaitLink& link, DescribeWait describe, TimePoint until, bool first) {
  const WaitEnd end = wait_in(list, link, describe, until, first);
  if (end == WaitEnd::cancelled) throw Cancelled{};
  return end == WaitEnd::woken;
}

TimePoint limit_from_now(Duration limit) noexcept { return end_of(Loop::require(), limit); }

}  // namespace bight::detail
