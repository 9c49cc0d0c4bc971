// SPDX-License-Identifier: Apache-2.0
#include <bight/net/memory_stream.hpp>

#include <algorithm>
#include <vector>

#include <bight/check.hpp>
#include <bight/error.hpp>
#include <bight/event.hpp>
#include <bight/fiber.hpp>

namespace bight::net {

struct MemoryStream::Way {
  explicit Way(std::size_t most) : ring(most) {}

  std::vector<std::byte> ring;
  std::size_t begin = 0;
  std::size_t size = 0;
  bool write_ended = false;
  bool reader_gone = false;
  bool writer_closed = false;  // by its own side, while it may wait
  Event changed_for_reader;
  Event changed_for_writer;

  std::size_t take(std::span<std::byte> buffer) noexcept {
    const std::size_t count = std::min({buffer.size(), size, ring.size() - begin});
    std::copy_n(ring.begin() + static_cast<std::ptrdiff_t>(begin), count, buffer.begin());
    begin = (begin + count) % ring.size();
    size -= count;
    changed_for_writer.set();
    return count;
  }
  std::size_t put(std::span<const std::byte> data) noexcept {
    const std::size_t end = (begin + size) % ring.size();
    const std::size_t count = std::min({data.size(), ring.size() - size, ring.size() - end});
    std::copy_n(data.begin(), count, ring.begin() + static_cast<std::ptrdiff_t>(end));
    size += count;
    changed_for_reader.set();
    return count;
  }
};

namespace {

std::error_code as_error(std::errc why) noexcept { return std::make_error_code(why); }

/// Waits for the flag to be raised anew. False: cancelled.
bool wait(Event& event, std::error_code& error) {
  try {
    event.clear();
    event.wait();
    return true;
  } catch (const Cancelled&) {
    error = as_error(std::errc::operation_canceled);
    return false;
  }
}

/// As streams do that are made of sockets: also when there is nothing to wait for.
bool is_cancelled(std::error_code& error) {
  try {
    this_fiber::checkpoint();
    return false;
  } catch (const Cancelled&) {
    error = as_error(std::errc::operation_canceled);
    return true;
  }
}

}  // namespace

std::pair<MemoryStream, MemoryStream> MemoryStream::pair(std::size_t capacity) {
  BIGHT_CHECK(capacity > 0, "a MemoryStream has room for one byte at least");
  std::pair<MemoryStream, MemoryStream> ends;
  ends.first.in_ = ends.second.out_ = std::make_shared<Way>(capacity);
  ends.second.in_ = ends.first.out_ = std::make_shared<Way>(capacity);
  return ends;
}

MemoryStream& MemoryStream::operator=(MemoryStream&& other) noexcept {
  if (this != &other) {
    close();
    in_ = std::move(other.in_);
    out_ = std::move(other.out_);
  }
  return *this;
}

std::size_t MemoryStream::read(std::span<std::byte> buffer, std::error_code& error) {
  error.clear();
  if (buffer.empty() || is_cancelled(error)) return 0;
  const std::shared_ptr<Way> way = in_;  // the stream may be closed, moved or gone while this waits
  while (way != nullptr && !way->reader_gone) {
    if (way->size > 0) return way->take(buffer);
    if (way->write_ended) return 0;
    if (!wait(way->changed_for_reader, error)) return 0;
  }
  error = as_error(std::errc::bad_file_descriptor);
  return 0;
}

std::size_t MemoryStream::read(std::span<std::byte> buffer) {
  std::error_code error;
  const std::size_t count = read(buffer, error);
  if (error) bight::detail::throw_error(error, "read from a stream in memory");
  return count;
}

bool MemoryStream::may_write(const Way* way, std::error_code& error) noexcept {
  if (way == nullptr || way->writer_closed) {
    error = as_error(std::errc::bad_file_descriptor);
  } else if (way->write_ended || way->reader_gone) {
    error = as_error(std::errc::broken_pipe);
  }
  return !error;
}

std::size_t MemoryStream::write(std::span<const std::byte> data, std::error_code& error) {
  error.clear();
  if (is_cancelled(error)) return 0;
  const std::shared_ptr<Way> way = out_;
  while (may_write(way.get(), error)) {
    if (data.empty()) return 0;
    if (way->size < way->ring.size()) return way->put(data);
    wait(way->changed_for_writer, error);
    if (error) return 0;
  }
  return 0;
}

std::size_t MemoryStream::write(std::span<const std::byte> data) {
  std::error_code error;
  const std::size_t count = write(data, error);
  if (error) bight::detail::throw_error(error, "write to a stream in memory");
  return count;
}

std::size_t MemoryStream::try_write(std::span<const std::byte> data, std::error_code& error) noexcept {
  error.clear();
  return may_write(out_.get(), error) && out_->size < out_->ring.size() ? out_->put(data) : 0;
}

void MemoryStream::write_all(std::span<const std::byte> data, std::error_code& error) {
  do data = data.subspan(write(data, error));
  while (!data.empty() && !error);
}

void MemoryStream::write_all(std::span<const std::byte> data) {
  std::error_code error;
  write_all(data, error);
  if (error) bight::detail::throw_error(error, "write to a stream in memory");
}

void MemoryStream::shutdown_write(std::error_code& error) noexcept {
  error = out_ != nullptr ? std::error_code() : as_error(std::errc::bad_file_descriptor);
  if (error) return;
  out_->write_ended = true;
  out_->changed_for_reader.set();
  out_->changed_for_writer.set();
}

void MemoryStream::shutdown_write() {
  std::error_code error;
  shutdown_write(error);
  if (error) bight::detail::throw_error(error, "end a stream in memory");
}

void MemoryStream::close() noexcept {
  if (out_ != nullptr) {
    out_->write_ended = out_->writer_closed = true;
    out_->changed_for_reader.set();
    out_->changed_for_writer.set();
    out_.reset();
  }
  if (in_ != nullptr) {
    in_->reader_gone = true;
    in_->changed_for_reader.set();
    in_->changed_for_writer.set();
    in_.reset();
  }
}

}  // namespace bight::net
