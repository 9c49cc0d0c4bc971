#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""As bight_spawn.cpp, with the subprocess module; several at a time, with a pool of threads."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor


def run_one(talks):
    if talks:
        assert subprocess.check_output(["/bin/echo", "hello"], stderr=subprocess.PIPE) == b"hello\n"
    else:
        subprocess.run(["/bin/true"], check=True)


def timed(talks):
    before = time.perf_counter()
    run_one(talks)
    return (time.perf_counter() - before) * 1e6


def main():
    talks, count, at_a_time = sys.argv[1] == "echo", int(sys.argv[2]), int(sys.argv[3])
    run_one(talks)
    start = time.perf_counter()
    if at_a_time == 1:
        times = [timed(talks) for _ in range(count)]
    else:
        with ThreadPoolExecutor(at_a_time) as pool:
            times = list(pool.map(timed, [talks] * count))
    json.dump({"total_us": (time.perf_counter() - start) * 1e6, "each_us": times}, sys.stdout)


if __name__ == "__main__":
    main()
