// SPDX-License-Identifier: Apache-2.0
// A chat room. Everybody is asked for a name; what one says, all others hear. Try it with `nc 127.0.0.1 7001`, twice.
//
// Every member has an outbox, a bounded channel, and a fiber that sends what is in it. Who does not read lets it fill
// up, and is thrown out; the others go on talking meanwhile.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <bight/channel.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/net/tcp.hpp>
#include <bight/scope.hpp>

#include "options.hpp"

using namespace std::chrono_literals;
namespace net = bight::net;

namespace {

constexpr std::size_t kLineMax = 1000;
constexpr std::size_t kOutboxMax = 100;  // lines
constexpr auto kPatience = 200ms;        // with a member whose outbox is full
constexpr auto kWriteLimit = 5s;         // for the last lines of one who leaves

struct Member {
  explicit Member(net::TcpStream peer) : stream(std::move(peer)) { stream.set_write_timeout(kWriteLimit); }

  /// The next line, without its end. Nothing: there are no more.
  std::optional<std::string> read_line() {
    for (;;) {
      const std::size_t end = input.find('\n', at);
      if (std::min(end, input.size()) - at > kLineMax) return std::nullopt;
      if (end != std::string::npos) {
        std::string line = input.substr(at, end - at);
        at = end + 1;
        if (!line.empty() && line.back() == '\r') line.pop_back();
        return line;
      }
      input.erase(0, std::exchange(at, 0));
      std::error_code error;  // whatever it is, the conversation is over
      const bight::Chunk data = stream.read(error);
      if (!data) return std::nullopt;
      input += data.text();
    }
  }

  /// Sends what is in the outbox until that is closed; then there is nothing more to say to this one.
  void write_lines() {
    std::error_code error;
    for (const std::string& line : outbox) {
      stream.write_all(line + "\n", error);
      if (error) break;
    }
    outbox.close();
    stream.close();  // wakes who reads
  }

  net::TcpStream stream;
  std::string name;   // empty: not known yet
  std::string input;  // of which the first `at` bytes have been dealt with
  std::size_t at = 0;
  bight::Channel<std::string> outbox{kOutboxMax};
};

class Room {
 public:
  std::uint64_t lines_said() const { return lines_said_; }

  void serve(net::TcpStream peer) {
    const auto member = std::make_shared<Member>(std::move(peer));
    members_.push_back(member);
    const Seat seat{*this, *member};
    if (closing_) return;
    bight::Scope scope;
    scope.spawn([&] { member->write_lines(); });
    converse(*member);
    member->outbox.close();  // what is in it is still sent
  }

  /// Says goodbye to all. Does not wait.
  void close() {
    closing_ = true;
    for (const auto& each : members_) {
      if (!each->outbox.closed()) static_cast<void>(each->outbox.try_send("* the room closes"));
      each->outbox.close();
    }
  }

 private:
  struct Seat {
    Room& room;
    Member& member;
    ~Seat() {
      std::erase_if(room.members_, [this](const auto& each) { return each.get() == &member; });
    }
  };

  void converse(Member& member) try {
    member.outbox.send("* your name?");
    while (member.name.empty()) {
      std::optional<std::string> name = member.read_line();
      if (!name) return;
      if (name->empty() || taken(*name)) {
        member.outbox.send("* that will not do. your name?");
      } else {
        member.name = std::move(*name);
      }
    }
    member.outbox.send("* welcome, " + member.name);
    tell_others(member, "* " + member.name + " has come");
    while (const std::optional<std::string> line = member.read_line()) {
      ++lines_said_;
      tell_others(member, member.name + ": " + *line);
    }
    tell_others(member, "* " + member.name + " has left");
  } catch (const bight::ChannelClosed&) {  // it was thrown out, or the room closes
  }

  bool taken(std::string_view name) const {
    return std::any_of(members_.begin(), members_.end(), [&](const auto& each) { return each->name == name; });
  }

  void tell_others(const Member& from, const std::string& line) {
    const auto present = members_;  // a copy: members come and go while one of them is waited for
    for (const auto& each : present) {
      if (each.get() == &from || each->name.empty() || each->outbox.closed()) continue;
      try {
        if (each->outbox.send_for(line, kPatience)) continue;
        each->outbox.close();  // it does not read
        each->stream.reset();
      } catch (const bight::ChannelClosed&) {  // it has left meanwhile
      }
    }
  }

  std::vector<std::shared_ptr<Member>> members_;
  std::uint64_t lines_said_ = 0;
  bool closing_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  const auto options = example::parse_options(argc, argv, "chat", "A chat room.", 7001);
  if (options.shards != 1) example::give_up(options.name, "a room is one process: --shards can only be 1", 2);

  return example::run_server(options, [](net::TcpListener listener) {
    Room room;
    net::serve(std::move(listener), [&room](net::TcpStream peer) { room.serve(std::move(peer)); },
               {.drain = 8s, .on_drain = [&room] { room.close(); }});
    return room.lines_said();
  });
}
