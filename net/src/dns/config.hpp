// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <bight/net/address.hpp>
#include <bight/net/dns.hpp>
#include <bight/time.hpp>

namespace bight::net::detail {

/// Whom to ask, and how: the options with what resolv.conf(5) says where they say nothing.
struct DnsConfig {
  std::vector<Address> servers;
  std::vector<std::string> search;
  unsigned ndots = 1;
  unsigned tries = 3;
  Duration timeout = std::chrono::seconds(2);
  bool rotate = false;
  bool use_tcp = false;
};

/// What a file of the resolver's looked like, to see whether it has changed.
struct FileStamp {
  std::int64_t seconds = 0;
  std::int64_t nanoseconds = 0;
  std::int64_t size = -1;  // there is none
  std::uint64_t inode = 0;
  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

[[nodiscard]] FileStamp stamp_of(const std::string& path) noexcept;
/// At most `limit` bytes of it; empty if it can not be read.
[[nodiscard]] std::string read_small_file(const std::string& path, std::size_t limit);

/// `text` is that of resolv.conf(5). What is wrong in it is skipped, as the C library does.
[[nodiscard]] DnsConfig make_config(const ResolverOptions& options, std::string_view text);

/// hosts(5).
class Hosts {
 public:
  Hosts() = default;
  explicit Hosts(std::string_view text);

  struct Entry {
    std::vector<Address> addresses;
    std::string canonical_name;
  };
  /// By a name in lower case; null if there is none.
  [[nodiscard]] const Entry* find(const std::string& name) const;
  /// The names of an address (whose port does not matter), the first one first.
  [[nodiscard]] std::vector<std::string> names_of(const Address& address) const;

 private:
  std::map<std::string, Entry, std::less<>> by_name_;  // ordered: the file may be long, and made of what others choose
  std::map<Address, std::vector<std::string>> by_address_;
};

}  // namespace bight::net::detail
