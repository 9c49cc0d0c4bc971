// SPDX-License-Identifier: Apache-2.0
#pragma once

/// An HTTP/1.1 server: strict about what it reads, bounded in everything, one fiber per connection.
///
///     http::serve(net::TcpListener::bind("0.0.0.0:8080"), [](http::Request&) { return http::text("Hello, World!"); });

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include <bight/http/message.hpp>
#include <bight/net/tcp.hpp>
#include <bight/time.hpp>

namespace bight::http {

/// How much of everything a request may have. What is beyond is answered with the status named, and the connection
/// closes.
struct Limits {
  std::size_t target_bytes_max = 8 * 1024;                 ///< 414
  std::size_t header_bytes_max = 16 * 1024;                ///< header lines and trailers together; 431
  std::size_t header_count_max = 100;                      ///< header lines and trailers together; 431
  std::size_t body_bytes_max = 1024 * 1024;                ///< 413; with target and headers less than 4 GiB
  std::size_t chunk_extension_bytes_max = 256;             ///< of one chunk; 400
  std::size_t chunk_extension_bytes_total_max = 8 * 1024;  ///< of one request; 400
};

/// Times of zero mean: without limit; but for linger_timeout and drain.
struct ServerOptions {
  Limits limits{};

  Duration idle_timeout = std::chrono::seconds(30);    ///< until the first byte of a request comes
  Duration header_timeout = std::chrono::seconds(10);  ///< from there to the end of the headers, in all; 408
  Duration body_timeout = std::chrono::seconds(60);    ///< from there to the end of the body, in all; 408
  Duration write_timeout = std::chrono::seconds(30);   ///< without any progress in sending

  std::size_t connections_max = 100'000;  ///< at a time; more are answered with 503 and closed
  std::uint64_t requests_per_connection_max = 1'000'000;
  std::size_t pipeline_bytes_max = 64 * 1024;  ///< answers to pipelined requests, gathered before they are sent off

  /// A connection that is closed while its client still sends may take the answer with it. So the server ends its side,
  /// and reads and forgets what comes, until the client ends, but for no longer and no more than this. Zero: it closes
  /// at once.
  Duration linger_timeout = std::chrono::seconds(2);
  std::size_t linger_bytes_max = 64 * 1024 * 1024;

  Duration drain = std::chrono::seconds(10);  ///< from the stop request to the cancelling of what still runs; zero: at
                                              ///< once
  /// A client may send a request on an idle connection at the very moment the server closes it, and loses it. So a
  /// shard that retires while others go on (a reload, say) waits so long for one more request, whose answer then says
  /// `Connection: close`; at most `drain`. Zero: idle connections are closed at once. In any other stop they are, too,
  /// for there is nobody to go to.
  Duration keep_alive_grace = std::chrono::seconds(5);
  std::size_t stack_size = 0;         ///< of the connections' fibers; 0: the loop's default
  std::string server_name = "bight";  ///< the Server header; empty: none
};

struct ServerStats {
  std::uint64_t connections = 0;  ///< accepted
  std::uint64_t shed = 0;         ///< of those, turned away with 503
  std::uint64_t requests = 0;     ///< given to the handler
  std::uint64_t refused = 0;      ///< answered with an error by the server itself
  std::uint64_t failed = 0;       ///< whose handler threw
};

/// Answers a request. Runs in the connection's fiber and may wait; requests of one connection come one after the other.
/// An exception (other than Cancelled) is answered with 500 and reported like a detached fiber's, and ends the
/// connection.
using Handler = std::function<Response(Request&)>;

/// Serves every connection that comes, until a stop is requested (stop.hpp), the listener is closed, accepting fails
/// for good, or the caller is cancelled. Unless the caller is cancelled, which ends everything at once, requests that
/// have begun are read to their end and answered then, with `Connection: close`, and get `drain` for that; idle
/// connections are closed, those that have not asked for anything yet after half a second, those of a shard that
/// retires after keep_alive_grace.
///
/// Answers to pipelined requests that arrived together leave in one write, in order. A request that breaks the rules of
/// RFC 9112 or a limit is answered with an error (400, 408, 413, 414, 417, 431, 501, 505) and ends the connection, for
/// what follows it can not be trusted to be a request.
///
/// A request in absolute-form ("GET http://example.com/ HTTP/1.1") is to have a Host of the same name, in whatever
/// case, and the same port, which may be left out where it is the scheme's own; nothing is decoded for that. It is
/// served whatever host it names, as with Host alone, and https is taken as it comes: what is ours is for the handler
/// to say.
///
/// A listener that is handed over is closed at the stop, when those whom the system has let in already have been
/// accepted, so that later clients are refused rather than left waiting.
ServerStats serve(net::TcpListener& listener, const Handler& handler, const ServerOptions& options = {});
ServerStats serve(net::TcpListener&& listener, const Handler& handler, const ServerOptions& options = {});

}  // namespace bight::http
