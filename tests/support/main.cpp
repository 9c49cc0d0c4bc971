// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include <bight/error.hpp>
#include <bight/run.hpp>

/// As gtest_main, but a machine that does not offer the engine asked for skips the tests on it (77 says so to Meson).
int main(int count, char** arguments) {
  testing::InitGoogleTest(&count, arguments);
  try {
    if (std::getenv("BIGHT_ENGINE") != nullptr) bight::run([] {});
  } catch (const bight::EngineUnavailable& error) {
    std::printf("skipped: %s\n", error.what());
    return 77;
  }
  return RUN_ALL_TESTS();
}
