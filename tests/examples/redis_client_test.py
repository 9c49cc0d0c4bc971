#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The program of examples/redis_client beside redis-cli, with a real Redis.

    redis_client_test.py PROGRAM ENGINE

Exit status 77: there is no Redis here.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATIENCE = 60
SERVERS = ("/usr/bin/redis-server", "/usr/bin/redis-check-rdb")  # Debian's redis-tools has it under the second name
TYPES = ("string", "integer", "double", "null", "array", "set", "map", "verbatim", "true", "false")


def check(condition, what):
    if not condition:
        sys.exit(f"redis_client: {what}")


def start_server(folder):
    program = next((each for each in SERVERS if os.access(each, os.X_OK)), None)
    if program is None or shutil.which("redis-cli") is None:
        print("skipped: no Redis here (Debian: redis-server, redis-tools)")
        sys.exit(77)
    path = str(Path(folder, "socket"))
    server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder,
                               "--enable-debug-command", "yes"], executable=program, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(path) == 0:
                return server, path
        check(time.monotonic() < deadline and server.poll() is None, "the server does not start")
        time.sleep(0.01)


class Programs:
    def __init__(self, program, engine, path):
        self.environment = dict(os.environ, BIGHT_ENGINE=engine)
        self.ours = [program, "--url", f"unix://{path}"]
        self.theirs = ["redis-cli", "-s", path]

    def run(self, command, text=None):
        return subprocess.run(command, env=self.environment, input=text, capture_output=True, text=True,
                              timeout=PATIENCE, check=False)

    def ask(self, *words, text=None):
        done = self.run(self.ours + list(words), text)
        return done.stdout, done.stderr, done.returncode

    def same(self, *words):
        ours = self.run(self.ours + list(words))
        theirs = self.run(self.theirs + list(words))
        check(ours.stdout == theirs.stdout, f"{words}: {ours.stdout!r} instead of {theirs.stdout!r}")


def compare(programs):
    """What it prints is what redis-cli prints."""
    programs.ask("hset", "hash", "a", "1", "b", "2")
    for how in (("-2",), ("-3",), ("-2", "--no-raw"), ("-3", "--no-raw")):
        for each in TYPES:
            programs.same(*how, "debug", "protocol", each)
        programs.same(*how, "set", "key", "a \"quoted\"\n\ttext \x7f ü")
        programs.same(*how, "get", "key")
        programs.same(*how, "lpush", "key", "x")
        programs.same(*how, "eval", "return {1,{2,{},{3,'x'}},1,2,3,4,5,6,7,8}", "0")
        programs.same(*how, "hset", "hash", "a", "1", "b", "2")
        programs.same(*how, "hgetall", "hash")
        programs.same(*how, "smembers", "none")
    check(programs.ask("lpush", "key", "x")[2] == 1, "an error of the server's is no success")
    check(programs.ask("ping") == ("PONG\n", "", 0), "ping")
    check(programs.ask()[2] == 2 and programs.ask("--url", "http://x", "ping")[2] == 2, "wrong calls are told")
    check(programs.ask("--url", "unix:///no/such/path", "ping")[2] == 1, "a server that is not there is told")


def pipe(programs):
    commands = "".join(f"set key{i} \"value {i}\"\n" for i in range(3000)) + "\nget key2999\nlpush key1 x\nget 'key1'"
    out, err, status = programs.ask("--pipe", text=commands)
    lines = out.splitlines()
    check(lines[:3000] == ["OK"] * 3000 and lines[3000] == "value 2999", lines[2999:])
    check(lines[3001].startswith("WRONGTYPE") and lines[-1] == "value 1" and status == 1 and err == "", lines[3000:])
    out, err, status = programs.ask("--bench", "2000")
    check(out.count("requests/s") == 4 and status == 0, out + err)


def subscribe(programs):
    for how in ("-2", "-3"):
        with subprocess.Popen(programs.ours + [how, "subscribe", "news", "more"], env=programs.environment,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as subscriber:
            try:
                check(subscriber.stderr.readline() == "subscribed\n", "it does not subscribe")
                check(programs.ask("publish", "news", "hello") == ("1\n", "", 0), "nobody hears")
                said = [subscriber.stdout.readline() for _ in range(3)]
                check(said == ["message\n", "news\n", "hello\n"], said)
                subscriber.send_signal(signal.SIGTERM)
                subscriber.wait(PATIENCE)
            finally:
                subscriber.kill()


def main():
    with tempfile.TemporaryDirectory(prefix="bight-redis-") as folder:
        server, path = start_server(folder)
        try:
            programs = Programs(sys.argv[1], sys.argv[2], path)
            compare(programs)
            pipe(programs)
            subscribe(programs)
        finally:
            server.kill()
            server.wait()
    print("redis_client: well")


if __name__ == "__main__":
    main()
