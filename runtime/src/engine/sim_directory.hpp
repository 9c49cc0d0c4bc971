// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace bight::detail {

struct SimInode;

/// The names in a simulated directory. They are listed in an order of the seed's choice, as a real file system's is
/// that of a hash: so that no program comes to count on one. Each name has its place whatever comes and goes around it;
/// who lists a directory while it changes sees what is there all the time exactly once.
class SimDirectory {
 public:
  struct Entry {
    std::string_view name;
    SimInode* node = nullptr;  // null: there is no such entry
    std::uint64_t place = 0;
  };

  static constexpr std::uint64_t kFirstPlace = 2;  // 0 and 1 are those of . and ..

  explicit SimDirectory(std::uint64_t salt) noexcept : salt_(salt) {}

  [[nodiscard]] bool empty() const noexcept { return names_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return names_.size(); }
  [[nodiscard]] SimInode* find(std::string_view name) const noexcept;
  /// The first entry whose place is at or behind `from`.
  [[nodiscard]] Entry next(std::uint64_t from) const noexcept;

  /// Replaces what has the name.
  void put(std::string_view name, SimInode& node);
  void remove(std::string_view name) noexcept;
  void clear() noexcept;

  template <class F>
  void for_each(F&& visit) const {
    for (const auto& [name, named] : names_) visit(name, *named.node);
  }

 private:
  struct Named {
    SimInode* node;
    std::uint64_t place;
  };

  [[nodiscard]] std::uint64_t free_place(std::string_view name) const noexcept;

  std::uint64_t salt_;
  std::map<std::string, Named, std::less<>> names_;
  std::map<std::uint64_t, std::map<std::string, Named, std::less<>>::const_iterator> places_;
};

}  // namespace bight::detail
