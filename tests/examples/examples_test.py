#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the example programs on one engine, and looks that they say what they should.

    examples_test.py EXAMPLES_FOLDER ENGINE

Some must say exactly one thing, others keep to rules: a traffic light may let a car run at many times, but never while
it is red. The chat room is talked to by real clients, one of which does not read. (Not under the sim engine, which has
no network to offer to other processes.)
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

PATIENCE = 60  # seconds, for what takes a few milliseconds


def check(condition, why):
    if not condition:
        raise AssertionError(why)


def lines_of(*numbered):
    return "".join(f"{line}\n" for line in numbered)


EXACT = {
    "bounded_semaphore": lines_of("22 guests, at most 5 at a time", "there are no more than five seats"),
    "custom_thread_pool": lines_of("the meals add up to 650", "a table of six: 133", "order 13: we do not serve that",
                                   "paid", "more than four cooks at a time: no"),
    "fifty_sleepers": lines_of("50 fibers have slept", "the total was at least one sleep: yes",
                               "the total was less than ten sleeps: yes"),
    "generator_consumer": lines_of(*(line for bun in range(1, 5) for line in (
        f"bun {bun} is ready", f"A eats bun {bun}", f"B eats bun {bun}")), "sold out"),
    "greenlet_switch": lines_of(12, 56, 34, 78, "first is suspended, second has ended", "3 5 0"),
    "ping_pong": lines_of(*(f"{side} {ball}" for ball in range(1, 6) for side in ("ping", "pong")), "game over"),
    "pipeline": lines_of(*(number * number for number in range(1, 11))),
    "rate_limiter": lines_of(*(f"request {request} {'goes at once' if request <= 3 else 'has waited'}"
                               for request in range(1, 9)), "five tokens took five periods: yes"),
}

# In a simulated world there are no processes.
WITH_PROCESSES = {
    "manager_dict_list": lines_of("10 keys, of which 0 are no child's", "15 numbers", "10 visits"),
    "pipe_two_way": lines_of("the square of 1 is 1", "the square of 2 is 4", "the square of 3 is 9",
                             "the child has no more questions", "the child has ended with 0"),
    "process_pool_callback": lines_of("std::runtime_error: seven is nobody's favourite", "the squares add up to 336",
                                      "several processes have worked: yes", "callbacks in other processes: 0"),
}


def traffic_light(said):
    """No car runs while the light is red, none waits while it is green, and all get home."""
    light = None
    runs = Counter()
    for line in said.splitlines()[:-1]:
        if match := re.fullmatch(r"the light is (red|green)", line):
            check(match[1] != light, f"the light was {light} already")
            light = match[1]
        elif match := re.fullmatch(r"car (\d+) (runs|waits)", line):
            check(light == ("green" if match[2] == "runs" else "red"), f"car {match[1]} {match[2]} while it is {light}")
            runs[match[1]] += match[2] == "runs"
        else:
            raise AssertionError(f"what does {line!r} mean?")
    check(runs == {"1": 5, "2": 5, "3": 5}, f"the cars ran {dict(runs)} times")
    check(said.endswith("all cars are home\n"), "the end is missing")


def producer_consumer(said):
    """Every loaf is put on the shelf once and eaten once; those of one baker, in their order."""
    loaves = [f"{baker}.{number}" for baker in range(1, 4) for number in range(1, 6)]
    put = re.findall(r"^baker (\d) has put loaf (\1\.\d) on the shelf$", said, re.M)
    eaten = re.findall(r"^guest \d has eaten loaf (\d\.\d)$", said, re.M)
    check(sorted(loaf for _, loaf in put) == loaves, f"put was {put}")
    check(sorted(eaten) == loaves, f"eaten was {eaten}")
    for baker in "123":
        check([loaf for of, loaf in put if of == baker] == [loaf for loaf in loaves if loaf[0] == baker],
              f"baker {baker} has put them in another order")
    check(len(said.splitlines()) == 31 and said.endswith("15 loaves, 0 left\n"), "there is more, or less, to it")


RULES = {"traffic_light": traffic_light, "producer_consumer": producer_consumer}


def run_program(program, engine):
    done = subprocess.run([program], env=dict(os.environ, BIGHT_ENGINE=engine), capture_output=True, text=True,
                          timeout=PATIENCE, check=False)
    try:
        check(done.returncode == 0, f"exit status {done.returncode}")
        exact = EXACT.get(program.name) or WITH_PROCESSES.get(program.name)
        if exact is not None:
            check(done.stdout == exact, "it said something else")
        else:
            RULES[program.name](done.stdout)
        check(done.stderr == "", "it complained")
    except AssertionError:
        print(f"{program.name} on {engine} said:\n{done.stdout}{done.stderr}")
        raise
    print(f"{program.name}: well")


class Client:
    """Someone in the chat room."""

    def __init__(self, address, receive_buffer=None):
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(address)
        self.file = self.socket.makefile("r", encoding="utf-8", newline="\n")

    def say(self, *texts):
        self.socket.sendall(lines_of(*texts).encode())

    def hears(self, *expected):
        for text in expected:
            heard = self.file.readline().rstrip("\n")
            check(heard == text, f"heard {heard!r} instead of {text!r}")

    def hears_the_end(self):
        rest = self.file.read()
        check(rest == "", f"heard {rest[:200]!r} instead of the end")

    def enter(self, name, *others):
        self.hears("* your name?")
        self.say(name)
        self.hears(f"* welcome, {name}")
        for other in others:
            other.hears(f"* {name} has come")

    def close(self):
        self.file.close()
        self.socket.close()


def flood_the_slow(ann, bob):
    """Bob talks until someone who does not read is thrown out; Ann, who reads, hears every word, and that."""
    number = 0
    deadline = time.monotonic() + PATIENCE
    thrown_out = False
    while not thrown_out:
        check(time.monotonic() < deadline, "the slow one is still there")
        words = [f"{number + i} " + "x" * 900 for i in range(50)]
        bob.say(*words)
        for word in words:
            heard = ann.file.readline().rstrip("\n")
            if heard == "* slow has left":
                thrown_out = True
                heard = ann.file.readline().rstrip("\n")
            check(heard == f"bob: {word}", f"ann heard {heard[:50]!r} instead of bob's {word[:10]!r}")
        number += len(words)
    bob.hears("* slow has left")


def talk(address, server):
    with contextlib.ExitStack() as stack:
        def client(**options):
            return stack.enter_context(contextlib.closing(Client(address, **options)))

        ann, bob = client(), client()
        ann.enter("ann")
        bob.hears("* your name?")
        bob.say("ann")  # that is taken
        bob.hears("* that will not do. your name?")
        bob.say("bob")
        bob.hears("* welcome, bob")
        ann.hears("* bob has come")

        ann.say("hello")
        bob.hears("ann: hello")
        bob.say("hello ann", "how are you?")
        ann.hears("bob: hello ann", "bob: how are you?")

        guest = client()
        guest.enter("guest", ann, bob)
        guest.say("I can not stay")
        ann.hears("guest: I can not stay")
        bob.hears("guest: I can not stay")
        guest.close()
        ann.hears("* guest has left")
        bob.hears("* guest has left")

        slow = client(receive_buffer=4096)
        slow.enter("slow", ann, bob)
        flood_the_slow(ann, bob)

        nameless = client()
        nameless.hears("* your name?")
        server.send_signal(signal.SIGTERM)
        for each in (ann, bob, nameless):
            each.hears("* the room closes")
            each.hears_the_end()


def run_chat(program, engine):
    with subprocess.Popen([program, "--port", "0"], env=dict(os.environ, BIGHT_ENGINE=engine), stdout=subprocess.PIPE,
                          text=True) as server:
        try:
            said = server.stdout.readline()
            check(said.startswith("listening on "), f"chat said {said!r}")
            host, port = said.split()[-1].rsplit(":", 1)
            talk((host, int(port)), server)
            said = server.stdout.read()
            check(server.wait(PATIENCE) == 0, f"chat ended with {server.returncode}")
            check(re.fullmatch(r"served \d+\n", said), f"chat said {said!r}")
        finally:
            server.kill()
    print("chat: well")


@contextlib.contextmanager
def listening(engine, *command):
    """A server that says where it listens; a stop has to end it well."""
    with subprocess.Popen(command, env=dict(os.environ, BIGHT_ENGINE=engine), stdout=subprocess.PIPE, text=True) as server:
        try:
            said = server.stdout.readline()
            check(said.startswith("listening on "), f"{command[0]} said {said!r}")
            host, port = said.split()[-1].rsplit(":", 1)
            yield host, int(port)
            server.send_signal(signal.SIGTERM)
            check(server.wait(PATIENCE) == 0, f"{command[0]} ended with {server.returncode}")
        finally:
            server.kill()


def receive_exactly(peer, count):
    data = b""
    while len(data) < count:
        piece = peer.recv(count - len(data))
        check(piece, f"the connection ended after {len(data)} of {count} bytes")
        data += piece
    return data


def converse(peer):
    """With an echo server, however far away."""
    for size in (5, 100_000):
        data = os.urandom(size)
        peer.sendall(data)
        check(receive_exactly(peer, size) == data, "what came back is something else")
    peer.shutdown(socket.SHUT_WR)
    check(peer.recv(1) == b"", "the end did not come back")


def run_network(folder, engine):
    with listening(engine, folder / "echo", "--port", "0") as echo:
        with listening(engine, folder / "proxy", "127.0.0.1:0", "%s:%d" % echo) as proxy:
            with socket.create_connection(proxy, PATIENCE) as peer:
                converse(peer)
        with listening(engine, folder / "socks5", "127.0.0.1:0") as socks:
            with socket.create_connection(socks, PATIENCE) as peer:
                peer.sendall(b"\x05\x01\x00")
                check(receive_exactly(peer, 2) == b"\x05\x00", "socks5 wants more than nothing")
                peer.sendall(b"\x05\x01\x00\x01" + socket.inet_aton(echo[0]) + echo[1].to_bytes(2, "big"))
                check(receive_exactly(peer, 10)[1] == 0, "socks5 did not connect")
                converse(peer)
        scan = subprocess.run([folder / "portscan", str(echo[1]), str(echo[1])], capture_output=True, text=True,
                              env=dict(os.environ, BIGHT_ENGINE=engine), timeout=PATIENCE, check=True)
        check(scan.stdout == f"{echo[1]}\n1 of 1 ports are open\n", f"portscan said {scan.stdout!r}")
    for mode in ((), ("--batch",)):
        with listening(engine, folder / "udp_echo", *mode, "127.0.0.1:0") as where:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                peer.settimeout(PATIENCE)
                peer.sendto(b"hello", where)
                check(peer.recv(100) == b"hello", "udp_echo said something else")
    print("network: well")


SHELL_JOBS = """echo hello; echo there
# no job
exit 3
sleep 1000 & sleep 1000
cat
kill -SEGV $$
"""
SHELL_SAYS = r"""
 job  outcome +seconds  command
   1  well +\d\.\d\d  echo hello; echo there
      \| hello
      \| there
   2  exited with 3 +\d\.\d\d  exit 3
   3  timed out, killed by SIGTERM +\d\.\d\d  sleep 1000 & sleep 1000
   4  well +\d\.\d\d  cat
   5  killed by SIGSEGV( \(core dumped\))? +\d\.\d\d  kill -SEGV \$\$
"""


def run_shell(program, engine):
    """Jobs that succeed, fail, hang and crash; from a file and from standard input; and the end by a signal."""
    env = dict(os.environ, BIGHT_ENGINE=engine)
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(SHELL_JOBS)
        file.flush()
        for arguments, text in [([file.name], None), ([], SHELL_JOBS)]:
            done = subprocess.run([program, "--jobs", "2", "--limit", "1.5", *arguments], env=env, input=text,
                                  capture_output=True, text=True, timeout=PATIENCE, check=False)
            check(re.fullmatch(SHELL_SAYS.lstrip("\n"), done.stdout), f"it said:\n{done.stdout}{done.stderr}")
            check(done.returncode == 1 and done.stderr == "", f"{done.returncode}: {done.stderr}")
    with subprocess.Popen([program, "--jobs", "1"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as busy:
        busy.stdin.write(f"kill -TERM {busy.pid}; sleep 1000\necho never\n")
        busy.stdin.close()
        said = busy.stdout.read()
        check(busy.wait(PATIENCE) == 1, f"exit status {busy.returncode}")
    check(re.search(r"^   1  interrupted .*\n   2  not begun .*\nended by SIGTERM$", said, re.M), f"it said:\n{said}")
    print("shell: well")


def run_process_lock(program, engine):
    """Lines of four processes, in any order but whole; then a death that is told, and mended."""
    done = subprocess.run([program], env=dict(os.environ, BIGHT_ENGINE=engine), capture_output=True, text=True,
                          timeout=PATIENCE, check=False)
    said = done.stdout.splitlines()
    check(done.returncode == 0 and done.stderr == "", f"{done.returncode}: {done.stderr}")
    check(sorted(said[:4]) == [f"process {number} is done" for number in range(1, 5)], f"it said {said}")
    check(said[4:] == ["400 deposits, balance 4000", "the owner has died: it was the robber",
                       "401 deposits, balance 4010"], f"it said {said}")
    print("process_lock: well")


def run_many_processes(program, engine):
    """Twice 8000 whole lines, those of each process in order."""
    with tempfile.NamedTemporaryFile("r") as file:
        done = subprocess.run([program, file.name], env=dict(os.environ, BIGHT_ENGINE=engine), capture_output=True,
                              text=True, timeout=PATIENCE, check=False)
        check(done.stdout == lines_of("with a lock: done", "with a single writer: done") and done.stderr == "",
              f"{done.returncode}: {done.stdout}{done.stderr}")
        lines = file.read().splitlines()
    check(len(lines) == 16000, f"there are {len(lines)} lines")
    for part in (lines[:8000], lines[8000:]):
        for number in range(1, 9):
            mine = [line for line in part if line.startswith(f"process {number},")]
            check(mine == [f"process {number}, line {line}" for line in range(1, 1001)], f"lines of {number} are mixed")
    print("many_processes_one_file: well")


def run_parallel_grep(program, engine):
    """Finds what Python finds, in text only, and tells of what it can not read."""
    with tempfile.TemporaryDirectory() as folder:
        expected = []
        for number in range(40):
            path = Path(folder, f"d{number % 4}", f"e{number % 3}", f"file{number}")
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [f"line {line} of {number}{' with a needle' if (line + number) % 50 == 0 else ''}"
                     for line in range(200)]
            path.write_text("\n".join(lines))
            expected += [f"{path}:{i + 1}:{line}" for i, line in enumerate(lines) if "needle" in line]
        Path(folder, "binary").write_bytes(b"\0needle\n")
        Path(folder, "circle").symlink_to(".")
        command = [program, "needle", folder]
        done = subprocess.run(command, env=dict(os.environ, BIGHT_ENGINE=engine), capture_output=True, text=True,
                              timeout=PATIENCE, check=False)
        *found, last = done.stdout.splitlines()
        check(sorted(found) == sorted(expected), f"it said {found[:5]}")
        check(last == f"{len(expected)} lines in 40 files" and done.stderr == "" and done.returncode == 0, done)
    print("parallel_grep: well")


def run_tail(program, engine):
    """Follows a file through additions, rotation and truncation."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log")
        path.write_text(lines_of(*range(100)))
        with subprocess.Popen([program, path], env=dict(os.environ, BIGHT_ENGINE=engine), stdout=subprocess.PIPE,
                              text=True) as tail:
            try:
                def hears(*lines):
                    for line in lines:
                        heard = tail.stdout.readline()
                        check(heard == f"{line}\n", f"tail said {heard!r} instead of {line!r}")

                def add(text):
                    with path.open("a") as file:
                        file.write(text)

                hears(*range(90, 100))
                add("more\nunfinish")
                hears("more")
                add("ed\n")
                hears("unfinished")
                path.rename(path.with_suffix(".1"))
                path.write_text("after the rotation\n")
                hears("after the rotation")
                path.write_text("cut\n")
                hears("cut")
                tail.send_signal(signal.SIGTERM)
                check(tail.stdout.read() == "" and tail.wait(PATIENCE) == 128 + signal.SIGTERM, "tail did not end well")
            finally:
                tail.kill()
    print("tail: well")


def run_dns(folder, engine):
    """Names of this machine, names that are none, and a server that does not answer; then very many."""
    environment = dict(os.environ, BIGHT_ENGINE=engine, BIGHT_LOG="warning")

    def run(program, *arguments):
        return subprocess.run([folder / program, *arguments], env=environment, capture_output=True, text=True,
                              timeout=PATIENCE)

    done = run("resolve", "localhost", "192.0.2.7", "::1")
    check((done.returncode, done.stdout) == (0, lines_of("::1", "127.0.0.1", "192.0.2.7", "::1")), done)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{mute.getsockname()[1]}"
        begin = time.monotonic()
        done = run("resolve", "--server", server, "--timeout", "100ms", "--tries", "2", "silent.example", "a..b")
        check(time.monotonic() - begin >= 0.2, "it gave up too early")
        said = lines_of(f"resolve silent.example: timed out (asked {server})", "resolve a..b: not a valid name")
        check((done.returncode, done.stdout, done.stderr) == (1, "", said), done)
    check(run("resolve", "--tries", "x", "localhost").returncode == 2, "a wrong call is not told")
    done = run("dns_mass_resolve", "--count", "500")
    check((done.returncode, done.stdout) == (0, lines_of("500 of 500 names found")), done)
    check("%" not in done.stderr, "a progress bar where nobody looks")
    for wrong in ("-x",), ("one", "two"), ("--server", "127.0.0.1:0"), ("--count", "0"):
        done = run("dns_mass_resolve", *wrong)
        check(done.returncode == 2 and "--help" in done.stderr and not done.stdout, done)
    done = run("dns_mass_resolve", "/nowhere/names")
    said = lines_of("dns_mass_resolve: open /nowhere/names: No such file or directory")
    check((done.returncode, done.stderr) == (1, said), done)
    for call in ("resolve", "localhost"), ("dns_mass_resolve", "--count", "1"):
        with open("/dev/full", "w", encoding="ascii") as full:
            done = subprocess.run([folder / call[0], *call[1:]], env=environment, stdout=full, stderr=subprocess.PIPE,
                                  text=True, timeout=PATIENCE)
        check(done.returncode == 1 and "write: No space left on device" in done.stderr, done)
    screen, terminal = os.openpty()
    with os.fdopen(screen, "rb", buffering=0) as screen, os.fdopen(terminal, "wb") as terminal:
        subprocess.run([folder / "dns_mass_resolve", "--count", "50"], env=environment, stdout=subprocess.DEVNULL,
                       stderr=terminal, timeout=PATIENCE, check=True)
        shown = screen.read(65536).decode()
    check(shown.startswith("\r[") and "] 100 %\r\n" in shown and " names a second" in shown, repr(shown))


def main():
    folder, engine = Path(sys.argv[1]), sys.argv[2]
    for name in sorted(EXACT.keys() | RULES.keys()):
        run_program(folder / name, engine)
    if engine != "sim":
        for name in sorted(WITH_PROCESSES):
            run_program(folder / name, engine)
        run_chat(folder / "chat", engine)
        run_network(folder, engine)
        run_shell(folder / "shell", engine)
        run_process_lock(folder / "process_lock", engine)
        run_parallel_grep(folder / "parallel_grep", engine)
        run_dns(folder, engine)
        run_tail(folder / "tail", engine)
        run_many_processes(folder / "many_processes_one_file", engine)


if __name__ == "__main__":
    main()
