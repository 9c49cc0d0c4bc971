// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <bight/detail/fiber_control.hpp>

namespace bight::detail {

#if defined(BIGHT_BIG_FRAMES)
inline constexpr std::size_t kFrameFactor = 4;  // sanitized code needs several times the stack
#else
inline constexpr std::size_t kFrameFactor = 1;
#endif

/// Fiber stacks: equal ones side by side in slabs, per size class, each with a guard page at its low end, reused last
/// in first out so that the next fiber runs on memory that is in the cache.
///
/// Guards are made when a stack is first used: with MADV_GUARD_INSTALL (Linux 6.13), which costs no mapping, or else
/// with mprotect(2), which costs two; then a look at vm.max_map_count refuses in time what the kernel would refuse with
/// a bare ENOMEM.
class StackPool {
 public:
  struct Stack {
    std::byte* low = nullptr;  // above the guard
    std::byte* top = nullptr;  // coloured: see kColours
    std::uint32_t size_class = 0;
    std::uint32_t index = 0;
  };

  explicit StackPool(std::size_t kept) noexcept : kept_(kept) {}
  ~StackPool();
  StackPool(const StackPool&) = delete;
  StackPool& operator=(const StackPool&) = delete;

  /// A stack of at least `size` bytes, guard included. Throws std::system_error that names the limit which was hit.
  [[nodiscard]] Stack take(std::size_t size);
  /// Does not touch the stack's memory, so a fiber may call it for its own.
  void give_back(std::uint32_t size_class, std::uint32_t index) noexcept;
  /// Returns to the system the memory of unused stacks beyond the number to be kept. Not to be called while on a stack
  /// that was given back.
  void trim() noexcept;

  void set_owner(std::uint32_t size_class, std::uint32_t index, FiberControl* owner) noexcept {
    classes_[size_class].owners[index] = owner;
  }
  /// The fiber whose stack's guard `address` lies in; async-signal-safe.
  [[nodiscard]] const FiberControl* owner_of_guard(const void* address) const noexcept;
  [[nodiscard]] const std::byte* low(const FiberControl& fiber) const noexcept;
  [[nodiscard]] const std::byte* top(const FiberControl& fiber) const noexcept;

  /// Whether this is the fiber on some stack. O(stacks): for reports.
  [[nodiscard]] bool is_owner(const FiberControl* fiber) const noexcept {
    bool found = false;
    for_each_owner([&](const FiberControl& each) { found = found || &each == fiber; });
    return found;
  }

  template <class F>
  void for_each_owner(F&& visit) const {
    for (const SizeClass& each : classes_) {
      for (FiberControl* owner : each.owners) {
        if (owner != nullptr) visit(*owner);
      }
    }
  }

  [[nodiscard]] std::size_t reserved() const noexcept;
  [[nodiscard]] std::size_t cached() const noexcept;

  static constexpr std::size_t kPage = 4096;
  static constexpr std::size_t kSmallest = 16 * 1024;
  static constexpr std::size_t kClasses = 13;  // 16 KiB … 64 MiB
  /// Stacks at equal distances would put the hot top lines of all fibers into the same few sets of the first-level
  /// cache. Their tops are therefore moved down by one of 16 offsets, little enough that a shallow fiber still fits its
  /// first page.
  static constexpr std::size_t kColours = 16;
  static constexpr std::size_t kColourStep = 128;

 private:
  struct SizeClass {
    std::vector<std::byte*> bases;      // by index, the lowest byte (guard included)
    std::vector<FiberControl*> owners;  // by index; null: unused
    std::vector<std::uint32_t> warm;    // unused, memory kept
    std::vector<std::uint32_t> cold;    // unused, memory returned
    std::byte* fresh = nullptr;         // the rest of the newest slab, never used
    std::size_t fresh_count = 0;
    std::size_t next_slab = 64;  // stacks in the next slab; doubles
  };
  struct Slab {
    std::byte* memory;
    std::size_t bytes;
  };

  [[nodiscard]] static std::size_t bytes_of(std::size_t size_class) noexcept { return kSmallest << size_class; }
  // Part of every spawn, so these two are in its way.
  [[nodiscard]] static std::size_t class_for(std::size_t size) {
    if (size > bytes_of(kClasses - 1)) refuse(size);
    const std::size_t rounded = std::max(std::bit_ceil(size), kSmallest);
    return static_cast<std::size_t>(std::countr_zero(rounded / kSmallest));
  }
  [[nodiscard]] Stack describe(std::size_t size_class, std::uint32_t index) const noexcept {
    std::byte* base = classes_[size_class].bases[index];
    return {base + kPage, base + bytes_of(size_class) - (index % kColours) * kColourStep,
            static_cast<std::uint32_t>(size_class), index};
  }
  [[noreturn]] static void refuse(std::size_t size);
  [[nodiscard]] std::uint32_t make_fresh(std::size_t size_class);
  static void make_room(SizeClass& each);
  void grow(SizeClass& each, std::size_t stack_bytes);
  void guard(std::byte* base);
  void check_map_count() const;
  void trim_class(SizeClass& each, std::size_t stack_bytes) noexcept;

  std::size_t kept_;
  std::size_t guards_by_mprotect_ = 0;
  std::array<SizeClass, kClasses> classes_{};
  std::vector<Slab> slabs_;
};

}  // namespace bight::detail
