// SPDX-License-Identifier: Apache-2.0
// Server and clients in a simulated world where everything goes wrong that may: whatever arrives is whole, right, and
// in order; when the faults end, service is as ever; and nothing is left behind.

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <random>
#include <string>
#include <system_error>
#include <vector>

#include <gtest/gtest.h>

#include <bight/testing.hpp>

#include "corpus.hpp"
#include "support.hpp"

namespace bight::http::testing {
namespace {

using Random = std::mt19937_64;

std::size_t up_to(Random& random, std::size_t most) { return static_cast<std::size_t>(random() % (most + 1)); }

std::string in_chunks(Random& random, std::string_view body) {
  std::string bytes;
  while (!body.empty()) {
    const std::size_t size = 1 + up_to(random, body.size() - 1);
    std::array<char, 16> digits{};
    char* end = std::to_chars(digits.data(), digits.data() + digits.size(), size, 16).ptr;
    bytes.append(digits.data(), end).append(up_to(random, 3) == 0 ? ";extension=\"x\"\r\n" : "\r\n");
    bytes.append(body.substr(0, size)).append("\r\n");
    body.remove_prefix(size);
  }
  return bytes + (up_to(random, 3) == 0 ? "0\r\nTrailer-Field: x\r\n\r\n" : "0\r\n\r\n");
}

struct Question {
  std::string bytes;
  std::string answer;
};

Question make_question(Random& random, std::size_t client, std::size_t number) {
  const std::string target = "/" + std::to_string(client) + "/" + std::to_string(number);
  std::string body(up_to(random, 3) == 0 ? up_to(random, 100'000) : up_to(random, 100), 'x');
  for (char& c : body) c = static_cast<char>('a' + up_to(random, 25));
  std::string head = "POST " + target + " HTTP/1.1\r\nHost: sim\r\n";
  if (up_to(random, 1) == 0) {
    head += "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  } else {
    head += "Transfer-Encoding: chunked\r\n\r\n" + in_chunks(random, body);
  }
  return {std::move(head), target + " " + body};
}

Response answer(Request& request) {
  if (request.target().ends_with('3')) sleep_for(1ms);
  return text(std::string(request.target()) + " " + std::string(request.body()));
}

// Asks everything, some at a time, on as many connections as it takes: one that has broken is followed by another.
void ask_all(const net::Address& server, Random& random, const std::vector<Question>& questions) {
  std::size_t answered = 0;
  for (int connections = 0; connections < 1000 && answered < questions.size(); ++connections) {
    try {
      Client client(server);
      client.stream().set_timeout(60s);
      while (answered < questions.size()) {
        const std::size_t count = std::min(1 + up_to(random, 4), questions.size() - answered);
        std::string bytes;
        for (std::size_t i = 0; i < count; ++i) bytes += questions[answered + i].bytes;
        client.send(bytes);
        for (std::size_t i = 0; i < count; ++i) {
          const Reply reply = client.read_reply();
          if (reply.status == 0) throw std::system_error(std::make_error_code(std::errc::connection_reset));
          ASSERT_EQ(reply.status, 200U) << reply.body;
          ASSERT_EQ(reply.body, questions[answered].answer);
          ++answered;
        }
      }
    } catch (const std::system_error&) {  // of the connection; on with another one
      sleep_for(10ms);
    }
  }
  EXPECT_EQ(answered, questions.size()) << "a server that never answers";
}

std::uint64_t live_through(std::uint64_t seed) {
  bight::testing::SimOptions options;
  options.seed = seed;
  options.faults = bight::testing::Faults::chaotic();
  options.send_buffer = 8 * 1024;  // so that writers wait, too
  options.receive_buffer = 8 * 1024;
  bight::testing::Sim sim(options);
  sim.run([&] {
    net::TcpListener listener = net::TcpListener::bind("10.0.0.1:80");
    const net::Address address = listener.local_address();
    Scope serving;
    serving.spawn([&] { serve(std::move(listener), answer); }).detach();
    {
      Scope clients;
      for (std::size_t client = 0; client < 5; ++client) {
        clients
            .spawn([&, client] {
              Random random(seed * 1000 + client);
              std::vector<Question> questions;
              for (std::size_t i = 0; i < 8; ++i) questions.push_back(make_question(random, client, i));
              ask_all(address, random, questions);
            })
            .detach();
      }
      clients.join();
    }
    sim.quiesce();
    sleep_for(10s);  // what was delayed or lost before still has its effect
    Client client(address);
    EXPECT_EQ(client.exchange(post_with("Content-Length: 5\r\n", "still")).body, "/ still");
    request_stop();
    serving.join();
  });
  EXPECT_EQ(sim.leaks(), "");
  return sim.trace_hash();
}

TEST(Chaos, AnswersAreWholeRightAndInOrder) {
  for (const std::uint64_t seed : bight::testing::seeds(50)) {
    SCOPED_TRACE(bight::testing::replay_hint(seed));
    live_through(seed);
    if (HasFailure()) return;
  }
}

TEST(Chaos, HistoriesRepeat) {
  for (const std::uint64_t seed : bight::testing::seeds(3)) EXPECT_EQ(live_through(seed), live_through(seed));
}

TEST(SlowChaos, AnswersAreWholeRightAndInOrder) {
  for (const std::uint64_t seed : bight::testing::seeds(1000, 1000)) {
    SCOPED_TRACE(bight::testing::replay_hint(seed));
    live_through(seed);
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace bight::http::testing
