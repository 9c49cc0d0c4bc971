// SPDX-License-Identifier: Apache-2.0
#include "transport.hpp"

#include "../common/sockets.hpp"
#include "../tls/openssl.hpp"

#include <array>
#include <csignal>
#include <vector>

#include <fcntl.h>
#include <sys/epoll.h>

namespace bench::load {
namespace {

constexpr std::size_t kReceiveBuffer = 64 * 1024;

// OpenSSL on epoll, level-triggered for the reason that bench/tls/tls_floor.cpp gives. Handshakes begin with open() and
// go on whenever somebody waits; what is to be sent waits for them.
class TlsTransport final : public Transport {
 public:
  explicit TlsTransport(const TransportOptions& options)
      : pattern_(options.pattern), resumes_(options.resume), buffer_(kReceiveBuffer), context_(tls::client_context()) {
    if (epoll_.get() < 0) fail("epoll_create1");
    ::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes without MSG_NOSIGNAL
    SSL_CTX_set_session_cache_mode(context_.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    if (resumes_) SSL_CTX_sess_set_new_cb(context_.get(), keep_session);
  }

  [[nodiscard]] const char* name() const override { return resumes_ ? "TLS, resumed" : "TLS"; }

  void open(Link& link) override {
    if (channels_.size() <= link.id) channels_.resize(link.id + link.id / 2 + 64);
    Channel& channel = channels_[link.id];
    ::fcntl(link.fd, F_SETFL, O_NONBLOCK);
    channel.ssl.reset(SSL_new(context_.get()));
    tls::require(channel.ssl != nullptr && SSL_set_fd(channel.ssl.get(), link.fd) == 1, "SSL_new");
    SSL_set_connect_state(channel.ssl.get());
    SSL_ctrl(channel.ssl.get(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, name_.data());
    SSL_set_app_data(channel.ssl.get(), this);
    if (session_) SSL_set_session(channel.ssl.get(), session_.get());
    channel.established = false;
    channel.watched = EPOLLOUT;  // connected; or connecting, and then that is what is to be waited for
    link.sending = true;         // once established
    control(EPOLL_CTL_ADD, channel.watched, link);
  }

  void send(Link& link, std::uint64_t bytes) override {
    link.unsent += bytes;
    if (!link.sending) push(link);
  }

  void close(Link& link) override {
    Channel& channel = channels_[link.id];
    if (channel.established) SSL_shutdown(channel.ssl.get());
    ERR_clear_error();
    channel.ssl.reset();
    ::close(link.fd);
    link.fd = -1;
    ++link.epoch;
    link.sending = false;
    link.send_error = 0;
  }

  void wait(Nanoseconds deadline, Observer& observer) override {
    const timespec timeout = between(now(), deadline);
    const int count = ::epoll_pwait2(epoll_.get(), events_.data(), static_cast<int>(events_.size()), &timeout, nullptr);
    if (count < 0 && errno != EINTR) fail("epoll_pwait2");
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events_[static_cast<std::size_t>(i)];
      Link& link = *static_cast<Link*>(event.data.ptr);
      if (!channels_[link.id].established && !shake(link, observer)) continue;
      if (link.unsent > 0) push(link);
      if ((event.events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0) pull(link, observer);
    }
  }

 private:
  struct Channel {
    tls::Ssl ssl;
    std::uint32_t watched = 0;
    bool established = false;
  };

  static int keep_session(SSL* ssl, SSL_SESSION* session) {
    static_cast<TlsTransport*>(SSL_get_app_data(ssl))->session_.reset(session);
    return 1;  // ours now
  }

  void control(int operation, std::uint32_t events, Link& link) {
    epoll_event event{};
    event.events = events;
    event.data.ptr = &link;
    if (::epoll_ctl(epoll_.get(), operation, link.fd, &event) != 0) fail("epoll_ctl");
  }

  void watch(Link& link, std::uint32_t events) {
    Channel& channel = channels_[link.id];
    if (channel.watched == events) return;
    channel.watched = events;
    control(EPOLL_CTL_MOD, events, link);
  }

  bool shake(Link& link, Observer& observer) {
    Channel& channel = channels_[link.id];
    const int result = SSL_do_handshake(channel.ssl.get());
    if (result == 1) {
      channel.established = true;
      link.sending = false;
      watch(link, EPOLLIN);
      return true;
    }
    const int error = SSL_get_error(channel.ssl.get(), result);
    if (error == SSL_ERROR_WANT_READ) {
      watch(link, EPOLLIN);
    } else if (error == SSL_ERROR_WANT_WRITE) {
      watch(link, EPOLLOUT);
    } else {
      lose(link, error, observer);
    }
    return false;
  }

  // That the link ended is left to the next read to report, after the last answer.
  void push(Link& link) {
    Channel& channel = channels_[link.id];
    link.sending = false;
    while (link.unsent > 0) {
      const int length = static_cast<int>(std::min<std::uint64_t>(link.unsent, Pattern::kRun));
      const int taken = SSL_write(channel.ssl.get(), pattern_.at(link.id, link.sent), length);
      if (taken <= 0) {
        link.sending = SSL_get_error(channel.ssl.get(), taken) == SSL_ERROR_WANT_WRITE;
        break;
      }
      link.sent += static_cast<std::uint64_t>(taken);
      link.unsent -= static_cast<std::uint64_t>(taken);
    }
    watch(link, link.sending ? EPOLLIN | EPOLLOUT : EPOLLIN);
  }

  // The observer may close the link, or open it anew, while it is told of bytes.
  void pull(Link& link, Observer& observer) {
    const std::uint32_t epoch = link.epoch;
    do {
      SSL* const ssl = channels_[link.id].ssl.get();
      const int size = SSL_read(ssl, buffer_.data(), static_cast<int>(buffer_.size()));
      if (size <= 0) {
        const int error = SSL_get_error(ssl, size);
        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) lose(link, error, observer);
        return;
      }
      observer.on_bytes(link, {buffer_.data(), static_cast<std::size_t>(size)});
    } while (link.fd >= 0 && link.epoch == epoch && SSL_has_pending(channels_[link.id].ssl.get()) == 1);
  }

  static void lose(Link& link, int error, Observer& observer) {
    const int why = error == SSL_ERROR_ZERO_RETURN ? 0 : error == SSL_ERROR_SYSCALL ? errno : EPROTO;
    ERR_clear_error();
    observer.on_lost(link, error_of(link, why));
  }

  const Pattern& pattern_;
  bool resumes_;
  std::string name_ = "localhost";  // all clients tell whom they want, and servers look at it
  Descriptor epoll_{::epoll_create1(EPOLL_CLOEXEC)};
  std::array<epoll_event, 256> events_;
  std::vector<char> buffer_;
  tls::Context context_;
  tls::Session session_;           // the latest, for all links
  std::vector<Channel> channels_;  // by the link's number
};

}  // namespace

std::unique_ptr<Transport> make_tls_transport(const TransportOptions& options) {
  return std::make_unique<TlsTransport>(options);
}

}  // namespace bench::load
