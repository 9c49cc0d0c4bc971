// SPDX-License-Identifier: Apache-2.0
#include "shards/status_socket.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <exception>
#include <string_view>
#include <system_error>
#include <utility>

#include <bight/log.hpp>

namespace bight {
namespace detail {
namespace {

constexpr Duration kPatience = std::chrono::seconds(1);
constexpr std::size_t kClientsMax = 16;  // the rest waits in the queue

[[noreturn]] void fail(int error, const std::string& what) {
  throw std::system_error(error, std::generic_category(), what);
}

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) fail(ENAMETOOLONG, "status socket " + path);
  path.copy(address.sun_path, path.size());
  return address;
}

bool somebody_listens_at(const sockaddr_un& address) noexcept {
  const Fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return ::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 || errno == EAGAIN;
}

ino_t inode_of(const std::string& path) noexcept {
  struct stat file {};
  return ::lstat(path.c_str(), &file) == 0 ? file.st_ino : 0;
}

}  // namespace

StatusSocket::StatusSocket(const std::string& path, bool replace) {
  if (path.empty()) return;
  if (!replace && somebody_listens_at(address_of(path)))
    fail(EADDRINUSE, "make status socket " + path + ": somebody listens there");
  listen_at(path);
}

void StatusSocket::listen_at(const std::string& path) {
  const std::string what = "make status socket " + path;
  struct stat file {};
  if (::lstat(path.c_str(), &file) == 0 && !S_ISSOCK(file.st_mode)) fail(EEXIST, what + ": what is there is no socket");
  // Made under another name and moved over: never absent, never more open than it should be.
  const std::string draft = path + "." + std::to_string(::getpid());
  const sockaddr_un address = address_of(draft);
  Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) fail(errno, what + ": socket");
  ::unlink(draft.c_str());
  const mode_t mask = ::umask(0177);
  const int bound = ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int error = errno;
  ::umask(mask);
  if (bound != 0) fail(error, what + ": bind");
  if (::listen(listener.get(), 16) != 0 || ::rename(draft.c_str(), path.c_str()) != 0) {
    const int reason = errno;
    ::unlink(draft.c_str());
    fail(reason, what);
  }
  listener_ = std::move(listener);
  path_ = path;
  inode_ = inode_of(path);
}

StatusSocket::~StatusSocket() {
  if (listener_ && inode_of(path_) == inode_) ::unlink(path_.c_str());
}

void StatusSocket::step_back() noexcept {
  if (!listener_ || inode_of(path_) == inode_) return;
  try {
    listen_at(path_);
  } catch (const std::exception& failure) {
    log_warning(failure.what());
  }
}

void StatusSocket::forget() noexcept {
  clients_.clear();
  listener_.reset();
}

void StatusSocket::add_to(std::vector<pollfd>& polled) const {
  if (listener_ && clients_.size() < kClientsMax && rest_until_ == TimePoint{})
    polled.push_back({listener_.get(), POLLIN, 0});
  for (const Client& each : clients_) polled.push_back({each.fd.get(), POLLIN, 0});
}

TimePoint StatusSocket::next_event() const noexcept {
  TimePoint first = rest_until_ == TimePoint{} ? TimePoint::max() : rest_until_;
  for (const Client& each : clients_) first = std::min(first, each.until);
  return first;
}

void StatusSocket::accept_all(TimePoint time) {
  if (time < rest_until_) return;
  rest_until_ = TimePoint{};
  while (listener_ && clients_.size() < kClientsMax) {
    Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!client) {
      if (errno != EAGAIN) rest_until_ = saturating_add(time, kPatience);  // no descriptors, say; it stays readable
      return;
    }
    clients_.push_back({std::move(client), saturating_add(time, kPatience)});
  }
}

/// True: this one is done with.
bool StatusSocket::answer(Client& client, const Report& report) {
  std::array<char, 4096> text{};
  const ssize_t size = ::recv(client.fd.get(), text.data(), text.size(), MSG_DONTWAIT);
  if (size < 0) return errno != EAGAIN && errno != EINTR;
  if (size == 0 || client.answered) return size == 0;
  const std::string_view request(text.data(), static_cast<std::size_t>(size));
  const bool http = request.starts_with("GET ");
  const StatusFormat format = http || request.starts_with("json") ? StatusFormat::json : StatusFormat::text;
  std::string all = report(format);
  if (http) {
    all.insert(0, "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(all.size()) +
                      "\r\n\r\n");
  }
  [[maybe_unused]] const auto sent = ::send(client.fd.get(), all.data(), all.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  ::shutdown(client.fd.get(), SHUT_WR);
  client.answered = true;  // closed when it has: closing on what it still sends would take the answer away
  return false;
}

void StatusSocket::serve(const Report& report, TimePoint time) {
  accept_all(time);
  std::erase_if(clients_, [&](Client& each) { return answer(each, report) || each.until <= time; });
}

}  // namespace detail

std::string shard_status(const std::string& socket_path, StatusFormat format) {
  const std::string what = "ask for the status at " + socket_path;
  const sockaddr_un address = detail::address_of(socket_path);
  const Fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval limit{5, 0};
  ::setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(client.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  const std::string_view request = format == StatusFormat::json ? "json\n" : "text\n";
  if (::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::send(client.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) {
    detail::fail(errno, what);
  }
  std::string answer;
  std::array<char, 4096> part{};
  ssize_t size = 0;
  while ((size = ::recv(client.get(), part.data(), part.size(), 0)) > 0)
    answer.append(part.data(), static_cast<std::size_t>(size));
  if (size < 0) detail::fail(errno == EAGAIN ? ETIMEDOUT : errno, what);
  return answer;
}

}  // namespace bight
