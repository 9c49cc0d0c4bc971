// SPDX-License-Identifier: Apache-2.0
#include <bight/detail/cancel_scope.hpp>

#include <utility>

#include <bight/check.hpp>
#include <bight/detail/fiber_control.hpp>

namespace bight::detail {

void CancelScope::open(FiberControl& fiber, bool shielded) noexcept {
  fiber_ = &fiber;
  shielded_ = shielded;
  attach(fiber.scope);
  fiber.scope = this;
  fiber.cancel_due = effective_;
}

void CancelScope::close() noexcept {
  BIGHT_CHECK(fiber_ != nullptr && fiber_->scope == this,
              "scopes (deadlines, shields) must be left by the fiber that opened them, innermost first");
  fiber_->scope = parent_;
  fiber_->cancel_due = parent_->effective_;
  detach();
}

void CancelScope::attach(CancelScope* parent) noexcept {
  parent_ = parent;
  if (parent == nullptr) return;
  next_ = parent->first_child_;
  if (next_ != nullptr) next_->previous_ = this;
  parent->first_child_ = this;
  if (parent->effective_ && !shielded_) mark();
}

void CancelScope::detach() noexcept {
  BIGHT_CHECK(first_child_ == nullptr, "a Scope outlives the deadline, shield or fiber that it was made in");
  if (parent_ == nullptr) return;
  if (next_ != nullptr) next_->previous_ = previous_;
  (previous_ != nullptr ? previous_->next_ : parent_->first_child_) = next_;
  previous_ = next_ = parent_ = nullptr;
}

void CancelScope::mark() noexcept {
  effective_ = true;
  if (fiber_ == nullptr || fiber_->scope != this) return;
  fiber_->cancel_due = true;
  fiber_->interrupt();
}

/// The scope after this one in a walk of the tree below `root`, parents before children; null at the end.
CancelScope* CancelScope::next_in_walk(CancelScope* root, bool descend) noexcept {
  if (descend && first_child_ != nullptr) return first_child_;
  for (CancelScope* at = this; at != root; at = at->parent_) {
    if (at->next_ != nullptr) return at->next_;
  }
  return nullptr;
}

void CancelScope::cancel() noexcept {
  requested_ = true;
  if (effective_) return;
  mark();
  // Without recursion: the tree may be as deep as fibers are many, and this runs on a fiber's stack. Interrupting a
  // fiber only makes it ready, so the tree does not change meanwhile.
  CancelScope* at = next_in_walk(this, true);
  while (at != nullptr) {
    const bool reached = !at->shielded_ && !at->effective_;
    if (reached) at->mark();
    at = at->next_in_walk(this, reached);
  }
}

void CancelScope::cancel_children() noexcept {
  for (CancelScope* each = first_child_; each != nullptr; each = each->next_) each->cancel();
}

}  // namespace bight::detail
