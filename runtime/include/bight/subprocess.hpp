// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Other programs, run as child processes. (For functions of this program see Process; for "run this and give me what
/// it says" see command.hpp, which is made of this.)
///
///     bight::Subprocess sort = bight::Subprocess::start({"sort", "-n"}, {.in = Redirect::pipe(), .out =
///     Redirect::pipe()}); sort.input().write_all(numbers); sort.input().close(); read_lines(sort.output()); if
///     (!sort.wait().success()) ...

#include <sys/resource.h>
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <bight/detail/wait_list.hpp>
#include <bight/exit_status.hpp>
#include <bight/stream.hpp>
#include <bight/time.hpp>

namespace bight {

namespace detail {
class SubprocessStart;
struct SubprocessState;
}  // namespace detail

/// Where a standard stream of a child goes, or comes from.
class Redirect {
 public:
  /// inherit(); in run_command() and its kin, pipe().
  Redirect() noexcept = default;
  /// What this process has.
  [[nodiscard]] static Redirect inherit() noexcept { return Redirect(Kind::inherit); }
  /// /dev/null.
  [[nodiscard]] static Redirect null() noexcept { return Redirect(Kind::null); }
  /// A pipe, whose other end is Subprocess::input(), output() or errors().
  [[nodiscard]] static Redirect pipe() noexcept { return Redirect(Kind::pipe); }
  /// A pseudo-terminal, the same one for all of the child's streams that say so; the other side is
  /// Subprocess::terminal(). The child gets a session of its own, whose controlling terminal that is (unless `group`
  /// says otherwise: then it has none).
  [[nodiscard]] static Redirect terminal() noexcept { return Redirect(Kind::terminal); }
  /// A descriptor of this process, which stays the caller's and is not touched.
  [[nodiscard]] static Redirect descriptor(int fd) noexcept { return Redirect(Kind::descriptor, fd); }
  /// A file, opened for reading; for writing from the start, made if there is none (mode 0666 less the umask); the
  /// same for writing behind what there is. Of a FIFO the opening waits for the other side, and can not be cancelled.
  [[nodiscard]] static Redirect read_file(std::string path);
  [[nodiscard]] static Redirect write_file(std::string path);
  [[nodiscard]] static Redirect append_file(std::string path);
  /// For standard error: wherever standard output goes (2>&1).
  [[nodiscard]] static Redirect to_output() noexcept { return Redirect(Kind::output); }

  /// Nothing was said.
  [[nodiscard]] bool is_default() const noexcept { return kind_ == Kind::automatic; }
  [[nodiscard]] bool is_terminal() const noexcept { return kind_ == Kind::terminal; }

 private:
  friend class detail::SubprocessStart;
  enum class Kind : unsigned char { automatic, inherit, null, pipe, terminal, descriptor, file, output };
  explicit Redirect(Kind kind, int number = 0) noexcept : kind_(kind), number_(number) {}

  Kind kind_ = Kind::automatic;
  int number_ = 0;  // the descriptor, or the flags for open(2)
  std::string path_{};
};

/// A descriptor of this process that the child gets besides the standard ones, under a number of its own.
struct PassedDescriptor {
  int fd;  ///< stays the caller's
  int as;  ///< the child's number for it: 3 or more, each at most once
};

/// A limit of setrlimit(2), RLIMIT_CPU and the like, for the child.
struct ResourceLimit {
  int resource;
  ::rlim_t soft;
  ::rlim_t hard;
};

/// Which processes get a signal together: see killpg(2), setsid(2).
enum class ProcessGroup : unsigned char {
  automatic,  ///< inherited; `session` with a terminal; in run_command() and its kin, `own`
  inherited,  ///< this process's: Ctrl-C at the terminal ends both
  own,        ///< a new one, to which terminate(), kill() and stop() then apply, so that they reach its children, too
  session,    ///< a new session, and with it a group
};

/// How a child is to be started. What is not said is inherited, descriptors excepted: of those the child has the
/// standard ones and what `pass` names, whatever else this process has open.
struct SubprocessOptions {
  std::string executable{};  ///< run instead of args[0], which the program then takes for its name
  std::string directory{};   ///< to work in; relative paths of programs count from there
  /// Instead of this process's environment: "NAME=value" each. To it, or to that, come the changes: set, then unset.
  std::optional<std::vector<std::string>> environment{};
  std::vector<std::pair<std::string, std::string>> set_environment{};
  std::vector<std::string> unset_environment{};
  Redirect in{};
  Redirect out{};
  Redirect err{};
  std::vector<PassedDescriptor> pass{};
  ProcessGroup group = ProcessGroup::automatic;
  unsigned short terminal_rows = 24;  ///< of the pseudo-terminal, if there is one
  unsigned short terminal_columns = 80;
  /// The child begins with the default action for every signal and with none blocked, whatever this process does with
  /// them. False: what is ignored here stays ignored (as nohup(1) wants it), what is blocked on this thread blocked.
  bool default_signals = true;
  /// A signal that the child gets when this process dies. Linux takes the *thread* for the parent: the child gets it as
  /// soon as the thread that started it, the loop's, has ended. A program that changes its identity does not get it.
  std::optional<int> death_signal{};
  std::optional<mode_t> umask{};
  std::vector<ResourceLimit> limits{};
  std::optional<uid_t> user{};
  std::optional<gid_t> group_id{};
  std::optional<std::vector<gid_t>> supplementary_groups{};

  [[nodiscard]] bool uses_terminal() const noexcept {
    return in.is_terminal() || out.is_terminal() || err.is_terminal();
  }
};

struct CommunicateOptions {
  Duration timeout = Duration::max();
  std::size_t output_max = 64 * 1024 * 1024;  ///< bytes kept of each stream; what comes after is read, and dropped
  /// How long output is still waited for when the process has ended, whether by itself or killed, and nothing comes,
  /// because processes that it left behind have the pipe open. Counted from the last that came.
  Duration linger = std::chrono::seconds(1);
};

/// What Subprocess::communicate has to tell.
struct Communication {
  std::optional<ExitStatus> status{};  ///< nothing: the time was up
  std::string out{};                   ///< what the process wrote to the pipes (or the terminal)
  std::string err{};
  std::size_t input_written = 0;  ///< how much of the input went into the pipe
  bool truncated = false;         ///< there was more than output_max
  bool left_open = false;         ///< somebody still has a pipe open; there might have been more
  [[nodiscard]] bool timed_out() const noexcept { return !status; }
};

/// A program that runs, or has run, as a child of this process.
///
/// Its arguments go to it as they are; no shell looks at them. It is started without a copy of this process, and none
/// of this process's code runs in it. Its end is seen by pidfd: SIGCHLD and other children do not matter, and signals
/// to it never hit another process that has got its number. If somebody else takes its exit status (SIGCHLD is ignored,
/// or someone waits for *any* child), Linux 6.15 still tells it; before that it is not ExitStatus::known().
///
/// Movable. Belongs to the loop it was started on, must not outlive it while a pipe is open, and is used by that loop's
/// fibers, of which any number may wait for the end. There is no zombie: who waits reaps it, and so does the
/// destructor, which does not wait: what still runs is killed, with its group if it has its own, and buried by a thread
/// that is there for that as long as it takes. While fibers wait for it it must not be destroyed: aborts with a
/// sentence. In a forked child the destructor does nothing.
///
/// Processes are started by threads of OffloadPool::shared(), for the kernel has the thread wait until the program is
/// loaded: 80 µs when a processor is free, milliseconds when none is. With a death_signal, the loop's thread does it.
///
/// In a simulated world there are no processes: std::errc::operation_not_supported.
class Subprocess {
 public:
  /// Starts args[0] with these arguments. A name without a slash is looked for in the PATH that the child will have.
  /// Throws std::system_error, which names the program and what could not be done: "start /no/such: No such file or
  /// directory", "start make: enter /no/dir: …"; and Cancelled, in a fiber that is cancelled before it is started.
  [[nodiscard]] static Subprocess start(const std::vector<std::string>& args, const SubprocessOptions& options = {});
  [[nodiscard]] static Subprocess start(const std::vector<std::string>& args, const SubprocessOptions& options,
                                        std::error_code& error);

  /// No process: only to be assigned to.
  Subprocess() noexcept;
  Subprocess(Subprocess&& other) noexcept;
  Subprocess& operator=(Subprocess&& other) noexcept;
  ~Subprocess();
  explicit operator bool() const noexcept { return state_ != nullptr; }

  [[nodiscard]] pid_t pid() const noexcept;
  /// args[0].
  [[nodiscard]] const std::string& name() const noexcept;
  /// Readable when it has ended, for epoll and the like. Stays this object's.
  [[nodiscard]] int pidfd() const noexcept;

  /// Our ends of what was redirected to a pipe, or to a terminal; not open if it was not. The child sees the end of its
  /// input when input() is closed.
  [[nodiscard]] Stream& input() const noexcept;
  [[nodiscard]] Stream& output() const noexcept;
  [[nodiscard]] Stream& errors() const noexcept;
  [[nodiscard]] Stream& terminal() const noexcept;

  /// Waits for its end; again, returns the same at once. Throws Cancelled if it has to wait (the process runs on), and
  /// std::system_error when there is no descriptor to wait with. Nobody reads its pipes meanwhile: see communicate().
  ExitStatus wait();
  ExitStatus wait(std::error_code& error);
  /// Nothing: it still runs. These leave it alone, too.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<ExitStatus> wait_for(const std::chrono::duration<Rep, Period>& limit) {
    return wait_by(detail::limit_from_now(detail::saturating_duration(limit)));
  }
  template <class C, class D>
  [[nodiscard]] std::optional<ExitStatus> wait_until(const std::chrono::time_point<C, D>& when) {
    return wait_by(detail::loop_time(when));
  }
  /// Does not wait.
  [[nodiscard]] std::optional<ExitStatus> try_wait() noexcept;

  /// Sends it a signal. False: it has ended. Throws std::system_error: no such signal, no right to (it has another
  /// user's identity now).
  bool send_signal(int number);
  bool send_signal(int number, std::error_code& error) noexcept;
  /// SIGTERM, SIGKILL: to it, and to its group if it has its own; to what it left behind in that, also when it has
  /// itself ended (for Linux before 6.9: unless that has been waited for). Whether there was anybody to get it.
  bool terminate() noexcept;
  bool kill() noexcept;
  /// terminate(), wait for `grace`, kill() what is left, wait. Cancelled while it waits: kills at once, and throws.
  /// Throws std::system_error when it may not be killed: it has another user's identity now.
  ExitStatus stop(Duration grace = std::chrono::seconds(5));

  /// Writes `input` and closes it, reads all there is from the pipes (or the terminal) as it comes, and waits for the
  /// end. For who has not used the pipes otherwise. A process that does not read all of its input is no error.
  ///
  /// When the time is up, or the fiber is cancelled (then Cancelled is thrown), the process runs on. What it has said
  /// until then is in the result, or, after a cancellation, in that of the next communicate(), which goes on where this
  /// one has stopped; give it the rest of the input, if there is one. Throws std::system_error if a pipe can not be
  /// read.
  Communication communicate(std::string_view input = {}, const CommunicateOptions& options = {});

  /// Lets it run on, without us: its pipes are closed on this side, and it is buried when it ends. Nothing is left in
  /// this object.
  void detach() noexcept;

 private:
  explicit Subprocess(std::unique_ptr<detail::SubprocessState> state) noexcept;
  [[nodiscard]] detail::SubprocessState& state() const noexcept;
  [[nodiscard]] std::optional<ExitStatus> wait_by(TimePoint when);
  void converse(std::string_view input, const CommunicateOptions& options, Communication& result);
  void finish() noexcept;

  std::unique_ptr<detail::SubprocessState> state_;
};

}  // namespace bight
