// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <bight/net/tls_stream.hpp>

#include "tls/framing.hpp"

struct ssl_st;  // OpenSSL's SSL
struct x509_store_ctx_st;

namespace bight::net::detail {

struct TlsSettings;  // what a context is at a time; see openssl/settings.hpp

/// One side of a TLS connection, without any input or output: ciphertext is put in and taken out, and nothing waits.
/// The only thing here that knows OpenSSL, by its sources under openssl/.
///
/// Input is a view of what the owner has received; the engine takes from its front what it needs. Output is appended to
/// a buffer of the owner's.
class TlsEngine {
 public:
  enum class Step : unsigned char {
    done,         // what was asked for
    wants_input,  // first: all input has been taken
    wants_name,   // a server's handshake: on_name is to be asked for asked_name(), and answer_name() called
    ended,        // the peer has said that it ends its side
    failed,       // for good: error(), and perhaps an alert in the output
  };
  struct Read {
    std::size_t count;  // 0: see step
    Step step;
  };

  /// Throws std::system_error or std::bad_alloc. `name`: whom a client wants to talk to. `session_key`: by what a
  /// client remembers the server.
  TlsEngine(std::shared_ptr<const TlsSettings> settings, const std::string& name, std::string session_key,
            std::vector<std::byte>& output);
  TlsEngine(const TlsEngine&) = delete;
  TlsEngine& operator=(const TlsEngine&) = delete;
  ~TlsEngine();

  void set_input(std::span<const std::byte> input) noexcept { input_ = input; }
  [[nodiscard]] std::span<const std::byte> input() const noexcept { return input_; }
  /// The bytes of a record that have been taken, while the rest has not.
  [[nodiscard]] std::size_t partial() const noexcept { return framing_.partial(); }
  /// How much plaintext there may be in what has been taken and in what is left of the input.
  [[nodiscard]] std::size_t available() const noexcept { return pending() + framing_.partial() + input_.size(); }
  /// Plaintext that has been decrypted and not been read.
  [[nodiscard]] std::size_t pending() const noexcept;

  /// Whether the peer has said that it ends its side; there may be plaintext before that yet.
  [[nodiscard]] bool has_ended() const noexcept;

  [[nodiscard]] Step handshake();
  [[nodiscard]] std::string_view asked_name() const noexcept { return asked_name_; }
  /// Null: go on with the settings there are.
  void answer_name(std::shared_ptr<const TlsSettings> settings);
  /// The handshake ends with an alert, and `error` for a reason.
  void refuse_name(std::error_code error, std::string text);

  /// Fills as much of `buffer` as there is data for; not empty.
  [[nodiscard]] Read read(std::span<std::byte> buffer);
  /// The same, over the ciphertext itself, where `input` is in memory that may be written to, begins with a record, and
  /// no plaintext is pending: puts what it says from the front of `input` on, and takes all of it.
  [[nodiscard]] Read read_in_place(std::span<std::byte> input);
  [[nodiscard]] bool can_read_in_place() const noexcept { return framing_.partial() == 0 && pending() == 0; }

  /// Encrypts all of `data`, not empty, or nothing: wants_input, if the peer has begun a message (a ticket, new keys)
  /// and the rest has to be there first.
  [[nodiscard]] Step write(std::span<const std::byte> data);
  /// Appends close_notify, once; or wants_input, as write().
  [[nodiscard]] Step end_write();

  [[nodiscard]] std::error_code error() const noexcept { return error_; }
  [[nodiscard]] const std::string& failure() const noexcept { return failure_; }
  void fail(std::error_code error, std::string failure);

  [[nodiscard]] bool is_established() const noexcept { return established_; }
  [[nodiscard]] TlsInfo info() const;
  [[nodiscard]] std::string_view alpn() const noexcept;
  [[nodiscard]] std::vector<TlsCertificate> peer_chain() const;

  // For OpenSSL's call-backs.
  [[nodiscard]] int take_input(std::byte* into, std::size_t size) noexcept;
  [[nodiscard]] bool put_output(const std::byte* data, std::size_t size) noexcept;
  [[nodiscard]] int check_verdict(int fine, x509_store_ctx_st* store) noexcept;
  [[nodiscard]] int on_client_hello(ssl_st* ssl, int* alert) noexcept;
  [[nodiscard]] const TlsSettings& settings() const noexcept { return *settings_; }
  [[nodiscard]] const std::string& session_key() const noexcept { return session_key_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }

 private:
  enum class NameQuestion : unsigned char { not_asked, asked, answered, refused };

  void set_up_client();
  [[nodiscard]] bool take_groups(const TlsSettings& chosen);
  [[nodiscard]] Step step_after(int result);
  void fail_by_queue(int ssl_error);

  std::shared_ptr<const TlsSettings> settings_;
  std::shared_ptr<const TlsSettings> chosen_settings_;  // by on_name, in place of them
  ssl_st* ssl_ = nullptr;
  std::span<const std::byte> input_;
  std::vector<std::byte>& output_;
  TlsFraming framing_;
  bool established_ = false;
  bool keeps_buffers_ = false;
  bool write_ended_ = false;
  NameQuestion name_question_ = NameQuestion::not_asked;
  int verify_error_ = 0;
  std::string verify_text_;  // about the certificate that is not good
  std::string name_;         // a client's peer
  std::string session_key_;
  std::string asked_name_;
  std::error_code error_;
  std::string failure_;
};

[[nodiscard]] std::shared_ptr<const TlsSettings> current_settings(const TlsContext& context);
[[nodiscard]] bool is_server(const TlsSettings& settings) noexcept;
[[nodiscard]] const TlsServerOptions* server_options(const TlsSettings& settings) noexcept;

}  // namespace bight::net::detail
