// SPDX-License-Identifier: Apache-2.0
#include <bight/wait_any.hpp>

#include <algorithm>
#include <string>

namespace bight::detail {

struct Watch::Link : WaitLink {
  Watch* watch = nullptr;
  std::size_t index = 0;
};

namespace {

struct EnoughLink : WaitLink {
  explicit EnoughLink(const Watch& watched) noexcept : watch(watched) {}
  const Watch& watch;
};

void describe_watch(const WaitLink& link, std::string& text) {
  const Watch& watch = static_cast<const EnoughLink&>(link).watch;
  text.append("some of ").append(std::to_string(watch.size())).append(" things, of which ");
  text.append(std::to_string(watch.ready().size())).append(" have come");
}

}  // namespace

Watch::Watch(std::size_t count) : count_(count), links_(new Link[count]) { ready_.reserve(count); }

Watch::~Watch() {
  for (std::size_t i = 0; i < count_; ++i) {
    if (links_[i].linked()) links_[i].list->remove(links_[i]);
  }
}

void Watch::add_ready(std::size_t index) { ready_.push_back(index); }

void Watch::add(std::size_t index, WaitList& list) noexcept {
  Link& link = links_[index];
  link.watch = this;
  link.index = index;
  link.woken = note;
  list.push(link);
}

void Watch::note(WaitLink& link) noexcept {
  const auto& self = static_cast<Link&>(link);
  Watch& watch = *self.watch;
  watch.ready_.push_back(self.index);
  if (watch.ready_.size() >= watch.wanted_) watch.enough_.wake_one();
}

bool Watch::wait(std::size_t count, TimePoint until) {
  wanted_ = std::min(count, count_);
  if (ready_.size() >= wanted_) return true;
  EnoughLink link(*this);
  return wait_or_throw(enough_, link, describe_watch, until);
}

}  // namespace bight::detail
