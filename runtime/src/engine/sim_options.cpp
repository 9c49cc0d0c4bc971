// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_options.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace bight::detail {
namespace {

// Linux: what is asked for is limited (net.core.wmem_max), then doubled, for the kernel's own bookkeeping shares the
// buffer; and never less than this.
constexpr int kBufferAskedMax = 212'992;
constexpr int kSendBufferLeast = 4'608;
constexpr int kReceiveBufferLeast = 2'304;

std::size_t buffer_size(int asked, int least) noexcept {
  const int wanted = asked < 0 ? kBufferAskedMax : std::min(asked, kBufferAskedMax);
  return static_cast<std::size_t>(std::max(2 * wanted, least)) / 2;
}

bool known_level(int level) noexcept {
  return level == SOL_SOCKET || level == IPPROTO_TCP || level == IPPROTO_IP || level == IPPROTO_IPV6;
}

}  // namespace

void sim_give_option(int given, void* value, ::socklen_t* length) noexcept {
  *length = std::min<::socklen_t>(*length, sizeof given);
  std::memcpy(value, &given, *length);
}

int SimSocketOptions::set(int level, int name, const void* value, ::socklen_t length) {
  if (!known_level(level)) return -ENOPROTOOPT;
  const bool linger = level == SOL_SOCKET && name == SO_LINGER;
  if (length < (linger ? sizeof(::linger) : sizeof(int))) return -EINVAL;
  Option option{level, name, {}};
  std::memcpy(&option.value, value, std::min<std::size_t>(length, sizeof option.value));
  const int number = option.value.l_onoff;
  if (level == SOL_SOCKET && name == SO_SNDBUF) {
    send_buffer_ = buffer_size(number, kSendBufferLeast);
  } else if (level == SOL_SOCKET && name == SO_RCVBUF) {
    receive_buffer_ = buffer_size(number, kReceiveBufferLeast);
  } else if (const Option* known = find(level, name)) {
    others_[static_cast<std::size_t>(known - others_.data())] = option;
  } else {
    others_.push_back(option);
  }
  return 0;
}

int SimSocketOptions::get(int level, int name, void* value, ::socklen_t* length) const noexcept {
  if (!known_level(level)) return -ENOPROTOOPT;
  const bool socket_level = level == SOL_SOCKET;
  const Option* option = find(level, name);
  if (socket_level && name == SO_LINGER) {
    const ::linger linger = option != nullptr ? option->value : ::linger{};
    *length = std::min<::socklen_t>(*length, sizeof linger);
    std::memcpy(value, &linger, *length);
    return 0;
  }
  int number = option != nullptr ? option->value.l_onoff : 0;
  if (socket_level && name == SO_SNDBUF) number = static_cast<int>(2 * send_buffer_);
  if (socket_level && name == SO_RCVBUF) number = static_cast<int>(2 * receive_buffer_);
  sim_give_option(number, value, length);
  return 0;
}

const SimSocketOptions::Option* SimSocketOptions::find(int level, int name) const noexcept {
  const auto found = std::find_if(others_.begin(), others_.end(),
                                  [&](const Option& each) { return each.level == level && each.name == name; });
  return found == others_.end() ? nullptr : &*found;
}

bool SimSocketOptions::flag(int level, int name) const noexcept {
  const Option* option = find(level, name);
  return option != nullptr && option->value.l_onoff != 0;
}

int SimSocketOptions::number(int level, int name, int unless_set) const noexcept {
  const Option* option = find(level, name);
  return option != nullptr ? option->value.l_onoff : unless_set;
}

bool SimSocketOptions::v6only() const noexcept { return flag(IPPROTO_IPV6, IPV6_V6ONLY); }

bool SimSocketOptions::resets_on_close() const noexcept {
  const Option* option = find(SOL_SOCKET, SO_LINGER);
  return option != nullptr && option->value.l_onoff != 0 && option->value.l_linger == 0;
}

}  // namespace bight::detail
