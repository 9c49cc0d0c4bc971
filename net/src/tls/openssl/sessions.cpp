// SPDX-License-Identifier: Apache-2.0
#include "tls/openssl/settings.hpp"

namespace bight::net::detail {
namespace {

constexpr std::size_t kPerServer = 4;  // connections to it may be made at the same time

}  // namespace

void TlsSessions::put(const std::string& key, SslSessionPtr session) {
  if (most_ == 0 || key.empty()) return;
  const std::lock_guard lock(mutex_);
  auto known = by_key_.find(key);
  if (known == by_key_.end()) {
    entries_.push_front({key});
    known = by_key_.emplace(entries_.front().key, entries_.begin()).first;
  } else {
    entries_.splice(entries_.begin(), entries_, known->second);
  }
  auto& sessions = entries_.front().sessions;
  sessions.push_back(std::move(session));
  if (sessions.size() > kPerServer) sessions.pop_front();
  if (entries_.size() > most_) {
    by_key_.erase(entries_.back().key);
    entries_.pop_back();
  }
}

SslSessionPtr TlsSessions::take(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto known = by_key_.find(key);
  if (known == by_key_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, known->second);
  auto& sessions = entries_.front().sessions;
  SslSessionPtr session;
  if (SSL_SESSION_get_protocol_version(sessions.back().get()) < TLS1_3_VERSION) {
    if (SSL_SESSION_up_ref(sessions.back().get()) == 1) session.reset(sessions.back().get());
    return session;
  }
  session = std::move(sessions.back());
  sessions.pop_back();
  if (sessions.empty()) {
    by_key_.erase(known);
    entries_.pop_front();
  }
  return session;
}

}  // namespace bight::net::detail
