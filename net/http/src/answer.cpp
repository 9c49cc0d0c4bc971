// SPDX-License-Identifier: Apache-2.0
#include "answer.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>
#include <stdexcept>

#include <bight/time.hpp>

#include "syntax.hpp"

namespace bight::http::detail {
namespace {

constexpr std::size_t kFirstCapacity = 1024;

char* put(char* at, std::string_view text) noexcept { return at + text.copy(at, text.size()); }

char* put_number(char* at, std::size_t number) noexcept {
  constexpr std::size_t digits_max = 20;
  return std::to_chars(at, at + digits_max, number).ptr;
}

constexpr std::string_view kDateForm = "Thu, 01 Jan 1970 00:00:00 GMT";

// RFC 9110 5.6.7, in English whatever the locale, into kDateForm.size() bytes.
void write_date(char* at, std::time_t time) noexcept {
  constexpr std::string_view days = "SunMonTueWedThuFriSat";
  constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";
  const auto two = [at](std::size_t place, int number) {
    at[place] = static_cast<char>('0' + number / 10 % 10);
    at[place + 1] = static_cast<char>('0' + number % 10);
  };
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  const int year = parts.tm_year + 1900;
  put(at, kDateForm);
  put(at, days.substr(static_cast<std::size_t>(parts.tm_wday) * 3, 3));
  two(5, parts.tm_mday);
  put(at + 8, months.substr(static_cast<std::size_t>(parts.tm_mon) * 3, 3));
  two(12, year / 100);
  two(14, year);
  two(17, parts.tm_hour);
  two(20, parts.tm_min);
  two(23, parts.tm_sec);
}

// 204 and 304 have no body by definition, so their length is not told either; 205 has to be seen to have none.
bool tells_length(unsigned status) noexcept { return status != 204 && status != 304; }
bool may_have_body(unsigned status) noexcept { return tells_length(status) && status != 205; }

}  // namespace

// --- Output ----------------------------------------------------------------------------------------------------------

void Output::grow(std::size_t size) {
  const std::size_t capacity = std::max({size_ + size, 2 * capacity_, kFirstCapacity});
  std::unique_ptr<char[]> bytes(new char[capacity]);
  if (size_ > 0) std::memcpy(bytes.get(), bytes_.get(), size_);
  bytes_ = std::move(bytes);
  capacity_ = capacity;
}

void Output::trim(std::size_t capacity) noexcept {
  size_ = 0;
  if (capacity_ > capacity) {
    bytes_.reset();
    capacity_ = 0;
  }
}

// --- AnswerWriter ----------------------------------------------------------------------------------------------------

AnswerWriter::AnswerWriter(std::string_view server_name, bool virtual_time)
    : virtual_time_(virtual_time), ok_("HTTP/1.1 200 OK\r\nDate: ") {
  if (!is_field_value(server_name)) throw std::invalid_argument("the server's name has a control character in it");
  common_ = ok_.find("Date");
  date_ = ok_.size();
  ok_.append(kDateForm).append("\r\n");
  if (!server_name.empty()) ok_.append("Server: ").append(server_name).append("\r\n");
}

void AnswerWriter::refresh() {
  std::time_t second = 0;
  if (virtual_time_) {
    second = std::chrono::duration_cast<std::chrono::seconds>(now().time_since_epoch()).count();
  } else {
    // The coarse clock is a load and not a reading of the hardware's; it is late by a tick at most.
    std::timespec time{};
    ::clock_gettime(CLOCK_REALTIME_COARSE, &time);
    second = time.tv_sec;
  }
  if (second == second_) return;
  second_ = second;
  write_date(ok_.data() + date_, second);
}

std::string_view AnswerWriter::append(Output& out, const Response& response, const AnswerFacts& facts,
                                      std::size_t inline_max) {
  refresh();
  const std::string_view body = may_have_body(response.status_) ? std::string_view(response.body_) : std::string_view{};
  const bool has_body = !body.empty() && !facts.to_head;
  const bool joins = has_body && body.size() <= inline_max;
  const std::string_view reason = response.status_ == 200 ? std::string_view{} : reason_phrase(response.status_);
  constexpr std::size_t lines_max = 128;  // status line without reason, Content-Length, Connection, the empty line

  char* at = out.room(lines_max + reason.size() + ok_.size() + response.type_line_.size() + response.fields_.size() +
                      (joins ? body.size() : 0));
  if (response.status_ == 200) {
    at = put(at, ok_);
  } else {
    at = put(at, "HTTP/1.1 ");
    at = put_number(at, response.status_);
    *at++ = ' ';
    at = put(at, reason);
    at = put(at, "\r\n");
    at = put(at, std::string_view(ok_).substr(common_));
  }
  at = put(at, response.type_line_);
  at = put(at, response.fields_);
  if (facts.close) {
    at = put(at, "Connection: close\r\n");
  } else if (facts.from_http_1_0) {
    at = put(at, "Connection: keep-alive\r\n");
  }
  if (tells_length(response.status_)) {
    at = put(at, "Content-Length: ");
    at = put_number(at, body.size());
    at = put(at, "\r\n");
  }
  at = put(at, "\r\n");
  if (joins) at = put(at, body);
  out.wrote(at);
  return has_body && !joins ? body : std::string_view{};
}

}  // namespace bight::http::detail
