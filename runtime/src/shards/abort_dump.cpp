// SPDX-License-Identifier: Apache-2.0
#include "shards/abort_dump.hpp"

#include <execinfo.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <string>

#include <bight/log.hpp>

#include "loop.hpp"

namespace bight::detail {
namespace {

void print(const char* text, std::size_t size) noexcept {
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, size);
}

void print(const char* text) noexcept { print(text, std::strlen(text)); }

/// First what is safe in a handler. Then the list of all fibers, which takes memory: if the fiber hangs inside malloc,
/// so does this, and the supervisor's SIGKILL ends it with the rest already said.
void on_abort(int number, siginfo_t* info, void*) noexcept {
  ::signal(number, SIG_DFL);
  if (info->si_code == SI_USER && info->si_pid == ::getppid()) {
    Loop* loop = Loop::current();
    const FiberControl* fiber = loop != nullptr ? loop->running() : nullptr;
    print("bight: error: this shard hangs");
    if (fiber != nullptr) {
      print(" in fiber '");
      print(fiber->name().data(), fiber->name().size());
      print("'");
    }
    print("; its stack (for addr2line), with this handler's on top:\n");
    std::array<void*, 48> frames{};
    ::backtrace_symbols_fd(frames.data(), ::backtrace(frames.data(), static_cast<int>(frames.size())), STDERR_FILENO);
    try {
      if (loop != nullptr) log(LogLevel::error, "its fibers:\n" + loop->dump_fibers());
    } catch (...) {
      print("bight: error: no memory for a list of its fibers\n");
    }
  }
  ::raise(number);  // unblocked when this returns
}

}  // namespace

void install_abort_dump() noexcept {
  std::array<void*, 1> unused{};
  static_cast<void>(::backtrace(unused.data(), 1));  // loads what it needs, which a handler may not
  struct sigaction action {};
  action.sa_sigaction = on_abort;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGABRT, &action, nullptr);
}

}  // namespace bight::detail
