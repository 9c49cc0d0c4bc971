#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""TLS 1.3 by bight beside a bare epoll + OpenSSL server, and beside `openssl s_server` for large files, in turns.

    bench/tls/against_floor.py --build build/release --rounds 7

echo       messages of 64 B over 64 connections, and of 16 KiB: the server's CPU time per message
handshake  connections that shake hands in full, echo 64 B and close: the server's CPU time per connection
resume     the same with the session of an earlier connection
bulk       a file of 1 GB in memory, fetched over one connection: bytes per second
memory     resident memory per connection after a handshake and an echo
half-open  1000 handshakes a second that are begun and not ended, beside whole connections: how long those take

The server has one core, the load another. Everybody uses TLS_AES_128_GCM_SHA256, X25519 and a certificate on P-256.
Ratios are taken within a round; printed are medians. A round that other programs disturbed is repeated.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import resource
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import compare  # noqa: E402  (how processes are run and what they cost)

CIPHER = "TLS_AES_128_GCM_SHA256"
MEMORY_CONNECTIONS = 2000


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    title: str
    servers: tuple  # the first is what the others are compared with
    kind: str
    load: str = ""


ECHO = ("floor", "bight epoll", "bight uring")
WORKLOADS = [
    Workload("echo-64", "echo, 64 B, 64 connections: server CPU µs per message", ECHO, "load", "--size 64 --conns 64"),
    Workload("echo-16k", "echo, 16 KiB, 64 connections: server CPU µs per message", ECHO, "load",
             "--size 16384 --conns 64"),
    Workload("handshake", "full handshake, echo 64 B, close: server CPU µs per connection", ECHO, "load",
             "--size 64 --conns 16 --connect"),
    Workload("resume", "resumed handshake, echo 64 B, close: server CPU µs per connection", ECHO, "load",
             "--size 64 --conns 16 --connect --resume"),
    Workload("bulk", "a file over one connection: MB per second", ("s_server", "bight epoll", "bight uring"), "bulk"),
    Workload("memory", "resident KiB per connection, after a handshake and an echo",
             ("floor", "floor, releasing", "bight epoll", "bight uring"), "memory"),
    Workload("half-open", "beside 1000 half-open handshakes a second: the slowest of the whole connections, ms",
             ("bight epoll", "bight uring"), "half-open"),
]


class Bench:
    def __init__(self, options, folder):
        self.build, self.folder, self.options = options.build, folder, options
        self.cpus = compare.choose_cpus()
        maker = self.build / "tests" / "make_certificates"
        subprocess.run([maker, folder], check=True)
        self.identity = ["--cert", str(folder / "cert.pem"), "--key", str(folder / "key.pem")]
        self.bulk_bytes = options.bulk_bytes
        with open(folder / "bulk", "wb") as file:
            piece = bytes(range(256)) * 4096
            for _ in range(self.bulk_bytes // len(piece)):
                file.write(piece)

    def command(self, server, kind):
        bench = self.build / "bench" / "tls"
        if server.startswith("floor"):
            return [str(bench / "tls_floor"), *self.identity] + (["--release"] if "releasing" in server else [])
        engine = server.split()[1]
        if kind == "bulk":
            return [str(bench / "tls_file"), *self.identity, "--folder", str(self.folder), "--engine", engine]
        return [str(self.build / "examples" / "tls_echo"), *self.identity, "--port", "0", "--engine", engine]

    @contextlib.contextmanager
    def running(self, server, kind):
        """Starts a server; gives its process and port."""
        if server == "s_server":
            command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", str(self.folder / "cert.pem"),
                       "-key", str(self.folder / "key.pem"), "-WWW", "-no_dhe", "-ciphersuites", CIPHER]
            with compare.Process(command, self.cpus[0], cwd=self.folder, stdin=subprocess.DEVNULL) as process:
                line = process.line(compare.PATIENCE)
                while not line.startswith("ACCEPT "):
                    line = process.line(compare.PATIENCE)
                yield process, int(line.rpartition(":")[2])
        else:
            with compare.Process(self.command(server, kind), self.cpus[0]) as process:
                yield process, compare.announced_port(process)

    def measure(self, workload, server):
        how = {"load": self.by_load, "bulk": self.by_fetching, "memory": self.by_holding,
               "half-open": self.beside_half_open}[workload.kind]
        with self.running(server, workload.kind) as (process, port):
            figures = how(workload, process, port)
            if process.has_ended():
                raise compare.Failure(f"{server} died under load: {process.complaint()}")
            return figures

    def start_load(self, port, *options):
        command = [str(self.build / "bench" / "echo_load"), "--port", str(port), "--tls", "--steps", "--json", *options]
        load = compare.Process(command, self.cpus[1], stdin=subprocess.PIPE)
        return load

    def by_load(self, workload, server, port):
        seconds = self.options.seconds
        with self.start_load(port, "--seconds", str(seconds), "--warmup", str(min(0.5, seconds)),
                             *workload.load.split()) as load:
            compare.expect(load, "ready")
            outside, server_before, load_before = compare.Outside(), compare.cpu_ns(server.pid), compare.cpu_ns(load.pid)
            load.say("go")
            report = json.loads(load.line(compare.PATIENCE + seconds))
            used = compare.cpu_ns(server.pid) - server_before
            share = outside.share(used + compare.cpu_ns(load.pid) - load_before)
        if report["errors"] or not report["ops"]:
            raise compare.Failure(f"{report['errors']} errors: {compare.load_complaint(load)}")
        return {"value": used / report["ops"] / 1e3, "outside": share,
                **{key: report[key] for key in ("ops", "ops_per_s", "p50_us", "p99_us")}}

    def by_fetching(self, workload, server, port):
        command = [str(self.build / "bench" / "tls" / "tls_fetch"), "--port", str(port), "bulk"]
        outside, before = compare.Outside(), compare.cpu_ns(server.pid)
        with compare.Process(command, self.cpus[1]) as fetch:
            report = json.loads(fetch.line(compare.PATIENCE))
            _, status, usage = os.wait4(fetch.pid, 0)
            fetch.popen.returncode = os.waitstatus_to_exitcode(status)
        used = compare.cpu_ns(server.pid) - before
        share = outside.share(used + int((usage.ru_utime + usage.ru_stime) * 1e9))
        if not self.bulk_bytes <= report["bytes"] < self.bulk_bytes + 1000 or report["cipher"] != CIPHER:
            raise compare.Failure(f"{report['bytes']} bytes by {report['cipher']}")
        return {"value": report["bytes"] / report["seconds"] / 1e6, "outside": share, **report,
                "server_cpu_seconds": used / 1e9}

    def by_holding(self, workload, server, port):
        count = min(self.options.connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)
        before = compare.settled_memory(server.pid)
        with self.start_load(port, "--conns", str(count), "--warmup", "0.01") as load:
            compare.expect(load, "ready")
            held = compare.settled_memory(server.pid)
        return {"value": (held - before) / count / 1024, "outside": 0, "connections": count}

    def beside_half_open(self, workload, server, port):
        return {"outside": 0, **asyncio.run(half_open(port, self.folder / "ca.pem", self.options.seconds * 3))}


# --- Half-open handshakes ---------------------------------------------------------------------------------------------


def client_hello(context):
    """The first bytes of a client, as they go over the wire."""
    outgoing = ssl.MemoryBIO()
    peer = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.do_handshake()
    return outgoing.read()


async def half_open(port, authority, seconds, rate=1000):
    """Begins `rate` handshakes a second, half of them with half a hello, and leaves them there; meanwhile whole
    connections are made one after the other."""
    context = ssl.create_default_context(cafile=str(authority))
    hello = client_hello(context)
    halves, begun, end = [], 0, time.monotonic() + seconds
    took = []

    async def flood():
        nonlocal begun
        loop, start = asyncio.get_running_loop(), time.monotonic()
        while time.monotonic() < end:
            while begun < (time.monotonic() - start) * rate:
                connection = socket.socket()
                connection.setblocking(False)
                connection.bind((f"127.0.0.{1 + begun % 64}", 0))
                await loop.sock_connect(connection, ("127.0.0.1", port))
                await loop.sock_sendall(connection, hello[: len(hello) // 2] if begun % 2 else hello)
                halves.append(connection)
                begun += 1
            await asyncio.sleep(0.001)

    async def whole():
        while time.monotonic() < end:
            start = time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
            writer.write(b"hello\n")
            if await reader.readexactly(6) != b"hello\n":
                raise compare.Failure("the echo differs from what was sent")
            writer.close()
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                await writer.wait_closed()
            took.append(time.monotonic() - start)
            await asyncio.sleep(0.01)

    await asyncio.gather(flood(), whole())
    for connection in halves:
        connection.close()
    return {"value": max(took) * 1e3, "median_ms": statistics.median(took) * 1e3, "whole": len(took),
            "half_open_per_s": begun / seconds}


# --- Rounds and the report --------------------------------------------------------------------------------------------


def run_workload(bench, workload, rounds):
    runs = {server: [] for server in workload.servers}
    for number in range(rounds):
        for server in workload.servers:
            figures = compare.measure_quietly(bench, workload, server)
            runs[server].append(figures)
            mark = "  (disturbed)" if figures["disturbed"] else ""
            compare.note(f"{workload.name:10} {number + 1}/{rounds}  {server:16} {figures['value']:10.2f}{mark}")
    return runs


def table(workload, runs):
    first = workload.servers[0]
    lines = [f"### {workload.title}", "", f"| | median | x {first} | rounds |", "|---|--:|--:|--:|"]
    for server, mine in runs.items():
        ratio = statistics.median(own["value"] / base["value"] for own, base in zip(mine, runs[first]))
        value = statistics.median(each["value"] for each in mine)
        lines.append(f"| {server} | {value:.2f} | {ratio:.3f} | {len(mine)} |")
    return "\n".join(lines) + "\n"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True, metavar="DIR", help="with bench/, examples/ and tests/")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="rounds of every workload (7)")
    parser.add_argument("--seconds", type=float, default=2, metavar="S", help="length of one measurement (2)")
    parser.add_argument("--only", action="append", default=[], metavar="SUBSTR", help="only workloads so named")
    parser.add_argument("--json", action="store_true", help="print all rounds, not the tables")
    parser.add_argument("--smoke", action="store_true", help="little and once, to see that it works")
    options = parser.parse_args()
    options.build = options.build.resolve()
    options.bulk_bytes, options.connections = 1 << 30, MEMORY_CONNECTIONS
    if options.smoke:
        options.rounds, options.seconds, options.bulk_bytes, options.connections = 1, 0.2, 1 << 24, 100
    return options


def main():
    options = parse_arguments()
    workloads = [each for each in WORKLOADS if not options.only or any(part in each.name for part in options.only)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    everything = {}
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        bench = Bench(options, Path(folder))
        for workload in workloads:
            if "s_server" in workload.servers and not shutil.which("openssl"):
                compare.note(f"{workload.name}: not measured, there is no openssl")
                continue
            everything[workload.name] = run_workload(bench, workload, options.rounds)
            if not options.json:
                print(table(workload, everything[workload.name]), flush=True)
    if options.json:
        print(json.dumps(everything))


if __name__ == "__main__":
    try:
        main()
    except compare.Failure as failure:
        sys.exit(f"against_floor.py: {failure}")
