// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: BufferedReader and frames. The input is a script of operations and what comes from the stream, in
// pieces, with errors in between after which an operation is repeated. Whatever the pieces, what is read is what plain
// cutting of the whole text gives.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include <bight/net/buffered.hpp>

namespace {

namespace net = bight::net;

constexpr std::size_t kBufferMax = 300;

void require(bool condition) {
  if (!condition) std::abort();
}

/// Gives the text in pieces of one to eight bytes, and fails now and then.
struct Source {
  std::string_view left;
  unsigned turn;

  std::size_t read(std::span<std::byte> into, std::error_code& error) {
    turn = turn * 1103515245U + 12345U;
    error.clear();
    if ((turn >> 16U) % 5 == 0) {
      error = std::make_error_code(std::errc::timed_out);
      return 0;
    }
    const std::size_t count = std::min({into.size(), left.size(), std::size_t{1} + (turn >> 20U) % 8});
    std::copy_n(std::as_bytes(std::span(left)).begin(), count, into.begin());
    left.remove_prefix(count);
    return count;
  }
};

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Repeats an operation until it ends otherwise than by the stream's failing.
template <class F>
auto repeat(std::error_code& error, F&& operation) {
  for (;;) {
    auto result = operation();
    if (error != std::errc::timed_out) return result;
  }
}

class Model {
 public:
  Model(std::string_view text, unsigned seed) : left_(text), source_{text, seed}, reader_(source_, {8, kBufferMax}) {}

  /// False: it can not go on.
  bool step(unsigned operation, std::size_t number) {
    switch (operation % 6) {
      case 0: return line(number);
      case 1: return until(number % 2 == 0 ? "\r\n" : "ab", number);
      case 2: return exactly(number % 64);
      case 3: return frame(number);
      case 4: return peek(number % 64);
      default: return interrupted(number);
    }
  }

 private:
  bool line(std::size_t limit) {
    const auto got = repeat(error_, [&] { return reader_.read_line(limit, error_); });
    const std::size_t at = left_.find('\n');
    if (!got) {
      if (!error_) require(left_.empty());
      if (error_) require(error_ == std::errc::message_size && std::min(at, left_.size()) > limit);
      return false;
    }
    std::string_view expected = left_.substr(0, at);
    if (at != std::string_view::npos && expected.ends_with('\r')) expected.remove_suffix(1);
    require(*got == expected);
    left_.remove_prefix(std::min(at == std::string_view::npos ? at : at + 1, left_.size()));
    return true;
  }

  bool until(std::string_view delimiter, std::size_t limit) {
    const auto got = repeat(error_, [&] { return reader_.read_until(delimiter, limit, error_); });
    const std::size_t at = left_.find(delimiter);
    if (!got) {
      if (!error_) require(left_.empty());
      if (error_ == std::errc::connection_aborted) require(at == std::string_view::npos && !left_.empty());
      if (error_ == std::errc::message_size) require(std::min(at, left_.size()) > limit);
      return false;
    }
    require(at <= limit && text_of(*got) == left_.substr(0, at));
    left_.remove_prefix(at + delimiter.size());
    return true;
  }

  bool exactly(std::size_t count) {
    const auto got = repeat(error_, [&] { return reader_.read_exactly(count, error_); });
    require(!error_ == (left_.size() >= count));
    if (error_) return false;
    require(text_of(got) == left_.substr(0, count));
    left_.remove_prefix(count);
    return true;
  }

  bool frame(std::size_t limit) {
    const auto got = repeat(error_, [&] { return net::read_frame(reader_, limit, error_); });
    if (!got) {
      require(error_ || left_.empty());
      return false;
    }
    std::size_t size = 0;
    for (const char each : left_.substr(0, 4)) size = size << 8U | static_cast<unsigned char>(each);
    require(size <= limit && text_of(*got) == left_.substr(4, size));
    left_.remove_prefix(4 + size);
    return true;
  }

  bool peek(std::size_t count) {
    const auto got = repeat(error_, [&] { return reader_.peek(count, error_); });
    require(!error_ && got.size() >= std::min(count, left_.size()) && left_.starts_with(text_of(got)));
    return true;
  }

  /// An operation that is given up after the stream's failure must not change what the next one finds.
  bool interrupted(std::size_t number) {
    static_cast<void>(reader_.read_until(number % 2 == 0 ? "xy" : "ba", kBufferMax, error_));
    if (error_ == std::errc::timed_out) return true;
    return false;  // it has taken something, or is of no use any more
  }

  std::string_view left_;
  Source source_;
  net::BufferedReader<Source> reader_;
  std::error_code error_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t steps = std::min<std::size_t>(data[0] % 16, (size - 2) / 2);
  Model model(input.substr(2 + 2 * steps), data[1]);
  for (std::size_t n = 0; n < steps; ++n) {
    if (!model.step(data[2 + 2 * n], data[3 + 2 * n])) break;
  }
  return 0;
}
