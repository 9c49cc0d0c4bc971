// SPDX-License-Identifier: Apache-2.0
#include "exchange.hpp"

#include <exception>
#include <new>
#include <span>
#include <utility>

#include <bight/deadline.hpp>
#include <bight/error.hpp>

#include "parser.hpp"

namespace redis {

namespace {

constexpr std::size_t kReadSize = std::size_t{64} * 1024;
constexpr std::size_t kOutputKept = std::size_t{256} * 1024;  // bytes of buffer that stay when nothing is sent

}  // namespace

std::shared_ptr<Exchange> Exchange::start(std::unique_ptr<Transport> transport, std::string peer,
                                          const ExchangeOptions& options, OnPush on_push, OnEnd on_end) {
  std::shared_ptr<Exchange> self(
      new Exchange(std::move(transport), std::move(peer), options, std::move(on_push), std::move(on_end)));
  try {
    // They hold what they work on; close() is what ends them.
    self->reader_ = bight::spawn({.name = "redis reader", .daemon = true}, [self] { self->read_replies(); });
    self->writer_ = bight::spawn({.name = "redis writer", .daemon = true}, [self] { self->write_requests(); });
  } catch (...) {
    self->close();
    throw;
  }
  return self;
}

Value Exchange::call(const Command& command) {
  Value reply;
  Slot slot{&reply};
  enqueue(slot, 1, command.is_blocking(), [&](std::string& out) { command.append_to(out); });
  await(slot, command.is_blocking());
  return reply;
}

std::vector<Value> Exchange::call(const std::string& requests, std::size_t replies, bool blocking) {
  std::vector<Value> all(replies);
  if (replies == 0) return all;
  Slot slot{all.data()};
  enqueue(slot, replies, blocking, [&](std::string& out) { out += requests; });
  await(slot, blocking);
  return all;
}

void Exchange::wait_for_room() {
  bight::this_fiber::checkpoint();       // who is cancelled sends nothing any more
  const auto self = shared_from_this();  // even if the connection is given up meanwhile
  while (!error_ && full()) {
    room_.clear();
    room_.wait();
  }
  if (error_) throw_lost(false);
}

template <class Append>
void Exchange::enqueue(Slot& slot, std::size_t replies, bool blocking, const Append& append) {
  // Whose caller may have left before it was.
  if (!pending_.empty() && pending_.front().due <= bight::now()) {
    fail(std::make_error_code(std::errc::timed_out), "no reply in time");
  }
  wait_for_room();
  slot.number = answered_ + pending_.size();
  const bool due = has_limit(blocking) && options_.reply_timeout < bight::TimePoint::max() - bight::now();
  pending_.push_back({&slot, replies, queued_, due ? bight::now() + options_.reply_timeout : bight::TimePoint::max()});
  const std::size_t before = output_.size();
  try {
    append(output_);
  } catch (...) {  // out of memory
    output_.resize(before);
    pending_.pop_back();
    throw;
  }
  queued_ += output_.size() - before;
  wake_.set();
}

void Exchange::await(Slot& slot, bool blocking) {
  struct Abandon {
    Exchange& exchange;
    Slot& slot;
    ~Abandon() {
      if (!slot.done.is_set()) exchange.abandon(slot);
    }
  };
  const auto self = shared_from_this();  // even if the connection is given up meanwhile
  {
    const Abandon abandon{*this, slot};
    if (!has_limit(blocking)) {
      slot.done.wait();
    } else if (!slot.done.wait_for(options_.reply_timeout)) {
      fail(std::make_error_code(std::errc::timed_out), "no reply in time");
    }
  }
  if (slot.failed) throw_lost(slot.maybe_executed);
}

void Exchange::abandon(const Slot& slot) noexcept {
  if (slot.number < answered_ || slot.number - answered_ >= pending_.size()) return;
  pending_[slot.number - answered_].slot = nullptr;
}

void Exchange::write_requests() {
  struct End {
    Exchange& exchange;
    ~End() { exchange.fail(std::make_error_code(std::errc::operation_canceled), "the loop has ended"); }
  };
  const End end{*this};
  std::string sending;
  std::error_code error;
  while (!error_) {
    if (output_.empty()) {
      wake_.wait();
      continue;
    }
    std::swap(sending, output_);
    started_ += sending.size();
    if (!full()) room_.set();
    transport_->write_all(std::as_bytes(std::span(sending)), error);
    if (error) return fail(error, "writing failed");
    if (sending.capacity() > kOutputKept) sending = {};
    sending.clear();
  }
}

void Exchange::read_replies() {
  struct End {
    Exchange& exchange;
    ~End() { exchange.fail(std::make_error_code(std::errc::operation_canceled), "the loop has ended"); }
  };
  const End end{*this};
  try {
    const auto buffer = std::make_unique_for_overwrite<std::byte[]>(kReadSize);
    Parser parser(options_.limits);
    std::error_code error;
    while (!error_) {
      const std::size_t count = transport_->read(std::span(buffer.get(), kReadSize), error);
      if (error) return fail(error, "reading failed");
      if (count == 0) {
        return fail(std::make_error_code(std::errc::connection_aborted),
                    parser.in_reply() ? "the server closed it within a reply" : "the server closed it");
      }
      std::string_view bytes(reinterpret_cast<const char*>(buffer.get()), count);
      while (!error_) {
        auto value = parser.next(bytes);
        if (!value) break;
        accept(std::move(*value));
      }
      if (parser.complaint() != nullptr) {
        return fail(std::make_error_code(std::errc::protocol_error), parser.complaint());
      }
    }
  } catch (const std::bad_alloc&) {
    fail(std::make_error_code(std::errc::not_enough_memory), "no memory for a reply");
  }
}

bool Exchange::is_push(const Value& value) const {
  if (!options_.subscriber) return value.type() == Type::push;
  if (value.type() != Type::push && value.type() != Type::array) return false;
  // In subscriptions RESP2 has arrays for pushes; and what confirms a request is its only reply, in RESP3 as well.
  const Value::Items& items = value.items();
  if (items.empty() || !items.front().has_text()) return value.type() == Type::push;
  const std::string& kind = items.front().text();
  return pending_.empty() || kind == "message" || kind == "pmessage" || kind == "smessage" || kind == "invalidate";
}

void Exchange::accept(Value value) {
  if (is_push(value)) {
    if (on_push_) on_push_(std::move(value));
    return;
  }
  if (pending_.empty()) {
    // As who is turned away gets told: "ERR max number of clients reached".
    return value.is_error()
               ? fail(std::make_error_code(std::errc::connection_aborted), "the server said " + value.text())
               : fail(std::make_error_code(std::errc::protocol_error), "a reply to no request");
  }
  Pending& front = pending_.front();
  Slot* slot = front.slot;
  if (slot != nullptr) *slot->next++ = std::move(value);
  if (--front.left > 0) return;
  const bool was_full = full();
  pending_.pop_front();
  ++answered_;
  if (was_full && !full()) room_.set();
  if (slot != nullptr) slot->done.set();
}

void Exchange::close() noexcept { fail(std::make_error_code(std::errc::bad_file_descriptor), "closed here"); }

void Exchange::fail(std::error_code error, std::string_view reason) noexcept {
  if (error_) return;
  error_ = error;
  try {
    reason_ = reason;
  } catch (const std::bad_alloc&) {  // then the error has to do
  }
  transport_->close();
  for (const Pending& each : pending_) {
    if (each.slot == nullptr) continue;
    each.slot->failed = true;
    each.slot->maybe_executed = each.begin < started_;
    each.slot->done.set();
  }
  answered_ += pending_.size();
  pending_.clear();
  output_.clear();
  room_.set();
  wake_.set();
  if (on_end_) on_end_();
}

void Exchange::join() noexcept {
  if (!bight::this_fiber::exists()) return;  // they end by themselves
  const bight::Shield shield;                // soon: their waits have been ended
  for (const bight::Fiber<>* fiber : {&reader_, &writer_}) {
    if (*fiber) fiber->join();
  }
}

void Exchange::throw_lost(bool maybe_executed) const {
  throw ConnectionLost(error_, "redis " + peer_ + ": " + reason_, maybe_executed);
}

}  // namespace redis
