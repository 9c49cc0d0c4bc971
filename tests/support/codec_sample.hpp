// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include <bight/codec.hpp>

namespace bight::test {

enum class Colour : std::uint8_t { red, green };

struct Point {  // copied byte by byte
  std::int32_t x = 0;
  std::int32_t y = 0;
  bool operator==(const Point&) const = default;
};

struct Empty {
  auto fields() { return std::tie(); }
  bool operator==(const Empty&) const = default;
};

struct List {
  int value = 0;
  std::unique_ptr<List> next;
  auto fields() { return std::tie(value, next); }
};

struct Tree {
  std::vector<Tree> below;
  auto fields() { return std::tie(below); }
  bool operator==(const Tree&) const = default;
};

/// Something of everything, without what has several encodings (an unordered container).
struct Sample {
  std::string text;
  bool flag = false;
  double number = 0;
  Colour colour = Colour::red;
  Point point;
  std::vector<Point> points;
  std::vector<std::string> words;
  std::vector<bool> flags;
  std::array<std::string, 2> two;
  std::optional<std::int64_t> maybe;
  std::variant<std::monostate, int, std::string> either;
  std::map<std::string, std::vector<std::uint8_t>> by_name;
  std::set<int> set;
  std::multimap<int, char> many;
  std::deque<std::pair<int, std::string>> pairs;
  std::u16string wide;
  Tree tree;
  Empty empty;

  auto fields() {
    return std::tie(text, flag, number, colour, point, points, words, flags, two, maybe, either, by_name, set, many,
                    pairs, wide, tree, empty);
  }
  bool operator==(const Sample&) const = default;
};

}  // namespace bight::test
