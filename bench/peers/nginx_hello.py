#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts nginx with `return 200 "Hello, World!"`, says where it listens, and ends it on SIGTERM.

nginx runs in the foreground as a child of this program, with a configuration of its own in a folder of its own; an
nginx that the system runs is left alone.
"""

import argparse
import contextlib
import ctypes
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

START_SECONDS = 10
STOP_SECONDS = 10


def free_port():
    """nginx can not be asked to pick a port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def write_configuration(folder, port, workers, connections):
    text = Path(__file__).with_name("nginx.conf.in").read_text()
    words = {
        "FOLDER": folder,
        "PORT": port,
        "WORKERS": workers,
        "CONNECTIONS": connections,
        "REUSEPORT": "reuseport" if workers > 1 else "",  # a queue for each worker: what nginx is fastest with
    }
    for word, value in words.items():
        text = text.replace(f"@{word}@", str(value))
    path = Path(folder) / "nginx.conf"
    path.write_text(text)
    return path


def wait_until_it_listens(nginx, port):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if nginx.poll() is not None:
            sys.exit(f"nginx_hello: nginx ended with {nginx.returncode}")
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.01)
    sys.exit(f"nginx_hello: nginx did not listen within {START_SECONDS} s")


def end(nginx):
    nginx.terminate()
    try:
        nginx.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        nginx.kill()
        nginx.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if program is None:
        sys.exit("nginx_hello: nginx is not installed")

    def leave(*_):
        sys.exit(0)  # unwinds, so nginx is ended and the folder removed

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    set_option = ctypes.CDLL(None).prctl
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    port = options.port or free_port()
    with tempfile.TemporaryDirectory(prefix="bight-nginx-") as folder:
        os.chmod(folder, 0o755)  # for the workers, which are another user's when this one is root
        path = write_configuration(folder, port, options.workers, min(most, 50_000))
        nginx = subprocess.Popen(
            [program, "-p", folder, "-c", str(path), "-e", "stderr", "-g", "daemon off;"], stdin=subprocess.DEVNULL,
            preexec_fn=lambda: set_option(1, signal.SIGTERM))  # PR_SET_PDEATHSIG: it ends when we are killed
        try:
            wait_until_it_listens(nginx, port)
            print(f"listening on 127.0.0.1:{port}", flush=True)
            nginx.wait()
        finally:
            end(nginx)
    sys.exit(f"nginx_hello: nginx ended with {nginx.returncode}")


if __name__ == "__main__":
    main()
