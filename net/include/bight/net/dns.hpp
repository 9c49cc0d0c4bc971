// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Names: to addresses, and the other things that name servers know.
///
///     for (const Address& address : net::resolve("example.org")) ...
///
/// A Resolver asks for itself, over sockets of its loop; nothing blocks, nothing runs on other threads. In a simulated
/// world its packets travel there and its limits are virtual time. Every verb has two forms: one that throws
/// ResolveError, whose text tells what was asked, of whom, and what came of it ("resolve example.invalid: no such name
/// (asked 127.0.0.1:53)"), and one with a trailing std::error_code&. All of them wait, and throw Cancelled in a fiber
/// that is cancelled (the other form: operation_canceled).

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <bight/net/address.hpp>
#include <bight/time.hpp>

namespace bight::net {

namespace detail {
class ResolverCore;
struct ResolveFailure;
}  // namespace detail

/// Why a name could not be resolved. Values of std::error_code, in a category of their own ("dns").
enum class DnsError {
  no_such_name = 1,   ///< the servers say that there is none (NXDOMAIN)
  no_data,            ///< the name exists, with no records of the kind asked for
  timed_out,          ///< no server has answered, however often it was asked; equals std::errc::timed_out
  refused,            ///< the servers do not want to answer us, or nobody listens there
  server_failure,     ///< the servers could not find out (SERVFAIL), or did not understand
  malformed_answer,   ///< what came is no answer
  invalid_name,       ///< not a name: too long (253 bytes, 63 a label), empty labels, bytes that no name may have
  idna_unsupported,   ///< not ASCII, and this build has no libidn2
  unsupported_query,  ///< the system's getaddrinfo can not ask for that
  shut_down,          ///< the Resolver was destroyed meanwhile
};

[[nodiscard]] const std::error_category& dns_category() noexcept;
[[nodiscard]] inline std::error_code make_error_code(DnsError error) noexcept {
  return {static_cast<int>(error), dns_category()};
}

/// What the throwing forms throw.
class ResolveError : public std::system_error {
 public:
  ResolveError(std::error_code error, std::string text) : std::system_error(error), text_(std::move(text)) {}
  [[nodiscard]] const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

/// Who finds out. `dns`: this library, as described here. `system`: getaddrinfo(3) on threads of OffloadPool::shared(),
/// with everything that nsswitch.conf says, without a cache; a lookup that has begun can not be cut short.
enum class ResolverBackend : unsigned char { dns, system };

/// `dns` if the library was built with c-ares, else `system`.
[[nodiscard]] ResolverBackend default_resolver_backend() noexcept;

/// Where nothing is said (std::nullopt, or empty), resolv.conf(5) decides; where that says nothing, the value named.
struct ResolverOptions {
  ResolverBackend backend = default_resolver_backend();

  std::vector<Address> servers{};                    ///< with ports; 127.0.0.1:53. The first 8 count
  std::optional<std::vector<std::string>> search{};  ///< domains to try for names that are not full; none. 6 count
  std::optional<unsigned> ndots{};                   ///< with so many dots in it a name is first tried as it is; 1
  std::optional<Duration> timeout{};                 ///< for an answer of one server; 2 s
  std::optional<unsigned> tries{};                   ///< how often each server is asked, at most; 3
  std::optional<bool> rotate{};                      ///< begin with another server each time; false
  std::optional<bool> use_tcp{};                     ///< from the start, not only for answers that were cut; false
  std::string resolv_conf = "/etc/resolv.conf";      ///< empty: none
  std::string hosts = "/etc/hosts";                  ///< empty: none
  Duration config_check = std::chrono::seconds(5);   ///< the two files are looked at again after this time, when used

  std::size_t queries_max = 1024;  ///< under way at a time; more wait for their turn, first come, first served
  std::size_t tcp_max = 64;        ///< of these, over TCP
  /// Each query has a random source port of its own, which it shares with others only when so many are open ...
  std::size_t ports_max = 16;
  std::size_t port_queries = 256;  ///< ... and with at most so many altogether

  std::size_t cache_entries = 10'000;                    ///< beyond, what was not used for longest goes; 0: no cache
  Duration ttl_min{0};                                   ///< an answer is kept for at least ...
  Duration ttl_max = std::chrono::hours(24);             ///< ... and at most so long, whatever it says
  Duration negative_ttl_max = std::chrono::minutes(15);  ///< the same for "no such name" and "no data"
  Duration order_kept = std::chrono::seconds(30);  ///< for how long the order of a name's addresses is taken as right
};

/// Which addresses, and how they are wanted.
struct ResolveOptions {
  int family = AF_UNSPEC;  ///< AF_INET, AF_INET6, or both
  std::uint16_t port = 0;  ///< to give them
};

struct HostInfo {
  std::vector<Address> addresses;  ///< best first
  std::string canonical_name;      ///< what the name is an alias for, or the name
  std::chrono::seconds ttl{0};     ///< for how long it is true; 0 where that is not known
};

struct MxRecord {
  std::uint16_t preference = 0;
  std::string host;  ///< empty: the domain takes no mail (RFC 7505)
  friend bool operator==(const MxRecord&, const MxRecord&) = default;
};

struct SrvRecord {
  std::uint16_t priority = 0;
  std::uint16_t weight = 0;
  std::uint16_t port = 0;
  std::string host;  ///< empty: there is no such service (RFC 2782)
  friend bool operator==(const SrvRecord&, const SrvRecord&) = default;
};

/// As they were at one moment.
struct ResolverStats {
  std::uint64_t lookups = 0;      ///< of addresses and of records
  std::uint64_t cache_hits = 0;   ///< questions that the cache answered
  std::uint64_t shared = 0;       ///< questions that joined an equal one under way
  std::uint64_t queries = 0;      ///< messages sent to servers
  std::uint64_t tcp_queries = 0;  ///< of these, over TCP
  std::uint64_t timeouts = 0;     ///< messages that were not answered in time
  std::uint64_t rejected = 0;     ///< packets that answered nothing that was asked: forged, late, garbage
  std::size_t in_flight = 0;      ///< questions now
  std::size_t cached = 0;         ///< answers kept now
};

/// Resolves names for the fibers of one loop: the one that uses it first. Equal questions that are under way at the
/// same time are asked once. Answers are kept as long as they say they may be, negative ones too, on the loop's clock.
/// It has no fiber, timer or socket except while it waits for servers. Destroying it ends what is under way: who waits
/// gets DnsError::shut_down.
///
/// Names: with a dot at the end they are full. "localhost" and names below it are this machine (RFC 6761), numeric
/// addresses themselves; neither is asked for. ".onion" does not exist (RFC 7686). The hosts file comes before the
/// servers. Names that are not ASCII are UTF-8 and go through IDNA. What looks like a number and is no address
/// ("127.1", "0x7f000001") is no name.
///
/// An answer counts only if it comes from the server and port that was asked, with the same id and the same question;
/// of it, only what belongs to the name asked for or to what that is an alias for. Whatever else comes is dropped,
/// counted, and waited out.
class Resolver {
 public:
  /// Reads no file yet. Throws std::invalid_argument for options that make no sense: a server of port 0, a limit of 0.
  explicit Resolver(ResolverOptions options = {});
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;
  ~Resolver();

  /// The addresses of a name, in the order in which to try them: RFC 6724, by the source addresses that this machine
  /// would use. At least one.
  [[nodiscard]] std::vector<Address> resolve(std::string_view host, const ResolveOptions& options = {});
  [[nodiscard]] std::vector<Address> resolve(std::string_view host, std::error_code& error);
  [[nodiscard]] std::vector<Address> resolve(std::string_view host, const ResolveOptions& options,
                                             std::error_code& error);
  /// The same with what else is known.
  [[nodiscard]] HostInfo lookup(std::string_view host, const ResolveOptions& options = {});
  [[nodiscard]] HostInfo lookup(std::string_view host, const ResolveOptions& options, std::error_code& error);

  /// The names of an address: the hosts file's, else PTR records. The port does not matter.
  [[nodiscard]] std::vector<std::string> reverse(const Address& address);
  [[nodiscard]] std::vector<std::string> reverse(const Address& address, std::error_code& error);

  // Records of a name, which is taken as full: no search list, no hosts file. At least one.

  [[nodiscard]] std::vector<MxRecord> mx(std::string_view name);  ///< by preference
  [[nodiscard]] std::vector<MxRecord> mx(std::string_view name, std::error_code& error);
  [[nodiscard]] std::vector<SrvRecord> srv(std::string_view name);  ///< by priority
  [[nodiscard]] std::vector<SrvRecord> srv(std::string_view name, std::error_code& error);
  [[nodiscard]] std::vector<std::string> txt(std::string_view name);  ///< the strings of each record joined
  [[nodiscard]] std::vector<std::string> txt(std::string_view name, std::error_code& error);
  [[nodiscard]] std::vector<std::string> ns(std::string_view name);
  [[nodiscard]] std::vector<std::string> ns(std::string_view name, std::error_code& error);
  [[nodiscard]] std::vector<std::string> ptr(std::string_view name);
  [[nodiscard]] std::vector<std::string> ptr(std::string_view name, std::error_code& error);
  /// What the name is an alias for, one step.
  [[nodiscard]] std::string cname(std::string_view name);
  [[nodiscard]] std::string cname(std::string_view name, std::error_code& error);

  void clear_cache() noexcept;
  [[nodiscard]] ResolverStats stats() const noexcept;
  /// Who is asked: the options' servers, or resolv.conf's as of the last look.
  [[nodiscard]] std::vector<Address> servers();

  [[nodiscard]] detail::ResolverCore& core() noexcept { return *core_; }  // for net/ itself

 private:
  std::shared_ptr<detail::ResolverCore> core_;
};

/// The calling thread's loop's own, made when first asked for, with `ResolverOptions{}` or what was given to
/// set_resolver_options.
[[nodiscard]] Resolver& this_loop_resolver();
/// For the resolvers that loops of this thread make from now on. Not while one exists that has been used by the present
/// loop: aborts with a sentence.
void set_resolver_options(ResolverOptions options);

/// By this_loop_resolver().
[[nodiscard]] std::vector<Address> resolve(std::string_view host, const ResolveOptions& options = {});
[[nodiscard]] std::vector<Address> resolve(std::string_view host, const ResolveOptions& options,
                                           std::error_code& error);

}  // namespace bight::net

template <>
struct std::is_error_code_enum<bight::net::DnsError> : std::true_type {};
