// SPDX-License-Identifier: Apache-2.0
#include "engine/hangup_check.hpp"

#include <poll.h>

namespace bight::detail {

void HangupCheck::remove(ReceiveFeed& feed) noexcept {
  if (!feed.unchecked) return;
  feed.unchecked = false;
  (feed.previous_unchecked != nullptr ? feed.previous_unchecked->next_unchecked : first_) = feed.next_unchecked;
  if (feed.next_unchecked != nullptr) feed.next_unchecked->previous_unchecked = feed.previous_unchecked;
}

bool HangupCheck::look_at_some(Batch& batch) noexcept {
  std::array<pollfd, kBatch> polls;
  batch.count = 0;
  while (first_ != nullptr && batch.count < kBatch) {
    polls[batch.count] = {first_->fd, POLLRDHUP, 0};
    batch.feeds[batch.count++] = first_;
    remove(*first_);
  }
  if (batch.count == 0) return false;
  const int found = ::poll(polls.data(), batch.count, 0);
  for (std::size_t i = 0; i < batch.count; ++i) {
    // Should poll fail, for want of memory say, all of them are asked anew: that costs more and is never wrong.
    batch.hung_up[i] = found < 0 || polls[i].revents != 0;
  }
  return true;
}

}  // namespace bight::detail
