// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace bight::detail {

struct FiberControl;

/// A node of the tree along which cancellation travels: down, from a scope to everything opened inside it, stopping at
/// shields.
///
/// `requested` says that this very scope was cancelled; `effective` that it or one above it was, with no shield
/// between. Only `effective` of a fiber's innermost scope is looked at when the fiber waits, so the check is one load;
/// cancelling pays for the walk.
class CancelScope {
 public:
  CancelScope() noexcept = default;
  CancelScope(const CancelScope&) = delete;
  CancelScope& operator=(const CancelScope&) = delete;

  /// Makes this the innermost scope of `fiber`, inside the one that was innermost so far. close() undoes it, in reverse
  /// order.
  void open(FiberControl& fiber, bool shielded = false) noexcept;
  void close() noexcept;

  /// Hangs this scope below `parent` (which may be null) without making it any fiber's innermost one.
  void attach(CancelScope* parent) noexcept;
  void detach() noexcept;
  /// Makes this a fiber's root scope.
  void own(FiberControl& fiber) noexcept { fiber_ = &fiber; }

  /// Cancels everything below. Fibers that wait are woken; the rest find out at their next wait. O(scopes and fibers
  /// below).
  void cancel() noexcept;
  /// The same for what is below now, but not for what comes later.
  void cancel_children() noexcept;

  [[nodiscard]] bool requested() const noexcept { return requested_; }
  [[nodiscard]] bool effective() const noexcept { return effective_; }
  [[nodiscard]] CancelScope* parent() const noexcept { return parent_; }

  /// Whether a Cancelled that arrives at this scope's boundary is its own, rather than one that an outer scope is due.
  [[nodiscard]] bool absorbs() const noexcept { return requested_ && (parent_ == nullptr || !parent_->effective_); }

 private:
  friend struct FiberControl;

  void mark() noexcept;
  [[nodiscard]] CancelScope* next_in_walk(CancelScope* root, bool descend) noexcept;

  CancelScope* parent_ = nullptr;
  FiberControl* fiber_ = nullptr;  // whose innermost scope this is or was
  CancelScope* first_child_ = nullptr;
  CancelScope* previous_ = nullptr;
  CancelScope* next_ = nullptr;
  bool requested_ = false;
  bool effective_ = false;
  bool shielded_ = false;
};

}  // namespace bight::detail
