#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The same as in sync.cpp, by the same names, with gevent's tools, where it has any. Speaks Google Benchmark's JSON."""

import json
import sys
import time

try:
    import gevent
    from gevent import event, lock, queue, threadpool
except ImportError:
    sys.exit("gevent is not there")

SMOKE = "--smoke" in sys.argv
RESULTS = []


def timed(name, count, body):
    count = 10 if SMOKE else count
    start = time.process_time(), time.perf_counter()
    body(count)
    cpu, real = time.process_time() - start[0], time.perf_counter() - start[1]
    RESULTS.append({"name": name, "run_type": "iteration", "cpu_time": cpu / count * 1e9, "real_time": real / count * 1e9,
                    "time_unit": "ns"})


def lock_free(count, tool):
    for _ in range(count):
        tool.acquire()
        tool.release()


def event_set(count):
    flag = event.Event()
    flag.set()
    for _ in range(count):
        flag.wait()


def messages(count):
    channel = queue.Queue(64)

    def take():
        for _ in range(count):
            channel.get()

    taker = gevent.spawn(take)
    for number in range(count):
        channel.put(number)
    taker.join()


def round_trips(count):
    there, back = queue.Channel(), queue.Channel()

    def answer():
        for _ in range(count):
            back.put(there.get())

    answerer = gevent.spawn(answer)
    for number in range(count):
        there.put(number)
        back.get()
    answerer.join()


def hops(count):
    pool = threadpool.ThreadPool(2)
    for _ in range(count):
        pool.apply(int)


timed("mutex_free", 300_000, lambda count: lock_free(count, lock.RLock()))
timed("semaphore_free", 300_000, lambda count: lock_free(count, lock.BoundedSemaphore(1)))
timed("event_set", 300_000, event_set)
timed("channel_message/64", 100_000, messages)
timed("channel_round_trip/0", 50_000, round_trips)
timed("hop", 3_000, hops)
json.dump({"context": {}, "benchmarks": RESULTS}, sys.stdout)
