// SPDX-License-Identifier: Apache-2.0
#include "manager_server.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <deque>
#include <string>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include <bight/error.hpp>
#include <bight/group.hpp>
#include <bight/log.hpp>

namespace bight::detail {
namespace {

constexpr std::size_t kOverhead = 64;  // bytes that count for each entry besides its own

std::string text_of(const ManagedBytes& bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

ManagedBytes bytes_of(const std::string& text) {
  ManagedBytes bytes(text.size());
  if (!text.empty()) std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

struct Entry {
  ManagedBytes value;
  std::uint64_t version = 0;
};

/// A dict has entries by key, a list by place. A value is a dict with one key.
struct Object {
  std::string type;
  bool is_list = false;
  std::unordered_map<std::string, Entry> by_key;
  std::deque<Entry> by_place;

  [[nodiscard]] std::size_t size() const noexcept { return is_list ? by_place.size() : by_key.size(); }
};

/// All there is. One fiber per client asks; nothing in here waits, so each request is done at once.
class ManagedStore {
 public:
  explicit ManagedStore(const ManagerOptions& options) : options_(options) {}

  [[nodiscard]] ManagerAnswer perform(ManagerRequest&& request);
  std::uint64_t clients = 0;

 private:
  using Op = ManagerRequest::Op;
  using Status = ManagerAnswer::Status;

  [[nodiscard]] ManagerAnswer open(const ManagerRequest& request);
  [[nodiscard]] ManagerAnswer stats() const;
  [[nodiscard]] Entry* find(Object& object, const ManagerRequest& request) const;
  [[nodiscard]] ManagerAnswer put(Object& object, ManagerRequest&& request);
  [[nodiscard]] ManagerAnswer add(Object& object, const ManagerRequest& request);
  [[nodiscard]] ManagerAnswer push(Object& object, ManagerRequest&& request);
  [[nodiscard]] ManagerAnswer take(Object& object, const ManagerRequest& request);
  [[nodiscard]] ManagerAnswer list(const Object& object, bool keys, bool values) const;
  void clear(Object& object) noexcept;
  [[nodiscard]] bool grow(std::size_t bytes) noexcept;

  const ManagerOptions& options_;
  std::unordered_map<std::string, std::uint64_t> names_;
  std::deque<Object> objects_;  // number n at place n - 1
  std::size_t memory_ = 0;
  std::uint64_t version_ = 0;  // the last one given
  std::uint64_t requests_ = 0;
};

bool ManagedStore::grow(std::size_t bytes) noexcept {
  if (bytes > options_.memory_max - memory_) return false;
  memory_ += bytes;
  return true;
}

ManagerAnswer ManagedStore::perform(ManagerRequest&& request) {
  ++requests_;
  if (request.op == Op::open) return open(request);
  if (request.op == Op::stats) return stats();
  if (request.object == 0 || request.object > objects_.size()) return {.status = Status::nonsense};
  Object& object = objects_[static_cast<std::size_t>(request.object) - 1];
  switch (request.op) {
    case Op::get: {
      const Entry* entry = find(object, request);
      if (entry == nullptr) return {.status = Status::absent};
      return {.version = entry->version, .values = {entry->value}};
    }
    case Op::put: return put(object, std::move(request));
    case Op::add: return add(object, request);
    case Op::push: return push(object, std::move(request));
    case Op::erase:
    case Op::pop: return take(object, request);
    case Op::size: return {.number = object.size()};
    case Op::keys: return list(object, true, false);
    case Op::values: return list(object, false, true);
    case Op::items: return list(object, true, true);
    case Op::clear: clear(object); return {};
    default: return {.status = Status::nonsense};
  }
}

ManagerAnswer ManagedStore::open(const ManagerRequest& request) {
  const std::string type = text_of(request.value);
  if (const auto known = names_.find(text_of(request.key)); known != names_.end()) {
    const bool same = objects_[static_cast<std::size_t>(known->second) - 1].type == type;
    return {.status = same ? Status::done : Status::wrong_type, .number = known->second};
  }
  if (!grow(kOverhead + request.key.size() + type.size())) return {.status = Status::full};
  objects_.push_back({.type = type, .is_list = type.starts_with("list"), .by_key = {}, .by_place = {}});
  names_.emplace(text_of(request.key), objects_.size());
  return {.number = objects_.size()};
}

ManagerAnswer ManagedStore::stats() const {
  const ManagerStats stats{clients, objects_.size(), memory_, requests_};
  return {.values = {encode(stats)}};
}

Entry* ManagedStore::find(Object& object, const ManagerRequest& request) const {
  if (object.is_list) {
    return request.number < object.by_place.size() ? &object.by_place[static_cast<std::size_t>(request.number)]
                                                   : nullptr;
  }
  const auto found = object.by_key.find(text_of(request.key));
  return found != object.by_key.end() ? &found->second : nullptr;
}

ManagerAnswer ManagedStore::put(Object& object, ManagerRequest&& request) {
  Entry* const entry = find(object, request);
  if (entry == nullptr && object.is_list) return {.status = Status::absent};
  const std::uint64_t there = entry != nullptr ? entry->version : 0;
  if (request.version != ManagerRequest::kAny && request.version != there) return {.status = Status::outdated};
  const std::size_t before = entry != nullptr ? entry->value.size() : 0;
  const std::size_t more = entry != nullptr ? 0 : kOverhead + request.key.size();
  memory_ -= before;
  if (!grow(request.value.size() + more)) {
    memory_ += before;
    return {.status = Status::full};
  }
  Entry fresh{std::move(request.value), ++version_};
  if (entry != nullptr) {
    *entry = std::move(fresh);
  } else {
    object.by_key.emplace(text_of(request.key), std::move(fresh));
  }
  return {.version = version_};
}

ManagerAnswer ManagedStore::add(Object& object, const ManagerRequest& request) {
  Entry* const entry = find(object, request);
  std::uint64_t value = 0;
  if (entry == nullptr || entry->value.size() != sizeof value) return {.status = Status::nonsense};
  std::memcpy(&value, entry->value.data(), sizeof value);
  value += request.number;
  std::memcpy(entry->value.data(), &value, sizeof value);
  entry->version = ++version_;
  return {.version = version_, .number = value};
}

ManagerAnswer ManagedStore::push(Object& object, ManagerRequest&& request) {
  if (!object.is_list) return {.status = Status::nonsense};
  if (!grow(kOverhead + request.value.size())) return {.status = Status::full};
  object.by_place.push_back({std::move(request.value), ++version_});
  return {.version = version_, .number = object.by_place.size() - 1};
}

/// A dict's entry by its key, or a list's last one.
ManagerAnswer ManagedStore::take(Object& object, const ManagerRequest& request) {
  if (object.is_list != (request.op == Op::pop)) return {.status = Status::nonsense};
  if (object.is_list) {
    if (object.by_place.empty()) return {.status = Status::absent};
    ManagerAnswer answer{.version = object.by_place.back().version, .values = {}};
    answer.values.push_back(std::move(object.by_place.back().value));
    object.by_place.pop_back();
    memory_ -= kOverhead + answer.values[0].size();
    return answer;
  }
  const auto found = object.by_key.find(text_of(request.key));
  if (found == object.by_key.end()) return {.status = Status::absent};
  ManagerAnswer answer{.version = found->second.version, .values = {}};
  answer.values.push_back(std::move(found->second.value));
  object.by_key.erase(found);
  memory_ -= kOverhead + request.key.size() + answer.values[0].size();
  return answer;
}

ManagerAnswer ManagedStore::list(const Object& object, bool keys, bool values) const {
  ManagerAnswer answer;
  answer.values.reserve(object.size() * (keys && values ? 2 : 1));
  for (const auto& [key, entry] : object.by_key) {
    if (keys) answer.values.push_back(bytes_of(key));
    if (values) answer.values.push_back(entry.value);
  }
  for (const Entry& entry : object.by_place) answer.values.push_back(entry.value);
  return answer;
}

void ManagedStore::clear(Object& object) noexcept {
  for (const auto& [key, entry] : object.by_key) memory_ -= kOverhead + key.size() + entry.value.size();
  for (const Entry& entry : object.by_place) memory_ -= kOverhead + entry.value.size();
  object.by_key.clear();
  object.by_place.clear();
}

void serve_client(Connection client, ManagedStore& store, const ManagerOptions& options) {
  struct Counted {
    std::uint64_t& clients;
    explicit Counted(std::uint64_t& all) : clients(all) { ++clients; }
    ~Counted() { --clients; }
  } const counted(store.clients);
  client.set_message_max(options.message_max);
  for (;;) {
    std::error_code error;
    std::optional<ManagerRequest> request = client.receive<ManagerRequest>(error);
    if (error == std::errc::message_size || error == std::errc::bad_message) {
      client.send(ManagerAnswer{.status = ManagerAnswer::Status::too_large, .values = {}}, error);
      if (error) return;
      continue;
    }
    if (error || !request) return;  // it is gone: whatever it had asked for is done, or never will be
    client.send(store.perform(std::move(*request)), error);
    if (error == std::errc::message_size) {
      client.send(ManagerAnswer{.status = ManagerAnswer::Status::too_large, .values = {}}, error);
    }
    if (error) return;
  }
}

/// Each client is one, and the usual soft limit (1024) is no more than clients_max.
void allow_descriptors(std::size_t clients) noexcept {
  constexpr ::rlim_t kOthers = 64;
  ::rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= clients + kOthers) return;
  limit.rlim_cur = std::min<::rlim_t>(limit.rlim_max, clients + kOthers);
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

void serve_manager(Connection& door, const ManagerOptions& options) {
  struct sigaction action {};  // a handler, and not "ignored", see serve_pool()
  action.sa_handler = [](int) {};
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  allow_descriptors(options.clients_max);
  ManagedStore store(options);
  Group clients;
  for (;;) {
    std::error_code error;
    std::optional<Message> message = door.receive_message(error);
    if (error == std::errc::too_many_files_open) {  // that client finds its end closed; the others stay
      log_warning("manager '" + options.name + "' has no descriptor left for another client");
      continue;
    }
    if (error) throw_error(error, "receive a client of manager '" + options.name + "'");
    if (!message) return;
    if (message->fds.size() != 1) continue;
    Connection client(std::move(message->fds[0]));
    if (clients.size() >= options.clients_max) {
      client.send(ManagerAnswer{.status = ManagerAnswer::Status::crowded, .values = {}}, error);
      continue;
    }
    clients
        .spawn({.name = "client"},
               [&store, &options, client = std::move(client)]() mutable {
                 serve_client(std::move(client), store, options);
               })
        .detach();
  }
}

}  // namespace bight::detail
