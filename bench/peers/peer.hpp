// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the peer servers in C++ share: `--port P`, the line that says where they listen, and how they fail. None of them
// handles signals: SIGTERM ends them.

#include <cstdint>
#include <cstdio>
#include <exception>

#include "../common/arguments.hpp"
#include "../common/sockets.hpp"

namespace bench::peers {

// 0 picks a free one.
inline std::uint16_t parse_port(int argc, char** argv) {
  std::uint16_t port = 0;
  Arguments arguments(argc, argv);
  while (arguments.next()) {
    if (!arguments.is("--port")) arguments.unknown();
    port = arguments.number<std::uint16_t>(0, 65535);
  }
  return port;
}

inline void say_where(std::uint16_t port) {
  std::printf("listening on 127.0.0.1:%u\n", static_cast<unsigned>(port));
  std::fflush(stdout);
}

inline int peer_main(int argc, char** argv, void (*serve)(std::uint16_t port)) try {
  allow_many_descriptors();
  serve(parse_port(argc, argv));
  return 0;
} catch (const UsageError& error) {
  std::fprintf(stderr, "%s: %s\nusage: %s [--port P]\n", argv[0], error.what(), argv[0]);
  return 2;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s: %s\n", argv[0], error.what());
  return 1;
}

}  // namespace bench::peers
