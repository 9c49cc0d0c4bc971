// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include <bight/fd.hpp>
#include <bight/shards.hpp>
#include <bight/time.hpp>

namespace bight::detail {

/// A Unix socket at which the supervisor tells how its workers do. A client sends a line, "text" or "json" (or the head
/// of an HTTP request, as `curl --unix-socket PATH http://status/` does), gets one answer, and that is all. Nobody is
/// waited for: who has not asked within a second, or does not take the answer, is let go.
class StatusSocket {
 public:
  using Report = std::function<std::string(StatusFormat)>;

  StatusSocket() noexcept = default;
  /// Mode 0600. A socket file that nobody listens at, or that a predecessor does (`replace`), is replaced, at once and
  /// without a gap; any other file is not. Throws std::system_error. An empty path is no socket.
  StatusSocket(const std::string& path, bool replace);
  StatusSocket(StatusSocket&&) noexcept = default;
  StatusSocket& operator=(StatusSocket&&) = delete;
  ~StatusSocket();

  void add_to(std::vector<pollfd>& polled) const;
  void serve(const Report& report, TimePoint time);
  [[nodiscard]] TimePoint next_event() const noexcept;
  /// A successor that had taken the path over did not come up: listens there again.
  void step_back() noexcept;
  /// In a worker: it is the supervisor's.
  void forget() noexcept;

 private:
  struct Client {
    Fd fd;
    TimePoint until;
    bool answered = false;
  };
  void listen_at(const std::string& path);
  void accept_all(TimePoint time);
  static bool answer(Client& client, const Report& report);

  std::string path_;
  ino_t inode_ = 0;
  Fd listener_;
  TimePoint rest_until_{};  // accepting has failed
  std::vector<Client> clients_;
};

}  // namespace bight::detail
