// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

namespace bight::net {

/// One end of a connection that is nothing but memory: for tests, and for protocols within a process. Behaves as
/// TcpStream does: one fiber may read while another writes, and closing wakes both. Belongs to its loop. Move-only;
/// closes when it goes.
class MemoryStream {
 public:
  MemoryStream() noexcept = default;
  /// Two that are connected to each other. A writer waits while `capacity` bytes, at least one, have not been read.
  [[nodiscard]] static std::pair<MemoryStream, MemoryStream> pair(std::size_t capacity = std::size_t{64} * 1024);
  MemoryStream(MemoryStream&& other) noexcept = default;
  MemoryStream& operator=(MemoryStream&& other) noexcept;
  ~MemoryStream() { close(); }

  /// As TcpStream's. To a peer that is closed: broken_pipe.
  std::size_t read(std::span<std::byte> buffer);
  std::size_t read(std::span<std::byte> buffer, std::error_code& error);
  std::size_t write(std::span<const std::byte> data);
  std::size_t write(std::span<const std::byte> data, std::error_code& error);
  /// What there is room for, without waiting; 0: none.
  std::size_t try_write(std::span<const std::byte> data, std::error_code& error) noexcept;
  void write_all(std::span<const std::byte> data);
  void write_all(std::span<const std::byte> data, std::error_code& error);
  void write_all(std::string_view text) { write_all(std::as_bytes(std::span(text))); }
  void write_all(std::string_view text, std::error_code& error) { write_all(std::as_bytes(std::span(text)), error); }
  void shutdown_write();
  void shutdown_write(std::error_code& error) noexcept;
  void close() noexcept;
  [[nodiscard]] bool is_open() const noexcept { return out_ != nullptr; }

 private:
  struct Way;  // one direction

  static bool may_write(const Way* way, std::error_code& error) noexcept;

  std::shared_ptr<Way> in_;
  std::shared_ptr<Way> out_;
};

}  // namespace bight::net
