// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "command.hpp"

namespace redis {

/// Several requests that are sent in one piece, with nobody else's in between, and answered together.
///
///     redis::Pipeline pipeline;
///     pipeline.add("SET", "a", 1).add("INCR", "a");
///     std::vector<redis::Value> replies = connection.call(pipeline);
class Pipeline {
 public:
  Pipeline& add(const Command& command) {
    command.append_to(requests_);
    ++size_;
    blocking_ = blocking_ || command.is_blocking();
    if (command.effect() > effect_) effect_ = command.effect();
    return *this;
  }
  template <class... Args>
  Pipeline& add(std::string_view name, const Args&... args) {
    return add(Command(name, args...));
  }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  void clear() { *this = Pipeline(); }

  [[nodiscard]] const std::string& requests() const noexcept { return requests_; }
  [[nodiscard]] bool is_blocking() const noexcept { return blocking_; }
  [[nodiscard]] Effect effect() const noexcept { return effect_; }  ///< the strongest of all

 private:
  std::string requests_;
  std::size_t size_ = 0;
  bool blocking_ = false;
  Effect effect_ = Effect::none;
};

/// MULTI, the requests, EXEC: all are done, one after the other with nobody else's in between, or none is.
class Transaction {
 public:
  Transaction() { pipeline_.add("MULTI"); }
  Transaction& add(const Command& command) {
    pipeline_.add(command);
    return *this;
  }
  template <class... Args>
  Transaction& add(std::string_view name, const Args&... args) {
    return add(Command(name, args...));
  }

  [[nodiscard]] std::size_t size() const noexcept { return pipeline_.size() - 1; }
  [[nodiscard]] const Pipeline& pipeline() const noexcept { return pipeline_; }

 private:
  Pipeline pipeline_;
};

}  // namespace redis
