// SPDX-License-Identifier: Apache-2.0
#include "mutex_watch.hpp"

#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <new>
#include <string>

#include <bight/check.hpp>
#include <bight/log.hpp>

#include "describe.hpp"

namespace bight::detail {
namespace {

thread_local constinit int held [[gnu::tls_model("initial-exec")]] = 0;
thread_local constinit bool resolving [[gnu::tls_model("initial-exec")]] = false;

/// A function of libc's that one in here has taken the name of. Found at its first call, which may come before any
/// constructor has run, so it is constant-initialized.
template <class Signature>
class Original {
 public:
  explicit constexpr Original(const char* name) noexcept : name_(name) {}

  /// Null while this thread is looking for one: dlsym(3) locks and allocates. A thread that does so is in the dynamic
  /// linker, whose own locks keep others out, and does not need the one that it asks for.
  [[nodiscard]] Signature* find() noexcept {
    void* found = found_.load(std::memory_order_acquire);
    if (found == nullptr && !resolving) {
      resolving = true;
      found = ::dlsym(RTLD_NEXT, name_);
      resolving = false;
      found_.store(found, std::memory_order_release);
    }
    return reinterpret_cast<Signature*>(found);
  }

 private:
  const char* name_;
  std::atomic<void*> found_{nullptr};
};

constinit Original<int(pthread_mutex_t*)> original_lock{"pthread_mutex_lock"};
constinit Original<int(pthread_mutex_t*)> original_try_lock{"pthread_mutex_trylock"};
constinit Original<int(pthread_mutex_t*)> original_unlock{"pthread_mutex_unlock"};
constinit Original<int(pthread_mutex_t*, const timespec*)> original_timed_lock{"pthread_mutex_timedlock"};
constinit Original<int(pthread_mutex_t*, clockid_t, const timespec*)> original_clock_lock{"pthread_mutex_clocklock"};

/// Passes the result of a lock on. One whose last owner has died is locked all the same.
int count_lock(int result) noexcept {
  if (result == 0 || result == EOWNERDEAD) ++held;
  return result;
}

}  // namespace

int mutexes_held() noexcept { return held; }

void refuse_held_mutex() noexcept {
  try {
    std::array<void*, 32> frames{};
    const int count = ::backtrace(frames.data(), static_cast<int>(frames.size()));
    std::string text = "a fiber waits with a mutex locked, here:";
    for (int i = 1; i < count; ++i) {
      text.append("\n");
      describe_frame(static_cast<const char*>(frames[static_cast<std::size_t>(i)]) - 1, text);
    }
    log(LogLevel::error, text);
  } catch (const std::bad_alloc&) {  // then only the sentence
  }
  check_failed(__FILE__, __LINE__, "mutexes_held() <= mutexes_at_entry_",
               "a fiber waits, yields or ends while it holds a std::mutex (or another pthread mutex): the next fiber "
               "to lock it would block this thread for ever; unlock it first");
}

}  // namespace bight::detail

// The names are libc's, which fixes their parameters. All are `noexcept` as in <pthread.h>.
extern "C" {

int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  auto* original = bight::detail::original_lock.find();
  return original != nullptr ? bight::detail::count_lock(original(mutex)) : 0;
}

int pthread_mutex_trylock(pthread_mutex_t* mutex) noexcept {
  auto* original = bight::detail::original_try_lock.find();
  return original != nullptr ? bight::detail::count_lock(original(mutex)) : 0;
}

int pthread_mutex_timedlock(pthread_mutex_t* mutex, const timespec* until) noexcept {
  auto* original = bight::detail::original_timed_lock.find();
  return original != nullptr ? bight::detail::count_lock(original(mutex, until)) : 0;
}

int pthread_mutex_clocklock(pthread_mutex_t* mutex, clockid_t clock, const timespec* until) noexcept {
  auto* original = bight::detail::original_clock_lock.find();
  return original != nullptr ? bight::detail::count_lock(original(mutex, clock, until)) : 0;
}

int pthread_mutex_unlock(pthread_mutex_t* mutex) noexcept {
  auto* original = bight::detail::original_unlock.find();
  if (original == nullptr) return 0;
  const int result = original(mutex);
  if (result == 0) --bight::detail::held;
  return result;
}

}  // extern "C"
