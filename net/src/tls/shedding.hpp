// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include <bight/net/tls_stream.hpp>

namespace bight::net::detail {

class Handshake;

/// The handshakes under way of a server, the oldest first; so many at most.
class Handshakes {
 public:
  explicit Handshakes(std::size_t most) noexcept : most_(most) {}
  Handshakes(const Handshakes&) = delete;
  Handshakes& operator=(const Handshakes&) = delete;

  [[nodiscard]] std::size_t count() const noexcept { return count_; }

 private:
  friend class Handshake;

  std::size_t most_;
  std::size_t count_ = 0;
  Handshake* oldest_ = nullptr;
  Handshake* newest_ = nullptr;
};

/// One of them, for as long as this lives. When it is one too many, the oldest is ended.
class Handshake {
 public:
  Handshake(Handshakes& all, TlsStream& stream) noexcept : all_(all), stream_(stream) {
    if (all_.count_ == all_.most_) all_.oldest_->end();
    before_ = all_.newest_;
    (before_ != nullptr ? before_->after_ : all_.oldest_) = this;
    all_.newest_ = this;
    ++all_.count_;
  }
  Handshake(const Handshake&) = delete;
  Handshake& operator=(const Handshake&) = delete;
  ~Handshake() { leave(); }

 private:
  void end() noexcept {
    leave();
    stream_.abort(TlsError::shed);
  }
  void leave() noexcept {
    if (gone_) return;
    gone_ = true;
    (before_ != nullptr ? before_->after_ : all_.oldest_) = after_;
    (after_ != nullptr ? after_->before_ : all_.newest_) = before_;
    --all_.count_;
  }

  Handshakes& all_;
  TlsStream& stream_;
  Handshake* before_ = nullptr;
  Handshake* after_ = nullptr;
  bool gone_ = false;
};

}  // namespace bight::net::detail
