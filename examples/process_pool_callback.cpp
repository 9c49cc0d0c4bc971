// SPDX-License-Identifier: Apache-2.0
// Five worker processes do ten pieces of work. What each returns is handed to a callback, here in the parent.

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <set>
#include <stdexcept>
#include <vector>

#include <bight/process_pool.hpp>
#include <bight/run.hpp>
#include <bight/time.hpp>

using namespace std::chrono_literals;

namespace {

struct Work {
  int number;
  int square;
  pid_t done_by;
};

Work work(int number) {
  bight::sleep_for(20ms);  // it could as well compute: this process has its own processor time
  if (number == 7) throw std::runtime_error("seven is nobody's favourite");
  return {number, number * number, ::getpid()};
}

}  // namespace

int main() {
  return bight::run([] {
    bight::ProcessPool pool({.workers = 5});
    const pid_t parent = ::getpid();
    int sum = 0;
    int callbacks_elsewhere = 0;
    std::set<pid_t> workers;
    for (int number = 1; number <= 10; ++number) {
      pool.apply_async(bight::on_done(
                           [&](const Work& done) {
                             if (::getpid() != parent) ++callbacks_elsewhere;
                             sum += done.square;
                             workers.insert(done.done_by);
                           },
                           [](const std::exception_ptr& error) {
                             try {
                               std::rethrow_exception(error);
                             } catch (const bight::RemoteError& remote) {
                               std::printf("%s: %s\n", remote.type().c_str(), remote.what());
                             }
                           }),
                       work, number);
    }
    pool.close();  // no more; those there are will be done
    pool.join();
    bight::yield();  // and so will the last callbacks
    std::printf("the squares add up to %d\n", sum);
    std::printf("several processes have worked: %s\n", workers.size() > 1 && workers.count(parent) == 0 ? "yes" : "no");
    std::printf("callbacks in other processes: %d\n", callbacks_elsewhere);
  });
}
