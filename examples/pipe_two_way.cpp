// SPDX-License-Identifier: Apache-2.0
// A pipe that goes both ways: the parent asks, the child answers. Other fibers of the parent run meanwhile.

#include <cstdio>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include <bight/connection.hpp>
#include <bight/process.hpp>
#include <bight/run.hpp>

namespace {

struct Question {
  std::string text;
  int number = 0;
  auto fields() { return std::tie(text, number); }
};

void answer(bight::Connection& pipe) {
  while (std::optional<Question> question = pipe.receive<Question>()) {  // until the other end is closed
    pipe.send(question->text + " of " + std::to_string(question->number) + " is " +
              std::to_string(question->number * question->number));
  }
  std::printf("the child has no more questions\n");
  std::fflush(stdout);
}

}  // namespace

int main() {
  return bight::run([] {
    auto [here, there] = bight::make_connection_pair();
    bight::Connection& near = here;
    bight::Connection& far = there;
    bight::Process child([&] {
      near.close();  // the child has a copy of both ends; with this one open it would never see the end
      answer(far);
    });
    far.close();
    for (int number = 1; number <= 3; ++number) {
      near.send(Question{"the square", number});
      std::printf("%s\n", near.receive<std::string>().value_or("?").c_str());
    }
    std::fflush(stdout);
    near.close();
    child.join();
    std::printf("the child has ended with %d\n", child.exit_code().value_or(-1));
  });
}
