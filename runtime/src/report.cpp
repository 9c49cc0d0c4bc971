// SPDX-License-Identifier: Apache-2.0
#include <bight/report.hpp>

#include <string>

#include <bight/error.hpp>
#include <bight/log.hpp>

#include "describe.hpp"
#include "loop.hpp"

namespace bight::detail {

void Loop::report_unhandled(const std::exception_ptr& error, std::uint64_t id, std::string_view name) noexcept {
  ++counters_.unhandled_errors;
  try {
    const std::string text = describe_error(error);
    if (options_.on_unhandled_error) {
      options_.on_unhandled_error({id, name, text, error});
      return;
    }
    std::string line = id != 0 ? "fiber #" + std::to_string(id) + " '" + std::string(name) + "'" : std::string(name);
    log(LogLevel::error, line + " ended with an unhandled error: " + text);
  } catch (...) {
    log(LogLevel::error, "an unhandled error could not be reported: out of memory, or on_unhandled_error threw");
  }
}

void Loop::report_unhandled(FiberControl& fiber) noexcept {
  fiber.observed = true;
  report_unhandled(fiber.error, fiber.id, fiber.name());
}

void report_unobserved(FiberControl& fiber) noexcept {
  BIGHT_CHECK(fiber.loop == Loop::current(),
              "a Fiber handle was dropped on another thread than its loop's, or after its loop's end");
  if (fiber.status == FiberStatus::failed && !fiber.observed) fiber.loop->report_unhandled(fiber);
}

void report_unhandled(const std::exception_ptr& error, std::string_view where) noexcept {
  Loop& loop = Loop::require();
  const FiberControl* fiber = loop.running();
  loop.report_unhandled(error, fiber != nullptr && where.empty() ? fiber->id : 0, where);
}

}  // namespace bight::detail
