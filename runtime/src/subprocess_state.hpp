// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include <bight/exit_status.hpp>
#include <bight/stream.hpp>
#include <bight/subprocess.hpp>

#include "forked_child.hpp"

namespace bight::detail {

struct SubprocessState {
  std::string name;
  pid_t pid = 0;
  PrivateFd pidfd;
  std::optional<ExitStatus> status;
  bool own_group = false;
  bool input_is_terminal = false;
  std::size_t waiting = 0;  // fibers
  std::uint32_t forks = 0;  // that lay behind the process that it belongs to

  Stream input;
  Stream output;
  Stream errors;
  Stream terminal;

  // What a communicate() has read that was then cut short.
  std::string out_kept;
  std::string err_kept;
  bool truncated = false;

  /// Whether it has ended, and has been buried.
  bool reap() noexcept;
  /// 0, or the error: ESRCH when there is nobody to get it.
  [[nodiscard]] int send(int signal) noexcept;
  [[nodiscard]] int send_to_group(int signal) noexcept;
  [[nodiscard]] int send_to_own_group(int signal) const noexcept;
};

/// Starts a process. Null: there is none, `error` says why and `what`, if there is one, at what.
[[nodiscard]] std::unique_ptr<SubprocessState> start_subprocess(const std::vector<std::string>& args,
                                                                const SubprocessOptions& options,
                                                                std::error_code& error, std::string* what);

}  // namespace bight::detail
