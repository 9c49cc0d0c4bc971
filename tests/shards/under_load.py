#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reloads, upgrades and kills of workers while clients ask for all they can.

    tests/shards/under_load.py HTTP_HELLO reload|upgrade|kill|spread [--seconds S] [--engine E]

reload   SIGHUP every two seconds: no request of any client fails, none is reset
upgrade  SIGUSR2 every two seconds, the program's file replaced before; the same. Then one that can not start: the old
         one goes on
kill     SIGKILL of a random worker every second: only requests that were under way there fail; nobody is refused
spread   1000 connections: the worker with the most has at most 1.2 times the mean

Clients: wrk with keep-alive, if it is installed; one that makes a connection for each request; and ones that keep a
connection, ask at times of their own choosing, and never try again. Prints what it counted; exits 1 when it was wrong.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
LAST_REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
PATIENCE = 10


class Service:
    """The example server under supervision."""

    def __init__(self, program, engine, shards, folder):
        self.folder = Path(folder)
        self.program = self.folder / "server"
        shutil.copy2(program, self.program)
        self.pid_file = self.folder / "pid"
        self.status_socket = str(self.folder / "status")
        self.log = open(self.folder / "log", "w+")
        self.process = subprocess.Popen(
            [str(self.program), "--port", "0", "--shards", str(shards), "--engine", engine, "--pid-file",
             str(self.pid_file), "--status-socket", self.status_socket],
            stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.port = int(re.search(r":(\d+)$", self.process.stdout.readline()).group(1))
        self.wait_for(lambda status: status["workers_ready"] == shards)

    def pid(self):
        return int(self.pid_file.read_text().splitlines()[0])

    def status(self):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(self.status_socket)
            client.sendall(b"json\n")
            answer = b""
            while part := client.recv(65536):
                answer += part
        return json.loads(answer)

    def wait_for(self, condition):
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                if condition(self.status()):
                    return
            except (OSError, ValueError):  # not there yet, or one is leaving
                pass
            time.sleep(0.01)
        raise SystemExit(f"waited in vain\n{self.text()}")

    def text(self):
        self.log.flush()
        return (self.folder / "log").read_text()

    def stop(self):
        os.kill(self.pid(), signal.SIGTERM)
        end = time.monotonic() + 30
        while self.pid_file.exists() and time.monotonic() < end:
            time.sleep(0.01)
        self.process.wait(30)


class Client(threading.Thread):
    """Counts what it got; what went wrong is listed."""

    def __init__(self, port):
        super().__init__()
        self.port = port
        self.done = threading.Event()
        self.answered = 0
        self.failures = []
        self.refused = 0
        self.slowest = 0.0

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)

    def ask(self, connection, request):
        """One answer; whether the connection goes on."""
        start = time.monotonic()
        connection.sendall(request)
        answer = b""
        while b"Hello, World!" not in answer:
            part = connection.recv(4096)
            if not part:
                raise ConnectionError(f"ended after {len(answer)} bytes of an answer")
            answer += part
        self.slowest = max(self.slowest, time.monotonic() - start)
        self.answered += 1
        return b"onnection: close" not in answer

    def run(self):
        while not self.done.is_set():
            try:
                with self.connect() as connection:
                    self.converse(connection)
            except ConnectionRefusedError as error:
                self.refused += 1
                self.failures.append(error)
            except OSError as error:
                self.failures.append(error)


class Churn(Client):
    """A connection for each request."""

    def converse(self, connection):
        self.ask(connection, LAST_REQUEST)


class KeepAlive(Client):
    """Keeps a connection for as long as the server does, with pauses between requests, and never tries again."""

    def converse(self, connection):
        while not self.done.is_set() and self.ask(connection, REQUEST):
            time.sleep(random.uniform(0, 0.2))


def run_wrk(port, seconds):
    if not shutil.which("wrk"):
        return None
    return subprocess.Popen(["wrk", "-t1", "-c16", f"-d{seconds}s", f"http://127.0.0.1:{port}/"],
                            stdout=subprocess.PIPE, text=True)


def load(service, seconds, disturb):
    """Lets all clients ask for so long, calling `disturb` again and again, which sleeps. What they met."""
    clients = [Churn(service.port) for _ in range(2)] + [KeepAlive(service.port) for _ in range(8)]
    for client in clients:
        client.start()
    wrk = run_wrk(service.port, seconds)
    end = time.monotonic() + seconds
    disturbed = 0
    while time.monotonic() < end - 1:
        disturb()
        disturbed += 1
    text = wrk.communicate()[0] if wrk else ""
    for client in clients:
        client.done.set()
    for client in clients:
        client.join()
    failures = [failure for client in clients for failure in client.failures]
    socket_errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    other = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    total = re.search(r"(\d+) requests in", text)
    return {
        "disturbed": disturbed,
        "churn_requests": sum(client.answered for client in clients[:2]),
        "keep_alive_requests": sum(client.answered for client in clients[2:]),
        "slowest_ms": round(1000 * max(client.slowest for client in clients)),
        "failed": len(failures),
        "failures": sorted({str(failure) for failure in failures}),
        "refused": sum(client.refused for client in clients),
        "wrk_requests": int(total.group(1)) if total else 0,
        "wrk_connect_errors": int(socket_errors.group(1)) if socket_errors else 0,
        "wrk_errors": sum(map(int, socket_errors.groups())) if socket_errors else 0,
        "wrk_bad_answers": int(other.group(1)) if other else 0,
    }


def expect(result, **wanted):
    print(json.dumps(result))
    wrong = {name: result[name] for name, most in wanted.items() if result[name] > most}
    if wrong:
        raise SystemExit(f"too many: {wrong}, of {wanted}")


def reload(service, seconds):
    def disturb():
        os.kill(service.pid(), signal.SIGHUP)
        time.sleep(2)

    result = load(service, seconds, disturb)
    result["reloads"] = service.status()["reloads"]
    expect(result, failed=0, wrk_errors=0, wrk_bad_answers=0)
    if result["reloads"] == 0:
        raise SystemExit("there was no reload")


def upgrade(service, seconds):
    supervisors = set()

    def disturb():
        before = service.pid()
        supervisors.add(before)
        # As an installer does: a new file under the old name.
        draft = service.program.with_suffix(".new")
        shutil.copy2(service.program, draft)
        draft.rename(service.program)
        os.kill(before, signal.SIGUSR2)
        service.wait_for(lambda status: status["pid"] != before and status["state"] == "running")
        time.sleep(2)

    result = load(service, seconds, disturb)
    result["supervisors"] = len(supervisors)
    expect(result, failed=0, wrk_errors=0, wrk_bad_answers=0)
    last = service.pid()
    draft = service.program.with_suffix(".new")
    draft.write_text("#!/bin/false\n")
    draft.chmod(0o755)
    draft.rename(service.program)
    os.kill(last, signal.SIGUSR2)
    end = time.monotonic() + 30
    while "the new program did not come up; this one goes on" not in service.text() and time.monotonic() < end:
        time.sleep(0.01)
    if service.pid() != last or service.status()["state"] != "running":
        raise SystemExit(f"the failed upgrade has done harm\n{service.text()}")
    client = Client(service.port)
    with client.connect() as connection:
        client.ask(connection, REQUEST)


def kill(service, seconds):
    open_there = 0

    def disturb():
        nonlocal open_there
        workers = [worker for worker in service.status()["workers"] if worker["state"] == "ready"]
        if workers:
            victim = random.choice(workers)
            open_there += victim["connections_open"] + 2  # two more may have been accepted since
            os.kill(victim["pid"], signal.SIGKILL)
        time.sleep(1)

    result = load(service, seconds, disturb)
    result["connections_of_the_dead"] = open_there
    # One request at a time is under way on a connection; wrk's idle ones count, too: it has none.
    expect(result, refused=0, wrk_connect_errors=0, failed=open_there, wrk_errors=open_there, wrk_bad_answers=0)


def spread(service, _):
    connections = [socket.create_connection(("127.0.0.1", service.port), PATIENCE) for _ in range(1000)]
    service.wait_for(lambda status: status["connections_open"] == 1000)
    open_at = [worker["connections_open"] for worker in service.status()["workers"]]
    ratio = max(open_at) * len(open_at) / 1000
    told = subprocess.run([str(service.program), "--status-socket", service.status_socket, "--status"],
                          stdout=subprocess.PIPE, text=True, check=True, timeout=PATIENCE).stdout
    if f"{len(open_at)} workers ready, 1000 connections open" not in told:
        raise SystemExit(f"--status says {told}")
    print(json.dumps({"workers": len(open_at), "open": open_at, "max_to_mean": round(ratio, 3)}))
    for connection in connections:
        connection.close()
    if ratio > 1.2:
        raise SystemExit("more than 1.2")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("what", choices=["reload", "upgrade", "kill", "spread"])
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--shards", type=int, default=0)
    arguments = parser.parse_args()
    shards = arguments.shards or (4 if arguments.what == "spread" else 2)
    with tempfile.TemporaryDirectory() as folder:
        service = Service(arguments.program, arguments.engine, shards, folder)
        try:
            globals()[arguments.what](service, arguments.seconds)
            service.stop()
            if "AddressSanitizer" in service.text() or "check failed" in service.text():
                raise SystemExit(service.text())
        finally:
            if service.pid_file.exists():
                os.kill(service.pid(), signal.SIGKILL)
            if service.process.poll() is None:
                service.process.kill()


if __name__ == "__main__":
    sys.exit(main())
