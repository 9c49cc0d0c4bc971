// SPDX-License-Identifier: Apache-2.0
#include "splice_pipes.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <utility>

namespace bight::detail {

SplicePipes::SplicePipes(std::size_t most) : most_(most) { unused_.reserve(std::min(most, kKept)); }

SplicePipes::Pipe SplicePipes::take() noexcept {
  if (unused_.empty()) return make();
  Pipe pipe = std::move(unused_.back());
  unused_.pop_back();
  return pipe;
}

SplicePipes::Pipe SplicePipes::make() noexcept {
  if (all_.size() / 2 >= most_) return {};
  int ends[2];
  try {
    all_.reserve(all_.size() + 2);
  } catch (const std::bad_alloc&) {
    return {};
  }
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return {};
  ::fcntl(ends[1], F_SETPIPE_SZ, kPiece);  // if it may not be so large (pipe(7)), it works with less
  all_.insert(all_.end(), {ends[0], ends[1]});
  return {Fd(ends[0]), Fd(ends[1])};
}

void SplicePipes::give_back(Pipe pipe) noexcept {
  if (pipe.held == 0 && unused_.size() < unused_.capacity()) {
    unused_.push_back(std::move(pipe));
  } else {
    std::erase_if(all_, [&](int fd) { return fd == pipe.out.get() || fd == pipe.in.get(); });
  }
}

void SplicePipes::close_in_forked_child() noexcept {
  for (const int fd : all_) ::close(fd);
}

}  // namespace bight::detail
