// SPDX-License-Identifier: Apache-2.0
#include <bight/barrier.hpp>

#include <string>
#include <utility>

#include <bight/check.hpp>
#include <bight/error.hpp>

namespace bight {

struct Barrier::Link : detail::WaitLink {
  explicit Link(const Barrier& met) noexcept : barrier(met) {}
  const Barrier& barrier;
  std::size_t place = 0;
  bool broken = false;
};

Barrier::Barrier(std::size_t parties, std::function<void()> action) : parties_(parties), action_(std::move(action)) {
  BIGHT_CHECK(parties > 0, "a Barrier is for one fiber at least");
}

Barrier::~Barrier() {
  BIGHT_CHECK(waiters_.empty() && next_meeting_.empty(), "a Barrier is destroyed while fibers wait at it");
}

void Barrier::describe_meeting(const detail::WaitLink& link, std::string& text) {
  const Barrier& barrier = static_cast<const Link&>(link).barrier;
  text.append("the others at a Barrier, where ").append(std::to_string(barrier.waiting()));
  text.append(" of ").append(std::to_string(barrier.parties_)).append(" are");
}

void Barrier::describe_action(const detail::WaitLink&, std::string& text) { text += "the action of a Barrier to end"; }

std::size_t Barrier::wait_limited(TimePoint until) {
  bound_.enter();
  while (acting_ && !broken_) {  // a meeting is about to end; this fiber is one of the next
    Link link(*this);
    if (!detail::wait_or_throw(next_meeting_, link, describe_action, until)) break_for_timeout();
    if (link.broken) throw BrokenBarrier{};
  }
  if (broken_) throw BrokenBarrier{};
  if (waiting() + 1 == parties_) return meet();

  Link link(*this);
  const std::uint64_t meeting = meetings_;
  const detail::WaitEnd end = detail::wait_in(waiters_, link, describe_meeting, until);
  if (end == detail::WaitEnd::woken) {  // and there may be no Barrier any more
    if (link.broken) throw BrokenBarrier{};
    return link.place;
  }
  const bool over = meetings_ != meeting;  // since it has left
  if (end == detail::WaitEnd::cancelled) throw Cancelled{};
  if (over) throw BrokenBarrier{};
  break_for_timeout();
}

void Barrier::break_for_timeout() {
  abort();
  throw BrokenBarrier{};
}

/// The last one has come.
std::size_t Barrier::meet() {
  if (action_) act();
  let_go(false);
  return parties_ - 1;
}

void Barrier::act() {
  struct Acting {
    explicit Acting(Barrier& whose) noexcept : barrier(whose) { barrier.acting_ = true; }
    Acting(const Acting&) = delete;
    Acting& operator=(const Acting&) = delete;
    ~Acting() {
      barrier.acting_ = false;
      barrier.next_meeting_.wake_all();
    }
    Barrier& barrier;
  };
  const std::uint64_t meeting = meetings_;
  try {
    const Acting acting(*this);
    action_();
  } catch (...) {
    abort();
    throw;
  }
  if (broken_ || meetings_ != meeting) throw BrokenBarrier{};  // the action waited, and somebody broke it up
}

void Barrier::let_go(bool broken) noexcept {
  bound_.enter();
  ++meetings_;
  for (std::size_t place = 0; !waiters_.empty(); ++place) {
    auto& link = static_cast<Link&>(*waiters_.first());
    link.place = place;
    link.broken = broken;
    waiters_.wake(link);
  }
  while (broken && !next_meeting_.empty()) {
    auto& link = static_cast<Link&>(*next_meeting_.first());
    link.broken = true;
    next_meeting_.wake(link);
  }
}

void Barrier::abort() noexcept {
  broken_ = true;
  let_go(true);
}

void Barrier::reset() noexcept {
  let_go(true);
  broken_ = false;
}

}  // namespace bight
