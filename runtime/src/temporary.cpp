// SPDX-License-Identifier: Apache-2.0
#include <bight/temporary.hpp>

#include <sys/random.h>

#include <cstdint>
#include <cstdlib>

#include <bight/deadline.hpp>
#include <bight/directory.hpp>
#include <bight/filesystem.hpp>

#include "loop.hpp"
#include "path_call.hpp"

namespace bight {

std::string detail::random_name() {
  constexpr std::string_view kDigits = "abcdefghijklmnopqrstuvwxyz0123456789";
  Loop& loop = Loop::require();
  std::uint64_t number = loop.random();
  // A simulated world is to repeat itself; elsewhere nobody should guess.
  std::uint64_t more = 0;
  if (!loop.engine_is_virtual() && ::getrandom(&more, sizeof more, GRND_NONBLOCK) == sizeof more) number ^= more;
  std::string name;
  for (int i = 0; i < 12; ++i, number /= kDigits.size()) name += kDigits[number % kDigits.size()];
  return name;
}

namespace fs {
namespace {

std::string new_name(const std::string& parent, const std::string& prefix) {
  return parent + '/' + prefix + detail::random_name();
}

}  // namespace

std::string temporary_directory_path() {
  const char* named = std::getenv("TMPDIR");  // NOLINT(concurrency-mt-unsafe): never set by us
  return named != nullptr && *named != '\0' ? named : "/tmp";
}

TemporaryDirectory::TemporaryDirectory(const std::string& prefix, const std::string& parent, std::error_code& error) {
  bool made = false;
  std::string path;
  do {
    path = new_name(parent, prefix);
    made = create_directory(path, 0700, error);
  } while (!made && (!error || error == std::errc::file_exists));
  if (made) path_ = std::move(path);
}

TemporaryDirectory::TemporaryDirectory(const std::string& prefix, const std::string& parent) {
  std::error_code error;
  *this = TemporaryDirectory(prefix, parent, error);
  if (error) bight::detail::throw_error(error, "make a temporary directory in " + parent);
}

TemporaryDirectory::~TemporaryDirectory() {
  if (path_.empty()) return;
  std::error_code unheeded;
  remove(unheeded);
}

void TemporaryDirectory::remove(std::error_code& error) {
  error.clear();
  if (path_.empty()) return;
  const Shield shield;
  remove_all(path_, error);
  path_.clear();
}

void TemporaryDirectory::remove() {
  const std::string name = path_;
  bight::detail::or_throw([&] { return "remove " + name; }, [&](std::error_code& error) { remove(error); });
}

TemporaryFile::TemporaryFile(const std::string& prefix, const std::string& parent, std::error_code& error) {
  std::string path;
  do {
    path = new_name(parent, prefix);
    file_ = File::open(path, {.read = true, .write = true, .exclusive = true, .mode = 0600}, error);
  } while (error == std::errc::file_exists);
  if (!error) path_ = std::move(path);
}

TemporaryFile::TemporaryFile(const std::string& prefix, const std::string& parent) {
  std::error_code error;
  *this = TemporaryFile(prefix, parent, error);
  if (error) bight::detail::throw_error(error, "make a temporary file in " + parent);
}

TemporaryFile::~TemporaryFile() {
  if (path_.empty()) return;
  const Shield shield;
  std::error_code unheeded;
  remove(path_, unheeded);
}

}  // namespace fs
}  // namespace bight
