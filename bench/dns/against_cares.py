#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""10 000 distinct names from a server on this machine, by bight and by a bare c-ares + epoll program, in turns.

    bench/dns/against_cares.py build/release/bench/dns --rounds 9

Prints medians and the ratios of wall-clock and of CPU time; --json prints all figures.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path


def run(options, program, port, **environment):
    command = [str(Path(options.folder, program)), "--json", "--port", str(port), "--names", str(options.names),
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
    with subprocess.Popen([str(Path(options.folder, "dns_server"))], stdout=subprocess.PIPE, text=True) as server:
        try:
            port = int(server.stdout.readline())
            for _ in range(options.rounds):
                runs["c-ares"].append(run(options, "dns_cares", port))
                for engine in ("epoll", "uring"):
                    runs[engine].append(run(options, "dns_bight", port, BIGHT_LOG="warning", BIGHT_ENGINE=engine))
        finally:
            server.kill()
    if options.json:
        print(json.dumps(runs))
        return

    def median(who, what):
        return statistics.median(each[what] for each in runs[who])

    for who in runs:
        seconds, cpu = median(who, "seconds"), median(who, "cpu_seconds")
        line = f"{who:7} {seconds * 1e3:8.1f} ms, {cpu * 1e6 / options.names:6.2f} us of CPU a name"
        if who != "c-ares":
            line += (f"; x {seconds / median('c-ares', 'seconds'):.2f} of c-ares in time,"
                     f" x {cpu / median('c-ares', 'cpu_seconds'):.2f} in CPU; cached {median(who, 'cached_ns'):.0f} ns")
        print(line)


if __name__ == "__main__":
    main()
