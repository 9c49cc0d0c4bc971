// SPDX-License-Identifier: Apache-2.0
#include <bight/http/server.hpp>

#include <algorithm>
#include <cstdint>
#include <utility>

#include <bight/check.hpp>

#include "connection.hpp"

namespace bight::http {
namespace {

// Connections beyond the limit that are being told so, at a time. Those beyond that wait to be accepted.
constexpr std::size_t kShedMax = 64;

template <class Listener>
ServerStats run_server(Listener&& listener, const Handler& handler, const ServerOptions& options) {
  constexpr std::size_t sane = std::size_t{1} << 30;
  BIGHT_CHECK(options.limits.target_bytes_max < sane && options.limits.header_bytes_max < sane,
              "a head of a gigabyte is no limit; the parser counts on less");
  constexpr std::uint64_t all_max = UINT32_MAX - (1U << 20U);  // beside this, a request has a few bytes, and what was
                                                               // read with it
  const std::uint64_t heads = options.limits.target_bytes_max + options.limits.header_bytes_max;
  BIGHT_CHECK(options.limits.body_bytes_max <= all_max - heads,
              "places in a request are 32 bits wide, so its limits must add up to less than 4 GiB");
  detail::ServerState server(handler, options);
  const auto serve_one = [&server](net::TcpStream stream) {
    detail::Connection connection(server, std::move(stream));
    if (server.admitted < server.options.connections_max) {
      connection.run();
    } else {
      ++server.stats.shed;
      connection.shed();
    }
  };
  net::ServeOptions how;
  how.connections_max = options.connections_max + std::min(kShedMax, SIZE_MAX - options.connections_max);
  how.drain = options.drain;
  how.stack_size = options.stack_size;
  how.connection_is_request = false;
  how.on_drain = [&server] { server.stop(); };
  server.stats.connections = net::serve(std::forward<Listener>(listener), serve_one, how).accepted;
  return server.stats;
}

}  // namespace

ServerStats serve(net::TcpListener& listener, const Handler& handler, const ServerOptions& options) {
  return run_server(listener, handler, options);
}

ServerStats serve(net::TcpListener&& listener, const Handler& handler, const ServerOptions& options) {
  return run_server(std::move(listener), handler, options);
}

}  // namespace bight::http
