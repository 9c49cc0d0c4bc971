// SPDX-License-Identifier: Apache-2.0
#include "unix_naming.hpp"

#include <cerrno>
#include <string>
#include <utility>

#include <sys/stat.h>
#include <unistd.h>

#include <bight/run.hpp>

namespace bight::net::detail {
namespace {

constexpr Duration kProbe = std::chrono::milliseconds(100);  // a queue that is full is one that somebody has

bool is_simulated() noexcept { return this_loop::engine_name() == "sim"; }

/// Whether somebody might still be behind a socket's path.
bool somebody_is_there(const UnixAddress& address, int type) {
  std::error_code error;
  Socket probe = Socket::open(AF_UNIX, type, 0, error);
  if (error) return true;
  probe.set_write_timeout(kProbe);
  ::sockaddr_un native;
  const ::socklen_t length = address.to_native(native);
  probe.connect(reinterpret_cast<const ::sockaddr*>(&native), length, error);
  return error != std::errc::connection_refused;
}

/// Which file a path leads to, so that another one by this name can be told. Zeros: none; in a simulated world.
struct FileIdentity {
  ::dev_t device = 0;
  ::ino_t inode = 0;
};

FileIdentity identity_of(const UnixAddress& address) noexcept {
  struct ::stat found {};
  if (!address.is_path() || is_simulated() || ::lstat(address.name().data(), &found) != 0) return {};
  return {found.st_dev, found.st_ino};
}

void bind_once(Socket& socket, const UnixAddress& address, std::error_code& error) noexcept {
  ::sockaddr_un native;
  const ::socklen_t length = address.to_native(native);
  socket.bind(reinterpret_cast<const ::sockaddr*>(&native), length, error);
}

}  // namespace

void bind_name(Socket& socket, int type, const UnixAddress& address, std::optional<::mode_t> mode, bool remove_stale,
               std::error_code& error) {
  const bool sets_mode = mode && address.is_path() && !is_simulated();
  // Before bind(2), so that there is no moment in which it allows more; the umask is applied to it.
  if (sets_mode && ::fchmod(socket.fd(), *mode) != 0) {
    error.assign(errno, std::generic_category());
    return;
  }
  bind_once(socket, address, error);
  const std::string path(address.name());
  if (error == std::errc::address_in_use && address.is_path() && remove_stale && !somebody_is_there(address, type)) {
    std::error_code not_removed;
    Socket::remove_name(path.c_str(), not_removed);
    if (!not_removed) bind_once(socket, address, error);
  }
  if (!error && sets_mode && ::chmod(path.c_str(), *mode) != 0) error.assign(errno, std::generic_category());
}

BoundPath::BoundPath(const Socket& socket, bool removes, std::error_code& error) {
  ::sockaddr_storage bound{};  // which the system chooses when it is given no name
  const ::socklen_t length = socket.local_name(bound, error);
  if (error) return;
  address_ = UnixAddress::from_native(reinterpret_cast<const ::sockaddr*>(&bound), length);
  if (!removes || !address_.is_path()) return;
  owner_ = ::getpid();
  const FileIdentity identity = identity_of(address_);
  device_ = identity.device;
  inode_ = identity.inode;
}

void BoundPath::remove() noexcept {
  if (owner_ == 0 || std::exchange(owner_, 0) != ::getpid()) return;
  const FileIdentity now = identity_of(address_);
  if (now.device != device_ || now.inode != inode_) return;
  std::error_code ignored;  // somebody has been faster
  Socket::remove_name(address_.name().data(), ignored);
}

}  // namespace bight::net::detail
