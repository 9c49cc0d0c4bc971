#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares servers side by side: bight's examples, the bare floor programs, and peers.

The figure to trust is *server CPU ns/op*: the time the server's threads spent on a CPU, from before the load starts
to after its last answer, divided by the operations served in between. Throughput saturates at whichever of server and
load is slower, and latency carries the noise of the machine.

Servers take turns within every round (A B C, A B C, ...), so that slow spells of the machine hit all of them, and
ratios are taken within a round. A round that other programs disturbed is repeated.
"""

import argparse
import contextlib
import ctypes
import dataclasses
import datetime
import http.client
import importlib.util
import json
import math
import os
import platform
import re
import resource
import select
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
IDLE_CONNECTIONS = 15000
MEMORY_KEYS = ("bytes_per_silent_connection", "bytes_per_echoed_connection")
OUTSIDE_LIMIT = 0.05  # of all CPU time: more than this spent by others disturbs a round
OUTSIDE_TRIES = 4     # for one round, before it is taken as it is
PATIENCE = 30         # seconds, for anything that should take none


class Failure(Exception):
    """Something that spoils one measurement; the others go on."""


# --- What is compared -------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Server:
    """A server, and how to start it, by what it serves: 'echo', 'http', or 'shards' (HTTP from two processes).

    It says 'listening on HOST:PORT' in a line of its own when it is ready, and ends on SIGTERM. Commands may name
    {build}, {source} (this folder) and {python}.
    """

    name: str
    engine: str  # whose floor it is compared with
    commands: dict
    is_peer: bool = False
    program: str = ""  # what its command needs besides
    module: str = ""   # of Python

    def command(self, serves, build):
        places = {"build": build, "source": HERE, "python": sys.executable}
        quoted = {name: shlex.quote(str(place)) for name, place in places.items()}
        return shlex.split(self.commands[serves].format(**quoted))

    def lacks(self, serves, build):
        """What it needs and does not find; None when it can be started."""
        for word in self.command(serves, build):
            if "/" in word and not word.startswith("-") and not os.path.exists(word):
                return os.path.relpath(word, build)
        path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
        if self.program and not shutil.which(self.program, path=path):
            return self.program
        if self.module and not importlib.util.find_spec(self.module):
            return f"Python module {self.module}"
        return None


def floor(engine):
    program = f"{{build}}/bench/{engine}_floor"
    return Server(f"{engine}_floor", engine, {"echo": program, "http": f"{program} --mode http"})


def bight(engine):
    where = f"--host 127.0.0.1 --port 0 --engine {engine}"
    return Server(
        f"bight {engine}",
        engine,
        {
            "echo": f"{{build}}/examples/echo {where}",
            "http": f"{{build}}/examples/http_hello {where}",
            "shards": f"{{build}}/examples/http_hello {where} --shards 2",
        },
    )


def peer(name, program="", module="", **commands):
    return Server(name, "epoll", commands, is_peer=True, program=program, module=module)


NGINX = "{python} {source}/peers/nginx_hello.py"

# To add a peer: one entry. It takes part when what it needs is there.
SERVERS = [
    floor("epoll"),
    floor("uring"),
    bight("epoll"),
    bight("uring"),
    peer("nginx", http=NGINX, shards=f"{NGINX} --workers 2", program="nginx"),
    peer("libuv", echo="{build}/bench/peers/libuv_echo"),
    peer("Asio callbacks", echo="{build}/bench/peers/asio_callback_echo"),
    peer("Asio spawn", echo="{build}/bench/peers/asio_spawn_echo"),
    peer("Go", echo="{build}/bench/peers/go_echo", http="{build}/bench/peers/go_hello"),
    peer("gevent", echo="{python} {source}/peers/gevent_echo.py", module="gevent"),
]


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str  # for --only and the JSON
    title: str
    serves: str  # which command of the server
    kind: str  # 'echo_load', 'wrk' or 'idle'
    load: str = ""  # options of the load
    pinned: bool = True


WORKLOADS = [
    Workload("echo-64x1", "echo, 64 B, 1 connection", "echo", "echo_load", "--size 64 --conns 1"),
    Workload("echo-64x64", "echo, 64 B, 64 connections", "echo", "echo_load", "--size 64 --conns 64"),
    Workload("echo-64x512", "echo, 64 B, 512 connections", "echo", "echo_load", "--size 64 --conns 512"),
    Workload("echo-16k", "echo, 16 KiB, 64 connections", "echo", "echo_load", "--size 16384 --conns 64"),
    Workload("echo-depth16", "echo, 64 B, 64 connections, 16 messages under way on each", "echo", "echo_load",
             "--size 64 --conns 64 --depth 16"),
    Workload("connect", "connect, echo 64 B, close; 32 at a time", "echo", "echo_load",
             "--size 64 --conns 32 --connect"),
    Workload("http-64", "HTTP hello, 64 connections (wrk)", "http", "wrk", "-c64"),
    Workload("http-512", "HTTP hello, 512 connections (wrk)", "http", "wrk", "-c512"),
    Workload("shards", "HTTP hello from two processes, 64 connections (wrk), nothing pinned", "shards", "wrk", "-c64",
             pinned=False),
    Workload("idle", f"{IDLE_CONNECTIONS} idle connections: growth of resident memory", "echo", "idle"),
]
SMOKE_WORKLOADS = ("echo-64x64", "connect")


# --- Processes and what they cost -------------------------------------------------------------------------------------


def descendants(pid):
    """The process and all its children, theirs too."""
    found = [pid]
    for parent in found:
        for task in children_of(f"/proc/{parent}/task"):
            with contextlib.suppress(OSError):
                found += map(int, Path(f"/proc/{parent}/task/{task}/children").read_text().split())
    return found


def children_of(folder):
    with contextlib.suppress(OSError):
        return os.listdir(folder)
    return []


def thread_cpu_ns(task):
    with contextlib.suppress(OSError):
        return int(Path(task, "schedstat").read_text().split()[0])
    with contextlib.suppress(OSError):  # kernels without schedstat; counts in ticks of 10 ms
        fields = Path(task, "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 10**9 // os.sysconf("SC_CLK_TCK")
    return 0


def cpu_ns(pid):
    """Nanoseconds that the threads of a process and of its children have been on a CPU."""
    return sum(
        thread_cpu_ns(f"/proc/{process}/task/{task}")
        for process in descendants(pid)
        for task in children_of(f"/proc/{process}/task")
    )


def resident_bytes(pid):
    total = 0
    for process in descendants(pid):
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
    return total


def machine_busy_ns():
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) * 10**9 // os.sysconf("SC_CLK_TCK")  # all but idle and iowait


LIBC = ctypes.CDLL(None)


def end_with_parent():
    """For a child: should we be killed, it is ended too."""
    LIBC.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class Process:
    """A child process in a session of its own, ended with all it started."""

    def __init__(self, command, cpu=None, **options):
        self.command = command
        pin = ["taskset", "-c", str(cpu)] if cpu is not None else []
        self.errors = tempfile.TemporaryFile("w+")
        self.popen = subprocess.Popen(
            pin + command, stdout=subprocess.PIPE, stderr=self.errors, text=True, start_new_session=True,
            preexec_fn=end_with_parent, **options
        )
        self.pid = self.popen.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.popen.stdin:
            with contextlib.suppress(OSError):
                self.popen.stdin.close()
        if self.popen.returncode is None:  # not reaped: nobody else can have its number, nor that of its group
            os.kill(self.pid, signal.SIGTERM)
            self.has_ended(PATIENCE / 10)
            os.killpg(self.pid, signal.SIGKILL)
            self.popen.wait()
        self.popen.stdout.close()
        self.errors.close()

    def has_ended(self, patience=0.0):
        """Whether it ends in this time. Does not reap it, so that its children can still be found by its group."""
        end = time.monotonic() + patience
        while True:
            if self.popen.returncode is not None or os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(0.005)

    def line(self, patience):
        """The next line of its output."""
        if not select.select([self.popen.stdout], [], [], patience)[0]:
            raise Failure(f"{self.command[0]} said nothing for {patience:.0f} s")
        line = self.popen.stdout.readline()
        if not line:
            raise Failure(f"{self.command[0]} ended: {self.complaint()}")
        return line.rstrip("\n")

    def complaint(self):
        self.has_ended(1)
        self.errors.seek(0)
        return self.errors.read().strip().split("\n")[-1] or "without a word"

    def say(self, line):
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()


@contextlib.contextmanager
def running(server, serves, build, cpu):
    """Starts a server; gives its process and port."""
    with Process(server.command(serves, build), cpu) as process:
        yield process, announced_port(process)


def announced_port(process):
    line = process.line(PATIENCE)
    match = re.fullmatch(r"listening on \S+:(\d+)", line)
    if not match:
        raise Failure(f"{process.command[0]} said '{line}' instead of 'listening on HOST:PORT'")
    return int(match[1])


# --- Measuring --------------------------------------------------------------------------------------------------------


class Outside:
    """The share of the machine's CPU time that neither server nor load used."""

    def __init__(self):
        self.busy, self.time = machine_busy_ns(), time.monotonic()

    def share(self, used_ns):
        elapsed = (time.monotonic() - self.time) * os.cpu_count() * 1e9
        return max(0.0, (machine_busy_ns() - self.busy - used_ns) / elapsed)


@dataclasses.dataclass
class Bench:
    build: Path
    seconds: float
    cpus: tuple  # for server and load; None: wherever the scheduler puts them

    def server_cpu(self, workload):
        return self.cpus[0] if workload.pinned else None

    def load_cpu(self, workload):
        return self.cpus[1] if workload.pinned else None

    def measure(self, workload, server):
        how = {"echo_load": self.by_echo_load, "wrk": self.by_wrk, "idle": self.by_idling}[workload.kind]
        with running(server, workload.serves, self.build, self.server_cpu(workload)) as (process, port):
            figures = how(workload, process, port)
            if process.has_ended():
                raise Failure(f"{server.name} died under load: {process.complaint()}")
            return figures

    def start_load(self, workload, port, options):
        command = [str(self.build / "bench" / "echo_load"), "--port", str(port), "--steps", *options]
        return Process(command + workload.load.split(), self.load_cpu(workload), stdin=subprocess.PIPE)

    def by_echo_load(self, workload, server, port):
        warmup = min(0.5, self.seconds)
        options = ["--json", "--seconds", str(self.seconds), "--warmup", str(warmup)]
        with self.start_load(workload, port, options) as load:
            if load.line(PATIENCE + warmup) != "ready":
                raise Failure("echo_load did not say 'ready'")
            outside, server_before, load_before = Outside(), cpu_ns(server.pid), cpu_ns(load.pid)
            load.say("go")
            report = json.loads(load.line(PATIENCE + self.seconds))
            server_used, load_used = cpu_ns(server.pid) - server_before, cpu_ns(load.pid) - load_before
            share = outside.share(server_used + load_used)
        if report["errors"] or not report["ops"]:
            raise Failure(f"{report['errors']} errors: {load_complaint(load)}")
        return {
            "cpu_ns_per_op": server_used / report["ops"],
            "load_cpu_ns_per_op": load_used / report["ops"],
            "outside": share,
            **{key: report[key] for key in ("ops", "ops_per_s", "p50_us", "p99_us", "p999_us", "max_us", "seconds")},
            "load_engine": report["engine"],
        }

    def by_wrk(self, workload, server, port):
        check_hello(port)
        seconds = max(1, math.ceil(self.seconds))  # wrk knows whole seconds only
        options = ["-t1", *workload.load.split(), f"-d{seconds}s", "--timeout", f"{PATIENCE}s", "--latency"]
        command = ["wrk", *options, f"http://127.0.0.1:{port}/"]
        outside, before = Outside(), cpu_ns(server.pid)
        with Process(command, self.load_cpu(workload)) as wrk:
            text = read_all(wrk, PATIENCE + seconds)
            _, status, usage = os.wait4(wrk.pid, 0)
            wrk.popen.returncode = os.waitstatus_to_exitcode(status)
            load_used = int((usage.ru_utime + usage.ru_stime) * 1e9)
            server_used = cpu_ns(server.pid) - before
            share = outside.share(server_used + load_used)
        figures = parse_wrk(text)
        return {
            "cpu_ns_per_op": server_used / figures["ops"],
            "load_cpu_ns_per_op": load_used / figures["ops"],
            "outside": share,
            "seconds": seconds,
            **figures,
        }

    def by_idling(self, workload, server, port):
        count = idle_count()
        at_start = settled_memory(server.pid)
        with self.start_load(workload, port, ["--idle", str(count), "--echo-once"]) as load:
            expect(load, f"opened {count}")
            silent = settled_memory(server.pid)
            load.say("go")
            expect(load, f"echoed {count}")
            echoed = settled_memory(server.pid)
        return {
            "connections": count,
            "bytes_per_silent_connection": (silent - at_start) / count,
            "bytes_per_echoed_connection": (echoed - at_start) / count,
            "outside": 0.0,
        }


def load_complaint(load):
    load.popen.stdin.close()
    return load.complaint()


def read_all(process, patience):
    lines, end = [], time.monotonic() + patience
    while select.select([process.popen.stdout], [], [], max(0, end - time.monotonic()))[0]:
        line = process.popen.stdout.readline()
        if not line:
            return "".join(lines)
        lines.append(line)
    raise Failure(f"{process.command[0]} did not end within {patience:.0f} s")


def expect(process, wanted):
    line = process.line(4 * PATIENCE)
    if line != wanted:
        raise Failure(f"{process.command[0]} said '{line}' instead of '{wanted}'")


def check_hello(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise Failure(f"GET / failed: {error}") from error
    finally:
        connection.close()
    if answer.status != 200 or body.strip() != b"Hello, World!":
        raise Failure(f"GET / was answered {answer.status} {body[:40]!r}")


def parse_wrk(text):
    def find(pattern, what):
        match = re.search(pattern, text)
        if not match:
            raise Failure(f"wrk reported no {what}: {' '.join(text.split())[-200:]}")
        return match

    def microseconds(percent):
        match = find(rf"(?m)^\s+{percent}%\s+([\d.]+)(us|ms|s)\s*$", f"{percent}% latency")
        return float(match[1]) * {"us": 1, "ms": 1e3, "s": 1e6}[match[2]]

    spoiled = re.search(r"(Socket errors: .*|Non-2xx or 3xx responses: .*)", text)
    if spoiled:
        raise Failure(f"wrk: {spoiled[1]}")
    return {
        "ops": int(find(r"(\d+) requests in", "requests")[1]),
        "ops_per_s": float(find(r"Requests/sec:\s+([\d.]+)", "rate")[1]),
        "p50_us": microseconds(50),
        "p99_us": microseconds(99),
    }


def idle_count():
    """As many as fit in one server and one client, with some descriptors left for their own use."""
    return min(IDLE_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)


def settled_memory(pid):
    """Resident memory once it has stopped to change: the server may still be accepting."""
    latest, same = resident_bytes(pid), 0
    for _ in range(100):
        time.sleep(0.05)
        now = resident_bytes(pid)
        latest, same = now, same + 1 if now == latest else 0
        if same == 6:
            break
    return latest


# --- Rounds -----------------------------------------------------------------------------------------------------------


def note(text):
    print(text, file=sys.stderr, flush=True)


def brief(figures):
    if "cpu_ns_per_op" in figures:
        return f"{figures['cpu_ns_per_op']:9.0f} ns/op {figures['ops_per_s']:10.0f} ops/s"
    silent, echoed = figures["bytes_per_silent_connection"], figures["bytes_per_echoed_connection"]
    return f"{silent / 1024:6.2f} KiB silent, {echoed / 1024:6.2f} KiB after an echo"


def measure_quietly(bench, workload, server):
    """Repeats what others disturbed; keeps the quietest."""
    best = None
    for _ in range(OUTSIDE_TRIES):
        figures = bench.measure(workload, server)
        if best is None or figures["outside"] < best["outside"]:
            best = figures
        if best["outside"] <= OUTSIDE_LIMIT:
            break
    best["disturbed"] = best["outside"] > OUTSIDE_LIMIT
    return best


def run_workload(bench, workload, servers, rounds):
    records = []
    for number in range(1, rounds + 1):
        for server in servers:
            record = {"workload": workload.name, "server": server.name, "round": number}
            try:
                record.update(measure_quietly(bench, workload, server))
                mark = "  (disturbed)" if record["disturbed"] else ""
                note(f"{workload.name:13} {number}/{rounds}  {server.name:16} {brief(record)}{mark}")
            except Failure as failure:
                record["failure"] = str(failure)
                note(f"{workload.name:13} {number}/{rounds}  {server.name:16} FAILED: {failure}")
            records.append(record)
    return records


# --- The report -------------------------------------------------------------------------------------------------------


def summarise(workload, servers, records):
    rows = []
    for server in servers:
        mine = [record for record in records if record["server"] == server.name]
        good = [record for record in mine if "failure" not in record]
        row = {"workload": workload.name, "server": server.name, "engine": server.engine, "rounds": len(good)}
        row["disturbed"] = sum(record["disturbed"] for record in good)
        row["failures"] = [record["failure"] for record in mine if "failure" in record]
        for key in ("cpu_ns_per_op", "ops_per_s", "p50_us", "p99_us", *MEMORY_KEYS):
            values = [record[key] for record in good if key in record]
            row[key] = statistics.median(values) if values else None
        row["ratio"] = median_ratio(good, records, f"{server.engine}_floor")
        rows.append(row)
    return sorted(rows, key=lambda row: row["cpu_ns_per_op"] or row["bytes_per_echoed_connection"] or math.inf)


def median_ratio(mine, records, floor_name):
    measured = [record for record in records if record["server"] == floor_name and "cpu_ns_per_op" in record]
    floors = {record["round"]: record["cpu_ns_per_op"] for record in measured}
    ratios = [
        record["cpu_ns_per_op"] / floors[record["round"]]
        for record in mine
        if "cpu_ns_per_op" in record and record["round"] in floors
    ]
    return statistics.median(ratios) if ratios else None


def shown(value, form):
    return "–" if value is None else format(value, form)


def rounds_shown(row):
    extra = [f"{row['disturbed']} disturbed"] if row["disturbed"] else []
    extra += [f"{len(row['failures'])} failed"] if row["failures"] else []
    return f"{row['rounds']}" + (f" ({', '.join(extra)})" if extra else "")


def load_columns(row):
    return [
        ("server", row["server"]),
        ("server CPU ns/op", shown(row["cpu_ns_per_op"], ".0f")),
        ("x floor", shown(row["ratio"], ".2f")),
        ("ops/s", shown(row["ops_per_s"], ".0f")),
        ("p50 µs", shown(row["p50_us"], ".0f")),
        ("p99 µs", shown(row["p99_us"], ".0f")),
        ("rounds", rounds_shown(row)),
    ]


def memory_columns(row):
    silent, echoed = (row[key] and row[key] / 1024 for key in MEMORY_KEYS)
    return [
        ("server", row["server"]),
        ("KiB per silent connection", shown(silent, ".2f")),
        ("after one echo each", shown(echoed, ".2f")),
        ("rounds", rounds_shown(row)),
    ]


def table(workload, rows):
    cells = [(memory_columns if workload.kind == "idle" else load_columns)(row) for row in rows]
    lines = [f"### {workload.title}", "", line_of(name for name, _ in cells[0])]
    lines.append("|---|" + "--:|" * (len(cells[0]) - 1))
    lines += [line_of(value for _, value in row) for row in cells]
    failures = [f"- {row['server']}: {failure}" for row in rows for failure in dict.fromkeys(row["failures"])]
    return "\n".join(lines + ([""] + failures if failures else [])) + "\n"


def line_of(cells):
    return "| " + " | ".join(cells) + " |"


def cpu_model():
    with contextlib.suppress(OSError):
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        if match:
            return match[1]
    return platform.machine()


def commit():
    def git(*words):
        command = ["git", "--no-optional-locks", "-C", str(HERE), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + (" with changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def describe_host(cpus):
    return {
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(["bench/compare.py", *sys.argv[1:]]),
        "pinning": "nothing pinned" if None in cpus else f"server on CPU {cpus[0]}, load on CPU {cpus[1]}",
    }


def heading(host, absent):
    machine = f"{host['cpus']} x {host['cpu']}, Linux {host['kernel']}"
    lines = [
        f"{machine}; commit {host['commit']}; {host['date']}; {host['pinning']}.",
        "",
        f"    {host['command']}",
        "",
        "Medians of interleaved rounds. *x floor*: server CPU over that of the bare program on the same engine, in the",
        "same round.",
    ]
    if absent:
        lines += ["", "Not measured: " + "; ".join(absent) + "."]
    return "\n".join(lines) + "\n"


# --- The command line -------------------------------------------------------------------------------------------------


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, metavar="DIR", help="the build folder, with bench/ and examples/")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds of every workload (5)")
    parser.add_argument("--seconds", type=float, default=3, metavar="S", help="length of one measurement (3)")
    parser.add_argument("--only", action="append", default=[], metavar="SUBSTR",
                        help="only workloads, or else servers, whose name contains this; may be given several times")
    parser.add_argument("--peers", action="store_true", help="also measure the peers that are found")
    parser.add_argument("--out-md", type=Path, metavar="FILE", help="write the tables here too")
    parser.add_argument("--out-json", type=Path, metavar="FILE", help="write all rounds here")
    parser.add_argument("--smoke", action="store_true", help="one short round of two workloads, to see that all works")
    parser.add_argument("--list", action="store_true", help="list workloads and servers, and end")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or not 0 < arguments.seconds < 3600:
        parser.error("--rounds wants at least 1, --seconds more than 0 and less than 3600")
    for part in arguments.only:
        if not any(part.lower() in item.name.lower() for item in WORKLOADS + SERVERS):
            parser.error(f"--only {part}: no workload and no server has this in its name; see --list")
    if arguments.smoke:
        arguments.rounds, arguments.seconds = 1, 0.3
    return arguments


def narrowed(items, parts):
    """Those that one of the parts names; all of them when none does, for then the parts are about something else."""
    chosen = [item for item in items if any(part.lower() in item.name.lower() for part in parts)]
    return chosen or items


def with_floors(servers):
    """Ratios need the floor of every engine that takes part."""
    floors = {f"{server.engine}_floor" for server in servers}
    return [server for server in SERVERS if server in servers or server.name in floors]


def plan(arguments):
    """The workloads with their servers, and what cannot be measured and why."""
    workloads = [workload for workload in WORKLOADS if not arguments.smoke or workload.name in SMOKE_WORKLOADS]
    wanted = [server for server in SERVERS if arguments.peers or not server.is_peer]
    wanted = with_floors(narrowed(wanted, arguments.only))
    planned, absent = [], {}
    for workload in narrowed(workloads, arguments.only):
        if workload.kind == "wrk" and not shutil.which("wrk"):
            absent[f"{workload.name} (no wrk)"] = None
            continue
        servers = []
        for server in wanted:
            if workload.serves not in server.commands:
                continue
            lacking = server.lacks(workload.serves, arguments.build)
            if lacking:
                absent[f"{server.name} (no {lacking})"] = None
            else:
                servers.append(server)
        if servers:
            planned.append((workload, servers))
    return planned, list(absent)


def choose_cpus():
    """One for the server and one for the load, of those we may use."""
    allowed = sorted(os.sched_getaffinity(0))
    return tuple(allowed[:2]) if len(allowed) > 1 and shutil.which("taskset") else (None, None)


def list_names():
    for workload in WORKLOADS:
        print(f"workload  {workload.name:14} {workload.title}")
    for server in SERVERS:
        print(f"server    {server.name:14} {', '.join(server.commands)}{', a peer' if server.is_peer else ''}")


def run_all(bench, planned, absent, arguments):
    host = describe_host(bench.cpus)
    records, summary, text = [], [], [heading(host, absent)]
    for workload, servers in planned:
        mine = run_workload(bench, workload, servers, arguments.rounds)
        rows = summarise(workload, servers, mine)
        records, summary = records + mine, summary + rows
        text.append(table(workload, rows))
    print("\n".join(text))
    if arguments.out_md:
        arguments.out_md.write_text("\n".join(text))
    if arguments.out_json:
        everything = {"host": host, "absent": absent, "summary": summary, "rounds": records}
        arguments.out_json.write_text(json.dumps(everything, indent=1) + "\n")
    return 1 if any("failure" in record for record in records) else 0


def main():
    arguments = parse_arguments()
    if arguments.list:
        list_names()
        return 0
    if not arguments.build or not (arguments.build / "bench" / "echo_load").exists():
        note(f"compare.py: no bench/echo_load in {arguments.build}: is --build the build folder, and built?")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    cpus = choose_cpus()
    if None in cpus:
        note("One CPU, or no taskset: server and load are not pinned, and share what they run on.")
    planned, absent = plan(arguments)
    for what in absent:
        note(f"not measured: {what}")
    if not planned:
        note("compare.py: nothing to measure")
        return 2
    return run_all(Bench(arguments.build, arguments.seconds, cpus), planned, absent, arguments)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
