// SPDX-License-Identifier: Apache-2.0
#include <bight/http/server.hpp>

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
  detail::ServerState server(handler, options);
  const auto serve_one = [&server](net::TcpStream stream) {
    detail::Connection connection(server, std::move(stream));
    if (server.open <= server.options.connections_max) {
      connection.run();
    } else {
      ++server.stats.shed;
      connection.shed();
    }
  };
  net::ServeOptions how;
  how.connections_max = options.connections_max + kShedMax;
  how.drain = options.drain;
  how.stack_size = options.stack_size;
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
