// SPDX-License-Identifier: Apache-2.0
#include "print.hpp"

#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>

namespace redis {

namespace {

std::string format_number(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number > 0 ? "inf" : "-inf";
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.17g", number);
  return text.data();
}

std::string quote(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    switch (c) {
      case '\\': quoted += "\\\\"; break;
      case '"': quoted += "\\\""; break;
      case '\n': quoted += "\\n"; break;
      case '\r': quoted += "\\r"; break;
      case '\t': quoted += "\\t"; break;
      case '\a': quoted += "\\a"; break;
      case '\b': quoted += "\\b"; break;
      default:
        if (c >= ' ' && c <= '~') {
          quoted += c;
        } else {
          std::array<char, 8> escaped{};
          std::snprintf(escaped.data(), escaped.size(), "\\x%02x",
                        static_cast<unsigned>(static_cast<unsigned char>(c)));
          quoted += escaped.data();
        }
    }
  }
  return quoted + "\"";
}

std::string pretty(const Value& value, const std::string& prefix);

std::string pretty_list(const Value& value, const std::string& prefix) {
  const Value::Items& items = value.items();
  const bool is_map = value.type() == Type::map;
  const char mark = value.type() == Type::set ? '~' : is_map ? '#' : ')';
  if (items.empty()) {
    switch (value.type()) {
      case Type::map: return "(empty hash)\n";
      case Type::set: return "(empty set)\n";
      case Type::push: return "(empty push)\n";
      default: return "(empty array)\n";
    }
  }
  const std::size_t each = is_map ? 2 : 1;
  const std::size_t width = std::to_string(items.size() / each).size();
  const std::string inner = prefix + std::string(width + 2, ' ');
  std::string all;
  for (std::size_t i = 0; i < items.size(); i += each) {
    std::string number = std::to_string(i / each + 1);
    number.insert(0, width - number.size(), ' ');
    if (i > 0) all += prefix;
    all += number + mark + ' ' + pretty(items[i], inner);
    if (!is_map) continue;
    all.pop_back();
    all += " => " + pretty(items[i + 1], inner);
  }
  return all;
}

std::string pretty(const Value& value, const std::string& prefix) {
  switch (value.type()) {
    case Type::nil: return "(nil)\n";
    case Type::status:
    case Type::verbatim: return value.text() + "\n";
    case Type::error: return "(error) " + value.text() + "\n";
    case Type::integer: return "(integer) " + std::to_string(value.integer()) + "\n";
    case Type::text: return quote(value.text()) + "\n";
    case Type::number: return "(double) " + format_number(value.number()) + "\n";
    case Type::boolean: return value.boolean() ? "(true)\n" : "(false)\n";
    case Type::big_number: return "(big number) " + value.text() + "\n";
    default: return pretty_list(value, prefix);
  }
}

std::string plain_list(const Value& value) {
  const Value::Items& items = value.items();
  const bool is_map = value.type() == Type::map;
  std::string all;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) all += is_map && i % 2 == 1 ? ' ' : '\n';
    all += plain(items[i]);
  }
  return all;
}

/// The character that an escape in double quotes stands for; moves `at` to its last one.
char unescape(std::string_view line, std::size_t& at) {
  const char c = line[at];
  if (c == 'x' && at + 2 < line.size() && std::isxdigit(static_cast<unsigned char>(line[at + 1])) != 0 &&
      std::isxdigit(static_cast<unsigned char>(line[at + 2])) != 0) {
    const char value = static_cast<char>(std::stoi(std::string(line.substr(at + 1, 2)), nullptr, 16));
    at += 2;
    return value;
  }
  switch (c) {
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'a': return '\a';
    case 'b': return '\b';
    default: return c;
  }
}

/// A quoted word; `at` is the opening quote, and behind the closing one afterwards.
bool take_quoted(std::string_view line, std::size_t& at, std::string& word) {
  const char mark = line[at];
  while (++at < line.size()) {
    if (line[at] == mark) return ++at == line.size() || std::isspace(static_cast<unsigned char>(line[at])) != 0;
    if (mark == '"' && line[at] == '\\' && at + 1 < line.size()) {
      ++at;
      word += unescape(line, at);
    } else if (mark == '\'' && line[at] == '\\' && at + 1 < line.size() && line[at + 1] == '\'') {
      word += line[++at];
    } else {
      word += line[at];
    }
  }
  return false;
}

}  // namespace

std::string pretty(const Value& value) { return pretty(value, ""); }

std::string plain(const Value& value) {
  switch (value.type()) {
    case Type::nil: return "";
    case Type::integer: return std::to_string(value.integer());
    case Type::number: return format_number(value.number());
    case Type::boolean: return value.boolean() ? "(true)" : "(false)";
    case Type::error: return value.text() + "\n";
    default: return value.has_text() ? value.text() : plain_list(value);
  }
}

std::optional<std::vector<std::string>> split_words(std::string_view line) {
  std::vector<std::string> words;
  std::size_t at = 0;
  for (;;) {
    while (at < line.size() && std::isspace(static_cast<unsigned char>(line[at])) != 0) ++at;
    if (at == line.size()) return words;
    std::string word;
    if (line[at] == '"' || line[at] == '\'') {
      if (!take_quoted(line, at, word)) return std::nullopt;
    } else {
      while (at < line.size() && std::isspace(static_cast<unsigned char>(line[at])) == 0) word += line[at++];
    }
    words.push_back(std::move(word));
  }
}

}  // namespace redis
