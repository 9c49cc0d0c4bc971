// SPDX-License-Identifier: Apache-2.0
#include "describe.hpp"

#include <cxxabi.h>
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <typeinfo>

namespace bight::detail {

void describe_site(const CallSite& site, const void* address, std::string& text) {
  if (address == nullptr) {
    const char* slash = std::strrchr(site.file, '/');
    text.append(slash != nullptr ? slash + 1 : site.file).append(":").append(std::to_string(site.line));
    return;
  }
  Dl_info info{};
  if (::dladdr(address, &info) != 0 && info.dli_sname != nullptr) {
    text += demangle(info.dli_sname);
    return;
  }
  char number[32];
  std::snprintf(number, sizeof number, "%p", address);
  text += number;
}

void describe_frame(const void* address, std::string& text) {
  Dl_info info{};
  char number[64];
  if (::dladdr(address, &info) == 0 || info.dli_fname == nullptr) {
    std::snprintf(number, sizeof number, "%p", address);
    text += number;
    return;
  }
  const auto distance = [&](const void* from) {
    return static_cast<unsigned long>(static_cast<const char*>(address) - static_cast<const char*>(from));
  };
  if (info.dli_sname != nullptr) {
    std::snprintf(number, sizeof number, "+0x%lx ", distance(info.dli_saddr));
    text.append(demangle(info.dli_sname)).append(number);
  }
  std::snprintf(number, sizeof number, "+0x%lx)", distance(info.dli_fbase));
  text.append("(").append(info.dli_fname).append(number);
}

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
  describe_site(fiber.spawn_site, fiber.spawn_address, text);
  text.append("\n");
}

}  // namespace bight::detail
