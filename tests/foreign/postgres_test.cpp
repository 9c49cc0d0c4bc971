// SPDX-License-Identifier: Apache-2.0
// A client library that does its own non-blocking I/O, libpq, in fibers, against a real PostgreSQL: the wrapper that
// the examples show, and what it is to hold.
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/event.hpp>
#include <bight/fiber.hpp>
#include <bight/latch.hpp>
#include <bight/net/unix.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

#include "on_loop.hpp"
#include "postgres.hpp"
#include "postgres_server.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using postgres::Connection;
using test::on_loop;
using ::testing::HasSubstr;

/// One server for all of them: making one takes seconds.
class Postgres : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const char* engine = std::getenv("BIGHT_ENGINE");  // NOLINT(concurrency-mt-unsafe)
    if (engine == nullptr || std::string_view(engine) != "sim") server_ = std::make_unique<test::PostgresServer>();
  }
  static void TearDownTestSuite() { server_.reset(); }
  void SetUp() override {
    if (server_ == nullptr) GTEST_SKIP() << "real descriptors can not be waited on in a simulated world";
    if (server_->why_not() != nullptr) GTEST_SKIP() << server_->why_not();
    // It listens before it is ready, and says so to whoever is early.
    on_loop([] {
      for (int i = 0; i < 1000; ++i) {
        try {
          const Connection probe(info());
          return;
        } catch (const postgres::Error&) {
          sleep_for(10ms);
        }
      }
    });
  }
  static std::string info() { return server_->info(); }

 private:
  static std::unique_ptr<test::PostgresServer> server_;
};

std::unique_ptr<test::PostgresServer> Postgres::server_;

std::string one(Connection& connection, const std::string& sql, const std::vector<std::string>& values = {}) {
  return std::string(connection.query(sql, values).at(0, 0));
}

/// Waits until so many queries of others that contain `text` wait for something.
void wait_for_queries(Connection& connection, const std::string& text, int count) {
  while (one(connection,
             "select count(*) from pg_stat_activity where pid <> pg_backend_pid() and state = 'active' and "
             "wait_event is not null and query like $1",
             {"%" + text + "%"}) != std::to_string(count)) {
    sleep_for(5ms);
  }
}

std::string state_of(const std::function<void()>& query) {
  try {
    query();
  } catch (const postgres::Error& error) {
    return error.state();
  }
  return "none";
}

TEST_F(Postgres, AsksAndIsTold) {
  on_loop([] {
    Connection connection(info());
    EXPECT_EQ(one(connection, "select 6 * 7"), "42");
    EXPECT_EQ(one(connection, "select $1 || '!'", {"it's"}), "it's!");
    const postgres::Result rows = connection.query("select n, nullif(n, 2) from generate_series(1, 3) as n");
    EXPECT_EQ(rows.rows(), 3);
    EXPECT_EQ(rows.at(2, 1), "3");
    EXPECT_TRUE(rows.is_null(1, 1));
    EXPECT_EQ(connection.query("create temporary table t (n int)").rows(), 0);
  });
}

TEST_F(Postgres, ErrorsAreToldAndTheConnectionGoesOn) {
  on_loop([] {
    Connection connection(info());
    EXPECT_EQ(state_of([&] { connection.query("selekt 1"); }), "42601");
    EXPECT_EQ(state_of([&] { connection.query("select 1 / 0"); }), "22012");
    EXPECT_EQ(state_of([&] {
                connection.copy_out("copy (select 1 / (n - 5000) from generate_series(1, 9000) n) to stdout",
                                    [](std::string_view) {});
              }),
              "22012");
    EXPECT_EQ(one(connection, "select 1"), "1");
    try {
      Connection("host=/no/such/folder user=bight");
      ADD_FAILURE();
    } catch (const postgres::Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("No such file or directory"));
    }
  });
}

TEST_F(Postgres, ManyFibersWaitAtTheSameTime) {
  on_loop([] {
    constexpr int kFibers = 40;
    Connection gate(info());
    gate.query("select pg_advisory_lock(1)");
    Scope scope;
    for (int i = 0; i < kFibers; ++i) {
      scope
          .spawn([&] {
            Connection connection(info());
            connection.query("select pg_advisory_lock_shared(1)");
            connection.query("select pg_sleep(0.05)");
          })
          .detach();
    }
    wait_for_queries(gate, "pg_advisory_lock_shared(1)", kFibers);
    gate.query("select pg_advisory_unlock(1)");
    scope.join();
  });
}

TEST_F(Postgres, ACancelledFiberHasItsQueryCancelled) {
  on_loop([] {
    Connection other(info());
    Connection connection(info());
    auto sleeper = spawn([&] { connection.query("select pg_sleep(600)"); });
    wait_for_queries(other, "pg_sleep(600)", 1);
    sleeper.cancel();
    sleeper.join();
    EXPECT_EQ(sleeper.status(), FiberStatus::cancelled);
    wait_for_queries(other, "pg_sleep(600)", 0);
    EXPECT_TRUE(connection.alive());
    EXPECT_EQ(one(connection, "select 'still here'"), "still here");
    EXPECT_THROW(with_timeout(20ms, [&] { connection.query("select pg_sleep(600)"); }), TimedOut);
    EXPECT_EQ(one(connection, "select 1"), "1");
  });
}

TEST_F(Postgres, ACopyThatIsLeftIsCancelled) {
  on_loop([] {
    Connection connection(info());
    const std::string endless = "copy (select generate_series(1, 1000000000)) to stdout";
    std::size_t rows = 0;
    auto copier = spawn([&] { connection.copy_out(endless, [&](std::string_view) { ++rows; }); });
    while (rows < 1000) sleep_for(1ms);
    copier.cancel();
    copier.join();
    EXPECT_EQ(copier.status(), FiberStatus::cancelled);
    EXPECT_EQ(one(connection, "select 1"), "1");
    // Before the first row, and the other way round.
    const std::string late = "copy (select pg_sleep(600)) to stdout";
    EXPECT_FALSE(move_on_after(20ms, [&] { connection.copy_out(late, [](std::string_view) {}); }));
    connection.query("create temporary table t (n int)");
    EXPECT_THROW(connection.query("copy t from stdin"), postgres::Error);
    EXPECT_THROW(connection.query("copy t to stdout"), postgres::Error);
    EXPECT_EQ(one(connection, "select 1"), "1");
    const auto give_up = [](std::string_view) { throw std::runtime_error("enough"); };
    EXPECT_THROW(connection.copy_out(endless, give_up), std::runtime_error);
    EXPECT_EQ(one(connection, "select 2"), "2");
  });
}

TEST_F(Postgres, LargeResultsAreCopiedWhileOthersGoOn) {
  on_loop([] {
    bool done = false;
    int others = 0;
    auto other = spawn([&] {
      Connection connection(info());
      while (!done) {
        connection.query("select 1");
        ++others;
      }
    });
    Connection connection(info());
    std::size_t bytes = 0;
    long long sum = 0;
    connection.copy_out("copy (select n from generate_series(1, 500000) as n) to stdout", [&](std::string_view row) {
      bytes += row.size();
      sum += std::stoll(std::string(row));
    });
    done = true;
    other.join();
    EXPECT_EQ(sum, 125'000'250'000);
    EXPECT_EQ(bytes, 3'388'895U);
    EXPECT_GT(others, 0);
  });
}

TEST_F(Postgres, LargeQuestionsWaitUntilTheServerTakesThem) {
  on_loop([] {
    Connection connection(info());
    const std::string large(20'000'000, 'x');
    EXPECT_EQ(one(connection, "select length($1)", {large}), "20000000");
    EXPECT_EQ(connection.query("select repeat('y', 20000000)").at(0, 0).size(), 20'000'000U);
  });
}

TEST_F(Postgres, NotificationsAreHeard) {
  on_loop([] {
    Connection listener(info());
    listener.query("listen news");
    auto heard = spawn([&] {
      std::vector<std::string> texts;
      while (texts.empty() || texts.back() != "end") texts.push_back(listener.wait_for_notification().payload);
      return texts;
    });
    Connection sender(info());
    for (const char* text : {"one", "two", "end"}) sender.query("select pg_notify('news', $1)", {text});
    EXPECT_THAT(heard.get(), ::testing::ElementsAre("one", "two", "end"));
    EXPECT_FALSE(move_on_after(10ms, [&] { listener.wait_for_notification(); }));
    EXPECT_EQ(one(listener, "select 1"), "1");
  });
}

TEST_F(Postgres, AServerProcessThatIsEndedEndsTheWait) {
  on_loop([] {
    Connection connection(info());
    Connection other(info());
    const std::string pid = one(connection, "select pg_backend_pid()");
    auto sleeper = spawn([&] { return state_of([&] { connection.query("select pg_sleep(600)"); }); });
    wait_for_queries(other, "pg_sleep(600)", 1);
    EXPECT_EQ(one(other, "select pg_terminate_backend($1)", {pid}), "t");
    EXPECT_NE(sleeper.get(), "none");
    EXPECT_FALSE(connection.alive());
    EXPECT_NE(state_of([&] { connection.query("select 1"); }), "none");
  });
}

/// Speaks just enough of the protocol to be asked something, and never answers; nor who wants that cancelled.
class MuteServer {
 public:
  MuteServer() {
    if (::mkdtemp(folder_.data()) == nullptr) throw std::runtime_error("mkdtemp");
    listener_ = net::UnixListener::bind(net::UnixAddress::path(std::string(folder_.data()) + "/.s.PGSQL.5432"));
    fiber_ = spawn([this] {
      net::serve(listener_, [this](net::UnixStream peer) { talk(std::move(peer)); }, {.drain = Duration::zero()});
    });
  }
  MuteServer(const MuteServer&) = delete;
  MuteServer& operator=(const MuteServer&) = delete;
  ~MuteServer() {
    listener_.close();
    fiber_.join();
    ::rmdir(folder_.data());
  }
  [[nodiscard]] std::string info() const { return std::string("user=bight host=") + folder_.data(); }

  Event asked;
  Event cancelling;

 private:
  void talk(net::UnixStream peer) {
    std::array<std::byte, 8> first;
    peer.read_exactly(first);
    if (first[4] == std::byte{0x04}) {  // 80877102: a request to cancel
      cancelling.set();
    } else {
      constexpr char kWelcome[] = "R\0\0\0\10\0\0\0\0K\0\0\0\14\0\0\0\1\0\0\0\2Z\0\0\0\5I";
      static_cast<void>(peer.read());
      peer.write_all(std::string_view(kWelcome, sizeof kWelcome - 1));
      static_cast<void>(peer.read());
      asked.set();
    }
    while (peer.read()) {
    }
  }

  std::array<char, 32> folder_{"/tmp/bight-mute-XXXXXX"};
  net::UnixListener listener_;
  Fiber<> fiber_;
};

TEST_F(Postgres, AServerThatDoesNotEvenCancelIsGivenUp) {
  on_loop([] {
    std::optional<MuteServer> server(std::in_place);
    Connection connection(server->info());
    auto asking = spawn([&] { connection.query("select 1"); });
    server->asked.wait();
    asking.cancel();
    server->cancelling.wait();
    EXPECT_TRUE(move_on_after(20s, [&] { asking.join(); })) << "it waits for ever";
    EXPECT_FALSE(connection.alive());
    EXPECT_NE(state_of([&] { connection.query("select 1"); }), "none");
    EXPECT_NE(state_of([&] { static_cast<void>(connection.wait_for_notification()); }), "none");
    server.reset();  // which ends the thread that waits for it
    asking.join();
    while (this_loop::stats().fibers_alive > 1) sleep_for(1ms);
  });
}

}  // namespace
}  // namespace bight
