// SPDX-License-Identifier: Apache-2.0
#include <bight/manager.hpp>

#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include <bight/connection.hpp>
#include <bight/error.hpp>
#include <bight/process.hpp>
#include <bight/semaphore.hpp>

#include "fork_guard.hpp"
#include "manager_server.hpp"

namespace bight {
namespace detail {

/// The way to the server. Each process has a connection of its own: it makes a pair, and passes one end in by the door,
/// which all have from the process that made the Manager.
class ManagerLink {
 public:
  ManagerLink(Connection door, const ManagerOptions& options)
      : door_(std::move(door)), name_(options.name), message_max_(options.message_max) {}

  ManagerAnswer ask(const ManagerRequest& request);

 private:
  struct Client {
    Connection connection;
    Semaphore turn{1};  // of the fibers that ask
    std::uint32_t forks = forks_so_far();
  };
  class Turn {
   public:
    explicit Turn(Semaphore& semaphore) : semaphore_(semaphore) { semaphore_.acquire(); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn() { semaphore_.release(); }

   private:
    Semaphore& semaphore_;
  };

  [[nodiscard]] std::shared_ptr<Client> client();
  void connect(Client& client);
  [[noreturn]] void gone(const char* what) const;
  [[noreturn]] void fail(std::error_code error, const char* what) const;
  void check(const ManagerAnswer& answer) const;

  Connection door_;
  std::string name_;
  std::size_t message_max_;
  std::shared_ptr<Client> client_;
};

std::shared_ptr<ManagerLink::Client> ManagerLink::client() {
  if (client_ != nullptr && client_->forks == forks_so_far()) return client_;
  if (client_ != nullptr) {
    // This is a forked child. The connection is the parent's, and fibers of the parent's may wait for it.
    ::close(client_->connection.fd());
    static_cast<void>(new std::shared_ptr<Client>(std::move(client_)));
  }
  client_ = std::make_shared<Client>();
  return client_;
}

void ManagerLink::connect(Client& client) {
  auto [mine, theirs] = make_connection_pair();
  const std::array<int, 1> fds{theirs.fd()};
  std::error_code error;
  door_.send_with_fds({}, fds, error);
  if (error) fail(error, "connect to");
  mine.set_message_max(message_max_);
  client.connection = std::move(mine);
}

ManagerAnswer ManagerLink::ask(const ManagerRequest& request) {
  const std::shared_ptr<Client> client = this->client();
  const Turn turn(client->turn);
  if (!client->connection) connect(*client);
  std::error_code error;
  client->connection.send(request, error);
  if (error == std::errc::message_size || error == std::errc::operation_canceled)
    fail(error, "ask");  // nothing was sent
  std::optional<ManagerAnswer> answer;
  // Also if it could not be sent: there may be a last word.
  if (!error || error == std::errc::broken_pipe) answer = client->connection.receive<ManagerAnswer>(error);
  if (!answer) {
    client->connection.close();  // the next answer would be the one to this request
    if (error) fail(error, "ask");
    gone("ask");
  }
  if (answer->status == ManagerAnswer::Status::crowded) client->connection.close();
  check(*answer);
  return std::move(*answer);
}

void ManagerLink::gone(const char* what) const {
  throw ManagerGone(std::string(what) + " manager '" + name_ + "': its server is gone");
}

void ManagerLink::fail(std::error_code error, const char* what) const {
  if (error == std::errc::broken_pipe || error == std::errc::connection_reset) gone(what);
  throw_error(error, std::string(what) + " manager '" + name_ + "'");
}

void ManagerLink::check(const ManagerAnswer& answer) const {
  using Status = ManagerAnswer::Status;
  const auto refuse = [this](std::errc error, const char* limit) {
    throw std::system_error(std::make_error_code(error), "ask manager '" + name_ + "', ManagerOptions::" + limit);
  };
  switch (answer.status) {
    case Status::full: refuse(std::errc::not_enough_memory, "memory_max"); break;
    case Status::too_large: refuse(std::errc::message_size, "message_max"); break;
    case Status::crowded: refuse(std::errc::too_many_files_open, "clients_max"); break;
    case Status::wrong_type:
      throw std::invalid_argument("manager '" + name_ + "' has something of another type under that name");
    case Status::nonsense: throw std::logic_error("manager '" + name_ + "' does not understand the request");
    case Status::done:
    case Status::absent:
    case Status::outdated: break;
  }
}

ManagedObject::ManagedObject(std::shared_ptr<ManagerLink> link, std::string_view name, const std::string& type)
    : link_(std::move(link)) {
  const auto bytes = [](std::string_view text) {
    const auto* first = reinterpret_cast<const std::byte*>(text.data());
    return ManagedBytes(first, first + text.size());
  };
  object_ = ask(Op::open, bytes(name), bytes(type)).number;
}

ManagerAnswer ManagedObject::ask(Op op, ManagedBytes key, ManagedBytes value, std::uint64_t number,
                                 std::uint64_t version) const {
  return link_->ask({op, object_, number, version, std::move(key), std::move(value)});
}

void ManagedObject::no_place(std::size_t at) {
  throw std::out_of_range("a managed list has no place " + std::to_string(at));
}

}  // namespace detail

struct Manager::Server {
  Process process;
};

Manager::Manager(ManagerOptions options) : server_(std::make_unique<Server>()) {
  auto [mine, theirs] = make_connection_pair();
  ProcessOptions how;
  how.name = options.name;
  how.daemon = true;
  how.run = options.run;
  how.run.stop_on_signals = false;
  struct Serve {
    Connection& mine;
    Connection& theirs;
    const ManagerOptions& options;
    void operator()() const {
      mine.close();
      detail::serve_manager(theirs, options);
    }
  };
  server_->process = Process(how, Serve{mine, theirs, options});
  link_ = std::make_shared<detail::ManagerLink>(std::move(mine), options);
}

Manager::~Manager() { server_->process.kill(); }

ManagerStats Manager::stats() const {
  detail::ManagerRequest request;
  request.op = detail::ManagerRequest::Op::stats;
  return decode<ManagerStats>(link_->ask(request).values.at(0));
}

pid_t Manager::pid() const noexcept { return server_->process.pid(); }

}  // namespace bight
