#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What bight does, shown in half a minute: `./run demo` builds what this needs and then runs it.

Starts the echo and the HTTP example with a shard for each core and loads them; then sets one shard beside a server
written by hand on epoll, in a small table. Exits 1 when a server or a load did not do what it should.
"""

import argparse
import collections
import contextlib
import ctypes
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONNECTIONS = 64
MESSAGE_BYTES = 64
START_SECONDS = 10
STOP_SECONDS = 15
WHOLE_SECONDS = 120  # a demo that takes longer hangs

Figures = collections.namedtuple("Figures", "requests per_second p50_us cpu_us")


class Failure(Exception):
    """A server or a load that did not do what it should."""


# --- processes --------------------------------------------------------------------------------------------------------


def in_child(cores):
    """What a child does before it becomes its program: keeps to `cores`, and ends when we die."""
    death_signal = ctypes.CDLL(None).prctl

    def prepare():
        death_signal(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if cores:
            os.sched_setaffinity(0, cores)

    return prepare


def family(root):
    """The process and everything it started."""
    children = collections.defaultdict(list)
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            pid = int(entry.name)
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            children[parent].append(pid)
    found = [root]
    for pid in found:  # grows while it is walked
        found += children[pid]
    return found


def cpu_seconds(root):
    """CPU time of a process and what it started, from the scheduler's own nanoseconds."""
    total = 0
    for pid in family(root):
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(task.read_text().split()[0])
    return total / 1e9


class Server:
    """A server while it runs: `with Server(command) as server`. Ends it with SIGTERM and waits for it."""

    def __init__(self, command, cores=None):
        self.command = [str(word) for word in command]
        self.cores = cores

    def __enter__(self):
        self.output = tempfile.TemporaryFile("w+")
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.errors,
            start_new_session=True, preexec_fn=in_child(self.cores))
        try:
            self.host, self.port = self.wait_for_address()
        except BaseException:
            self.stop()
            raise
        return self

    def wait_for_address(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            ended = self.has_ended()
            if match := re.search(r"^listening on (\S+):(\d+)$", self.text(self.output), re.M):
                host = match[1].strip("[]")
                return ("127.0.0.1" if host in ("0.0.0.0", "::", "*") else host), int(match[2])
            if ended:
                lines = self.text(self.errors).strip().splitlines()
                raise Failure(lines[-1] if lines else "ended before it listened")
            time.sleep(0.01)
        raise Failure(f"did not listen within {START_SECONDS} s")

    @staticmethod
    def text(file):
        return os.pread(file.fileno(), 1 << 20, 0).decode(errors="replace")

    def has_ended(self, patience=0.0):
        """Whether it ends in this time. Does not reap it: until then its number, and its group's, is nobody else's."""
        end = time.monotonic() + patience
        while not os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            if time.monotonic() >= end:
                return False
            time.sleep(0.005)
        return True

    def stop(self):
        """Asks the server to end and waits; whatever is left of it then is killed. Returns its status; None: it did not
        end by itself."""
        if self.process.returncode is not None:
            return self.process.returncode
        os.kill(self.process.pid, signal.SIGTERM)
        ended = self.has_ended(STOP_SECONDS)
        os.killpg(self.process.pid, signal.SIGKILL)
        status = self.process.wait()
        return status if ended else None

    def __exit__(self, kind, *_):
        status = self.stop()
        if kind is None and status is None:
            raise Failure(f"{Path(self.command[0]).name} did not end within {STOP_SECONDS} s of SIGTERM")
        if kind is None and status not in (0, -signal.SIGTERM):
            raise Failure(f"{Path(self.command[0]).name} ended with {status}: {self.text(self.errors).strip()[-300:]}")


# --- loads ------------------------------------------------------------------------------------------------------------


class EchoLoad:
    """bench/echo_load, which stops before and after what it measures so that the server can be looked at in between."""

    def __init__(self, build, cores=None):
        self.program = build / "bench/echo_load"
        self.cores = cores

    def words(self, server, seconds):
        return [str(self.program), "--host", server.host, "--port", str(server.port), "--conns", str(CONNECTIONS),
                "--size", str(MESSAGE_BYTES), "--seconds", str(seconds), "--json"]

    def run(self, server, seconds):
        with subprocess.Popen([*self.words(server, seconds), "--steps"], text=True, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, preexec_fn=in_child(self.cores)) as load:
            try:
                if load.stdout.readline().strip() != "ready":
                    raise Failure("echo_load could not connect")
                before = cpu_seconds(server.process.pid)
                print(file=load.stdin, flush=True)
                answer = load.stdout.readline()
                used = cpu_seconds(server.process.pid) - before
                load.stdin.close()
                if load.wait() != 0 or not answer:
                    raise Failure(f"echo_load ended with {load.returncode}")
            except BaseException:
                load.kill()
                raise
        result = json.loads(answer)
        if result["errors"] or not result["ops"]:
            raise Failure(f"echo_load: {result['ops']} answers, {result['errors']} errors")
        return Figures(result["ops"], result["ops_per_s"], result["p50_us"], used * 1e6 / result["ops"])


class HttpLoad:
    """wrk."""

    def __init__(self, threads, cores=None):
        self.threads = threads
        self.cores = cores

    def words(self, server, seconds):
        return ["wrk", f"-t{self.threads}", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency",
                f"http://{server.host}:{server.port}/"]

    def run(self, server, seconds):
        before = cpu_seconds(server.process.pid)
        done = subprocess.run(self.words(server, seconds), text=True, capture_output=True,
                              preexec_fn=in_child(self.cores), timeout=seconds + 30)
        used = cpu_seconds(server.process.pid) - before
        return self.figures(done.stdout, used, done.returncode)

    @staticmethod
    def figures(text, used, status=0):
        requests = re.search(r"(\d+) requests in ", text)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
        median = re.search(r"50%\s+([\d.]+)(us|ms|s)", text)
        if trouble := re.search(r"Socket errors:.*|Non-2xx.*", text):
            raise Failure(f"wrk: {trouble[0]}")
        if status != 0 or not (requests and rate and median) or int(requests[1]) == 0:
            raise Failure(f"wrk ended with {status} and: {text.strip()[-300:]}")
        p50 = float(median[1]) * {"us": 1, "ms": 1e3, "s": 1e6}[median[2]]
        return Figures(int(requests[1]), float(rate[1]), p50, used * 1e6 / int(requests[1]))


# --- the show ---------------------------------------------------------------------------------------------------------


def heading(text):
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}== {text}{plain}")


def show_command(words):
    print(f"$ {shlex.join(map(str, words))}")


def show_example(name, shards, build, load, seconds, look=None):
    """Starts an example with a shard for each core, lets `look` look at it, loads it."""
    command = [build / "examples" / name, "--port", "0", "--shards", shards]
    show_command(command)
    with Server(command) as server:
        print(f"listening on {server.host}:{server.port}")
        if look:
            look(server)
        show_command(load.words(server, seconds))
        figures = load.run(server, seconds)
        print(f"{figures.requests:,} answers, {figures.per_second:,.0f} a second; half of them within "
              f"{figures.p50_us:,.0f} µs")


def show_curl(server):
    words = ["curl", "-sS", "-i", "--max-time", "5", f"http://{server.host}:{server.port}/"]
    show_command(words)
    done = subprocess.run(words, text=True, capture_output=True)
    print(done.stdout.replace("\r", "").rstrip())
    if done.returncode != 0 or " 200 " not in done.stdout.split("\n")[0]:
        raise Failure(f"curl got no answer: {done.stderr.strip()}")


def io_uring_refusal():
    """Why this machine does not let us have an io_uring; None when it does."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(425, 1, ctypes.create_string_buffer(120))  # io_uring_setup
    if descriptor < 0:
        return os.strerror(ctypes.get_errno())
    os.close(descriptor)
    return None


def table_rows(kind, build):
    """(name, command, why it can not be had) of the servers to compare; `kind` is echo or http."""
    example = build / "examples" / {"echo": "echo", "http": "http_hello"}[kind]
    refusal = io_uring_refusal()
    one_shard = [example, "--port", "0", "--shards", "1"]
    return [
        ("by hand on epoll", [build / "bench/epoll_floor", "--port", "0", "--mode", kind], None),
        ("bight on epoll", [*one_shard, "--engine", "epoll"], None),
        ("bight on io_uring", [*one_shard, "--engine", "uring"],
         f"this machine forbids io_uring ({refusal})" if refusal else None),
    ]


def show_table(kind, title, build, load, cores, seconds):
    """One line for each server; how many of them failed."""
    print(f"\n{title}\n")
    print(f"  {'server':<18} {'requests/s':>11} {'CPU µs/request':>15} {'p50 µs':>8}")
    failed = 0
    for name, command, refusal in table_rows(kind, build):
        if refusal is None and not command[0].exists():
            refusal = "not built"
        if refusal:
            print(f"  {name:<18} {refusal}")
            continue
        try:
            with Server(command, cores) as server:
                figures = load.run(server, seconds)
        except Failure as failure:
            print(f"  {name:<18} failed: {failure}")
            failed += 1
            continue
        cpu = f"{figures.cpu_us:.2f}" if figures.cpu_us else "unknown"
        print(f"  {name:<18} {figures.per_second:>11,.0f} {cpu:>15} {figures.p50_us:>8,.0f}", flush=True)
    return failed


def show(build, seconds):
    """All of it; how much of it failed."""
    cores = sorted(os.sched_getaffinity(0))
    server_cores, load_cores = ({cores[0]}, {cores[1]}) if len(cores) > 1 else (None, None)
    has_http = (build / "examples/http_hello").exists()
    failed = 0

    parts = [("Echo: a fiber for each connection, a process for each core", "echo", EchoLoad(build), None)]
    if has_http:
        parts.append(("HTTP, likewise", "http_hello", HttpLoad(threads=2), show_curl))
    for title, name, load, look in parts:
        heading(title)
        try:
            show_example(name, len(cores), build, load, seconds, look)
        except Failure as failure:
            print(f"failed: {failure}")
            failed += 1
    if not has_http:
        heading("HTTP: not built, llhttp was not found")

    heading("What it costs: one thread beside a server written by hand")
    where = "server on one core, load on another" if server_cores else "one core for server and load"
    failed += show_table("echo", f"echo, {CONNECTIONS} connections, {MESSAGE_BYTES} bytes; {where}", build,
                         EchoLoad(build, load_cores), server_cores, min(2, seconds))
    if has_http:
        failed += show_table("http", f"HTTP keep-alive, {CONNECTIONS} connections; {where}", build,
                             HttpLoad(threads=1, cores=load_cores), server_cores, min(2, seconds))
    print("\nWhere the load is the bottleneck, requests/s are alike and CPU µs/request tells the servers apart.\n"
          "These are short runs; `./run bench` takes medians over interleaved rounds.")
    return failed


def self_test():
    text = ("  2 threads and 64 connections\n  Latency Distribution\n     50%    1.25ms\n     75%  2.00ms\n"
            "  400 requests in 2.00s, 1MB read\nRequests/sec:    200.50\n")
    wanted = Figures(400, 200.5, 1250.0, 2500.0)
    if HttpLoad.figures(text, 1.0) != wanted:
        sys.exit(f"demo: {HttpLoad.figures(text, 1.0)} should be {wanted}")
    for bad in (text + "  Socket errors: connect 0, read 3, write 0, timeout 0\n", "unable to connect"):
        with contextlib.suppress(Failure):
            HttpLoad.figures(bad, 1.0)
            sys.exit(f"demo: took {bad!r} for a result")
    with contextlib.suppress(Failure):
        with Server(["sh", "-c", "echo gone >&2; exit 3"]):
            sys.exit("demo: took a dead server for a live one")
    with Server(["sh", "-c", "echo listening on 0.0.0.0:12; (while :; do :; done) & wait"]) as server:
        time.sleep(0.2)
        if (server.host, server.port) != ("127.0.0.1", 12) or cpu_seconds(server.process.pid) < 0.02:
            sys.exit("demo: address or CPU time of a server are wrong")
        pids = family(server.process.pid)
    if len(pids) != 2 or any(Path(f"/proc/{pid}/exe").exists() for pid in pids):
        sys.exit(f"demo: of the processes {pids} some are left")
    print("demo: the self-test holds")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=Path, default=Path("build/release"), help="the build folder")
    parser.add_argument("--seconds", type=int, default=3, help="how long each example is loaded")
    parser.add_argument("--self-test", action="store_true", help="check the demo itself")
    options = parser.parse_args()

    def leave(number, _):
        sys.exit(128 + number)  # unwinds, so servers are ended

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, leave)
    sys.stdout.reconfigure(line_buffering=True)
    if options.self_test:
        self_test()
        return 0
    for program in (options.build / "examples/echo", options.build / "bench/echo_load"):
        if not program.exists():
            sys.exit(f"demo: {program} is not built; ./run demo builds it")
    if not shutil.which("wrk"):
        sys.exit("demo: wrk is missing; ./run demo installs it")
    signal.alarm(WHOLE_SECONDS)
    try:
        return 1 if show(options.build, options.seconds) else 0
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
