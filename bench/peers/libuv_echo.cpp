// SPDX-License-Identifier: Apache-2.0

// An echo server on libuv, as fast as its interface allows: what was read is written at once, and only the rest of a
// write that found no room is kept.

#include <netinet/in.h>
#include <sys/socket.h>
#include <uv.h>

#include <array>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

#include "peer.hpp"

namespace bench::peers {
namespace {

void check(int result, const char* attempt) {
  if (result < 0) throw std::runtime_error(std::string(attempt) + ": " + uv_strerror(result));
}

struct Connection {
  uv_tcp_t handle{};
  uv_write_t write{};
  std::string rest;

  [[nodiscard]] uv_stream_t* stream() { return reinterpret_cast<uv_stream_t*>(&handle); }
};

Connection& connection_of(void* handle) { return *static_cast<Connection*>(static_cast<uv_handle_t*>(handle)->data); }

void close(Connection& connection) {
  auto* handle = reinterpret_cast<uv_handle_t*>(&connection.handle);
  if (uv_is_closing(handle) == 0) uv_close(handle, [](uv_handle_t* closed) { delete &connection_of(closed); });
}

// One buffer for all connections: whatever is in it has been dealt with when the callback returns.
void lend_buffer(uv_handle_t*, std::size_t, uv_buf_t* buffer) {
  static std::array<char, 64 * 1024> bytes;
  *buffer = uv_buf_init(bytes.data(), bytes.size());
}

void on_read(uv_stream_t* stream, ssize_t count, const uv_buf_t* buffer);

void write_later(Connection& connection, const char* bytes, std::size_t count) {
  uv_read_stop(connection.stream());
  connection.rest.assign(bytes, count);
  uv_buf_t rest = uv_buf_init(connection.rest.data(), static_cast<unsigned>(count));
  const auto written = [](uv_write_t* write, int status) {
    Connection& writer = connection_of(write->handle);
    if (status != 0 || uv_read_start(writer.stream(), lend_buffer, on_read) != 0) close(writer);
  };
  if (uv_write(&connection.write, connection.stream(), &rest, 1, written) != 0) close(connection);
}

void on_read(uv_stream_t* stream, ssize_t count, const uv_buf_t* buffer) {
  Connection& connection = connection_of(stream);
  if (count == 0) return;  // libuv's EAGAIN
  if (count < 0) return close(connection);
  const uv_buf_t received = uv_buf_init(buffer->base, static_cast<unsigned>(count));
  int sent = uv_try_write(stream, &received, 1);
  if (sent == count) return;
  if (sent == UV_EAGAIN) sent = 0;
  if (sent < 0) return close(connection);
  write_later(connection, buffer->base + sent, static_cast<std::size_t>(count - sent));
}

void on_connection(uv_stream_t* listener, int status) {
  if (status < 0) return;
  auto connection = std::make_unique<Connection>();
  if (uv_tcp_init(listener->loop, &connection->handle) != 0) return;
  Connection& accepted = *connection.release();  // from here on close() deletes it
  accepted.handle.data = &accepted;
  if (uv_accept(listener, accepted.stream()) != 0 || uv_read_start(accepted.stream(), lend_buffer, on_read) != 0) {
    close(accepted);
  }
}

void serve(std::uint16_t port) {
  uv_loop_t* loop = uv_default_loop();
  uv_tcp_t listener;
  check(uv_tcp_init(loop, &listener), "make a listener");
  sockaddr_in address{};
  check(uv_ip4_addr("127.0.0.1", port, &address), "the address");
  check(uv_tcp_bind(&listener, reinterpret_cast<const sockaddr*>(&address), 0), "bind");
  check(uv_tcp_nodelay(&listener, 1), "TCP_NODELAY");  // Linux hands it down to the connections
  check(uv_listen(reinterpret_cast<uv_stream_t*>(&listener), SOMAXCONN, on_connection), "listen");
  int length = sizeof address;
  check(uv_tcp_getsockname(&listener, reinterpret_cast<sockaddr*>(&address), &length), "getsockname");
  say_where(ntohs(address.sin_port));
  uv_run(loop, UV_RUN_DEFAULT);
}

}  // namespace
}  // namespace bench::peers

int main(int argc, char** argv) { return bench::peers::peer_main(argc, argv, bench::peers::serve); }
