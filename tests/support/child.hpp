// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#include <bight/fd.hpp>

namespace bight::test {

/// How a child process ended, and what it wrote to standard error.
struct Ended {
  int status = 0;
  std::string errors;

  [[nodiscard]] bool with(int code) const noexcept { return WIFEXITED(status) && WEXITSTATUS(status) == code; }
  [[nodiscard]] bool by(int signal) const noexcept { return WIFSIGNALED(status) && WTERMSIG(status) == signal; }
  [[nodiscard]] bool says(const char* text) const noexcept { return errors.find(text) != std::string::npos; }
};

inline std::string describe(const Ended& ended) {
  const std::string how = WIFSIGNALED(ended.status) ? "killed by signal " + std::to_string(WTERMSIG(ended.status))
                                                    : "exited with " + std::to_string(WEXITSTATUS(ended.status));
  return how + ", having said:\n" + ended.errors;
}

/// A forked child that runs `body`, which returns its exit status; 99 when it throws. No GoogleTest assertion works in
/// there. Not to be used inside a loop.
class Child {
 public:
  template <class Body>
  requires(!std::is_same_v<std::remove_cvref_t<Body>, Child>) explicit Child(Body&& body) {
    std::array<int, 2> pipe{};
    if (::pipe(pipe.data()) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
    errors_ = Fd(pipe[0]);
    const Fd write_end(pipe[1]);
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::dup2(pipe[1], STDERR_FILENO);
    int code = 99;
    try {
      code = body();
    } catch (const std::exception& error) {
      const std::string text = std::string("threw: ") + error.what() + "\n";
      [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
    }
    ::_exit(code);
  }

  Child(Child&& other) noexcept
      : errors_(std::move(other.errors_)), pid_(other.pid_), waited_(std::exchange(other.waited_, true)) {}
  Child& operator=(Child&& other) noexcept {
    std::swap(errors_, other.errors_);
    std::swap(pid_, other.pid_);
    std::swap(waited_, other.waited_);
    return *this;
  }
  /// One that was not waited for, since the test has failed, does not stay.
  ~Child() {
    if (waited_) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }

  /// Waits for its end (and that of all children of its own, for they hold its standard error).
  [[nodiscard]] Ended wait() {
    Ended ended;
    std::array<char, 4096> buffer{};
    ssize_t count = 0;
    while ((count = ::read(errors_.get(), buffer.data(), buffer.size())) > 0) {
      ended.errors.append(buffer.data(), static_cast<std::size_t>(count));
    }
    ::waitpid(pid_, &ended.status, 0);
    waited_ = true;
    return ended;
  }

 private:
  Fd errors_;
  pid_t pid_ = 0;
  bool waited_ = false;
};

template <class Body>
[[nodiscard]] Ended in_child(Body&& body) {
  return Child(std::forward<Body>(body)).wait();
}

}  // namespace bight::test
