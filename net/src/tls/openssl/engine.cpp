// SPDX-License-Identifier: Apache-2.0
#include "tls/engine.hpp"

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstring>

#include <bight/check.hpp>

#include "tls/openssl/settings.hpp"

namespace bight::net::detail {
namespace {

int engine_index() noexcept {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

TlsEngine& engine_behind(BIO* bio) noexcept { return *static_cast<TlsEngine*>(BIO_get_data(bio)); }

int read_input(BIO* bio, char* into, int size) noexcept {
  BIO_clear_retry_flags(bio);
  if (size <= 0) return 0;
  const int count = engine_behind(bio).take_input(reinterpret_cast<std::byte*>(into), static_cast<std::size_t>(size));
  if (count > 0) return count;
  BIO_set_retry_read(bio);
  return -1;
}

int write_output(BIO* bio, const char* data, int size) noexcept {
  BIO_clear_retry_flags(bio);
  if (size <= 0) return 0;
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  return engine_behind(bio).put_output(bytes, static_cast<std::size_t>(size)) ? size : -1;
}

long control(BIO* /*bio*/, int command, long /*number*/, void* /*pointer*/) noexcept {
  return command == BIO_CTRL_FLUSH ? 1 : 0;  // all that is written is there at once
}

/// What OpenSSL reads from and writes to: the engine's input and output.
const BIO_METHOD* engine_bio() noexcept {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "bight");
    if (made == nullptr) return made;
    BIO_meth_set_read(made, read_input);
    BIO_meth_set_write(made, write_output);
    BIO_meth_set_ctrl(made, control);
    return made;
  }();
  return method;
}

/// Emptying a queue that is empty is not for nothing: it is a good part of what a small record costs here.
void begin_call() noexcept {
  if (ERR_peek_error() != 0) ERR_clear_error();
}

/// What a ClientHello's extension says; empty if there is none.
std::string_view extension(SSL* ssl, unsigned type) noexcept {
  const unsigned char* data = nullptr;
  std::size_t size = 0;
  if (SSL_client_hello_get0_ext(ssl, type, &data, &size) != 1) return {};
  return {reinterpret_cast<const char*>(data), size};
}

/// RFC 6066: a list, its length first, of names with a kind and a length before each. Only one of a host's is in use.
std::string_view name_in(std::string_view extension) noexcept {
  constexpr std::size_t kBefore = 5;
  if (extension.size() < kBefore || extension[2] != TLSEXT_NAMETYPE_host_name) return {};
  const std::size_t size = static_cast<std::size_t>(static_cast<unsigned char>(extension[3])) << 8U |
                           static_cast<unsigned char>(extension[4]);
  const std::string_view name = extension.substr(kBefore);
  return size <= name.size() && size <= TLSEXT_MAXLEN_host_name ? name.substr(0, size) : std::string_view();
}

/// Of others OpenSSL would make something: to it, ".example.org" stands for every name that ends so.
bool is_host_name(std::string_view name) noexcept {
  char before = '.';
  for (const char each : name) {
    const bool in_label = (each >= 'a' && each <= 'z') || (each >= 'A' && each <= 'Z') ||
                          (each >= '0' && each <= '9') || each == '-' || each == '_';
    if (!in_label && (each != '.' || before == '.')) return false;
    before = each;
  }
  return before != '.';
}

// So many connections of the process keep OpenSSL's buffers of 17 KiB each, for the way in and for the way out. Making
// them for every message takes a thousand instructions, of the 16 thousand that an echo of 64 bytes takes in user
// space; keeping them for more connections would take more memory than all the rest of them.
constexpr int kWarmMax = 256;
std::atomic<int> warm = 0;

bool keeps_buffers() noexcept {
  if (warm.fetch_add(1, std::memory_order_relaxed) < kWarmMax) return true;
  warm.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

}  // namespace

TlsEngine* engine_of(const SSL* ssl) noexcept { return static_cast<TlsEngine*>(SSL_get_ex_data(ssl, engine_index())); }

// --- Making and ending -----------------------------------------------------------------------------------------------

TlsEngine::TlsEngine(std::shared_ptr<const TlsSettings> settings, const std::string& name, std::string session_key,
                     std::vector<std::byte>& output)
    : settings_(std::move(settings)), output_(output), name_(name), session_key_(std::move(session_key)) {
  ERR_clear_error();
  std::unique_ptr<SSL, FreedBy<SSL_free>> ssl(SSL_new(settings_->context.get()));
  BIO* bio = ssl != nullptr && engine_bio() != nullptr ? BIO_new(engine_bio()) : nullptr;
  if (bio == nullptr || SSL_set_ex_data(ssl.get(), engine_index(), this) != 1) {
    BIO_free(bio);
    throw std::bad_alloc();
  }
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl.get(), bio, bio);
  ssl_ = ssl.get();
  if (settings_->is_server()) {
    SSL_set_accept_state(ssl_);
  } else {
    SSL_set_connect_state(ssl_);
    set_up_client();
  }
  keeps_buffers_ = keeps_buffers();
  if (keeps_buffers_) SSL_clear_mode(ssl_, SSL_MODE_RELEASE_BUFFERS);
  static_cast<void>(ssl.release());
}

TlsEngine::~TlsEngine() {
  if (keeps_buffers_) warm.fetch_sub(1, std::memory_order_relaxed);
  SSL_set_ex_data(ssl_, engine_index(), nullptr);
  // Else OpenSSL takes the session for a broken one, which is not to be resumed. That a connection ends without
  // close_notify is no news to who has been told of it, and says nothing about the keys.
  SSL_set_quiet_shutdown(ssl_, 1);
  if (established_) SSL_shutdown(ssl_);
  SSL_free(ssl_);
  ERR_clear_error();
}

void TlsEngine::set_up_client() {
  X509_VERIFY_PARAM* parameters = SSL_get0_param(ssl_);
  const bool is_text = name_.find('\0') == std::string::npos;
  const bool is_address = is_text && X509_VERIFY_PARAM_set1_ip_asc(parameters, name_.c_str()) == 1;
  if (!is_address) {
    X509_VERIFY_PARAM_set_hostflags(parameters,
                                    X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    if (!is_host_name(name_) ||
        SSL_ctrl(ssl_, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, name_.data()) != 1 ||
        X509_VERIFY_PARAM_set1_host(parameters, name_.data(), name_.size()) != 1) {
      fail(std::make_error_code(std::errc::invalid_argument), "'" + name_ + "' is no host's name");
    }
  }
  ERR_clear_error();
  if (const SslSessionPtr session = settings_->sessions->take(session_key_)) SSL_set_session(ssl_, session.get());
}

// --- Ciphertext ------------------------------------------------------------------------------------------------------

int TlsEngine::take_input(std::byte* into, std::size_t size) noexcept {
  const std::size_t count = std::min({size, input_.size(), std::size_t{INT_MAX}});
  if (count == 0) return 0;
  std::memcpy(into, input_.data(), count);
  framing_.pass(input_.first(count));
  input_ = input_.subspan(count);
  return static_cast<int>(count);
}

bool TlsEngine::put_output(const std::byte* data, std::size_t size) noexcept try {
  output_.insert(output_.end(), data, data + size);
  return true;
} catch (const std::bad_alloc&) {
  error_ = std::make_error_code(std::errc::not_enough_memory);
  return false;
}

// --- The handshake ---------------------------------------------------------------------------------------------------

TlsEngine::Step TlsEngine::handshake() {
  if (error_) return Step::failed;
  if (established_) return Step::done;
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_);
  if (result != 1) return step_after(result);
  established_ = true;
  return Step::done;
}

TlsEngine::Step TlsEngine::step_after(int result) {
  const int why = SSL_get_error(ssl_, result);
  switch (why) {
    case SSL_ERROR_WANT_READ: return Step::wants_input;
    case SSL_ERROR_WANT_CLIENT_HELLO_CB: return Step::wants_name;
    case SSL_ERROR_ZERO_RETURN: return Step::ended;
    default: fail_by_queue(why); return Step::failed;
  }
}

void TlsEngine::fail_by_queue(int ssl_error) {
  if (error_) {  // known already: no memory, or a name that is refused
    ERR_clear_error();
    return;
  }
  const unsigned long first = ERR_peek_error();
  std::error_code error = classify_error(first);
  const bool told_by_code = error.category() != tls_category() || error.value() >= 256 ||
                            (error != TlsError::protocol_error && error != TlsError::failed);
  std::string words = drain_errors();
  if (ERR_GET_LIB(first) == ERR_LIB_SSL && ERR_GET_REASON(first) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
    if (verify_error_ != 0) error = classify_verdict(verify_error_);
    words = verify_text_;
  } else if (told_by_code || ssl_error != SSL_ERROR_SSL) {
    words.clear();
  }
  fail(error, error.message() + (words.empty() ? "" : ": " + words));
}

void TlsEngine::fail(std::error_code error, std::string failure) {
  error_ = error;
  failure_ = std::move(failure);
}

void TlsEngine::answer_name(std::shared_ptr<const TlsSettings> settings) {
  name_question_ = NameQuestion::answered;
  if (settings == nullptr) return;
  SSL_CTX* context = settings->context.get();
  ERR_clear_error();
  if (SSL_set_SSL_CTX(ssl_, context) != context || !take_groups(*settings)) {
    fail(TlsError::failed, "go on with another context: " + drain_errors());
    return;
  }
  // What follows OpenSSL has copied from the context that the connection began with.
  SSL_set_verify(ssl_, SSL_CTX_get_verify_mode(context), verify_callback);
  X509_VERIFY_PARAM* parameters = SSL_get0_param(ssl_);
  X509_VERIFY_PARAM_clear_flags(parameters, X509_VERIFY_PARAM_get_flags(parameters));  // else they add up
  X509_VERIFY_PARAM_set_flags(parameters, X509_VERIFY_PARAM_get_flags(SSL_CTX_get0_param(context)));
  SSL_clear_options(ssl_, SSL_OP_NO_TICKET);
  SSL_set_options(ssl_, SSL_CTX_get_options(context));
  SSL_set_min_proto_version(ssl_, static_cast<int>(SSL_CTX_get_min_proto_version(context)));
  SSL_set_max_proto_version(ssl_, static_cast<int>(SSL_CTX_get_max_proto_version(context)));
  SSL_set_num_tickets(ssl_, SSL_CTX_get_num_tickets(context));
  chosen_settings_ = std::move(settings);
  ERR_clear_error();
}

bool TlsEngine::take_groups(const TlsSettings& chosen) {
  // OpenSSL's own: what a connection has been told to use can not be taken back.
  constexpr const char* kUsual = "X25519:P-256:X448:P-521:P-384";
  const std::string& former = std::get<TlsServerOptions>(settings_->options).protocol.groups;
  const std::string& groups = std::get<TlsServerOptions>(chosen.options).protocol.groups;
  if (groups == former) return true;
  return SSL_set1_groups_list(ssl_, groups.empty() ? kUsual : groups.c_str()) == 1;
}

void TlsEngine::refuse_name(std::error_code error, std::string text) {
  name_question_ = NameQuestion::refused;
  fail(error, std::move(text));
  ERR_clear_error();
  static_cast<void>(SSL_do_handshake(ssl_));  // says so to the client
  ERR_clear_error();
}

/// Whether the handshake may go on, and with whom.
int TlsEngine::on_client_hello(ssl_st* ssl, int* alert) noexcept try {
  const TlsServerOptions& options = std::get<TlsServerOptions>(settings_->options);
  if (options.on_name && name_question_ == NameQuestion::not_asked) {
    asked_name_ = name_in(extension(ssl, TLSEXT_TYPE_server_name));
    name_question_ = NameQuestion::asked;
  }
  if (name_question_ == NameQuestion::asked) return SSL_CLIENT_HELLO_RETRY;
  if (name_question_ == NameQuestion::refused) {
    *alert = error_ == TlsError::name_not_served ? SSL_AD_UNRECOGNIZED_NAME : SSL_AD_INTERNAL_ERROR;
    return SSL_CLIENT_HELLO_ERROR;
  }
  const TlsSettings& chosen = chosen_settings_ != nullptr ? *chosen_settings_ : *settings_;
  const bool needs_alpn = std::get<TlsServerOptions>(chosen.options).alpn_required && !chosen.alpn.empty();
  if (needs_alpn && extension(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation).empty()) {
    fail(TlsError::no_shared_application, "the client does not say which application protocol (ALPN) it wants");
    *alert = SSL_AD_NO_APPLICATION_PROTOCOL;
    return SSL_CLIENT_HELLO_ERROR;
  }
  return SSL_CLIENT_HELLO_SUCCESS;
} catch (const std::bad_alloc&) {
  return SSL_CLIENT_HELLO_ERROR;
}

int client_hello_callback(SSL* ssl, int* alert, void* /*argument*/) noexcept {
  return engine_of(ssl)->on_client_hello(ssl, alert);
}

// --- The peer's certificate ------------------------------------------------------------------------------------------

int verify_callback(int fine, X509_STORE_CTX* store) noexcept {
  const auto* ssl = static_cast<const SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  TlsEngine* engine = ssl != nullptr ? engine_of(ssl) : nullptr;
  return engine != nullptr ? engine->check_verdict(fine, store) : fine;
}

namespace {

std::string verdict_text(int verdict, const X509& certificate, const std::string& name) {
  const std::error_code error = classify_verdict(verdict);
  std::string text = short_subject(certificate);
  if (error == TlsError::certificate_expired) {
    text += ", valid until " + day_text(X509_get0_notAfter(&certificate));
  } else if (error == TlsError::certificate_not_yet_valid) {
    text += ", valid from " + day_text(X509_get0_notBefore(&certificate));
  } else if (error == TlsError::host_mismatch) {
    text += " is for " + names_text(certificate) + ", and not for " + name;
  } else if (error == TlsError::unknown_authority) {
    text += ", issued by " + name_text(X509_get_issuer_name(&certificate));
  } else if (error == TlsError::revocation_unknown || error == TlsError::certificate_invalid) {
    text += std::string(", ") + X509_verify_cert_error_string(verdict);
  }
  return text;
}

}  // namespace

/// What OpenSSL is told about its verdict on a certificate: 1, go on.
int TlsEngine::check_verdict(int fine, x509_store_ctx_st* store) noexcept try {
  if (fine != 0) return fine;
  const int verdict = X509_STORE_CTX_get_error(store);
  const TlsSettings& chosen = chosen_settings_ != nullptr ? *chosen_settings_ : *settings_;
  if (verdict == X509_V_ERR_UNABLE_TO_GET_CRL && chosen.revocation == TlsRevocation::listed) {
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
  }
  verify_error_ = verdict;
  const X509* certificate = X509_STORE_CTX_get_current_cert(store);
  if (certificate != nullptr) verify_text_ = verdict_text(verdict, *certificate, name_);
  return 0;
} catch (const std::bad_alloc&) {
  return 0;
}

// --- Plaintext -------------------------------------------------------------------------------------------------------

std::size_t TlsEngine::pending() const noexcept { return static_cast<std::size_t>(SSL_pending(ssl_)); }

bool TlsEngine::has_ended() const noexcept { return (SSL_get_shutdown(ssl_) & SSL_RECEIVED_SHUTDOWN) != 0; }

TlsEngine::Read TlsEngine::read(std::span<std::byte> buffer) {
  if (error_) return {0, Step::failed};
  std::size_t count = 0;
  do {
    std::size_t got = 0;
    begin_call();
    if (SSL_read_ex(ssl_, buffer.data() + count, buffer.size() - count, &got) != 1) {
      const Step step = step_after(0);
      return {count, count > 0 ? Step::done : step};  // what is to be said of the rest, the next call will say again
    }
    count += got;
  } while (count < buffer.size() && (!input_.empty() || pending() > 0));
  return {count, Step::done};
}

TlsEngine::Read TlsEngine::read_in_place(std::span<std::byte> input) {
  if (error_) return {0, Step::failed};
  set_input(input);
  std::size_t count = 0;
  // What a record says is shorter than the record. So what the whole records up to here say ends before the next one
  // begins; and a record of which the rest is yet to come is taken, and says nothing.
  while (!input_.empty() || pending() > 0) {
    const std::size_t room = input.size() - input_.size() + TlsFraming::whole_record(input_) - count;
    std::byte none{};
    std::size_t got = 0;
    begin_call();
    if (SSL_read_ex(ssl_, room > 0 ? input.data() + count : &none, std::max<std::size_t>(room, 1), &got) != 1) {
      const Step step = step_after(0);
      input_ = {};  // what comes after an end or an error is for nobody, and its memory is about to go
      return {count, count > 0 ? Step::done : step};
    }
    count += got;
  }
  return {count, count > 0 ? Step::done : Step::wants_input};
}

TlsEngine::Step TlsEngine::write(std::span<const std::byte> data) {
  if (error_) return Step::failed;
  std::size_t written = 0;
  ERR_clear_error();
  const int result = SSL_write_ex(ssl_, data.data(), data.size(), &written);
  if (result == 1 && written == data.size()) return Step::done;
  return step_after(result);
}

TlsEngine::Step TlsEngine::end_write() {
  if (write_ended_ || error_ || !established_) return Step::done;
  ERR_clear_error();
  if (SSL_in_init(ssl_) != 0) {
    const int result = SSL_do_handshake(ssl_);
    if (result != 1) return step_after(result);
  }
  write_ended_ = true;
  static_cast<void>(SSL_shutdown(ssl_));
  ERR_clear_error();
  return Step::done;
}

// --- Questions -------------------------------------------------------------------------------------------------------

std::string_view TlsEngine::alpn() const noexcept {
  const unsigned char* name = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_, &name, &size);
  return {reinterpret_cast<const char*>(name), size};
}

TlsInfo TlsEngine::info() const {
  TlsInfo info;
  info.version = SSL_version(ssl_) >= TLS1_3_VERSION ? TlsVersion::tls_1_3 : TlsVersion::tls_1_2;
  if (const char* cipher = SSL_get_cipher_name(ssl_)) info.cipher = cipher;
  info.alpn = alpn();
  if (const char* name = SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name)) info.server_name = name;
  info.resumed = SSL_session_reused(ssl_) == 1;
  return info;
}

std::vector<TlsCertificate> TlsEngine::peer_chain() const {
  std::vector<TlsCertificate> chain;
  const X509* own = SSL_get0_peer_certificate(ssl_);
  if (own == nullptr) return chain;
  chain.push_back(describe_certificate(*own));
  const STACK_OF(X509)* shown = SSL_get_peer_cert_chain(ssl_);  // a server sees it without, a client with the first
  for (int n = 0; n < sk_X509_num(shown); ++n) {
    const X509* each = sk_X509_value(shown, n);
    if (X509_cmp(each, own) != 0) chain.push_back(describe_certificate(*each));
  }
  return chain;
}

}  // namespace bight::net::detail
