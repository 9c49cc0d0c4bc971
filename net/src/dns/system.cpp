// SPDX-License-Identifier: Apache-2.0
#include <netdb.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <new>

#include <bight/offload.hpp>

#include "core.hpp"

namespace bight::net::detail {
namespace {

std::error_code error_of(int result, int errno_then) {
  switch (result) {
    case EAI_NONAME: return DnsError::no_such_name;
#ifdef EAI_NODATA
    case EAI_NODATA: return DnsError::no_data;
#endif
#ifdef EAI_ADDRFAMILY
    case EAI_ADDRFAMILY: return DnsError::no_data;
#endif
    case EAI_AGAIN: return DnsError::timed_out;
    case EAI_MEMORY: throw std::bad_alloc();
    case EAI_SYSTEM: return {errno_then, std::generic_category()};
    default: return DnsError::server_failure;
  }
}

}  // namespace

AnswerPointer system_find_host(const std::string& host, int family, ResolveFailure& failure) {
  auto answer = std::make_shared<DnsAnswer>();
  answer->name = host;
  answer->ttl = 0;
  int errno_then = 0;
  const int result = offload([&] {
    ::addrinfo hints{};
    hints.ai_family = family;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_CANONNAME;
    ::addrinfo* found = nullptr;
    const int status = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
    errno_then = errno;
    const std::unique_ptr<::addrinfo, decltype(&::freeaddrinfo)> owned(found, &::freeaddrinfo);
    for (const ::addrinfo* each = status == 0 ? found : nullptr; each != nullptr; each = each->ai_next) {
      answer->addresses.push_back(Address::from_native(each->ai_addr, each->ai_addrlen));
      if (each->ai_canonname != nullptr) answer->name = lower(each->ai_canonname);
    }
    return status;
  });
  if (result == 0 && !answer->addresses.empty()) return answer;
  failure.error = result == 0 ? std::error_code(DnsError::no_data) : error_of(result, errno_then);
  return nullptr;
}

AnswerPointer system_find_names(const Address& address, ResolveFailure& failure) {
  auto answer = std::make_shared<DnsAnswer>();
  char name[NI_MAXHOST] = {};
  int errno_then = 0;
  const int result = offload([&] {
    const int status =
        ::getnameinfo(address.native(), address.native_size(), name, sizeof name, nullptr, 0, NI_NAMEREQD);
    errno_then = errno;
    return status;
  });
  if (result != 0) {
    failure.error = error_of(result, errno_then);
    return nullptr;
  }
  answer->names.emplace_back(name);
  return answer;
}

}  // namespace bight::net::detail
