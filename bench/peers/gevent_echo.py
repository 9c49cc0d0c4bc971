#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An echo server on gevent."""

import argparse
import resource

from gevent import socket
from gevent.server import StreamServer


def echo(connection, _):
    try:
        while received := connection.recv(64 * 1024):
            connection.sendall(received)
    except ConnectionError:
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # Linux hands it down to the connections
    listener.bind(("127.0.0.1", options.port))
    listener.listen(socket.SOMAXCONN)
    listener.setblocking(False)
    print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    StreamServer(listener, echo).serve_forever()


if __name__ == "__main__":
    main()
