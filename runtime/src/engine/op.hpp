// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace bight::detail {

/// What can be asked of an engine. The parameters are those of the system call of that name.
enum class OpKind : std::uint8_t {
  recv,          // into data, size
  recv_lent,     // into a buffer of the loop's pool, taken when data has come: sets data and buffer_id
  send,          // data, size; may be short
  send_message,  // data is a msghdr; may be short
  accept,        // result: the new descriptor
  connect,       // data, size are the sockaddr
  poll_in,       // readable, or in error
  poll_out,      // writable, or in error
  read,          // into data, size, from what is no socket and has O_NONBLOCK
  write,         // data, size; may be short; the same
  recv_message,  // data is a msghdr, size more flags; what recvmsg(2) sets of it is set. Descriptors are close-on-exec
  recv_many,     // data are size mmsghdr: recvmmsg(2); result: how many messages
  send_many,     // data are size mmsghdr: sendmmsg(2); result: how many messages went out
  file,          // is a FileOp: see file_op.hpp, Engine::start_file
};

struct Op;
struct FiberControl;

/// A finished operation's way back: called once per operation, on the loop's thread, outside any fiber.
using OpDone = void (*)(Op&) noexcept;

/// One operation in flight. Lives in the frame of the fiber that waits for it, and stays there until done() has been
/// called: an engine, or the kernel behind it, may write to it and to the buffer it names until then.
struct alignas(16) Op {
  enum class State : std::uint8_t { idle, started, done };

  Op(OpKind what, int descriptor) noexcept : kind(what), fd(descriptor) {}
  Op(const Op&) = delete;
  Op& operator=(const Op&) = delete;

  OpKind kind;
  State state = State::idle;
  bool cancelled = false;  // cancel() has been called; an engine that could retry ends instead
  std::uint8_t phase = 0;  // the engine's own
  int fd;
  std::int32_t result = 0;  // as the system call's, or -errno
  std::uint32_t buffer_id = 0;
  void* data = nullptr;
  std::size_t size = 0;
  OpDone done = nullptr;
  /// Whoever waits is to leave, with -why unless the operation was faster: its descriptor is being closed, its time is
  /// up. Null: nobody waits yet, or any more.
  void (*hurry)(Op&, int why) noexcept = nullptr;
  FiberControl* fiber = nullptr;
  Op* next = nullptr;  // in a list of the engine's, or of finished operations
};

/// Finished operations, first finished first.
class OpList {
 public:
  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  void push(Op& op) noexcept {
    op.next = nullptr;
    (last_ != nullptr ? last_->next : first_) = &op;
    last_ = &op;
  }
  Op* pop() noexcept {
    Op* op = first_;
    if (op != nullptr) {
      first_ = op->next;
      if (first_ == nullptr) last_ = nullptr;
    }
    return op;
  }

 private:
  Op* first_ = nullptr;
  Op* last_ = nullptr;
};

}  // namespace bight::detail
