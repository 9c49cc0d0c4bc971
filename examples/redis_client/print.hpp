// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "value.hpp"

namespace redis {

/// For people to read, as redis-cli prints it to a terminal: types, numbers, quotes. Lines end with a newline.
[[nodiscard]] std::string pretty(const Value& value);
/// For programs to read, as redis-cli prints it into a pipe: texts as they are, one a line.
[[nodiscard]] std::string plain(const Value& value);

/// The words of a line as redis-cli takes them apart: 'single', "double with \n and \x0a", plain. Nothing: quotes that
/// are not closed, or not followed by a space.
[[nodiscard]] std::optional<std::vector<std::string>> split_words(std::string_view line);

}  // namespace redis
