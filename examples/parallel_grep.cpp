// SPDX-License-Identifier: Apache-2.0
// Looks for a text in all files below some directories, several files at a time. One fiber walks, others read; a queue
// of bounded length between them keeps the walk from running far ahead.

#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <system_error>

#include <bight/bight.hpp>

namespace {

constexpr int kReaders = 32;

struct Found {
  std::size_t lines = 0;
  std::size_t files = 0;
  std::size_t unreadable = 0;
};

void search(const std::string& path, std::string_view wanted, Found& found) {
  std::error_code error;
  bight::File file = bight::File::open(path, {.no_follow = true}, error);
  if (!error) {
    bool any = false;
    std::size_t number = 0;
    bight::LineReader lines(file);
    while (const auto line = lines.next(error)) {
      ++number;
      if (line->find('\0') != std::string_view::npos) break;  // no text
      if (line->find(wanted) == std::string_view::npos) continue;
      std::printf("%s:%zu:%.*s\n", path.c_str(), number, static_cast<int>(line->size()), line->data());
      ++found.lines;
      any = true;
    }
    found.files += any ? 1 : 0;
    if (error == std::errc::message_size) error.clear();  // no text either
  }
  if (error == std::errc::operation_canceled) throw bight::Cancelled{};
  if (error) {
    std::fprintf(stderr, "%s: %s\n", path.c_str(), error.message().c_str());
    ++found.unreadable;
  }
}

Found grep(std::string_view wanted, std::span<char*> places) {
  Found found;
  bight::Channel<std::string> paths(64);
  bight::Scope scope;
  for (int i = 0; i < kReaders; ++i) {
    scope.spawn([&] {
      while (const std::optional<std::string> path = paths.receive()) search(*path, wanted, found);
    });
  }
  for (const std::string place : places) {
    if (bight::fs::status(place).is_regular()) paths.send(place);
    const bight::fs::WalkOptions options{.on_error = [&](const std::string& path, std::error_code error) {
      std::fprintf(stderr, "%s: %s\n", path.c_str(), error.message().c_str());
      ++found.unreadable;
    }};
    if (!bight::fs::status(place).is_directory()) continue;
    for (const bight::fs::WalkEntry& entry : bight::fs::Walker(place, options)) {
      if (entry.type == bight::FileType::regular) paths.send(entry.path);
    }
  }
  paths.close();
  scope.join();
  return found;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::fprintf(stderr, "usage: parallel_grep TEXT PLACE...\n");
    return 2;
  }
  const Found found = bight::run([&] { return grep(argv[1], {argv + 2, argv + argc}); });
  std::printf("%zu lines in %zu files\n", found.lines, found.files);
  return found.unreadable != 0 ? 2 : found.lines != 0 ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "parallel_grep: %s\n", error.what());
  return 2;
}
