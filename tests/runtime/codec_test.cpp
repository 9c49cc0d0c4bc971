// SPDX-License-Identifier: Apache-2.0
#include <bight/codec.hpp>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <future>
#include <limits>
#include <list>
#include <random>
#include <span>
#include <string_view>
#include <unordered_set>

#include <gtest/gtest.h>

#include <bight/run.hpp>

#include "codec_sample.hpp"

namespace bight::test {

class Money {
 public:
  explicit Money(std::int64_t cents) : cents_(cents) {}
  [[nodiscard]] std::int64_t cents() const { return cents_; }
  bool operator==(const Money&) const = default;

 private:
  std::int64_t cents_;
};

}  // namespace bight::test

template <>
struct bight::Codec<bight::test::Money> {
  static void encode(Encoder& to, const test::Money& money) {
    to.write('$');
    to.write(money.cents());
  }
  static test::Money decode(Decoder& from) {
    if (from.read<char>() != '$') from.fail("money of another country");
    return test::Money(from.read<std::int64_t>());
  }
};

namespace bight::test {
namespace {

using Bytes = std::vector<std::byte>;

Bytes bytes(std::initializer_list<int> values) {
  Bytes result;
  for (const int each : values) result.push_back(static_cast<std::byte>(each));
  return result;
}

template <class T>
void expect_same(const T& value) {
  EXPECT_EQ(decode<T>(encode(value)), value);
}

template <class T>
std::string error_of(const Bytes& wrong) {
  try {
    static_cast<void>(decode<T>(wrong));
  } catch (const DecodeError& error) {
    return error.what();
  }
  return "no error";
}

template <class T>
void expect_error(const Bytes& wrong, std::string_view text) {
  const std::string said = error_of<T>(wrong);
  EXPECT_NE(said.find(text), std::string::npos) << said;
}

TEST(Codec, knows_plain_values) {
  expect_same(true);
  expect_same('x');
  expect_same(std::uint64_t{0xfedcba9876543210});
  expect_same(-1.5F);
  expect_same(std::numeric_limits<long double>::max());
  expect_same(Colour::green);
  expect_same(Point{1, -2});
  expect_same(std::chrono::nanoseconds(7));
  EXPECT_TRUE(std::isnan(decode<double>(encode(std::nan("")))));
}

TEST(Codec, knows_containers) {
  expect_same(std::string(1000, 'x'));
  expect_same(std::string());
  expect_same(std::vector<int>{1, 2, 3});
  expect_same(std::vector<std::vector<std::string>>{{}, {"a", ""}});
  expect_same(std::list<int>{3, 1});
  expect_same(std::vector<bool>{true, false, true});
  expect_same(std::array<int, 3>{1, 2, 3});
  expect_same(std::array<bool, 2>{true, false});
  expect_same(std::array<int, 0>{});
  expect_same(std::tuple<>{});
  expect_same(std::tuple<int, std::string, Point>{1, "two", {3, 4}});
  expect_same(std::pair<const int, bool>{5, true});
  expect_same(std::unordered_map<std::string, int>{{"a", 1}, {"b", 2}});
  expect_same(std::unordered_set<int>{1, 2, 3});
  expect_same(std::multiset<int>{1, 1, 2});
  expect_same(std::optional<std::optional<int>>{std::optional<int>{}});
  expect_same(std::variant<int, int>{std::in_place_index<1>, 4});
  expect_same(std::vector<Empty>(3));
}

TEST(Codec, knows_types_of_ones_own) {
  expect_same(Money(199));
  expect_same(std::vector<Money>{Money(1), Money(2)});
  expect_same(std::array<Money, 2>{Money(1), Money(2)});
  EXPECT_EQ(encode(std::vector<Money>{Money(1), Money(2)}).size(), 1U + 2 * 9);  // by its codec, not as it lies there
  expect_error<Money>(bytes({'E', 0, 0, 0, 0, 0, 0, 0, 0}), "money of another country, at byte 1");
  Sample sample;
  sample.text = "hello";
  sample.tree.below.resize(3);
  sample.by_name["x"] = {1, 2, 3};
  expect_same(sample);
  const std::error_code error = std::make_error_code(std::errc::timed_out);
  expect_same(error);
  expect_same(std::error_code(5, std::system_category()));
  EXPECT_THROW(static_cast<void>(encode(std::make_error_code(std::future_errc::no_state))), std::invalid_argument);
}

TEST(Codec, a_unique_ptr_is_there_or_not) {
  EXPECT_EQ(decode<std::unique_ptr<int>>(encode(std::unique_ptr<int>())), nullptr);
  EXPECT_EQ(*decode<std::unique_ptr<int>>(encode(std::make_unique<int>(7))), 7);
}

TEST(Codec, takes_no_more_than_it_must) {
  EXPECT_EQ(encode(std::string("abc")).size(), 4U);
  EXPECT_EQ(encode(std::vector<int>(100)).size(), 1U + 400);
  EXPECT_EQ(encode(std::vector<int>(200)).size(), 2U + 800);
  EXPECT_EQ(encode(std::optional<int>()).size(), 1U);
  EXPECT_EQ(encode(Point{}).size(), sizeof(Point));
  Bytes out = encode(1);
  encode_to(out, 2);
  EXPECT_EQ(out.size(), 8U);
}

TEST(Codec, knows_nothing_that_points_elsewhere) {
  static_assert(!Codable<int*>);
  static_assert(!Codable<void (*)()>);
  static_assert(!Codable<int Point::*>);
  static_assert(!Codable<std::nullptr_t>);
  static_assert(!Codable<std::string_view>);
  static_assert(!Codable<std::span<int>>);
  static_assert(!Codable<std::reference_wrapper<int>>);
  static_assert(!Codable<std::shared_ptr<int>>);
  static_assert(!Codable<std::function<void()>>);
  static_assert(!Codable<std::atomic<int>>);
}

TEST(Codec, says_what_is_wrong_and_where) {
  expect_error<int>(bytes({1, 2}), "a value of 4 bytes where 2 are left, at byte 0");
  expect_error<int>(bytes({1, 2, 3, 4, 5}), "1 bytes left over, at byte 4");
  expect_error<bool>(bytes({2}), "a bool that is neither");
  expect_error<std::string>(bytes({}), "a count of 1 bytes where 0 are left, at byte 0");
  expect_error<std::string>(bytes({5, 'a'}), "5 elements that 1 bytes can not hold, at byte 0");
  expect_error<std::vector<int>>(bytes({2, 0, 0, 0, 0}), "2 elements that 4 bytes can not hold");
  expect_error<std::variant<int, bool>>(bytes({2, 0}), "an alternative of a variant that there is not");
  expect_error<std::set<char>>(bytes({2, 7, 7}), "a key twice");
  expect_error<std::map<char, char>>(bytes({2, 7, 0, 7, 1}), "a key twice, at byte 5");
  expect_error<Empty>(bytes({1}), "an empty value that is not");
  expect_error<std::vector<bool>>(bytes({3, 1}), "3 elements that 1 bytes can not hold");
  try {
    static_cast<void>(decode<std::pair<char, bool>>(bytes({1, 9})));
    ADD_FAILURE();
  } catch (const DecodeError& error) {
    EXPECT_EQ(error.offset(), 2U);
  }
}

TEST(Codec, counts_are_written_in_one_way_only) {
  expect_error<std::string>(bytes({0x80, 0}), "a count that is malformed");            // 0 in two bytes
  expect_error<std::string>(Bytes(11, std::byte{0xff}), "a count that is malformed");  // more than 64 bits
  expect_error<std::string>(bytes({0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}), "can not hold");
  expect_error<std::string>(bytes({0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}), "malformed");
  for (const std::size_t count : {0UL, 127UL, 128UL, 16383UL, 16384UL}) expect_same(std::string(count, 'x'));
}

/// Each of these claims to be very big; the largest would be 2^60 elements.
TEST(Codec, claimed_lengths_take_no_memory) {
  const Bytes huge = bytes({0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0});
  EXPECT_NE(error_of<std::vector<Tree>>(huge), "no error");
  EXPECT_NE(error_of<std::vector<std::string>>(huge), "no error");
  EXPECT_NE(error_of<std::vector<std::vector<double>>>(huge), "no error");
  EXPECT_NE(error_of<std::unordered_set<int>>(huge), "no error");
  EXPECT_NE(error_of<std::vector<Empty>>(huge), "no error");
  EXPECT_NE(error_of<std::vector<bool>>(huge), "no error");
  // 100 000 empty things of 4 KiB each are within the count, but nobody has sent so much.
  using Big = std::optional<std::array<std::byte, 4096>>;
  Bytes many = encode(std::vector<bool>(100'000));
  many.back() = std::byte{2};
  EXPECT_NE(error_of<std::vector<Big>>(Bytes(many.begin(), many.begin() + 10)), "no error");
}

int length_of(const List* list) {
  int length = 0;
  for (; list != nullptr; list = list->next.get()) ++length;
  return length;
}

List list_of(int length) {
  List list;
  for (int i = 1; i < length; ++i) {
    auto next = std::make_unique<List>(std::move(list));
    list = List{i, std::move(next)};
  }
  return list;
}

TEST(Codec, nesting_has_a_limit) {
  run(RunOptions{.engine = EngineChoice::sim, .main_stack_size = 64 * 1024, .stop_on_signals = false}, [] {
    const int most = codec_depth_max / 2 - 1;
    EXPECT_EQ(length_of([&] {
                static List back;
                back = decode<List>(encode(list_of(most)));
                return &back;
              }()),
              most);
    EXPECT_THROW(static_cast<void>(encode(list_of(most + 1))), std::length_error);
    // Trees of one branch: each level is one byte.
    EXPECT_NE(error_of<Tree>(Bytes(10'000, std::byte{1})).find("nested too deeply"), std::string::npos);
    EXPECT_EQ(error_of<Tree>(bytes({1, 1, 1, 0})), "no error");
  });
}

// --- Properties ------------------------------------------------------------------------------------------------------

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::size_t below(std::size_t limit) { return engine_() % limit; }
  std::string text() {
    std::string result(below(20) == 0 ? below(400) : below(8), ' ');
    for (char& each : result) each = static_cast<char>(below(256));
    return result;
  }
  Tree tree(unsigned depth) {
    Tree result;
    if (depth > 0) {
      for (std::size_t i = below(4); i > 0; --i) result.below.push_back(tree(depth - 1));
    }
    return result;
  }
  Sample sample() {
    Sample s;
    s.text = text();
    s.flag = below(2) == 0;
    s.number = static_cast<double>(below(1000)) / 7;
    s.colour = static_cast<Colour>(below(2));
    for (std::size_t i = below(5); i > 0; --i) s.points.push_back({static_cast<int>(below(9)), 3});
    for (std::size_t i = below(5); i > 0; --i) s.words.push_back(text());
    for (std::size_t i = below(9); i > 0; --i) s.flags.push_back(below(2) == 0);
    s.two = {text(), text()};
    if (below(2) == 0) s.maybe = static_cast<std::int64_t>(below(1000));
    if (below(2) == 0) s.either = text();
    for (std::size_t i = below(4); i > 0; --i) s.by_name[text()] = std::vector<std::uint8_t>(below(300));
    for (std::size_t i = below(5); i > 0; --i) s.set.insert(static_cast<int>(below(50)));
    for (std::size_t i = below(5); i > 0; --i) s.many.emplace(static_cast<int>(below(3)), 'c');
    for (std::size_t i = below(4); i > 0; --i) s.pairs.emplace_back(static_cast<int>(i), text());
    s.wide.assign(below(5), u'\u20ac');
    s.tree = tree(4);
    return s;
  }

 private:
  std::mt19937_64 engine_;
};

std::size_t seeds() {
  const char* text = std::getenv("BIGHT_PROPERTY_SEEDS");  // NOLINT(concurrency-mt-unsafe)
  return text != nullptr ? std::strtoul(text, nullptr, 10) : 300;
}

/// What was encoded comes back; any part of it, and any change to it, is refused, or is the encoding of what it decodes
/// to: each value has one encoding, each encoding one value.
TEST(Codec, property_encodings_and_values_are_one_to_one) {
  for (std::size_t seed = 1; seed <= seeds(); ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const Sample sample = random.sample();
    const Bytes encoded = encode(sample);
    ASSERT_EQ(decode<Sample>(encoded), sample);
    for (int i = 0; i < 50; ++i) {
      Bytes changed = encoded;
      if (random.below(3) == 0) {
        changed.resize(random.below(changed.size()));
      } else {
        for (std::size_t n = 1 + random.below(3); n > 0; --n) {
          changed[random.below(changed.size())] = static_cast<std::byte>(random.below(256));
        }
      }
      try {
        const Sample decoded = decode<Sample>(changed);
        // Ordered containers may have come in another order; everything else is as it was written.
        ASSERT_EQ(encode(decode<Sample>(encode(decoded))), encode(decoded));
        ASSERT_EQ(encode(decoded).size(), changed.size());
      } catch (const DecodeError& error) {
        ASSERT_LE(error.offset(), changed.size());
      }
    }
  }
}

}  // namespace
}  // namespace bight::test
