// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Serving by TLS.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <system_error>

#include <bight/net/serve_options.hpp>
#include <bight/net/tcp.hpp>
#include <bight/net/tls_context.hpp>
#include <bight/net/tls_stream.hpp>
#include <bight/time.hpp>

namespace bight::net {

struct TlsServeStats : ServeStats {
  std::uint64_t handshakes = 0;         ///< that were completed
  std::uint64_t resumed = 0;            ///< of these
  std::uint64_t handshakes_failed = 0;  ///< for whatever reason, those below included
  std::uint64_t timed_out = 0;
  std::uint64_t shed = 0;
  std::size_t handshaking = 0;  ///< under way now
};

struct TlsServeOptions {
  ServeOptions serve{};
  Duration handshake_timeout = TlsStream::kHandshakeTimeout;
  /// Handshakes under way at a time. When one more begins, the one that has waited longest is closed (and told to be
  /// TlsError::shed): those of honest clients take a fraction of a second, and who holds many open loses them first.
  std::size_t handshakes_max = 2000;
  /// Called when a handshake has failed, in the connection's fiber: failure() has the reason in words. Nothing else is
  /// said about it, as anybody can have one fail.
  std::function<void(const TlsStream& stream, std::error_code error)> on_handshake_failure{};
  TlsServeStats* stats = nullptr;  ///< counted in here, ServeStats' part at the end; outlives the call
};

/// serve() (tcp.hpp) with TLS: the handshake is done in the connection's fiber, so slow clients keep nobody waiting;
/// `handler` gets the stream when it has been done. When the handler returns without having ended the stream, the peer
/// is told that it is over (close_notify). A handler's error of the TLS category (truncated, alerts) ends that
/// connection alone, silently, as broken connections do.
TlsServeStats serve_tls(TcpListener& listener, const TlsContext& context, const std::function<void(TlsStream)>& handler,
                        const TlsServeOptions& options = {});
TlsServeStats serve_tls(TcpListener&& listener, const TlsContext& context,
                        const std::function<void(TlsStream)>& handler, const TlsServeOptions& options = {});

}  // namespace bight::net
