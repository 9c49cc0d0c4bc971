// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <memory>
#include <string>
#include <string_view>

#include <sys/socket.h>

#include <bight/run.hpp>
#include <bight/time.hpp>

#include "engine/file_op.hpp"
#include "engine/op.hpp"

namespace bight::detail {

class BufferPool;
class FdTable;

/// The calls on sockets (and for pipes) that never wait. Return what the system call returns, or -errno.
class SocketCalls {
 public:
  virtual ~SocketCalls() = default;
  virtual int socket(int domain, int type, int protocol) noexcept = 0;
  /// pipe(2): the end to read from, the end to write to.
  virtual int pipe(int (&ends)[2]) noexcept = 0;
  virtual int socket_pair(int domain, int type, int protocol, int (&ends)[2]) noexcept = 0;
  /// Prepares a descriptor that was made elsewhere.
  virtual int adopt(int fd) noexcept = 0;
  virtual int bind(int fd, const ::sockaddr* address, ::socklen_t length) noexcept = 0;
  /// unlink(2) of the name that a Unix socket has, or had, among the files; -ENOTSOCK if that is no socket's.
  virtual int remove_name(const char* path) noexcept = 0;
  virtual int listen(int fd, int backlog) noexcept = 0;
  virtual int shutdown(int fd, int how) noexcept = 0;
  virtual int close(int fd) noexcept = 0;
  virtual int set_option(int fd, int level, int name, const void* value, ::socklen_t length) noexcept = 0;
  virtual int get_option(int fd, int level, int name, void* value, ::socklen_t* length) noexcept = 0;
  virtual int local_name(int fd, ::sockaddr* address, ::socklen_t* length) noexcept = 0;
  virtual int peer_name(int fd, ::sockaddr* address, ::socklen_t* length) noexcept = 0;
  /// recvmsg(2) of a socket's error queue (MSG_ERRQUEUE), which never waits. There is none in a simulated world.
  virtual int receive_error(int /*fd*/, ::msghdr* /*message*/) noexcept { return -EAGAIN; }
  /// What poll(2) has to say at once: 0, -EAGAIN, or -errno. An engine that finds out when an operation is started need
  /// not know before.
  virtual int poll(int /*fd*/, short /*events*/) noexcept { return -EAGAIN; }
};

/// The seam between the scheduler and the system: starts operations, finishes them, and can be woken. Knows nothing of
/// fibers or timers. Three peers implement it (uring.cpp, epoll.cpp, sim.cpp) with the same meaning; only what they
/// cost differs.
///
/// Every operation for which start() returned false is finished exactly once, by a wait() that puts it on `finished`,
/// cancelled or not; until then it stays at its address and the engine may touch its buffer. After that the engine has
/// forgotten it. If data and cancel() race, the data wins: a result other than -ECANCELED is the truth. A result of
/// -EAGAIN asks for the operation to be started once more: the wait is over, but nothing has been transferred yet.
class Engine {
 public:
  virtual ~Engine() = default;

  [[nodiscard]] virtual std::string_view name() const noexcept = 0;

  /// True: finished already, op.result is set and it will not show up in wait(). May try the system call, never blocks.
  [[nodiscard]] virtual bool start(Op& op) noexcept = 0;

  /// The same for an operation on files, of which any number may be under way on one descriptor. The engine that has no
  /// way to wait for it says so, and has done nothing; the caller then has a thread carry it out. By default that is
  /// the answer to all that may wait.
  [[nodiscard]] virtual FileStart start_file(FileOp& op) noexcept {
    if (read_from_memory(op)) return FileStart::done;
    if (!never_waits(op)) return FileStart::blocking;
    run_file_call(op);
    return FileStart::done;
  }
  /// Carries it out on this thread, which may block for it: for destructors, which can not wait.
  virtual void run_file_here(FileOp& op) noexcept { run_file_call(op); }

  /// Asks that a started, unfinished operation finish soon, with -ECANCELED unless something else happened first.
  virtual void cancel(Op& op) noexcept = 0;

  /// Hands what was started to the system, then gathers what is finished. Waits for something to be finished, for
  /// wake(), or for `until` to come, whichever is first; a time in the past is a poll. May return early with nothing.
  virtual void wait(TimePoint until, OpList& finished) noexcept = 0;

  /// Whether wait() could do anything at all: something is in flight, or finished and not yet gathered. When false the
  /// loop may skip a poll.
  [[nodiscard]] virtual bool has_work() const noexcept = 0;

  /// Whether anything in flight may yet finish by itself. False, with nothing else to wake the loop, is a deadlock.
  [[nodiscard]] virtual bool may_finish() const noexcept = 0;

  /// Ends the wait() under way, or the next one. Any thread, and signal handlers.
  virtual void wake() noexcept = 0;

  /// The descriptor is about to be closed; its operations have been cancelled (but perhaps not finished). Nothing that
  /// names it by number may reach the system afterwards.
  virtual void forget(int fd) noexcept = 0;

  /// In a forked child, where the engine is dead: closes the child's copies of its descriptors, and touches nothing
  /// else.
  virtual void close_in_forked_child() noexcept {}

  /// Whether data of the descriptor's that nobody has asked for yet is here already, or may be any moment.
  [[nodiscard]] virtual bool takes_ahead(int /*fd*/) noexcept { return false; }

  /// Tries a send, of which nothing may be under way on the descriptor, and has nothing to do with it afterwards.
  /// Returns as the system call, or -errno; -EAGAIN: it would have to wait.
  [[nodiscard]] virtual int send_now(const Op& op) noexcept;

  [[nodiscard]] virtual TimePoint now() const noexcept = 0;
  /// Whether now() is virtual: then slices are bounded by count alone, so that runs repeat exactly.
  [[nodiscard]] virtual bool virtual_time() const noexcept { return false; }

  [[nodiscard]] virtual SocketCalls& sockets() noexcept = 0;

  virtual void add_stats(LoopStats& stats) const noexcept = 0;
};

/// What an engine gets from the loop that owns it.
struct EngineContext {
  FdTable& descriptors;
  BufferPool& buffers;
  const RunOptions& options;
};

/// Makes the engine asked for by options, else by BIGHT_ENGINE, else the best there is, and logs which and why. Throws
/// EngineUnavailable.
[[nodiscard]] std::unique_ptr<Engine> make_engine(const EngineContext& context);

// The peers. uring returns null, with the reason in `why`, where the kernel does not offer what it needs.
[[nodiscard]] std::unique_ptr<Engine> make_uring_engine(const EngineContext& context, std::string& why);
[[nodiscard]] std::unique_ptr<Engine> make_epoll_engine(const EngineContext& context);
[[nodiscard]] std::unique_ptr<Engine> make_sim_engine(const EngineContext& context);

}  // namespace bight::detail
