// SPDX-License-Identifier: Apache-2.0
#include <bight/error.hpp>
#include <bight/net/tls_stream.hpp>

namespace bight::net {
namespace {

TlsStream over(TcpStream stream, std::string_view host, const TlsConnectOptions& options) {
  const std::string_view name = options.name.empty() ? host : std::string_view(options.name);
  TlsStream tls =
      TlsStream::client(std::move(stream), name, options.context ? *options.context : TlsContext::default_client());
  tls.set_handshake_timeout(options.handshake_timeout);
  return tls;
}

}  // namespace

TlsStream connect_tls(std::string_view host, const Service& service, const TlsConnectOptions& options) {
  TlsStream stream = over(connect(host, service, options.dial), host, options);
  stream.handshake();
  return stream;
}

TlsStream connect_tls(std::string_view host, const Service& service, const TlsConnectOptions& options,
                      std::error_code& error) {
  TcpStream below = connect(host, service, options.dial, error);
  if (error) return {};
  try {
    TlsStream stream = over(std::move(below), host, options);
    stream.handshake(error);
    if (!error) return stream;
  } catch (const std::bad_alloc&) {
    error = std::make_error_code(std::errc::not_enough_memory);
  } catch (const std::system_error& failure) {  // there is no default context
    error = failure.code();
  }
  return {};
}

}  // namespace bight::net
