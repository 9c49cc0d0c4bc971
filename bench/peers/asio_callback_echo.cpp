// SPDX-License-Identifier: Apache-2.0

// An echo server on Boost.Asio, with callbacks.

#include <array>
#include <cstdint>
#include <memory>
#include <utility>

#include <boost/asio.hpp>  // last: that of Boost 1.74 forgets to include <utility>

#include "peer.hpp"

namespace bench::peers {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

class Session : public std::enable_shared_from_this<Session> {
 public:
  explicit Session(tcp::socket socket) : socket_(std::move(socket)) {}

  void read() {
    socket_.async_read_some(asio::buffer(bytes_), [self = shared_from_this()](error_code error, std::size_t count) {
      if (!error) self->write(count);
    });
  }

 private:
  void write(std::size_t count) {
    asio::async_write(socket_, asio::buffer(bytes_, count), [self = shared_from_this()](error_code error, std::size_t) {
      if (!error) self->read();
    });
  }

  tcp::socket socket_;
  std::array<char, 16 * 1024> bytes_;
};

void accept(tcp::acceptor& acceptor) {
  acceptor.async_accept([&acceptor](error_code error, tcp::socket socket) {
    if (!error) std::make_shared<Session>(std::move(socket))->read();
    accept(acceptor);
  });
}

void serve(std::uint16_t port) {
  asio::io_context context(1);  // one thread
  tcp::acceptor acceptor(context, {asio::ip::address_v4::loopback(), port});
  acceptor.set_option(tcp::no_delay(true));  // Linux hands it down to the connections
  say_where(acceptor.local_endpoint().port());
  accept(acceptor);
  context.run();
}

}  // namespace
}  // namespace bench::peers

int main(int argc, char** argv) { return bench::peers::peer_main(argc, argv, bench::peers::serve); }
