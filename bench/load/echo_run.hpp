// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "connecting.hpp"
#include "measurement.hpp"
#include "options.hpp"
#include "transport.hpp"

#include <cstdint>
#include <vector>

namespace bench::load {

// Messages and their echoes over a fixed set of connections. A phase starts with nothing under way and ends when the
// last answer is in, so that its operations are exactly what the server did between its two ends.
class EchoRun final : Observer {
 public:
  EchoRun(const Options& options, const Connecting& connecting, const Pattern& pattern, Transport& transport);
  EchoRun(const EchoRun&) = delete;
  EchoRun& operator=(const EchoRun&) = delete;

  Measurement run_phase(Nanoseconds length);

 private:
  struct Conversation {
    Link link;
    std::uint32_t under_way = 0;
    std::uint32_t oldest = 0;    // of the messages under way, its place among started_
    std::uint64_t partial = 0;   // bytes of an incomplete answer
    std::uint64_t next_due = 0;  // number of its next message in the schedule
  };

  void on_bytes(Link& link, std::span<const char> bytes) override;
  void on_lost(Link& link, int error) override;

  void begin(Nanoseconds length);
  void begin_due(Nanoseconds time);
  bool start_due(Conversation& conversation, Nanoseconds time);
  std::uint64_t start_some(Conversation& conversation, std::uint64_t count, Nanoseconds time);
  void start(Conversation& conversation, Nanoseconds since);
  void send(Conversation& conversation, std::uint64_t count);
  void count_unsent();
  void drain();
  void finish_messages(Conversation& conversation, std::uint64_t count);
  [[nodiscard]] Nanoseconds due_time(std::uint64_t number) const;
  [[nodiscard]] Nanoseconds next_wake() const;

  const Options& options_;
  const Pattern& pattern_;
  Transport& transport_;
  std::vector<Conversation> conversations_;
  std::vector<Nanoseconds> started_;  // options_.depth for each conversation, used in turn
  std::uint64_t under_way_ = 0;
  std::uint32_t open_ = 0;

  Measurement measurement_;
  Nanoseconds start_ = 0;
  Nanoseconds end_ = 0;
  std::uint64_t schedule_ = 0;  // the first message of the schedule not yet reached
  bool starting_ = false;       // answered messages are followed by new ones
};

}  // namespace bench::load
