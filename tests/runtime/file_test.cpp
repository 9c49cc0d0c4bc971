// SPDX-License-Identifier: Apache-2.0
#include <bight/file.hpp>

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include <bight/aligned_buffer.hpp>
#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/event.hpp>
#include <bight/fiber.hpp>
#include <bight/filesystem.hpp>
#include <bight/scope.hpp>
#include <bight/temporary.hpp>
#include <bight/time.hpp>

#include "build.hpp"
#include "bytes.hpp"
#include "misuse.hpp"
#include "on_loop.hpp"
#include "open_fds.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::bytes_of;
using test::on_loop;
using test::on_sim;

constexpr OpenOptions kReadWrite{.read = true, .write = true, .create = true};

std::span<std::byte> room_in(std::string& text) { return std::as_writable_bytes(std::span(text)); }

std::string read_at(File& file, std::size_t size, std::uint64_t offset) {
  std::string text(size, '\0');
  text.resize(file.read_at(room_in(text), offset));
  return text;
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

bool sim_chosen() {
  const char* engine = std::getenv("BIGHT_ENGINE");  // NOLINT(concurrency-mt-unsafe): never set here
  return engine != nullptr && std::string_view(engine) == "sim";
}

/// A directory of its own for each test.
struct FileTest : testing::Test {
  template <class Body>
  static void in_directory(Body&& body) {
    on_loop([&] {
      const fs::TemporaryDirectory directory("bight-file-test-");
      body(directory);
    });
  }
};

// --- Reading and writing
// ----------------------------------------------------------------------------------------------

TEST_F(FileTest, WhatIsWrittenIsRead) {
  in_directory([](const fs::TemporaryDirectory& in) {
    File file = File::open(in / "f", kReadWrite);
    EXPECT_EQ(file.write_all("hello world"), 11U);
    EXPECT_EQ(file.tell(), 11U);
    EXPECT_EQ(file.size(), 11U);
    EXPECT_EQ(file.seek(6), 6U);
    std::string text(64, '\0');
    EXPECT_EQ(file.read(room_in(text)), 5U);
    EXPECT_EQ(text.substr(0, 5), "world");
    EXPECT_EQ(file.read(room_in(text)), 0U) << "the end";
    EXPECT_EQ(read_at(file, 5, 0), "hello");
    EXPECT_EQ(read_at(file, 5, 100), "") << "beyond the end";
    EXPECT_EQ(file.tell(), 11U) << "operations at an offset leave the cursor alone";
    EXPECT_EQ(file.type(), FileType::regular);
    EXPECT_EQ(file.path(), in / "f");
    file.close();
  });
}

TEST_F(FileTest, NothingIsMovedForEmptyBuffers) {
  in_directory([](const fs::TemporaryDirectory& in) {
    File file = File::open(in / "f", kReadWrite);
    file.write_all("x");
    file.seek(0);
    EXPECT_EQ(file.read(std::span<std::byte>{}), 0U);
    EXPECT_EQ(file.write(std::span<const std::byte>{}), 0U);
    EXPECT_EQ(file.read(std::span<const std::span<std::byte>>{}), 0U);
    EXPECT_EQ(file.read_exactly({}), 0U);
    EXPECT_EQ(file.write_all(""), 0U);
    EXPECT_EQ(file.tell(), 0U);
  });
}

TEST_F(FileTest, OptionsMeanWhatOpenMeans) {
  in_directory([](const fs::TemporaryDirectory& in) {
    EXPECT_EQ(failure_of([&] { File::open(in / "none").close(); }),
              "open " + (in / "none") + ": No such file or directory");
    std::error_code error;
    File::open(in / "f", {.write = true, .exclusive = true, .mode = 0640}).write_all("first");
    EXPECT_EQ(fs::status(in / "f").mode, 0640U);
    File::open(in / "f", {.write = true, .exclusive = true}, error).close();
    EXPECT_EQ(error, std::errc::file_exists);
    File::open(in / "f", {.append = true}).write_all(" second");
    EXPECT_EQ(fs::read_file(in / "f"), "first second");
    File reader = File::open(in / "f");
    reader.write(bytes_of("x"), error);
    EXPECT_EQ(error, std::errc::bad_file_descriptor) << "it is open for reading only";
    File::open(in / "f", {.directory = true}, error).close();
    EXPECT_EQ(error, std::errc::not_a_directory);
    fs::create_symlink("f", in / "link");
    File::open(in / "link", {.no_follow = true}, error).close();
    EXPECT_EQ(error, std::errc::too_many_symbolic_link_levels);
    File::open(in.path(), {.write = true}, error).close();
    EXPECT_EQ(error, std::errc::is_a_directory);
    File::create(in / "f").close();
    EXPECT_EQ(fs::read_file(in / "f"), "");
    File::open(std::string("a\0b", 3), error).close();
    EXPECT_EQ(error, std::errc::invalid_argument) << "a path that would be cut short";
  });
}

TEST_F(FileTest, APathMayStartFromADirectoryAndNotLeadOutOfIt) {
  in_directory([](const fs::TemporaryDirectory& in) {
    fs::create_directory(in / "d");
    fs::write_file(in / "d/f", "inside");
    fs::write_file(in / "secret", "outside");
    const File directory = File::open(in / "d", {.directory = true});
    File file = File::open("f", {.in = &directory, .beneath = true});
    EXPECT_EQ(read_at(file, 6, 0), "inside");
    std::error_code error;
    File::open("../secret", {.in = &directory, .beneath = true}, error).close();
    EXPECT_EQ(error, std::errc::cross_device_link);
    File outside = File::open("../secret", {.in = &directory});
    EXPECT_EQ(read_at(outside, 7, 0), "outside");
  });
}

TEST_F(FileTest, EveryDescriptorIsCloseOnExec) {
  if (sim_chosen()) {
    GTEST_SKIP() << "no descriptors of the system's in a simulated world";
  }
  in_directory([](const fs::TemporaryDirectory& in) {
    File file = File::open(in / "f", kReadWrite);
    EXPECT_EQ(::fcntl(file.fd(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    EXPECT_EQ(::fcntl(file.fd(), F_GETFL) & O_NONBLOCK, 0) << "whoever inherits it expects plain files to be blocking";
  });
}

TEST_F(FileTest, VectoredTransfersKeepTheOrderOfThePieces) {
  in_directory([](const fs::TemporaryDirectory& in) {
    File file = File::open(in / "f", kReadWrite);
    std::string first = "abc";
    std::string second;
    std::string third = "defgh";
    const std::array<std::span<const std::byte>, 3> out{bytes_of(first), bytes_of(second), bytes_of(third)};
    EXPECT_EQ(file.write(out), 8U);
    EXPECT_EQ(file.write_at(out, 4), 8U);
    EXPECT_EQ(read_at(file, 64, 0), "abcdabcdefgh");
    std::string a(5, '\0');
    std::string b(20, '\0');
    const std::array<std::span<std::byte>, 2> into{room_in(a), room_in(b)};
    EXPECT_EQ(file.read_at(into, 0), 12U);
    EXPECT_EQ(a + b.substr(0, 7), "abcdabcdefgh");
    file.seek(4);
    EXPECT_EQ(file.read(into), 8U);
    EXPECT_EQ(a + b.substr(0, 3), "abcdefgh");
  });
}

TEST_F(FileTest, AVectorOfManyPiecesIsTakenInParts) {
  in_directory([](const fs::TemporaryDirectory& in) {
    File file = File::open(in / "f", kReadWrite);
    const std::string one = "x";
    const std::vector<std::span<const std::byte>> many(1000, bytes_of(one));
    EXPECT_EQ(file.write(many), File::kPiecesMax);
  });
}

TEST_F(FileTest, ReadExactlyTellsHowFarItCame) {
  in_directory([](const fs::TemporaryDirectory& in) {
    fs::write_file(in / "f", "0123456789");
    File file = File::open(in / "f");
    std::string text(8, '\0');
    EXPECT_EQ(file.read_exactly(room_in(text)), 8U);
    EXPECT_EQ(text, "01234567");
    EXPECT_EQ(failure_of([&] { file.read_exactly(room_in(text)); }),
              "read from " + (in / "f") + ": end of file after 2 of 8 bytes: No data available");
    std::error_code error;
    EXPECT_EQ(file.read_exactly_at(room_in(text), 5, error), 5U);
    EXPECT_EQ(error, std::errc::no_message_available);
    EXPECT_EQ(file.read_exactly_at(room_in(text), 2), 8U);
    EXPECT_EQ(text, "23456789");
  });
}

TEST_F(FileTest, LargeTransfersArriveWhole) {
  in_directory([](const fs::TemporaryDirectory& in) {
    std::string data(std::size_t{3} * 1024 * 1024 + 17, '\0');
    std::mt19937 random(7);
    for (char& c : data) c = static_cast<char>(random());
    File file = File::open(in / "f", kReadWrite);
    EXPECT_EQ(file.write_all(data), data.size());
    std::string back(data.size(), '\0');
    EXPECT_EQ(file.read_exactly_at(room_in(back), 0), data.size());
    EXPECT_TRUE(back == data);
  });
}

TEST_F(FileTest, OffsetsBeyondWhatTheKernelKnowsAreRefused) {
  in_directory([](const fs::TemporaryDirectory& in) {
    File file = File::open(in / "f", kReadWrite);
    std::error_code error;
    std::string text(4, 'x');
    file.read_at(room_in(text), ~std::uint64_t{0}, error);
    EXPECT_EQ(error, std::errc::invalid_argument);
    file.write_at(bytes_of(text), std::uint64_t{1} << 63U, error);
    EXPECT_EQ(error, std::errc::invalid_argument);
    file.truncate(~std::uint64_t{0}, error);
    EXPECT_EQ(error, std::errc::invalid_argument);
    file.seek(-1, SeekFrom::start, error);
    EXPECT_EQ(error, std::errc::invalid_argument);
  });
}

TEST_F(FileTest, AppendingGoesToTheEndWhateverTheCursor) {
  in_directory([](const fs::TemporaryDirectory& in) {
    fs::write_file(in / "log", "1\n");
    File first = File::open(in / "log", {.append = true});
    File second = File::open(in / "log", {.append = true});
    first.write_all("2\n");
    second.write_all("3\n");
    first.write_all("4\n");
    EXPECT_EQ(fs::read_file(in / "log"), "1\n2\n3\n4\n");
  });
}

// --- The file
// ---------------------------------------------------------------------------------------------------------

TEST_F(FileTest, SizeRoomAndHoles) {
  in_directory([](const fs::TemporaryDirectory& in) {
    File file = File::open(in / "f", kReadWrite);
    file.write_all("0123456789");
    file.truncate(4);
    EXPECT_EQ(read_at(file, 10, 0), "0123");
    file.truncate(6);
    EXPECT_EQ(read_at(file, 10, 0), std::string("0123\0\0", 6));
    file.allocate(0, 65536);
    EXPECT_EQ(file.size(), 65536U);
    file.write_all_at(bytes_of(std::string(8192, 'x')), 0);
    std::error_code error;
    file.punch_hole(0, 4096, error);
    if (!error) {  // not every file system can
      EXPECT_EQ(read_at(file, 2, 4095), std::string("\0x", 2));
      EXPECT_EQ(file.size(), 65536U);
    }
    file.advise(FileAdvice::sequential);
    file.advise(FileAdvice::will_not_need, 0, 4096);
    file.sync();
    file.data_sync();
  });
}

TEST_F(FileTest, StatusTellsWhatItIs) {
  in_directory([](const fs::TemporaryDirectory& in) {
    File file = File::open(in / "f", kReadWrite);
    file.write_all("abc");
    file.set_mode(0604);
    const FileStatus status = file.status();
    EXPECT_TRUE(status.is_regular());
    EXPECT_EQ(status.size, 3U);
    EXPECT_EQ(status.mode, 0604U);
    EXPECT_EQ(status.links, 1U);
    EXPECT_TRUE(status.same_file(fs::status(in / "f")));
    EXPECT_FALSE(status.same_file(fs::status(in.path())));
    EXPECT_GE(status.modified, status.created);
    File directory = File::open(in.path(), {.directory = true});
    EXPECT_TRUE(directory.status().is_directory());
    EXPECT_EQ(directory.type(), FileType::directory);
  });
}

TEST_F(FileTest, SeekFindsDataAndHoles) {
  in_directory([](const fs::TemporaryDirectory& in) {
    File file = File::open(in / "f", kReadWrite);
    file.truncate(1 << 20);
    EXPECT_EQ(file.seek(-10, SeekFrom::end), (1U << 20) - 10);
    EXPECT_EQ(file.seek(-10, SeekFrom::current), (1U << 20) - 20);
    file.write_all_at(bytes_of("x"), 1 << 19);
    std::error_code error;
    const std::uint64_t data = file.seek(0, SeekFrom::next_data, error);
    if (!error) {
      EXPECT_LE(data, 1U << 19);
    }
    const std::uint64_t hole = file.seek(1 << 19, SeekFrom::next_hole, error);
    if (!error) {
      EXPECT_GT(hole, 1U << 19);
    }
  });
}

TEST_F(FileTest, ATemporaryFileMayGetAName) {
  in_directory([](const fs::TemporaryDirectory& in) {
    std::error_code error;
    File file = File::open(in.path(), {.read = true, .temporary = true}, error);
    if (error == std::errc::operation_not_supported || error == std::errc::is_a_directory) {
      GTEST_SKIP() << "not on this file system";
    }
    ASSERT_FALSE(error) << error.message();
    file.write_all("nameless");
    file.give_name(in / "name");
    EXPECT_EQ(fs::read_file(in / "name"), "nameless");
    file.give_name(in / "name", error);
    EXPECT_EQ(error, std::errc::file_exists);
  });
}

TEST_F(FileTest, DirectReadsGoPastTheCache) {
  in_directory([](const fs::TemporaryDirectory& in) {
    fs::write_file(in / "f", std::string(8192, 'd'));
    std::error_code error;
    File file = File::open(in / "f", {.read = true, .write = true, .direct = true}, error);
    if (error == std::errc::invalid_argument) GTEST_SKIP() << "not on this file system";
    ASSERT_FALSE(error) << error.message();
    const DirectAlignment alignment = file.direct_alignment();
    if (alignment.offset == 0) GTEST_SKIP() << "not on this file system";
    AlignedBuffer buffer(4096, alignment.memory);
    EXPECT_EQ(file.read_at(buffer.bytes(), 4096), 4096U);
    EXPECT_EQ(buffer.bytes()[0], std::byte{'d'});
    std::memset(buffer.data(), 'e', buffer.size());
    EXPECT_EQ(file.write_at(buffer.bytes(), 0), 4096U);
    if (alignment.offset > 1) {
      file.read_at(buffer.bytes().first(1), 1, error);
      EXPECT_EQ(error, std::errc::invalid_argument);
    }
  });
}

TEST(AlignedBuffer, IsAligned) {
  const AlignedBuffer buffer(100, 4096);
  EXPECT_EQ(buffer.size(), 4096U);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 4096, 0U);
  EXPECT_THROW(AlignedBuffer(1, 3), std::invalid_argument);
  EXPECT_THROW(AlignedBuffer(1, 0), std::invalid_argument);
}

TEST_F(FileTest, AFullDeviceSaysSo) {
  if (sim_chosen()) {
    GTEST_SKIP() << "/dev/full is the system's";
  }
  on_loop([] {
    File full = File::open("/dev/full", {.write = true});
    EXPECT_EQ(failure_of([&] { full.write_all("abc"); }),
              "write to /dev/full: after 0 of 3 bytes: No space left on device");
    File zero = File::open("/dev/zero");
    std::string text(1000, 'x');
    EXPECT_EQ(zero.read_exactly(room_in(text)), 1000U);
    EXPECT_EQ(text, std::string(1000, '\0'));
  });
}

/// A file system with so much room, for those who may mount one.
struct SmallDisk {
  explicit SmallDisk(std::string where) : path(std::move(where)) {
    mounted = ::mount("tmpfs", path.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "size=256k") == 0;
  }
  ~SmallDisk() {
    if (mounted) ::umount2(path.c_str(), MNT_DETACH);
  }
  std::string path;
  bool mounted;
};

TEST_F(FileTest, AFullDiskTakesAPartAndSaysHowMuch) {
  if (sim_chosen()) {
    GTEST_SKIP() << "mounts are the system's";
  }
  in_directory([](const fs::TemporaryDirectory& in) {
    const SmallDisk disk(in.path());
    if (!disk.mounted) GTEST_SKIP() << "may not mount a small file system";
    File file = File::open(in / "f", kReadWrite);
    const std::string much(std::size_t{1024} * 1024, 'x');
    std::error_code error;
    const std::size_t taken = file.write_all(bytes_of(much), error);
    EXPECT_EQ(error, std::errc::no_space_on_device);
    EXPECT_GT(taken, 0U);
    EXPECT_LT(taken, much.size());
    EXPECT_EQ(file.size(), taken);
    file.truncate(0);
    EXPECT_EQ(file.write_all("fits"), 4U);
    file.close();
    fs::write_file(in / "state", "old");
    EXPECT_EQ(failure_of([&] { fs::write_file_atomically(in / "state", much); }),
              "write " + (in / "state") + ": No space left on device");
    EXPECT_EQ(fs::read_file(in / "state"), "old") << "it is there as it was";
    EXPECT_EQ(fs::status(in.path()).links, 2U);
  });
}

// --- Many at a time
// ---------------------------------------------------------------------------------------------------

TEST_F(FileTest, ThousandsOfReadsAtATimeOnOneFile) {
  in_directory([](const fs::TemporaryDirectory& in) {
    constexpr std::size_t kRecords = 4000;
    File file = File::open(in / "f", kReadWrite);
    std::string all;
    for (std::size_t i = 0; i < kRecords; ++i) {
      std::string record = std::to_string(i);
      record.resize(16, '.');
      all += record;
    }
    file.write_all(all);
    std::size_t right = 0;
    Scope readers;
    for (std::size_t i = 0; i < kRecords; ++i) {
      readers.spawn([&, i] { right += read_at(file, 16, i * 16) == all.substr(i * 16, 16) ? 1 : 0; });
    }
    readers.join();
    EXPECT_EQ(right, kRecords);
  });
}

TEST_F(FileTest, WritersAtTheCursorTakeTurnsRecordByRecord) {
  in_directory([](const fs::TemporaryDirectory& in) {
    File file = File::open(in / "f", kReadWrite);
    {
      Scope writers;
      for (int i = 0; i < 100; ++i) {
        writers.spawn([&, i] { file.write_all(std::string(99, static_cast<char>('a' + i % 26)) + "\n"); });
      }
      writers.join();
    }
    const std::string all = fs::read_file(in / "f");
    ASSERT_EQ(all.size(), 10000U);
    for (std::size_t at = 0; at < all.size(); at += 100) {
      EXPECT_EQ(all.substr(at, 100), std::string(99, all[at]) + "\n");
    }
    file.seek(0);
    std::string seen;
    {
      Scope readers;
      for (int i = 0; i < 100; ++i) {
        readers.spawn([&] {
          std::string record(100, '\0');
          file.read_exactly(room_in(record));
          seen += record;
        });
      }
      readers.join();
    }
    EXPECT_EQ(seen, all) << "readers at the cursor are served first come, first served";
  });
}

TEST_F(FileTest, OtherFibersRunMeanwhile) {
  in_directory([](const fs::TemporaryDirectory& in) {
    File file = File::open(in / "f", kReadWrite);
    std::size_t turns = 0;
    bool over = false;
    Scope scope;
    scope.spawn([&] {
      while (!over) {
        ++turns;
        yield();
      }
    });
    file.write_all(std::string(std::size_t{1024} * 1024, 'x'));
    file.sync();
    over = true;
    scope.join();
    EXPECT_GE(turns, 1U);
  });
}

// --- Closing
// ----------------------------------------------------------------------------------------------------------

TEST_F(FileTest, WhatIsClosedIsRefused) {
  in_directory([](const fs::TemporaryDirectory& in) {
    File file = File::open(in / "f", kReadWrite);
    file.close();
    file.close();
    std::error_code error;
    std::string text(4, '\0');
    file.read(room_in(text), error);
    EXPECT_EQ(error, std::errc::bad_file_descriptor);
    EXPECT_EQ(failure_of([&] { file.write_all("x"); }), "write to : after 0 of 1 bytes: Bad file descriptor");
    EXPECT_EQ(failure_of([&] { file.sync(); }), "sync a file that is closed: Bad file descriptor");
    EXPECT_FALSE(file.is_open());
    EXPECT_EQ(file.fd(), -1);
    EXPECT_EQ(file.type(), FileType::unknown);
  });
}

TEST_F(FileTest, OperationsUnderWayFinishOnTheFileThatIsClosed) {
  in_directory([](const fs::TemporaryDirectory& in) {
    for (int round = 0; round < 50; ++round) {
      File file = File::open(in / "f", kReadWrite);
      file.write_all_at(bytes_of("what was there"), 0);
      std::size_t right = 0;
      Scope readers;
      for (int i = 0; i < 20; ++i) {
        readers.spawn([&] {
          std::string text(14, '\0');
          std::error_code error;
          const std::size_t count = file.read_at(room_in(text), 0, error);
          right += (count == 14 && text == "what was there") || error == std::errc::bad_file_descriptor ? 1 : 0;
        });
      }
      for (int i = 0; i < round % 3; ++i) yield();
      file.close();
      // Whoever gets the number now must not be read from.
      File other = File::open(in / "other", kReadWrite);
      other.write_all("something else, longer");
      readers.join();
      EXPECT_EQ(right, 20U);
    }
  });
}

TEST_F(FileTest, WhoWaitsForTheCursorIsToldOfTheEnd) {
  in_directory([](const fs::TemporaryDirectory& in) {
    File file = File::open(in / "f", kReadWrite);
    std::vector<std::error_code> errors(8);
    Scope writers;
    const std::string block(std::size_t{512} * 1024, 'x');
    for (std::error_code& error : errors) {
      writers.spawn([&] { file.write_all(bytes_of(block), error); });
    }
    yield();
    file.close();
    writers.join();
    for (const std::error_code& error : errors) {
      EXPECT_TRUE(!error || error == std::errc::bad_file_descriptor) << error.message();
    }
    EXPECT_EQ(errors.back(), std::errc::bad_file_descriptor);
  });
}

TEST_F(FileTest, NoDescriptorIsLeftBehind) {
  const std::size_t before = test::open_fds();
  in_directory([](const fs::TemporaryDirectory& in) {
    std::error_code error;
    for (int i = 0; i < 100; ++i) {
      File file = File::open(in / ("f" + std::to_string(i)), kReadWrite);
      File moved = std::move(file);
      file = File::open(in / "none", error);
      EXPECT_TRUE(moved.is_open());
      EXPECT_FALSE(file.is_open());
    }
  });
  EXPECT_EQ(test::open_fds(), before);
}

TEST_F(FileTest, ADescriptorIsAdoptedAndReleased) {
  if (sim_chosen()) {
    GTEST_SKIP() << "descriptors from elsewhere are the system's";
  }
  in_directory([](const fs::TemporaryDirectory& in) {
    fs::write_file(in / "f", "0123456789");
    File file = File::adopt(Fd(::open((in / "f").c_str(), O_RDWR | O_CLOEXEC)));
    std::string text(4, '\0');
    file.read_exactly(room_in(text));
    const Fd fd = file.release();
    EXPECT_FALSE(file.is_open());
    EXPECT_EQ(::lseek(fd.get(), 0, SEEK_CUR), 4) << "the cursor is the open file's";
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
    Fd reader(pipe[0]);
    const Fd writer(pipe[1]);
    std::error_code error;
    EXPECT_FALSE(File::adopt(std::move(reader), error).is_open());
    EXPECT_EQ(error, std::errc::not_supported);
    EXPECT_TRUE(reader) << "it stays the caller's";  // NOLINT(bugprone-use-after-move)
    EXPECT_FALSE(File::adopt(Fd(), error).is_open());
    EXPECT_EQ(error, std::errc::bad_file_descriptor);
  });
}

// --- Cancellation
// -----------------------------------------------------------------------------------------------------

TEST_F(FileTest, TheCancelledBeginNothing) {
  in_directory([](const fs::TemporaryDirectory& in) {
    File file = File::open(in / "f", kReadWrite);
    Scope scope;
    std::error_code error;
    bool thrown = false;
    Fiber<void> fiber = scope.spawn([&] {
      try {
        sleep_for(1h);
      } catch (const Cancelled&) {
      }
      file.write_all(bytes_of("no"), error);
      try {
        file.sync();
      } catch (const Cancelled&) {
        thrown = true;
      }
      File::open(in / "g", kReadWrite, error).close();
    });
    yield();
    fiber.cancel();
    scope.join();
    EXPECT_EQ(error, std::errc::operation_canceled);
    EXPECT_TRUE(thrown);
    EXPECT_EQ(file.size(), 0U);
    EXPECT_FALSE(fs::exists(in / "g"));
  });
}

/// Cancels in every moment that there is between the fiber's turns. What was done is told, what was not is not.
TEST_F(FileTest, CancelledAtEveryPoint) {
  in_directory([](const fs::TemporaryDirectory& in) {
    const std::string block(std::size_t{100} * 1024, 'b');
    for (int turns = 0; turns < 60; ++turns) {
      Scope scope;
      std::size_t written = 0;
      Fiber<void> fiber = scope.spawn([&] {
        std::error_code error;
        File file = File::open(in / "f", {.read = true, .write = true, .create = true, .truncate = true}, error);
        if (error) return;
        while (!error) {
          written += file.write_all(bytes_of(block), error);
          std::string back(block.size(), '\0');
          if (!error) file.read_at(room_in(back), 0, error);
          if (!error) file.data_sync(error);
          if (!error) static_cast<void>(file.status(error));
        }
        EXPECT_EQ(error, std::errc::operation_canceled);
      });
      for (int i = 0; i < turns; ++i) yield();
      fiber.cancel();
      scope.join();
      std::error_code error;
      const FileStatus status = fs::status(in / "f", error);
      if (error) continue;  // cancelled before it was made
      EXPECT_EQ(status.size, written);
      fs::remove(in / "f");
    }
  });
}

TEST_F(FileTest, ATimeLimitEndsAWaitForALock) {
  in_directory([](const fs::TemporaryDirectory& in) {
    File holder = File::open(in / "f", kReadWrite);
    File other = File::open(in / "f", kReadWrite);
    holder.lock();
    EXPECT_THROW(with_timeout(20ms, [&] { other.lock(); }), TimedOut);
    holder.unlock();
    other.lock();
    other.unlock();
  });
}

// --- Locks
// ------------------------------------------------------------------------------------------------------------

TEST_F(FileTest, LocksExcludeOtherOpenings) {
  in_directory([](const fs::TemporaryDirectory& in) {
    File a = File::open(in / "f", kReadWrite);
    File b = File::open(in / "f", kReadWrite);
    {
      const std::unique_lock lock(a);
      EXPECT_FALSE(b.try_lock());
      EXPECT_FALSE(b.try_lock_shared());
    }
    {
      const std::shared_lock lock(a);
      EXPECT_TRUE(b.try_lock_shared());
      b.unlock_shared();
      EXPECT_FALSE(b.try_lock());
    }
    EXPECT_TRUE(b.try_lock());
    b.close();
    EXPECT_TRUE(a.try_lock()) << "closing unlocks";
  });
}

TEST_F(FileTest, AWaiterGetsTheLockWhenItIsFree) {
  in_directory([](const fs::TemporaryDirectory& in) {
    int inside = 0;
    int most = 0;
    Scope scope;
    for (int i = 0; i < 5; ++i) {
      scope.spawn([&] {
        File file = File::open(in / "f", kReadWrite);
        const std::unique_lock lock(file);
        most = std::max(most, ++inside);
        sleep_for(2ms);
        --inside;
      });
    }
    scope.join();
    EXPECT_EQ(most, 1);
  });
}

// --- What may keep waiting
// --------------------------------------------------------------------------------------------

struct FifoTest : FileTest {
  template <class Body>
  static void with_fifo(Body&& body) {
    in_directory([&](const fs::TemporaryDirectory& in) {
      if (on_sim()) GTEST_SKIP() << "FIFOs are the system's";
      const std::string path = in / "fifo";
      ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
      body(path);
    });
  }
};

TEST_F(FifoTest, ReaderAndWriterMeet) {
  with_fifo([](const std::string& path) {
    Scope scope;
    std::string got(64, '\0');
    scope.spawn([&] {
      File reader = File::open(path);
      got.resize(reader.read(room_in(got)));
      std::string more(4, '\0');
      EXPECT_EQ(reader.read(room_in(more)), 0U) << "the writer has gone";
    });
    scope.spawn([&] {
      for (int i = 0; i < 3; ++i) yield();
      File writer = File::open(path, {.write = true});
      writer.write_all("through");
    });
    scope.join();
    EXPECT_EQ(got, "through");
  });
}

TEST_F(FifoTest, AWriterWaitsForAReader) {
  with_fifo([](const std::string& path) {
    EXPECT_THROW(with_timeout(10ms, [&] { File::open(path, {.write = true}).close(); }), TimedOut);
    Scope scope;
    scope.spawn([&] { File::open(path, {.write = true}).write_all("x"); });
    sleep_for(5ms);
    File reader = File::open(path);
    std::string got(4, '\0');
    EXPECT_EQ(reader.read(room_in(got)), 1U);
    scope.join();
  });
}

TEST_F(FifoTest, WaitsEndByCancellationAndByClosing) {
  with_fifo([](const std::string& path) {
    File reader = File::open(path);
    std::string got(4, '\0');
    EXPECT_THROW(with_timeout(10ms, [&] { reader.read(room_in(got)); }), TimedOut);
    Scope scope;
    std::error_code error;
    scope.spawn([&] { reader.read(room_in(got), error); });
    yield();
    reader.close();
    scope.join();
    EXPECT_EQ(error, std::errc::bad_file_descriptor);
  });
}

TEST_F(FifoTest, WritingToNobodyIsAnErrorAndNoSignal) {
  with_fifo([](const std::string& path) {
    File reader = File::open(path);
    File writer = File::open(path, {.write = true});
    reader.close();
    std::error_code error;
    writer.write(bytes_of("x"), error);
    EXPECT_EQ(error, std::errc::broken_pipe);
  });
}

TEST_F(FifoTest, AFullFifoWaitsForRoom) {
  with_fifo([](const std::string& path) {
    File reader = File::open(path);
    File writer = File::open(path, {.write = true});
    const std::string much(std::size_t{300} * 1024, 'm');
    std::string got(much.size(), '\0');
    Scope scope;
    scope.spawn([&] { EXPECT_EQ(writer.write_all(much), much.size()); });
    EXPECT_EQ(reader.read_exactly(room_in(got)), much.size());
    EXPECT_TRUE(got == much);
    scope.join();
  });
}

TEST_F(FifoTest, WhatNeverWaitsLetsOthersRun) {
  with_fifo([](const std::string& path) {
    File reader = File::open(path);
    File writer = File::open(path, {.write = true});
    writer.write_all(std::string(std::size_t{32} * 1024, 'm'));
    Scope scope;
    bool ran = false;
    scope.spawn([&] { ran = true; });
    std::string got(1, '\0');
    for (int i = 0; i < 32 * 1024; ++i) reader.read(room_in(got));
    EXPECT_TRUE(ran);
    scope.join();
  });
}

// --- Misuse
// -----------------------------------------------------------------------------------------------------------

TEST(FileMisuse, AFileMustNotOutliveItsLoop) {
  if (test::thread_sanitized) GTEST_SKIP() << "ThreadSanitizer lets no forked child start threads";
  test::expect_abort("outside its loop", [] {
    File file;
    RunOptions options;
    options.stop_on_signals = false;
    std::thread([&] { run(options, [&] { file = File::open("/"); }); }).join();
    std::thread([&] { file = File(); }).join();
  });
}

}  // namespace
}  // namespace bight
