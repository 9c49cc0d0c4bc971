// SPDX-License-Identifier: Apache-2.0
// tail -F: prints the last lines of files, and then what is added to them, until interrupted. A file that is renamed
// and made anew, as log rotation does, or cut short, is followed as well: its directory is watched.

#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <system_error>
#include <vector>

#include <bight/bight.hpp>

namespace {

/// The bytes that were there when it was opened begin to be of interest here: the last `wanted` lines.
std::uint64_t start_of_last_lines(bight::File& file, int wanted) {
  std::vector<std::byte> block(std::size_t{16} * 1024);
  std::uint64_t at = file.size();
  bool last = true;  // the byte at the very end does not begin a line
  while (at > 0) {
    const std::uint64_t from = at > block.size() ? at - block.size() : 0;
    const auto part = std::span(block).first(static_cast<std::size_t>(at - from));
    file.read_exactly_at(part, from);
    for (std::size_t i = part.size(); i-- > 0; last = false) {
      if (part[i] == std::byte{'\n'} && !last && --wanted == 0) return from + i + 1;
    }
    at = from;
  }
  return 0;
}

class Follower {
 public:
  Follower(std::string path, std::string label) : path_(std::move(path)), label_(std::move(label)) {}

  void open(int lines) {
    std::error_code error;
    file_ = bight::File::open(path_, error);
    if (error) return;  // it may come yet
    identity_ = file_.status();
    file_.seek(static_cast<std::int64_t>(lines >= 0 ? start_of_last_lines(file_, lines) : 0));
    lines_.emplace(file_, bight::LineReaderOptions{.partial_at_end = false});
    print();
  }

  void follow() {
    const std::size_t slash = path_.find_last_of('/');
    bight::FileWatch watch;
    watch.add(slash == std::string::npos ? "." : path_.substr(0, slash + 1));
    for (open(10);;) {
      static_cast<void>(watch.next());
      while (watch.try_next()) {  // whatever it was, one look will do
      }
      look();
    }
  }

 private:
  void look() {
    if (file_) {
      print();
      if (file_.size() < file_.tell()) open(-1);  // cut short
    }
    std::error_code error;
    const bight::FileStatus now = bight::fs::status(path_, error);
    if (!error && (!file_ || !now.same_file(identity_))) open(-1);
  }

  void print() {
    while (const auto line = lines_->next()) {
      std::printf("%s%.*s\n", label_.c_str(), static_cast<int>(line->size()), line->data());
    }
    std::fflush(stdout);
  }

  std::string path_;
  std::string label_;
  bight::File file_;
  bight::FileStatus identity_;
  std::optional<bight::LineReader<bight::File>> lines_;
};

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::fprintf(stderr, "usage: tail FILE...\n");
    return 2;
  }
  return bight::run([&] {
    bight::Scope followers;
    for (int i = 1; i < argc; ++i) {
      const std::string path = argv[i];
      followers.spawn([path, label = argc > 2 ? path + ": " : std::string()] { Follower(path, label).follow(); });
    }
    followers.join();
    return 0;
  });
} catch (const std::exception& error) {
  std::fprintf(stderr, "tail: %s\n", error.what());
  return 1;
}
