// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

namespace bight {

/// Owns a plain file descriptor: closes it when it goes. Knows nothing of loops; for an open descriptor that fibers
/// wait on see Socket.
class Fd {
 public:
  Fd() noexcept = default;
  explicit Fd(int fd) noexcept : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept {
    Fd(std::move(other)).swap(*this);
    return *this;
  }
  ~Fd() { reset(); }

  void swap(Fd& other) noexcept { std::swap(fd_, other.fd_); }
  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  void reset() noexcept;
  explicit operator bool() const noexcept { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

}  // namespace bight
