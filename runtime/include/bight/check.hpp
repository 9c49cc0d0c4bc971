// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace bight::detail {

/// Prints "bight: FILE:LINE: check failed: EXPRESSION: SENTENCE" (and the fiber's name, when in one) and aborts.
[[noreturn]] void check_failed(const char* file, int line, const char* expression, const char* sentence) noexcept;

}  // namespace bight::detail

/// How a bug in the calling program says no: aborts with a sentence, in every build type. Never used for anything a
/// peer, a file or the machine's limits can cause; those are errors, and errors are values or exceptions.
#define BIGHT_CHECK(expression, sentence)             \
  (__builtin_expect(static_cast<bool>(expression), 1) \
       ? static_cast<void>(0)                         \
       : ::bight::detail::check_failed(__FILE__, __LINE__, #expression, sentence))
