// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>

namespace bench {

// What the command line got wrong. Programs end with code 2 on it, with 1 on every other error.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Throws "<attempt>: <why>". `attempt` says what was tried and on what: "connect to 127.0.0.1:80".
[[noreturn]] inline void fail(const std::string& attempt, int error = errno) {
  throw std::system_error(error, std::generic_category(), attempt);
}

}  // namespace bench
