// SPDX-License-Identifier: Apache-2.0
// Files of the simulated world: their limits, faults and listings, and that a seed repeats their history. That they are
// as real ones is for sim_files_differential_test and for the tests of files, which run on every engine.

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <set>
#include <string>
#include <system_error>
#include <tuple>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/copy.hpp>
#include <bight/deadline.hpp>
#include <bight/directory.hpp>
#include <bight/fiber.hpp>
#include <bight/file.hpp>
#include <bight/filesystem.hpp>
#include <bight/scope.hpp>
#include <bight/socket.hpp>
#include <bight/stream.hpp>
#include <bight/testing.hpp>
#include <bight/time.hpp>

#include "bytes.hpp"
#include "engine/sim_files.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::bytes_of;
using ::testing::ElementsAre;
using testing::Faults;
using ::testing::HasSubstr;
using testing::Sim;
using testing::SimOptions;

Socket new_socket() {
  std::error_code error;
  Socket socket = Socket::open(AF_INET, SOCK_STREAM, 0, error);
  EXPECT_FALSE(error) << error.message();
  return socket;
}

std::string read_at(File& file, std::uint64_t offset, std::size_t most) {
  std::string text(most, '?');
  const std::size_t count = file.read_at(std::as_writable_bytes(std::span(text.data(), text.size())), offset);
  return text.substr(0, count);
}

// --- The disk --------------------------------------------------------------------------------------------------------

TEST(SimFiles, AWorldBeginsWithAnEmptyDiskAndATemporaryDirectory) {
  Sim sim;
  EXPECT_THAT(sim.files().list("/"), ElementsAre("tmp"));
  EXPECT_THAT(sim.files().list("/tmp"), ElementsAre());
  sim.run([] {
    EXPECT_EQ(fs::status("/tmp").mode & 07777U, 01777U);
    EXPECT_EQ(fs::status(".").inode, fs::status("/").inode);
    EXPECT_EQ(fs::status("/../..").inode, fs::status("/").inode);
  });
}

TEST(SimFiles, WhatATestPutsOnTheDiskIsThereAndTheOtherWayRound) {
  Sim sim;
  sim.files().write("/etc/app/conf", "port = 80\n");
  sim.run([] {
    EXPECT_EQ(fs::read_file("/etc/app/conf"), "port = 80\n");
    fs::write_file("/tmp/out", "done");
  });
  EXPECT_EQ(sim.files().read("/tmp/out"), "done");
  EXPECT_TRUE(sim.files().exists("/etc/app"));
  EXPECT_FALSE(sim.files().exists("/etc/other"));
  EXPECT_THAT(sim.files().list("/etc/app"), ElementsAre("conf"));
  try {
    (void)sim.files().read("/nowhere");
    ADD_FAILURE() << "read what is not there";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), std::errc::no_such_file_or_directory);
    EXPECT_THAT(error.what(), HasSubstr("/nowhere"));
  }
  EXPECT_THROW((void)sim.files().list("/etc/app/conf"), std::system_error);
}

TEST(SimFiles, OperationsTakeTheirTimeAndSoFibersInterleave) {
  Sim sim{{.file_latency_min = 1ms, .file_latency_max = 2ms}};
  std::vector<int> order;
  sim.run([&] {
    const TimePoint start = now();
    Scope scope;
    for (int which = 0; which < 2; ++which) {
      scope.spawn([&order, which] {
        File file = File::create("/tmp/" + std::to_string(which));
        for (int count = 0; count < 20; ++count) {
          file.write_all("x");
          order.push_back(which);
        }
      });
    }
    scope.join();
    EXPECT_GE(now() - start, 21ms);
    EXPECT_LE(now() - start, 42ms);
  });
  EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));
}

TEST(SimFiles, AFullDiskTakesWhatFitsAndGivesRoomBack) {
  Sim sim{{.disk_size = 16 * 4096}};
  sim.run([] {
    File file = File::create("/tmp/big");
    std::error_code error;
    EXPECT_EQ(file.write_all(std::string(10 * 4096, 'a'), error), 10U * 4096);
    EXPECT_FALSE(error);
    EXPECT_EQ(file.write_all(std::string(10 * 4096, 'b'), error), 6U * 4096);
    EXPECT_EQ(error, std::errc::no_space_on_device);
    EXPECT_EQ(file.size(), 16U * 4096);
    EXPECT_EQ(file.write_all_at(bytes_of("over what is there"), 100, error), 18U);
    EXPECT_FALSE(error);
    file.punch_hole(4096, 4096);
    fs::write_file("/tmp/small", "room again");
    fs::remove("/tmp/small");
    file.allocate(4096, 4096);
    fs::write_file("/tmp/none", "x", error);
    EXPECT_EQ(error, std::errc::no_space_on_device);
    fs::remove("/tmp/big");
    fs::write_file("/tmp/none", "x", error);
    EXPECT_EQ(error, std::errc::no_space_on_device) << "what is open keeps its room";
    file.close();
    fs::write_file("/tmp/none", "x");
  });
}

TEST(SimFiles, FilesHaveALimit) {
  Sim sim{{.file_size_max = 10'000}};
  sim.run([] {
    File file = File::create("/tmp/limited");
    std::error_code error;
    EXPECT_EQ(file.write_all_at(bytes_of(std::string(100, 'x')), 9'950, error), 50U);
    EXPECT_EQ(error, std::errc::file_too_large);
    file.truncate(10'001, error);
    EXPECT_EQ(error, std::errc::file_too_large);
    EXPECT_EQ(file.size(), 10'000U);
  });
}

TEST(SimFiles, DescriptorsAreSharedWithSocketsAndHaveALimit) {
  Sim sim{{.descriptors_max = 3}};
  sim.run([] {
    File first = File::create("/tmp/1");
    EXPECT_EQ(first.fd(), 1000);
    Socket second = new_socket();
    EXPECT_EQ(second.fd(), 1001);
    File third = File::create("/tmp/3");
    std::error_code error;
    (void)File::create("/tmp/4", error);
    EXPECT_EQ(error, std::errc::too_many_files_open);
    second.close();
    EXPECT_EQ(File::create("/tmp/4").fd(), 1001);
  });
  EXPECT_EQ(sim.leaks(), "");
  EXPECT_EQ(sim.counters().descriptors_peak, 3U);
}

TEST(SimFiles, HolesAreFoundAndTakeNoRoom) {
  Sim sim;
  sim.run([] {
    File file = File::open("/tmp/sparse", {.read = true, .write = true, .create = true});
    file.write_all_at(bytes_of("end"), 1'000'000'000'000);
    EXPECT_EQ(file.size(), 1'000'000'000'003U);
    EXPECT_EQ(read_at(file, 12'345, 3), std::string(3, '\0'));
    EXPECT_EQ(file.seek(0, SeekFrom::next_data), 1'000'000'000'000U / 4096 * 4096);
    EXPECT_EQ(file.seek(5, SeekFrom::next_hole), 5U);
    EXPECT_EQ(file.seek(1'000'000'000'000, SeekFrom::next_hole), file.size());
    std::error_code error;
    (void)file.seek(std::int64_t{1} << 41, SeekFrom::next_data, error);
    EXPECT_EQ(error.value(), ENXIO);
  });
}

TEST(SimFiles, DirectOnesWantAlignment) {
  Sim sim;
  sim.files().write("/tmp/direct", std::string(8192, 'd'));
  sim.run([] {
    File file = File::open("/tmp/direct", {.read = true, .direct = true});
    alignas(512) std::byte buffer[2048];
    std::error_code error;
    EXPECT_EQ(file.read_at(std::span(buffer).first(1024), 512, error), 1024U);
    (void)file.read_at(std::span(buffer).first(1024), 100, error);
    EXPECT_EQ(error, std::errc::invalid_argument);
    (void)file.read_at(std::span(buffer).first(1000), 0, error);
    EXPECT_EQ(error, std::errc::invalid_argument);
    (void)file.read_at(std::span(buffer).subspan(1, 512), 0, error);
    EXPECT_EQ(error, std::errc::invalid_argument);
  });
}

// --- Listing ---------------------------------------------------------------------------------------------------------

std::vector<std::string> listed(std::uint64_t seed) {
  Sim sim{{.seed = seed}};
  std::vector<std::string> names;
  sim.run([&] {
    for (int i = 0; i < 20; ++i) fs::write_file("/tmp/" + std::to_string(i), "");
    for (const fs::DirectoryEntry& each : fs::list_directory("/tmp")) names.push_back(each.name);
  });
  return names;
}

TEST(SimFiles, AListingHasAnOrderOfTheSeedsChoice) {
  EXPECT_EQ(listed(1), listed(1));
  EXPECT_NE(listed(1), listed(2));
  EXPECT_EQ(listed(3).size(), 20U);
}

/// What was there all the time is met exactly once, however the directory changes between two calls.
TEST(SimFiles, AListingIsStableUnderChange) {
  for (const std::uint64_t seed : testing::seeds(50)) {
    detail::SimCore core{SimOptions{.seed = seed}};
    detail::SimDescriptors descriptors;
    detail::SimFiles files(core, descriptors);
    const auto touch = [&](const std::string& name) {
      files.close(files.open(AT_FDCWD, ("/tmp/" + name).c_str(), O_CREAT | O_WRONLY, 0600, 0));
    };
    for (int i = 0; i < 100; ++i) touch("stays" + std::to_string(i));
    for (int i = 0; i < 100; ++i) touch("goes" + std::to_string(i));
    const int fd = files.open(AT_FDCWD, "/tmp", O_RDONLY | O_DIRECTORY, 0, 0);
    std::multiset<std::string> met;
    alignas(8) std::byte buffer[300];
    int round = 0;
    for (int got = 0; (got = files.read_dir(fd, buffer, sizeof buffer)) > 0; ++round) {
      for (int at = 0; at < got;) {
        const auto* entry = reinterpret_cast<const dirent64*>(buffer + at);
        met.insert(entry->d_name);
        at += entry->d_reclen;
      }
      touch("comes" + std::to_string(round));
      const std::string gone = "/tmp/goes" + std::to_string(core.random().between(0, 99));
      files.unlink(AT_FDCWD, gone.c_str(), 0);
    }
    for (int i = 0; i < 100; ++i) EXPECT_EQ(met.count("stays" + std::to_string(i)), 1U) << testing::replay_hint(seed);
    for (const std::string& name : met) EXPECT_EQ(met.count(name), 1U) << name;
    files.close(fd);
  }
}

// --- Faults ----------------------------------------------------------------------------------------------------------

TEST(SimFiles, EachFaultStrikes) {
  Sim sim{{.faults = Faults::chaotic()}};
  sim.run([] {
    for (int round = 0; round < 400; ++round) {
      std::error_code error;
      File file = File::open("/tmp/f", {.read = true, .write = true, .create = true}, error);
      if (!file) {
        EXPECT_TRUE(error == std::errc::too_many_files_open || error == std::errc::too_many_files_open_in_system)
            << error;
        sleep_for(10ms);
        continue;
      }
      file.write_all(std::string(5'000, 'x'), error);
      EXPECT_TRUE(!error || error == std::errc::io_error || error == std::errc::no_space_on_device) << error;
      std::string text(5'000, '?');
      const std::size_t size = file.size();
      const std::size_t got = file.read_at(std::as_writable_bytes(std::span(text.data(), text.size())), 0, error);
      EXPECT_TRUE(error == std::errc::io_error || (!error && got <= size)) << error;
      file.sync(error);
      EXPECT_TRUE(!error || error == std::errc::io_error) << error;
      file.truncate(0);
    }
  });
  const testing::Counters& counters = sim.counters();
  EXPECT_GT(counters.file_errors, 0U);
  EXPECT_GT(counters.disk_full, 0U);
  EXPECT_GT(counters.file_delays, 0U);
  EXPECT_GT(counters.open_failures, 0U);
  EXPECT_GT(counters.short_reads, 0U);
  EXPECT_GT(counters.short_writes, 0U);
  EXPECT_EQ(sim.leaks(), "");
}

TEST(SimFiles, CopiesMeetFaultsAndLoseNothing) {
  const std::string text = std::string(100'000, 'x') + "end";
  for (const std::uint64_t seed : testing::seeds(50)) {
    Sim sim{{.seed = seed, .faults = {.short_read = 0.3, .short_write = 0.3, .file_error = 0.1, .no_space = 0.05}}};
    sim.files().write("/from", text);
    sim.run([&] {
      std::error_code error = std::make_error_code(std::errc::io_error);
      while (error) {
        fs::copy_file("/from", "/to", error);
        if (error) sleep_for(10ms);
      }
      EXPECT_EQ(sim.files().read("/to"), text) << testing::replay_hint(seed);
      Pipe pipe = make_pipe();
      std::string got;
      Scope scope;
      scope.spawn([&] {
        File file = File::open("/from");
        while (file.tell() < text.size()) copy_data(file, pipe.writer, error);
        pipe.writer.close();
      });
      std::array<std::byte, 4096> buffer{};
      while (const std::size_t count = pipe.reader.read(buffer)) {
        got.append(reinterpret_cast<const char*>(buffer.data()), count);
      }
      scope.join();
      EXPECT_TRUE(got == text) << testing::replay_hint(seed);
    });
  }
}

TEST(SimFiles, CalmnessEndsTheirFaults) {
  Sim sim{{.faults = {.file_error = 1, .no_space = 1, .open_exhausted = 1}}};
  sim.run([&] {
    std::error_code error;
    (void)File::create("/tmp/f", error);
    EXPECT_TRUE(error == std::errc::too_many_files_open || error == std::errc::too_many_files_open_in_system) << error;
    sim.quiesce();
    File file = File::create("/tmp/f");
    file.write_all("calm");
    file.sync();
  });
  EXPECT_EQ(sim.files().read("/tmp/f"), "calm");
}

TEST(SimFiles, ACancelledOperationHasBeenDoneOrNot) {
  int done = 0;
  int cancelled = 0;
  for (const std::uint64_t seed : testing::seeds(200)) {
    Sim sim{{.seed = seed, .faults = {.cancel_race = 0.5}, .file_latency_min = 1ms, .file_latency_max = 3ms}};
    bool reported = false;
    sim.run([&] {
      File file = File::create("/tmp/f");
      std::ignore = move_on_after(2ms, [&] {
        file.write_all("all of it");
        reported = true;
      });
      if (!reported) ++cancelled;
    });
    EXPECT_EQ(sim.files().read("/tmp/f"), reported ? "all of it" : "") << testing::replay_hint(seed);
    if (reported) ++done;
  }
  EXPECT_GT(done, 0);
  EXPECT_GT(cancelled, 0);
}

TEST(SimFiles, LeaksAreNamed) {
  Sim sim;
  sim.run([] { std::ignore = File::create("/tmp/left").release().release(); });
  EXPECT_EQ(sim.leaks(), "descriptor 1000: the file /tmp/left\n");
}

std::uint64_t history(std::uint64_t seed) {
  Sim sim{{.seed = seed, .faults = Faults::chaotic()}};
  sim.run([] {
    Scope scope;
    for (int which = 0; which < 4; ++which) {
      scope.spawn([which] {
        const std::string path = "/tmp/" + std::to_string(which % 2);
        for (int round = 0; round < 20; ++round) {
          std::error_code error;
          fs::append_file(path, std::string(100, 'x'), error);
          (void)fs::read_file(path, error);
          fs::rename(path, path + "x", error);
        }
      });
    }
    scope.join();
  });
  sim.crash();
  std::uint64_t hash = sim.trace_hash();
  for (const std::string& name : sim.files().list("/tmp")) hash = hash * 31 + std::hash<std::string>{}(name);
  for (const std::string& name : sim.files().list("/tmp")) {
    hash = hash * 31 + std::hash<std::string>{}(sim.files().read("/tmp/" + name));
  }
  return hash;
}

TEST(SimFiles, ASeedRepeatsItsHistory) {
  std::set<std::uint64_t> different;
  for (const std::uint64_t seed : testing::seeds(20)) {
    const std::uint64_t hash = history(seed);
    EXPECT_EQ(hash, history(seed)) << testing::replay_hint(seed);
    different.insert(hash);
  }
  EXPECT_GE(different.size(), testing::seeds(20).size() - 1);
}

}  // namespace
}  // namespace bight
