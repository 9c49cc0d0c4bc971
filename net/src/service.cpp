// SPDX-License-Identifier: Apache-2.0
#include <netdb.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <vector>

#include <bight/net/dial.hpp>
#include <bight/offload.hpp>

namespace bight::net {
namespace {

constexpr std::size_t kScratch = 1024;
constexpr std::size_t kScratchMax = std::size_t{64} * 1024;

/// 0: there is none.
std::uint16_t look_up(const std::string& name) {
  return offload([&name]() -> std::uint16_t {
    ::servent entry{};
    ::servent* found = nullptr;
    for (std::vector<char> scratch(kScratch); scratch.size() <= kScratchMax; scratch.resize(scratch.size() * 2)) {
      const int status = ::getservbyname_r(name.c_str(), "tcp", &entry, scratch.data(), scratch.size(), &found);
      if (status != ERANGE) break;
    }
    return found != nullptr ? ntohs(static_cast<std::uint16_t>(found->s_port)) : std::uint16_t{0};
  });
}

}  // namespace

std::uint16_t Service::port(std::error_code& error) const {
  error.clear();
  std::uint16_t port = port_ > 0 ? static_cast<std::uint16_t>(port_) : std::uint16_t{0};
  if (!name_.empty()) {
    const auto [end, wrong] = std::from_chars(name_.data(), name_.data() + name_.size(), port);
    if (wrong != std::errc{} || end != name_.data() + name_.size()) {
      const bool number = std::all_of(name_.begin(), name_.end(), [](char c) { return c >= '0' && c <= '9'; });
      port = number || name_.find('\0') != std::string::npos ? std::uint16_t{0} : look_up(name_);
    }
  }
  if (port == 0) error = std::make_error_code(std::errc::invalid_argument);
  return port;
}

}  // namespace bight::net
