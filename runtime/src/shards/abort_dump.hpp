// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace bight::detail {

/// From now on SIGABRT that comes from the parent process (whose worker this is) has the process print where it is and
/// what its fibers do before it dies of it. Any other one, abort(3)'s above all, does what it always did.
void install_abort_dump() noexcept;

}  // namespace bight::detail
