// SPDX-License-Identifier: Apache-2.0

// A program that uses files, pipes, signals, other programs and processes, and says of each step how it went. For
// workload_faults.py, which has system calls fail beneath it.
//
//     faults_workload SCENARIO FOLDER [--cold | --traced] [--forbid CALL=ERROR]
//
// It does everything twice, first undisturbed (not with --cold; with --traced a child may have been), then with the
// named system call failing every time, here and in each child. The second time lies between two calls of getpgid(2),
// for strace to be counted by. Then no descriptor and no child may be left, every error must say what was attempted and
// why it failed, and nobody may have waited in vain: after 30 s it kills itself. Exit status 0: so it was; 1: it was
// not; 77: there are no filters here.

#include <fcntl.h>
#include <poll.h>
#ifdef BIGHT_HAVE_SECCOMP
#include <seccomp.h>
#endif
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <bight/command.hpp>
#include <bight/connection.hpp>
#include <bight/copy.hpp>
#include <bight/deadline.hpp>
#include <bight/directory.hpp>
#include <bight/fd_watch.hpp>
#include <bight/file.hpp>
#include <bight/file_watch.hpp>
#include <bight/filesystem.hpp>
#include <bight/manager.hpp>
#include <bight/process.hpp>
#include <bight/process_event.hpp>
#include <bight/process_lock.hpp>
#include <bight/process_pool.hpp>
#include <bight/process_queue.hpp>
#include <bight/process_semaphore.hpp>
#include <bight/run.hpp>
#include <bight/shards.hpp>
#include <bight/shared_memory.hpp>
#include <bight/signal.hpp>
#include <bight/stop.hpp>
#include <bight/stream.hpp>
#include <bight/subprocess.hpp>
#include <bight/temporary.hpp>
#include <bight/time.hpp>

namespace {

using namespace std::chrono_literals;
namespace fs = bight::fs;

constexpr unsigned kPatience = 30;  // seconds

std::atomic<int> failures{0};
std::atomic<int> complaints{0};

void complain(const std::string& what) {
  ++complaints;
  std::fprintf(stderr, "COMPLAINT: %s\n", what.c_str());
}

/// "open /x/y: No such file or directory": something was attempted, and the reason stands behind it.
void judge(const char* step, const std::system_error& error) {
  const std::string text = error.what();
  const std::string reason = error.code().message();
  const auto at = text.find(reason);
  if (at == std::string::npos || at < 3) complain(std::string(step) + " says only '" + text + "'");
}

void step(const char* name, const std::function<void()>& body) {
  std::string how = "ok";
  try {
    body();
  } catch (const bight::Cancelled&) {
    complain(std::string(name) + " was cancelled by nobody");
    throw;
  } catch (const std::system_error& error) {
    judge(name, error);
    how = error.what();
  } catch (const std::bad_alloc&) {
    how = "out of memory";
  } catch (const std::runtime_error& error) {
    how = error.what();
    if (how.size() < 5) complain(std::string(name) + " says only '" + how + "'");
  }
  if (how != "ok") ++failures;
  std::printf("%s: %s\n", name, how.c_str());
}

void expect(bool condition, const char* what) {
  if (!condition) complain(what);
}

// --- Scenarios -------------------------------------------------------------------------------------------------------

std::string folder;  // an empty one, which somebody removes afterwards

void files() {
  const std::string path = folder + "/file";
  step("create", [&] {
    bight::File file = bight::File::create(path);
    step("write", [&] { file.write_all("one\ntwo\nthree\n"); });
    step("sync", [&] { file.sync(); });
    step("data_sync", [&] { file.data_sync(); });
    step("allocate", [&] { file.allocate(0, 8192); });
    step("truncate", [&] { file.truncate(14); });
    step("seek", [&] { file.seek(0); });
    step("lock", [&] { const std::lock_guard guard(file); });
    step("status", [&] { expect(file.status().size <= 8192, "a file's size"); });
    step("set_mode", [&] { file.set_mode(0600); });
    step("close", [&] { file.close(); });
  });
  step("read lines", [&] {
    bight::File file = bight::File::open(path);
    std::array<std::byte, 100> buffer{};
    file.read_at(buffer, 0);
    file.read(buffer);
  });
  step("write_file", [&] { fs::write_file(path, "something"); });
  step("read_file", [&] { expect(fs::read_file(path).size() <= 14, "a file's content"); });
  step("write_file_atomically", [&] { fs::write_file_atomically(path, "something else"); });
  step("copy_file", [&] { fs::copy_file(path, folder + "/copy"); });
  step("copy through a pipe", [&] {
    bight::File from = bight::File::open(path);
    bight::File to = bight::File::create(folder + "/through");
    auto [reader, writer] = bight::make_pipe();
    bight::copy_data(from, writer);
    writer.close();
    bight::copy_data(reader, to);
  });
  step("set_times", [&] { fs::set_times(path, bight::FileTime{}, bight::FileTime{}); });
}

void names() {
  const std::string place = folder + "/names";
  step("create_directories", [&] { fs::create_directories(place + "/a/b"); });
  step("rename", [&] {
    fs::write_file(place + "/one", "1");
    fs::rename(place + "/one", place + "/two");
  });
  step("symlink", [&] {
    fs::create_symlink("two", place + "/link");
    expect(fs::read_symlink(place + "/link") == "two", "a link's target");
  });
  step("hard link", [&] { fs::create_hard_link(place + "/two", place + "/three"); });
  step("exists", [&] { static_cast<void>(fs::exists(place + "/two")); });
  step("list", [&] { expect(fs::list_directory(place).size() <= 5, "a directory's names"); });
  step("walk", [&] {
    for (const auto& entry : bight::fs::Walker(place)) static_cast<void>(entry);
  });
  step("temporary directory", [&] { const fs::TemporaryDirectory made("bight-faults-", folder); });
  step("temporary file", [&] { const fs::TemporaryFile made("bight-faults-", folder); });
  step("remove_all", [&] { fs::remove_all(place); });
}

void watches() {
  step("watch", [&] {
    bight::FileWatch watch;
    watch.add(folder, {.recursive = true});
    fs::write_file(folder + "/seen", "x");
    bight::with_timeout(5s, [&] { static_cast<void>(watch.next()); });
    fs::remove(folder + "/seen");
  });
  step("pipe", [&] {
    auto [reader, writer] = bight::make_pipe();
    writer.write_all("x\n");
    std::array<std::byte, 10> buffer{};
    expect(reader.read(buffer) == 2, "a pipe's bytes");
  });
  step("foreign descriptor", [&] {
    const bight::Fd bell(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
    if (bell) bight::wait_readable(bell.get());
  });
}

void signals() {
  step("signals", [&] {
    bight::Signals subscribed({SIGUSR1});
    ::kill(::getpid(), SIGUSR1);
    expect(subscribed.receive_for(5s).has_value(), "a signal is lost");
  });
  step("scope", [&] {
    const auto came = bight::with_signals({SIGUSR2}, [&] {
      ::kill(::getpid(), SIGUSR2);
      bight::sleep_for(5s);
    });
    expect(came == SIGUSR2, "a scope's signal is lost");
  });
}

void commands() {
  step("run_command", [&] {
    const auto result = bight::run_command({"/bin/cat"}, {.input = "hello"});
    expect(!result.success() || result.out == "hello", "a command's output");
  });
  step("search", [&] { static_cast<void>(bight::check_output({"true"})); });
  step("no such program", [&] {
    std::error_code error;
    static_cast<void>(bight::Subprocess::start({"/no/such/program"}, {}, error));
    expect(static_cast<bool>(error), "a program that does not exist was started");
  });
  step("redirects", [&] {
    bight::SubprocessOptions options;
    options.in = bight::Redirect::null();
    options.out = bight::Redirect::write_file(folder + "/said");
    options.err = bight::Redirect::to_output();
    options.directory = folder;
    options.group = bight::ProcessGroup::own;
    bight::Subprocess::start({"/bin/echo", "hello"}, options).wait();
  });
  step("terminal", [&] {
    bight::SubprocessOptions options;
    options.in = options.out = options.err = bight::Redirect::terminal();
    auto process = bight::Subprocess::start({"/bin/true"}, options);
    static_cast<void>(process.communicate());
  });
  step("kill", [&] {
    auto process = bight::Subprocess::start({"/bin/sleep", "3"});
    process.stop(10ms);
  });
  step("drop", [&] { static_cast<void>(bight::Subprocess::start({"/bin/sleep", "3"})); });
}

int square(int x) { return x * x; }

void processes() {
  step("process", [&] {
    bight::Process child([] { return 3; });
    child.join();
    const auto code = child.exit_code();
    expect(!code || *code == 3 || *code < 0 || *code == 1, "a process's exit code");
  });
  step("terminated process",
       [&] { bight::Process child({.daemon = true, .patience = 100ms}, [] { bight::sleep_for(3s); }); });
  step("connection", [&] {
    auto [near, far] = bight::make_connection_pair();
    bight::Process child([&, &far = far, &near = near] {
      near.close();
      while (const auto bytes = far.receive_bytes()) far.send_bytes(*bytes);
    });
    far.close();
    near.send(41);
    expect(near.receive<int>().value_or(41) == 41, "a connection's answer");
    near.send(std::string(200'000, 'x'));
    static_cast<void>(near.receive_bytes());
    near.close();
    child.join();
  });
  step("pool", [&] {
    bight::ProcessPool pool({.workers = 2});
    expect(pool.apply(square, 7) == 49, "a pool's result");
    expect(pool.map(std::vector<int>{1, 2, 3}, square).size() == 3, "a pool's results");
  });
  step("manager", [&] {
    bight::Manager manager;
    auto dict = manager.dict<std::string, int>("numbers");
    dict.set("one", 1);
    expect(dict.get("one") == 1, "a manager's value");
  });
}

void shared() {
  step("memory", [&] { static_cast<void>(bight::SharedArray<int>(1000)); });
  step("lock", [&] {
    bight::ProcessLock lock;
    const std::lock_guard guard(lock);
    bight::Process child([&] { static_cast<void>(lock.try_lock_for(10ms)); });
    child.join();
  });
  step("semaphore", [&] {
    bight::ProcessSemaphore semaphore(1);
    semaphore.acquire();
    expect(!semaphore.try_acquire_for(10ms), "a permit from nowhere");
    semaphore.release();
  });
  step("event", [&] {
    bight::ProcessEvent event;
    bight::Process child([&] { event.set(); });
    static_cast<void>(event.wait_for(200ms));
    child.join();
  });
  step("queue", [&] {
    bight::ProcessQueue<int> queue(4);
    bight::Process child([&] {
      queue.put(1);
      queue.close();
    });
    while (queue.get_for(200ms)) queue.task_done();
    child.join();
  });
}

void shards() {
  bight::ShardOptions options;
  options.count = 2;
  options.boots_max = 3;
  options.back_off = 1ms;
  options.ready_timeout = 2s;
  options.pid_file = folder + "/pid";
  options.status_socket = folder + "/status";
  options.on_ready = [&] { ::kill(::getpid(), SIGTERM); };
  step("shards", [&] { bight::run_shards(options, [](bight::Shard&) { bight::wait_for_stop(); }); });
}

// --- The order of things ---------------------------------------------------------------------------------------------

struct Scenario {
  void (*body)();
  bool in_loop = true;
};

const std::map<std::string_view, Scenario> kScenarios{
    {"files", {files}},       {"names", {names}},         {"watches", {watches}}, {"signals", {signals}},
    {"commands", {commands}}, {"processes", {processes}}, {"shared", {shared}},   {"shards", {shards, false}},
};

void play(const Scenario& scenario) {
  if (!scenario.in_loop) return scenario.body();
  step("run", [&] { bight::run(scenario.body); });
}

/// Without opening a folder, which may be what fails.
int open_descriptors() {
  int count = 0;
  for (int fd = 0; fd < 1024; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0) ++count;
  }
  return count;
}

void pause() { ::poll(nullptr, 0, 1); }

/// Those that nobody waits for a thread reaps, in a moment.
bool any_child() {
  for (const auto end = bight::now() + 10s; bight::now() < end; pause()) {
    siginfo_t info{};
    if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0) return false;
  }
  return true;
}

void forbid(const std::string& call, int error) {
#ifdef BIGHT_HAVE_SECCOMP
  scmp_filter_ctx filter = ::seccomp_init(SCMP_ACT_ALLOW);
  const int number = ::seccomp_syscall_resolve_name(call.c_str());
  if (number == __NR_SCMP_ERROR) throw std::invalid_argument("no such system call: " + call);
  const bool done = filter != nullptr && ::seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1) == 0 &&
                    ::seccomp_rule_add(filter, SCMP_ACT_ERRNO(static_cast<unsigned>(error)), number, 0) == 0 &&
                    ::seccomp_load(filter) == 0;
  ::seccomp_release(filter);
  if (!done) std::_Exit(77);
#else
  static_cast<void>(call);
  static_cast<void>(error);
  std::_Exit(77);
#endif
}

int play_twice(const Scenario& scenario, bool cold, bool traced, const std::string& call, int error) {
  ::setvbuf(stdout, nullptr, _IOLBF, 0);
  if (!cold) {
    play(scenario);
    // What reaps those that nobody waits for stays, once it was needed.
    step("bury", [&] {
      if (scenario.in_loop) bight::run([] { bight::Subprocess::start({"/bin/sleep", "0.05"}).detach(); });
    });
  }
  expect(traced || failures == 0, "something failed though nothing was to");
  static_cast<void>(any_child());
  ::alarm(kPatience);
  const int before = open_descriptors();
  std::puts("--");
  std::fflush(stdout);
  ::getpgid(0);
  if (!call.empty()) forbid(call, error);
  play(scenario);
  ::getpgid(0);
  if (any_child()) complain("a child is left");
  int after = open_descriptors();  // the thread that has reaped the last one may be about to close something
  for (const auto end = bight::now() + 5s; !cold && after > before && bight::now() < end; pause()) {
    after = open_descriptors();
  }
  if (!cold && after > before) complain(std::to_string(after - before) + " descriptors are left open");
  std::fflush(stdout);
  return complaints == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) try {
  bool cold = false;
  bool traced = false;
  std::string call;
  int error = 0;
  const auto scenario = kScenarios.find(argc > 1 ? argv[1] : "");
  if (scenario == kScenarios.end() || argc < 3) throw std::invalid_argument("which scenario, and in which folder?");
  folder = argv[2];
  for (int i = 3; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--cold") {
      cold = true;
    } else if (word == "--traced") {
      traced = true;
    } else if (word == "--forbid" && i + 1 < argc) {
      const std::string what = argv[++i];
      call = what.substr(0, what.find('='));
      error = std::stoi(what.substr(call.size() + 1));
    } else {
      throw std::invalid_argument("unknown option " + std::string(word));
    }
  }
  return play_twice(scenario->second, cold, traced, call, error);
} catch (const std::exception& failure) {
  std::fprintf(stderr, "faults_workload: %s\n", failure.what());
  return 2;
}
