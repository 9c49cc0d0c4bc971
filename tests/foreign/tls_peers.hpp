// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What the tests against other people's TLS share: certificates in files, and programs to talk to.

#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include <bight/command.hpp>
#include <bight/deadline.hpp>
#include <bight/line_reader.hpp>
#include <bight/subprocess.hpp>
#include <bight/temporary.hpp>

#include "on_loop.hpp"
#include "test_certificates.hpp"

namespace bight::test {

inline constexpr auto kPatience = std::chrono::seconds(30);

inline CertificateRequest for_localhost() {
  CertificateRequest request;
  request.common_name = "localhost";
  request.dns_names = {"localhost"};
  request.addresses = {"127.0.0.1"};
  return request;
}

/// An authority whose certificates are issued into files, for the programs want files.
class CertificateFolder {
 public:
  CertificateFolder() { write("ca.pem", authority_.pem()); }

  [[nodiscard]] const TestAuthority& authority() const noexcept { return authority_; }
  [[nodiscard]] std::string operator/(const std::string& name) const { return folder_ / name; }
  [[nodiscard]] std::string ca() const { return folder_ / "ca.pem"; }
  [[nodiscard]] const std::string& path() const noexcept { return folder_.path(); }

  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream file(folder_ / name);
    file << text;
    if (!file.flush()) throw std::runtime_error("cannot write " + name);
    return folder_ / name;
  }

  /// NAME.pem and NAME_key.pem.
  void write(const std::string& name, const Certificate& certificate) const {
    write(name + ".pem", certificate.pem);
    write(name + "_key.pem", certificate.key_pem);
  }

 private:
  fs::TemporaryDirectory folder_{"bight-tls-"};
  TestAuthority authority_;
};

[[nodiscard]] inline bool is_installed(const std::string& program) {
  for (const char* folder : {"/usr/bin/", "/usr/local/bin/", "/bin/"}) {
    if (::access((folder + program).c_str(), X_OK) == 0) return true;
  }
  return false;
}

/// What a program says to all of this, and how it ends. It is stopped when it takes too long.
[[nodiscard]] inline CommandResult run_peer(const std::vector<std::string>& args, const std::string& input = {}) {
  CommandOptions options;
  options.input = input;
  options.timeout = kPatience;
  options.process.death_signal = SIGKILL;  // should the test be killed
  return run_command(args, options);
}

/// Everything, for reports.
inline std::string describe(const CommandResult& result) {
  return result.to_string() + "\n--- out:\n" + result.out + "\n--- err:\n" + result.err;
}

/// A program that runs until the object goes, and is talked to meanwhile.
class Peer {
 public:
  explicit Peer(const std::vector<std::string>& args) {
    SubprocessOptions options;
    options.in = Redirect::pipe();  // open for as long as it is to stay
    options.out = Redirect::pipe();
    options.err = Redirect::to_output();
    options.group = ProcessGroup::own;
    options.death_signal = SIGKILL;
    process_ = Subprocess::start(args, options);
    lines_ = std::make_unique<LineReader<Stream>>(process_.output());
  }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  ~Peer() { process_.kill(); }

  void kill() noexcept { process_.kill(); }
  void say(const std::string& line) { process_.input().write_all(line + "\n"); }

  /// The next line with this in it. Throws when there is none, or it takes too long.
  [[nodiscard]] std::string hear(const std::string& part) {
    return with_timeout(kPatience, [&] {
      while (const auto line = lines_->next()) {
        said_.append(*line).append("\n");
        if (line->find(part) != std::string_view::npos) return std::string(*line);
      }
      throw std::runtime_error("no '" + part + "' in what the program has said:\n" + said_);
    });
  }
  /// The number behind the last colon of such a line.
  [[nodiscard]] std::uint16_t hear_port(const std::string& part) {
    const std::string line = hear(part);
    return static_cast<std::uint16_t>(std::stoi(line.substr(line.rfind(':') + 1)));
  }

 private:
  Subprocess process_;
  std::unique_ptr<LineReader<Stream>> lines_;
  std::string said_;
};

}  // namespace bight::test
