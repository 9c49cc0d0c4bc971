// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: what a Redis server may reply, under limits that are soon reached. However the bytes are cut, the
// same replies come out, or the same complaint; and what came out, read again from what a server would send for it, is
// what it was.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "redis_client/parser.hpp"

namespace {

using redis::Type;
using redis::Value;

constexpr redis::Limits kLimits{
    .depth_max = 5, .line_max = 100, .bulk_max = 1000, .elements_max = 50, .reply_max = 2000};

void require(bool condition) {
  if (!condition) std::abort();
}

struct Outcome {
  std::vector<Value> replies;
  bool complained = false;
};

Outcome parse(std::string_view wire, std::size_t piece, const redis::Limits& limits) {
  redis::Parser parser(limits);
  Outcome outcome;
  for (std::size_t at = 0; at < wire.size() && parser.complaint() == nullptr; at += piece) {
    std::string_view bytes = wire.substr(at, piece);
    while (auto value = parser.next(bytes)) outcome.replies.push_back(std::move(*value));
    require(bytes.empty() || parser.complaint() != nullptr);
  }
  outcome.complained = parser.complaint() != nullptr;
  return outcome;
}

void write(const Value& value, std::string& wire);

void write_list(char kind, std::size_t count, const Value::Items& items, std::string& wire) {
  wire += kind + std::to_string(count) + "\r\n";
  for (const Value& each : items) write(each, wire);
}

void write_text(char kind, const std::string& text, std::string& wire) {
  wire += kind + std::to_string(text.size()) + "\r\n" + text + "\r\n";
}

void write(const Value& value, std::string& wire) {
  if (!value.attributes().empty()) write_list('|', value.attributes().size() / 2, value.attributes(), wire);
  switch (value.type()) {
    case Type::nil: wire += "_\r\n"; return;
    case Type::status: wire += "+" + value.text() + "\r\n"; return;
    case Type::big_number: wire += "(" + value.text() + "\r\n"; return;
    case Type::integer: wire += ":" + std::to_string(value.integer()) + "\r\n"; return;
    case Type::boolean: wire += value.boolean() ? "#t\r\n" : "#f\r\n"; return;
    case Type::number: wire += ",1\r\n"; return;
    case Type::error: return write_text('!', value.text(), wire);
    case Type::text: return write_text('$', value.text(), wire);
    case Type::verbatim: return write_text('=', std::string(value.format()) + ":" + value.text(), wire);
    case Type::array: return write_list('*', value.items().size(), value.items(), wire);
    case Type::set: return write_list('~', value.items().size(), value.items(), wire);
    case Type::push: return write_list('>', value.items().size(), value.items(), wire);
    case Type::map: return write_list('%', value.items().size() / 2, value.items(), wire);
  }
}

std::string written(const std::vector<Value>& replies) {
  std::string wire;
  for (const Value& each : replies) write(each, wire);
  return wire;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view wire(reinterpret_cast<const char*>(data), size);
  const Outcome whole = parse(wire, size + 1, kLimits);
  const Outcome bytes = parse(wire, 1, kLimits);
  const std::string again = written(whole.replies);
  require(again == written(bytes.replies) && whole.complained == bytes.complained);
  const Outcome reread = parse(again, 7, {});
  require(!reread.complained && written(reread.replies) == again);
  return 0;
}
