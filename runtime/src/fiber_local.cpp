// SPDX-License-Identifier: Apache-2.0
#include <bight/fiber_local.hpp>

#include <atomic>
#include <utility>
#include <vector>

#include "loop.hpp"

namespace bight::detail {

struct LocalSlots {
  struct Slot {
    std::uint64_t key;
    void* value;
    void (*destroy)(void*) noexcept;
  };
  std::vector<Slot> slots;
};

std::uint64_t new_local_key() noexcept {
  static std::atomic<std::uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

void* find_local(std::uint64_t key) noexcept {
  const LocalSlots* locals = Loop::require().require_fiber().locals;
  if (locals == nullptr) return nullptr;
  for (const LocalSlots::Slot& slot : locals->slots) {
    if (slot.key == key) return slot.value;
  }
  return nullptr;
}

void set_local(std::uint64_t key, void* value, void (*destroy)(void*) noexcept) {
  FiberControl& self = Loop::require().require_fiber();
  if (self.locals == nullptr) self.locals = new LocalSlots;
  self.locals->slots.push_back({key, value, destroy});
}

/// Last made, first ended. Ending one may make others (a destructor that uses a FiberLocal): they are ended, too.
void Loop::end_locals(FiberControl& fiber) noexcept {
  if (fiber.locals == nullptr) return;
  while (!fiber.locals->slots.empty()) {
    const LocalSlots::Slot last = fiber.locals->slots.back();
    fiber.locals->slots.pop_back();
    last.destroy(last.value);
  }
  delete std::exchange(fiber.locals, nullptr);
}

}  // namespace bight::detail
