#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""10 000 distinct names from a server on this machine, by bight and by a bare c-ares + epoll program, in turns.

    bench/dns/against_cares.py build/release/bench/dns --rounds 15

The server has one core for itself and who asks it another. All ask with the same concurrency, for the same records, and
read what comes with the same room for it in the kernel. Who is first changes from round to round. Prints medians; the
ratios to c-ares, of wall-clock and of CPU time, are taken within each round. --json prints all figures.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path


def on_core(number):
    """The core of that number, of those that we may use; nothing where there is but one."""
    cores = sorted(os.sched_getaffinity(0))
    return [] if len(cores) < 2 else ["taskset", "-c", str(cores[number])]


def run(options, program, port, **environment):
    command = on_core(1) + [str(Path(options.folder, program)), "--json", "--port", str(port), "--names", str(options.names),
               "--concurrency", str(options.concurrency)] + (["--both"] if options.both else [])
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **environment})
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}{done.stdout}")
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="where dns_bight, dns_cares and dns_server are")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--names", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--both", action="store_true", help="IPv6 addresses, too")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="few and once, to see that it works")
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.names, options.concurrency = 1, 200, 20

    runs = {"epoll": [], "uring": [], "c-ares": []}
    who_asks = {
        "c-ares": lambda port: run(options, "dns_cares", port),
        "epoll": lambda port: run(options, "dns_bight", port, BIGHT_LOG="warning", BIGHT_ENGINE="epoll"),
        "uring": lambda port: run(options, "dns_bight", port, BIGHT_LOG="warning", BIGHT_ENGINE="uring"),
    }
    command = on_core(0) + [str(Path(options.folder, "dns_server"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            port = int(server.stdout.readline())
            for number in range(options.rounds):
                for who in list(who_asks)[:: 1 if number % 2 == 0 else -1]:
                    runs[who].append(who_asks[who](port))
        finally:
            server.kill()
    if options.json:
        print(json.dumps(runs))
        return

    def median(who, what):
        return statistics.median(each[what] for each in runs[who])

    def ratio(who, what):
        return statistics.median(a[what] / b[what] for a, b in zip(runs[who], runs["c-ares"]))

    for who in runs:
        seconds, cpu = median(who, "seconds"), median(who, "cpu_seconds")
        line = f"{who:7} {seconds * 1e3:8.1f} ms, {cpu * 1e6 / options.names:6.2f} us of CPU a name"
        if who != "c-ares":
            line += (f"; x {ratio(who, 'seconds'):.2f} of c-ares in time,"
                     f" x {ratio(who, 'cpu_seconds'):.2f} in CPU; cached {median(who, 'cached_ns'):.0f} ns")
        print(line)


if __name__ == "__main__":
    main()
