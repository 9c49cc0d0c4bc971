// SPDX-License-Identifier: Apache-2.0
// The server for dns_bight and dns_cares: prints its port, then answers until it is killed.

#include "dns_server.hpp"

#include <cstdio>
#include <exception>
#include <string_view>

int main(int argc, char** argv) try {
  bench::NameServer server(0);
  std::printf("%u\n", static_cast<unsigned>(server.port()));
  std::fflush(stdout);
  if (argc > 1 && std::string_view(argv[1]) == "--smoke") return 0;
  server.serve(false);
} catch (const std::exception& error) {
  std::fprintf(stderr, "dns_server: %s\n", error.what());
  return 1;
}
