// SPDX-License-Identifier: Apache-2.0
#include <bight/check.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/net/tls_serve.hpp>

#include "tls/shedding.hpp"

namespace bight::net {
namespace {

/// One serve_tls() under way.
class TlsServer {
 public:
  TlsServer(const TlsContext& context, const std::function<void(TlsStream)>& handler, const TlsServeOptions& options)
      : context_(context),
        handler_(handler),
        options_(options),
        stats_(options.stats != nullptr ? *options.stats : own_stats_),
        handshakes_(options.handshakes_max) {
    BIGHT_CHECK(context.shared() != nullptr && context.is_server(), "serve_tls takes a server's TlsContext");
    BIGHT_CHECK(options.handshakes_max > 0, "a server that may do no handshake can not serve");
  }

  template <class Listener>
  TlsServeStats run(Listener&& listener) {
    const auto serve_one = [this](TcpStream stream) { handle(std::move(stream)); };
    static_cast<ServeStats&>(stats_) = serve(std::forward<Listener>(listener), serve_one, options_.serve);
    return stats_;
  }

 private:
  void handle(TcpStream connection) {
    TlsStream stream = TlsStream::server(std::move(connection), context_);
    stream.set_handshake_timeout(options_.handshake_timeout);
    if (!shake_hands(stream)) return;
    try {
      handler_(std::move(stream));
    } catch (const std::system_error& error) {
      // What a peer can bring about, and many do: to serve() it is one of the ways in which connections break.
      if (error.code().category() != tls_category()) throw;
      throw std::system_error(std::make_error_code(std::errc::connection_aborted), error.what());
    }
  }

  bool shake_hands(TlsStream& stream) {
    std::error_code error;
    {
      const detail::Handshake place(handshakes_, stream);
      stats_.handshaking = handshakes_.count();
      stream.handshake(error);
    }
    stats_.handshaking = handshakes_.count();
    if (error == std::errc::operation_canceled) throw Cancelled{};
    if (!error) {
      ++stats_.handshakes;
      if (stream.info().resumed) ++stats_.resumed;
      return true;
    }
    ++stats_.handshakes_failed;
    if (error == TlsError::handshake_timeout) ++stats_.timed_out;
    if (error == TlsError::shed) ++stats_.shed;
    if (options_.on_handshake_failure) options_.on_handshake_failure(stream, error);
    return false;
  }

  const TlsContext context_;
  const std::function<void(TlsStream)>& handler_;
  const TlsServeOptions& options_;
  TlsServeStats own_stats_;
  TlsServeStats& stats_;
  detail::Handshakes handshakes_;
};

}  // namespace

TlsServeStats serve_tls(TcpListener& listener, const TlsContext& context, const std::function<void(TlsStream)>& handler,
                        const TlsServeOptions& options) {
  return TlsServer(context, handler, options).run(listener);
}

TlsServeStats serve_tls(TcpListener&& listener, const TlsContext& context,
                        const std::function<void(TlsStream)>& handler, const TlsServeOptions& options) {
  return TlsServer(context, handler, options).run(std::move(listener));
}

}  // namespace bight::net
