// SPDX-License-Identifier: Apache-2.0
// Sends files over TLS by bight, answering `GET /NAME`: what `openssl s_server -WWW` does, to be compared with that.

#include "../common/arguments.hpp"
#include "../common/sockets.hpp"

#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include <bight/net/buffered.hpp>
#include <bight/net/tls.hpp>
#include <bight/run.hpp>

namespace bench::tls {
namespace {

namespace net = bight::net;

constexpr const char* kHelp = R"(usage: tls_file --cert F --key F --folder F [--port P] [--engine E]

Prints 'listening on ADDRESS:PORT' when ready; ends on SIGTERM.
)";

struct Options {
  std::string certificate, key, folder;
  std::uint16_t port = 0;
  bight::EngineChoice engine = bight::EngineChoice::automatic;
};

Options parse_options(int argc, char** argv) {
  Options options;
  Arguments arguments(argc, argv);
  while (arguments.next()) {
    if (arguments.is("--cert")) {
      options.certificate = arguments.value();
    } else if (arguments.is("--key")) {
      options.key = arguments.value();
    } else if (arguments.is("--folder")) {
      options.folder = arguments.value();
    } else if (arguments.is("--port")) {
      options.port = arguments.number<std::uint16_t>(0, 65535);
    } else if (arguments.is("--engine")) {
      const auto engine = bight::parse_engine(arguments.value());
      if (!engine) throw UsageError("no such --engine");
      options.engine = *engine;
    } else {
      arguments.unknown();
    }
  }
  if (options.certificate.empty() || options.key.empty() || options.folder.empty()) throw UsageError(kHelp);
  return options;
}

// Read with plain calls, as the other one does: the file is in memory, and none of this is about files.
void answer(const std::string& folder, net::TlsStream stream) {
  net::BufferedReader reader(stream);
  const auto request = reader.read_line();
  if (!request || !request->starts_with("GET /")) return;
  const std::string name(request->substr(5, request->find(' ', 5) - 5));
  const Descriptor file(::open((folder + '/' + name).c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return;
  stream.write_all("HTTP/1.0 200 ok\r\nContent-type: text/plain\r\n\r\n");
  std::vector<std::byte> buffer(64 * 1024);
  ssize_t size = 0;
  while ((size = ::read(file.get(), buffer.data(), buffer.size())) > 0) {
    stream.write_all(std::span(buffer).first(static_cast<std::size_t>(size)));
  }
}

int serve(const Options& options) {
  bight::RunOptions run;
  run.engine = options.engine;
  return bight::run(run, [&] {
    const auto context = net::TlsContext::server(
        {.identities = {{.certificate = net::Pem::file(options.certificate), .key = net::Pem::file(options.key)}}});
    auto listener = net::TcpListener::bind(net::Address::loopback_v4(options.port));
    std::printf("listening on %s\n", listener.local_address().to_string().c_str());
    std::fflush(stdout);
    net::serve_tls(listener, context, [&](net::TlsStream stream) { answer(options.folder, std::move(stream)); });
  });
}

}  // namespace
}  // namespace bench::tls

int main(int argc, char** argv) {
  try {
    return bench::tls::serve(bench::tls::parse_options(argc, argv));
  } catch (const std::exception& error) {
    std::cerr << "tls_file: " << error.what() << '\n';
    return 1;
  }
}
