// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "connecting.hpp"
#include "measurement.hpp"
#include "options.hpp"
#include "transport.hpp"

#include <cstdint>
#include <vector>

namespace bench::load {

// Operations that each connect, send one message, check its echo and close. As in EchoRun, a phase ends at rest.
class ConnectRun final : Observer {
 public:
  ConnectRun(const Options& options, const Connecting& connecting, const Pattern& pattern, Transport& transport);
  ConnectRun(const ConnectRun&) = delete;
  ConnectRun& operator=(const ConnectRun&) = delete;

  Measurement run_phase(Nanoseconds length);

 private:
  struct Operation {
    Link link;
    Nanoseconds started = 0;
  };

  void on_bytes(Link& link, std::span<const char> bytes) override;
  void on_lost(Link& link, int error) override;

  void start(Operation& operation);
  void close(Operation& operation);
  void check_still_useful() const;

  const Options& options_;
  const Connecting& connecting_;
  const Pattern& pattern_;
  Transport& transport_;
  std::vector<Operation> operations_;
  std::uint32_t under_way_ = 0;
  std::uint32_t number_ = 0;

  Measurement measurement_;
  Nanoseconds end_ = 0;
};

}  // namespace bench::load
