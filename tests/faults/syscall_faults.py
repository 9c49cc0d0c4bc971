#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lets the system calls of a server fail, one kind and one error at a time, and looks that it goes on serving.

    syscall_faults.py ECHO_PROGRAM ENGINE

The echo example runs under `strace --inject`, which makes some calls fail without making them. A connection may break
then, but only by an end or a reset; connections that nothing happened to are served; afterwards a new one is; SIGTERM
still ends the server with 0; and it has not flooded its log. Exit status 77: there is no strace here, or no ptrace.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SKIPPED = 77
PATIENCE = 20  # seconds
CLIENTS = 8
MESSAGES = 6
LINES_MAX = 30  # of log, for a cell: one for each connection that broke for want of memory

ACCEPT = ("EINTR", "ECONNABORTED", "EPROTO", "EPERM", "ENETDOWN", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM")
READ = ("EINTR", "ECONNRESET", "ETIMEDOUT", "ENOMEM", "EIO")
WRITE = ("EINTR", "ECONNRESET", "EPIPE", "ENOMEM", "ENOBUFS")

# What each engine calls, and the errors in the manual pages. EAGAIN is none of them where it would be a lie: an engine
# that waits for edges takes it as the promise of one.
CELLS = {
    "epoll": {
        "accept4": ACCEPT,
        "recvfrom": READ,
        "sendto": WRITE,
        "epoll_pwait2": ("EINTR", "ENOSYS"),
        "epoll_ctl": ("ENOMEM", "ENOSPC"),  # ENOSPC: fs.epoll.max_user_watches
    },
    "uring": {
        "accept4": ACCEPT,  # the attempt before one is queued
        "io_uring_enter": ("EINTR", "EAGAIN", "EBUSY", "ENOMEM"),
    },
}


class Failure(Exception):
    """The server did not do what it should."""


class Server:
    """The echo example under strace, which fails every third call of the kind for a while."""

    def __init__(self, program, engine, call, error):
        self.log = tempfile.TemporaryFile("w+")
        self.tracer = subprocess.Popen(
            ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when=2..60+3",
             program, "--host", "127.0.0.1", "--port", "0", "--engine", engine],
            stdout=subprocess.PIPE, stderr=self.log, text=True, start_new_session=True)
        line = self.tracer.stdout.readline()
        while line and not line.startswith("listening on "):
            line = self.tracer.stdout.readline()
        if not line:
            raise Failure(f"the server did not start:\n{self.said()}")
        host, port = line.split()[-1].rsplit(":", 1)
        self.address = (host, int(port))

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def pid(self):
        with open(f"/proc/{self.tracer.pid}/task/{self.tracer.pid}/children", encoding="ascii") as children:
            return int(children.read().split()[0])

    def stop(self):
        os.kill(self.pid(), signal.SIGTERM)
        try:
            code = self.tracer.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure(f"SIGTERM did not end it:\n{self.said()}") from None
        if code != 0:
            raise Failure(f"it ended with {code}:\n{self.said()}")

    def destroy(self):
        if self.tracer.poll() is None:
            with contextlib.suppress(OSError, IndexError):
                os.kill(self.pid(), signal.SIGKILL)
            self.tracer.wait()
        self.tracer.stdout.close()
        self.log.close()


def converse(address):
    """Whether a connection was served to its end. False: it broke, in one of the ways in which it may."""
    try:
        with socket.create_connection(address, PATIENCE) as connection:
            for number in range(MESSAGES):
                message = f"message {number}".encode()
                connection.sendall(message)
                answer = b""
                while len(answer) < len(message):
                    piece = connection.recv(100)
                    if not piece:
                        return False
                    answer += piece
                if answer != message:
                    raise Failure(f"the answer to {message!r} was {answer!r}")
            return True
    except (ConnectionError, BrokenPipeError):
        return False
    except TimeoutError:
        raise Failure("a connection was neither served nor ended") from None


def check_cell(program, engine, call, error):
    server = Server(program, engine, call, error)
    try:
        served = sum(converse(server.address) for _ in range(CLIENTS))
        deadline = time.monotonic() + PATIENCE
        while not converse(server.address):
            if time.monotonic() > deadline:
                raise Failure(f"nobody is served any more:\n{server.said()}")
        server.stop()
        lines = server.said().splitlines()
        if len(lines) > LINES_MAX or any("fatal" in line or "check failed" in line for line in lines):
            raise Failure("its log:\n" + "\n".join(lines[:40]))
        return served
    finally:
        server.destroy()


def main():
    program, engine = sys.argv[1:]
    if not shutil.which("strace"):
        print("skipped: no strace")
        sys.exit(SKIPPED)
    if subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode != 0:
        print("skipped: strace may not trace here")
        sys.exit(SKIPPED)
    failures = 0
    for call, errors in CELLS[engine].items():
        for error in errors:
            try:
                served = check_cell(program, engine, call, error)
                print(f"ok: {call} fails with {error}: {served} of {CLIENTS} served", flush=True)
            except Failure as failure:
                failures += 1
                print(f"FAILED: {call} fails with {error}: {failure}", flush=True)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
