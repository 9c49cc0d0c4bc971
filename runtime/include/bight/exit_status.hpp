// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>
#include <optional>
#include <string>

namespace bight {

/// How a process has ended: with a code, or by a signal. Not known only if somebody else has taken the news: see
/// Subprocess.
class ExitStatus {
 public:
  /// Not known.
  constexpr ExitStatus() noexcept = default;
  [[nodiscard]] static constexpr ExitStatus exited(int code) noexcept { return {How::exited, code, false}; }
  [[nodiscard]] static constexpr ExitStatus killed(int signal, bool core_dumped = false) noexcept {
    return {How::killed, signal, core_dumped};
  }
  /// What waitpid(2) stores.
  [[nodiscard]] static ExitStatus from_wait(int status) noexcept;
  /// What waitid(2) stores.
  [[nodiscard]] static ExitStatus from_wait(const siginfo_t& info) noexcept;

  /// It exited, with 0.
  [[nodiscard]] constexpr bool success() const noexcept { return how_ == How::exited && number_ == 0; }
  [[nodiscard]] constexpr bool known() const noexcept { return how_ != How::unknown; }
  /// What it gave to exit(3), of which 8 bits arrive; nothing if it was killed.
  [[nodiscard]] constexpr std::optional<int> code() const noexcept {
    return how_ == How::exited ? std::optional(number_) : std::nullopt;
  }
  /// The signal that killed it; nothing if it exited.
  [[nodiscard]] constexpr std::optional<int> signal() const noexcept {
    return how_ == How::killed ? std::optional(number_) : std::nullopt;
  }
  [[nodiscard]] constexpr bool core_dumped() const noexcept { return core_dumped_; }
  /// As a shell has it in $?: the code, or 128 + the signal. 255 if it is not known.
  [[nodiscard]] constexpr int shell_code() const noexcept {
    return how_ == How::unknown ? 255 : number_ + (how_ == How::killed ? 128 : 0);
  }
  /// "exited with 3", "killed by SIGSEGV (core dumped)", "ended, nobody knows how".
  [[nodiscard]] std::string to_string() const;

  friend constexpr bool operator==(const ExitStatus&, const ExitStatus&) noexcept = default;

 private:
  enum class How : unsigned char { unknown, exited, killed };
  constexpr ExitStatus(How how, int number, bool core_dumped) noexcept
      : how_(how), core_dumped_(core_dumped), number_(number) {}

  How how_ = How::unknown;
  bool core_dumped_ = false;
  int number_ = 0;
};

}  // namespace bight
