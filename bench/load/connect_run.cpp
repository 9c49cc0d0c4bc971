// SPDX-License-Identifier: Apache-2.0
#include "connect_run.hpp"

#include <cstring>

namespace bench::load {
namespace {

constexpr Nanoseconds kPatience = 5 * kSecond;
constexpr std::uint64_t kHopeless = 100;  // errors without one success

}  // namespace

ConnectRun::ConnectRun(const Options& options, const Connecting& connecting, const Pattern& pattern,
                       Transport& transport)
    : options_(options), connecting_(connecting), pattern_(pattern), transport_(transport), operations_(options.conns) {
  for (std::uint32_t id = 0; id < options.conns; ++id) operations_[id].link.id = id;
}

Measurement ConnectRun::run_phase(Nanoseconds length) {
  measurement_ = {};
  const Nanoseconds begin = now();
  end_ = begin + length;
  for (Operation& operation : operations_) start(operation);
  while (under_way_ > 0) {
    if (now() > end_ + kPatience) {
      throw std::runtime_error(std::to_string(under_way_) + " connections got no answer within 5 s");
    }
    transport_.wait(end_ + kPatience, *this);
  }
  measurement_.elapsed = now() - begin;
  return std::move(measurement_);
}

void ConnectRun::start(Operation& operation) {
  operation.started = now();
  operation.link.received = 0;
  operation.link.sent = 0;
  operation.link.unsent = 0;
  operation.link.fd = connecting_.connecting(number_++).release();
  ++under_way_;
  transport_.open(operation.link);
  transport_.send(operation.link, options_.size);
}

void ConnectRun::close(Operation& operation) {
  if (options_.reset) {
    const linger reset{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(operation.link.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  }
  transport_.close(operation.link);
  --under_way_;
  if (now() < end_) start(operation);
}

void ConnectRun::on_bytes(Link& link, std::span<const char> bytes) {
  Operation& operation = operations_[link.id];
  if (link.received + bytes.size() > options_.size || !pattern_.matches(link.id, link.received, bytes)) {
    throw std::runtime_error("the echo differs from what was sent, after " + std::to_string(link.received) +
                             " right bytes");
  }
  link.received += bytes.size();
  if (link.received < options_.size) return;
  measurement_.count(operation.started, now());
  close(operation);
}

void ConnectRun::on_lost(Link& link, int error) {
  const std::string why = error == 0 ? "closed by the server" : std::strerror(error);
  measurement_.count_error("connection to " + connecting_.server().text() + " lost after " +
                           std::to_string(link.received) + " of " + std::to_string(options_.size) + " bytes: " + why);
  check_still_useful();
  close(operations_[link.id]);
}

void ConnectRun::check_still_useful() const {
  if (measurement_.operations > 0 || measurement_.errors < kHopeless) return;
  throw std::runtime_error("gave up after " + std::to_string(kHopeless) + " failures; " + measurement_.first_error);
}

}  // namespace bench::load
