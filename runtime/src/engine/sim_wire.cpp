// SPDX-License-Identifier: Apache-2.0
// What the ends of a connection send each other, and what they make of it.
#include "engine/sim_net.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace bight::detail {
namespace {

using Kind = SimSegment::Kind;
using State = SimEnd::State;

constexpr std::size_t kSegmentMost = 64 * 1024;
constexpr unsigned kSynsMost = 7;  // Linux's net.ipv4.tcp_syn_retries, and the first
constexpr Duration kSynPause = std::chrono::seconds(1);

SimNote note_of(Kind kind) noexcept {
  return static_cast<SimNote>(static_cast<int>(SimNote::syn) + static_cast<int>(kind));
}
static_assert(static_cast<int>(SimNote::reset) - static_cast<int>(SimNote::syn) == static_cast<int>(Kind::reset));

}  // namespace

// --- Sending ---------------------------------------------------------------------------------------------------------

TimePoint SimNet::arrival_of(SimEnd& from, std::size_t bytes) noexcept {
  const testing::SimOptions& options = core_.options();
  TimePoint leaves = std::max(core_.now(), from.wire_busy_until);
  if (options.bandwidth != 0) leaves += Duration(static_cast<Duration::rep>(bytes * 1'000'000'000 / options.bandwidth));
  from.wire_busy_until = leaves;
  const auto latency = core_.random().between(static_cast<std::uint64_t>(options.latency_min.count()),
                                              static_cast<std::uint64_t>(options.latency_max.count()));
  TimePoint arrival = leaves + Duration(static_cast<Duration::rep>(latency));
  if (core_.strikes(core_.faults().stall)) {
    arrival += core_.some_of(core_.faults().stall_max);
    ++core_.counters().stalls;
    note(SimNote::stalled, from, 0);
  }
  from.last_arrival = std::max(from.last_arrival, arrival);
  return from.last_arrival;
}

void SimNet::push(SimEnd& from, SimSegment segment) {
  if (from.connection->doomed) return;
  const TimePoint arrival = arrival_of(from, segment.data.size());
  put(from, std::move(segment), arrival);
}

void SimNet::put(SimEnd& from, SimSegment&& segment, TimePoint arrival) {
  segment.arrival = arrival;
  from.wire.push_back(std::move(segment));
  SimEvent event;
  event.kind = SimEvent::Kind::arrive;
  event.when = arrival;
  event.number = from.connection->number;
  event.serial = from.connection->serial;
  event.side = from.side;
  core_.schedule(event);
}

void SimNet::send_syn(SimConnection& connection) {
  SimEnd& client = connection.ends[0];
  if (connection.syns == kSynsMost) {
    fail(client, ETIMEDOUT);
    return;
  }
  ++connection.syns;
  if (core_.strikes(core_.faults().syn_loss)) {
    ++core_.counters().syns_lost;
    note(SimNote::syn_lost, client, connection.syns);
    repeat_syn_later(connection);
  } else {
    push(client, {.kind = Kind::syn, .credit = client.receive_limit});
  }
}

void SimNet::repeat_syn_later(SimConnection& connection) {
  SimEvent event;
  event.kind = SimEvent::Kind::repeat_syn;
  event.when = core_.now() + kSynPause * (1U << (connection.syns - 1));
  event.number = connection.number;
  event.serial = connection.serial;
  core_.schedule(event);
}

/// Sends what there is, as far as the peer has room for it.
void SimNet::pump(SimEnd& end) {
  if (end.state != State::established) return;
  while (!end.unsent.empty() && end.credit > 0 && !end.connection->doomed) send_data(end);
  if (end.write_shut && !end.fin_sent && end.unsent.empty()) {
    end.fin_sent = true;
    push(end, {.kind = Kind::fin});
  }
}

void SimNet::send_data(SimEnd& end) {
  if (core_.strikes(core_.faults().reset)) {
    inject_reset(*end.connection);
    return;
  }
  std::size_t size = std::min({end.unsent.size(), end.credit, kSegmentMost});
  if (size > 1 && core_.strikes(core_.faults().split)) {
    size = core_.some_of(size - 1);
    ++core_.counters().splits;
  }
  SimSegment segment{.kind = Kind::data};
  segment.data.resize(size);
  end.unsent.pop(segment.data);
  end.credit -= size;
  end.unacknowledged += size;
  ++core_.counters().segments;
  push(end, std::move(segment));
}

/// Tells the peer what has arrived and what there is room for, if that is worth a segment. One at a time is on its way;
/// what happens meanwhile goes into the next.
void SimNet::acknowledge(SimEnd& end) {
  if (end.acknowledge_on_wire || end.state == State::absent) return;
  const std::size_t taken = end.granted + end.received.size();
  const std::size_t credit =
      end.state == State::established && taken < end.receive_limit ? end.receive_limit - taken : 0;
  const bool opens = credit > 0 && (end.granted == 0 || 2 * credit >= end.receive_limit);
  if (end.freed == 0 && !end.fin_to_acknowledge && !opens) return;
  end.granted += credit;
  end.acknowledge_on_wire = true;
  push(end, {.kind = Kind::acknowledge,
             .fin = std::exchange(end.fin_to_acknowledge, false),
             .freed = std::exchange(end.freed, 0),
             .credit = credit});
}

void SimNet::reset_peer(SimEnd& end) {
  ++core_.counters().resets;
  push(end, {.kind = Kind::reset});
}

void SimNet::inject_reset(SimConnection& connection) {
  ++core_.counters().resets_injected;
  note(SimNote::reset_injected, connection.ends[0], 0);
  for (SimEnd& end : connection.ends) {
    ++core_.counters().resets;
    end.wire.clear();
    put(end, {.kind = Kind::reset}, arrival_of(end, 0));
  }
  connection.doomed = true;
}

// --- Arriving --------------------------------------------------------------------------------------------------------

void SimNet::arrive(std::uint32_t number, std::uint64_t serial, unsigned side) {
  SimConnection* connection = find(number, serial);
  if (connection == nullptr) return;
  const Hold hold(*this, *connection);
  SimEnd& from = connection->ends[side];
  while (!from.wire.empty() && from.wire.front().arrival <= core_.now()) {
    SimSegment segment = std::move(from.wire.front());
    from.wire.pop_front();
    on_segment(from.peer(), segment);
  }
}

void SimNet::repeat_syn(std::uint32_t number, std::uint64_t serial) {
  SimConnection* connection = find(number, serial);
  if (connection == nullptr) return;
  const Hold hold(*this, *connection);
  if (connection->ends[0].state == State::connecting) send_syn(*connection);
}

void SimNet::on_segment(SimEnd& end, SimSegment& segment) {
  note(note_of(segment.kind), end, segment.data.size() + segment.freed);
  switch (segment.kind) {
    case Kind::syn: return on_syn(end, segment);
    case Kind::syn_ack: return on_syn_ack(end, segment);
    case Kind::open: return on_open(end);
    case Kind::data: return on_data(end, segment);
    case Kind::acknowledge: return on_acknowledge(end, segment);
    case Kind::fin: return on_fin(end);
    case Kind::reset: return on_reset(end);
  }
}

void SimNet::on_syn(SimEnd& end, const SimSegment& segment) {
  if (end.state != State::absent || end.peer().state != State::connecting) return;
  SimSocket* listener = ports_.listener_for(end.connection->server);
  const bool refused = listener != nullptr && core_.strikes(core_.faults().refuse);
  if (listener == nullptr || refused) {
    if (refused) ++core_.counters().refusals;
    ++core_.counters().connections_refused;
    note(SimNote::refused, end, 0);
    end.state = State::closed;
    reset_peer(end);
    return;
  }
  if (listener->queue.size() + listener->handshakes >
      listener->backlog) {  // full, by Linux's reckoning: one more than asked for
    repeat_syn_later(*end.connection);
    return;
  }
  end.state = State::handshaking;
  end.local = end.connection->server;
  end.sharing = sim_sharing(*listener);
  end.listener = listener->fd;
  end.listener_serial = listener->serial;
  end.credit = segment.credit;
  end.size_buffers(listener->options);
  ++listener->handshakes;
  ports_.hold(end.local, end.sharing);
  push(end, {.kind = Kind::syn_ack, .credit = end.granted});
}

void SimNet::on_syn_ack(SimEnd& end, const SimSegment& segment) {
  if (end.state == State::closed) reset_peer(end);
  if (end.state != State::connecting) return;
  end.state = State::established;
  end.opened = true;
  end.credit = segment.credit;
  push(end, {.kind = Kind::open});
  poke_both(end);
}

void SimNet::on_open(SimEnd& end) {
  if (end.state != State::handshaking) return;
  SimSocket* listener = descriptors_.find(end.listener, end.listener_serial);
  end_handshake(end);
  end.state = State::established;
  if (listener == nullptr || !listener->listening) {
    reset_peer(end);
    finish(end, false);
    return;
  }
  end.opened = true;
  end.queued = true;
  end.inherited = listener->options;
  listener->queue.push_back(&end);
  ++core_.counters().connections_made;
  poke(*listener, SimDirection::in);
}

void SimNet::on_data(SimEnd& end, const SimSegment& segment) {
  if (end.state != State::established) return;
  const bool abandoned = end.socket == nullptr && !end.queued;
  if (abandoned || (end.read_shut && end.write_shut)) {
    reset_peer(end);
    fail(end, ECONNRESET);
    return;
  }
  end.received.push(segment.data);
  end.granted -= segment.data.size();
  end.freed += segment.data.size();
  core_.counters().bytes += segment.data.size();
  acknowledge(end);
  poke(end, SimDirection::in);
}

void SimNet::on_acknowledge(SimEnd& end, const SimSegment& segment) {
  end.peer().acknowledge_on_wire = false;
  acknowledge(end.peer());
  if (end.state != State::established) return;
  end.unacknowledged -= segment.freed;
  end.credit += segment.credit;
  if (segment.fin) end.fin_acknowledged = true;
  pump(end);
  finish_if_done(end);
  poke(end, SimDirection::out);
}

void SimNet::on_fin(SimEnd& end) {
  if (end.state != State::established) return;
  end.fin_received = true;
  end.ended_first = end.write_shut;
  end.fin_to_acknowledge = true;
  acknowledge(end);
  finish_if_done(end);
  poke_both(end);
}

void SimNet::on_reset(SimEnd& end) {
  switch (end.state) {
    case State::absent:
    case State::closed: return;
    case State::connecting: return fail(end, ECONNREFUSED);
    case State::handshaking: return finish(end, false);
    case State::established: return fail(end, end.fin_received && !end.write_shut ? EPIPE : ECONNRESET);
  }
}

}  // namespace bight::detail
