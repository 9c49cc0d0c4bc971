// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <thread>
#include <utility>

#include "on_loop.hpp"

namespace bight::test {

/// A loop in a thread of its own that runs `body`, as on_loop() does. Its end waits for the loop's, so it does not
/// belong inside a loop that the other one waits for.
class LoopThread {
 public:
  template <class Body>
  explicit LoopThread(Body body) : thread_([body = std::move(body)]() mutable { on_loop(body); }) {}
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;
  ~LoopThread() { thread_.join(); }

 private:
  std::thread thread_;
};

}  // namespace bight::test
