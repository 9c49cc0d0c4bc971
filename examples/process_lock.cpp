// SPDX-License-Identifier: Apache-2.0
// Processes that print one after the other, and count in shared memory, under one lock. One of them dies holding it:
// the next one is told, and mends what was left half done.

#include <csignal>
#include <cstdio>
#include <list>
#include <mutex>

#include <bight/fiber.hpp>
#include <bight/process.hpp>
#include <bight/process_lock.hpp>
#include <bight/run.hpp>
#include <bight/shared_memory.hpp>

namespace {

struct Account {
  int deposits;
  int balance;
};

}  // namespace

int main() {
  return bight::run([] {
    bight::ProcessLock lock;
    const bight::SharedMemory memory(sizeof(Account));
    auto& account = memory.as<Account>();

    std::list<bight::Process> processes;
    for (int number = 1; number <= 4; ++number) {
      processes.emplace_back([&lock, &account, number] {
        for (int i = 0; i < 100; ++i) {
          const std::lock_guard guard(lock);
          ++account.deposits;
          bight::yield();
          account.balance += 10;
        }
        const std::lock_guard guard(lock);
        std::printf("process %d", number);
        std::fflush(stdout);  // in two parts, which the lock keeps together
        std::printf(" is done\n");
        std::fflush(stdout);
      });
    }
    for (bight::Process& each : processes) each.join();
    std::printf("%d deposits, balance %d\n", account.deposits, account.balance);
    std::fflush(stdout);

    bight::Process robber([&] {
      lock.lock();
      ++account.deposits;
      std::raise(SIGKILL);
    });
    robber.join();
    try {
      lock.lock();
    } catch (const bight::OwnerDied& died) {
      std::printf("the owner has died: %s\n", died.owner() == robber.pid() ? "it was the robber" : "who was it?");
    }
    lock.lock_or_repair([&] { account.balance = account.deposits * 10; });
    std::printf("%d deposits, balance %d\n", account.deposits, account.balance);
    lock.unlock();
  });
}
