// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_net.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace bight::detail {
namespace {

using State = SimEnd::State;

/// The address from which a connection to `peer` leaves, as Linux chooses it when everything is local.
SimAddress source_for(const SimAddress& peer) noexcept {
  return (peer.is_loopback() ? sim_loopback(peer.is_v4()) : peer).with_port(0);
}

}  // namespace

// --- Connections -----------------------------------------------------------------------------------------------------

SimConnection& SimNet::make_connection() {
  if (free_.empty()) {
    free_.push_back(static_cast<std::uint32_t>(connections_.size()));
    connections_.emplace_back();
  }
  auto made = std::make_unique<SimConnection>();
  made->number = free_.back();
  made->serial = core_.next_serial();
  for (std::uint8_t side = 0; side < 2; ++side) {
    made->ends[side].connection = made.get();
    made->ends[side].side = side;
  }
  free_.pop_back();
  return *(connections_[made->number] = std::move(made));
}

SimConnection* SimNet::find(std::uint32_t number, std::uint64_t serial) const noexcept {
  SimConnection* connection = connections_[number].get();
  return connection != nullptr && connection->serial == serial ? connection : nullptr;
}

void SimNet::free_if_over(SimConnection& connection) noexcept {
  for (const SimEnd& end : connection.ends) {
    const bool over = end.state == State::absent || end.state == State::closed;
    if (!over || end.socket != nullptr || end.queued) return;
  }
  const std::uint32_t number = connection.number;
  connections_[number].reset();
  free_.push_back(number);
}

std::size_t SimNet::orphans() const noexcept {
  return static_cast<std::size_t>(std::count_if(connections_.begin(), connections_.end(), [](const auto& each) {
    return each != nullptr && std::none_of(each->ends.begin(), each->ends.end(),
                                           [](const SimEnd& end) { return end.socket != nullptr || end.queued; });
  }));
}

// --- What the system calls ask for -----------------------------------------------------------------------------------

int SimNet::connect(SimSocket& socket, SimAddress peer) {
  if (peer.is_any()) peer = sim_loopback(peer.is_v4()).with_port(peer.port);
  SimAddress local = socket.local;
  if (local.is_any()) local = source_for(peer).with_port(local.port);
  if (local.port == 0) local.port = ports_.port_towards(local, peer);
  if (local.port == 0 || !ports_.claim(local, peer)) return -EADDRNOTAVAIL;
  SimConnection& connection = make_connection();
  const Hold hold(*this, connection);
  connection.claimed = true;
  connection.client = local;
  connection.server = peer;
  open_client(connection, socket);
  send_syn(connection);
  return 0;
}

void SimNet::open_client(SimConnection& connection, SimSocket& socket) {
  SimEnd& end = connection.ends[0];
  end.state = State::connecting;
  end.socket = &socket;
  end.local = connection.client;
  end.sharing = sim_sharing(socket);
  end.size_buffers(socket.options);
  ports_.hold(end.local, end.sharing);
  socket.end = &end;
  socket.connect_reported = false;
}

void SimNet::drop_failed(SimSocket& socket) noexcept {
  SimEnd& end = *std::exchange(socket.end, nullptr);
  const Hold hold(*this, *end.connection);
  end.socket = nullptr;
}

void SimNet::accept(SimSocket& listener, SimSocket& into) noexcept {
  SimEnd& end = *listener.queue.front();
  listener.queue.pop_front();
  end.queued = false;
  end.socket = &into;
  into.end = &end;
  into.options = *std::exchange(end.inherited, std::nullopt);
  into.connect_reported = true;
}

void SimNet::abort_first(SimSocket& listener) {
  SimEnd& end = *listener.queue.front();
  listener.queue.pop_front();
  release(end, true);
}

void SimNet::send(SimEnd& end, std::span<const ::iovec> pieces, std::size_t count) {
  const Hold hold(*this, *end.connection);
  for (const ::iovec& piece : pieces) {
    const std::size_t part = std::min(piece.iov_len, count);
    end.unsent.push({static_cast<const std::byte*>(piece.iov_base), part});
    count -= part;
  }
  pump(end);
}

std::size_t SimNet::receive(SimEnd& end, std::span<std::byte> buffer) {
  const Hold hold(*this, *end.connection);
  const std::size_t count = end.received.pop(buffer);
  acknowledge(end);
  return count;
}

void SimNet::shut_write(SimEnd& end) {
  const Hold hold(*this, *end.connection);
  if (end.state == State::connecting) {
    if (end.peer().state != State::absent) reset_peer(end);
    fail(end, ECONNRESET);
  } else if (end.state == State::established && !end.write_shut) {
    end.write_shut = true;
    pump(end);
    poke_both(end);
  }
}

void SimNet::shut_read(SimEnd& end) noexcept {
  const Hold hold(*this, *end.connection);
  end.read_shut = true;
  poke_both(end);
}

void SimNet::close(SimSocket& socket) {
  stop_listening(socket);
  if (socket.end != nullptr) release(*std::exchange(socket.end, nullptr), socket.options.resets_on_close());
  ports_.unbind(socket);
}

void SimNet::release(SimEnd& end, bool with_reset) {
  const Hold hold(*this, *end.connection);
  end.socket = nullptr;
  end.queued = false;
  if (end.state == State::connecting) {
    if (end.peer().state != State::absent) reset_peer(end);
    finish(end, false);
  } else if (end.state == State::established) {
    // What nobody will read must not look as if it had been read: the peer learns of it by a reset.
    if (with_reset || !end.received.empty()) {
      reset_peer(end);
      finish(end, false);
    } else {
      end.write_shut = true;
      pump(end);
    }
  }
}

void SimNet::stop_listening(SimSocket& listener) {
  listener.listening = false;
  while (!listener.queue.empty()) abort_first(listener);
}

void SimNet::apply_options(SimEnd& end) {
  const Hold hold(*this, *end.connection);
  end.send_limit = end.socket->options.send_buffer();
  end.receive_limit = end.socket->options.receive_buffer();
  if (end.state != State::closed) {
    ports_.let_go(end.local, end.sharing, false);
    end.sharing = sim_sharing(*end.socket);
    ports_.hold(end.local, end.sharing);
  }
  acknowledge(end);
  poke(end, SimDirection::out);
}

// --- Ending ----------------------------------------------------------------------------------------------------------

void SimNet::end_handshake(SimEnd& end) noexcept {
  if (SimSocket* listener = descriptors_.find(end.listener, end.listener_serial)) --listener->handshakes;
}

void SimNet::fail(SimEnd& end, int error) noexcept {
  end.error = error;
  finish(end, false);
  poke_both(end);
}

void SimNet::finish(SimEnd& end, bool time_wait) noexcept {
  if (end.state == State::closed) return;
  if (end.state == State::handshaking) end_handshake(end);
  end.state = State::closed;
  end.unsent.clear();
  end.unacknowledged = 0;
  ports_.let_go(end.local, end.sharing, time_wait);
  if (end.side == 0 && std::exchange(end.connection->claimed, false)) {
    ports_.give_up(end.connection->client, end.connection->server);
  }
}

void SimNet::finish_if_done(SimEnd& end) noexcept {
  if (end.state == State::established && end.fin_received && end.fin_acknowledged) finish(end, end.ended_first);
}

void SimNet::poke_both(SimEnd& end) noexcept {
  poke(end, SimDirection::in);
  poke(end, SimDirection::out);
}

void SimNet::note(SimNote what, const SimEnd& end, std::size_t amount) noexcept {
  const std::int64_t who = end.socket != nullptr ? end.socket->fd : -1 - std::int64_t{end.connection->number};
  core_.note(what, who, static_cast<std::int64_t>(amount));
}

}  // namespace bight::detail
