// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace bight::detail {

struct FiberControl;
struct Parking;

/// What there is to know of a kind of wait.
struct ParkingKind {
  /// Takes the fiber out of the wait early: unlinks it and makes it ready, or asks for that to happen. Null: it can not
  /// be cut short.
  void (*interrupt)(Parking&) noexcept;
  /// Appends what is waited for, for reports.
  void (*describe)(const Parking&, std::string&);
};

/// One wait of a parked fiber. Lives in the waiting function's frame.
struct Parking {
  Parking(FiberControl& who, const ParkingKind& what) noexcept : fiber(&who), kind(&what) {}
  Parking(const Parking&) = delete;
  Parking& operator=(const Parking&) = delete;

  FiberControl* fiber;
  const ParkingKind* kind;
  bool interrupted = false;  // left early, by cancellation
};

}  // namespace bight::detail
