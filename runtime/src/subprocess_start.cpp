// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>

#include <bight/error.hpp>
#include <bight/offload.hpp>

#include "fork_guard.hpp"
#include "loop.hpp"
#include "spawn_process.hpp"
#include "subprocess_state.hpp"

namespace bight {

Redirect Redirect::read_file(std::string path) {
  Redirect made(Kind::file, O_RDONLY);
  made.path_ = std::move(path);
  return made;
}

Redirect Redirect::write_file(std::string path) {
  Redirect made(Kind::file, O_WRONLY | O_CREAT | O_TRUNC);
  made.path_ = std::move(path);
  return made;
}

Redirect Redirect::append_file(std::string path) {
  Redirect made(Kind::file, O_WRONLY | O_CREAT | O_APPEND);
  made.path_ = std::move(path);
  return made;
}

namespace detail {
namespace {

/// Where programs are when no PATH says so: confstr(3), _CS_PATH.
constexpr std::string_view kStandardPath = "/bin:/usr/bin";

bool holds_nul(std::string_view text) noexcept { return text.find('\0') != std::string_view::npos; }

bool is_open(int fd) noexcept { return ::fcntl(fd, F_GETFD) >= 0; }

/// Whether exec(2) would let it through. In a program that was started without standard streams their numbers may be
/// anything's.
bool is_inherited(int fd) noexcept {
  const int flags = ::fcntl(fd, F_GETFD);
  return flags >= 0 && (flags & FD_CLOEXEC) == 0;
}

}  // namespace

/// Everything that has to be there before a child is made, so that nothing is left to go wrong once it is.
class SubprocessStart {
 public:
  SubprocessStart(const std::vector<std::string>& args, const SubprocessOptions& options)
      : args_(args), options_(options), state_(std::make_unique<SubprocessState>()) {}

  [[nodiscard]] std::unique_ptr<SubprocessState> run();
  [[nodiscard]] std::error_code error() const noexcept { return {error_, std::generic_category()}; }
  [[nodiscard]] std::string what() const;

 private:
  using Kind = Redirect::Kind;

  [[nodiscard]] bool fail(int error, std::string at = {}) {
    error_ = error;
    at_ = std::move(at);
    return false;
  }
  [[nodiscard]] bool check();
  [[nodiscard]] bool make_environment();
  [[nodiscard]] std::string_view variable(std::string_view name) const noexcept;
  [[nodiscard]] bool find_program();
  [[nodiscard]] bool redirect_all();
  [[nodiscard]] bool redirect(const Redirect& where, int to, Stream& ours);
  [[nodiscard]] bool open_file(const std::string& path, int flags, int to);
  [[nodiscard]] bool make_pipe(int to, Stream& ours);
  [[nodiscard]] bool make_terminal();
  [[nodiscard]] bool pass_descriptors();
  [[nodiscard]] std::optional<SpawnOutcome> perform(const ProcessPlan& plan);
  [[nodiscard]] bool spawn();
  void give(Fd end, int to) {
    moves_.push_back({end.get(), to});
    ends_.push_back(std::move(end));
  }
  [[nodiscard]] std::string place_of(SpawnStage stage) const;

  const std::vector<std::string>& args_;
  const SubprocessOptions& options_;
  std::unique_ptr<SubprocessState> state_;
  std::vector<std::string> environment_;
  std::string path_;
  std::vector<Fd> ends_;  // the child's
  std::vector<DescriptorMove> moves_;
  Fd terminal_;  // the child's side of it
  int terminal_number_ = ProcessPlan::kNoTerminal;
  int error_ = 0;
  std::string at_;
};

std::string SubprocessStart::what() const {
  std::string text = "start ";
  text += args_.empty() ? "a process" : args_.front().c_str();  // up to a null character
  if (!at_.empty()) text += ": " + at_;
  return text;
}

std::unique_ptr<SubprocessState> SubprocessStart::run() {
  if (check() && make_environment() && find_program() && redirect_all() && pass_descriptors() && spawn()) {
    return std::move(state_);
  }
  return nullptr;
}

bool SubprocessStart::check() {
  if (Loop::require().engine_is_virtual()) return fail(EOPNOTSUPP, "there are no processes in a simulated world");
  if (args_.empty()) return fail(EINVAL, "no arguments are given, not even its name");
  if (std::any_of(args_.begin(), args_.end(), holds_nul)) return fail(EINVAL, "an argument has a null character in it");
  state_->name = args_.front();
  state_->forks = forks_so_far();
  return true;
}

bool SubprocessStart::make_environment() {
  if (options_.environment) {
    environment_ = *options_.environment;
  } else {
    for (char** each = ::environ; each != nullptr && *each != nullptr; ++each) environment_.emplace_back(*each);
  }
  const auto remove = [this](std::string_view name) {
    std::erase_if(environment_, [name](const std::string& each) {
      return each.size() > name.size() && each[name.size()] == '=' && each.starts_with(name);
    });
  };
  for (const auto& [name, value] : options_.set_environment) {
    if (name.empty() || name.find('=') != std::string::npos) return fail(EINVAL, "set the variable '" + name + "'");
    remove(name);
    environment_.push_back(name + "=" + value);
  }
  for (const std::string& name : options_.unset_environment) remove(name);
  const bool broken = std::any_of(environment_.begin(), environment_.end(), holds_nul);
  return broken ? fail(EINVAL, "its environment has a null character in it") : true;
}

std::string_view SubprocessStart::variable(std::string_view name) const noexcept {
  for (const std::string_view each : environment_) {
    if (each.size() > name.size() && each[name.size()] == '=' && each.starts_with(name)) {
      return each.substr(name.size() + 1);
    }
  }
  return {};
}

bool SubprocessStart::find_program() {
  const std::string& program = options_.executable.empty() ? args_.front() : options_.executable;
  if (program.empty()) return fail(ENOENT);
  path_ = program;
  if (program.find('/') != std::string::npos) return true;
  std::string_view folders = variable("PATH");
  if (folders.empty()) folders = kStandardPath;
  int error = ENOENT;
  for (bool more = true; more;) {
    const std::size_t end = std::min(folders.find(':'), folders.size());
    std::string candidate(folders.substr(0, end));
    more = end < folders.size();
    folders.remove_prefix(more ? end + 1 : end);
    if (!candidate.starts_with('/') && !options_.directory.empty()) {
      candidate = options_.directory + (candidate.empty() ? "" : "/") + candidate;
    }
    candidate += (candidate.empty() ? "./" : "/") + program;
    struct ::stat status {};
    if (::stat(candidate.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    if (::faccessat(AT_FDCWD, candidate.c_str(), X_OK, AT_EACCESS) == 0) {
      path_ = std::move(candidate);
      // The child looks from its own directory.
      if (!path_.starts_with('/') && !options_.directory.empty()) path_.erase(0, options_.directory.size() + 1);
      if (path_.find('/') == std::string::npos) path_ = "./" + path_;
      return true;
    }
    error = EACCES;
  }
  return fail(error);
}

// --- Descriptors -----------------------------------------------------------------------------------------------------

bool SubprocessStart::redirect_all() {
  return redirect(options_.in, STDIN_FILENO, state_->input) && redirect(options_.out, STDOUT_FILENO, state_->output) &&
         redirect(options_.err, STDERR_FILENO, state_->errors);
}

bool SubprocessStart::redirect(const Redirect& where, int to, Stream& ours) {
  switch (where.kind_) {
    case Kind::automatic:
    case Kind::inherit:
      if (is_inherited(to)) moves_.push_back({to, to});
      return true;
    case Kind::null: return open_file("/dev/null", O_RDWR, to);
    case Kind::pipe: return make_pipe(to, ours);
    case Kind::terminal:
      if (!terminal_ && !make_terminal()) return false;
      if (to == STDIN_FILENO) state_->input_is_terminal = true;
      if (terminal_number_ < 0) terminal_number_ = to;
      moves_.push_back({terminal_.get(), to});
      return true;
    case Kind::descriptor:
      if (!is_open(where.number_)) return fail(EBADF, "descriptor " + std::to_string(where.number_));
      moves_.push_back({where.number_, to});
      return true;
    case Kind::file: return open_file(where.path_, where.number_, to);
    case Kind::output: {
      if (to != STDERR_FILENO) return fail(EINVAL, "only standard error can go where standard output goes");
      const auto out = std::find_if(moves_.begin(), moves_.end(), [](const auto& each) { return each.to == 1; });
      if (out != moves_.end()) moves_.push_back({out->from, to});
      return true;
    }
  }
  return true;
}

bool SubprocessStart::open_file(const std::string& path, int flags, int to) {
  if (holds_nul(path)) return fail(EINVAL, "open a file whose name has a null character in it");
  constexpr mode_t kMode = 0666;
  int error = 0;
  const auto open = [&] {
    Fd opened(::open(path.c_str(), flags | O_CLOEXEC | O_NOCTTY, kMode));
    if (!opened) error = errno;
    return opened;
  };
  Fd opened;
  try {
    // A device is there at once; a file may be on a server that does not answer, a FIFO wait for the other side.
    opened = path == "/dev/null" ? open() : offload(open);
  } catch (const Cancelled&) {
    return fail(ECANCELED);
  } catch (const std::system_error& no_thread) {
    return fail(no_thread.code().value(), "open " + path);
  }
  if (!opened) return fail(error, "open " + path);
  give(std::move(opened), to);
  return true;
}

bool SubprocessStart::make_pipe(int to, Stream& ours) {
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return fail(errno, "make a pipe");
  Fd reader(pipe[0]);
  Fd writer(pipe[1]);
  if (to == STDIN_FILENO) reader.swap(writer);  // from now on: we read, the child writes; but for its input
  std::error_code error;
  ours = Stream::adopt(std::move(reader), error);
  if (error) return fail(error.value(), "make a pipe");
  give(std::move(writer), to);
  return true;
}

bool SubprocessStart::make_terminal() {
  Fd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!master || ::grantpt(master.get()) != 0 || ::unlockpt(master.get()) != 0) return fail(errno, "make a terminal");
  ::winsize size{};
  size.ws_row = options_.terminal_rows;
  size.ws_col = options_.terminal_columns;
  terminal_ = Fd(::ioctl(master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!terminal_ || ::ioctl(terminal_.get(), TIOCSWINSZ, &size) != 0) return fail(errno, "make a terminal");
  std::error_code error;
  state_->terminal = Stream::adopt(std::move(master), error);
  return error ? fail(error.value(), "make a terminal") : true;
}

bool SubprocessStart::pass_descriptors() {
  for (const PassedDescriptor& each : options_.pass) {
    const std::string number = std::to_string(each.as);
    if (each.as <= STDERR_FILENO) return fail(EINVAL, "pass a descriptor as " + number + ", a standard one");
    if (!is_open(each.fd)) return fail(EBADF, "descriptor " + std::to_string(each.fd));
    moves_.push_back({each.fd, each.as});
  }
  std::sort(moves_.begin(), moves_.end(), [](const auto& a, const auto& b) { return a.to < b.to; });
  const auto twice =
      std::adjacent_find(moves_.begin(), moves_.end(), [](const auto& a, const auto& b) { return a.to == b.to; });
  return twice == moves_.end() ? true : fail(EINVAL, "pass two descriptors as number " + std::to_string(twice->to));
}

// --- The end of it ---------------------------------------------------------------------------------------------------

std::string SubprocessStart::place_of(SpawnStage stage) const {
  switch (stage) {
    case SpawnStage::clone: return "make a process";
    case SpawnStage::group: return "make its process group";
    case SpawnStage::descriptors: return "pass its descriptors";
    case SpawnStage::directory: return "enter " + options_.directory;
    case SpawnStage::limits: return "limit its resources";
    case SpawnStage::identity: return "change its user or group";
    case SpawnStage::terminal: return "give it a controlling terminal";
    case SpawnStage::parent: return "tie it to its parent";
    case SpawnStage::exec: break;
  }
  return path_ == args_.front() ? "" : path_;
}

std::vector<char*> pointers_to(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (const std::string& each : texts) pointers.push_back(const_cast<char*>(each.c_str()));  // NOLINT: as exec has it
  pointers.push_back(nullptr);
  return pointers;
}

/// By another thread: it stands still meanwhile, for long where processors are scarce. Even for a loop with nothing
/// else to do that is faster (measured: half the time on a busy machine), for then it does not compete with the child
/// when that has just begun. But a death signal comes when the very thread ends, which therefore has to be one that
/// lasts.
std::optional<SpawnOutcome> SubprocessStart::perform(const ProcessPlan& plan) {
  if (plan.death_signal != 0) return spawn_process(plan);
  try {
    return offload([&] { return spawn_process(plan); });
  } catch (const Cancelled&) {
    error_ = ECANCELED;
    return std::nullopt;
  } catch (const std::system_error&) {  // there is no thread to be had
    return spawn_process(plan);
  }
}

bool SubprocessStart::spawn() {
  const std::vector<char*> arguments = pointers_to(args_);
  const std::vector<char*> environment = pointers_to(environment_);
  std::vector<LimitChange> limits;
  for (const ResourceLimit& each : options_.limits) limits.push_back({each.resource, {each.soft, each.hard}});
  ProcessPlan plan;
  plan.path = path_.c_str();
  plan.arguments = arguments.data();
  plan.environment = environment.data();
  if (!options_.directory.empty()) plan.directory = options_.directory.c_str();
  plan.moves = moves_.data();
  plan.move_count = moves_.size();
  const bool session = options_.group == ProcessGroup::session ||
                       (options_.group == ProcessGroup::automatic && static_cast<bool>(terminal_));
  if (session) {
    plan.group = ProcessPlan::Group::session;
    plan.terminal = terminal_number_;
  } else if (options_.group == ProcessGroup::own) {
    plan.group = ProcessPlan::Group::own;
  }
  plan.default_signals = options_.default_signals;
  sigset_t mask;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  std::memcpy(&plan.mask, &mask, sizeof plan.mask);
  if (options_.umask) plan.umask = *options_.umask;
  plan.limits = limits.data();
  plan.limit_count = limits.size();
  const gid_t none = 0;
  if (options_.supplementary_groups) {
    plan.group_count = options_.supplementary_groups->size();
    plan.groups = plan.group_count > 0 ? options_.supplementary_groups->data() : &none;
  }
  if (options_.group_id) plan.group_id = *options_.group_id;
  if (options_.user) plan.user_id = *options_.user;
  plan.death_signal = options_.death_signal.value_or(0);
  std::optional<SpawnOutcome> outcome = perform(plan);
  if (!outcome) return false;
  if (outcome->error != 0) return fail(outcome->error, place_of(outcome->stage));
  state_->pid = outcome->pid;
  state_->own_group = plan.group != ProcessPlan::Group::inherited;
  state_->pidfd = keep_child(outcome->pid, std::move(outcome->pidfd));
  return true;
}

std::unique_ptr<SubprocessState> start_subprocess(const std::vector<std::string>& args,
                                                  const SubprocessOptions& options, std::error_code& error,
                                                  std::string* what) {
  SubprocessStart start(args, options);
  std::unique_ptr<SubprocessState> state = start.run();
  error = start.error();
  if (state == nullptr && what != nullptr) *what = start.what();
  return state;
}

}  // namespace detail
}  // namespace bight
