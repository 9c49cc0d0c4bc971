#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the micro benchmarks a few times, one after the other and over again, and prints a table of the medians.

Times are CPU time where one thread does all the work, so that other work on the machine disturbs them little, and real
time where threads meet. `x jump` is the ratio to a bare Boost.Context jump, taken within each round; a limit is met when
the median meets it. Limits in ns were set on a machine where such a jump takes 5.5 ns.
"""

import argparse
import collections
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from pathlib import Path

PROGRAMS = ["switch", "coroutine", "spawn", "timers", "cancel", "sync", "pipe", "post", "offload", "shared_channel",
            "memory", "process_pool", "boost_fiber", "go_sync", "gevent_sync"]
SLOW_PROGRAMS = {"memory": 3}  # and how many rounds are enough

JUMP = "switch: jump"

# label; figure: "program: regular expression for the benchmark [which]", where which is cpu (if left out), real, or a
# counter's name; limits: "unit number", any of which will do.
Row = collections.namedtuple("Row", "label figure limits", defaults=[()])

ROWS = [
    "Switch",
    Row("a bare Boost.Context jump", JUMP),
    Row("`yield`, 2 fibers", "switch: yield/2", ["jumps 2.2"]),
    Row("`yield`, 100 fibers", "switch: yield/100"),
    Row("`yield`, 1000 fibers", "switch: yield/1000"),
    Row("`yield`, 10 000 fibers", "switch: yield/10000"),
    Row("`yield`, 2 fibers in different functions", "switch: yield_two_functions/2"),
    Row("`yield`, nobody else there", "switch: yield/1"),
    Row("Boost.Fiber: yield, 2 fibers", "boost_fiber: boost_fiber_yield/2"),
    Row("Boost.Fiber: yield, 1000 fibers", "boost_fiber: boost_fiber_yield/1000"),
    Row("Boost.Fiber: yield, 10 000 fibers", "boost_fiber: boost_fiber_yield/10000"),
    "Coroutines",
    Row("`Coroutine`: resume + yield", "coroutine: resume_yield", ["jumps 3.5"]),
    Row("`Generator`: one value", "coroutine: generate", ["jumps 3.5"]),
    Row("`Coroutine`: transfer", "coroutine: transfer"),
    Row("make and drop one that never runs", "coroutine: make_and_drop"),
    Row("a generator of three values, from first to last", "coroutine: three_values"),
    Row("unwind an unfinished one", "coroutine: unwind"),
    "Life",
    Row("spawn + join", "spawn: spawn_join", ["ns 90", "jumps 16"]),
    Row("spawn + join, in batches of 1000", r"spawn: spawn_join_batch/\d+", ["ns 60"]),
    Row("spawn in a Scope + join it, batches of 1000", r"spawn: spawn_in_scope_batch/\d+"),
    Row("spawn + detach, in batches of 1000", r"spawn: spawn_detached_batch/\d+"),
    Row("spawn + get a result", "spawn: spawn_get"),
    Row("Boost.Fiber, pooled stacks: launch + join", "boost_fiber: boost_fiber_pooled_spawn_join"),
    Row("Boost.Fiber, pooled stacks: batches of 1000", r"boost_fiber: boost_fiber_pooled_spawn_join_batch/\d+"),
    Row("std::thread + join", "spawn: thread_spawn_join real"),
    "Time",
    Row("`with_timeout(10 s)`, arm + cancel", "timers: timeout_10s", ["ns 30"]),
    Row("the same among 100 000 sleepers", r"timers: timeout_10s_among/\d+", ["ns 30"]),
    Row("`with_timeout(10 ms)`, arm + cancel", "timers: timeout_10ms"),
    Row("`sleep_for`, 100 000 sleepers: sleep + wake", r"timers: sleep_and_wake/\d+"),
    "1 000 000 fibers asleep at once",
    Row("create, first pass", r"memory: asleep_at_once/first/\d+ create_cpu_ns", ["ns 2000"]),
    Row("create, second pass in the same process", r"memory: asleep_at_once/second/\d+ create_cpu_ns", ["ns 2000"]),
    Row("the kernel's part: guard a page, touch another", r"memory: bare_stacks/\d+"),
    Row("RSS of each", r"memory: asleep_at_once/first/\d+ rss_bytes", ["bytes 4710"]),
    Row("page tables of each, beside RSS", r"memory: asleep_at_once/first/\d+ page_table_bytes"),
    Row("wake in order + join", r"memory: asleep_at_once/second/\d+ wake_join_cpu_ns"),
    "From another thread",
    Row("`post` to a busy loop, each of 100 000", r"post: post_busy/two_cores/\d+ real", ["ns 100"]),
    Row("the posting thread's CPU time for it", r"post: post_busy/two_cores/\d+"),
    Row("both threads on one core", r"post: post_busy/one_core/\d+ real"),
    Row("`post` to a sleeping loop, one core, p50", "post: post_sleeping/one_core p50_us", ["ns 10000"]),
    Row("wake a thread by eventfd, one core, p50", "post: wake_eventfd/one_core p50_us"),
    Row("wake a thread by futex, one core, p50", "post: wake_futex/one_core p50_us"),
    Row("`post` to a sleeping loop, other core, p50", "post: post_sleeping/two_cores p50_us", ["ns 10000"]),
    Row("wake a thread by eventfd, other core, p50", "post: wake_eventfd/two_cores p50_us"),
    Row("wake a thread by futex, other core, p50", "post: wake_futex/two_cores p50_us"),
    "To another process and back, 64 bytes",
    Row("`Connection`, one core", "pipe: connection/one_core/.* real"),
    Row("a bare socketpair, blocking, one core", "pipe: bare_pair/one_core/.* real"),
    Row("`Connection`, other core", "pipe: connection/two_cores/.* real"),
    Row("a bare socketpair, blocking, other core", "pipe: bare_pair/two_cores/.* real"),
    "Nobody else there",
    Row("`Mutex`: lock + unlock", "sync: mutex_free", ["ns 3", "jumps 0.55"]),
    Row("`Semaphore`: acquire + release", "sync: semaphore_free", ["ns 3", "jumps 0.55"]),
    Row("`Event`: wait for one that is set", "sync: event_set", ["ns 3", "jumps 0.55"]),
    Row("std::mutex: lock + unlock", "sync: std_mutex_free"),
    Row("Boost.Fiber: mutex", "boost_fiber: mutex_free"),
    Row("Go: sync.Mutex", "go_sync: mutex_free"),
    Row("gevent: RLock", "gevent_sync: mutex_free"),
    Row("gevent: BoundedSemaphore", "gevent_sync: semaphore_free"),
    "From fiber to fiber",
    Row("`Mutex`, handed over", "sync: mutex_hand_over", ["ns 30", "jumps 5.5"]),
    Row("`Channel` of 64, each message", "sync: channel_message/64", ["ns 8", "jumps 1.46"]),
    Row("Boost.Fiber: buffered_channel of 64", "boost_fiber: channel_message/64"),
    Row("Go: a channel of 64", "go_sync: channel_message/64"),
    Row("gevent: Queue(64)", "gevent_sync: channel_message/64"),
    Row("`Channel`, rendezvous, there and back", "sync: channel_round_trip/0", ["ns 60", "jumps 10.9"]),
    Row("`Channel` of 1, there and back", "sync: channel_round_trip/1", ["ns 60", "jumps 10.9"]),
    Row("Boost.Fiber: unbuffered_channel, there and back", "boost_fiber: channel_round_trip/0"),
    Row("Go: unbuffered channel, there and back", "go_sync: channel_round_trip/0"),
    Row("Go: a channel of 1, there and back", "go_sync: channel_round_trip/1"),
    Row("gevent: Channel, there and back", "gevent_sync: channel_round_trip/0"),
    Row("std::binary_semaphore, two threads, there and back", "sync: std_thread_round_trip real"),
    Row("`select` over 8 channels, all ready", "sync: select_8_ready", ["ns 150", "jumps 27"]),
    Row("Go: select over 8 channels, all ready", "go_sync: select_8_ready"),
    Row("`select` over 8, woken by one", "sync: select_8_waiting"),
    Row("a plain receive, woken", "sync: receive_waiting"),
    "Between threads",
    Row("`offload` of nothing, there and back, p50", "offload: hop p50_us", ["ns 6000"]),
    Row("the same, bare mutex + condition variable", "offload: hop_bare p50_us"),
    Row("gevent: ThreadPool.apply of nothing", "gevent_sync: hop real"),
    Row("`offload`, 2 threads, 2 callers, each", "offload: offloads/2 real"),
    Row("the same, bare", "offload: offloads_bare/2 real"),
    Row("`offload`, 2 threads, 64 callers, each", "offload: offloads/64 real"),
    Row("the same, bare", "offload: offloads_bare/64 real"),
    Row("`SharedChannel` of 1024 between loops, each", "shared_channel: stream/1024 real", ["ns 200"]),
    Row("the same, bare, between threads", "shared_channel: stream_bare/1024 real"),
    Row("one way through it, p50", "shared_channel: hop p50_us", ["ns 10000"]),
    Row("the same, bare, between threads", "shared_channel: hop_bare p50_us"),
    "Between processes",
    Row("`ProcessPool::apply` of nothing, there and back, p50", "process_pool: apply p50_us", ["ns 60000"]),
    Row("the same, both sides asleep before, p50", "process_pool: apply_rarely p50_us"),
    Row("64 bytes through a bare socket pair, there and back, p50", "process_pool: bare_round_trip p50_us"),
    Row("`ProcessPool::map`, 10 000 tasks on 2 workers, each", "process_pool: map real"),
    "Trouble",
    Row("throw + catch, no fibers", "cancel: throw_catch"),
    Row("a fiber throws, `get` rethrows", "cancel: fail_and_get"),
    Row("cancel a sleeping fiber + join", "cancel: cancel_asleep"),
    Row("cancel a fiber that has not run + join", "cancel: cancel_unstarted"),
    Row("a limit expires, `move_on_after`", "cancel: timeout_expired"),
    Row("`yield`, 2 fibers inside `catch`", "cancel: yield_in_catch"),
]

NS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}


class Failure(Exception):
    """A program that did not do what it should."""


def command_of(build, name):
    """How to run a benchmark program; None where it is not there."""
    built = build / "bench/micro" / name
    if built.exists():
        return [str(built)]
    script = Path(__file__).with_name(name + ".py")
    python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
    if script.exists() and subprocess.run([python, "-c", "import gevent"], capture_output=True, check=False).returncode == 0:
        return [python, str(script)]
    return None


def run_program(build, name, options):
    """What one benchmark program has to say, as Google Benchmark's JSON."""
    words = [*command_of(build, name), "--json"]
    words += ["--smoke"] if options.smoke else [f"--benchmark_min_time={options.seconds}"]
    environment = dict(os.environ, BIGHT_LOG="warning")
    if options.engine:
        environment["BIGHT_ENGINE"] = options.engine
    done = subprocess.run(words, text=True, capture_output=True, env=environment, check=False)
    try:
        said = json.loads(done.stdout)
    except ValueError:
        raise Failure(f"{name} ended with {done.returncode}: {done.stderr.strip()[-300:]}") from None
    for each in said["benchmarks"]:
        if each.get("error_occurred"):
            raise Failure(f"{name}: {each['name']}: {each['error_message']}")
    if done.returncode != 0:
        raise Failure(f"{name} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return said


def plain_name(name):
    """Without what Google Benchmark appends to say how it measured."""
    return re.sub(r"/(iterations:\d+|real_time|manual_time|process_time)", "", name)


def value_of(figure, said):
    """The figure in ns or bytes, from the JSON by program; None where it is missing."""
    program, benchmark, *which = figure.replace(": ", " ").split(" ")
    which = which[0] if which else "cpu"
    for each in said.get(program, {}).get("benchmarks", []):
        if each["run_type"] == "iteration" and re.fullmatch(benchmark, plain_name(each["name"])):
            if which in ("cpu", "real"):
                return each[f"{which}_time"] * NS[each["time_unit"]]
            unit = which.rsplit("_", 1)[1]
            return each[which] * NS.get(unit, 1.0)
    return None


def measure(options, programs):
    """A list of rounds, each a dict from program to JSON."""
    rounds = []
    for number in range(options.rounds):
        said = {}
        for name in programs:
            if number < SLOW_PROGRAMS.get(name, options.rounds):
                print(f"round {number + 1} of {options.rounds}: {name}", file=sys.stderr, flush=True)
                said[name] = run_program(options.build, name, options)
        rounds.append(said)
    return rounds


def summarize(row, rounds):
    """The row as a dict with medians, or None when nothing measured it."""
    pairs = [(value, value_of(JUMP, said)) for said in rounds if (value := value_of(row.figure, said)) is not None]
    if not pairs:
        return None
    values = [value for value, _ in pairs]
    ratios = [value / jump for value, jump in pairs if jump]
    is_bytes = row.figure.endswith("_bytes")
    result = {
        "label": row.label,
        "figure": row.figure,
        "unit": "bytes" if is_bytes else "ns",
        "median": statistics.median(values),
        "values": values,
        "jumps": statistics.median(ratios) if ratios and not is_bytes else None,
        "limits": list(row.limits),
    }
    if row.limits:
        result["met"] = any(is_met(limit, result) for limit in row.limits)
    return result


def is_met(limit, result):
    kind, number = limit.split(" ")
    value = result["jumps"] if kind == "jumps" else result["median"]
    return value is not None and value <= float(number)


def quantity(value, unit):
    if unit == "bytes":
        return f"{value / 1024:.2f} KiB" if value >= 1000 else f"{value:.0f} B"
    if value >= 1000:
        return f"{value / 1000:.2f} µs"
    return f"{value:.1f} ns"


def limit_text(limit):
    kind, number = limit.split(" ")
    return f"{number} x" if kind == "jumps" else quantity(float(number), kind)


def table(results):
    """Markdown."""
    lines = ["| | median | x jump | at most | |", "|---|--:|--:|--:|---|"]
    for result in results:
        if isinstance(result, str):
            lines.append(f"| **{result}** | | | | |")
            continue
        jumps = f"{result['jumps']:.1f}" if result["jumps"] and result["jumps"] < 100 else ""
        limits = " or ".join(map(limit_text, result["limits"]))
        verdict = {True: "met", False: "**missed**"}.get(result.get("met"), "")
        lines.append(f"| {result['label']} | {quantity(result['median'], result['unit'])} | {jumps} | {limits} | {verdict} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=Path("build/release"), help="the build folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="for each benchmark in each round, at least")
    parser.add_argument("--engine", choices=["uring", "epoll"], help="default: what bight chooses by itself")
    parser.add_argument("--programs", default=",".join(PROGRAMS), help="only these, separated by commas")
    parser.add_argument("--json", type=Path, help="write everything to this file, too")
    parser.add_argument("--smoke", action="store_true", help="one tiny round, to see that everything works")
    options = parser.parse_args()
    if options.smoke:
        options.rounds = 1
    programs = [name for name in options.programs.split(",") if command_of(options.build, name)]
    if not programs:
        sys.exit(f"summary: {options.build} has no micro benchmarks; ./run build makes them")

    try:
        rounds = measure(options, programs)
    except Failure as failure:
        sys.exit(f"summary: {failure}")
    results = []
    for row in ROWS:
        result = row if isinstance(row, str) else summarize(row, rounds)
        if isinstance(result, str) and results and isinstance(results[-1], str):
            results.pop()  # a heading with nothing under it
        if result:
            results.append(result)
    if isinstance(results[-1], str):
        results.pop()

    context = next(iter(rounds[0].values()))["context"]
    facts = {key: context[key] for key in ("date", "host_name", "processor", "num_cpus", "kernel", "engine", "commit")}
    facts["rounds"] = options.rounds
    facts["command"] = f"bench/micro/summary.py --rounds {options.rounds} --seconds {options.seconds:g}" + (
        f" --engine {options.engine}" if options.engine else "")
    if options.smoke:
        print("A smoke test: these figures mean nothing.\n")
    print(f"Medians of {options.rounds} rounds. {facts['processor']}, {facts['num_cpus']} cores, {facts['kernel']}, "
          f"{platform.machine()}; engine {facts['engine']}; commit {facts['commit']}.\n")
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps({**facts, "results": [r for r in results if isinstance(r, dict)]}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
