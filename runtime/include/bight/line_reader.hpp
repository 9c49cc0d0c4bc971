// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace bight {

struct LineReaderOptions {
  std::size_t line_max = std::size_t{1024} * 1024;  ///< bytes in a line, without its end
  std::size_t read_size = std::size_t{16} * 1024;   ///< bytes asked for at a time
  /// A line that the source ends within: given as it is. If false, it is kept, and next() may be called again when the
  /// source has grown, as a log file does.
  bool partial_at_end = true;
};

namespace detail {

/// Cuts what is read into lines. The part of LineReader that does not depend on the source.
class LineBuffer {
 public:
  explicit LineBuffer(const LineReaderOptions& options) : options_(options) {}

  enum class Outcome : unsigned char { line, wants_more, too_long };
  /// A whole line, good until the next call of anything.
  [[nodiscard]] Outcome take(std::string_view& line);
  /// Where to read to. Throws std::bad_alloc.
  [[nodiscard]] std::span<std::byte> room();
  void filled(std::size_t count) noexcept { end_ += count; }
  /// The source has ended: what is left, if it is to be given.
  [[nodiscard]] std::optional<std::string_view> take_rest() noexcept;
  [[nodiscard]] std::string_view rest() const noexcept { return {text_.data() + begin_, end_ - begin_}; }
  [[nodiscard]] const LineReaderOptions& options() const noexcept { return options_; }

 private:
  LineReaderOptions options_;
  std::vector<char> text_;
  std::size_t begin_ = 0;    // of what has not been given
  std::size_t scanned_ = 0;  // up to here there is no end of a line
  std::size_t end_ = 0;
  bool skipping_ = false;  // within a line that was too long
};

[[noreturn]] void throw_line_error(std::error_code error, std::size_t line_max);

}  // namespace detail

/// Reads lines from anything with read(std::span<std::byte>, std::error_code&): a File, a Stream, a Socket, a
/// net::TcpStream.
///
///     bight::LineReader lines(file);
///     for (std::string_view line : lines) …
///
/// A line ends with "\n" or "\r\n", which is not part of it; the last one may do without. Lines are views into the
/// reader's buffer, good until the next one is asked for. Reads ahead, so nobody else should read from the source.
/// Holds as much memory as the longest line so far. Refers to the source; for one fiber at a time.
template <class Source>
class LineReader {
 public:
  explicit LineReader(Source& source, const LineReaderOptions& options = {}) : source_(&source), buffer_(options) {}

  /// Waits for the next line. Nothing: the source has ended.
  ///
  /// A line longer than line_max is message_size, once; the call after that goes on behind it. Errors of the source are
  /// passed on; what was read before them is kept.
  [[nodiscard]] std::optional<std::string_view> next(std::error_code& error) {
    error.clear();
    for (;;) {
      std::string_view line;
      const auto outcome = buffer_.take(line);
      if (outcome == detail::LineBuffer::Outcome::line) return line;
      if (outcome == detail::LineBuffer::Outcome::too_long) {
        error = std::make_error_code(std::errc::message_size);
        return std::nullopt;
      }
      const std::size_t count = source_->read(buffer_.room(), error);
      if (error) return std::nullopt;
      if (count == 0) return buffer_.take_rest();
      buffer_.filled(count);
    }
  }
  [[nodiscard]] std::optional<std::string_view> next() {
    std::error_code error;
    const std::optional<std::string_view> line = next(error);
    if (error) detail::throw_line_error(error, buffer_.options().line_max);
    return line;
  }

  /// What has been read and not given: for whoever goes on with the source by other means.
  [[nodiscard]] std::string_view buffered() const noexcept { return buffer_.rest(); }

  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = std::string_view;
    using difference_type = std::ptrdiff_t;
    using pointer = const std::string_view*;
    using reference = const std::string_view&;
    [[nodiscard]] reference operator*() const noexcept { return *line_; }
    [[nodiscard]] pointer operator->() const noexcept { return &*line_; }
    Iterator& operator++() {
      line_ = reader_->next();
      return *this;
    }
    void operator++(int) { ++*this; }
    [[nodiscard]] bool operator==(std::default_sentinel_t) const noexcept { return !line_; }

   private:
    friend class LineReader;
    explicit Iterator(LineReader& reader) : reader_(&reader), line_(reader.next()) {}
    LineReader* reader_;
    std::optional<std::string_view> line_;
  };
  [[nodiscard]] Iterator begin() { return Iterator(*this); }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  Source* source_;
  detail::LineBuffer buffer_;
};

}  // namespace bight
