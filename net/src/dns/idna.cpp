// SPDX-License-Identifier: Apache-2.0
#include "name.hpp"

#include <bight/net/dns.hpp>

#ifdef BIGHT_HAVE_IDN2
#include <idn2.h>
#endif

namespace bight::net::detail {

#ifdef BIGHT_HAVE_IDN2

std::string to_ascii(std::string_view text, std::error_code& error) {
  error = DnsError::invalid_name;
  if (text.find('\0') != std::string_view::npos) return {};
  const std::string input(text);
  char* output = nullptr;
  // As browsers have it: UTS 46, non-transitional, so that "faß.de" and "fass.de" are two names.
  const int result = ::idn2_to_ascii_8z(input.c_str(), &output, IDN2_NONTRANSITIONAL | IDN2_NFC_INPUT);
  if (result != IDN2_OK) return {};
  std::string ascii(output);
  ::idn2_free(output);
  error.clear();
  return ascii;
}

#else

std::string to_ascii(std::string_view /*text*/, std::error_code& error) {
  error = DnsError::idna_unsupported;
  return {};
}

#endif

}  // namespace bight::net::detail
