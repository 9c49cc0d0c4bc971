// SPDX-License-Identifier: Apache-2.0
// Power failures in the simulated world: what was synced survives them, what was not may or may not; and with that,
// which ways to write a file are safe.

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/event.hpp>
#include <bight/fiber.hpp>
#include <bight/file.hpp>
#include <bight/filesystem.hpp>
#include <bight/scope.hpp>
#include <bight/socket.hpp>
#include <bight/stream.hpp>
#include <bight/testing.hpp>
#include <bight/time.hpp>

#include "build.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using testing::Faults;
using testing::Sim;

Socket new_socket() {
  std::error_code error;
  Socket socket = Socket::open(AF_INET, SOCK_STREAM, 0, error);
  EXPECT_FALSE(error) << error.message();
  return socket;
}

/// Seeds for a property, fewer where all is slow.
std::vector<std::uint64_t> many(int full) { return testing::seeds(std::size_t(test::this_many(full, full / 10))); }

std::string text_of(Sim& sim, const std::string& path) {
  return sim.files().exists(path) ? sim.files().read(path) : "(no such file)";
}

/// All that comes of `body` and a power failure, over many seeds: the files' contents, by what is said of them. Never
/// over fewer, or what is rare would be missing.
template <class Body, class Look>
std::set<std::string> outcomes(int count, Body&& body, Look&& look) {
  std::set<std::string> found;
  for (const std::uint64_t seed : testing::seeds(static_cast<std::size_t>(count))) {
    Sim sim{{.seed = seed}};
    sim.files().write("/data/old", "old");
    sim.run([&] { body(); });
    sim.crash();
    EXPECT_EQ(sim.leaks(), "");
    found.insert(look(sim));
  }
  return found;
}

// --- What is kept ----------------------------------------------------------------------------------------------------

TEST(SimCrash, WhatWasSyncedIsKept) {
  const auto found = outcomes(
      200,
      [] {
        File file = File::create("/data/new");
        file.write_all("kept");
        file.sync();
        fs::sync_directory("/data");
        fs::rename("/data/old", "/data/moved");
        fs::sync_directory("/data");
      },
      [](Sim& sim) { return text_of(sim, "/data/new") + ", " + text_of(sim, "/data/moved"); });
  EXPECT_THAT(found, ElementsAre("kept, old"));
}

TEST(SimCrash, WhatWasPutThereByTheTestIsKept) {
  const auto found = outcomes(
      50, [] {}, [](Sim& sim) { return text_of(sim, "/data/old"); });
  EXPECT_THAT(found, ElementsAre("old"));
}

TEST(SimCrash, WithoutASyncTheDataMayBeThereOrNotOrInPart) {
  const auto found = outcomes(
      400,
      [] {
        File file = File::open("/data/old", {.write = true});
        file.write_all_at(std::as_bytes(std::span("A", 1)), 0);
        file.write_all_at(std::as_bytes(std::span("B", 1)), 1);
        file.write_all_at(std::as_bytes(std::span("C", 1)), 2);
      },
      [](Sim& sim) { return text_of(sim, "/data/old"); });
  EXPECT_THAT(found, ElementsAre("ABC", "ABd", "AlC", "Ald", "oBC", "oBd", "olC", "old"));
}

TEST(SimCrash, AWriteIsTornAtSectors) {
  bool torn = false;
  for (const std::uint64_t seed : many(400)) {
    Sim sim{{.seed = seed}};
    sim.files().write("/data", std::string(16'384, 'o'));
    sim.run([] {
      File file = File::open("/data", {.write = true});
      file.write_all(std::string(16'384, 'n'));
    });
    sim.crash();
    const std::string left = sim.files().read("/data");
    ASSERT_EQ(left.size(), 16'384U);
    for (std::size_t at = 0; at < left.size(); at += 512) {
      const std::string sector = left.substr(at, 512);
      EXPECT_EQ(sector, std::string(512, sector[0])) << testing::replay_hint(seed);
    }
    torn = torn || std::set<char>(left.begin(), left.end()).size() == 2;
  }
  EXPECT_TRUE(torn);
}

TEST(SimCrash, SyncingAFileMakesNothingOfItsName) {
  const auto found = outcomes(
      200,
      [] {
        File file = File::create("/data/new");
        file.write_all("data");
        file.sync();
      },
      [](Sim& sim) { return text_of(sim, "/data/new"); });
  EXPECT_THAT(found, ElementsAre("(no such file)", "data"));
}

TEST(SimCrash, SyncingADirectoryMakesNothingOfWhatItsFilesHave) {
  const auto found = outcomes(
      200,
      [] {
        fs::write_file("/data/new", "data");
        fs::sync_directory("/data");
      },
      [](Sim& sim) { return text_of(sim, "/data/new"); });
  EXPECT_TRUE(found.contains(""));
  EXPECT_TRUE(found.contains("data"));
  EXPECT_FALSE(found.contains("(no such file)"));
}

TEST(SimCrash, ARenameIsNeverThereInPart) {
  const auto found = outcomes(
      400,
      [] {
        fs::create_directory("/data/sub");
        fs::sync_directory("/data");
        fs::rename("/data/old", "/data/sub/new");
      },
      [](Sim& sim) { return text_of(sim, "/data/old") + ", " + text_of(sim, "/data/sub/new"); });
  EXPECT_THAT(found, ElementsAre("(no such file), old", "old, (no such file)"));
}

TEST(SimCrash, ARenameBetweenDirectoriesLastsWhenBothAreSynced) {
  const auto moved = [](int syncs) {
    return outcomes(
        200,
        [syncs] {
          fs::create_directory("/data/sub");
          fs::sync_directory("/data");
          fs::rename("/data/old", "/data/sub/new");
          fs::sync_directory("/data/sub");
          if (syncs > 1) fs::sync_directory("/data");
        },
        [](Sim& sim) { return text_of(sim, "/data/sub/new"); });
  };
  EXPECT_THAT(moved(1), ElementsAre("(no such file)", "old"));
  EXPECT_THAT(moved(2), ElementsAre("old"));
}

TEST(SimCrash, NamesOfDifferentFilesKeepNoOrder) {
  const auto found = outcomes(
      400,
      [] {
        fs::write_file("/data/first", "");
        fs::write_file("/data/second", "");
      },
      [](Sim& sim) {
        return std::to_string(int(sim.files().exists("/data/first"))) +
               std::to_string(int(sim.files().exists("/data/second")));
      });
  EXPECT_THAT(found, ElementsAre("00", "01", "10", "11"));
}

/// What was safe is not lost by what was done to its names since.
TEST(SimCrash, RenamingAndLinkingNeverLoseAFile) {
  const auto found = outcomes(
      400,
      [] {
        fs::rename("/data/old", "/data/old.1");
        fs::write_file("/data/old", "new");
        fs::create_hard_link("/data/old.1", "/data/old.2");
        fs::remove("/data/old.1");
      },
      [](Sim& sim) {
        for (const std::string& name : sim.files().list("/data")) {
          if (sim.files().read("/data/" + name) == "old") return std::string("there");
        }
        return std::string("lost");
      });
  EXPECT_THAT(found, ElementsAre("there"));
}

TEST(SimCrash, ADirectoryMovedIntoANewOneIsNotLost) {
  const auto found = outcomes(
      400,
      [] {
        fs::create_directory("/data/new");
        fs::rename("/data/old", "/data/new/old");
      },
      [](Sim& sim) { return text_of(sim, sim.files().exists("/data/old") ? "/data/old" : "/data/new/old"); });
  EXPECT_THAT(found, ElementsAre("old"));
}

TEST(SimCrash, AFailedSyncMayHaveLostTheDataForGood) {
  std::set<std::string> found;
  for (const std::uint64_t seed : many(400)) {
    Sim sim{{.seed = seed, .faults = {.file_error = 0.3}}};
    sim.files().write("/data", "old");
    bool failed_first = false;
    sim.run([&] {
      File file = File::open("/data", {.write = true});
      std::error_code error = std::make_error_code(std::errc::io_error);
      while (error) file.write_all_at(std::as_bytes(std::span("new", 3)), 0, error);
      file.sync(error);
      failed_first = bool(error);
      while (error) file.sync(error);
      EXPECT_EQ(fs::status("/data").size, 3U);
    });
    sim.crash();
    if (failed_first) found.insert(sim.files().read("/data"));
    if (!failed_first) {
      EXPECT_EQ(sim.files().read("/data"), "new") << testing::replay_hint(seed);
    }
  }
  EXPECT_THAT(found, ElementsAre("new", "old"));
}

TEST(SimCrash, FilesWithoutANameAreGoneAndRoomComesBack) {
  Sim sim{{.disk_size = 8 * 4096}};
  sim.run([] {
    File nameless = File::open("/tmp", {.write = true, .temporary = true});
    nameless.write_all(std::string(6 * 4096, 'x'));
    nameless.sync();
    (void)nameless.release().release();
  });
  EXPECT_NE(sim.leaks(), "");
  sim.crash();
  EXPECT_EQ(sim.leaks(), "");
  sim.run([] { fs::write_file("/tmp/all", std::string(8 * 4096, 'y')); });
}

// --- In a run --------------------------------------------------------------------------------------------------------

TEST(SimCrash, EndsTheRun) {
  Sim sim;
  bool unwound = false;
  bool reached = false;
  EXPECT_THROW(sim.run([&] {
    Scope scope;
    scope.spawn([&] {
      struct Note {
        bool& unwound;
        ~Note() { unwound = true; }
      } note{unwound};
      sleep_for(std::chrono::hours(1));
    });
    File file = File::create("/tmp/f");
    Socket socket = new_socket();
    sleep_for(1s);
    sim.crash();
    file.write_all("no more");
    reached = true;
  }),
               testing::Crashed);
  EXPECT_TRUE(unwound);
  EXPECT_FALSE(reached);
  EXPECT_EQ(sim.leaks(), "");
  EXPECT_EQ(sim.counters().crashes, 1U);
  sim.run([] { fs::write_file("/tmp/f", "up again"); });
  EXPECT_EQ(sim.files().read("/tmp/f"), "up again");
}

TEST(SimCrash, TakesConnectionsAndPipesWithIt) {
  for (const std::uint64_t seed : many(50)) {
    Sim sim{{.seed = seed, .faults = Faults::chaotic()}};
    EXPECT_THROW(sim.run([&] {
      Scope scope;
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(80);
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      const auto* where = reinterpret_cast<const sockaddr*>(&address);
      std::error_code error;
      Socket listener = new_socket();
      listener.bind(where, sizeof address, error);
      listener.listen(5, error);
      scope.spawn([&] {
        std::error_code failed;
        for (;;) {
          Socket accepted = listener.accept(failed);
          std::array<std::byte, 10> buffer{};
          while (accepted && !failed && accepted.read(buffer, failed) > 0) {
          }
          if (failed == std::errc::operation_canceled) return;
        }
      });
      for (int client = 0; client < 3; ++client) {
        scope.spawn([&] {
          std::error_code failed;
          Socket socket = new_socket();
          socket.connect(where, sizeof address, failed);
          while (!failed) socket.write_all(std::as_bytes(std::span("x", 1)), failed);
          File file = File::create("/tmp/f", failed);
        });
      }
      Pipe pipe = make_pipe();
      scope.spawn([&] {
        std::array<std::byte, 10> buffer{};
        (void)pipe.reader.read(buffer);
      });
      sleep_for(std::chrono::milliseconds(seed % 20));
      sim.crash();
      scope.join();
    }),
                 testing::Crashed);
    EXPECT_EQ(sim.leaks(), "") << testing::replay_hint(seed);
  }
}

TEST(SimCrash, ComesInPlaceOfAnOperation) {
  Sim sim;
  sim.crash_after(2);
  std::uint64_t done = 0;
  EXPECT_THROW(sim.run([&] {
    for (;;) {
      fs::sync_directory("/tmp");  // opens, and syncs
      ++done;
    }
  }),
               testing::Crashed);
  EXPECT_EQ(done, 1U);
  EXPECT_EQ(sim.counters().file_operations, 2U);
}

// --- Ways to write a file --------------------------------------------------------------------------------------------

using Writer = void (*)(const std::string& path, const std::string& text);

void write_naively(const std::string& path, const std::string& text) {
  fs::write_file(path + ".new", text);
  fs::rename(path + ".new", path);
}

void write_atomically(const std::string& path, const std::string& text) { fs::write_file_atomically(path, text); }

std::string version(int number) { return std::to_string(number) + ":" + std::string(5'000, char('a' + number)); }

/// Replaces a file several times while the power may fail at any moment. What is found then must be a version that is
/// whole, and no older than the last one known to be written.
bool survives(std::uint64_t seed, const Faults& faults, Writer write) {
  Sim sim{{.seed = seed, .faults = faults}};
  sim.files().write("/data/state", version(0));
  sim.crash_after(seed % 40);
  int written = 0;
  int begun = 0;
  try {
    sim.run([&] {
      for (int number = 1; number < 20; ++number) {
        begun = number;
        try {
          write("/data/state", version(number));
          written = number;
        } catch (const std::system_error&) {  // a fault: the old version is to be there, or this one
        }
      }
    });
  } catch (const testing::Crashed&) {
  }
  if (sim.counters().crashes == 0) sim.crash();
  const std::string left = text_of(sim, "/data/state");
  for (int number = written; number <= begun; ++number) {
    if (left == version(number)) return true;
  }
  return false;
}

TEST(SimCrash, WritingAndRenamingWithoutASyncLosesData) {
  int lost = 0;
  for (const std::uint64_t seed : many(300)) lost += survives(seed, Faults::none(), write_naively) ? 0 : 1;
  EXPECT_GT(lost, 0);
}

TEST(SimCrash, AnAtomicWriteLosesNothing) {
  for (const std::uint64_t seed : many(3'000)) {
    ASSERT_TRUE(survives(seed, Faults::none(), write_atomically)) << testing::replay_hint(seed);
  }
}

TEST(SimCrash, AnAtomicWriteLosesNothingAmongFaults) {
  for (const std::uint64_t seed : many(3'000)) {
    ASSERT_TRUE(survives(seed, Faults::chaotic(), write_atomically)) << testing::replay_hint(seed);
  }
}

/// A log of records of one size, each synced before it counts. Another fiber's records interleave.
TEST(SimCrash, ALogKeepsWhatItHasSynced) {
  for (const std::uint64_t seed : many(1'000)) {
    Sim sim{{.seed = seed}};
    sim.files().write("/data/log", "");
    sim.crash_after(seed % 60);
    std::vector<std::string> safe;
    const auto append = [&](char letter) {
      File log = File::open("/data/log", {.append = true});
      for (int count = 0; count < 20; ++count) {
        const std::string record = std::string(9, letter) + char('a' + count);
        log.write_all(record);
        log.data_sync();
        safe.push_back(record);
      }
    };
    try {
      sim.run([&] {
        Scope scope;
        scope.spawn([&] { append('1'); });
        scope.spawn([&] { append('2'); });
        scope.join();
      });
    } catch (const testing::Crashed&) {
    }
    if (sim.counters().crashes == 0) sim.crash();
    const std::string left = sim.files().read("/data/log");
    for (const std::string& record : safe) {
      ASSERT_NE(left.find(record), std::string::npos) << record << "; " << testing::replay_hint(seed);
    }
  }
}

}  // namespace
}  // namespace bight
