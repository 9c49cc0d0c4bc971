// SPDX-License-Identifier: Apache-2.0
// A small HTTP server. Try it with `curl -i 127.0.0.1:8080` and `curl -d hi 127.0.0.1:8080/echo`.

#include <chrono>
#include <string>
#include <string_view>
#include <utility>

#include <bight/http/server.hpp>
#include <bight/net/tcp.hpp>

#include "options.hpp"

using namespace std::chrono_literals;
namespace net = bight::net;
namespace http = bight::http;

namespace {

http::Response only(std::string_view methods) {
  http::Response response = http::text("Method Not Allowed\n", 405);
  response.add_header("Allow", methods);
  return response;
}

http::Response answer(http::Request& request) {
  const http::Method method = request.method();

  if (request.path() == "/") {
    if (method != http::Method::get && method != http::Method::head) return only("GET, HEAD");
    return http::text("Hello, World!");
  }
  if (request.path() == "/echo") {
    if (method != http::Method::post) return only("POST");
    const std::string_view type = request.header("Content-Type");
    http::Response response;
    response.add_header("Content-Type", type.empty() ? "application/octet-stream" : type);
    response.set_body(std::string(request.body()));
    return response;
  }
  return http::text("Not Found\n", 404);
}

}  // namespace

int main(int argc, char** argv) {
  const auto options = example::parse_options(argc, argv, "http_hello",
                                              "Answers GET / with a greeting and POST /echo with its body.", 8080);

  return example::run_server(options, [](net::TcpListener listener) {
    // Until SIGTERM or SIGINT; then requests under way have so long to end.
    return http::serve(std::move(listener), answer, {.drain = 8s}).requests;
  });
}
