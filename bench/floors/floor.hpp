// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the two floor programs share: the command line, what they answer, how they end, and a check of themselves.

#include "../common/arguments.hpp"
#include "../common/sockets.hpp"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <functional>
#include <iostream>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

namespace bench::floors {

enum class Mode { echo, http };

// This machine cannot run the server at all. A test that meets it was skipped, not failed; Meson knows that by the
// code.
struct Unavailable : std::runtime_error {
  using std::runtime_error::runtime_error;
};
constexpr int kSkipped = 77;

struct Options {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;
  Mode mode = Mode::echo;
  bool smoke = false;
  bool help = false;
};

inline Mode parse_mode(std::string_view name) {
  if (name == "echo") return Mode::echo;
  if (name == "http") return Mode::http;
  throw UsageError("--mode is echo or http, not '" + std::string(name) + "'");
}

inline Options parse_options(int argc, char** argv) {
  Options options;
  Arguments arguments(argc, argv);
  while (arguments.next()) {
    if (arguments.is("--host")) {
      options.host = arguments.value();
    } else if (arguments.is("--port")) {
      options.port = arguments.number<std::uint16_t>(0, 65535);
    } else if (arguments.is("--mode")) {
      options.mode = parse_mode(arguments.value());
    } else if (arguments.is("--smoke")) {
      options.smoke = true;
    } else if (arguments.is("--help") || arguments.is("-h")) {
      options.help = true;
    } else {
      arguments.unknown();
    }
  }
  return options;
}

// SIGTERM and SIGINT as a descriptor that becomes readable: nothing to check per turn, and no moment at which a signal
// comes too late for the check and too early for the wait.
class StopSignals {
 public:
  StopSignals() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    ::sigprocmask(SIG_BLOCK, &signals, nullptr);
    descriptor_ = Descriptor(::signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC));
    if (descriptor_.get() < 0) fail("signalfd");
  }

  [[nodiscard]] int fd() const { return descriptor_.get(); }

  // Takes the signal, so that the same process may serve again.
  void take() const {
    signalfd_siginfo info;
    [[maybe_unused]] const ssize_t size = ::read(fd(), &info, sizeof info);
  }

 private:
  Descriptor descriptor_;
};

// Counts the blank lines that end requests, also those cut in two by a read.
class BlankLines {
 public:
  std::uint32_t count(std::span<const char> bytes) {
    const char* at = bytes.data();
    const char* const end = at + bytes.size();
    std::uint32_t found = 0;
    while (at != end && matched_ > 0) found += step(*at++);
    // The fourth byte tells how far the next blank line is at least, so most bytes are never looked at.
    while (end - at >= 4) {
      if (at[3] == '\n') {
        const bool is_blank = std::memcmp(at, "\r\n\r\n", 4) == 0;
        found += is_blank;
        at += is_blank ? 4 : 2;
      } else {
        at += at[3] == '\r' ? 1 : 4;
      }
    }
    while (at != end) found += step(*at++);
    return found;
  }

 private:
  bool step(char byte) {
    const char wanted = (matched_ & 1) != 0 ? '\n' : '\r';
    if (byte == wanted) {
      matched_ = (matched_ + 1) & 3;
      return matched_ == 0;
    }
    matched_ = byte == '\r' ? 1 : 0;
    return false;
  }

  std::uint8_t matched_ = 0;  // bytes of "\r\n\r\n" at the end of what was seen
};

// The same HTTP answer many times in a row: any number of owed answers, from the middle of one on, is one send without
// a copy. What a connection is owed is therefore just a number of bytes.
class Answers {
 public:
  Answers() { refresh(std::time(nullptr)); }

  // To be called every turn. A new date may meet the second half of an answer whose first half is sent: no harm is
  // known.
  void refresh(std::time_t time) {
    if (time == time_) return;
    time_ = time;
    char date[32];
    tm parts{};
    ::gmtime_r(&time_, &parts);
    std::strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    const std::string answer = "HTTP/1.1 200 OK\r\nServer: floor\r\nDate: " + std::string(date) +
                               "\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";
    size_ = answer.size();
    block_.resize(size_ * kCount);  // the size never changes, so pointers into the block stay good
    for (std::size_t i = 0; i < kCount; ++i) std::memcpy(&block_[i * size_], answer.data(), size_);
  }

  // Bytes of one answer.
  [[nodiscard]] std::uint64_t size() const { return size_; }

  // The next bytes to send when `owed` are owed: all of them, or as many as are at hand.
  [[nodiscard]] std::span<const char> next(std::uint64_t owed) const {
    const std::uint64_t start = (size_ - owed % size_) % size_;
    return {block_.data() + start, std::min<std::uint64_t>(owed, block_.size() - start)};
  }

 private:
  static constexpr std::size_t kCount = 512;

  std::time_t time_ = 0;
  std::size_t size_ = 0;
  std::vector<char> block_;
};

// Bytes of an echo that a socket did not take at once. What is being sent stays where it is while more comes.
struct Rest {
  std::vector<char> bytes;
  std::size_t sent = 0;
  std::vector<char> later;

  [[nodiscard]] std::span<const char> pending() const { return std::span<const char>(bytes).subspan(sent); }

  // False when nothing is left.
  bool advance(std::size_t count) {
    sent += count;
    if (sent < bytes.size()) return true;
    bytes = std::exchange(later, {});
    sent = 0;
    return !bytes.empty();
  }
};

// Serves until a stop signal; how many messages it answered.
using Serve = std::function<std::uint64_t(const Options&, Descriptor listener, StopSignals&)>;

inline void announce(const Descriptor& listener) {
  std::printf("listening on %s\n", Endpoint::local_of(listener.get()).text().c_str());
  std::fflush(stdout);
}

inline void serve(const Options& options, StopSignals& signals, const Serve& server) {
  Descriptor listener = listen_on(Endpoint::of(options.host, options.port));
  announce(listener);
  const std::uint64_t served = server(options, std::move(listener), signals);
  std::printf("served %llu\n", static_cast<unsigned long long>(served));
}

inline std::string exchange(const Endpoint& server, std::string_view question, std::size_t answer_size) {
  const Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(socket.get(), server.raw(), Endpoint::raw_size()) != 0) fail("connect to " + server.text());
  // In two halves, so that the second one finds the server between two reads.
  const std::size_t half = question.size() / 2;
  for (const std::string_view part : {question.substr(0, half), question.substr(half)}) {
    if (::send(socket.get(), part.data(), part.size(), MSG_NOSIGNAL) < 0) fail("send to " + server.text());
    ::usleep(2000);
  }
  std::string answer(answer_size, '\0');
  const ssize_t size = ::recv(socket.get(), answer.data(), answer.size(), MSG_WAITALL);
  answer.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
  return answer;
}

// The child's part of --smoke: talks to the parent's server, ends it, and returns whether the answers were right.
inline bool is_answered(Mode mode, const Endpoint& server) {
  if (mode == Mode::echo) return exchange(server, "over and over", 13) == "over and over";
  const std::size_t size = Answers().size();
  const std::string answer = exchange(server, "GET / HTTP/1.1\r\nHost: floor\r\n\r\nGET / HTTP/1.1\r\n\r\n", 2 * size);
  return answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nHello, World!") &&
         answer.size() == 2 * size;
}

inline bool smoke(const Options& options, StopSignals& signals, const Serve& server) {
  Descriptor listener = listen_on(Endpoint::of("127.0.0.1", 0));
  const Endpoint endpoint = Endpoint::local_of(listener.get());
  announce(listener);
  const pid_t child = ::fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const bool is_right = is_answered(options.mode, endpoint);
    ::kill(::getppid(), SIGTERM);
    ::_exit(is_right ? 0 : 1);
  }
  const std::uint64_t served = server(options, std::move(listener), signals);
  int status = 0;
  ::waitpid(child, &status, 0);
  return served > 0 && status == 0;
}

inline int smoke_all(Options options, StopSignals& signals, const Serve& server) {
  for (const Mode mode : {Mode::echo, Mode::http}) {
    options.mode = mode;
    if (smoke(options, signals, server)) continue;
    std::cerr << "smoke: wrong answer in mode " << (mode == Mode::echo ? "echo" : "http") << '\n';
    return 1;
  }
  return 0;
}

inline int floor_main(int argc, char** argv, const char* help, const Serve& server) {
  bool is_smoke = false;
  try {
    const Options options = parse_options(argc, argv);
    if (options.help) {
      std::fputs(help, stdout);
      return 0;
    }
    is_smoke = options.smoke;
    allow_many_descriptors();
    StopSignals signals;
    if (is_smoke) return smoke_all(options, signals, server);
    serve(options, signals, server);
    return 0;
  } catch (const UsageError& error) {
    std::cerr << argv[0] << ": " << error.what() << "; see --help\n";
    return 2;
  } catch (const Unavailable& error) {
    std::cerr << argv[0] << ": " << error.what() << '\n';
    return is_smoke ? kSkipped : 1;
  } catch (const std::exception& error) {
    std::cerr << argv[0] << ": " << error.what() << '\n';
    return 1;
  }
}

}  // namespace bench::floors
