#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts small programs 1000 times by bight, by Go's os/exec and by Python's subprocess: in turns, a hundred each, so
that what else goes on in the machine meets all of them. Prints a table, or JSON with --json.

    bench/processes/compare_spawn.py [--build build/release] [--rounds 10] [--json] [--smoke]
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CASES = [("true", 1, "`/bin/true`, one after the other"), ("true", 8, "`/bin/true`, 8 at a time"),
         ("echo", 1, "`/bin/echo` and what it says, one after the other")]


def quantile(times, q):
    return sorted(times)[min(len(times) - 1, int(len(times) * q))]


def contenders(build):
    """Name -> command. Who is not there is left out."""
    found = {"bight": [build / "bench/processes/bight_spawn"], "Go os/exec": [build / "bench/processes/go_spawn"],
             "Python subprocess": [sys.executable, HERE / "python_spawn.py"]}
    return {name: command for name, command in found.items() if Path(command[-1]).exists()}


def measure(programs, what, at_a_time, rounds, count):
    each = {name: [] for name in programs}
    total = {name: [] for name in programs}
    for number in range(rounds):
        names = list(programs)
        for name in names[number % len(names):] + names[:number % len(names)]:
            done = subprocess.run([*map(str, programs[name]), what, str(count), str(at_a_time)], check=True,
                                  capture_output=True, text=True, timeout=600)
            said = json.loads(done.stdout)
            each[name] += said["each_us"]
            total[name].append(said["total_us"] / count)
    return {name: {"count": len(each[name]), "p50_us": statistics.median(each[name]),
                   "p90_us": quantile(each[name], 0.9), "per_process_us": statistics.median(total[name])}
            for name in programs}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=HERE.parent.parent / "build/release")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="only see that it works")
    options = parser.parse_args()
    rounds, count = (1, 3) if options.smoke else (options.rounds, 100)
    programs = contenders(options.build)
    if "bight" not in programs:
        sys.exit(f"there is no bight_spawn in {options.build}")
    results = {label: measure(programs, what, at_a_time, rounds, count) for what, at_a_time, label in CASES}
    if options.json:
        json.dump({"python": platform.python_version(), "kernel": platform.release(), "results": results}, sys.stdout,
                  indent=2)
        return
    for label, result in results.items():
        print(f"{label}, {rounds * count} times\n\n| | p50 | p90 | median round, per process |\n|---|---|---|---|")
        for name, figures in result.items():
            print(f"| {name} | {figures['p50_us']:.0f} µs | {figures['p90_us']:.0f} µs "
                  f"| {figures['per_process_us']:.0f} µs |")
        print()


if __name__ == "__main__":
    main()
