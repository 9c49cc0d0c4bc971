#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that a peer server does what the benchmarks take for granted.

    bench/peers/check.py echo|http COMMAND...

It says where it listens; several connections at once get back what they sent, in small pieces and more than fits into
socket buffers (or `Hello, World!`, again and again on one connection); it uses TCP_NODELAY; it ends on SIGTERM.
"""

import re
import signal
import socket
import subprocess
import sys
import threading

SECONDS = 20
MESSAGE = b"Hello, World!"


def receive(connection, count):
    """Exactly `count` bytes."""
    received = b""
    while len(received) < count:
        piece = connection.recv(1 << 20)
        if not piece:
            raise EOFError(f"closed after {len(received)} of {count} bytes")
        received += piece
    return received


def check_echo(port):
    connections = [socket.create_connection(("127.0.0.1", port), SECONDS) for _ in range(10)]
    for round_number in range(100):
        for number, connection in enumerate(connections):
            connection.sendall(b"%4d" % (round_number * number) * 16)
        for number, connection in enumerate(connections):
            if receive(connection, 64) != b"%4d" % (round_number * number) * 16:
                raise ValueError("a short message came back changed")
    flood = bytes(range(251)) * 80_000  # 20 MB, of which nothing is read until most of it has been sent
    sender = threading.Thread(target=connections[0].sendall, args=(flood,))
    sender.start()
    sender.join(0.5)
    if receive(connections[0], len(flood)) != flood:
        raise ValueError("a long message came back changed")
    sender.join()
    for connection in connections:
        connection.close()


def check_http(port):
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
            for _ in range(100):
                connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
                answer = b""
                while b"\r\n\r\n" not in answer:
                    answer += receive(connection, 1)
                head, _, body = answer.partition(b"\r\n\r\n")
                body += receive(connection, len(MESSAGE) - len(body))
                if not head.startswith(b"HTTP/1.1 200 ") or body != MESSAGE:
                    raise ValueError(f"the answer was {answer!r}")
                if not re.search(rb"^content-type: text/plain\b", head, re.I | re.M):
                    raise ValueError(f"not text/plain: {head!r}")


def main():
    kind, command = sys.argv[1], sys.argv[2:]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(3 * SECONDS, server.kill)
    watchdog.start()
    try:
        line = server.stdout.readline()
        match = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", line)
        if not match:
            sys.exit(f"it said {line!r} instead of where it listens")
        {"echo": check_echo, "http": check_http}[kind](int(match[1]))
        server.terminate()
        status = server.wait(SECONDS)
        if status not in (0, -signal.SIGTERM):
            sys.exit(f"it ended with {status}")
    finally:
        watchdog.cancel()
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
