// SPDX-License-Identifier: Apache-2.0
#include "transport.hpp"

#include <bight/net/dial.hpp>
#include <bight/net/unix.hpp>

namespace redis {

namespace net = bight::net;

std::unique_ptr<Transport> connect(const Endpoint& endpoint, bight::Duration timeout) {
  if (!endpoint.unix_path.empty()) {
    return transport_over(net::UnixStream::connect(net::UnixAddress::path(endpoint.unix_path), timeout));
  }
  net::DialOptions options;
  options.timeout = timeout;
  net::TcpStream stream = net::connect(endpoint.host, endpoint.port, options);
  stream.set_keepalive({});
  return transport_over(std::move(stream));
}

}  // namespace redis
