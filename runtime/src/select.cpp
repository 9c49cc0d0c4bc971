// SPDX-License-Identifier: Apache-2.0
#include <bight/select.hpp>

#include <algorithm>
#include <string>

#include <bight/error.hpp>

#include "loop.hpp"

namespace bight::detail {

const ParkingKind SelectWait::kKind{
    [](Parking& parking) noexcept { static_cast<SelectWait&>(parking).end(); },
    [](const Parking& parking, std::string& text) {
      text += "one of " + std::to_string(static_cast<const SelectWait&>(parking).cases_.size()) + " cases of a select";
    }};

SelectWait::SelectWait(FiberControl& who, std::span<SelectCase* const> all) noexcept
    : Parking(who, kKind), cases_(all) {}

void SelectWait::choose(SelectCase& which) noexcept {
  if (chosen_ != nullptr || interrupted) return;
  chosen_ = &which;
  end();
}

void SelectWait::end() noexcept {
  for (SelectCase* each : cases_) each->delist();
  // Not parked yet while the cases are being listed.
  if (fiber->parking == this) fiber->loop->make_ready(*fiber);
}

SelectTimer::SelectTimer(SelectCase& whose) noexcept
    : Timer([](Timer& timer) noexcept {
        auto& self = static_cast<SelectTimer&>(timer);
        self.wait->choose(self.of);
      }),
      of(whose) {}

bool TimeCaseBase::ready() noexcept { return when_ <= Loop::require().now(); }

bool TimeCaseBase::enlist(SelectWait& wait) noexcept {
  timer_.wait = &wait;
  Loop::require().timers().arm(timer_, when_);
  return false;
}

void TimeCaseBase::delist() noexcept {
  if (timer_.armed()) Loop::require().timers().disarm(timer_);
}

namespace {

/// One of those that are ready, each with the same chance; null if none is.
SelectCase* pick_ready(Loop& loop, std::span<SelectCase* const> cases) noexcept {
  SelectCase* picked = nullptr;
  std::uint64_t ready = 0;
  for (SelectCase* each : cases) {
    if (!each->ready()) continue;
    ++ready;
    if (ready == 1 || loop.random() % ready == 0) picked = each;  // reservoir sampling
  }
  return picked;
}

/// When a select is left, however it is left, nobody serves its cases any more.
struct Settled {
  explicit Settled(std::span<SelectCase* const> all) noexcept : cases(all) {}
  Settled(const Settled&) = delete;
  Settled& operator=(const Settled&) = delete;
  ~Settled() {
    for (SelectCase* each : cases) each->settle();
  }
  std::span<SelectCase* const> cases;
};

/// Waits until a case is chosen. Null: cancelled.
SelectCase* wait_for_one(Loop& loop, std::span<SelectCase* const> cases) noexcept {
  SelectWait wait(loop.require_fiber(), cases);
  for (SelectCase* each : cases) {
    if (each->enlist(wait)) wait.choose(*each);
    if (wait.chosen() != nullptr) break;
  }
  if (wait.chosen() != nullptr) {
    for (SelectCase* each : cases) each->delist();
  } else {
    loop.park(wait);
  }
  return wait.chosen();
}

SelectCase* choose(Loop& loop, std::span<SelectCase* const> cases, SelectCase* otherwise) {
  for (;;) {
    if (SelectCase* ready = pick_ready(loop, cases)) {
      ready->take();
      return ready;
    }
    if (otherwise != nullptr) return otherwise;
    if (loop.require_fiber().cancel_pending()) throw Cancelled{};
    if (std::none_of(cases.begin(), cases.end(), [](auto* each) { return each->possible(); })) throw ChannelClosed{};
    SelectCase* chosen = wait_for_one(loop, cases);
    if (chosen == nullptr) throw Cancelled{};
    if (chosen->served()) return chosen;
  }
}

}  // namespace

std::size_t choose_case(std::span<SelectCase* const> cases, SelectCase* otherwise) {
  const Settled settled(cases);
  const SelectCase* chosen = choose(Loop::require(), cases, otherwise);
  return static_cast<std::size_t>(std::find(cases.begin(), cases.end(), chosen) - cases.begin());
}

}  // namespace bight::detail
