// SPDX-License-Identifier: Apache-2.0

// An echo server on Boost.Asio, with a stackful coroutine for each connection.

#include <array>
#include <cstdint>
#include <utility>

#include <boost/asio.hpp>  // last: that of Boost 1.74 forgets to include <utility>
#include <boost/asio/spawn.hpp>
#include <boost/version.hpp>

#include "peer.hpp"

namespace bench::peers {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

template <class Body>
void start(asio::io_context& context, Body body) {
#if BOOST_VERSION >= 108000
  asio::spawn(context, std::move(body), asio::detached);
#else
  asio::spawn(context, std::move(body));
#endif
}

void echo(tcp::socket& socket, const asio::yield_context& yield) {
  std::array<char, 16 * 1024> bytes;
  error_code error;
  for (;;) {
    const std::size_t count = socket.async_read_some(asio::buffer(bytes), yield[error]);
    if (error) return;
    asio::async_write(socket, asio::buffer(bytes, count), yield[error]);
    if (error) return;
  }
}

void serve(std::uint16_t port) {
  asio::io_context context(1);  // one thread
  tcp::acceptor acceptor(context, {asio::ip::address_v4::loopback(), port});
  acceptor.set_option(tcp::no_delay(true));  // Linux hands it down to the connections
  say_where(acceptor.local_endpoint().port());
  start(context, [&](asio::yield_context yield) {
    for (;;) {
      error_code error;
      tcp::socket socket(context);
      acceptor.async_accept(socket, yield[error]);
      if (error) continue;
      start(context, [socket = std::move(socket)](asio::yield_context each) mutable { echo(socket, each); });
    }
  });
  context.run();
}

}  // namespace
}  // namespace bench::peers

int main(int argc, char** argv) { return bench::peers::peer_main(argc, argv, bench::peers::serve); }
