// SPDX-License-Identifier: Apache-2.0
#pragma once

/// All of the runtime in one go: fibers, what they wait for and coordinate with. For programs; libraries include what
/// they use.

#include <bight/aligned_buffer.hpp>
#include <bight/barrier.hpp>
#include <bight/call_on.hpp>
#include <bight/channel.hpp>
#include <bight/check.hpp>
#include <bight/chunk.hpp>
#include <bight/codec.hpp>
#include <bight/condition.hpp>
#include <bight/connection.hpp>
#include <bight/coroutine.hpp>
#include <bight/cross_thread_mutex.hpp>
#include <bight/deadline.hpp>
#include <bight/directory.hpp>
#include <bight/error.hpp>
#include <bight/event.hpp>
#include <bight/fd.hpp>
#include <bight/fd_watch.hpp>
#include <bight/fiber.hpp>
#include <bight/fiber_local.hpp>
#include <bight/file.hpp>
#include <bight/file_status.hpp>
#include <bight/filesystem.hpp>
#include <bight/future.hpp>
#include <bight/generator.hpp>
#include <bight/group.hpp>
#include <bight/latch.hpp>
#include <bight/log.hpp>
#include <bight/mutex.hpp>
#include <bight/offload.hpp>
#include <bight/once.hpp>
#include <bight/pool.hpp>
#include <bight/process.hpp>
#include <bight/queue.hpp>
#include <bight/remote.hpp>
#include <bight/report.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/select.hpp>
#include <bight/semaphore.hpp>
#include <bight/shards.hpp>
#include <bight/shared_channel.hpp>
#include <bight/shared_event.hpp>
#include <bight/shared_mutex.hpp>
#include <bight/shared_semaphore.hpp>
#include <bight/socket.hpp>
#include <bight/stats.hpp>
#include <bight/stop.hpp>
#include <bight/stream.hpp>
#include <bight/temporary.hpp>
#include <bight/time.hpp>
#include <bight/wait_any.hpp>
#include <bight/wait_group.hpp>
