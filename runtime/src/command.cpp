// SPDX-License-Identifier: Apache-2.0
#include <bight/command.hpp>

#include <algorithm>
#include <string_view>
#include <utility>

namespace bight {
namespace {

/// The last line that is not empty.
std::string_view last_line(std::string_view text) noexcept {
  constexpr std::string_view kBlanks = " \t\r\n";
  const std::size_t end = text.find_last_not_of(kBlanks);
  if (end == std::string_view::npos) return {};
  text = text.substr(0, end + 1);
  const std::size_t before = text.find_last_of("\r\n");
  return before == std::string_view::npos ? text : text.substr(before + 1);
}

std::string text_of(const std::string& name, const CommandResult& result) {
  std::string text = name + ": " + result.to_string();
  const std::string_view said = last_line(result.err);
  if (!said.empty()) text.append(": ").append(said);
  return text;
}

void append(CommandResult& result, Communication& more) {
  result.out += more.out;
  result.err += more.err;
  result.truncated |= more.truncated;
  result.left_open |= more.left_open;
}

}  // namespace

std::string CommandResult::to_string() const { return (timed_out ? "timed out, " : "") + status.to_string(); }

CommandFailed::CommandFailed(const std::string& name, CommandResult result)
    : std::runtime_error(text_of(name, result)), result_(std::move(result)) {}

CommandResult run_command(const std::vector<std::string>& args, const CommandOptions& options) {
  SubprocessOptions how = options.process;
  if (how.in.is_default()) how.in = options.input.empty() ? Redirect::null() : Redirect::pipe();
  if (how.out.is_default()) how.out = Redirect::pipe();
  if (how.err.is_default()) how.err = Redirect::pipe();
  if (how.group == ProcessGroup::automatic && !how.uses_terminal()) how.group = ProcessGroup::own;
  Subprocess process = Subprocess::start(args, how);
  CommunicateOptions conversation{options.timeout, options.output_max, options.linger};
  Communication said = process.communicate(options.input, conversation);
  CommandResult result;
  append(result, said);
  if (said.timed_out()) {
    result.timed_out = true;
    process.stop(options.grace);
    // What it had written before, and on its way out. What it has left behind in a group of its own may go on writing
    // for ever.
    conversation.timeout = options.linger;
    conversation.output_max -= std::min(conversation.output_max, std::max(result.out.size(), result.err.size()));
    said = process.communicate({}, conversation);
    said.left_open |= said.timed_out();
    append(result, said);
  }
  result.status = *process.try_wait();
  return result;
}

std::string check_output(const std::vector<std::string>& args, const CommandOptions& options) {
  CommandResult result = run_command(args, options);
  if (!result.success()) throw CommandFailed(args.empty() ? std::string() : args.front(), std::move(result));
  return std::move(result.out);
}

}  // namespace bight
