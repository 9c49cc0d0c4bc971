// SPDX-License-Identifier: Apache-2.0
#include "loop_signals.hpp"

#include <bit>

#include <bight/check.hpp>

namespace bight::detail {

LoopSignals::~LoopSignals() {
  BIGHT_CHECK(first_ == nullptr, "a Signals (or a with_signals) outlives its loop: it must not outlive run()");
}

void LoopSignals::need_port() {
  if (port_ == nullptr) port_ = &SignalPort::acquire(engine_);
  ++port_users_;
}

void LoopSignals::leave_port() noexcept {
  dispatch();
  if (--port_users_ != 0) return;
  port_->release();
  port_ = nullptr;
}

void LoopSignals::subscribe(SignalSubscriber& subscriber) {
  need_port();
  SignalSubscriber** end = &first_;
  while (*end != nullptr) end = &(*end)->next_;
  *end = &subscriber;
  SignalMask added = 0;
  for (SignalMask left = subscriber.numbers(); left != 0; left &= left - 1) {
    const int number = std::countr_zero(left) + 1;
    if (counts_[static_cast<std::size_t>(number)]++ == 0) added |= signal_bit(number);
  }
  if (added != 0) port_->want(added);
}

void LoopSignals::unsubscribe(SignalSubscriber& subscriber) noexcept {
  SignalMask dropped = 0;
  for (SignalMask left = subscriber.numbers(); left != 0; left &= left - 1) {
    const int number = std::countr_zero(left) + 1;
    if (--counts_[static_cast<std::size_t>(number)] == 0) dropped |= signal_bit(number);
  }
  if (dropped != 0) port_->want_no_longer(dropped);
  leave_port();  // which delivers what came until now
  SignalSubscriber** at = &first_;
  while (*at != &subscriber) at = &(*at)->next_;
  *at = subscriber.next_;
}

bool LoopSignals::awaited() const noexcept {
  for (const SignalSubscriber* each = first_; each != nullptr; each = each->next_) {
    if (each->awaited()) return true;
  }
  return false;
}

void LoopSignals::dispatch() noexcept {
  if (port_ == nullptr || !port_->pending()) return;
  port_->begin_to_pop();
  while (const auto note = port_->pop()) {
    const SignalMask bit = signal_bit(note->number);
    if (note->stop) {
      stops_ |= bit;
      continue;
    }
    const Signal signal{note->number, note->code, note->sender, note->user, note->value};
    for (SignalSubscriber* each = first_; each != nullptr; each = each->next_) {
      if ((each->numbers() & bit) != 0) each->deliver(signal);
    }
  }
}

int LoopSignals::take_stop() noexcept {
  if (stops_ == 0) return 0;
  const int number = std::countr_zero(stops_) + 1;
  stops_ &= stops_ - 1;
  return number;
}

StopSignals::StopSignals(LoopSignals& signals, bool wanted) {
  if (!wanted) return;
  signals.need_port();
  if (signals.port_->take_stops()) {
    signals_ = &signals;
  } else {
    signals.leave_port();
  }
}

StopSignals::~StopSignals() {
  if (signals_ == nullptr) return;
  signals_->port_->leave_stops();
  signals_->leave_port();
}

}  // namespace bight::detail
