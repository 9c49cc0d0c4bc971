// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Connections by TLS.

#include <chrono>
#include <concepts>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <bight/chunk.hpp>
#include <bight/net/address.hpp>
#include <bight/net/byte_stream.hpp>
#include <bight/net/detail/tls_transport.hpp>
#include <bight/net/dial.hpp>
#include <bight/net/proxy_protocol.hpp>
#include <bight/net/tcp.hpp>
#include <bight/net/tls_context.hpp>
#include <bight/net/tls_error.hpp>
#include <bight/time.hpp>

namespace bight::net {

namespace detail {
class TlsState;
}

/// What a certificate says.
struct TlsCertificate {
  std::string subject;  ///< "CN=example.org,O=Example"
  std::string issuer;
  std::string serial;                  ///< hexadecimal
  std::vector<std::string> dns_names;  ///< whom it is for
  std::vector<std::string> addresses;  ///< the same, as IP addresses
  std::chrono::system_clock::time_point not_before;
  std::chrono::system_clock::time_point not_after;
  std::string fingerprint;  ///< SHA-256 of all of it, 64 hexadecimal digits
  std::string pem;
};

/// What a handshake has agreed on.
struct TlsInfo {
  TlsVersion version = TlsVersion::tls_1_3;
  std::string cipher;       ///< "TLS_AES_256_GCM_SHA384"
  std::string alpn;         ///< the application protocol; empty: none
  std::string server_name;  ///< whom the client has asked for; empty: it did not say
  bool resumed = false;     ///< shortened, as the two have talked before
};

/// Any stream that TLS can run over: TcpStream, UnixStream, MemoryStream, bight::Stream.
template <class S>
concept TlsCarrier = ByteStream<S> && std::movable<S> &&
    requires(S& stream, const S& constant, std::span<const std::byte> data, std::error_code& error) {
  { stream.write(data, error) } -> std::convertible_to<std::size_t>;
  { constant.is_open() } -> std::convertible_to<bool>;
};

/// A connection by TLS, over another stream, which it owns. Move-only; closes when it goes. Reads and writes as
/// TcpStream does and by the same rules: one fiber may read while another writes, two that do the same are refused with
/// device_or_resource_busy, and it stays where it is until the calls under way have returned.
///
/// Every operation has two forms, as in tcp.hpp; the throwing ones throw TlsFailure, whose text has more than the code
/// can say. After the error_code form failure() has that text.
///
/// - The end: 0 (or an empty Chunk) is the peer's word that it has ended its side. A connection that ends without
///   it is TlsError::truncated: someone in between may have cut it, or the peer has crashed, or does not bother.
/// - A read that is cancelled or times out has lost nothing.
/// - A write that is cancelled or times out has taken some of the data, in whole records, that go out before whatever
///   is written next: the connection is sound, and the peer sees a beginning of the data. write() says how much it has
///   taken, in such a case, too.
/// - Any other error ends the connection: it is what every later call returns, too.
///
/// An idle one holds no buffers: what memory it takes is OpenSSL's state, about 20 KiB. (The first 256 of a process
/// keep OpenSSL's own buffers, 17 KiB each way, of which the pages count that have been used.)
class TlsStream {
 public:
  TlsStream() noexcept;
  TlsStream(TlsStream&&) noexcept;
  TlsStream& operator=(TlsStream&&) noexcept;
  ~TlsStream();

  /// The client's side over a connected stream. `name` is whom the certificate has to be for: a host's name, which the
  /// server is also told (SNI), or an IP address. Does nothing yet: see handshake().
  template <TlsCarrier S>
  [[nodiscard]] static TlsStream client(S stream, std::string_view name,
                                        const TlsContext& context = TlsContext::default_client()) {
    return make(std::make_unique<detail::TlsTransportOver<S>>(std::move(stream)), name, context);
  }
  /// The server's side.
  template <TlsCarrier S>
  [[nodiscard]] static TlsStream server(S stream, const TlsContext& context) {
    return make(std::make_unique<detail::TlsTransportOver<S>>(std::move(stream)), {}, context);
  }

  /// Waits until the two have agreed and the certificates have been checked; the first read or write does so itself. A
  /// client of TLS 1.3 is done when it has checked the server: what the server has against the client's certificate,
  /// only a later read tells. Cancelled, it can be gone on with.
  void handshake();
  void handshake(std::error_code& error);
  /// For all of it; kHandshakeTimeout unless set. Zero: none.
  void set_handshake_timeout(Duration limit) noexcept;
  static constexpr Duration kHandshakeTimeout = std::chrono::seconds(10);

  /// At least one byte into `buffer`; 0: the end (or the buffer is empty).
  std::size_t read(std::span<std::byte> buffer);
  std::size_t read(std::span<std::byte> buffer, std::error_code& error);
  /// What came, without holding a buffer meanwhile; empty: the end.
  [[nodiscard]] Chunk read();
  [[nodiscard]] Chunk read(std::error_code& error);
  /// Fills `buffer` whole; the end before that is connection_aborted.
  void read_exactly(std::span<std::byte> buffer);
  void read_exactly(std::span<std::byte> buffer, std::error_code& error);

  /// Some of `data`, 48 KiB at most; returns how much.
  std::size_t write(std::span<const std::byte> data);
  std::size_t write(std::span<const std::byte> data, std::error_code& error);
  /// All of it, in records of 16 KiB, several to a packet.
  void write_all(std::span<const std::byte> data);
  void write_all(std::span<const std::byte> data, std::error_code& error);
  void write_all(std::string_view text);
  void write_all(std::string_view text, std::error_code& error);
  /// All pieces, in order, in as few records as may be.
  void write_all(std::span<const std::span<const std::byte>> pieces);
  void write_all(std::span<const std::span<const std::byte>> pieces, std::error_code& error);

  /// Ends this side: sends what waits and close_notify. Reading goes on.
  void shutdown_write();
  void shutdown_write(std::error_code& error);
  /// Wakes who waits on the stream with bad_file_descriptor, and closes. Does not wait: what a cancelled write has
  /// left and close_notify are sent if the system takes them at once, as it does unless the peer has stopped reading.
  /// Who has to know calls shutdown_write() first.
  void close() noexcept;
  /// The same without a word: the peer gets a reset, if it is TCP, or truncated.
  void reset() noexcept;
  /// reset(), and `error` is what a handshake or a read that is under way ends with.
  void abort(std::error_code error) noexcept;

  /// Limits for each single read, each write's progress; zero: none. set_timeout sets both. Expiry is
  /// std::errc::timed_out.
  void set_timeout(Duration limit) noexcept;
  void set_read_timeout(Duration limit) noexcept;
  void set_write_timeout(Duration limit) noexcept;

  // Questions. Those about the handshake have answers when it is done.

  [[nodiscard]] bool is_open() const noexcept;
  [[nodiscard]] bool is_established() const noexcept;
  [[nodiscard]] TlsInfo info() const;
  [[nodiscard]] std::string_view alpn() const noexcept;
  /// The certificate that the peer has shown; a client's may be missing.
  [[nodiscard]] std::optional<TlsCertificate> peer_certificate() const;
  /// The same with all that it has shown besides; after a resumption there may be none.
  [[nodiscard]] std::vector<TlsCertificate> peer_chain() const;
  /// What has ended the connection, in words: "certificate has expired: CN=example.org, valid until 2026-01-01".
  /// Empty: nothing has.
  [[nodiscard]] const std::string& failure() const noexcept;

  /// Of the connection below; operation_not_supported, if that is not TCP.
  [[nodiscard]] Address local_address() const;
  [[nodiscard]] Address local_address(std::error_code& error) const noexcept;
  [[nodiscard]] Address peer_address() const;
  [[nodiscard]] Address peer_address(std::error_code& error) const noexcept;
  [[nodiscard]] const ProxyHeader* proxy_header() const noexcept;
  /// The connection below, if that is TCP, for its options; else null. Not to read from and not to write to.
  [[nodiscard]] TcpStream* tcp() noexcept;

 private:
  explicit TlsStream(std::shared_ptr<detail::TlsState> state) noexcept;
  [[nodiscard]] static TlsStream make(std::unique_ptr<detail::TlsTransport> transport, std::string_view name,
                                      const TlsContext& context);

  std::shared_ptr<detail::TlsState> state_;
};

struct TlsConnectOptions {
  DialOptions dial{};                   ///< to connect; its timeout is not for the handshake
  std::optional<TlsContext> context{};  ///< empty: TlsContext::default_client()
  std::string name{};                   ///< whom the certificate has to be for; empty: the host
  Duration handshake_timeout = TlsStream::kHandshakeTimeout;
};

/// Connects to a name, as net::connect() does, and does the handshake.
///
///     net::TlsStream peer = net::connect_tls("example.org", 443);
[[nodiscard]] TlsStream connect_tls(std::string_view host, const Service& service,
                                    const TlsConnectOptions& options = {});
[[nodiscard]] TlsStream connect_tls(std::string_view host, const Service& service, const TlsConnectOptions& options,
                                    std::error_code& error);

}  // namespace bight::net
