// SPDX-License-Identifier: Apache-2.0
#include <bight/file_watch.hpp>

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
#include <bight/filesystem.hpp>
#include <bight/scope.hpp>
#include <bight/select.hpp>
#include <bight/temporary.hpp>
#include <bight/time.hpp>

#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::on_loop;
using test::on_sim;
using Kind = FileEvent::Kind;

struct FileWatchTest : testing::Test {
  template <class Body>
  static void in_directory(Body&& body) {
    on_loop([&] {
      if (on_sim()) GTEST_SKIP() << "inotify is the system's";
      const fs::TemporaryDirectory directory("bight-watch-test-");
      body(directory);
    });
  }
};

/// The next event of that kind for that path.
FileEvent wait_for(FileWatch& watch, Kind kind, const std::string& path) {
  for (;;) {
    FileEvent event = watch.next();
    if (event.kind == kind && event.path == path) return event;
  }
}

TEST_F(FileWatchTest, TellsWhatHappensInADirectory) {
  in_directory([](const fs::TemporaryDirectory& in) {
    FileWatch watch;
    watch.add(in.path());
    fs::write_file(in / "f", "x");
    EXPECT_EQ(watch.next().kind, Kind::created);
    wait_for(watch, Kind::modified, in / "f");
    wait_for(watch, Kind::closed, in / "f");
    fs::set_mode(in / "f", 0600);
    wait_for(watch, Kind::attributes, in / "f");
    fs::rename(in / "f", in / "g");
    const FileEvent moved = wait_for(watch, Kind::moved, in / "g");
    EXPECT_EQ(moved.old_path, in / "f");
    fs::remove(in / "g");
    wait_for(watch, Kind::removed, in / "g");
    fs::create_directory(in / "d");
    EXPECT_TRUE(wait_for(watch, Kind::created, in / "d").directory);
    EXPECT_FALSE(watch.try_next());
  });
}

TEST_F(FileWatchTest, MovesInAndOutAreComingAndGoing) {
  in_directory([](const fs::TemporaryDirectory& in) {
    fs::create_directory(in / "watched");
    fs::write_file(in / "f", "x");
    FileWatch watch;
    watch.add(in / "watched");
    fs::rename(in / "f", in / "watched/f");
    EXPECT_EQ(watch.next().kind, Kind::created);
    fs::rename(in / "watched/f", in / "f");
    EXPECT_EQ(watch.next().kind, Kind::removed);
    fs::rename(in / "f", in / "watched/f");
    const std::optional<FileEvent> event = watch.try_next();
    ASSERT_TRUE(event);
    EXPECT_EQ(event->kind, Kind::created);
  });
}

TEST_F(FileWatchTest, GoesIntoDirectoriesThatComeLater) {
  in_directory([](const fs::TemporaryDirectory& in) {
    fs::create_directories(in / "a/b");
    FileWatch watch;
    watch.add(in.path(), {.recursive = true});
    fs::write_file(in / "a/b/f", "x");
    wait_for(watch, Kind::created, in / "a/b/f");
    fs::create_directories(in / "a/new/deep");
    fs::write_file(in / "a/new/deep/f", "x");
    wait_for(watch, Kind::created, in / "a/new/deep/f");
    fs::rename(in / "a/new", in / "renamed");
    wait_for(watch, Kind::moved, in / "renamed");
    fs::write_file(in / "renamed/deep/g", "x");
    wait_for(watch, Kind::created, in / "renamed/deep/g");
    fs::remove_all(in / "renamed");
    wait_for(watch, Kind::removed, in / "renamed");
  });
}

TEST_F(FileWatchTest, AFileThatIsGoneIsNoLongerWatched) {
  in_directory([](const fs::TemporaryDirectory& in) {
    fs::write_file(in / "f", "x");
    FileWatch watch;
    watch.add(in / "f");
    fs::append_file(in / "f", "y");
    wait_for(watch, Kind::modified, in / "f");
    fs::remove(in / "f");
    wait_for(watch, Kind::unwatched, in / "f");
    std::error_code error;
    watch.add(in / "f", {}, error);
    EXPECT_EQ(error, std::errc::no_such_file_or_directory);
    EXPECT_THROW(watch.add(in / "f"), std::system_error);
  });
}

TEST_F(FileWatchTest, NothingIsToldOfWhatIsNoLongerWatched) {
  in_directory([](const fs::TemporaryDirectory& in) {
    fs::create_directories(in / "a/b");
    FileWatch watch;
    watch.add(in / "a", {.recursive = true});
    watch.remove(in / "a");
    fs::write_file(in / "a/b/f", "x");
    fs::write_file(in / "a/f", "x");
    EXPECT_FALSE(watch.try_next());
    watch.remove(in / "a");
  });
}

TEST_F(FileWatchTest, OverflowIsTold) {
  in_directory([](const fs::TemporaryDirectory& in) {
    FileWatch watch;
    watch.add(in.path());
    bool overflown = false;
    // Two files in turns, for the same event twice in a row is told once.
    File a = File::create(in / "a");
    File b = File::create(in / "b");
    for (int i = 0; i < 20000; ++i) {
      a.write_all_at(std::as_bytes(std::span("x", 1)), 0);
      b.write_all_at(std::as_bytes(std::span("x", 1)), 0);
    }
    while (const std::optional<FileEvent> event = watch.try_next())
      overflown = overflown || event->kind == Kind::overflow;
    EXPECT_TRUE(overflown) << "fs.inotify.max_queued_events is 16384 by default";
    fs::write_file(in / "after", "x");
    wait_for(watch, Kind::closed, in / "after");
  });
}

TEST_F(FileWatchTest, CanBeSelectedOn) {
  in_directory([](const fs::TemporaryDirectory& in) {
    FileWatch watch;
    watch.add(in.path());
    Scope scope;
    scope.spawn([&] { fs::write_file(in / "f", "x"); });
    std::vector<Kind> kinds;
    while (std::find(kinds.begin(), kinds.end(), Kind::closed) == kinds.end()) {
      select(watch.on_events([&] {
        while (const std::optional<FileEvent> event = watch.try_next()) kinds.push_back(event->kind);
      }));
    }
    EXPECT_EQ(kinds.front(), Kind::created);
    scope.join();
  });
}

TEST_F(FileWatchTest, WaitsEndByCancellation) {
  in_directory([](const fs::TemporaryDirectory& in) {
    FileWatch watch;
    watch.add(in.path());
    EXPECT_THROW(with_timeout(10ms, [&] { static_cast<void>(watch.next()); }), TimedOut);
    fs::write_file(in / "f", "x");
    EXPECT_EQ(watch.next().kind, Kind::created) << "nothing was lost";
  });
}

TEST_F(FileWatchTest, TheCancelledLeaveNoDirectoryUnwatched) {
  in_directory([](const fs::TemporaryDirectory& in) {
    FileWatch watch;
    watch.add(in.path(), {.recursive = true});
    fs::create_directory(in / "new");
    Scope scope;
    Fiber<void> fiber = scope.spawn([&] {
      std::error_code error;
      try {
        sleep_for(1h);
      } catch (const Cancelled&) {  // from now on it is
        EXPECT_TRUE(watch.next(error)) << "what is there need not be waited for";
      }
    });
    yield();
    fiber.cancel();
    scope.join();
    fs::write_file(in / "new/f", "x");
    with_timeout(10s, [&] { wait_for(watch, Kind::created, in / "new/f"); });
  });
}

TEST(FileWatch, IsNotSupportedInASimulatedWorld) {
  on_loop([] {
    if (!on_sim()) GTEST_SKIP() << "about simulated worlds";
    EXPECT_THROW(FileWatch(), std::system_error);
  });
}

}  // namespace
}  // namespace bight
