// SPDX-License-Identifier: Apache-2.0
#pragma once

// A server and its clients in one loop, on the engine that BIGHT_ENGINE names.

#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/fiber.hpp>
#include <bight/http/server.hpp>
#include <bight/net/tcp.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/stop.hpp>

#include "on_loop.hpp"

namespace bight::http::testing {

using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace)

struct Reply {
  unsigned status = 0;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;

  /// The values of all lines of that name, with a comma between; "-" without any.
  [[nodiscard]] std::string header(std::string_view name) const {
    std::string found;
    bool any = false;
    for (const auto& [each, value] : headers) {
      if (!equal_names(each, name)) continue;
      found += (any ? ", " : "") + value;
      any = true;
    }
    return any ? found : "-";
  }
};

/// A client that sends any bytes, and reads answers strictly: what is not well-formed has status 0.
class Client {
 public:
  explicit Client(const net::Address& server) : stream_(net::connect(server)) { stream_.set_timeout(10s); }

  net::TcpStream& stream() { return stream_; }

  /// What it could not send because the server has closed is none of its business: the answer is.
  void send(std::string_view bytes) {
    std::error_code error;
    stream_.write_all(bytes, error);
  }
  void end() {
    std::error_code error;
    stream_.shutdown_write(error);
  }

  /// The next answer. Status 0: the connection ended first (then the body says how), or it is none.
  Reply read_reply(bool to_head = false) {
    std::size_t end = 0;
    while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
      if (!read_more()) return {0, {}, ended_};
    }
    Reply reply = parse_head(std::string_view(buffer_).substr(0, end + 2));
    buffer_.erase(0, end + 4);
    if (reply.status == 0) return reply;
    std::size_t length = 0;
    const std::string text = reply.header("content-length");
    std::from_chars(text.data(), text.data() + text.size(), length);
    if (to_head || reply.status < 200) return reply;
    while (buffer_.size() < length) {
      if (!read_more()) return {0, {}, ended_};
    }
    reply.body = buffer_.substr(0, length);
    buffer_.erase(0, length);
    return reply;
  }

  /// "end", or what error the connection ended with; "data" when more comes first.
  std::string read_end() { return !buffer_.empty() || read_more() ? "data: " + buffer_ : ended_; }

  Reply exchange(std::string_view bytes) {
    send(bytes);
    return read_reply();
  }

  /// What one read gives.
  std::string read_once() {
    std::array<std::byte, 64 * 1024> bytes;
    const std::size_t size = stream_.read(bytes);
    return {reinterpret_cast<const char*>(bytes.data()), size};
  }

 private:
  static Reply parse_head(std::string_view head) {
    Reply reply;
    constexpr std::string_view version = "HTTP/1.1 ";
    if (!head.starts_with(version) || head.size() < version.size() + 4 || head[version.size() + 3] != ' ') return {};
    std::from_chars(head.data() + version.size(), head.data() + version.size() + 3, reply.status);
    head.remove_prefix(head.find("\r\n") + 2);
    while (!head.empty()) {
      const std::string_view line = head.substr(0, head.find("\r\n"));
      const std::size_t colon = line.find(": ");
      if (colon == std::string_view::npos) return {};
      reply.headers.emplace_back(line.substr(0, colon), line.substr(colon + 2));
      head.remove_prefix(line.size() + 2);
    }
    return reply;
  }

  bool read_more() {
    std::error_code error;
    const Chunk chunk = stream_.read(error);
    buffer_ += chunk.text();
    if (chunk.empty()) ended_ = error ? error.message() : "end";
    return !chunk.empty();
  }

  net::TcpStream stream_;
  std::string buffer_;
  std::string ended_;
};

/// Runs `clients(address)` against a server in the same loop, then stops the server, and looks that nothing is left
/// of both. Returns what the server counted.
template <class Clients>
ServerStats with_server(const RunOptions& run_options, const Handler& handler, const ServerOptions& options,
                        Clients clients) {
  ServerStats stats;
  test::on_loop(run_options, [&] {
    net::TcpListener listener = net::TcpListener::bind("127.0.0.1:0");
    const net::Address address = listener.local_address();
    Scope scope;
    scope.spawn([&] { stats = serve(listener, handler, options); }).detach();
    clients(address);
    request_stop();
    scope.join();
    listener.close();
  });
  return stats;
}

template <class Clients>
ServerStats with_server(const Handler& handler, const ServerOptions& options, Clients clients) {
  return with_server(RunOptions{}, handler, options, clients);
}

template <class Clients>
ServerStats with_server(const Handler& handler, Clients clients) {
  return with_server(handler, ServerOptions{}, clients);
}

/// Answers with the request: its method and target, its body, its trailers.
inline Response describe(Request& request) {
  std::string text(request.method_name());
  text.append(" ").append(request.target()).append(" ").append(request.body());
  for (const Field field : request.trailers()) text.append(" ").append(field.name).append("=").append(field.value);
  return http::text(std::move(text));
}

inline Response hello(Request& /*request*/) { return text("Hello, World!"); }

}  // namespace bight::http::testing
