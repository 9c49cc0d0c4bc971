// SPDX-License-Identifier: Apache-2.0
#include "config.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>
#include <sstream>

#include <bight/fd.hpp>

#include "name.hpp"

namespace bight::net::detail {
namespace {

constexpr std::uint16_t kDnsPort = 53;
constexpr std::size_t kServersMax = 8;
constexpr std::size_t kSearchMax = 6;
constexpr unsigned kNdotsMax = 15;
constexpr unsigned kTriesMax = 10;
constexpr unsigned kTimeoutMax = 60;  // seconds

/// The words of a line, up to a comment.
std::vector<std::string_view> words_of(std::string_view line, std::string_view comment) {
  constexpr std::string_view kSpace = " \t\r\f\v";
  line = line.substr(0, line.find_first_of(comment));
  std::vector<std::string_view> words;
  while (true) {
    const std::size_t begin = line.find_first_not_of(kSpace);
    if (begin == std::string_view::npos) return words;
    const std::size_t end = std::min(line.find_first_of(kSpace, begin), line.size());
    words.push_back(line.substr(begin, end - begin));
    line.remove_prefix(end);
  }
}

template <class Visit>
void for_each_line(std::string_view text, Visit&& visit) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    visit(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

/// An address and nothing else: no "localhost", no "*".
std::optional<Address> numeric(std::string_view text, std::uint16_t port) {
  if (text.find_first_of("0123456789abcdefABCDEF:") != 0) return std::nullopt;
  return Address::try_parse(text, port);
}

/// "name:number", no larger than `max`.
std::optional<unsigned> number_of(std::string_view word, std::string_view name, unsigned max) {
  if (!word.starts_with(name)) return std::nullopt;
  word.remove_prefix(name.size());
  unsigned value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc{} || end != word.data() + word.size()) return std::nullopt;
  return std::min(value, max);
}

void take_option(DnsConfig& config, std::string_view word) {
  if (const auto ndots = number_of(word, "ndots:", kNdotsMax)) config.ndots = *ndots;
  if (const auto tries = number_of(word, "attempts:", kTriesMax)) config.tries = std::max(1U, *tries);
  if (const auto seconds = number_of(word, "timeout:", kTimeoutMax)) {
    config.timeout = std::chrono::seconds(std::max(1U, *seconds));
  }
  if (word == "rotate") config.rotate = true;
  if (word == "use-vc") config.use_tcp = true;
}

void take_search(DnsConfig& config, const std::vector<std::string_view>& words) {
  config.search.clear();
  for (std::size_t i = 1; i < words.size(); ++i) {
    std::error_code error;
    DnsName name = parse_name(words[i], NameKind::host, error);
    if (!error) config.search.push_back(std::move(name.text));
  }
}

void take_line(DnsConfig& config, std::string_view line) {
  const std::vector<std::string_view> words = words_of(line, "#;");
  if (words.size() < 2) return;
  if (words[0] == "nameserver") {
    if (const auto server = numeric(words[1], kDnsPort)) config.servers.push_back(*server);
  } else if (words[0] == "search" || words[0] == "domain") {  // the last one counts
    take_search(config, words);
  } else if (words[0] == "options") {
    for (std::size_t i = 1; i < words.size(); ++i) take_option(config, words[i]);
  }
}

}  // namespace

FileStamp stamp_of(const std::string& path) noexcept {
  struct ::stat status {};
  if (path.empty() || ::stat(path.c_str(), &status) != 0) return {};
  return {status.st_mtim.tv_sec, status.st_mtim.tv_nsec, status.st_size, status.st_ino};
}

std::string read_small_file(const std::string& path, std::size_t limit) {
  std::string text;
  if (path.empty()) return text;
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // a FIFO in its place blocks nobody
  if (!file) return text;
  char piece[4096];
  while (text.size() < limit) {
    const ::ssize_t count = ::read(file.get(), piece, std::min(sizeof piece, limit - text.size()));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    text.append(piece, static_cast<std::size_t>(count));
  }
  return text;
}

DnsConfig make_config(const ResolverOptions& options, std::string_view text) {
  DnsConfig config;
  for_each_line(text, [&config](std::string_view line) { take_line(config, line); });
  if (!options.servers.empty()) config.servers = options.servers;
  if (config.servers.empty()) config.servers.push_back(Address::loopback_v4(kDnsPort));
  if (config.servers.size() > kServersMax) config.servers.resize(kServersMax);
  if (options.search) {
    const std::vector<std::string_view> words(options.search->begin(), options.search->end());
    std::vector<std::string_view> line{"search"};
    line.insert(line.end(), words.begin(), words.end());
    take_search(config, line);
  }
  if (config.search.size() > kSearchMax) config.search.resize(kSearchMax);
  config.ndots = options.ndots.value_or(config.ndots);
  config.tries = options.tries.value_or(config.tries);
  config.timeout = options.timeout.value_or(config.timeout);
  config.rotate = options.rotate.value_or(config.rotate);
  config.use_tcp = options.use_tcp.value_or(config.use_tcp);
  return config;
}

// --- hosts(5) --------------------------------------------------------------------------------------------------------

Hosts::Hosts(std::string_view text) {
  for_each_line(text, [this](std::string_view line) {
    const std::vector<std::string_view> words = words_of(line, "#");
    if (words.size() < 2) return;
    const auto address = numeric(words[0], 0);
    if (!address) return;
    for (std::size_t i = 1; i < words.size(); ++i) {
      Entry& entry = by_name_[lower(words[i])];
      if (entry.canonical_name.empty()) entry.canonical_name = lower(words[1]);
      if (std::find(entry.addresses.begin(), entry.addresses.end(), *address) == entry.addresses.end()) {
        entry.addresses.push_back(*address);
      }
      std::vector<std::string>& names = by_address_[*address];
      if (std::find(names.begin(), names.end(), words[i]) == names.end()) names.emplace_back(words[i]);
    }
  });
}

const Hosts::Entry* Hosts::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found != by_name_.end() ? &found->second : nullptr;
}

std::vector<std::string> Hosts::names_of(const Address& address) const {
  const auto found = by_address_.find(address.with_port(0));
  return found != by_address_.end() ? found->second : std::vector<std::string>();
}

}  // namespace bight::net::detail
