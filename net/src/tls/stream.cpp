// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <bight/check.hpp>
#include <bight/error.hpp>
#include <bight/net/tls_stream.hpp>

#include "describe.hpp"
#include "dns/name.hpp"
#include "tls/state.hpp"

namespace bight::net {

namespace detail {

std::string describe_tls_peer(Socket& socket) { return describe_peer(socket); }

namespace {

std::span<const std::byte> bytes_of(std::string_view text) noexcept { return std::as_bytes(std::span(text)); }

bool needs_idna(std::string_view name) noexcept {
  for (const char each : name) {
    if (static_cast<unsigned char>(each) > 0x7f) return true;
  }
  return false;
}

/// As it stands in certificates: without a dot at the end, in ASCII, an address without brackets.
std::string certificate_name(std::string_view name) {
  if (name.size() > 2 && name.front() == '[' && name.back() == ']') name = name.substr(1, name.size() - 2);
  std::string text(name);
  if (needs_idna(name)) {
    std::error_code error;
    const std::string ascii = to_ascii(name, error);
    if (!error && !ascii.empty()) text = ascii;  // else the handshake refuses what it is
  }
  if (text.size() > 1 && text.back() == '.') text.pop_back();
  return text;
}

std::string describe(const std::shared_ptr<TlsState>& state) {
  return state != nullptr && state->transport().is_open() ? state->describe() : "a closed stream";
}

[[noreturn]] void throw_tls(std::error_code error, const std::string& attempt, const std::shared_ptr<TlsState>& state) {
  if (error == std::errc::operation_canceled) bight::detail::throw_error(error, attempt);
  std::string text = attempt + ' ' + describe(state) + ": ";
  text += error.category() == tls_category() && state != nullptr && !state->failure().empty() ? state->failure()
                                                                                              : error.message();
  throw TlsFailure(error, std::move(text));
}

/// `call(state)`, which holds the state meanwhile. A stream that was never made, or has been moved from, is closed; no
/// memory is an error like others.
template <class F>
auto carry_out(const std::shared_ptr<TlsState>& state, std::error_code& error, F&& call) {
  try {
    if (const auto held = state) return call(*held);
    error = std::make_error_code(std::errc::bad_file_descriptor);
  } catch (const std::bad_alloc&) {
    error = std::make_error_code(std::errc::not_enough_memory);
  }
  return decltype(call(*state))();
}

}  // namespace
}  // namespace detail

using detail::bytes_of;
using detail::carry_out;
using detail::throw_tls;
using detail::TlsState;

TlsStream::TlsStream() noexcept = default;
TlsStream::TlsStream(TlsStream&&) noexcept = default;
TlsStream& TlsStream::operator=(TlsStream&& other) noexcept {
  if (this != &other) {
    close();
    state_ = std::move(other.state_);
  }
  return *this;
}
TlsStream::~TlsStream() { close(); }
TlsStream::TlsStream(std::shared_ptr<detail::TlsState> state) noexcept : state_(std::move(state)) {}

TlsStream TlsStream::make(std::unique_ptr<detail::TlsTransport> transport, std::string_view name,
                          const TlsContext& context) {
  BIGHT_CHECK(context.shared() != nullptr, "a TlsStream of a TlsContext that could not be made");
  BIGHT_CHECK(context.is_server() || !name.empty(), "a TlsStream of a client's has to know whom it is talking to");
  return TlsStream(std::make_shared<detail::TlsState>(std::move(transport), detail::certificate_name(name), context));
}

// --- The handshake ---------------------------------------------------------------------------------------------------

void TlsStream::handshake() {
  std::error_code error;
  handshake(error);
  if (error) throw_tls(error, "TLS handshake with", state_);
}

void TlsStream::handshake(std::error_code& error) {
  carry_out(state_, error, [&](TlsState& state) { state.handshake(error); });
}

void TlsStream::set_handshake_timeout(Duration limit) noexcept {
  if (state_ != nullptr) state_->set_handshake_timeout(limit);
}

// --- Reading ---------------------------------------------------------------------------------------------------------

std::size_t TlsStream::read(std::span<std::byte> buffer) {
  std::error_code error;
  const std::size_t count = read(buffer, error);
  if (error) throw_tls(error, "read from", state_);
  return count;
}

std::size_t TlsStream::read(std::span<std::byte> buffer, std::error_code& error) {
  return carry_out(state_, error, [&](TlsState& state) { return state.read(buffer, error); });
}

Chunk TlsStream::read() {
  std::error_code error;
  Chunk chunk = read(error);
  if (error) throw_tls(error, "read from", state_);
  return chunk;
}

Chunk TlsStream::read(std::error_code& error) {
  return carry_out(state_, error, [&](TlsState& state) { return state.read(error); });
}

void TlsStream::read_exactly(std::span<std::byte> buffer) {
  std::error_code error;
  read_exactly(buffer, error);
  if (error) throw_tls(error, "read " + std::to_string(buffer.size()) + " bytes from", state_);
}

void TlsStream::read_exactly(std::span<std::byte> buffer, std::error_code& error) {
  error.clear();
  while (!buffer.empty() && !error) {
    const std::size_t count = read(buffer, error);
    if (!error && count == 0) error = std::make_error_code(std::errc::connection_aborted);
    buffer = buffer.subspan(count);
  }
}

// --- Writing ---------------------------------------------------------------------------------------------------------

std::size_t TlsStream::write(std::span<const std::byte> data) {
  std::error_code error;
  const std::size_t count = write(data, error);
  if (error) throw_tls(error, "write to", state_);
  return count;
}

std::size_t TlsStream::write(std::span<const std::byte> data, std::error_code& error) {
  return carry_out(state_, error, [&](TlsState& state) { return state.write(data, error); });
}

void TlsStream::write_all(std::span<const std::byte> data) {
  std::error_code error;
  write_all(data, error);
  if (error) throw_tls(error, "write to", state_);
}

void TlsStream::write_all(std::span<const std::byte> data, std::error_code& error) {
  carry_out(state_, error, [&](TlsState& state) { state.write_all(data, error); });
}

void TlsStream::write_all(std::string_view text) { write_all(bytes_of(text)); }

void TlsStream::write_all(std::string_view text, std::error_code& error) { write_all(bytes_of(text), error); }

void TlsStream::write_all(std::span<const std::span<const std::byte>> pieces) {
  std::error_code error;
  write_all(pieces, error);
  if (error) throw_tls(error, "write to", state_);
}

void TlsStream::write_all(std::span<const std::span<const std::byte>> pieces, std::error_code& error) {
  carry_out(state_, error, [&](TlsState& state) { state.write_all(pieces, error); });
}

// --- Ending ----------------------------------------------------------------------------------------------------------

void TlsStream::shutdown_write() {
  std::error_code error;
  shutdown_write(error);
  if (error) throw_tls(error, "end the stream to", state_);
}

void TlsStream::shutdown_write(std::error_code& error) {
  carry_out(state_, error, [&](TlsState& state) { state.shutdown_write(error); });
}

void TlsStream::close() noexcept {
  if (state_ != nullptr) state_->close();
}

void TlsStream::reset() noexcept {
  if (state_ != nullptr) state_->reset();
}

void TlsStream::abort(std::error_code error) noexcept {
  if (state_ != nullptr) state_->abort(error);
}

// --- Settings and questions ------------------------------------------------------------------------------------------

void TlsStream::set_timeout(Duration limit) noexcept {
  set_read_timeout(limit);
  set_write_timeout(limit);
}

void TlsStream::set_read_timeout(Duration limit) noexcept {
  if (state_ != nullptr) state_->set_read_timeout(limit);
}

void TlsStream::set_write_timeout(Duration limit) noexcept {
  if (state_ != nullptr) state_->set_write_timeout(limit);
}

bool TlsStream::is_open() const noexcept { return state_ != nullptr && state_->transport().is_open(); }

bool TlsStream::is_established() const noexcept { return state_ != nullptr && state_->is_established(); }

TlsInfo TlsStream::info() const { return is_established() ? state_->engine()->info() : TlsInfo(); }

std::string_view TlsStream::alpn() const noexcept {
  return is_established() ? state_->engine()->alpn() : std::string_view();
}

std::vector<TlsCertificate> TlsStream::peer_chain() const {
  return is_established() ? state_->engine()->peer_chain() : std::vector<TlsCertificate>();
}

std::optional<TlsCertificate> TlsStream::peer_certificate() const {
  std::vector<TlsCertificate> chain = peer_chain();
  if (chain.empty()) return std::nullopt;
  return std::move(chain.front());
}

const std::string& TlsStream::failure() const noexcept {
  static const std::string none;
  return state_ != nullptr ? state_->failure() : none;
}

TcpStream* TlsStream::tcp() noexcept { return state_ != nullptr ? state_->transport().tcp() : nullptr; }

Address TlsStream::local_address() const {
  std::error_code error;
  const Address address = local_address(error);
  if (error) throw_tls(error, "find the local address of the connection to", state_);
  return address;
}

Address TlsStream::local_address(std::error_code& error) const noexcept {
  TcpStream* tcp = state_ != nullptr ? state_->transport().tcp() : nullptr;
  if (tcp != nullptr) return tcp->local_address(error);
  error = std::make_error_code(std::errc::operation_not_supported);
  return {};
}

Address TlsStream::peer_address() const {
  std::error_code error;
  const Address address = peer_address(error);
  if (error) throw_tls(error, "find the address of", state_);
  return address;
}

Address TlsStream::peer_address(std::error_code& error) const noexcept {
  TcpStream* tcp = state_ != nullptr ? state_->transport().tcp() : nullptr;
  if (tcp != nullptr) return tcp->peer_address(error);
  error = std::make_error_code(std::errc::operation_not_supported);
  return {};
}

const ProxyHeader* TlsStream::proxy_header() const noexcept {
  const TcpStream* tcp = state_ != nullptr ? state_->transport().tcp() : nullptr;
  return tcp != nullptr ? tcp->proxy_header() : nullptr;
}

}  // namespace bight::net
