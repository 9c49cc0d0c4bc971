// SPDX-License-Identifier: Apache-2.0
#include <bight/pool.hpp>

#include <string>
#include <system_error>

#include <bight/check.hpp>

#include "loop.hpp"

namespace bight {
namespace {

std::system_error deadlock(const char* what) {
  return std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur), what);
}

}  // namespace

namespace detail {

PoolSlot::~PoolSlot() {
  if (pool_ != nullptr) pool_->slots_.release();
}

PoolMember::PoolMember(Pool& pool) noexcept
    : pool_(pool), fiber_(current_loop->running_fiber), next_(std::exchange(pool.first_, this)) {
  if (next_ != nullptr) next_->previous_ = this;
}

PoolMember::~PoolMember() {
  if (next_ != nullptr) next_->previous_ = previous_;
  (previous_ != nullptr ? previous_->next_ : pool_.first_) = next_;
}

std::exception_ptr cancelled_element() {
  this_fiber::checkpoint();
  return std::make_exception_ptr(FiberCancelled("an element of Pool::map or Pool::imap was cancelled"));
}

}  // namespace detail

Pool::Pool(std::size_t size) : size_(size), slots_(static_cast<std::ptrdiff_t>(size)) {
  BIGHT_CHECK(size > 0, "a Pool has room for one fiber at least");
}

detail::PoolMember* Pool::find_member() const noexcept {
  for (detail::PoolMember* each = first_; each != nullptr; each = each->next_) {
    if (each->fiber_ == detail::current_loop->running_fiber) return each;
  }
  return nullptr;
}

bool Pool::member() const noexcept { return find_member() != nullptr; }

void Pool::refuse_members() const {
  if (member()) throw deadlock("Pool::imap from inside a member, which holds one of the slots it would need");
}

detail::PoolSlot Pool::take_slot() {
  if (slots_.try_acquire()) return detail::PoolSlot(*this);
  detail::PoolMember* self = find_member();
  if (self == nullptr) {
    slots_.acquire();
    return detail::PoolSlot(*this);
  }
  std::size_t waiting = 0;
  for (const detail::PoolMember* each = first_; each != nullptr; each = each->next_) {
    // One that has been cancelled, or served, is ready and has yet to run.
    if (each->wants_slot_ && each->fiber_->status == FiberStatus::parked) ++waiting;
  }
  if (waiting + 1 >= size_) throw deadlock("Pool::spawn from inside a member: all members wait for room");
  struct Waiting {
    explicit Waiting(bool& mark) noexcept : flag(mark) { flag = true; }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;
    ~Waiting() { flag = false; }
    bool& flag;
  };
  const Waiting mark(self->wants_slot_);
  slots_.acquire();
  return detail::PoolSlot(*this);
}

}  // namespace bight
