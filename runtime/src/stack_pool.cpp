// SPDX-License-Identifier: Apache-2.0
#include "stack_pool.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>

#include "sys/limits.hpp"

#if defined(BIGHT_ASAN)
#include <sanitizer/asan_interface.h>
#endif
#if defined(BIGHT_VALGRIND)
#include <valgrind/valgrind.h>
#endif

namespace bight::detail {
namespace {

constexpr int kAdviseGuardInstall = 102;  // MADV_GUARD_INSTALL, newer than the distribution's headers
constexpr std::size_t kSlabBytesMax = 64 * 1024 * 1024;

enum class GuardBy : unsigned char { unknown, advice, protection };

/// How guards are made on this machine; found out by the first one. BIGHT_STACK_GUARD=mprotect forces the older way.
std::atomic<GuardBy> guard_method = GuardBy::unknown;  // loops on other threads find out the same

bool mprotect_forced() noexcept {
  const char* wish = std::getenv("BIGHT_STACK_GUARD");  // NOLINT(concurrency-mt-unsafe): read at start, never set by us
  return wish != nullptr && std::strcmp(wish, "mprotect") == 0;
}

[[noreturn]] void throw_no_stack(int error, const std::string& what) {
  throw std::system_error(error, std::generic_category(), "reserve a fiber stack: " + what);
}

}  // namespace

StackPool::~StackPool() {
  for (const Slab& slab : slabs_) ::munmap(slab.memory, slab.bytes);
}

void StackPool::refuse(std::size_t size) {
  throw_no_stack(EINVAL,
                 std::to_string(size) + " bytes asked for, " + std::to_string(bytes_of(kClasses - 1)) + " is the most");
}

StackPool::Stack StackPool::take(std::size_t size) {
  const std::size_t size_class = class_for(size);
  SizeClass& each = classes_[size_class];
  for (auto* unused : {&each.warm, &each.cold}) {
    if (!unused->empty()) {
      const std::uint32_t index = unused->back();
      unused->pop_back();
      return describe(size_class, index);
    }
  }
  return describe(size_class, make_fresh(size_class));
}

/// For one stack more in all lists of its class: give_back() is called where nothing may fail, and the lists are to be
/// equally long even if memory runs out here.
void StackPool::make_room(SizeClass& each) {
  const std::size_t needed = each.bases.size() + 1;
  const auto reserve = [needed](auto& list) {
    if (list.capacity() < needed) list.reserve(needed * 2);
  };
  reserve(each.bases);
  reserve(each.owners);
  reserve(each.warm);
  reserve(each.cold);
}

std::uint32_t StackPool::make_fresh(std::size_t size_class) {
  SizeClass& each = classes_[size_class];
  if (each.fresh_count == 0) grow(each, bytes_of(size_class));
  guard(each.fresh);
  const auto index = static_cast<std::uint32_t>(each.bases.size());
  make_room(each);
  each.bases.push_back(each.fresh);
  each.owners.push_back(nullptr);
#if defined(BIGHT_VALGRIND)
  VALGRIND_STACK_REGISTER(each.fresh + kPage, each.fresh + bytes_of(size_class));
#endif
  each.fresh += bytes_of(size_class);
  --each.fresh_count;
  return index;
}

void StackPool::grow(SizeClass& each, std::size_t stack_bytes) {
  const std::size_t count = std::max<std::size_t>(1, std::min(each.next_slab, kSlabBytesMax / stack_bytes));
  const std::size_t bytes = count * stack_bytes;
  slabs_.reserve(slabs_.size() + 1);
  void* memory =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) throw_no_stack(errno, "mmap of " + std::to_string(bytes) + " bytes");
  ::madvise(memory, bytes, MADV_NOHUGEPAGE);  // MAP_STACK says so too, but only since Linux 6.7
  slabs_.push_back({static_cast<std::byte*>(memory), bytes});
  each.fresh = static_cast<std::byte*>(memory);
  each.fresh_count = count;
  each.next_slab = count * 2;
}

void StackPool::guard(std::byte* base) {
  GuardBy method = guard_method.load(std::memory_order_relaxed);
  if (method == GuardBy::unknown && mprotect_forced()) method = GuardBy::protection;
  if (method != GuardBy::protection) {
    if (::madvise(base, kPage, kAdviseGuardInstall) == 0) {
      guard_method.store(GuardBy::advice, std::memory_order_relaxed);
      return;
    }
    // EINVAL: an older kernel; or, if it went well before, memory that mlockall(2) has locked since.
  }
  if (method == GuardBy::unknown) guard_method.store(GuardBy::protection, std::memory_order_relaxed);
  check_map_count();
  if (::mprotect(base, kPage, PROT_NONE) != 0) throw_no_stack(errno, "mprotect of its guard page");
  ++guards_by_mprotect_;
}

void StackPool::check_map_count() const {
  constexpr std::size_t kOthers = 4096;  // mappings left to the rest of the program
  static const std::size_t limit = sys::max_map_count();
  if (2 * guards_by_mprotect_ + kOthers < limit) return;
  throw_no_stack(
      ENOMEM,
      "this kernel has no MADV_GUARD_INSTALL (Linux 6.13), so every guard page takes two memory mappings, and "
      "vm.max_map_count = " +
          std::to_string(limit) + " allows " + std::to_string(guards_by_mprotect_) +
          " stacks; raise it with sysctl -w vm.max_map_count=N");
}

void StackPool::give_back(std::uint32_t size_class, std::uint32_t index) noexcept {
  SizeClass& each = classes_[size_class];
  each.owners[index] = nullptr;
#if defined(BIGHT_ASAN)
  __asan_unpoison_memory_region(each.bases[index] + kPage, bytes_of(size_class) - kPage);
#endif
  each.warm.push_back(index);
}

void StackPool::trim() noexcept {
  for (std::size_t i = 0; i < kClasses; ++i) {
    constexpr std::size_t kBatch = 256;
    if (classes_[i].warm.size() > kept_ + kBatch) trim_class(classes_[i], bytes_of(i));
  }
}

void StackPool::trim_class(SizeClass& each, std::size_t stack_bytes) noexcept {
  const std::size_t excess = each.warm.size() - kept_;
  // The oldest entries are the coldest. Neighbours are returned with one call; guards outlive MADV_DONTNEED.
  const auto end = each.warm.begin() + static_cast<std::ptrdiff_t>(excess);
  std::sort(each.warm.begin(), end, [&](std::uint32_t a, std::uint32_t b) { return each.bases[a] < each.bases[b]; });
  for (auto first = each.warm.begin(); first != end;) {
    std::byte* low = each.bases[*first];
    std::byte* high = low + stack_bytes;
    for (++first; first != end && each.bases[*first] == high; ++first) high += stack_bytes;
    ::madvise(low + kPage, static_cast<std::size_t>(high - low) - kPage, MADV_DONTNEED);
  }
  each.cold.insert(each.cold.end(), each.warm.begin(), end);
  each.warm.erase(each.warm.begin(), end);
}

const FiberControl* StackPool::owner_of_guard(const void* address) const noexcept {
  const auto* at = static_cast<const std::byte*>(address);
  for (const SizeClass& each : classes_) {
    for (std::size_t i = 0; i < each.bases.size(); ++i) {
      if (at >= each.bases[i] && at < each.bases[i] + kPage) return each.owners[i];
    }
  }
  return nullptr;
}

const std::byte* StackPool::low(const FiberControl& fiber) const noexcept {
  return classes_[fiber.stack_class].bases[fiber.stack_index] + kPage;
}

const std::byte* StackPool::top(const FiberControl& fiber) const noexcept {
  return classes_[fiber.stack_class].bases[fiber.stack_index] + bytes_of(fiber.stack_class);
}

std::size_t StackPool::reserved() const noexcept {
  std::size_t count = 0;
  for (const SizeClass& each : classes_) count += each.bases.size();
  return count;
}

std::size_t StackPool::cached() const noexcept {
  std::size_t count = 0;
  for (const SizeClass& each : classes_) count += each.warm.size();
  return count;
}

}  // namespace bight::detail
