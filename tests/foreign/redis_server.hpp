// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <bight/fd.hpp>

namespace bight::test {

/// A port of 127.0.0.1 that nobody listens on at the moment.
inline std::uint16_t free_port() {
  const Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ::sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ::socklen_t size = sizeof address;
  if (::bind(socket.get(), reinterpret_cast<const ::sockaddr*>(&address), size) != 0) return 0;
  if (::getsockname(socket.get(), reinterpret_cast<::sockaddr*>(&address), &size) != 0) return 0;
  return ntohs(address.sin_port);
}

/// Whether one can connect there. (That there is a path is not enough: it comes before listen.)
inline bool listens(const std::string& path) {
  const Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ::sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return ::connect(socket.get(), reinterpret_cast<const ::sockaddr*>(&address), sizeof address) == 0;
}

/// A Redis of our own on a Unix socket in a folder of its own.
class RedisServer {
 public:
  explicit RedisServer(std::vector<std::string> more_arguments = {}) : more_(std::move(more_arguments)) {
    if (::mkdtemp(folder_.data()) != nullptr) start();
  }
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;
  ~RedisServer() {
    stop();
    ::rmdir(folder_.data());
  }

  [[nodiscard]] bool runs() const noexcept { return pid_ != 0; }
  [[nodiscard]] std::string path() const { return folder_.data() + std::string("/socket"); }
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }

  /// Blocks the thread until it can be connected to.
  void start() {
    // Debian's redis-tools has the server's program, under another name; it goes by the one it is called by.
    std::vector<std::string> words{"redis-server", "--port", "0",     "--unixsocket", path(),      "--save",   "",
                                   "--appendonly", "no",     "--dir", folder_.data(), "--logfile", "/dev/null"};
    words.insert(words.end(), more_.begin(), more_.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    for (const char* program : {"/usr/bin/redis-server", "/usr/bin/redis-check-rdb"}) {
      if (::access(program, X_OK) != 0) continue;
      if (::posix_spawn(&pid_, program, nullptr, nullptr, argv.data(), environ) == 0) break;
      pid_ = 0;
    }
    for (int i = 0; pid_ != 0 && !listens(path()) && i < 2000; ++i) ::poll(nullptr, 0, 5);
  }
  void stop() noexcept {
    if (pid_ != 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    pid_ = 0;
    ::unlink(path().c_str());
  }

 private:
  std::array<char, 32> folder_{"/tmp/bight-redis-XXXXXX"};
  std::vector<std::string> more_;
  pid_t pid_ = 0;
};

}  // namespace bight::test
