// SPDX-License-Identifier: Apache-2.0
#include <bight/process_event.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>

#include <bight/error.hpp>

#include "descriptor_wait.hpp"
#include "token.hpp"

// One word in shared memory: whether it is set, and above that how often it has been, by which who waits sees that it
// was set though it is clear again. A token that is there while it is set wakes those who wait. Word and token are
// changed one after the other, so the token may be there without need (who finds it takes it away) and may be missing
// (who may have taken it wrongly looks at the word again, and posts it anew; if killed in between, the others look by
// themselves).

namespace bight {
namespace {

using Word = std::atomic<std::uint64_t>;
constexpr std::uint64_t kSet = 1;

Word& word_in(const SharedMemory& memory) noexcept { return memory.as<Word>(); }

void take_back(const SharedMemory& memory, const detail::Token& token) noexcept {
  token.take();
  if ((word_in(memory).load() & kSet) != 0) token.post();
}

}  // namespace

ProcessEvent::ProcessEvent() : memory_(sizeof(Word)), token_(std::make_unique<detail::Token>()) {}
ProcessEvent::~ProcessEvent() = default;

bool ProcessEvent::is_set() const noexcept { return (word_in(memory_).load() & kSet) != 0; }

void ProcessEvent::set() noexcept {
  std::uint64_t seen = word_in(memory_).load();
  while ((seen & kSet) == 0) {
    if (word_in(memory_).compare_exchange_weak(seen, (seen + 2) | kSet)) {
      token_->post();
      return;
    }
  }
}

void ProcessEvent::clear() noexcept {
  if ((word_in(memory_).fetch_and(~kSet) & kSet) != 0) take_back(memory_, *token_);
}

bool ProcessEvent::wait_until(TimePoint until) {
  const std::uint64_t before = word_in(memory_).load();
  if ((before & kSet) != 0) return true;
  for (;;) {
    if (until == TimePoint::min() || (until != TimePoint::max() && until <= now())) return false;
    const TimePoint next = std::min(until, detail::saturating_add(now(), process_event_recheck));
    const std::error_code error = detail::wait_ready_aside(token_->fd(), detail::Readiness::readable, next);
    if (word_in(memory_).load() != before) return true;
    if (!error) {
      take_back(memory_, *token_);
    } else if (error != std::errc::timed_out) {
      detail::throw_error(error, detail::in_simulated_world()
                                     ? "wait for a ProcessEvent: a simulated world has no other processes"
                                     : "wait for a ProcessEvent");
    }
  }
}

}  // namespace bight
