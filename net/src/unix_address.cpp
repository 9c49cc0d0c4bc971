// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstring>

#include <bight/net/unix.hpp>

namespace bight::net {
namespace {

constexpr std::size_t kPathAt = offsetof(::sockaddr_un, sun_path);

[[noreturn]] void reject(std::string_view text, std::errc why, const char* complaint) {
  constexpr std::size_t kShown = 120;
  std::string what = "Unix address \"";
  for (const char c : text.substr(0, kShown)) what += c >= ' ' && c != '\x7f' ? c : '?';
  what.append(text.size() > kShown ? "...\": " : "\": ").append(complaint);
  throw std::system_error(std::make_error_code(why), what);
}

void check_length(std::string_view text) {
  if (text.empty()) reject(text, std::errc::invalid_argument, "it is empty");
  if (text.size() > UnixAddress::kNameMax) reject(text, std::errc::filename_too_long, "more than 107 bytes");
}

}  // namespace

UnixAddress UnixAddress::path(std::string_view path) {
  check_length(path);
  if (path.find('\0') != std::string_view::npos) reject(path, std::errc::invalid_argument, "a path has no zeros");
  return UnixAddress(std::string(path));
}

UnixAddress UnixAddress::abstract(std::string_view name) {
  check_length(name);
  return UnixAddress(std::string(1, '\0').append(name));
}

UnixAddress UnixAddress::parse(std::string_view text) {
  if (!text.empty() && text.front() == '@') return abstract(text.substr(1));
  if (!text.empty() && text.find('/') == std::string_view::npos)
    reject(text, std::errc::invalid_argument, "neither a path (with a slash) nor an abstract name (\"@...\")");
  return path(text);
}

UnixAddress UnixAddress::from_native(const ::sockaddr* address, ::socklen_t length) {
  if (address == nullptr || length <= kPathAt || address->sa_family != AF_UNIX) return {};
  const auto* name = reinterpret_cast<const char*>(address) + kPathAt;
  const std::size_t room = std::min<std::size_t>(length - kPathAt, sizeof(::sockaddr_un::sun_path));
  return UnixAddress(std::string(name, *name == '\0' ? room : ::strnlen(name, room)));
}

std::string UnixAddress::to_string() const {
  if (is_unnamed()) return "an unnamed Unix socket";
  return is_abstract() ? '@' + name_.substr(1) : name_;
}

::socklen_t UnixAddress::to_native(::sockaddr_un& native) const noexcept {
  native = {};
  native.sun_family = AF_UNIX;
  std::memcpy(native.sun_path, name_.data(), name_.size());
  return static_cast<::socklen_t>(kPathAt + name_.size() + (is_path() ? 1 : 0));
}

}  // namespace bight::net
