// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include <bight/descriptor.hpp>
#include <bight/fd.hpp>

namespace bight {

namespace detail {
struct Use;
}
struct Pipe;

/// Bytes through a descriptor that is no socket: a pipe, a FIFO, a terminal, a pseudo-terminal, a character device; or
/// whatever stands behind standard input and output, which may be anything. Reading and writing park the fiber, never
/// the thread.
///
/// Rules of threads, of cancellation, of closing and of timeouts are those of Descriptor. Data that was moved before is
/// never dropped: it is reported as success, and the next call fails. Writing to what nobody reads any more is
/// broken_pipe; no SIGPIPE is raised for it.
///
/// Texts of the throwing forms name the verb and the descriptor: "write to descriptor 5: Broken pipe".
class Stream : public Descriptor {
 public:
  Stream() noexcept = default;
  /// Takes over a descriptor whose open file is ours alone: O_NONBLOCK is set on it, which others that share it (a
  /// parent, a child) would find set, too. A regular file is carried out by worker threads, at its own cursor; use File
  /// instead. Throws std::system_error (what is not open; memory) and closes it then.
  [[nodiscard]] static Stream adopt(Fd fd);
  [[nodiscard]] static Stream adopt(Fd fd, std::error_code& error) noexcept;
  /// A stream of its own to what an inherited descriptor refers to, like standard input, that other processes use as
  /// well: neither its flags nor its number are touched, and closing the stream leaves it open. Where it can be opened
  /// anew (a pipe, a terminal), it is; what can not, and would block, is left to worker threads once it is ready.
  /// Whatever else reads the same input competes for it. Throws std::system_error.
  [[nodiscard]] static Stream share(int fd);
  [[nodiscard]] static Stream share(int fd, std::error_code& error) noexcept;
  [[nodiscard]] static Stream standard_input() { return share(0); }
  [[nodiscard]] static Stream standard_output() { return share(1); }
  [[nodiscard]] static Stream standard_error() { return share(2); }

  /// Waits for data: at least one byte into `buffer`; 0: the end (or the buffer is empty). A pseudo-terminal whose
  /// other side has been closed is at its end.
  std::size_t read(std::span<std::byte> buffer);
  std::size_t read(std::span<std::byte> buffer, std::error_code& error);
  /// Some of `data`, at least one byte. On a pipe, up to PIPE_BUF bytes go in one piece or not at all: pipe(7).
  std::size_t write(std::span<const std::byte> data);
  std::size_t write(std::span<const std::byte> data, std::error_code& error);
  /// All of it, or an error; the error does not tell how much went out.
  void write_all(std::span<const std::byte> data);
  void write_all(std::span<const std::byte> data, std::error_code& error);
  void write_all(std::string_view text) { write_all(std::as_bytes(std::span(text))); }
  void write_all(std::string_view text, std::error_code& error) { write_all(std::as_bytes(std::span(text)), error); }

  [[nodiscard]] bool is_open() const noexcept { return static_cast<bool>(*this); }
  [[nodiscard]] bool is_terminal() const noexcept;

 private:
  enum class Way : unsigned char {
    calls,      // non-blocking system calls
    messages,   // a socket that may be blocking: recv(2) and send(2) that do not block
    workers,    // it would block, or is always ready: on a worker thread
    poll_then,  // the same, when it is ready
  };

  friend Pipe make_pipe(std::error_code& error) noexcept;
  struct Transfer;

  Stream(int fd, detail::FdState* state, Way way) noexcept : Descriptor(fd, state), way_(way) {}
  [[nodiscard]] static Stream admit(Fd fd, Way way, std::error_code& error) noexcept;
  [[nodiscard]] static Stream admit_end(int fd, std::error_code& error) noexcept;
  static std::size_t transfer(const detail::Use& use, Way way, const Transfer& what, std::error_code& error);
  static std::size_t block(const detail::Use& use, Way way, const Transfer& what, std::error_code& error);

  Way way_ = Way::calls;
};

/// The two ends of a pipe(2). What is written into one comes out of the other, in order. 64 KiB fit in between, mostly.
struct Pipe {
  Stream reader;
  Stream writer;
};

/// Under the sim engine a pipe of the simulated world's. Throws std::system_error (too many descriptors).
[[nodiscard]] Pipe make_pipe();
[[nodiscard]] Pipe make_pipe(std::error_code& error) noexcept;

}  // namespace bight
