// SPDX-License-Identifier: Apache-2.0
#include "pool.hpp"

#include <algorithm>
#include <exception>
#include <new>
#include <string>

#include <bight/check.hpp>
#include <bight/deadline.hpp>
#include <bight/error.hpp>

namespace redis {

Pool::Pool(Endpoint endpoint, const PoolOptions& options)
    : endpoint_(std::move(endpoint)),
      options_(options),
      permits_(static_cast<std::ptrdiff_t>(std::max<std::size_t>(1, options.connections_max))) {
  idle_.reserve(options_.connections_max);
}

Pool::~Pool() {
  BIGHT_CHECK(stats().in_use == 0, "a redis::Pool ends while its connections are in use");
  if (janitor_ && bight::this_fiber::exists()) {
    const bight::Shield shield;
    janitor_.cancel();
    janitor_.join();
  }
  close_idle();
}

void Pool::close_idle() noexcept {
  while (!idle_.empty()) {
    const Idle last = std::move(idle_.back());  // to close it waits for a moment, in which others may come
    idle_.pop_back();
  }
}

PoolStats Pool::stats() const noexcept {
  PoolStats now = stats_;
  now.idle = idle_.size();
  return now;
}

Pool::Lease Pool::acquire() {
  if (options_.acquire_timeout == bight::Duration::zero()) {
    permits_.acquire();
  } else if (!permits_.try_acquire_for(options_.acquire_timeout)) {
    throw std::system_error(std::make_error_code(std::errc::timed_out),
                            "redis " + endpoint_.to_string() + ": none of " + std::to_string(options_.connections_max) +
                                " connections has become free");
  }
  ++stats_.in_use;
  try {
    auto connection = take_idle();
    if (connection == nullptr) connection = open();
    return Lease(*this, std::move(connection));
  } catch (...) {
    --stats_.in_use;
    permits_.release();
    throw;
  }
}

std::unique_ptr<Connection> Pool::take_idle() {
  while (!idle_.empty()) {
    Idle last = std::move(idle_.back());
    idle_.pop_back();
    const bight::Duration unused = bight::now() - last.since;
    if (unused >= options_.idle_max) {
      ++stats_.expired;
    } else if (last.connection->alive() && (unused < options_.check_after || answers(*last.connection))) {
      return std::move(last.connection);
    } else {
      ++stats_.dropped;
    }
  }
  return nullptr;
}

bool Pool::answers(Connection& connection) const {
  try {
    return bight::move_on_after(options_.check_timeout, [&] { connection.call("PING"); });
  } catch (const std::exception&) {
    return false;
  }
}

std::unique_ptr<Connection> Pool::open() {
  bight::Duration pause = options_.retry_pause;
  for (unsigned tried = 1;; ++tried) {
    try {
      auto connection = std::make_unique<Connection>(endpoint_, options_.connection);
      ++stats_.opened;
      return connection;
    } catch (const std::system_error&) {  // a ServerError (WRONGPASS) will not be different the next time
      if (tried >= options_.tries) throw;
    }
    bight::sleep_for(pause);
    pause *= 2;
  }
}

void Pool::give_back(std::unique_ptr<Connection> connection) noexcept {
  if (!connection->alive() || connection->unanswered() > 0 || connection->altered()) {
    ++stats_.dropped;
    connection.reset();  // which waits for a moment
  } else {
    idle_.push_back({std::move(connection), bight::now()});  // there is room for all
    try {
      if (!janitor_ || janitor_.done()) {
        janitor_ = bight::spawn({.name = "redis pool", .daemon = true}, [this] { expire_idle(); });
      }
    } catch (const std::exception&) {  // no fiber to be had: then acquire() finds what is too old
    }
  }
  --stats_.in_use;
  permits_.release();
}

void Pool::expire_idle() {
  while (!idle_.empty()) {
    bight::sleep_until(idle_.front().since + options_.idle_max);
    while (!idle_.empty() && bight::now() - idle_.front().since >= options_.idle_max) {
      Idle first = std::move(idle_.front());
      idle_.erase(idle_.begin());
      ++stats_.expired;
    }
  }
}

template <class Call>
auto Pool::retrying(bool idempotent, const Call& call) {
  for (unsigned tried = 1;; ++tried) {
    Lease lease = acquire();
    try {
      return call(*lease);
    } catch (const ConnectionLost& lost) {
      if (tried >= options_.tries || (lost.maybe_executed() && !idempotent)) throw;
    }
  }
}

Value Pool::call(const Command& command) {
  return retrying(command.is_idempotent(), [&](Connection& redis) { return redis.call(command); });
}

std::vector<Value> Pool::call(const Pipeline& pipeline) {
  return retrying(false, [&](Connection& redis) { return redis.call(pipeline); });
}

std::optional<std::vector<Value>> Pool::call(const Transaction& transaction) {
  return retrying(false, [&](Connection& redis) { return redis.call(transaction); });
}

}  // namespace redis
