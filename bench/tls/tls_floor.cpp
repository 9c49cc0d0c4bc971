// SPDX-License-Identifier: Apache-2.0
// The cheapest TLS echo server on epoll and OpenSSL we know how to write: what every layer above has to be compared
// with.
//
// Level-triggered, one SSL_read and one SSL_write per message: edge-triggered, only a further recv(2) that finds
// nothing tells that the socket is drained, for SSL_read does not say whether its own was short. OpenSSL reads ahead,
// or each record would take two recv(2), one of five bytes.

#include "../common/arguments.hpp"
#include "../floors/floor.hpp"
#include "openssl.hpp"

#include <memory>

#include <sys/epoll.h>

namespace bench::tls {
namespace {

constexpr const char* kHelp = R"(usage: tls_floor --cert F --key F [options]

A bare single-threaded TLS echo server on epoll and OpenSSL: the floor that TLS servers are compared with.

  --cert F     its certificate and chain, PEM
  --key F      its key, PEM
  --host H     IPv4 address to listen on (127.0.0.1)
  --port P     port; 0 picks a free one (0)
  --tickets N  session tickets per full handshake (2, as OpenSSL does)
  --release    give OpenSSL's buffers back while they are empty: less memory for more CPU time
  --help       this text

Prints 'listening on ADDRESS:PORT' when ready; on SIGTERM or SIGINT prints 'served N' and ends.
)";

struct Options {
  std::string certificate, key;
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;
  unsigned tickets = 2;
  bool release = false;
  bool help = false;
};

Options parse_options(int argc, char** argv) {
  Options options;
  Arguments arguments(argc, argv);
  while (arguments.next()) {
    if (arguments.is("--cert")) {
      options.certificate = arguments.value();
    } else if (arguments.is("--key")) {
      options.key = arguments.value();
    } else if (arguments.is("--host")) {
      options.host = arguments.value();
    } else if (arguments.is("--port")) {
      options.port = arguments.number<std::uint16_t>(0, 65535);
    } else if (arguments.is("--tickets")) {
      options.tickets = arguments.number<unsigned>(0, 16);
    } else if (arguments.is("--release")) {
      options.release = true;
    } else if (arguments.is("--help") || arguments.is("-h")) {
      options.help = true;
    } else {
      arguments.unknown();
    }
  }
  if (!options.help && (options.certificate.empty() || options.key.empty())) {
    throw UsageError("--cert and --key are missing");
  }
  return options;
}

struct Connection {
  Ssl ssl;
  std::vector<char> rest;  // of an echo; while there is some, nothing is read
  std::size_t sent = 0;    // of the rest
  std::uint32_t watched = EPOLLIN;
  bool established = false;
};

class TlsFloor {
 public:
  TlsFloor(Context context, Descriptor listener, const floors::StopSignals& signals)
      : context_(std::move(context)), listener_(std::move(listener)), stop_fd_(signals.fd()) {
    if (epoll_.get() < 0) fail("epoll_create1");
    control(EPOLL_CTL_ADD, EPOLLIN, listener_.get());
    control(EPOLL_CTL_ADD, EPOLLIN, stop_fd_);
  }

  std::uint64_t run() {
    while (!stopped_) turn();
    return served_;
  }

 private:
  void turn() {
    const int count = ::epoll_wait(epoll_.get(), events_.data(), static_cast<int>(events_.size()), -1);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    for (int i = 0; i < count; ++i) handle(events_[static_cast<std::size_t>(i)].data.fd);
  }

  void handle(int fd) {
    if (fd == listener_.get()) return accept_one();
    if (fd == stop_fd_) {
      stopped_ = true;
      return;
    }
    Connection& connection = connections_[static_cast<std::size_t>(fd)];
    if (!connection.established && !shake(fd, connection)) return;
    if (!connection.rest.empty() && !flush(fd, connection)) return;
    do {
      const int size = SSL_read(connection.ssl.get(), buffer_.data(), static_cast<int>(buffer_.size()));
      if (size <= 0) return wait_or_close(fd, connection, size);
      if (!echo(fd, connection, size)) return;
    } while (SSL_has_pending(connection.ssl.get()) == 1);
    watch(fd, connection, EPOLLIN);
  }

  void accept_one() {
    const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    const auto place = static_cast<std::size_t>(fd);
    if (connections_.size() <= place) connections_.resize(place + place / 2 + 64);
    Connection& connection = connections_[place];
    connection.ssl.reset(SSL_new(context_.get()));
    require(connection.ssl != nullptr && SSL_set_fd(connection.ssl.get(), fd) == 1, "SSL_new");
    SSL_set_accept_state(connection.ssl.get());
    control(EPOLL_CTL_ADD, EPOLLIN, fd);
  }

  // These three return whether there is reason to go on.

  bool shake(int fd, Connection& connection) {
    const int result = SSL_do_handshake(connection.ssl.get());
    if (result == 1) return connection.established = true;
    wait_or_close(fd, connection, result);
    return false;
  }

  bool echo(int fd, Connection& connection, int size) {
    ++served_;
    const int sent = SSL_write(connection.ssl.get(), buffer_.data(), size);
    if (sent == size) return true;
    if (sent <= 0 && !is_waiting(connection, sent)) {
      close(fd, connection);
      return false;
    }
    connection.rest.assign(buffer_.begin() + std::max(sent, 0), buffer_.begin() + size);
    connection.sent = 0;
    return flush(fd, connection);
  }

  bool flush(int fd, Connection& connection) {
    while (connection.sent < connection.rest.size()) {
      const std::size_t left = connection.rest.size() - connection.sent;
      const int sent =
          SSL_write(connection.ssl.get(), connection.rest.data() + connection.sent, static_cast<int>(left));
      if (sent <= 0) {
        wait_or_close(fd, connection, sent);
        return false;
      }
      connection.sent += static_cast<std::size_t>(sent);
    }
    connection.rest.clear();
    return true;
  }

  static bool is_waiting(const Connection& connection, int result) {
    const int error = SSL_get_error(connection.ssl.get(), result);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
  }

  void wait_or_close(int fd, Connection& connection, int result) {
    switch (SSL_get_error(connection.ssl.get(), result)) {
      case SSL_ERROR_WANT_READ: return watch(fd, connection, EPOLLIN);
      case SSL_ERROR_WANT_WRITE: return watch(fd, connection, EPOLLOUT);
      default: close(fd, connection);
    }
  }

  void watch(int fd, Connection& connection, std::uint32_t events) {
    if (connection.watched == events) return;
    connection.watched = events;
    control(EPOLL_CTL_MOD, events, fd);
  }

  void close(int fd, Connection& connection) {
    if (connection.established) SSL_shutdown(connection.ssl.get());
    ERR_clear_error();
    connection = {};
    ::close(fd);
  }

  void control(int operation, std::uint32_t events, int fd) {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    if (::epoll_ctl(epoll_.get(), operation, fd, &event) != 0) fail("epoll_ctl");
  }

  Context context_;
  Descriptor listener_;
  int stop_fd_;
  Descriptor epoll_{::epoll_create1(EPOLL_CLOEXEC)};
  std::vector<Connection> connections_;  // by descriptor
  std::array<epoll_event, 512> events_;
  std::array<char, 16 * 1024> buffer_;  // one record
  std::uint64_t served_ = 0;
  bool stopped_ = false;
};

void serve(const Options& options) {
  Context context = server_context(options.certificate, options.key);
  SSL_CTX_set_num_tickets(context.get(), options.tickets);
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_read_ahead(context.get(), 1);
  SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (options.release) SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS);
  ::signal(SIGPIPE, SIG_IGN);  // SSL_set_fd writes without MSG_NOSIGNAL
  const floors::StopSignals signals;
  Descriptor listener = listen_on(Endpoint::of(options.host, options.port));
  floors::announce(listener);
  const std::uint64_t served = TlsFloor(std::move(context), std::move(listener), signals).run();
  std::printf("served %llu\n", static_cast<unsigned long long>(served));
}

}  // namespace
}  // namespace bench::tls

int main(int argc, char** argv) {
  try {
    const auto options = bench::tls::parse_options(argc, argv);
    if (options.help) {
      std::fputs(bench::tls::kHelp, stdout);
      return 0;
    }
    bench::allow_many_descriptors();
    bench::tls::serve(options);
    return 0;
  } catch (const bench::UsageError& error) {
    std::cerr << "tls_floor: " << error.what() << "; see --help\n";
    return 2;
  } catch (const std::exception& error) {
    std::cerr << "tls_floor: " << error.what() << '\n';
    return 1;
  }
}
