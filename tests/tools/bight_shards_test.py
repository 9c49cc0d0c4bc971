#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What bight-shards says of a service that runs, of one that has no worker ready, and of none.

    bight_shards_test.py BIGHT_SHARDS ECHO
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATIENCE = 60  # seconds, for what takes a few milliseconds


def check(condition, why):
    if not condition:
        raise AssertionError(why)


def ask(program, *words):
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True, timeout=PATIENCE, check=False)


def wait_for(condition, what):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError(f"waited in vain for {what}")


def wrong_usage(program):
    for words in [], ["--sing", "x"], ["a", "b"], ["--watch=0", "a"], ["--watch=soon", "a"]:
        said = ask(program, *words)
        check(said.returncode == 2 and "bight-shards: " in said.stderr and not said.stdout, (words, said))
    check("exit status" in ask(program, "--help").stdout, "no help")


def watches(program, status):
    with subprocess.Popen([program, "--watch", "--json", str(status)], stdout=subprocess.PIPE, text=True) as watcher:
        seen = 0
        while seen < 2:  # two answers
            seen += "workers_ready" in watcher.stdout.readline()
        watcher.send_signal(signal.SIGINT)
        check(watcher.wait(PATIENCE) == -signal.SIGINT, "watching does not end as it should")


def runs(program, echo, folder):
    status = folder / "status"
    said = ask(program, status)
    check(said.returncode == 1 and f"{status}: No such file" in said.stderr, said)
    service = subprocess.Popen([echo, "--port", "0", "--shards", "2", "--status-socket", str(status)],
                               stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: "2 workers ready" in ask(program, status).stdout, "two workers")
        said = ask(program, status)
        check(said.returncode == 0 and f"supervisor {service.pid} running" in said.stdout, said)
        check(said.stdout.count("\nshard ") == 2 and said.stdout.endswith("\n"), said)
        told = json.loads(ask(program, "--json", status).stdout)
        check(told["pid"] == service.pid and told["workers_ready"] == 2 and len(told["workers"]) == 2, told)
        watches(program, status)
    finally:
        service.terminate()
        check(service.wait(PATIENCE) == 0, "the service did not end well")
    check(ask(program, status).returncode == 1, "there is nobody")


def none_ready(program, folder):
    """A supervisor that says so: only its answer matters here."""
    answer = 'supervisor 1 running, up 0 s, 9 restarts, 0 reloads; 0 workers ready, 0 connections open'
    script = ("import socket, sys\n"
              "listener = socket.socket(socket.AF_UNIX)\n"
              "listener.bind(sys.argv[1])\n"
              "listener.listen()\n"
              "print('there', flush=True)\n"
              "client, _ = listener.accept()\n"
              "assert client.recv(100) == b'text\\n'\n"
              "client.sendall(sys.argv[2].encode())\n")
    path = folder / "none"
    with subprocess.Popen([sys.executable, "-c", script, str(path), answer], stdout=subprocess.PIPE) as supervisor:
        supervisor.stdout.readline()
        said = ask(program, path)
    check(said.returncode == 3 and said.stdout == answer + "\n", said)


def main():
    program, echo = sys.argv[1:]
    wrong_usage(program)
    with tempfile.TemporaryDirectory() as folder:
        runs(program, echo, Path(folder))
        none_ready(program, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
