// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the fragments in the documents take for granted: see check_documents() in install_test.py.

#include <csignal>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <mutex>
#include <optional>
#include <queue>
#include <shared_mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <bight/barrier.hpp>
#include <bight/call_on.hpp>
#include <bight/channel.hpp>
#include <bight/command.hpp>
#include <bight/condition.hpp>
#include <bight/copy.hpp>
#include <bight/deadline.hpp>
#include <bight/directory.hpp>
#include <bight/event.hpp>
#include <bight/fiber.hpp>
#include <bight/fiber_local.hpp>
#include <bight/file.hpp>
#include <bight/file_watch.hpp>
#include <bight/filesystem.hpp>
#include <bight/future.hpp>
#include <bight/generator.hpp>
#include <bight/group.hpp>
#include <bight/latch.hpp>
#include <bight/line_reader.hpp>
#include <bight/manager.hpp>
#include <bight/mutex.hpp>
#include <bight/net/dial.hpp>
#include <bight/net/tcp.hpp>
#include <bight/offload.hpp>
#include <bight/once.hpp>
#include <bight/pool.hpp>
#include <bight/process.hpp>
#include <bight/process_pool.hpp>
#include <bight/queue.hpp>
#include <bight/remote.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/select.hpp>
#include <bight/semaphore.hpp>
#include <bight/shared_mutex.hpp>
#include <bight/signal.hpp>
#include <bight/subprocess.hpp>
#include <bight/testing.hpp>
#include <bight/time.hpp>
#include <bight/wait_any.hpp>
#include <bight/wait_group.hpp>

using namespace std::chrono_literals;  // NOLINT(google-global-names-in-headers)

struct Feed {};
void feed(Feed& queue);
void drain(Feed& queue);
std::string fetch(const std::string& url);
void warm_up();

inline Feed queue;
inline const std::string url;
inline const std::string mirror;
inline std::vector<std::string> urls;

struct Job {
  std::string text;
};
void run(const Job& job);
void use(const std::string& text);
void count_failure();

int work(int what);
std::string query(int what);
void left();
void right();

struct Row {};
void crunch(const Row& row);
int serve_reports();
std::vector<int> rows_of_table();
void count(int what);
inline std::vector<Row> rows;

void converse(bight::net::TcpStream& peer);
void consume(const bight::Chunk& data);
void note(const char* text);

extern bight::Scope& scope;
inline bight::net::TcpStream peer;
inline bight::Mutex mutex;
inline bight::Channel<Job> jobs;
inline std::vector<Job> unfinished;
inline bight::Condition condition;
inline std::queue<Job> todo;
inline bight::Queue<Job> work_to_do;
inline bight::Event ready;
inline bight::Event stop;
inline bool done = false;
inline bight::Fiber<> pump;
inline const bight::Remote other_loop;
inline long balance = 0;
inline long from = 0;
inline long to = 0;
inline long amount = 0;
