// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <string>

#include <bight/error.hpp>
#include <bight/log.hpp>

#include "engine/engine.hpp"
#include "forked_child.hpp"

namespace bight {

std::string_view to_string(EngineChoice choice) noexcept {
  switch (choice) {
    case EngineChoice::automatic: return "auto";
    case EngineChoice::uring: return "uring";
    case EngineChoice::epoll: return "epoll";
    case EngineChoice::sim: return "sim";
  }
  return "?";
}

std::optional<EngineChoice> parse_engine(std::string_view text) noexcept {
  for (const auto choice : {EngineChoice::automatic, EngineChoice::uring, EngineChoice::epoll, EngineChoice::sim}) {
    if (text == to_string(choice)) return choice;
  }
  return std::nullopt;
}

namespace detail {
namespace {

struct Wish {
  EngineChoice choice;
  std::string_view origin;  // who wishes, for the log
};

Wish find_wish(const RunOptions& options) {
  if (options.sim != nullptr) return {EngineChoice::sim, "asked for by the program"};
  if (options.engine != EngineChoice::automatic) return {options.engine, "asked for by the program"};
  const char* text = std::getenv("BIGHT_ENGINE");  // NOLINT(concurrency-mt-unsafe): never set by us
  if (text == nullptr || *text == '\0') return {EngineChoice::automatic, "chosen automatically"};
  const std::optional<EngineChoice> choice = parse_engine(text);
  if (!choice)
    throw EngineUnavailable("BIGHT_ENGINE is '" + std::string(text) + "'; it can be auto, uring, epoll or sim");
  return {*choice, *choice == EngineChoice::automatic ? "chosen automatically" : "asked for by BIGHT_ENGINE"};
}

std::unique_ptr<Engine> announce(std::unique_ptr<Engine> engine, std::string_view reason) {
  // The children of a program have the engine that it has: no need to say so each time.
  log(in_forked_child() ? LogLevel::debug : LogLevel::info,
      "engine " + std::string(engine->name()) + ", " + std::string(reason));
  return engine;
}

}  // namespace

std::unique_ptr<Engine> make_engine(const EngineContext& context) {
  const Wish wish = find_wish(context.options);
  if (wish.choice == EngineChoice::sim) return announce(make_sim_engine(context), wish.origin);
  if (wish.choice == EngineChoice::epoll) return announce(make_epoll_engine(context), wish.origin);
  std::string why;
  if (auto engine = make_uring_engine(context, why)) return announce(std::move(engine), wish.origin);
  if (wish.choice == EngineChoice::uring) throw EngineUnavailable("the uring engine is not available: " + why);
  return announce(make_epoll_engine(context), "because io_uring is not available: " + why);
}

}  // namespace detail
}  // namespace bight
