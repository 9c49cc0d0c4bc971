// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <vector>

namespace bight::detail {

/// The options of one socket: those that change how it behaves in the simulation, and the rest, which are only
/// remembered. An accepted socket starts with a copy of its listener's.
class SimSocketOptions {
 public:
  SimSocketOptions(std::size_t send_buffer, std::size_t receive_buffer) noexcept
      : send_buffer_(send_buffer), receive_buffer_(receive_buffer) {}

  // setsockopt and getsockopt, without what only the socket itself can tell (SO_ERROR and the like). 0 or -errno.
  int set(int level, int name, const void* value, ::socklen_t length);
  int get(int level, int name, void* value, ::socklen_t* length) const noexcept;

  [[nodiscard]] bool reuse_address() const noexcept { return flag(SOL_SOCKET, SO_REUSEADDR); }
  [[nodiscard]] bool reuse_port() const noexcept { return flag(SOL_SOCKET, SO_REUSEPORT); }
  [[nodiscard]] bool v6only() const noexcept;
  /// Whatever it was set to, as an int.
  [[nodiscard]] int number(int level, int name, int unless_set) const noexcept;
  [[nodiscard]] bool resets_on_close() const noexcept;
  [[nodiscard]] std::size_t send_buffer() const noexcept { return send_buffer_; }
  [[nodiscard]] std::size_t receive_buffer() const noexcept { return receive_buffer_; }

 private:
  struct Option {
    int level;
    int name;
    ::linger value;  // as large as any; an int is its first member
  };

  [[nodiscard]] const Option* find(int level, int name) const noexcept;
  [[nodiscard]] bool flag(int level, int name) const noexcept;

  std::size_t send_buffer_;
  std::size_t receive_buffer_;
  std::vector<Option> others_;
};

/// Hands `value` to a caller of getsockopt: as much as there is room for.
void sim_give_option(int given, void* value, ::socklen_t* length) noexcept;

}  // namespace bight::detail
