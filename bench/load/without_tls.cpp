// SPDX-License-Identifier: Apache-2.0
#include "../common/error.hpp"
#include "transport.hpp"

namespace bench::load {

std::unique_ptr<Transport> make_tls_transport(const TransportOptions& /*options*/) {
  throw UsageError("--tls: this was built without OpenSSL");
}

}  // namespace bench::load
