// SPDX-License-Identifier: Apache-2.0
#include "echo_run.hpp"

#include <cstring>

namespace bench::load {
namespace {

constexpr Nanoseconds kPatience = 5 * kSecond;  // for the last answers of a phase

// Timers wake some tens of microseconds late. What is due sooner than this is waited for awake.
constexpr Nanoseconds kWakeError = 60'000;

}  // namespace

EchoRun::EchoRun(const Options& options, const Connecting& connecting, const Pattern& pattern, Transport& transport)
    : options_(options),
      pattern_(pattern),
      transport_(transport),
      conversations_(options.conns),
      started_(std::size_t{options.conns} * options.depth),
      open_(options.conns) {
  for (std::uint32_t id = 0; id < options.conns; ++id) {
    Link& link = conversations_[id].link;
    link.id = id;
    link.fd = connecting.connected(id).release();
    transport_.open(link);
  }
}

Measurement EchoRun::run_phase(Nanoseconds length) {
  measurement_ = {};
  begin(length);
  for (Nanoseconds time = start_; time < end_ && open_ > 0; time = now()) {
    if (options_.rate > 0) begin_due(time);
    transport_.wait(next_wake(), *this);
  }
  if (options_.rate > 0) count_unsent();
  drain();
  measurement_.elapsed = now() - start_;
  return std::move(measurement_);
}

void EchoRun::begin(Nanoseconds length) {
  start_ = now();
  end_ = start_ + length;
  starting_ = true;
  schedule_ = 0;
  for (Conversation& conversation : conversations_) {
    conversation.next_due = conversation.link.id;
    if (options_.rate > 0 || conversation.link.fd < 0) continue;
    for (std::uint32_t i = 0; i < options_.depth; ++i) start(conversation, start_);
    send(conversation, options_.depth);
  }
}

// A server that cannot keep up with the schedule leaves messages over. To forget them would be to forget the worst
// ones.
void EchoRun::count_unsent() {
  for (const Conversation& conversation : conversations_) {
    if (conversation.link.fd < 0) continue;
    for (std::uint64_t number = conversation.next_due; due_time(number) < end_; number += options_.conns) {
      measurement_.count_unsent(due_time(number), end_);
    }
  }
}

void EchoRun::drain() {
  starting_ = false;
  const Nanoseconds give_up = now() + kPatience;
  while (under_way_ > 0) {
    if (now() > give_up) throw std::runtime_error(std::to_string(under_way_) + " messages got no answer within 5 s");
    transport_.wait(give_up, *this);
  }
}

// Message n of the schedule belongs to connection n % conns; it goes out when its time has come and the connection has
// room, but its latency counts from its time in either case.
void EchoRun::begin_due(Nanoseconds time) {
  for (; due_time(schedule_) <= time && due_time(schedule_) < end_; ++schedule_) {
    Conversation& conversation = conversations_[schedule_ % options_.conns];
    if (conversation.link.fd >= 0 && start_due(conversation, time)) send(conversation, 1);
  }
}

bool EchoRun::start_due(Conversation& conversation, Nanoseconds time) {
  if (conversation.under_way == options_.depth) return false;
  const Nanoseconds due = due_time(conversation.next_due);
  if (due > time || due >= end_) return false;
  conversation.next_due += options_.conns;
  start(conversation, due);
  return true;
}

void EchoRun::start(Conversation& conversation, Nanoseconds since) {
  const std::uint32_t place = (conversation.oldest + conversation.under_way) % options_.depth;
  started_[std::size_t{conversation.link.id} * options_.depth + place] = since;
  ++conversation.under_way;
  ++under_way_;
}

void EchoRun::send(Conversation& conversation, std::uint64_t count) {
  if (count > 0) transport_.send(conversation.link, count * options_.size);
}

void EchoRun::on_bytes(Link& link, std::span<const char> bytes) {
  Conversation& conversation = conversations_[link.id];
  if (!pattern_.matches(link.id, link.received, bytes)) {
    throw std::runtime_error("connection " + std::to_string(link.id) + ": the echo differs from what was sent, after " +
                             std::to_string(link.received) + " right bytes");
  }
  link.received += bytes.size();
  conversation.partial += bytes.size();
  if (conversation.partial >= options_.size) {
    const std::uint64_t count = conversation.partial / options_.size;
    conversation.partial -= count * options_.size;
    finish_messages(conversation, count);
  }
}

void EchoRun::finish_messages(Conversation& conversation, std::uint64_t count) {
  if (count > conversation.under_way) {
    throw std::runtime_error("connection " + std::to_string(conversation.link.id) + ": more came back than was sent");
  }
  const Nanoseconds time = now();
  const Nanoseconds* started = &started_[std::size_t{conversation.link.id} * options_.depth];
  for (std::uint64_t i = 0; i < count; ++i) {
    measurement_.count(started[conversation.oldest], time);
    if (++conversation.oldest == options_.depth) conversation.oldest = 0;
  }
  conversation.under_way -= static_cast<std::uint32_t>(count);
  under_way_ -= count;
  if (starting_ && time < end_) send(conversation, start_some(conversation, count, time));
}

// Lets up to `count` messages follow ones that are answered; how many there were to start.
std::uint64_t EchoRun::start_some(Conversation& conversation, std::uint64_t count, Nanoseconds time) {
  for (std::uint64_t i = 0; i < count; ++i) {
    if (options_.rate <= 0) {
      start(conversation, time);
    } else if (!start_due(conversation, time)) {
      return i;
    }
  }
  return count;
}

void EchoRun::on_lost(Link& link, int error) {
  Conversation& conversation = conversations_[link.id];
  const std::string why = error == 0 ? "closed by the server" : std::strerror(error);
  measurement_.count_error("connection " + std::to_string(link.id) + ": lost after " + std::to_string(link.received) +
                           " bytes: " + why);
  under_way_ -= conversation.under_way;
  conversation.under_way = 0;
  --open_;
  transport_.close(link);
}

Nanoseconds EchoRun::due_time(std::uint64_t number) const {
  return start_ + static_cast<Nanoseconds>(static_cast<double>(number) * (1e9 / options_.rate));
}

Nanoseconds EchoRun::next_wake() const {
  if (options_.rate <= 0) return end_;
  const Nanoseconds due = due_time(schedule_);
  return std::min(end_, due > start_ + kWakeError ? due - kWakeError : start_);
}

}  // namespace bench::load
