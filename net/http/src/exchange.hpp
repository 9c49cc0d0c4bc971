// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include <bight/http/message.hpp>
#include <bight/http/server.hpp>

#include "answer.hpp"
#include "parser.hpp"

namespace bight::http::detail {

/// What a connection needs while requests are under way, and only then: one that waits for its next request holds none
/// of this.
struct Exchange {
  explicit Exchange(const Limits& limits) noexcept : parser(limits, request) {}
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  Request request;
  Parser parser;
  std::vector<char> held;  // a request that did not come in one piece
  Output out;
};

/// The exchanges of a server that nobody uses now, with their memory, the one used last on top.
class ExchangePool {
 public:
  explicit ExchangePool(const Limits& limits) noexcept : limits_(limits) {}

  /// An exchange for as long as it lives.
  class Lease {
   public:
    explicit Lease(ExchangePool& pool) : pool_(pool), exchange_(pool.take()) {}
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() { pool_.give_back(std::move(exchange_)); }
    [[nodiscard]] Exchange& operator*() const noexcept { return *exchange_; }

   private:
    ExchangePool& pool_;
    std::unique_ptr<Exchange> exchange_;
  };

 private:
  static constexpr std::size_t kKept = 4096;
  static constexpr std::size_t kKeptWhole = 256;        // the rest of them, which few servers ever have, keep less
  static constexpr std::size_t kBytesKept = 16 * 1024;  // by each, for each direction
  static constexpr std::size_t kLessBytesKept = 1024;

  std::unique_ptr<Exchange> take() {
    if (free_.empty()) {
      if (free_.capacity() == 0) free_.reserve(kKept);  // so that give_back can not fail
      return std::make_unique<Exchange>(limits_);
    }
    std::unique_ptr<Exchange> exchange = std::move(free_.back());
    free_.pop_back();
    return exchange;
  }

  void give_back(std::unique_ptr<Exchange> exchange) noexcept {
    if (free_.size() == kKept) return;
    const std::size_t bytes = free_.size() < kKeptWhole ? kBytesKept : kLessBytesKept;
    exchange->held.clear();
    if (exchange->held.capacity() > bytes) std::vector<char>().swap(exchange->held);
    exchange->out.trim(bytes);
    free_.push_back(std::move(exchange));
  }

  const Limits& limits_;
  std::vector<std::unique_ptr<Exchange>> free_;
};

}  // namespace bight::http::detail
