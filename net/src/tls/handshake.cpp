// SPDX-License-Identifier: Apache-2.0
#include <mutex>
#include <string>

#include <bight/check.hpp>
#include <bight/coroutine.hpp>
#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>

#include "tls/state.hpp"

namespace bight::net::detail {
namespace {

/// The pages that a handshake touches would stay with the fiber for as long as the connection lasts. So it is done on a
/// stack from the pool, which the next handshake gets, too. OpenSSL itself takes 8 KiB of it (RSA 4096, P-384, a chain
/// of five); what providers from elsewhere take nobody knows, and addresses cost nothing.
constexpr std::size_t kStack = std::size_t{256} * 1024;

template <class F>
void on_large_stack(F&& f) {
  Coroutine<void, void> once({.stack_size = kStack}, [&](auto& /*self*/) { f(); });
  once.resume();
}

}  // namespace

void TlsState::handshake(std::error_code& error) {
  error.clear();
  try {
    const std::lock_guard lock(handshake_turn_);
    if (is_established()) return send_rest(error);
    if (read_error_) return tell_failure(error);
    if (!transport_->is_open()) {
      error = std::make_error_code(std::errc::bad_file_descriptor);
      return;
    }
    agree_in_time(error);
    if (error == std::errc::bad_file_descriptor && read_error_) tell_failure(error);  // abort()
  } catch (const Cancelled&) {
    error = std::make_error_code(std::errc::operation_canceled);
  } catch (const std::bad_alloc&) {
    error = std::make_error_code(std::errc::not_enough_memory);
  } catch (const std::system_error& failure) {
    error = failure.code();
  }
}

/// What a handshake that was cancelled at its very end has left. Who has the turn to write sends it anyhow; to wait for
/// that would keep a reader from reading.
void TlsState::send_rest(std::error_code& error) {
  if (!has_unsent() || !write_turn_.try_lock()) return;
  static_cast<void>(send(error));
  write_turn_.unlock();
}

void TlsState::agree_in_time(std::error_code& error) {
  if (handshake_timeout_ == Duration::zero()) return agree(error);
  const bool in_time = move_on_after(handshake_timeout_, [&] {
    agree(error);
    if (error == std::errc::operation_canceled) this_fiber::checkpoint();
  });
  if (in_time) return;
  fail(TlsError::handshake_timeout, make_error_code(TlsError::handshake_timeout).message());
  tell_failure(error);
}

void TlsState::agree(std::error_code& error) {
  if (engine_ == nullptr) {
    // Those who connect and say nothing cost nothing but the connection.
    if (context_.is_server() && !receive(error)) return;
    make_engine();
    engine_->set_input(received_);
  }
  for (;;) {
    Step step = Step::failed;
    on_large_stack([&] { step = engine_->handshake(); });
    if (!go_on(step, error)) return;
  }
}

void TlsState::make_engine() {
  auto settings = current_settings(context_);
  BIGHT_CHECK(detail::is_server(*settings) == name_.empty(), "a TlsStream's side is not that of its TlsContext");
  on_large_stack([&] { engine_ = std::make_unique<TlsEngine>(std::move(settings), name_, session_key(), output_); });
}

/// False: it is done, or has failed.
bool TlsState::go_on(Step step, std::error_code& error) {
  if (step == Step::failed) {
    fail(engine_->error(), engine_->failure());
    send_last_words();
    tell_failure(error);
    return false;
  }
  if (!lock_writing(error)) return false;
  const bool sent = send(error);
  write_turn_.unlock();
  switch (step) {
    case Step::done:
      keep_rest();
      // The client may have said what it wanted and be gone, and not want our tickets; reading will tell.
      if (!sent && error != std::errc::operation_canceled && error != std::errc::timed_out) error.clear();
      return false;
    case Step::wants_name: answer_name(); return sent;
    case Step::wants_input: return sent && receive(error);
    default: break;
  }
  fail(TlsError::truncated, make_error_code(TlsError::truncated).message());
  tell_failure(error);
  return false;
}

void TlsState::answer_name() {
  // Those that the handshake began with, whatever has been reloaded since.
  const TlsServerOptions* options = server_options(engine_->settings());
  std::shared_ptr<const TlsSettings> answer;
  try {
    if (options != nullptr && options->on_name) {
      const std::optional<TlsContext> context = options->on_name(engine_->asked_name());
      if (context) {
        BIGHT_CHECK(context->is_server(), "on_name has to return a server's TlsContext");
        answer = current_settings(*context);
      }
    }
  } catch (const std::system_error& failure) {
    engine_->refuse_name(failure.code(), failure.what());
    return;
  } catch (const std::exception& failure) {
    engine_->refuse_name(TlsError::failed, failure.what());
    return;
  }
  engine_->answer_name(std::move(answer));
}

/// By what a client remembers a server.
std::string TlsState::session_key() const {
  if (name_.empty()) return {};
  std::error_code error;
  TcpStream* tcp = transport_->tcp();
  const Address address = tcp != nullptr ? tcp->peer_address(error) : Address();
  return name_ + ':' + (tcp != nullptr && !error ? std::to_string(address.port()) : std::string());
}

}  // namespace bight::net::detail
