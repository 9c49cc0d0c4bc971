// SPDX-License-Identifier: Apache-2.0
#pragma once

// PostgreSQL's own client library, libpq, in fibers: its non-blocking calls as they are, and a wait wherever they would
// have their caller wait. It is what one would write around any library of the kind.

#include <libpq-fe.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fd_watch.hpp>
#include <bight/fiber.hpp>
#include <bight/offload.hpp>
#include <bight/select.hpp>

namespace postgres {

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& what, std::string state = {})
      : std::runtime_error(what), state_(std::move(state)) {}
  /// SQLSTATE, five characters: "42601" is a syntax error. Empty: the connection's error, not the server's.
  [[nodiscard]] const std::string& state() const noexcept { return state_; }

 private:
  std::string state_;
};

/// Rows and columns of texts.
class Result {
 public:
  explicit Result(::PGresult* result) noexcept : result_(result) {}
  [[nodiscard]] int rows() const noexcept { return ::PQntuples(result_.get()); }
  [[nodiscard]] int columns() const noexcept { return ::PQnfields(result_.get()); }
  /// Of a null: empty.
  [[nodiscard]] std::string_view at(int row, int column) const noexcept {
    return {::PQgetvalue(result_.get(), row, column),
            static_cast<std::size_t>(::PQgetlength(result_.get(), row, column))};
  }
  [[nodiscard]] bool is_null(int row, int column) const noexcept {
    return ::PQgetisnull(result_.get(), row, column) != 0;
  }
  [[nodiscard]] ::ExecStatusType status() const noexcept { return ::PQresultStatus(result_.get()); }
  [[nodiscard]] ::PGresult* get() const noexcept { return result_.get(); }

 private:
  struct Clear {
    void operator()(::PGresult* result) const noexcept { ::PQclear(result); }
  };
  std::unique_ptr<::PGresult, Clear> result_;
};

struct Notification {
  std::string channel;
  std::string payload;
};

/// A connection, for one fiber at a time. What waits throws Error and Cancelled. A fiber that is cancelled within a
/// query has the server cancel it, too, and waits until it has, for a few seconds at most: then the connection can be
/// used again, or is closed.
class Connection {
 public:
  /// `info` is what libpq takes: "host=/run/postgresql dbname=shop", "postgresql://…". libpq looks names up by blocking
  /// calls: with a server on another machine, give it hostaddr=, which bight's Resolver finds.
  explicit Connection(const std::string& info) : connection_(::PQconnectStart(info.c_str())) {
    if (connection_ == nullptr) throw std::bad_alloc();
    for (auto state = PGRES_POLLING_WRITING; state != PGRES_POLLING_OK; state = ::PQconnectPoll(connection_.get())) {
      if (::PQstatus(connection_.get()) == CONNECTION_BAD || state == PGRES_POLLING_FAILED) fail("connect");
      // Another descriptor each time, perhaps: it tries one address after the other.
      if (state == PGRES_POLLING_READING) bight::wait_readable(::PQsocket(connection_.get()));
      if (state == PGRES_POLLING_WRITING) bight::wait_writable(::PQsocket(connection_.get()));
    }
    ::PQsetnonblocking(connection_.get(), 1);
    watch_.emplace(::PQsocket(connection_.get()));
  }

  /// One statement, with the values of $1, $2 and so on. What it results in; nothing to read if it has no rows.
  Result query(const std::string& sql, const std::vector<std::string>& values = {}) {
    return during_query([&] {
      send(sql, values);
      std::optional<Result> last;
      while (auto next = next_result()) {
        last = std::move(next);
        if (is_copy(last->status())) throw Error("postgres: a COPY is no query: " + sql);
      }
      if (!last) throw Error("postgres: an empty statement");
      return check(std::move(*last));
    });
  }

  /// COPY … TO STDOUT: calls `row` for each, as it comes, with its text.
  void copy_out(const std::string& sql, const std::function<void(std::string_view)>& row) {
    during_query([&] {
      send(sql, {});
      Result begun = check(next_result().value());
      if (begun.status() != PGRES_COPY_OUT) throw Error("postgres: no COPY … TO STDOUT: " + sql);
      for (;;) {
        char* text = nullptr;
        const int size = ::PQgetCopyData(connection_.get(), &text, 1);
        if (size == 0) {
          receive();
          continue;
        }
        if (size < 0) break;
        const std::unique_ptr<char, void (*)(void*)> owner(text, ::PQfreemem);
        row({text, static_cast<std::size_t>(size)});
      }
      while (auto next = next_result()) static_cast<void>(check(std::move(*next)));
    });
  }

  /// Waits for one, after query("LISTEN channel").
  Notification wait_for_notification() {
    check_usable();
    for (;;) {
      const std::unique_ptr<::PGnotify, void (*)(void*)> notify(::PQnotifies(connection_.get()), ::PQfreemem);
      if (notify != nullptr) return {notify->relname, notify->extra};
      receive();
    }
  }

  [[nodiscard]] bool alive() const noexcept { return watch_ && ::PQstatus(connection_.get()) == CONNECTION_OK; }

 private:
  static constexpr auto kCancelMax = std::chrono::seconds(5);

  /// A query that is left half-way would have its results read as the next one's.
  template <class Body>
  std::invoke_result_t<const Body&> during_query(const Body& body) {
    check_usable();
    try {
      return body();
    } catch (...) {
      if (::PQtransactionStatus(connection_.get()) == PQTRANS_ACTIVE) cancel_query();
      throw;
    }
  }

  void check_usable() const {
    if (!watch_) throw Error("postgres: the connection has been given up");
  }

  void send(const std::string& sql, const std::vector<std::string>& values) {
    std::vector<const char*> texts;
    for (const std::string& value : values) texts.push_back(value.c_str());
    const int count = static_cast<int>(texts.size());
    if (::PQsendQueryParams(connection_.get(), sql.c_str(), count, nullptr, texts.data(), nullptr, nullptr, 0) == 0) {
      fail("send");
    }
    flush();
  }

  void flush() {
    // What does not fit waits until the server takes it; it may want to be read from before it does.
    for (int left = ::PQflush(connection_.get()); left != 0; left = ::PQflush(connection_.get())) {
      if (left < 0) fail("send");
      bool readable = false;
      bight::select(watch_->on_readable([&] { readable = true; }), watch_->on_writable([] {}));
      if (readable && ::PQconsumeInput(connection_.get()) == 0) fail("receive");
    }
  }

  void receive() {
    watch_->wait_readable();
    if (::PQconsumeInput(connection_.get()) == 0) fail("receive");
  }

  std::optional<Result> next_result() {
    while (::PQisBusy(connection_.get()) != 0) receive();
    ::PGresult* result = ::PQgetResult(connection_.get());
    if (result == nullptr) return std::nullopt;
    return Result(result);
  }

  Result check(Result result) {
    const ::ExecStatusType status = result.status();
    if (status != PGRES_FATAL_ERROR && status != PGRES_BAD_RESPONSE) return result;
    const char* state = ::PQresultErrorField(result.get(), PG_DIAG_SQLSTATE);
    const Error error(::PQresultErrorMessage(result.get()), state != nullptr ? state : "");
    while (::PQstatus(connection_.get()) == CONNECTION_OK && next_result()) {  // what belongs to the same query
    }
    throw error;
  }

  void cancel_query() noexcept {
    const bight::Shield shield;
    bool done = false;
    try {
      done = bight::move_on_after(kCancelMax, [&] {
        ask_to_cancel();
        while (const auto next = next_result()) end_copy(next->status());
      });
    } catch (const std::exception&) {  // the connection is lost anyway
    }
    if (!done) watch_.reset();
  }

  /// It connects to the server anew, and blocks until that has hung up: a thread's work. A fiber of its own waits for
  /// the thread, which nobody can call back.
  void ask_to_cancel() {
    const std::shared_ptr<::PGcancel> cancel(::PQgetCancel(connection_.get()), ::PQfreeCancel);
    if (cancel == nullptr) throw std::bad_alloc();
    const auto asking = bight::spawn({.name = "postgres cancel", .daemon = true}, [cancel] {
      try {
        bight::offload([&] {
          std::array<char, 256> why{};
          return ::PQcancel(cancel.get(), why.data(), static_cast<int>(why.size()));
        });
      } catch (const std::exception&) {  // no thread to be had: then the query ends by itself, or is given up
      }
    });
    asking.join();
  }

  static bool is_copy(::ExecStatusType status) {
    return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
  }

  /// For as long as a COPY goes on, libpq has no other result.
  void end_copy(::ExecStatusType status) {
    if (!is_copy(status)) return;
    if (status == PGRES_COPY_IN) {
      while (::PQputCopyEnd(connection_.get(), "given up") == 0) watch_->wait_writable();
      flush();
      return;
    }
    char* text = nullptr;
    for (int size = 0; (size = ::PQgetCopyData(connection_.get(), &text, 1)) >= 0;) {
      if (size == 0) receive();
      ::PQfreemem(std::exchange(text, nullptr));
    }
  }

  [[noreturn]] void fail(const char* attempt) const {
    throw Error("postgres: " + std::string(attempt) + ": " + ::PQerrorMessage(connection_.get()));
  }

  struct Finish {
    void operator()(::PGconn* connection) const noexcept { ::PQfinish(connection); }
  };
  std::unique_ptr<::PGconn, Finish> connection_;
  std::optional<bight::FdWatch> watch_;  // goes before the descriptor does
};

}  // namespace postgres
