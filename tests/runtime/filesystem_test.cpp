// SPDX-License-Identifier: Apache-2.0
#include <bight/filesystem.hpp>

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>
#include <vector>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/directory.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/file.hpp>
#include <bight/scope.hpp>
#include <bight/temporary.hpp>
#include <bight/time.hpp>

#include "bytes.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::bytes_of;
using test::on_loop;
using test::on_sim;

template <class Body>
void in_directory(Body&& body) {
  on_loop([&] {
    const fs::TemporaryDirectory directory("bight-filesystem-test-");
    body(directory);
  });
}

template <class Call>
std::string failure_of(Call&& call) {
  try {
    call();
  } catch (const std::system_error& error) {
    return error.what();
  }
  return "no error";
}

std::vector<std::string> names_in(const std::string& path) {
  std::vector<std::string> names;
  for (const fs::DirectoryEntry& entry : fs::list_directory(path)) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  return names;
}

using Names = std::vector<std::string>;

// --- Whole files
// ------------------------------------------------------------------------------------------------------

TEST(WholeFile, ReadsWhatWasWritten) {
  in_directory([](const fs::TemporaryDirectory& in) {
    for (const std::size_t size : {0U, 1U, 16383U, 16384U, 16385U, 65536U, 3000000U}) {
      std::string text(size, 'x');
      for (std::size_t i = 0; i < size; i += 97) text[i] = static_cast<char>('a' + i % 26);
      fs::write_file(in / "f", text);
      EXPECT_TRUE(fs::read_file(in / "f") == text) << size;
    }
    fs::write_file(in / "f", "short");
    EXPECT_EQ(fs::read_file(in / "f"), "short") << "what was there before is gone";
    fs::append_file(in / "f", " and more");
    fs::append_file(in / "g", "made");
    EXPECT_EQ(fs::read_file(in / "f") + fs::read_file(in / "g"), "short and moremade");
  });
}

TEST(WholeFile, ReadingHasALimit) {
  in_directory([](const fs::TemporaryDirectory& in) {
    fs::write_file(in / "f", std::string(100000, 'x'));
    EXPECT_EQ(fs::read_file(in / "f", 100000).size(), 100000U);
    EXPECT_EQ(failure_of([&] { static_cast<void>(fs::read_file(in / "f", 99999)); }),
              "read " + (in / "f") + ": File too large");
    EXPECT_EQ(failure_of([&] { static_cast<void>(fs::read_file(in / "f", 0)); }),
              "read " + (in / "f") + ": File too large");
  });
}

TEST(WholeFile, ErrorsNameTheFile) {
  in_directory([](const fs::TemporaryDirectory& in) {
    const std::string none = in / "none";
    EXPECT_EQ(failure_of([&] { static_cast<void>(fs::read_file(none)); }),
              "read " + none + ": No such file or directory");
    EXPECT_EQ(failure_of([&] { fs::write_file(none + "/x", "y"); }), "write " + none + "/x: No such file or directory");
    EXPECT_EQ(failure_of([&] { static_cast<void>(fs::read_file(in.path())); }),
              "read " + in.path() + ": Is a directory");
  });
}

TEST(WholeFile, AtomicWritesReplaceAndLeaveNothingElse) {
  in_directory([](const fs::TemporaryDirectory& in) {
    fs::write_file_atomically(in / "f", "first");
    fs::set_mode(in / "f", 0640);
    fs::create_hard_link(in / "f", in / "other-name");
    fs::write_file_atomically(in / "f", "second");
    EXPECT_EQ(fs::read_file(in / "f"), "second");
    EXPECT_EQ(fs::status(in / "f").mode, 0640U) << "the permissions are those of the file that it replaces";
    EXPECT_EQ(fs::read_file(in / "other-name"), "first");
    fs::write_file_atomically(in / "f", "third", {.sync = false, .mode = 0600});
    EXPECT_EQ(fs::status(in / "f").mode, 0600U);
    EXPECT_EQ(names_in(in.path()), (Names{"f", "other-name"}));
    fs::create_directory(in / "d");
    EXPECT_EQ(failure_of([&] { fs::write_file_atomically(in / "d", "x"); }),
              "write " + (in / "d") + ": Is a directory");
    EXPECT_EQ(names_in(in.path()), (Names{"d", "f", "other-name"}));
  });
}

TEST(WholeFile, ReadersSeeOneContentOrTheOther) {
  in_directory([](const fs::TemporaryDirectory& in) {
    const std::string one(20000, '1');
    const std::string two(30000, '2');
    fs::write_file_atomically(in / "f", one, {.sync = false});
    bool over = false;
    std::size_t reads = 0;
    Scope readers;
    for (int i = 0; i < 4; ++i) {
      readers.spawn([&] {
        while (!over) {
          const std::string seen = fs::read_file(in / "f");
          EXPECT_TRUE(seen == one || seen == two) << seen.size();
          ++reads;
        }
      });
    }
    for (int i = 0; i < 50; ++i) fs::write_file_atomically(in / "f", i % 2 == 0 ? two : one, {.sync = false});
    over = true;
    readers.join();
    EXPECT_GT(reads, 0U);
  });
}

TEST(WholeFile, ACancelledAtomicWriteLeavesTheOldContentAlone) {
  in_directory([](const fs::TemporaryDirectory& in) {
    fs::write_file(in / "f", "old");
    const std::string text(100000, 'n');
    for (int turns = 0; turns < 40; ++turns) {
      Scope scope;
      std::error_code error;
      Fiber<void> writer = scope.spawn([&] { fs::write_file_atomically(in / "f", bytes_of(text), {}, error); });
      for (int i = 0; i < turns; ++i) yield();
      writer.cancel();
      scope.join();
      const std::string now = fs::read_file(in / "f");
      EXPECT_TRUE(now == "old" || now == text);
      EXPECT_EQ(names_in(in.path()), (Names{"f"})) << "after " << turns << " turns";
      if (now != "old") fs::write_file(in / "f", "old");
    }
  });
}

TEST(WholeFile, CopiesContentAndPermissions) {
  in_directory([](const fs::TemporaryDirectory& in) {
    const std::string text(300000, 'c');
    fs::write_file(in / "from", text);
    fs::set_mode(in / "from", 0751);
    fs::write_file(in / "to", std::string(400000, 'x'));
    fs::copy_file(in / "from", in / "to");
    EXPECT_TRUE(fs::read_file(in / "to") == text);
    EXPECT_EQ(fs::status(in / "to").mode, 0751U);
    fs::write_file(in / "empty", "");
    fs::copy_file(in / "empty", in / "to");
    EXPECT_EQ(fs::read_file(in / "to"), "");
    std::error_code error;
    fs::copy_file(in / "from", in / "from", error);
    EXPECT_EQ(error, std::errc::file_exists);
    EXPECT_TRUE(fs::read_file(in / "from") == text) << "a file copied to itself is not lost";
    fs::create_directory(in / "d");
    fs::copy_file(in / "d", in / "to", error);
    EXPECT_EQ(error, std::errc::is_a_directory);
  });
}

// --- Names
// ------------------------------------------------------------------------------------------------------------

TEST(Names, AreMadeChangedAndRemoved) {
  in_directory([](const fs::TemporaryDirectory& in) {
    fs::write_file(in / "a", "a");
    EXPECT_TRUE(fs::exists(in / "a"));
    fs::rename(in / "a", in / "b");
    EXPECT_FALSE(fs::exists(in / "a"));
    fs::write_file(in / "c", "c");
    std::error_code error;
    fs::rename(in / "b", in / "c", fs::RenameRule::keep, error);
    EXPECT_EQ(error, std::errc::file_exists);
    fs::rename(in / "b", in / "c", fs::RenameRule::exchange, error);
    if (!error) {  // not every file system can
      EXPECT_EQ(fs::read_file(in / "b"), "c");
    }
    fs::rename(in / "b", in / "c");
    EXPECT_FALSE(fs::exists(in / "b"));
    EXPECT_TRUE(fs::remove(in / "c"));
    EXPECT_FALSE(fs::remove(in / "c"));
    EXPECT_EQ(failure_of([&] { fs::rename(in / "x", in / "y"); }),
              "rename " + (in / "x") + " to " + (in / "y") + ": No such file or directory");
  });
}

TEST(Names, DirectoriesAreMadeWithThoseAbove) {
  in_directory([](const fs::TemporaryDirectory& in) {
    EXPECT_TRUE(fs::create_directory(in / "d"));
    EXPECT_FALSE(fs::create_directory(in / "d"));
    EXPECT_TRUE(fs::create_directories(in / "a/b/c/d"));
    EXPECT_FALSE(fs::create_directories(in / "a/b/c/d"));
    EXPECT_TRUE(fs::create_directories(in / "a/b/x/"));
    EXPECT_TRUE(fs::status(in / "a/b/c/d").is_directory());
    fs::write_file(in / "f", "x");
    std::error_code error;
    fs::create_directories(in / "f/g", error);
    EXPECT_EQ(error, std::errc::not_a_directory);
    fs::create_directory(in / "f", error);
    EXPECT_EQ(error, std::errc::file_exists);
    EXPECT_FALSE(fs::exists(in / "f/g"));
    fs::remove(in / "a/b", error);
    EXPECT_TRUE(error == std::errc::directory_not_empty) << error.message();
    EXPECT_TRUE(fs::remove(in / "d"));
  });
}

TEST(Names, LinksOfBothKinds) {
  in_directory([](const fs::TemporaryDirectory& in) {
    fs::write_file(in / "f", "content");
    fs::create_symlink("f", in / "soft");
    fs::create_hard_link(in / "f", in / "hard");
    EXPECT_EQ(fs::read_symlink(in / "soft"), "f");
    EXPECT_TRUE(fs::link_status(in / "soft").is_symlink());
    EXPECT_TRUE(fs::status(in / "soft").same_file(fs::status(in / "hard")));
    EXPECT_EQ(fs::status(in / "f").links, 2U);
    const std::string far(1000, 'n');
    fs::create_symlink(far, in / "long");
    EXPECT_EQ(fs::read_symlink(in / "long"), far);
    EXPECT_TRUE(fs::exists(in / "long")) << "be it a link that leads nowhere";
    std::error_code error;
    static_cast<void>(fs::status(in / "long", error));
    EXPECT_TRUE(error);
    static_cast<void>(fs::read_symlink(in / "f", error));
    EXPECT_EQ(error, std::errc::invalid_argument);
    EXPECT_TRUE(fs::remove(in / "soft"));
    EXPECT_EQ(fs::read_file(in / "f"), "content");
  });
}

TEST(Names, Attributes) {
  in_directory([](const fs::TemporaryDirectory& in) {
    fs::write_file(in / "f", "x");
    fs::set_mode(in / "f", 0600);
    const FileTime then(std::chrono::nanoseconds(1234567890123456789));
    fs::set_times(in / "f", std::nullopt, then);
    fs::set_owner(in / "f", std::nullopt, std::nullopt);
    const FileStatus status = fs::status(in / "f");
    EXPECT_EQ(status.mode, 0600U);
    EXPECT_EQ(status.modified, then);
    EXPECT_NE(status.accessed, then);
    fs::sync_directory(in.path());
    std::error_code error;
    fs::sync_directory(in / "f", error);
    EXPECT_EQ(error, std::errc::not_a_directory);
  });
}

// --- Directories
// ------------------------------------------------------------------------------------------------------

void make_tree(const fs::TemporaryDirectory& in) {
  fs::create_directories(in / "a/b/c");
  fs::create_directory(in / "empty");
  for (const char* name : {"1", "a/2", "a/b/3", "a/b/c/4"}) fs::write_file(in / name, name);
}

Names walk(const fs::TemporaryDirectory& in, fs::WalkOptions options = {}) {
  Names found;
  for (const fs::WalkEntry& entry : fs::Walker(in.path(), std::move(options))) {
    found.push_back(entry.path.substr(in.path().size() + 1));
    EXPECT_EQ(entry.depth, static_cast<std::size_t>(std::count(found.back().begin(), found.back().end(), '/')) + 1);
  }
  return found;
}

bool before(const Names& names, const char* first, const char* second) {
  return std::find(names.begin(), names.end(), first) < std::find(names.begin(), names.end(), second);
}

TEST(Walker, MeetsEverythingOnce) {
  in_directory([](const fs::TemporaryDirectory& in) {
    make_tree(in);
    Names found = walk(in);
    EXPECT_TRUE(before(found, "a", "a/b") && before(found, "a/b", "a/b/3"));
    std::sort(found.begin(), found.end());
    EXPECT_EQ(found, (Names{"1", "a", "a/2", "a/b", "a/b/3", "a/b/c", "a/b/c/4", "empty"}));
    Names back = walk(in, {.contents_first = true});
    EXPECT_TRUE(before(back, "a/b", "a") && before(back, "a/b/c/4", "a/b/c"));
    std::sort(back.begin(), back.end());
    EXPECT_EQ(back, found);
  });
}

TEST(Walker, GoesNoDeeperThanItIsTold) {
  in_directory([](const fs::TemporaryDirectory& in) {
    make_tree(in);
    for (const bool contents_first : {false, true}) {
      Names found = walk(in, {.contents_first = contents_first, .depth_max = 2});
      std::sort(found.begin(), found.end());
      EXPECT_EQ(found, (Names{"1", "a", "a/2", "a/b", "empty"}));
    }
    Names found;
    fs::Walker walker(in.path());
    while (const fs::WalkEntry* entry = walker.next()) {
      found.emplace_back(entry->name());
      if (entry->name() == "b") walker.skip();
    }
    std::sort(found.begin(), found.end());
    EXPECT_EQ(found, (Names{"1", "2", "a", "b", "empty"}));
  });
}

TEST(Walker, FollowsLinksOnlyWhenToldAndNeverInACircle) {
  in_directory([](const fs::TemporaryDirectory& in) {
    make_tree(in);
    fs::create_symlink("../..", in / "a/b/up");
    fs::create_symlink("b", in / "a/side");
    fs::create_symlink("nowhere", in / "dangling");
    EXPECT_EQ(walk(in).size(), 11U);
    const Names followed = walk(in, {.follow_links = true});
    EXPECT_NE(std::find(followed.begin(), followed.end(), "a/side/c/4"), followed.end());
    EXPECT_NE(std::find(followed.begin(), followed.end(), "dangling"), followed.end());
    EXPECT_EQ(std::count(followed.begin(), followed.end(), "a/b/up"), 1);
    EXPECT_EQ(followed.size(), 15U) << "what is in side comes again: 3, c, 4 and up";
  });
}

TEST(Walker, ErrorsAreTold) {
  in_directory([](const fs::TemporaryDirectory& in) {
    EXPECT_EQ(failure_of([&] { static_cast<void>(fs::Walker(in / "none").next()); }),
              "walk through " + (in / "none") + ": No such file or directory");
    Names told;
    const fs::WalkOptions quiet{.on_error = [&](const std::string& path, std::error_code) { told.push_back(path); }};
    fs::Walker walker(in / "none", quiet);
    EXPECT_EQ(walker.next(), nullptr);
    EXPECT_EQ(told, (Names{in / "none"}));
    EXPECT_EQ(walker.next(), nullptr);
  });
}

TEST(Walker, IsNotConfusedByChanges) {
  in_directory([](const fs::TemporaryDirectory& in) {
    for (int i = 0; i < 30; ++i) {
      fs::create_directory(in / ("d" + std::to_string(i)));
      fs::write_file(in / ("d" + std::to_string(i) + "/f"), "x");
    }
    Scope scope;
    scope.spawn([&] {
      for (int i = 29; i >= 0; --i) fs::remove_all(in / ("d" + std::to_string(i)));
    });
    std::size_t seen = 0;
    for (const fs::WalkEntry& entry : fs::Walker(in.path())) seen += entry.depth;
    scope.join();
    EXPECT_LE(seen, 90U);
  });
}

TEST(Walker, ManyEntriesComeInBatches) {
  in_directory([](const fs::TemporaryDirectory& in) {
    constexpr std::size_t kMany = 3000;
    Scope makers;
    for (std::size_t i = 0; i < kMany; ++i) {
      makers.spawn([&, i] { fs::write_file(in / ("a-rather-long-name-of-a-file-" + std::to_string(i)), ""); });
    }
    makers.join();
    EXPECT_EQ(names_in(in.path()).size(), kMany);
    EXPECT_EQ(walk(in).size(), kMany);
    EXPECT_EQ(fs::remove_all(in.path()), kMany + 1);
    fs::create_directory(in.path());
  });
}

TEST(RemoveAll, RemovesTreesAndNotWhatLinksLeadTo) {
  in_directory([](const fs::TemporaryDirectory& in) {
    fs::create_directory(in / "tree");
    fs::create_directory(in / "kept");
    fs::write_file(in / "kept/f", "x");
    fs::create_directories(in / "tree/a/b/c");
    for (int i = 0; i < 10; ++i) fs::write_file(in / ("tree/a/b/f" + std::to_string(i)), "x");
    fs::create_symlink("../../kept", in / "tree/a/link");
    EXPECT_EQ(fs::remove_all(in / "tree"), 15U);
    EXPECT_FALSE(fs::exists(in / "tree"));
    EXPECT_EQ(names_in(in / "kept"), (Names{"f"}));
    EXPECT_EQ(fs::remove_all(in / "tree"), 0U);
    EXPECT_EQ(fs::remove_all(in / "kept/f"), 1U);
  });
}

TEST(RemoveAll, DeepTrees) {
  in_directory([](const fs::TemporaryDirectory& in) {
    std::string path = in / "d";
    for (int i = 0; i < 100; ++i) path += "/d";
    fs::create_directories(path);
    EXPECT_EQ(fs::remove_all(in / "d"), 101U);
  });
}

// --- Temporary ones
// ---------------------------------------------------------------------------------------------------

TEST(Temporary, GoWithTheirObjects) {
  in_directory([](const fs::TemporaryDirectory& in) {
    std::string kept;
    {
      fs::TemporaryFile file("f-", in.path());
      file.file().write_all("x");
      EXPECT_EQ(fs::status(file.path()).mode, 0600U);
      fs::TemporaryFile moved = std::move(file);
      fs::TemporaryFile other("f-", in.path());
      EXPECT_NE(moved.path(), other.path());
      kept = other.keep();
      const fs::TemporaryDirectory directory("d-", in.path());
      EXPECT_EQ(fs::status(directory.path()).mode, 0700U);
      make_tree(directory);
      EXPECT_EQ(names_in(in.path()).size(), 3U);
    }
    EXPECT_TRUE(fs::exists(kept));
    EXPECT_EQ(names_in(in.path()).size(), 1U);
    EXPECT_TRUE(failure_of([&] { fs::TemporaryDirectory("x", in / "none"); }).find("No such file") !=
                std::string::npos);
  });
}

TEST(Temporary, AreRemovedEvenWhenTheFiberIsCancelled) {
  in_directory([](const fs::TemporaryDirectory& in) {
    Scope scope;
    Fiber<void> fiber = scope.spawn([&] {
      const fs::TemporaryDirectory directory("d-", in.path());
      fs::write_file(directory / "f", "x");
      const fs::TemporaryFile file("f-", in.path());
      sleep_for(1h);
    });
    while (names_in(in.path()).size() != 2) sleep_for(1ms);
    fiber.cancel();
    scope.join();
    EXPECT_EQ(names_in(in.path()), Names{});
  });
}

}  // namespace
}  // namespace bight
