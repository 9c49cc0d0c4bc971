// SPDX-License-Identifier: Apache-2.0
// The server over connections: what it answers, in which order, and when it closes.

#include <bight/http/server.hpp>

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include <bight/time.hpp>

#include "corpus.hpp"
#include "support.hpp"

namespace bight::http::testing {
namespace {

// Long enough for what was sent to have been read on its own.
void let_server_read() { sleep_for(2ms); }

TEST(Server, AnswersGet) {
  const ServerStats stats = with_server(hello, [](const net::Address& server) {
    Client client(server);
    const Reply reply = client.exchange(get_with(""));
    EXPECT_EQ(reply.status, 200U);
    EXPECT_EQ(reply.body, "Hello, World!");
    EXPECT_EQ(reply.header("Content-Length"), "13");
    EXPECT_EQ(reply.header("Content-Type"), "text/plain");
    EXPECT_EQ(reply.header("Server"), "bight");
    EXPECT_EQ(reply.header("Date").size(), std::string_view("Thu, 01 Jan 1970 00:00:00 GMT").size());
    EXPECT_EQ(reply.header("Connection"), "-");
    EXPECT_EQ(client.exchange(get_with("")).status, 200U);
  });
  EXPECT_EQ(stats.connections, 1U);
  EXPECT_EQ(stats.requests, 2U);
  EXPECT_EQ(stats.refused + stats.failed + stats.shed, 0U);
}

TEST(Server, AnswersHeadWithoutBody) {
  with_server(hello, [](const net::Address& server) {
    Client client(server);
    client.send(line("HEAD / HTTP/1.1"));
    const Reply head = client.read_reply(true);
    EXPECT_EQ(head.status, 200U);
    EXPECT_EQ(head.header("Content-Length"), "13");
    EXPECT_EQ(client.exchange(get_with("")).body, "Hello, World!");
  });
}

TEST(Server, ClosesAfterHttp10) {
  with_server(hello, [](const net::Address& server) {
    Client client(server);
    const Reply reply = client.exchange("GET / HTTP/1.0\r\n\r\n");
    EXPECT_EQ(reply.status, 200U);
    EXPECT_EQ(reply.header("Connection"), "close");
    EXPECT_EQ(client.read_end(), "end");
  });
}

TEST(Server, KeepsHttp10AliveWhenAsked) {
  with_server(hello, [](const net::Address& server) {
    Client client(server);
    for (int i = 0; i < 2; ++i) {
      const Reply reply = client.exchange("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
      EXPECT_EQ(reply.status, 200U);
      EXPECT_EQ(reply.header("Connection"), "keep-alive");
    }
  });
}

TEST(Server, ClosesWhenAsked) {
  with_server(hello, [](const net::Address& server) {
    Client client(server);
    const Reply reply = client.exchange(get_with("Connection: close\r\n") + get_with(""));
    EXPECT_EQ(reply.status, 200U);
    EXPECT_EQ(reply.header("Connection"), "close");
    EXPECT_EQ(client.read_end(), "end");  // without an answer to what came behind
  });
}

TEST(Server, ClosesWhenTheHandlerSaysSo) {
  const auto handler = [](Request& request) {
    Response response = describe(request);
    response.close_connection();
    return response;
  };
  with_server(handler, [](const net::Address& server) {
    Client client(server);
    const Reply reply = client.exchange(get_with("") + get_with(""));
    EXPECT_EQ(reply.body, "GET / ");
    EXPECT_EQ(reply.header("Connection"), "close");
    EXPECT_EQ(client.read_end(), "end");
  });
}

TEST(Server, AnswersWhatCameTogetherTogetherAndInOrder) {
  with_server(describe, [](const net::Address& server) {
    Client client(server);
    std::string requests;
    std::size_t size = 0;
    for (int i = 0; i < 10; ++i) {
      requests += line("GET /" + std::to_string(i) + " HTTP/1.1");
    }
    client.send(requests);
    const std::string first = client.read_once();
    for (int i = 0; i < 10; ++i) {
      const std::size_t at = first.find("GET /" + std::to_string(i), size);
      ASSERT_NE(at, std::string::npos) << i << " of " << first;
      size = at;
    }
  });
}

TEST(Server, AnswersBeforeItWaitsForTheRest) {
  with_server(describe, [](const net::Address& server) {
    Client client(server);
    const std::string second = post_with("Content-Length: 4\r\n", "body");
    client.send(get_with("") + second.substr(0, 20));
    EXPECT_EQ(client.read_reply().body, "GET / ");
    client.send(second.substr(20));
    EXPECT_EQ(client.read_reply().body, "POST / body");
  });
}

TEST(Server, ReadsRequestsInAnyPieces) {
  with_server(describe, [](const net::Address& server) {
    const std::string bytes = post_with("Content-Length: 5\r\n", "first") +
                              chunked("3\r\nsec\r\n3;x=y\r\nond\r\n0\r\nSum: 6\r\n\r\n") + get_with("A: b\r\n");
    const auto expect_answers = [](Client& client, const std::string& how) {
      EXPECT_EQ(client.read_reply().body, "POST / first") << how;
      EXPECT_EQ(client.read_reply().body, "POST / second Sum=6") << how;
      EXPECT_EQ(client.read_reply().body, "GET / ") << how;
    };
    Client client(server);
    for (std::size_t at = 1; at < bytes.size(); ++at) {
      client.send(std::string_view(bytes).substr(0, at));
      let_server_read();
      client.send(std::string_view(bytes).substr(at));
      expect_answers(client, "split at " + std::to_string(at));
    }
    for (const char byte : bytes) {
      client.send({&byte, 1});
      yield();
    }
    expect_answers(client, "byte by byte");
  });
}

TEST(Server, RefusesWhatIsWrongAndCloses) {
  const ServerStats stats = with_server(describe, [](const net::Address& server) {
    for (const Case& bad : bad_cases()) {
      Client client(server);
      client.send(bad.bytes);
      for (std::size_t i = 0; i < bad.requests; ++i) EXPECT_EQ(client.read_reply().status, 200U) << bad.name;
      const Reply reply = client.read_reply();
      EXPECT_EQ(reply.status, bad.refused) << bad.name << ": " << reply.body;
      EXPECT_EQ(reply.header("Connection"), "close") << bad.name;
      EXPECT_EQ(client.read_end(), "end") << bad.name;
    }
  });
  EXPECT_EQ(stats.refused, bad_cases().size());
}

TEST(Server, RefusesTheSameByteByByte) {
  with_server(describe, [](const net::Address& server) {
    for (const Case& bad : bad_cases()) {
      Client client(server);
      for (const char byte : bad.bytes) {
        client.send({&byte, 1});
        yield();
      }
      for (std::size_t i = 0; i < bad.requests; ++i) EXPECT_EQ(client.read_reply().status, 200U) << bad.name;
      EXPECT_EQ(client.read_reply().status, bad.refused) << bad.name;
      EXPECT_EQ(client.read_end(), "end") << bad.name;
    }
  });
}

TEST(Server, AcceptsWhatIsRight) {
  with_server(describe, [](const net::Address& server) {
    for (const Case& good : good_cases()) {
      Client client(server);
      client.send(good.bytes);
      client.end();
      std::size_t answers = 0;
      for (Reply reply = client.read_reply(); reply.status != 0; reply = client.read_reply()) {
        EXPECT_EQ(reply.status, 200U) << good.name;  // and not 100, for the body is there already
        ++answers;
      }
      EXPECT_EQ(answers, good.requests) << good.name;
    }
  });
}

TEST(Server, AnswersClientsThatHaveEndedTheirSide) {
  with_server(
      [](Request& request) {
        sleep_for(5ms);
        return describe(request);
      },
      [](const net::Address& server) {
        Client client(server);
        client.send(get_with("") + post_with("Content-Length: 1\r\n", "x") + get_with(""));
        client.end();
        EXPECT_EQ(client.read_reply().body, "GET / ");
        EXPECT_EQ(client.read_reply().body, "POST / x");
        EXPECT_EQ(client.read_reply().body, "GET / ");
        EXPECT_EQ(client.read_end(), "end");
      });
}

TEST(Server, TellsClientsThatEndInTheMiddle) {
  with_server(describe, [](const net::Address& server) {
    for (const std::string& part : {std::string("GET / HT"), post_with("Content-Length: 5\r\n", "hell"),
                                    chunked("5\r\nhell"), chunked("0\r\nA: b\r\n")}) {
      Client client(server);
      client.send(part);
      client.end();
      EXPECT_EQ(client.read_reply().status, 400U) << part;
      EXPECT_EQ(client.read_end(), "end") << part;
    }
  });
}

TEST(Server, SaysContinueWhenItIsWaitedFor) {
  with_server(describe, [](const net::Address& server) {
    Client client(server);
    for (const bool in_chunks : {false, true}) {
      client.send(post_with(in_chunks ? "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n"
                                      : "Expect: 100-continue\r\nContent-Length: 4\r\n",
                            ""));
      const Reply interim = client.read_reply();
      EXPECT_EQ(interim.status, 100U);
      EXPECT_TRUE(interim.headers.empty());
      client.send(in_chunks ? "4\r\nbody\r\n0\r\n\r\n" : "body");
      EXPECT_EQ(client.read_reply().body, "POST / body");
    }
  });
}

TEST(Server, SaysContinueOnlyWhenTheBodyIsWanted) {
  ServerOptions options;
  options.limits.body_bytes_max = 3;
  with_server(describe, options, [](const net::Address& server) {
    Client whole(server);
    EXPECT_EQ(whole.exchange(post_with("Expect: 100-continue\r\nContent-Length: 3\r\n", "abc")).status, 200U);
    Client large(server);
    EXPECT_EQ(large.exchange(post_with("Expect: 100-continue\r\nContent-Length: 4\r\n", "")).status, 413U);
    EXPECT_EQ(large.read_end(), "end");
  });
}

TEST(Server, AnswersHandlerErrorsWith500AndReportsThem) {
  std::vector<std::string> reports;
  RunOptions options;
  options.on_unhandled_error = [&reports](const UnhandledError& error) { reports.emplace_back(error.text); };
  const auto handler = [](Request& request) -> Response {
    if (request.path() == "/int") throw 1;
    if (request.path() == "/bad") throw std::runtime_error("out of cheese");
    return describe(request);
  };
  const ServerStats stats = with_server(options, handler, {}, [](const net::Address& server) {
    Client other(server);
    EXPECT_EQ(other.exchange(get_with("")).status, 200U);
    for (const std::string_view target : {"/bad?x=y", "/int"}) {
      Client client(server);
      client.send(get_with("") + line("GET " + std::string(target) + " HTTP/1.1") + get_with(""));
      EXPECT_EQ(client.read_reply().status, 200U);
      const Reply reply = client.read_reply();
      EXPECT_EQ(reply.status, 500U);
      EXPECT_EQ(reply.header("Connection"), "close");
      EXPECT_EQ(reply.body.find("cheese"), std::string::npos);
      EXPECT_EQ(client.read_end(), "end");
      EXPECT_EQ(other.exchange(get_with("")).status, 200U);
    }
  });
  EXPECT_EQ(stats.failed, 2U);
  ASSERT_EQ(reports.size(), 2U);
  EXPECT_NE(reports[0].find("GET /bad?x=y failed: out of cheese"), std::string::npos) << reports[0];
}

TEST(Server, HandlersWaitWithoutHoldingOthersUp) {
  const auto handler = [](Request& request) {
    if (request.path() == "/slow") sleep_for(200ms);
    return describe(request);
  };
  with_server(handler, [](const net::Address& server) {
    Client slow(server);
    Client fast(server);
    slow.send(line("GET /slow HTTP/1.1"));
    const TimePoint start = now();
    for (int i = 0; i < 10; ++i) EXPECT_EQ(fast.exchange(get_with("")).status, 200U);
    EXPECT_LT(now() - start, 200ms);
    EXPECT_EQ(slow.read_reply().body, "GET /slow ");
    EXPECT_GE(now() - start, 200ms);
  });
}

TEST(Server, SendsBodiesOfEverySize) {
  const auto handler = [](Request& request) { return text(std::string(request.body().size() * 1000, 'x')); };
  with_server(handler, [](const net::Address& server) {
    Client client(server);
    for (const std::size_t kilobytes : {0U, 1U, 15U, 16U, 17U, 64U, 65U, 1000U}) {
      const std::string body(kilobytes, 'a');
      const std::string request = post_with("Content-Length: " + std::to_string(kilobytes) + "\r\n", body);
      client.send(request + request);
      EXPECT_EQ(client.read_reply().body.size(), kilobytes * 1000);
      EXPECT_EQ(client.read_reply().body.size(), kilobytes * 1000);
    }
  });
}

TEST(Server, TakesBodiesOfEverySize) {
  const auto handler = [](Request& request) {
    const bool right = request.body().find_first_not_of('a') == std::string_view::npos;
    return text(right ? std::to_string(request.body().size()) : "wrong");
  };
  with_server(handler, [](const net::Address& server) {
    Client client(server);
    for (const std::size_t size : {1U, 1000U, 65'535U, 65'536U, 300'000U, 1'048'576U}) {
      const std::string body(size, 'a');
      client.send(post_with("Content-Length: " + std::to_string(size) + "\r\n", body));
      EXPECT_EQ(client.read_reply().body, std::to_string(size));
      std::string chunks;
      for (std::size_t at = 0; at < size; at += 10'000) {
        const std::size_t part = std::min<std::size_t>(10'000, size - at);
        std::array<char, 16> digits{};
        const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), part, 16).ptr;
        chunks.append(digits.data(), end).append("\r\n").append(part, 'a').append("\r\n");
      }
      client.send(chunked(chunks + "0\r\n\r\n"));
      EXPECT_EQ(client.read_reply().body, std::to_string(size));
    }
  });
}

TEST(Server, StopClosesIdleConnectionsAndFinishesRequests) {
  bool stopped_in_time = false;
  with_server(
      [](Request& request) {
        if (request.path() == "/slow") sleep_for(100ms);
        return describe(request);
      },
      [&](const net::Address& server) {
        Client fresh(server);
        Client idle(server);
        Client busy(server);
        EXPECT_EQ(idle.exchange(get_with("")).status, 200U);
        busy.send(line("GET /slow HTTP/1.1"));
        let_server_read();
        const TimePoint start = now();
        request_stop();
        EXPECT_EQ(fresh.read_end(), "end");
        EXPECT_EQ(idle.read_end(), "end");
        const Reply reply = busy.read_reply();
        EXPECT_EQ(reply.body, "GET /slow ");
        EXPECT_EQ(reply.header("Connection"), "close");
        EXPECT_EQ(busy.read_end(), "end");
        stopped_in_time = now() - start < 5s;  // and not at the end of the drain time
      });
  EXPECT_TRUE(stopped_in_time);
}

// A stop is no reason to call a request bad that was good so far.
TEST(Server, StopLetsRequestsThatHaveBegunArrive) {
  const ServerStats stats = with_server(describe, [](const net::Address& server) {
    const std::string bytes = post_with("Content-Length: 4\r\n", "body");
    std::vector<Client> clients;
    for (std::size_t there = 1; there < bytes.size(); ++there) {
      clients.emplace_back(server);
      if (there % 2 == 0) {
        EXPECT_EQ(clients.back().exchange(get_with("")).status, 200U);
      }
    }
    for (std::size_t i = 0; i < clients.size(); ++i) clients[i].send(std::string_view(bytes).substr(0, i + 1));
    request_stop();
    let_server_read();
    for (std::size_t i = 0; i < clients.size(); ++i) {
      clients[i].send(std::string_view(bytes).substr(i + 1));
      const Reply reply = clients[i].read_reply();
      EXPECT_EQ(reply.body, "POST / body") << i + 1 << " bytes were there: " << reply.status;
      EXPECT_EQ(reply.header("Connection"), "close");
      EXPECT_EQ(clients[i].read_end(), "end");
    }
  });
  EXPECT_EQ(stats.refused, 0U);
}

TEST(Server, StopIsPatientWithThoseWhoHaveJustCome) {
  test::on_loop([] {
    net::TcpListener listener = net::TcpListener::bind("127.0.0.1:0");
    const net::Address address = listener.local_address();
    Client queued(address);  // not even accepted
    queued.send(get_with(""));
    Client silent(address);
    Client slow(address);
    request_stop();
    ServerOptions options;
    options.linger_timeout = 10ms;
    Scope scope;
    scope.spawn([&] { serve(std::move(listener), describe, options); }).detach();
    EXPECT_EQ(queued.read_reply().status, 200U);
    EXPECT_EQ(queued.read_end(), "end");
    sleep_for(20ms);
    const Reply reply = slow.exchange(get_with(""));
    EXPECT_EQ(reply.status, 200U);
    EXPECT_EQ(reply.header("Connection"), "close");
    EXPECT_EQ(slow.read_end(), "end");
    const TimePoint start = now();
    EXPECT_EQ(silent.read_end(), "end");
    EXPECT_LT(now() - start, 8s) << "and not at the end of the drain time";
    scope.join();
  });
}

// An end of accepting that nobody has asked for is one, too.
TEST(Server, ClosingTheListenerClosesIdleConnections) {
  test::on_loop([] {
    net::TcpListener listener = net::TcpListener::bind("127.0.0.1:0");
    Scope scope;
    ServerOptions options;
    options.idle_timeout = options.drain = 1h;
    scope.spawn([&] { serve(listener, describe, options); }).detach();
    Client idle(listener.local_address());
    Client busy(listener.local_address());
    EXPECT_EQ(idle.exchange(get_with("")).status, 200U);
    busy.send("GET / HTTP/1.1\r\n");
    let_server_read();
    listener.close();
    EXPECT_EQ(idle.read_end(), "end");
    EXPECT_EQ(busy.exchange("Host: x\r\n\r\n").header("Connection"), "close");
    EXPECT_EQ(busy.read_end(), "end");
    scope.join();
  });
}

// That nothing is left of them, with_server looks.
TEST(Server, SurvivesClientsThatVanish) {
  const ServerStats stats = with_server(describe, [](const net::Address& server) {
    for (const std::string& bytes :
         {std::string(), std::string("GET"), get_with(""), post_with("Content-Length: 5\r\n", "ab")}) {
      Client(server).send(bytes);  // and closes
      Client rude(server);
      rude.send(bytes);
      let_server_read();
      rude.stream().reset();
    }
    let_server_read();
    EXPECT_EQ(Client(server).exchange(get_with("")).status, 200U);
  });
  EXPECT_EQ(stats.connections, 9U);
}

TEST(Server, ConnectionsThatWaitHoldNoBuffer) {
  with_server(hello, [](const net::Address& server) {
    std::vector<Client> clients;
    for (int i = 0; i < 20; ++i) {
      clients.emplace_back(server);
      if (i % 4 != 0) {
        EXPECT_EQ(clients.back().exchange(get_with("")).status, 200U);
      }
      if (i % 4 == 2) clients.back().send("GET / HTTP");
      if (i % 4 == 3) clients.back().send(post_with("Content-Length: 5\r\n", "he"));
    }
    let_server_read();
    EXPECT_EQ(this_loop::stats().receive_buffers_lent, 0U);
  });
}

}  // namespace
}  // namespace bight::http::testing
