// SPDX-License-Identifier: Apache-2.0
// Eight processes write a thousand lines each into one file, and no two lines are mixed: first with a lock around each
// line, then through a queue to a single writer. Each line is written in two parts, to make it worth a lock.
//
//     many_processes_one_file FILE

#include <cerrno>
#include <cstdio>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

#include <bight/fd.hpp>
#include <bight/process.hpp>
#include <bight/process_lock.hpp>
#include <bight/process_queue.hpp>
#include <bight/run.hpp>

namespace {

constexpr int kProcesses = 8;
constexpr int kLines = 1000;

void write_text(const bight::Fd& file, std::string_view text) {
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    throw std::system_error(errno, std::generic_category(), "write");
  }
}

std::string line_of(int process, int line) {
  return "process " + std::to_string(process) + ", line " + std::to_string(line) + "\n";
}

void in_two_parts(const bight::Fd& file, std::string_view line) {
  write_text(file, line.substr(0, 9));
  write_text(file, line.substr(9));
}

template <class Work>
bool in_processes(Work work) {
  std::list<bight::Process> processes;
  for (int number = 1; number <= kProcesses; ++number) {
    processes.emplace_back([&work, number] {
      for (int line = 1; line <= kLines; ++line) work(line_of(number, line));
    });
  }
  bool well = true;
  for (bight::Process& each : processes) {
    each.join();
    well = well && each.exit_code() == 0;
  }
  return well;
}

bool with_a_lock(const bight::Fd& file) {
  bight::ProcessLock lock;
  return in_processes([&](const std::string& line) {
    const std::lock_guard guard(lock);
    in_two_parts(file, line);
  });
}

bool with_one_writer(const bight::Fd& file) {
  bight::ProcessQueue<std::string> lines(100);
  bight::Process writer([&] {
    while (std::optional<std::string> line = lines.get()) in_two_parts(file, *line);
  });
  const bool well = in_processes([&](const std::string& line) { lines.put(line); });
  lines.close();
  writer.join();
  return well && writer.exit_code() == 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FILE\n", argv[0]);
    return 2;
  }
  const bight::Fd file(::open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644));
  if (!file) {
    std::perror(argv[1]);
    return 1;
  }
  return bight::run([&] {
    std::printf("with a lock: %s\n", with_a_lock(file) ? "done" : "failed");
    std::printf("with a single writer: %s\n", with_one_writer(file) ? "done" : "failed");
  });
}
