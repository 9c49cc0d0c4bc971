// SPDX-License-Identifier: Apache-2.0
#include <bight/fd.hpp>

#include <unistd.h>

namespace bight {

void Fd::reset() noexcept {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

}  // namespace bight
