// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_unix.hpp"

#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <span>
#include <utility>

#include "engine/sim_messages.hpp"

namespace bight::detail {
namespace {

constexpr std::size_t kPathAt = offsetof(::sockaddr_un, sun_path);
constexpr std::size_t kMessagesMost = 11;  // Linux's net.unix.max_dgram_qlen, and one more by its reckoning

bool is_abstract(const std::string& name) noexcept { return !name.empty() && name.front() == '\0'; }

/// 0 or -errno. An empty name is one that has not been given.
int read_name(const ::sockaddr* address, ::socklen_t length, std::string& name) {
  name.clear();
  if (length < sizeof address->sa_family || length > sizeof(::sockaddr_un)) return -EINVAL;
  if (address->sa_family != AF_UNIX) return -EINVAL;
  if (length <= kPathAt) return 0;
  const auto* path = reinterpret_cast<const char*>(address) + kPathAt;
  const std::size_t room = length - kPathAt;
  name.assign(path, *path == '\0' ? room : ::strnlen(path, room));
  return 0;
}

::ucred own_credentials() noexcept { return {::getpid(), ::geteuid(), ::getegid()}; }

bool brings_descriptors(const ::msghdr& message) {
  bool any = false;
  const bool sound = sim_for_each_control(message, [&](const ::cmsghdr& each) {
    any = any || (each.cmsg_level == SOL_SOCKET && each.cmsg_type == SCM_RIGHTS);
  });
  return any || !sound;
}

/// What the sender's name and credentials are, for who wants to know.
void tell_sender(const SimUnixEnd& end, const std::string& from, ::msghdr& message) noexcept {
  if (message.msg_name != nullptr) {
    message.msg_namelen = std::min<::socklen_t>(message.msg_namelen, sizeof(::sockaddr_un));
    if (from.empty()) {
      message.msg_namelen = 0;
    } else {
      sim_write_name(from, static_cast<::sockaddr*>(message.msg_name), &message.msg_namelen);
    }
  } else {
    message.msg_namelen = 0;
  }
  SimControl control(message);
  if (end.socket->options.number(SOL_SOCKET, SO_PASSCRED, 0) != 0) {
    const ::ucred own = own_credentials();
    control.add(SOL_SOCKET, SCM_CREDENTIALS, &own, sizeof own);
  }
}

}  // namespace

std::string SimUnixEnd::describe() const {
  std::string text = listening ? "listens on " : (connected ? "a connected Unix socket at " : "a Unix socket at ");
  return text + (name.empty() ? "no name" : (is_abstract(name) ? "@" + name.substr(1) : name));
}

void sim_write_name(const std::string& name, ::sockaddr* address, ::socklen_t* length) noexcept {
  ::sockaddr_un whole{};
  whole.sun_family = AF_UNIX;
  std::memcpy(whole.sun_path, name.data(), std::min(name.size(), sizeof whole.sun_path));
  const bool path = !name.empty() && !is_abstract(name);
  const std::size_t size = std::min(kPathAt + name.size() + (path ? 1 : 0), sizeof whole);
  std::memcpy(address, &whole, std::min<std::size_t>(*length, size));
  *length = static_cast<::socklen_t>(size);
}

// --- Names -----------------------------------------------------------------------------------------------------------

void SimUnix::open(SimSocket& socket) {
  socket.unix_end = std::make_shared<SimUnixEnd>();
  socket.unix_end->type = socket.type;
  socket.unix_end->socket = &socket;
  socket.unix_end->send_limit = socket.options.send_buffer();
}

void SimUnix::join(SimSocket& a, SimSocket& b) {
  a.unix_end->peer = b.unix_end;
  b.unix_end->peer = a.unix_end;
  a.unix_end->connected = b.unix_end->connected = true;
}

int SimUnix::bind(SimSocket& socket, const ::sockaddr* address, ::socklen_t length) {
  SimUnixEnd& end = *socket.unix_end;
  std::string name;
  if (const int error = read_name(address, length, name); error != 0) return error;
  if (!end.name.empty()) return -EINVAL;
  if (name.empty()) name = unused_name();
  if (names_.contains(name)) return -EADDRINUSE;
  names_[name] = socket.unix_end;
  end.name = name;
  return 0;
}

/// What bind(2) finds for who gives none: an abstract one of five hexadecimal digits.
std::string SimUnix::unused_name() {
  for (;;) {
    char digits[8];
    std::snprintf(digits, sizeof digits, "%05x", static_cast<unsigned>(core_.random().between(0, 0xfffff)));
    std::string name = std::string(1, '\0') + digits;
    if (!names_.contains(name)) return name;
  }
}

int SimUnix::remove_name(const char* path) noexcept {
  const auto found = names_.find(path);
  if (found == names_.end() || *path == '\0') return -ENOENT;
  names_.erase(found);
  return 0;
}

int SimUnix::find(const std::string& name, int type, std::shared_ptr<SimUnixEnd>& found) const {
  if (name.empty()) return -EINVAL;
  const auto place = names_.find(name);
  if (place == names_.end()) return is_abstract(name) ? -ECONNREFUSED : -ENOENT;
  found = place->second.lock();
  if (found == nullptr) return -ECONNREFUSED;
  return found->type == type ? 0 : -EPROTOTYPE;
}

int SimUnix::peer_name(const SimSocket& socket, ::sockaddr* address, ::socklen_t* length) noexcept {
  const auto peer = socket.unix_end->peer.lock();
  if (peer == nullptr) return -ENOTCONN;
  sim_write_name(peer->name, address, length);
  return 0;
}

int SimUnix::credentials(const SimSocket& socket, void* value, ::socklen_t* length) noexcept {
  const bool known = socket.unix_end->connected || socket.unix_end->listening;
  const ::ucred told = known ? own_credentials() : ::ucred{0, static_cast<::uid_t>(-1), static_cast<::gid_t>(-1)};
  *length = std::min<::socklen_t>(*length, sizeof told);
  std::memcpy(value, &told, *length);
  return 0;
}

// --- Connections -----------------------------------------------------------------------------------------------------

int SimUnix::listen(SimSocket& socket, int backlog) {
  SimUnixEnd& end = *socket.unix_end;
  if (end.type == SOCK_DGRAM) return -EOPNOTSUPP;
  if (end.name.empty() || end.connected) return -EINVAL;
  end.listening = true;
  end.backlog = static_cast<std::size_t>(backlog);
  return 0;
}

int SimUnix::connect(SimSocket& socket, const ::sockaddr* address, ::socklen_t length) {
  SimUnixEnd& end = *socket.unix_end;
  if (end.type == SOCK_DGRAM && length >= sizeof address->sa_family && address->sa_family == AF_UNSPEC) {
    end.peer.reset();
    end.connected = false;
    return 0;
  }
  std::string name;
  if (const int error = read_name(address, length, name); error != 0) return error;
  if (end.type != SOCK_DGRAM && end.connected) return -EISCONN;
  if (end.listening) return -EINVAL;
  std::shared_ptr<SimUnixEnd> other;
  if (const int error = find(name, end.type, other); error != 0) return error;
  if (end.type != SOCK_DGRAM) return connect_stream(socket, other);
  const auto its_peer = other->peer.lock();
  if (its_peer != nullptr && its_peer != socket.unix_end) return -EPERM;
  end.peer = other;
  end.connected = true;
  return 0;
}

int SimUnix::connect_stream(SimSocket& socket, const std::shared_ptr<SimUnixEnd>& listener) {
  if (!listener->listening) return -ECONNREFUSED;
  if (listener->queue.size() > listener->backlog) return kSimWait;
  auto accepted = std::make_shared<SimUnixEnd>();
  accepted->type = listener->type;
  accepted->name = listener->name;
  accepted->send_limit = listener->send_limit;
  accepted->connected = socket.unix_end->connected = true;
  accepted->peer = socket.unix_end;
  socket.unix_end->peer = accepted;
  listener->queue.push_back(std::move(accepted));
  ++core_.counters().connections_made;
  stir(*listener, SimDirection::in);
  return 0;
}

void SimUnix::accept(SimSocket& listener, SimSocket& into) {
  into.unix_end = std::move(listener.unix_end->queue.front());
  listener.unix_end->queue.pop_front();
  into.unix_end->socket = &into;
  stir_senders();  // there is room in the queue
}

void SimUnix::end_of(SimUnixEnd& end) {
  if (const auto peer = end.peer.lock(); peer != nullptr && end.type != SOCK_DGRAM) {
    peer->peer_ended = true;
    if (end.has_data()) peer->error = ECONNRESET;  // what nobody will read must not look as if it had been read
    stir(*peer, SimDirection::in);
    stir(*peer, SimDirection::out);
  }
}

void SimUnix::close(SimSocket& socket) {
  const std::shared_ptr<SimUnixEnd> end = std::exchange(socket.unix_end, nullptr);
  end->socket = nullptr;
  end_of(*end);
  for (const auto& each : end->queue) {
    if (const auto peer = each->peer.lock()) peer->error = ECONNRESET;
    end_of(*each);
  }
  end->queue.clear();
  const auto named = names_.find(end->name);
  if (named != names_.end() && is_abstract(end->name) && named->second.lock() == end) names_.erase(named);
  end->listening = false;
  stir_senders();
}

int SimUnix::shutdown(SimSocket& socket, int how) {
  SimUnixEnd& end = *socket.unix_end;
  const auto peer = end.peer.lock();
  if (how != SHUT_WR) end.read_shut = true;
  if (how != SHUT_RD) end.write_shut = true;
  if (end.listening && how != SHUT_WR) end.listening = false;
  if (peer != nullptr && end.type != SOCK_DGRAM) {
    if (how != SHUT_RD) peer->peer_ended = true;
    if (how != SHUT_WR) peer->write_shut = true;
    stir(*peer, SimDirection::in);
    stir(*peer, SimDirection::out);
  }
  stir(end, SimDirection::in);
  stir(end, SimDirection::out);
  return 0;
}

// --- Data ------------------------------------------------------------------------------------------------------------

int SimUnix::send(SimSocket& socket, const ::msghdr& message) {
  SimUnixEnd& end = *socket.unix_end;
  if (brings_descriptors(message)) return -EOPNOTSUPP;
  if (end.error != 0) return -std::exchange(end.error, 0);
  if (end.write_shut) return -EPIPE;
  std::shared_ptr<SimUnixEnd> target;
  if (const int error = target_of(end, message, target); error != 0) return error;
  return end.type == SOCK_STREAM ? send_stream(end, *target, message) : send_one(end, *target, message);
}

int SimUnix::target_of(SimUnixEnd& end, const ::msghdr& message, std::shared_ptr<SimUnixEnd>& target) const {
  if (end.type != SOCK_DGRAM) {
    if (message.msg_namelen != 0) return end.connected ? -EISCONN : -EOPNOTSUPP;
    if (!end.connected) return -ENOTCONN;
    target = end.peer.lock();
    return target == nullptr || target->read_shut ? -EPIPE : 0;
  }
  if (message.msg_namelen == 0) {
    if (!end.connected) return -ENOTCONN;
    target = end.peer.lock();
    if (target != nullptr) return 0;
    end.connected = false;
    return -ECONNREFUSED;
  }
  std::string name;
  if (const int error = read_name(static_cast<const ::sockaddr*>(message.msg_name), message.msg_namelen, name))
    return error;
  if (const int error = find(name, end.type, target); error != 0) return error;
  const auto its_peer = target->peer.lock();
  return its_peer != nullptr && its_peer.get() != &end ? -EPERM : 0;
}

int SimUnix::send_stream(SimUnixEnd& end, SimUnixEnd& peer, const ::msghdr& message) {
  const std::size_t size = sim_size(message);
  if (size == 0) return 0;
  if (peer.bytes.size() >= end.send_limit) return kSimWait;
  const std::size_t room = std::min({size, end.send_limit - peer.bytes.size(), std::size_t{INT_MAX}});
  const std::size_t count = shorten(room, core_.faults().short_write, core_.counters().short_writes);
  const std::vector<std::byte> data = sim_gather(message);
  peer.bytes.push(std::span(data).first(count));
  core_.counters().bytes += count;
  stir(peer, SimDirection::in);
  return static_cast<int>(count);
}

int SimUnix::send_one(SimUnixEnd& end, SimUnixEnd& peer, const ::msghdr& message) {
  const std::size_t size = sim_size(message);
  if (size > end.send_limit) return -EMSGSIZE;
  if (end.type == SOCK_DGRAM && peer.read_shut) return -EPIPE;
  const bool full =
      end.type == SOCK_DGRAM ? peer.messages.size() >= kMessagesMost : peer.queued + size > end.send_limit;
  if (full && !peer.messages.empty()) return kSimWait;
  peer.messages.push_back({end.name, sim_gather(message)});
  peer.queued += size;
  core_.counters().bytes += size;
  stir(peer, SimDirection::in);
  return static_cast<int>(size);
}

int SimUnix::receive(SimSocket& socket, ::msghdr& message, int flags) {
  SimUnixEnd& end = *socket.unix_end;
  if (end.type != SOCK_DGRAM && !end.connected) return end.type == SOCK_STREAM ? -EINVAL : -ENOTCONN;
  if (end.type == SOCK_STREAM && sim_size(message) == 0) return 0;
  if (!end.has_data()) {
    if (end.error != 0) return -std::exchange(end.error, 0);
    if (!end.peer_ended && !end.read_shut) return kSimWait;
    message.msg_namelen = 0;
    message.msg_controllen = 0;
    message.msg_flags = 0;
    return 0;
  }
  return end.type == SOCK_STREAM ? receive_bytes(end, message, flags) : receive_one(end, message, flags);
}

int SimUnix::receive_bytes(SimUnixEnd& end, ::msghdr& message, int flags) {
  std::size_t count = std::min({end.bytes.size(), sim_size(message), std::size_t{INT_MAX}});
  count = shorten(count, core_.faults().short_read, core_.counters().short_reads);
  std::vector<std::byte> data(count);
  const bool peeks = (flags & MSG_PEEK) != 0;
  peeks ? end.bytes.peek(data) : end.bytes.pop(data);
  sim_scatter(data, message);
  message.msg_flags = 0;
  tell_sender(end, {}, message);
  if (peeks) return static_cast<int>(count);
  if (const auto peer = end.peer.lock()) stir(*peer, SimDirection::out);
  return static_cast<int>(count);
}

int SimUnix::receive_one(SimUnixEnd& end, ::msghdr& message, int flags) {
  const SimUnixEnd::Message& first = end.messages.front();
  const std::size_t size = first.data.size();
  const std::size_t copied = sim_scatter(first.data, message);
  message.msg_flags = copied < size ? MSG_TRUNC : 0;
  tell_sender(end, end.type == SOCK_DGRAM ? first.from : std::string(), message);
  if ((flags & MSG_PEEK) == 0) {
    end.queued -= size;
    end.messages.pop_front();
    stir_senders();
  }
  return static_cast<int>((flags & MSG_TRUNC) != 0 ? size : copied);
}

std::size_t SimUnix::shorten(std::size_t count, double probability, std::uint64_t& counter) noexcept {
  if (count < 2 || !core_.strikes(probability)) return count;
  ++counter;
  return core_.some_of(count - 1);
}

bool SimUnix::readable(const SimSocket& socket) noexcept {
  const SimUnixEnd& end = *socket.unix_end;
  if (end.listening) return !end.queue.empty();
  const bool hung_up = end.type != SOCK_DGRAM && !end.connected;
  return hung_up || end.error != 0 || end.has_data() || end.peer_ended || end.read_shut;
}

bool SimUnix::writable(const SimSocket& socket) const noexcept {
  const SimUnixEnd& end = *socket.unix_end;
  if (end.listening) return false;
  const auto peer = end.peer.lock();
  if (end.error != 0 || end.write_shut || peer == nullptr) return true;
  if (end.type == SOCK_STREAM) return peer->bytes.size() < end.send_limit;
  return end.type == SOCK_DGRAM ? peer->messages.size() < kMessagesMost : peer->queued < end.send_limit;
}

void SimUnix::stir(const SimUnixEnd& end, SimDirection direction) {
  if (end.socket != nullptr) sim_stir(core_, *end.socket, direction);
}

/// All that wait to send or to connect: whom it concerns is not noted down.
void SimUnix::stir_senders() {
  descriptors_.for_each([this](SimSocket& each) {
    if (each.unix_end != nullptr && each.slot(SimDirection::out).op != nullptr) {
      sim_stir(core_, each, SimDirection::out);
    }
  });
}

}  // namespace bight::detail
