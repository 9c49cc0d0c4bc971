// SPDX-License-Identifier: Apache-2.0
// Asks a PostgreSQL server several things at the same time, each through a connection of its own, and prints the rows
// in the order of the questions: columns with tabs in between.
//
//     postgres_query CONNINFO SQL...

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include <bight/log.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>

#include "postgres.hpp"

namespace {

struct Answer {
  std::string rows;
  std::string error;
};

std::string rows_of(const postgres::Result& result) {
  std::string text;
  for (int row = 0; row < result.rows(); ++row) {
    for (int column = 0; column < result.columns(); ++column) {
      if (column > 0) text += '\t';
      text += result.at(row, column);
    }
    text += '\n';
  }
  return text;
}

int ask_all(const std::string& info, const std::vector<std::string>& questions) {
  std::vector<Answer> answers(questions.size());
  bight::Scope scope;
  for (std::size_t i = 0; i < questions.size(); ++i) {
    scope
        .spawn([&, i] {
          try {
            postgres::Connection connection(info);
            answers[i].rows = rows_of(connection.query(questions[i]));
          } catch (const postgres::Error& error) {
            answers[i].error = error.what();
          }
        })
        .detach();
  }
  scope.join();
  int status = 0;
  for (const Answer& answer : answers) {
    std::fputs(answer.rows.c_str(), stdout);
    if (answer.error.empty()) continue;
    std::fflush(stdout);
    std::fputs(answer.error.c_str(), stderr);
    status = 1;
  }
  return status;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::fputs(
        "usage: postgres_query CONNINFO SQL...\n\n"
        "  postgres_query 'host=/run/postgresql dbname=shop' 'select now()' 'select count(*) from orders'\n",
        stderr);
    return 2;
  }
  bight::set_log_level(bight::LogLevel::warning);
  return bight::run([&] { return ask_all(argv[1], {argv + 2, argv + argc}); });
} catch (const std::exception& error) {
  std::fprintf(stderr, "postgres_query: %s\n", error.what());
  return 1;
}
