// SPDX-License-Identifier: Apache-2.0
#include "tls/state.hpp"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <new>

#include <bight/error.hpp>
#include <bight/fiber.hpp>

namespace bight::net::detail {
namespace {

// Encrypted at a time, in whole records, so that few system calls send it and the buffers for it stay in the cache. A
// fourth record would be more than fits one packet, also where packets are largest: then each batch would be followed
// by a packet of a hundred bytes, which made 1 GiB through the loopback interface cost 1.9 times the CPU time.
constexpr std::size_t kBatch = std::size_t{48} * 1024;
// Of what is more than a batch and less than two: better halves than nearly all and a little.
constexpr std::size_t kHalf = std::size_t{32} * 1024;
// A rest of ciphertext so short is copied rather than that it keeps one of the loop's large buffers.
constexpr std::size_t kCopiedRest = std::size_t{4} * 1024;
// Replies that have not been sent, as a writer waits. More is asked for by nobody who means well.
constexpr std::size_t kRepliesMax = std::size_t{256} * 1024;

std::error_code as_error(std::errc why) noexcept { return std::make_error_code(why); }

std::size_t batch_of(std::size_t size) noexcept {
  if (size <= kBatch) return size;
  return size < 2 * kBatch ? kHalf : kBatch;
}

bool is_interruption(std::error_code error) noexcept {
  return error == std::errc::operation_canceled || error == std::errc::timed_out;
}

/// Empty: no memory.
Chunk chunk_of(std::size_t size) noexcept try {
  return bight::detail::make_chunk(size);
} catch (const std::bad_alloc&) {
  return {};
}

/// One that does something which only one may do at a time.
class Doing {
 public:
  Doing(bool& flag, std::error_code& error) noexcept : flag_(flag ? nullptr : &flag) {
    if (flag_ == nullptr) {
      error = as_error(std::errc::device_or_resource_busy);
    } else {
      flag = true;
    }
  }
  Doing(const Doing&) = delete;
  Doing& operator=(const Doing&) = delete;
  ~Doing() {
    if (flag_ != nullptr) *flag_ = false;
  }
  explicit operator bool() const noexcept { return flag_ != nullptr; }

 private:
  bool* flag_;
};

}  // namespace

/// What is left of the time for one read, which may take several of the stream below: else a peer that sends a byte now
/// and then would keep it for ever.
class TlsState::ReadTime {
 public:
  explicit ReadTime(TlsState& state) noexcept : state_(state) {}
  ReadTime(const ReadTime&) = delete;
  ReadTime& operator=(const ReadTime&) = delete;
  ~ReadTime() {
    if (again_) state_.transport_->set_read_timeout(state_.read_timeout_);
  }
  /// Before each read below. False: there is none.
  [[nodiscard]] bool left() {
    if (state_.read_timeout_ == Duration::zero()) return true;
    if (end_ == TimePoint{}) {
      end_ = bight::detail::saturating_add(now(), state_.read_timeout_);
      return true;
    }
    const Duration rest = end_ - now();
    if (rest <= Duration::zero()) return false;
    again_ = true;
    state_.transport_->set_read_timeout(rest);
    return true;
  }

 private:
  TlsState& state_;
  TimePoint end_{};
  bool again_ = false;
};

TlsState::TlsState(std::unique_ptr<TlsTransport> transport, std::string name, const TlsContext& context)
    : transport_(std::move(transport)), context_(context), name_(std::move(name)) {}

TlsState::~TlsState() = default;

std::string TlsState::describe() const {
  const std::string peer = transport_->describe_peer();
  if (name_.empty()) return !peer.empty() ? peer : "a client";
  return name_ + (peer.empty() ? "" : " (" + peer + ')');
}

void TlsState::set_read_timeout(Duration limit) noexcept {
  read_timeout_ = limit;
  transport_->set_read_timeout(limit);
}

void TlsState::fail(std::error_code error, std::string words) {
  read_error_ = error;
  failure_ = std::move(words);
}

void TlsState::tell_failure(std::error_code& error) { error = read_error_; }

bool TlsState::prepare(std::error_code& error) {
  error.clear();
  if (this_fiber::cancel_requested()) {
    error = as_error(std::errc::operation_canceled);
  } else if (!transport_->is_open()) {
    error = as_error(std::errc::bad_file_descriptor);
  } else if (!is_established()) {
    handshake(error);
  }
  return !error;
}

// --- Reading ---------------------------------------------------------------------------------------------------------

/// Takes in ciphertext. False: an error, of which the end is one.
bool TlsState::receive(std::error_code& error) {
  received_ = Chunk();
  received_ = transport_->read(error);
  if (error == std::errc::bad_file_descriptor && read_error_) tell_failure(error);  // abort()
  if (error) return false;
  if (engine_ != nullptr) engine_->set_input(received_);
  if (!received_.empty()) return true;
  fail(TlsError::truncated, make_error_code(TlsError::truncated).message());
  tell_failure(error);
  return false;
}

bool TlsState::may_have_data() const noexcept {
  return !engine_->input().empty() || engine_->pending() > 0 || engine_->has_ended() || engine_->error();
}

/// After a step that gave no data. False: that is all, or an error.
bool TlsState::read_more(Step step, ReadTime& time, std::error_code& error) {
  if (step == Step::ended) return false;
  if (step == Step::failed) {
    fail(engine_->error(), engine_->failure());
    send_last_words();
    tell_failure(error);
    return false;
  }
  if (has_unsent()) send_replies(error);
  if (!error && !time.left()) error = as_error(std::errc::timed_out);
  return !error && receive_in_turn(error);
}

/// Of a reader and a writer that both want input, one receives it for both.
bool TlsState::receive_in_turn(std::error_code& error) try {
  const std::lock_guard lock(receive_turn_);
  return !engine_->input().empty() || receive(error);
} catch (const Cancelled&) {
  error = as_error(std::errc::operation_canceled);
  return false;
}

/// For a writer that the engine keeps until the peer has ended a message it has begun.
bool TlsState::receive_to_write(std::error_code& error) {
  if (!receive_turn_.locked()) return receive_in_turn(error);
  try {
    const std::lock_guard lock(receive_turn_);  // the reader has had what came
    return true;
  } catch (const Cancelled&) {
    error = as_error(std::errc::operation_canceled);
    return false;
  }
}

/// What the engine wants to say while nobody writes. A writer sends it along with its own. Never waits: the peer may
/// read only when what it writes has been read.
void TlsState::send_replies(std::error_code& error) {
  if (!sends_replies_ && !write_turn_.locked()) {
    send_last_words();
    if (has_unsent()) send_replies_by_fiber();
  }
  if (output_.size() <= kRepliesMax) return;
  fail(TlsError::protocol_error, "the peer asks for replies, and does not take them");
  tell_failure(error);
}

void TlsState::send_replies_by_fiber() noexcept try {
  sends_replies_ = true;
  spawn([self = shared_from_this()] {
    std::error_code error;
    if (self->lock_writing(error)) {
      static_cast<void>(self->send(error));  // what is wrong, who reads or writes next is told
      self->write_turn_.unlock();
    }
    self->sends_replies_ = false;
  }).detach();
} catch (const std::exception&) {  // no memory for a fiber: the next reader tries again, or a writer sends it
  sends_replies_ = false;
}

/// What the engine has not taken stays here until the next read.
void TlsState::keep_rest() {
  const std::span<const std::byte> rest = engine_->input();
  if (rest.empty()) {
    received_ = Chunk();
  } else if (rest.size() <= kCopiedRest && received_.size() > kCopiedRest) {
    Chunk copy = chunk_of(rest.size());
    if (copy.empty()) return;
    std::memcpy(copy.data(), rest.data(), rest.size());
    received_ = std::move(copy);
    engine_->set_input(received_);
  }
}

std::size_t TlsState::read(std::span<std::byte> buffer, std::error_code& error) {
  error.clear();
  if (buffer.empty()) return 0;
  const Doing reading(reading_, error);
  if (!reading || !prepare(error)) return 0;
  if (read_error_) return tell_failure(error), 0;
  ReadTime time(*this);
  Step step = Step::wants_input;
  for (;;) {
    if (may_have_data()) {
      const TlsEngine::Read done = engine_->read(buffer);
      if (done.count > 0) return keep_rest(), done.count;
      step = done.step;
    }
    if (!read_more(step, time, error)) return 0;
  }
}

Chunk TlsState::read(std::error_code& error) {
  error.clear();
  const Doing reading(reading_, error);
  if (!reading || !prepare(error)) return {};
  if (read_error_) return tell_failure(error), Chunk();
  ReadTime time(*this);
  Step step = Step::wants_input;
  for (bool fresh = false;; fresh = true) {
    if (fresh && engine_->input().size() == received_.size() && engine_->can_read_in_place()) {
      const TlsEngine::Read done = engine_->read_in_place({received_.data(), received_.size()});
      Chunk chunk = std::move(received_);
      chunk.shrink(done.count);
      if (done.count > 0) return chunk;
      step = done.step;
    } else if (may_have_data()) {
      Chunk chunk = chunk_of(std::clamp<std::size_t>(engine_->available(), 1, kBatch));
      if (chunk.empty()) return error = as_error(std::errc::not_enough_memory), Chunk();
      const TlsEngine::Read done = engine_->read({chunk.data(), chunk.size()});
      keep_rest();
      chunk.shrink(done.count);
      if (done.count > 0) return chunk;
      step = done.step;
    }
    if (!read_more(step, time, error)) return {};
  }
}

// --- Writing ---------------------------------------------------------------------------------------------------------

bool TlsState::lock_writing(std::error_code& error) {
  try {
    write_turn_.lock();
    return true;
  } catch (const Cancelled&) {
    error = as_error(std::errc::operation_canceled);
    return false;
  }
}

/// Sends what the engine has said, to the end. The caller has the turn. False: an error; the rest stays.
bool TlsState::send(std::error_code& error) {
  error.clear();
  for (;;) {
    if (sent_ == sending_.size()) {
      sent_ = 0;
      TlsBuffers::give_back(sending_);
      if (output_.empty()) return true;
      sending_.swap(output_);
    }
    sent_ += transport_->write(std::span<const std::byte>(sending_).subspan(sent_), error);
    if (error) return false;
  }
}

/// What can be sent at once, for who can not wait.
void TlsState::send_last_words() noexcept {
  if (write_turn_.locked()) return;  // somebody sends, and will send this, too
  for (;;) {
    if (sent_ == sending_.size()) {
      sent_ = 0;
      TlsBuffers::give_back(sending_);
      if (output_.empty()) return;
      sending_.swap(output_);
    }
    const std::size_t count = transport_->write_now(std::span<const std::byte>(sending_).subspan(sent_));
    if (count == 0) return;
    sent_ += count;
  }
}

/// The caller has the turn, and what was said before has been sent.
bool TlsState::encrypt(std::span<const std::byte> data, std::error_code& error) {
  try {
    Step step = Step::wants_input;
    for (;;) {
      TlsBuffers::take(output_);
      step = engine_->write(data);
      if (step != Step::wants_input) break;
      if (!receive_to_write(error)) return false;
    }
    if (step == Step::done) return true;
    fail(engine_->error(), engine_->failure());
    tell_failure(error);
  } catch (const std::bad_alloc&) {
    error = as_error(std::errc::not_enough_memory);
  }
  return false;
}

/// Gets the turn, and sends what has been left. False: an error, and the turn is not ours.
bool TlsState::begin_write(std::error_code& error) {
  if (!prepare(error)) return false;
  if (write_ended_) error = as_error(std::errc::broken_pipe);
  if (engine_->error()) error = engine_->error();
  if (error || !lock_writing(error)) return false;
  if (!has_unsent() || send(error)) return true;
  write_turn_.unlock();
  return false;
}

std::size_t TlsState::write(std::span<const std::byte> data, std::error_code& error) {
  error.clear();
  if (data.empty()) return 0;
  const Doing writing(writing_, error);
  if (!writing || !begin_write(error)) return 0;
  data = data.first(batch_of(data.size()));
  const bool taken = encrypt(data, error);
  if (taken && !send(error) && is_interruption(error)) error.clear();  // the next call will say so
  write_turn_.unlock();
  return error ? 0 : data.size();
}

void TlsState::write_all(std::span<const std::byte> data, std::error_code& error) {
  error.clear();
  if (data.empty()) return;
  const Doing writing(writing_, error);
  if (!writing || !begin_write(error)) return;
  while (!data.empty() && !error) {
    const auto batch = data.first(batch_of(data.size()));
    data = data.subspan(batch.size());
    if (encrypt(batch, error)) static_cast<void>(send(error));
  }
  write_turn_.unlock();
}

void TlsState::write_all(std::span<const std::span<const std::byte>> pieces, std::error_code& error) {
  error.clear();
  const Doing writing(writing_, error);
  if (!writing || !begin_write(error)) return;
  std::vector<std::byte> batch;
  TlsBuffers::take(batch);
  const auto go = [&](std::span<const std::byte> data) {
    if (!data.empty() && encrypt(data, error)) static_cast<void>(send(error));
  };
  try {
    for (std::span<const std::byte> piece : pieces) {
      while (!piece.empty() && !error) {
        const auto part = piece.first(std::min(piece.size(), kBatch - batch.size()));
        piece = piece.subspan(part.size());
        batch.insert(batch.end(), part.begin(), part.end());
        if (batch.size() < kBatch) continue;
        go(batch);
        batch.clear();
      }
      if (error) break;
    }
    if (!error) go(batch);
  } catch (const std::bad_alloc&) {
    error = as_error(std::errc::not_enough_memory);
  }
  TlsBuffers::give_back(batch);
  write_turn_.unlock();
}

// --- Ending ----------------------------------------------------------------------------------------------------------

void TlsState::shutdown_write(std::error_code& error) {
  error.clear();
  const Doing writing(writing_, error);
  if (!writing || !prepare(error) || !lock_writing(error)) return;
  write_ended_ = true;
  while (!error && engine_->end_write() == Step::wants_input) static_cast<void>(receive_to_write(error));
  if (!error) error = engine_->error();
  if (!error) static_cast<void>(send(error));
  write_turn_.unlock();
}

void TlsState::close() noexcept {
  if (!transport_->is_open()) return;
  if (is_established()) {
    static_cast<void>(engine_->end_write());
    send_last_words();
  }
  transport_->close();
}

void TlsState::reset() noexcept { transport_->reset(); }

void TlsState::abort(std::error_code error) noexcept {
  read_error_ = error;
  transport_->reset();
}

}  // namespace bight::net::detail
