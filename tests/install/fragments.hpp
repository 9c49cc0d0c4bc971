// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the fragments in the documents take for granted: see check_documents() in install_test.py.

#include <functional>
#include <string>

#include <bight/deadline.hpp>
#include <bight/fiber.hpp>
#include <bight/generator.hpp>
#include <bight/net/tcp.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/testing.hpp>
#include <bight/time.hpp>

using namespace std::chrono_literals;  // NOLINT(google-global-names-in-headers)

struct Queue {};
void feed(Queue& queue);
void drain(Queue& queue);
std::string fetch(const std::string& url);
void warm_up();

inline Queue queue;
inline const std::string url;
