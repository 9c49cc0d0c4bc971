#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The same as in process_pool.cpp, by the same names, with multiprocessing.Pool. Speaks Google Benchmark's JSON.

    process_pool.py [--smoke]               multiprocessing alone
    process_pool.py [--smoke] PROGRAM       both, in turns, in one run, and how many times faster PROGRAM is
"""

import json
import multiprocessing
import statistics
import subprocess
import sys
import time

SMOKE = "--smoke" in sys.argv
PROGRAMS = [word for word in sys.argv[1:] if not word.startswith("--")]
ROUNDS = 1 if SMOKE else 3


def identity(x):
    return x


def result(name, seconds, count, times=()):
    entry = {"name": name, "run_type": "iteration", "real_time": seconds / count * 1e6, "time_unit": "us"}
    if times:
        entry["p50_us"] = statistics.median(times) * 1e6
    return entry


def measure():
    trips, tasks, runs = (20, 50, 1) if SMOKE else (3000, 10_000, 3)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(identity, range(100), chunksize=1)
        times = []
        for number in range(trips):
            start = time.perf_counter()
            assert pool.apply(identity, (number,)) == number
            times.append(time.perf_counter() - start)
        numbers = list(range(tasks))
        start = time.perf_counter()
        for _ in range(runs):
            assert pool.map(identity, numbers, chunksize=1) == numbers
        mapped = time.perf_counter() - start
    return [result("apply", sum(times), trips, times), result("map", mapped, runs * tasks)]


def measure_program(program):
    command = [program, "--json", "--benchmark_filter=^(apply|map)/"] + (["--smoke"] if SMOKE else [])
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {entry["name"].split("/")[0]: entry for entry in json.loads(said)["benchmarks"]}


def main():
    if not PROGRAMS:
        print(json.dumps({"context": {"python": sys.version.split()[0]}, "benchmarks": measure()}, indent=1))
        return
    ratios = {"apply": [], "map": []}
    for _ in range(ROUNDS):
        theirs = {entry["name"]: entry["real_time"] for entry in measure()}
        ours = {name: entry["real_time"] for name, entry in measure_program(PROGRAMS[0]).items()}
        for name, of_round in ratios.items():
            of_round.append(theirs[name] / ours[name])
            print(f"{name}: multiprocessing {theirs[name]:.2f} us a task, bight {ours[name]:.2f} us: "
                  f"{of_round[-1]:.1f} times as fast")
    for name, of_all in ratios.items():
        print(f"{name}: median {statistics.median(of_all):.1f}")


if __name__ == "__main__":
    main()
