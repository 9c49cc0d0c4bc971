// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/op.hpp"

namespace bight::detail {

/// A descriptor's multishot receive: one submission that goes on delivering, into buffers of the receive ring, what
/// comes to the socket. What arrives while nobody reads waits here, in order; FeedQueue holds the links.
///
/// Made by the first read that brings no buffer; from then on all reads of the descriptor go through it.
struct alignas(16) ReceiveFeed {
  static constexpr std::uint16_t kNone = 0xffff;
  static constexpr int kOpen = 1;

  explicit ReceiveFeed(int descriptor) noexcept : fd(descriptor) {}

  int fd;
  bool armed = false;     // the kernel may deliver more
  bool stopping = false;  // and has been asked not to
  bool orphaned = false;  // the descriptor has been closed: this goes with the last completion
  int end = kOpen;        // 0 or -errno: how receiving has ended, until somebody is told
  std::uint16_t first = kNone;
  std::uint16_t last = kNone;
  std::uint32_t queued = 0;
  std::uint64_t armed_in = 0;  // the batch of submissions in which it was armed
  Op* waiting = nullptr;

  // HangupCheck's.
  ReceiveFeed* next_unchecked = nullptr;
  ReceiveFeed* previous_unchecked = nullptr;
  bool unchecked = false;
};

/// Received pieces, queued per feed, linked by the numbers of their buffers.
class FeedQueue {
 public:
  struct Piece {
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
    std::uint16_t next = ReceiveFeed::kNone;
  };

  void init(std::size_t buffers) { pieces_.resize(buffers); }

  void push(ReceiveFeed& feed, std::uint32_t id, std::uint32_t size) noexcept {
    pieces_[id] = {0, size, ReceiveFeed::kNone};
    (feed.queued != 0 ? pieces_[feed.last].next : feed.first) = static_cast<std::uint16_t>(id);
    feed.last = static_cast<std::uint16_t>(id);
    ++feed.queued;
  }
  [[nodiscard]] Piece& front(const ReceiveFeed& feed) noexcept { return pieces_[feed.first]; }
  void pop(ReceiveFeed& feed) noexcept {
    feed.first = pieces_[feed.first].next;
    --feed.queued;
  }

 private:
  std::vector<Piece> pieces_;  // by buffer
};

}  // namespace bight::detail
