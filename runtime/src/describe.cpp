// SPDX-License-Identifier: Apache-2.0
#include "describe.hpp"

#include <cxxabi.h>
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <typeinfo>

namespace bight::detail {
namespace {

void append_site(const FiberControl& fiber, std::string& text) {
  if (fiber.spawn_address == nullptr) {
    const char* file = fiber.spawn_site.file;
    const char* slash = std::strrchr(file, '/');
    text.append(slash != nullptr ? slash + 1 : file).append(":").append(std::to_string(fiber.spawn_site.line));
    return;
  }
  Dl_info info{};
  if (::dladdr(fiber.spawn_address, &info) != 0 && info.dli_sname != nullptr) {
    text += demangle(info.dli_sname);
    return;
  }
  char address[32];
  std::snprintf(address, sizeof address, "%p", fiber.spawn_address);
  text += address;
}

}  // namespace

std::string demangle(const char* name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> readable(abi::__cxa_demangle(name, nullptr, nullptr, &status),
                                                             &std::free);
  return status == 0 ? readable.get() : name;
}

std::string describe_error(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& known) {
    return demangle(typeid(known).name()) + ": " + known.what();
  } catch (...) {
    const std::type_info* type = abi::__cxa_current_exception_type();
    return type != nullptr ? "an exception of type " + demangle(type->name()) : "an exception of unknown type";
  }
}

void describe_fiber(const FiberControl& fiber, std::string& text) {
  text.append("#").append(std::to_string(fiber.id)).append(" '").append(fiber.name()).append("' ");
  text.append(to_string(fiber.status));
  if (fiber.parking != nullptr) {
    text.append(", waits for ");
    fiber.parking->kind->describe(*fiber.parking, text);
  }
  text.append(", spawned at ");
  append_site(fiber, text);
  text.append("\n");
}

}  // namespace bight::detail
