// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace bench::load {

enum class Engine { automatic, uring, epoll };

struct Options {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;

  // echo
  std::uint32_t conns = 64;
  std::uint64_t size = 64;  // bytes
  std::uint32_t depth = 1;
  double seconds = 3;
  double warmup = 0.3;  // seconds
  double rate = 0;      // messages per second; 0: as many as come back

  // other modes
  bool connect = false;
  bool reset = false;
  std::uint32_t idle = 0;
  bool echo_once = false;

  bool tls = false;
  bool resume = false;

  Engine engine = Engine::automatic;
  bool steps = false;
  bool json = false;
  bool smoke = false;
  bool help = false;
};

// Throws UsageError.
Options parse_options(int argc, char** argv);

const char* help_text();

}  // namespace bench::load
