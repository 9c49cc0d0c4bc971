// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>

#include <bight/signal.hpp>

#include "signal_port.hpp"

namespace bight::detail {

/// A loop's side of signals: takes them from its port and hands them to those who have subscribed. Has a port only
/// while somebody has, or while it gets the requests to stop.
class LoopSignals {
 public:
  explicit LoopSignals(Engine& engine) noexcept : engine_(engine) {}
  LoopSignals(const LoopSignals&) = delete;
  LoopSignals& operator=(const LoopSignals&) = delete;
  ~LoopSignals();

  void subscribe(SignalSubscriber& subscriber);
  void unsubscribe(SignalSubscriber& subscriber) noexcept;

  /// Whether there is something to dispatch, or a stop to be made.
  [[nodiscard]] bool pending() const noexcept { return (port_ != nullptr && port_->pending()) || stops_ != 0; }
  /// Whether somebody would go on if a signal came.
  [[nodiscard]] bool awaited() const noexcept;
  /// Hands out what has come. Makes fibers ready, and cancels scopes; runs nothing.
  void dispatch() noexcept;
  /// A signal that is a request to stop; 0: there is none.
  [[nodiscard]] int take_stop() noexcept;

 private:
  friend class StopSignals;

  void need_port();
  void leave_port() noexcept;

  Engine& engine_;
  SignalPort* port_ = nullptr;
  std::size_t port_users_ = 0;
  SignalSubscriber* first_ = nullptr;  // first come, first told
  std::array<std::size_t, kSignalMax + 1> counts_{};
  SignalMask stops_ = 0;
};

/// While it lives, SIGTERM and SIGINT that nobody has subscribed to are the loop's: they become requests to stop. The
/// first loop of the process gets them; the rest, and a loop that does not want them, leave everything as it is.
class StopSignals {
 public:
  /// Throws std::bad_alloc.
  StopSignals(LoopSignals& signals, bool wanted);
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

 private:
  LoopSignals* signals_ = nullptr;  // null: they are not ours
};

}  // namespace bight::detail
