// SPDX-License-Identifier: Apache-2.0
#include <bight/net/dns.hpp>

namespace bight::net {
namespace {

class DnsCategory : public std::error_category {
 public:
  [[nodiscard]] const char* name() const noexcept override { return "dns"; }

  [[nodiscard]] std::string message(int value) const override {
    switch (static_cast<DnsError>(value)) {
      case DnsError::no_such_name: return "no such name";
      case DnsError::no_data: return "the name has no such records";
      case DnsError::timed_out: return "timed out";
      case DnsError::refused: return "refused";
      case DnsError::server_failure: return "the server failed";
      case DnsError::malformed_answer: return "malformed answer";
      case DnsError::invalid_name: return "not a valid name";
      case DnsError::idna_unsupported: return "not an ASCII name, and this build has no IDNA";
      case DnsError::unsupported_query: return "getaddrinfo can not ask for that";
      case DnsError::shut_down: return "the resolver was shut down";
    }
    return "unknown DNS error";
  }

  [[nodiscard]] std::error_condition default_error_condition(int value) const noexcept override {
    switch (static_cast<DnsError>(value)) {
      case DnsError::timed_out: return std::errc::timed_out;
      case DnsError::refused: return std::errc::connection_refused;
      case DnsError::invalid_name: return std::errc::invalid_argument;
      case DnsError::malformed_answer: return std::errc::bad_message;
      case DnsError::idna_unsupported:
      case DnsError::unsupported_query: return std::errc::operation_not_supported;
      default: return {value, *this};
    }
  }
};

}  // namespace

const std::error_category& dns_category() noexcept {
  static const DnsCategory category;
  return category;
}

}  // namespace bight::net
