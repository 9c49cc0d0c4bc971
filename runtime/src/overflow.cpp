// SPDX-License-Identifier: Apache-2.0
#include "overflow.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <string_view>

#include <bight/detail/coroutine_control.hpp>

#include "loop.hpp"

namespace bight::detail {
namespace {

constexpr std::size_t kSignalStack = 64 * 1024;

struct sigaction segv_before {};
std::once_flag handler_installed;

/// A line put together without allocation or locale: all that is allowed in a signal handler.
class Line {
 public:
  Line& operator<<(std::string_view text) noexcept {
    const std::size_t count = std::min(text.size(), sizeof text_ - length_);
    std::memcpy(text_ + length_, text.data(), count);
    length_ += count;
    return *this;
  }
  Line& operator<<(std::uint64_t number) noexcept {
    char digits[20];
    std::size_t count = 0;
    do {
      digits[count++] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    while (count > 0) *this << std::string_view(&digits[--count], 1);
    return *this;
  }
  void print() const noexcept { [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text_, length_); }

 private:
  char text_[1024];
  std::size_t length_ = 0;
};

/// `coroutine`: the one on whose stack it has happened, if any.
void report(const Loop& loop, const FiberControl& fiber, const CoroutineControl* coroutine) noexcept {
  const auto fiber_size =
      static_cast<std::uint64_t>(loop.stack_top(fiber) - static_cast<const std::byte*>(fiber.stack.bottom));
  Line line;
  line << "bight: fatal: fiber #" << fiber.id << " '" << fiber.name() << "' overflowed ";
  if (coroutine != nullptr) {
    line << "a coroutine's stack of " << std::uint64_t{coroutine->stack.size} << " bytes; spawned ";
  } else {
    line << "its stack of " << fiber_size << " bytes; spawned ";
  }
  if (fiber.spawn_address == nullptr) {
    line << "at " << fiber.spawn_site.file << ":" << std::uint64_t{fiber.spawn_site.line};
  } else {
    line << "in a call without a recorded line";
  }
  line << "; give it more with " << (coroutine != nullptr ? "CoroutineOptions" : "SpawnOptions")
       << "::stack_size, or keep big objects off its stack\n";
  line.print();
}

/// The coroutine that the fiber is in, if `address` lies in the guard of its stack.
const CoroutineControl* owner_of_guard(const FiberControl& fiber, const void* address) noexcept {
  const CoroutineControl* coroutine = fiber.coroutine;
  if (coroutine == nullptr) return nullptr;
  const auto* bottom = static_cast<const std::byte*>(coroutine->stack.bottom);
  const auto* at = static_cast<const std::byte*>(address);
  return at < bottom && at >= bottom - StackPool::kPage ? coroutine : nullptr;
}

/// Whether it was an overflow, which is then reported.
bool reported(const Loop& loop, const void* address) noexcept {
  const FiberControl* running = loop.running();
  const CoroutineControl* coroutine = running != nullptr ? owner_of_guard(*running, address) : nullptr;
  const FiberControl* fiber = coroutine != nullptr ? running : loop.owner_of_guard(address);
  if (fiber != nullptr) report(loop, *fiber, coroutine);
  return fiber != nullptr;
}

/// SIGSEGV as if nobody had asked for it. Returning then repeats the access, which ends the process, core dump and all;
/// one that was sent (kill(2)) has no access to repeat.
void die_of(const siginfo_t& info) noexcept {
  ::signal(SIGSEGV, SIG_DFL);
  if (info.si_code <= 0) ::raise(SIGSEGV);
}

void on_segv(int number, siginfo_t* info, void* context) {
  if (const Loop* loop = Loop::current()) {
    if (reported(*loop, info->si_addr)) {
      die_of(*info);
      return;
    }
  }
  if ((segv_before.sa_flags & SA_SIGINFO) != 0) {
    segv_before.sa_sigaction(number, info, context);
  } else if (segv_before.sa_handler != SIG_DFL && segv_before.sa_handler != SIG_IGN) {
    segv_before.sa_handler(number);
  } else {
    die_of(*info);
  }
}

[[maybe_unused]] void install_handler() noexcept {  // unused under AddressSanitizer
  struct sigaction action {};
  action.sa_sigaction = on_segv;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGSEGV, &action, &segv_before);
}

}  // namespace

OverflowReports::OverflowReports(Loop&) noexcept {
#if !defined(BIGHT_ASAN)
  memory_ = ::mmap(nullptr, kSignalStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory_ == MAP_FAILED) {
    memory_ = nullptr;
    return;
  }
  stack_t stack{};
  stack.ss_sp = memory_;
  stack.ss_size = kSignalStack;
  ::sigaltstack(&stack, &stack_before_);
  std::call_once(handler_installed, install_handler);
#endif
}

OverflowReports::~OverflowReports() {
  if (memory_ == nullptr) return;
  ::sigaltstack(&stack_before_, nullptr);
  ::munmap(memory_, kSignalStack);
}

}  // namespace bight::detail
