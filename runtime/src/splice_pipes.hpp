// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include <bight/fd.hpp>

namespace bight::detail {

/// A loop's pipes for splice(2) from socket to socket: made when first wanted, lent only while there are bytes in them,
/// so that a thousand connections that wait hold none. RunOptions::splice_pipes is how many there are at most.
class SplicePipes {
 public:
  /// What bytes are spliced into one at a time. A slot takes a piece of a socket's buffer of up to 32 KiB.
  static constexpr std::size_t kPiece = std::size_t{256} * 1024;
  static constexpr std::size_t kKept = 16;  // that nobody uses

  struct Pipe {
    Fd out;  // to read from
    Fd in;
    std::size_t held = 0;  // bytes in it
  };

  /// A pipe for as long as it lives, or none. A pipe with bytes left in it is closed afterwards.
  class Loan {
   public:
    explicit Loan(SplicePipes& pipes) noexcept : pipes_(pipes), pipe_(pipes.take()) {}
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    ~Loan() {
      if (pipe_.in) pipes_.give_back(std::move(pipe_));
    }
    explicit operator bool() const noexcept { return static_cast<bool>(pipe_.in); }
    [[nodiscard]] Pipe& operator*() noexcept { return pipe_; }

   private:
    SplicePipes& pipes_;
    Pipe pipe_;
  };

  explicit SplicePipes(std::size_t most);

  /// In a forked child: closes its copies.
  void close_in_forked_child() noexcept;

 private:
  [[nodiscard]] Pipe take() noexcept;
  [[nodiscard]] Pipe make() noexcept;
  void give_back(Pipe pipe) noexcept;

  std::size_t most_;
  std::vector<Pipe> unused_;  // both have room for all that may be in them
  std::vector<int> all_;
};

}  // namespace bight::detail
