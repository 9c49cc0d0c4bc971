// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Values that several processes share through a server process: multiprocessing.Manager.
///
///     bight::Manager manager;
///     auto pids = manager.dict<int, std::string>("pids");
///     bight::Process child([&] { pids.set(getpid(), "child"); });   // the same dict, from another process
///     child.join();
///     pids.update(7, [](std::optional<std::string> old) { return old.value_or("") + "!"; });

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <bight/codec.hpp>
#include <bight/fiber.hpp>
#include <bight/run.hpp>

namespace bight {

/// The server of a Manager is gone: it was killed, or its Manager has ended.
class ManagerGone : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct ManagerOptions {
  std::size_t clients_max = 1024;                            ///< processes that use it at a time
  std::size_t message_max = std::size_t{16} * 1024 * 1024;   ///< bytes of one request, or of one answer
  std::size_t memory_max = std::size_t{1024} * 1024 * 1024;  ///< bytes of all names, keys and values, encoded
  std::string name = "manager";                              ///< for reports and top(1)
  RunOptions run{};                                          ///< of the server's loop
};

struct ManagerStats {
  std::uint64_t clients = 0;  ///< processes
  std::uint64_t objects = 0;
  std::uint64_t memory = 0;  ///< bytes, as memory_max counts them
  std::uint64_t requests = 0;
};

namespace detail {

using ManagedBytes = std::vector<std::byte>;

struct ManagerRequest {
  enum class Op : std::uint8_t {
    open,    // the name is `key`, the type `value`; answers with the object's number
    get,     // of `key`, or of place `number`
    put,     // the same; `version`: see kAny
    add,     // `number` to the std::int64_t that is there; answers with the sum
    erase,   // of `key`
    push,    // at a list's end
    pop,     // a list's last one
    size,    //
    keys,    //
    values,  //
    items,   // keys and values, in turn
    clear,   //
    stats,   //
  };
  static constexpr std::uint64_t kAny = ~std::uint64_t{0};  // whatever is there; else: only if that version is there,
                                                            // where 0 stands for nothing
  Op op = Op::get;
  std::uint64_t object = 0;
  std::uint64_t number = 0;
  std::uint64_t version = kAny;
  ManagedBytes key;
  ManagedBytes value;
  auto fields() { return std::tie(op, object, number, version, key, value); }
};

struct ManagerAnswer {
  enum class Status : std::uint8_t { done, absent, outdated, wrong_type, full, nonsense, too_large, crowded };
  Status status = Status::done;
  std::uint64_t version = 0;
  std::uint64_t number = 0;
  std::vector<ManagedBytes> values{};
  auto fields() { return std::tie(status, version, number, values); }
};

class ManagerLink;

/// A name's place at the server, and the way there.
class ManagedObject {
 public:
  ManagedObject(std::shared_ptr<ManagerLink> link, std::string_view name, const std::string& type);

 protected:
  using Op = ManagerRequest::Op;
  using Status = ManagerAnswer::Status;

  /// Waits for the answer; throws for the statuses that are errors.
  ManagerAnswer ask(Op op, ManagedBytes key = {}, ManagedBytes value = {}, std::uint64_t number = 0,
                    std::uint64_t version = ManagerRequest::kAny) const;
  [[nodiscard]] std::size_t ask_size() const { return static_cast<std::size_t>(ask(Op::size).number); }
  template <class T>
  [[nodiscard]] static std::optional<T> optional_value(const ManagerAnswer& answer) {
    if (answer.status != Status::done) return std::nullopt;
    return decode<T>(answer.values.at(0));
  }
  template <class T>
  [[nodiscard]] static std::vector<T> all_values(const ManagerAnswer& answer) {
    std::vector<T> values;
    values.reserve(answer.values.size());
    for (const ManagedBytes& each : answer.values) values.push_back(decode<T>(each));
    return values;
  }
  /// Replaces what is there by `f(what is there)`, which is called again as long as somebody else was faster.
  template <class T, class F>
  T update_at(const ManagedBytes& key, std::uint64_t number, F& f) const {
    for (;;) {
      const ManagerAnswer before = ask(Op::get, key, {}, number);
      T after = std::invoke(f, optional_value<T>(before));
      const std::uint64_t version = before.status == Status::done ? before.version : 0;
      if (ask(Op::put, key, encode(after), number, version).status == Status::done) return after;
    }
  }
  /// Throws std::out_of_range.
  [[noreturn]] static void no_place(std::size_t at);

 private:
  std::shared_ptr<ManagerLink> link_;
  std::uint64_t object_ = 0;
};

template <class T>
[[nodiscard]] std::string managed_type(const char* kind) {
  return std::string(kind) + " of " + std::string(type_name<T>());
}

}  // namespace detail

// What all four have in common: they are handles, copies of which name the same thing, in this process and in those
// forked from it; each operation is one request to the server, which does one after the other, so each is atomic. An
// operation waits for the answer, and throws Cancelled (then it may have been done or not), ManagerGone,
// std::system_error (not_enough_memory: memory_max; message_size: message_max; too_many_files_open: clients_max) and
// DecodeError. update() reads, calls a function here, and writes if nobody else has written meanwhile, else begins
// anew: so no lock is held while the function runs, and who is killed meanwhile holds up nobody. The function may be
// called several times.

/// A dictionary. Keys are equal when their encoded bytes are.
template <class K, class V>
class ManagedDict : private detail::ManagedObject {
 public:
  ManagedDict(std::shared_ptr<detail::ManagerLink> link, std::string_view name)
      : ManagedObject(std::move(link), name, detail::managed_type<std::pair<K, V>>("dict")) {}

  [[nodiscard]] std::optional<V> get(const K& key) const { return optional_value<V>(ask(Op::get, encode(key))); }
  [[nodiscard]] bool contains(const K& key) const { return ask(Op::get, encode(key)).status == Status::done; }
  void set(const K& key, const V& value) const { ask(Op::put, encode(key), encode(value)); }
  /// Only if the key is not there. Whether it was put in.
  bool insert(const K& key, const V& value) const {
    return ask(Op::put, encode(key), encode(value), 0, 0).status == Status::done;
  }
  /// Whether it was there.
  bool erase(const K& key) const { return ask(Op::erase, encode(key)).status == Status::done; }
  /// Takes it out.
  std::optional<V> pop(const K& key) const { return optional_value<V>(ask(Op::erase, encode(key))); }
  /// Puts `f(std::optional<V>)` in the place of what is there, or is not, and returns it.
  template <class F>
  V update(const K& key, F&& f) const {
    return this->template update_at<V>(encode(key), 0, f);
  }
  [[nodiscard]] std::size_t size() const { return ask_size(); }
  [[nodiscard]] std::vector<K> keys() const { return this->template all_values<K>(ask(Op::keys)); }
  /// All at one moment, in no particular order.
  [[nodiscard]] std::vector<std::pair<K, V>> snapshot() const {
    const detail::ManagerAnswer answer = ask(Op::items);
    std::vector<std::pair<K, V>> items;
    for (std::size_t i = 0; i + 1 < answer.values.size(); i += 2) {
      items.emplace_back(decode<K>(answer.values[i]), decode<V>(answer.values[i + 1]));
    }
    return items;
  }
  void clear() const { ask(Op::clear); }
};

/// A list. Places beyond its end throw std::out_of_range.
template <class T>
class ManagedList : private detail::ManagedObject {
 public:
  ManagedList(std::shared_ptr<detail::ManagerLink> link, std::string_view name)
      : ManagedObject(std::move(link), name, detail::managed_type<T>("list")) {}

  /// Its place.
  std::size_t append(const T& value) const { return static_cast<std::size_t>(ask(Op::push, {}, encode(value)).number); }
  [[nodiscard]] T get(std::size_t at) const {
    const detail::ManagerAnswer answer = ask(Op::get, {}, {}, at);
    if (answer.status == Status::absent) no_place(at);
    return decode<T>(answer.values.at(0));
  }
  void set(std::size_t at, const T& value) const {
    if (ask(Op::put, {}, encode(value), at).status == Status::absent) no_place(at);
  }
  /// As ManagedDict's, of an element that is there: `f(T)`.
  template <class F>
  T update(std::size_t at, F&& f) const {
    auto on_present = [&](std::optional<T> before) {
      if (!before) no_place(at);
      return std::invoke(f, std::move(*before));
    };
    return this->template update_at<T>({}, at, on_present);
  }
  /// The last one, taken out; nothing if it is empty.
  std::optional<T> pop() const { return optional_value<T>(ask(Op::pop)); }
  [[nodiscard]] std::size_t size() const { return ask_size(); }
  [[nodiscard]] std::vector<T> snapshot() const { return this->template all_values<T>(ask(Op::values)); }
  void clear() const { ask(Op::clear); }
};

/// One value.
template <class T>
class ManagedValue : protected detail::ManagedObject {
 public:
  ManagedValue(std::shared_ptr<detail::ManagerLink> link, std::string_view name, const T& initial)
      : ManagedObject(std::move(link), name, detail::managed_type<T>("value")) {
    ask(Op::put, {}, encode(initial), 0, 0);  // unless it is there
  }
  [[nodiscard]] T get() const { return decode<T>(ask(Op::get).values.at(0)); }
  void set(const T& value) const { ask(Op::put, {}, encode(value)); }
  /// As ManagedDict's: `f(T)`.
  template <class F>
  T update(F&& f) const {
    auto on_present = [&](std::optional<T> before) { return std::invoke(f, std::move(before).value()); };
    return this->template update_at<T>({}, 0, on_present);
  }
};

/// A number that is added to.
class ManagedCounter : public ManagedValue<std::int64_t> {
 public:
  ManagedCounter(std::shared_ptr<detail::ManagerLink> link, std::string_view name)
      : ManagedValue(std::move(link), name, 0) {}
  /// The sum, which wraps around. One request.
  std::int64_t add(std::int64_t amount = 1) const {
    return static_cast<std::int64_t>(ask(Op::add, {}, {}, static_cast<std::uint64_t>(amount)).number);
  }
};

/// The server, a daemon process of this one: it is killed when its Manager goes, or this process ends, however that
/// dies (see ProcessOptions::dies_with_parent about threads). The Manager itself and the handles made by it may be used
/// here and in processes forked afterwards, each of which talks to the server over a connection of its own; in one
/// loop, or one thread without a loop, per process. What is under one name is there until the server ends; asking for
/// it as another type is an error (std::invalid_argument).
///
/// SIGTERM and SIGINT do not end the server, since they often go to all processes of a service.
class Manager {
 public:
  /// Throws std::system_error (as Process; operation_not_supported in a simulated world).
  explicit Manager(ManagerOptions options = {});
  Manager(const Manager&) = delete;
  Manager& operator=(const Manager&) = delete;
  ~Manager();

  template <class K, class V>
  [[nodiscard]] ManagedDict<K, V> dict(std::string_view name) const {
    return {link_, name};
  }
  template <class T>
  [[nodiscard]] ManagedList<T> list(std::string_view name) const {
    return {link_, name};
  }
  template <class T>
  [[nodiscard]] ManagedValue<T> value(std::string_view name, const T& initial = T()) const {
    return {link_, name, initial};
  }
  [[nodiscard]] ManagedCounter counter(std::string_view name) const { return {link_, name}; }

  [[nodiscard]] ManagerStats stats() const;
  /// The server's.
  [[nodiscard]] pid_t pid() const noexcept;

 private:
  struct Server;
  std::unique_ptr<Server> server_;
  std::shared_ptr<detail::ManagerLink> link_;
};

}  // namespace bight
