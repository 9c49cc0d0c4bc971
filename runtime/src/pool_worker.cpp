// SPDX-License-Identifier: Apache-2.0
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include <bight/error.hpp>
#include <bight/log.hpp>

#include "describe.hpp"
#include "forked_child.hpp"
#include "lane.hpp"
#include "loop.hpp"
#include "pool_server.hpp"

namespace bight::detail {
namespace {

constexpr std::size_t kWhatMax = 64 * 1024;  // bytes of a what() that are kept

class PoolWorker {
 public:
  PoolWorker(Fd socket, const Fd& memory, const ProcessPoolOptions& options)
      : lane_(std::move(socket), memory.get(), 1, options.message_max), options_(options) {}

  int work();

 private:
  [[nodiscard]] bool fit();
  [[nodiscard]] bool run(const Lane::Message& message);
  [[nodiscard]] bool send(std::uint32_t kind, std::uint64_t ticket) { return lane_.send({kind, ticket, result_}); }

  Lane lane_;
  const ProcessPoolOptions& options_;
  std::vector<std::byte> result_;
  std::size_t begun_ = 0;
};

int PoolWorker::work() {
  if (!fit()) return 1;
  for (;;) {
    Lane::Message message;
    switch (lane_.receive(message)) {
      case Lane::Got::nothing:
        if (!lane_.wait(Lane::Want::message)) return 0;
        break;
      case Lane::Got::nonsense: throw std::runtime_error("the pool sent nonsense");
      case Lane::Got::message:
        if (!lane_.claim(message.ticket).begin()) break;  // taken back
        if (!run(message) || ++begun_ == options_.tasks_per_child_max) return 0;
        break;
    }
  }
}

bool PoolWorker::fit() {
  try {
    if (options_.initializer) options_.initializer();
  } catch (...) {
    result_ = encode(current_failure());
    static_cast<void>(send(LaneKind::kUnfit, 0));
    return false;
  }
  return send(LaneKind::kReady, 0);
}

/// False: the pool is gone.
bool PoolWorker::run(const Lane::Message& message) {
  result_.clear();
  std::uint32_t kind = LaneKind::kResult;
  try {
    Decoder call(message.bytes);
    const auto thunk = call.read<std::uint64_t>();
    const auto function = call.read<std::uint64_t>();
    // NOLINTNEXTLINE(performance-no-int-to-ptr): this program is a fork of the one that wrote it
    reinterpret_cast<PoolThunk>(static_cast<std::uintptr_t>(thunk))(function, call, result_);
    if (result_.size() > options_.message_max) {
      throw std::system_error(std::make_error_code(std::errc::message_size),
                              "a result of " + std::to_string(result_.size()) + " bytes");
    }
  } catch (...) {
    result_ = encode(current_failure());
    kind = LaneKind::kError;
  }
  const bool sent = send(kind, message.ticket);
  if (result_.capacity() > LaneRing::kBytes) std::vector<std::byte>().swap(result_);  // = {} would keep its memory
  return sent;
}

}  // namespace

RemoteFailure current_failure() {
  RemoteFailure failure;
  try {
    throw;
  } catch (const std::exception& error) {
    failure = {demangle(typeid(error).name()), error.what(), {}};
    const auto* system = dynamic_cast<const std::system_error*>(&error);
    const bool portable = system != nullptr && (system->code().category() == std::generic_category() ||
                                                system->code().category() == std::system_category());
    if (portable) failure.code = system->code();
  } catch (const Cancelled&) {
    failure = {"bight::Cancelled", "the task's fiber was cancelled", {}};
  } catch (...) {
    failure = {"unknown", describe_error(std::current_exception()), {}};
  }
  if (failure.what.size() > kWhatMax) failure.what.resize(kWhatMax);
  return failure;
}

std::exception_ptr as_error(RemoteFailure failure) {
  return std::make_exception_ptr(RemoteError(std::move(failure.type), failure.what, failure.code));
}

void run_worker(Fd socket, Fd memory, const ProcessPoolOptions& options) {
  struct Start {
    Fd socket;
    Fd memory;
    const ProcessPoolOptions& options;
    int status = 0;
  } start{std::move(socket), std::move(memory), options};
  ::prctl(PR_SET_NAME, options.name.c_str());  // NOLINT(cppcoreguidelines-pro-type-vararg)
  RunOptions run = options.run;
  run.stop_on_signals = false;
  start.status = 1;
  try {
    run_loop(
        run,
        [](void* argument) {
          auto& self = *static_cast<Start*>(argument);
          PoolWorker worker(std::move(self.socket), self.memory, self.options);
          self.memory.reset();
          self.status = worker.work();
        },
        &start);
  } catch (...) {
    log(LogLevel::error, "a worker of pool '" + options.name + "' failed: " + describe_error(std::current_exception()));
  }
  exit_child(start.status);
}

}  // namespace bight::detail
