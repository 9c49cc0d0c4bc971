#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What passing streams on costs a proxy: examples/proxy beside haproxy and nginx's stream module, in turns.

    bench/proxy/against_others.py build/release --rounds 5

The proxy has one core, the clients and the server behind it the other one. Prints the processor time of each, medians,
and its ratio to the others' within a round; --json prints all figures. A run each of:

  stream     4 connections, from the server to clients as fast as it goes: bytes a second of the proxy's CPU time
  upload     the same, from the clients
  messages   64 connections, 64 bytes there and back, and again: CPU time for each
"""
import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SKIPPED = 77  # what Meson takes for that
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
NGINX_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"

HAPROXY = """
global
    nbthread 1
    maxconn 2000
defaults
    mode tcp
    option splice-auto
    timeout connect 10s
    timeout client 5m
    timeout server 5m
listen proxy
    bind 127.0.0.1:{port}
    server behind 127.0.0.1:{server}
"""

NGINX = """
load_module {module};
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 2000; }}
stream {{
    server {{
        listen 127.0.0.1:{port};
        proxy_pass 127.0.0.1:{server};
        proxy_connect_timeout 10s;
        proxy_timeout 5m;
        tcp_nodelay on;
    }}
}}
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Proxies:
    """The commands that start each; None: it is not here."""

    def __init__(self, build, folder):
        self.build, self.folder = build, Path(folder)

    def bight(self, port, server):
        return [str(Path(self.build, "examples", "proxy")), f"127.0.0.1:{port}", f"127.0.0.1:{server}"]

    def haproxy(self, port, server):
        path = self.folder / "haproxy.cfg"
        path.write_text(HAPROXY.format(port=port, server=server))
        return [shutil.which("haproxy", path=PATH), "-db", "-f", str(path)]

    def nginx(self, port, server):
        path = self.folder / "nginx.conf"
        path.write_text(NGINX.format(port=port, server=server, folder=self.folder, module=NGINX_MODULE))
        return [shutil.which("nginx", path=PATH), "-p", str(self.folder), "-c", str(path), "-e", "stderr"]


def missing():
    if shutil.which("haproxy", path=PATH) is None:
        return "haproxy is not installed"
    if shutil.which("nginx", path=PATH) is None or not Path(NGINX_MODULE).exists():
        return "nginx with its stream module (libnginx-mod-stream) is not installed"
    return None


def wait_until_it_listens(proxy, port):
    """Asks /proc, since a connection to look would be passed on."""
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    for _ in range(1000):
        if proxy.poll() is not None:
            sys.exit(f"{proxy.args[0]} ended with {proxy.returncode}")
        if wanted in Path("/proc/net/tcp").read_text():
            return
        time.sleep(0.01)
    sys.exit(f"{proxy.args[0]} did not listen within 10 s")


def pinned(core, command):
    return ["taskset", "-c", str(core)] + command if len(os.sched_getaffinity(0)) > 1 else command


@contextlib.contextmanager
def running(command, **environment):
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               env={**os.environ, **environment})
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def measure(options, proxies, name, what):
    load = [str(Path(options.build, "bench", "proxy", "proxy_load")), "--milliseconds", str(options.milliseconds)]
    load += {"stream": ["--what", "stream"], "upload": ["--what", "stream", "--upload"],
             "messages": ["--what", "messages"]}[what]
    if options.connections:
        load += ["--connections", str(options.connections)]
    environment = {"BIGHT_LOG": "warning"}
    kind, _, engine = name.partition(" ")
    if engine:
        environment["BIGHT_ENGINE"] = engine
    with subprocess.Popen(pinned(options.load_core, load), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as ends:
        try:
            server, port = int(ends.stdout.readline()), free_port()
            command = pinned(options.proxy_core, getattr(proxies, kind)(port, server))
            with running(command, **environment) as proxy:
                wait_until_it_listens(proxy, port)
                said, _ = ends.communicate(f"{port} {proxy.pid}\n", timeout=60 + options.milliseconds / 100)
        finally:
            ends.kill()
    if ends.returncode != 0:
        sys.exit(f"{name}, {what}: the load failed")
    figures = json.loads(said)
    if figures["done"] == 0:
        sys.exit(f"{name}, {what}: nothing went through")
    return figures


def report(runs, what):
    others = [name for name in runs if not name.startswith("bight")]
    per_message = what == "messages"

    def cost(figures):
        return figures["cpu_seconds"] / figures["done"]

    print(f"\n### {what}\n")
    print(f"| proxy | {'CPU µs a message' if per_message else 'GB a CPU second'} | "
          f"{'messages a second' if per_message else 'GB a second'} | "
          + " | ".join(f"x {other}" for other in others) + " |")
    print("|---|--:|--:|" + "--:|" * len(others))
    for name, figures in runs.items():
        ratios = []
        for other in others:
            pairs = zip(figures, runs[other])
            ratios.append(statistics.median(
                cost(ours) / cost(theirs) if per_message else cost(theirs) / cost(ours) for ours, theirs in pairs))
        own = statistics.median(cost(each) for each in figures)
        rate = statistics.median(each["done"] / each["seconds"] for each in figures)
        print(f"| {name} | {own * 1e6:.2f} | {rate:.0f} |" if per_message else
              f"| {name} | {1 / own / 1e9:.2f} | {rate / 1e9:.2f} |",
              " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="the build folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--milliseconds", type=int, default=2000, help="of each run")
    parser.add_argument("--connections", type=int, help="instead of the numbers above")
    parser.add_argument("--what", default="stream,upload,messages")
    parser.add_argument("--proxies", default="bight epoll,bight uring,haproxy,nginx")
    parser.add_argument("--proxy-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="shortly and once, to see that it works")
    options = parser.parse_args()
    if reason := missing():
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)
    if options.smoke:
        options.rounds, options.milliseconds = 1, 100

    names = options.proxies.split(",")
    runs = {what: {name: [] for name in names} for what in options.what.split(",")}
    with tempfile.TemporaryDirectory(prefix="bight-proxy-") as folder:
        proxies = Proxies(options.build, folder)
        for _ in range(options.rounds):
            for what, each in runs.items():
                for name in names:
                    each[name].append(measure(options, proxies, name, what))
    if options.json:
        print(json.dumps(runs))
        return
    for what, each in runs.items():
        report(each, what)


if __name__ == "__main__":
    main()
