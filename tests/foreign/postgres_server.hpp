// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

namespace bight::test {

/// A PostgreSQL of our own: a cluster in a folder of its own, on a Unix socket there and nowhere else. Blocks the
/// thread while it starts, for a minute at most. It refuses to be root, so root has it run as somebody else.
class PostgresServer {
 public:
  PostgresServer() {
    programs_ = find_programs();
    if (programs_.empty()) {
      why_not_ = "no PostgreSQL server here (Debian: postgresql)";
      return;
    }
    if (::mkdtemp(folder_.data()) == nullptr || !become_somebody()) return;
    const std::string data = folder() + "/data";
    const pid_t initdb = spawn(
        {programs_ + "/initdb", "-D", data, "-U", "bight", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8"});
    if (initdb == 0 || !ends_well(initdb)) {
      why_not_ = "initdb failed";
      return;
    }
    pid_ = spawn({programs_ + "/postgres", "-D", data, "-k", folder(), "-c", "listen_addresses=", "-c", "fsync=off",
                  "-c", "max_connections=100", "-c", "shared_buffers=16MB"});
    const std::string socket = folder() + "/.s.PGSQL.5432";
    for (int i = 0; pid_ != 0 && ::access(socket.c_str(), F_OK) != 0; ++i) {
      if (i == kPatience) why_not_ = "the server does not start";
      if (i == kPatience) return;
      ::poll(nullptr, 0, kPause);
    }
  }
  PostgresServer(const PostgresServer&) = delete;
  PostgresServer& operator=(const PostgresServer&) = delete;
  ~PostgresServer() {
    if (pid_ != 0) {
      ::kill(pid_, SIGQUIT);  // at once
      if (!ends_well(pid_)) ::kill(pid_, SIGKILL);
    }
    std::error_code ignored;
    std::filesystem::remove_all(folder(), ignored);
  }

  /// Null: it runs.
  [[nodiscard]] const char* why_not() const noexcept { return why_not_; }
  [[nodiscard]] std::string folder() const { return folder_.data(); }
  [[nodiscard]] std::string info() const { return "host=" + folder() + " user=bight dbname=postgres"; }

 private:
  static constexpr int kPause = 10;
  static constexpr int kPatience = 6000;

  static std::string find_programs() {
    std::vector<std::string> found;
    std::error_code none;
    for (const auto& each : std::filesystem::directory_iterator("/usr/lib/postgresql", none)) {
      const std::string folder = each.path() / "bin";
      if (::access((folder + "/initdb").c_str(), X_OK) == 0) found.push_back(folder);
    }
    return found.empty() ? "" : *std::max_element(found.begin(), found.end());
  }

  bool become_somebody() {
    if (::geteuid() != 0) return true;
    const ::passwd* user = ::getpwnam("postgres");     // NOLINT(concurrency-mt-unsafe)
    if (user == nullptr) user = ::getpwnam("nobody");  // NOLINT(concurrency-mt-unsafe)
    if (user == nullptr || ::chown(folder_.data(), user->pw_uid, user->pw_gid) != 0) {
      why_not_ = "nobody to run PostgreSQL as";
      return false;
    }
    as_ = {"--reuid", std::to_string(user->pw_uid), "--regid", std::to_string(user->pw_gid), "--clear-groups"};
    return true;
  }

  /// It goes when this thread does, whatever happens.
  pid_t spawn(const std::vector<std::string>& command) {
    std::vector<std::string> words{"setpriv", "--pdeathsig", "QUIT"};
    words.insert(words.end(), as_.begin(), as_.end());
    words.insert(words.end(), command.begin(), command.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    ::posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
      ::posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_WRONLY, 0);
    }
    pid_t pid = 0;
    if (::posix_spawnp(&pid, "setpriv", &actions, nullptr, argv.data(), environ) != 0) pid = 0;
    ::posix_spawn_file_actions_destroy(&actions);
    return pid;
  }

  static bool ends_well(pid_t pid) {
    int status = -1;
    for (int i = 0; ::waitpid(pid, &status, WNOHANG) == 0; ++i) {
      if (i == kPatience) return false;
      ::poll(nullptr, 0, kPause);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

  std::array<char, 32> folder_{"/tmp/bight-postgres-XXXXXX"};
  std::string programs_;
  std::vector<std::string> as_;
  const char* why_not_ = nullptr;
  pid_t pid_ = 0;
};

}  // namespace bight::test
