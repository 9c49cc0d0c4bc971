// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <exception>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <bight/check.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/mutex.hpp>
#include <bight/net/udp.hpp>
#include <bight/report.hpp>
#include <bight/scope.hpp>
#include <bight/stop.hpp>

namespace bight::net {
namespace {

using Handler = std::function<void(const UdpRequest&)>;

/// One serve_datagrams() under way.
class DatagramServer {
 public:
  DatagramServer(UdpSocket& socket, const Handler& handler, const DatagramServeOptions& options)
      : socket_(socket), handler_(handler), options_(options) {
    BIGHT_CHECK(options.handlers_max > 0 && options.datagram_max > 0, "a server without handlers can not serve");
    fiber_options_.stack_size = options.stack_size;
    std::error_code ignored;
    address_ = socket.local_address(ignored).to_string();
    where_ = "the handler of a datagram to " + address_;
    send_ = [this](const UdpDatagram& to, std::span<const std::byte> data) {
      const std::lock_guard turn(sending_);
      socket_.reply(to, data);
    };
  }

  DatagramServeStats run() {
    receive_until_told();
    if (!handlers_.wait_until(bight::detail::saturating_add(now(), options_.drain))) handlers_.cancel();
    handlers_.join();
    if (failure_) bight::detail::throw_error(failure_, "receive on " + address_);
    return stats_;
  }

 private:
  void receive_until_told() {
    Fiber<void> receiver;  // outlives the scope, whose fibers use it
    Scope receiving;
    receiver = receiving.spawn({.name = "serve_datagrams: receive"}, [this] { receive_all(); });
    receiving
        .spawn({.name = "serve_datagrams: wait for the stop"},
               [&] {
                 wait_for_stop();
                 receiver.cancel();
               })
        .detach();
    receiver.join();
    receiving.cancel();
    receiving.join();
  }

  void receive_all() {
    std::vector<std::byte> buffer(options_.datagram_max);
    for (unsigned in_a_row = 1;; ++in_a_row) {
      std::error_code error;
      const UdpDatagram datagram = socket_.receive(buffer, error);
      if (error == std::errc::operation_canceled || error == std::errc::bad_file_descriptor) return;
      // Somebody whom an answer was sent to is gone; the socket's timeout is no reason to end.
      if (error == std::errc::connection_refused || error == std::errc::timed_out) continue;
      if (error) {
        failure_ = error;
        return;
      }
      take_all(datagram, std::span(buffer).first(datagram.size));
      if (in_a_row % kBudget == 0) yield();
    }
  }

  /// What has come may be several, glued together.
  void take_all(UdpDatagram datagram, std::span<const std::byte> data) {
    const std::size_t step = std::exchange(datagram.segment_size, 0);
    do {
      const auto one = step != 0 ? data.first(std::min(step, data.size())) : data;
      data = data.subspan(one.size());
      if (step != 0) datagram.size = datagram.full_size = one.size();
      take(datagram, one);
    } while (!data.empty());
  }

  void take(const UdpDatagram& datagram, std::span<const std::byte> data) {
    ++stats_.received;
    if (datagram.truncated()) {
      ++stats_.oversized;
      return;
    }
    if (running_ >= options_.handlers_max) {
      ++stats_.dropped;
      return;
    }
    try {
      handlers_.spawn(fiber_options_, Job{*this, datagram, {data.begin(), data.end()}}).detach();
      ++running_;
    } catch (const std::exception&) {  // too many fibers, or no memory
      ++stats_.dropped;
    }
  }

  /// What a handler's fiber runs.
  struct Job {
    DatagramServer& server;
    UdpDatagram datagram;
    std::vector<std::byte> data;
    void operator()() { server.handle(datagram, data); }
  };

  void handle(const UdpDatagram& datagram, std::span<const std::byte> data) {
    struct Leaving {
      std::size_t& running;
      ~Leaving() { --running; }
    } const leaving{running_};
    try {
      handler_(UdpRequest{socket_, data, datagram, send_});
    } catch (const Cancelled&) {
      throw;
    } catch (...) {
      ++stats_.failed;
      bight::detail::report_unhandled(std::current_exception(), where_);
    }
  }

  static constexpr unsigned kBudget = 64;  // datagrams taken in a row before handlers get their turn

  UdpSocket& socket_;
  const Handler& handler_;
  const DatagramServeOptions& options_;
  SpawnOptions fiber_options_;
  std::string address_;
  std::string where_;
  std::function<void(const UdpDatagram&, std::span<const std::byte>)> send_;
  Mutex sending_;
  DatagramServeStats stats_;
  std::size_t running_ = 0;
  std::error_code failure_;
  Scope handlers_;  // goes first: they use the rest
};

}  // namespace

DatagramServeStats serve_datagrams(UdpSocket& socket, const Handler& handler, const DatagramServeOptions& options) {
  return DatagramServer(socket, handler, options).run();
}

}  // namespace bight::net
