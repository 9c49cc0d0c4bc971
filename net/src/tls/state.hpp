// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include <bight/chunk.hpp>
#include <bight/mutex.hpp>
#include <bight/net/tls_stream.hpp>

#include "tls/engine.hpp"

namespace bight::net::detail {

/// A TlsStream: an engine, what carries its ciphertext, and the fibers in between. All in the error_code form. Its
/// calls hold it, so it may be closed and let go while fibers wait in it.
///
/// The engine never waits, and no fiber waits inside of it: one that reads waits for ciphertext, one that writes for
/// its ciphertext to be sent, and neither keeps the other from the engine. What the engine has to say in between (a
/// handshake's answers, alerts) goes out with what is written next, or when a reader is about to wait: at once, or by a
/// fiber of its own, which ends at the latest when the stream is closed.
class TlsState : public std::enable_shared_from_this<TlsState> {
 public:
  TlsState(std::unique_ptr<TlsTransport> transport, std::string name, const TlsContext& context);
  TlsState(const TlsState&) = delete;
  TlsState& operator=(const TlsState&) = delete;
  ~TlsState();

  void handshake(std::error_code& error);
  std::size_t read(std::span<std::byte> buffer, std::error_code& error);
  [[nodiscard]] Chunk read(std::error_code& error);
  std::size_t write(std::span<const std::byte> data, std::error_code& error);
  void write_all(std::span<const std::byte> data, std::error_code& error);
  void write_all(std::span<const std::span<const std::byte>> pieces, std::error_code& error);
  void shutdown_write(std::error_code& error);
  void close() noexcept;
  void reset() noexcept;
  void abort(std::error_code error) noexcept;

  void set_read_timeout(Duration limit) noexcept;
  void set_write_timeout(Duration limit) noexcept { transport_->set_write_timeout(limit); }
  void set_handshake_timeout(Duration limit) noexcept { handshake_timeout_ = limit; }

  [[nodiscard]] TlsTransport& transport() noexcept { return *transport_; }
  [[nodiscard]] const TlsEngine* engine() const noexcept { return engine_.get(); }
  [[nodiscard]] bool is_established() const noexcept { return engine_ != nullptr && engine_->is_established(); }
  [[nodiscard]] const std::string& failure() const noexcept { return failure_; }
  /// "example.org (192.0.2.1:443)"
  [[nodiscard]] std::string describe() const;

 private:
  class ReadTime;
  using Step = TlsEngine::Step;

  // The handshake: handshake.cpp.
  void agree(std::error_code& error);
  void send_rest(std::error_code& error);
  void agree_in_time(std::error_code& error);
  void make_engine();
  [[nodiscard]] bool go_on(Step step, std::error_code& error);
  void answer_name();
  [[nodiscard]] std::string session_key() const;

  [[nodiscard]] bool prepare(std::error_code& error);
  [[nodiscard]] bool may_have_data() const noexcept;
  [[nodiscard]] bool receive(std::error_code& error);
  [[nodiscard]] bool receive_in_turn(std::error_code& error);
  [[nodiscard]] bool receive_to_write(std::error_code& error);
  [[nodiscard]] bool read_more(Step step, ReadTime& time, std::error_code& error);
  void keep_rest();
  void send_replies(std::error_code& error);
  void send_replies_by_fiber() noexcept;
  void fail(std::error_code error, std::string words);
  void tell_failure(std::error_code& error);

  [[nodiscard]] bool begin_write(std::error_code& error);
  [[nodiscard]] bool lock_writing(std::error_code& error);
  [[nodiscard]] bool has_unsent() const noexcept { return !output_.empty() || sent_ != sending_.size(); }
  [[nodiscard]] bool send(std::error_code& error);
  [[nodiscard]] bool encrypt(std::span<const std::byte> data, std::error_code& error);
  void send_last_words() noexcept;

  std::unique_ptr<TlsTransport> transport_;
  TlsContext context_;
  std::string name_;
  std::unique_ptr<TlsEngine> engine_;
  Chunk received_;                  // ciphertext, of which the engine has a view
  std::vector<std::byte> output_;   // what the engine has to say
  std::vector<std::byte> sending_;  // what of it is being sent: the system may be reading it
  std::size_t sent_ = 0;
  Mutex handshake_turn_;
  Mutex receive_turn_;
  Mutex write_turn_;  // whose turn it is to send
  bool reading_ = false;
  bool writing_ = false;
  bool sends_replies_ = false;  // a fiber of its own does
  bool write_ended_ = false;
  Duration read_timeout_{0};
  Duration handshake_timeout_ = TlsStream::kHandshakeTimeout;
  std::error_code read_error_;  // what reading ended with, for good
  std::string failure_;
};

/// Buffers that connections of a thread use in turn: one that waits for nothing holds none.
class TlsBuffers {
 public:
  static void take(std::vector<std::byte>& buffer) noexcept;
  static void give_back(std::vector<std::byte>& buffer) noexcept;
};

}  // namespace bight::net::detail
