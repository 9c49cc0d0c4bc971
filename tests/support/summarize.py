#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts what `meson test` did, over several builds, GoogleTest case by case.

    summarize.py --run NAME FOLDER STATUS [--run ...] [--broken NAME ...]
    summarize.py --select FOLDER [--slow] PATTERN...    the tests whose name matches (a glob, or a part of the name)
    summarize.py --self-test

FOLDER is a Meson build folder in which `meson test --logbase run` ended with exit status STATUS. A GoogleTest program
counts as its cases, any other as one. Whatever does not add up counts as a failure: a program that died, hung, went
away before its last case, ran no case, or failed although its cases passed; a build in which no test ran; each --broken.

Prints the failures with the end of their output; the last line is `N passed, N failed`, and `, N skipped` if there are
any. Exits 1 when something failed, or nothing passed.
"""

import argparse
import collections
import contextlib
import fnmatch
import io
import json
import re
import signal
import sys
import tempfile
from pathlib import Path

LOG_BASE = "run"  # what `meson test` was told with --logbase
TAIL_LINES = 60

# GoogleTest's report. A case's line need not begin a line: the test may have printed something without a newline.
RUNNING = re.compile(r"\[==========\] Running (\d+) tests? from \d+ test")
ENDED = re.compile(r"\[==========\] \d+ tests? from \d+ test \w+ ran\.")
CASE = re.compile(r"\[( RUN      |       OK |  FAILED  |  SKIPPED | DISABLED )\] ([\w/]+\.[\w/]+)")


class Tally:
    """What passed, what was skipped, and what there is to say about the rest."""

    def __init__(self):
        self.passed = 0
        self.skipped = []   # names
        self.failures = []  # (name, reason, output)

    def fail(self, name, reason, output=""):
        self.failures.append((name, reason, output))

    def add(self, other, prefix):
        self.passed += other.passed
        self.skipped += [prefix + name for name in other.skipped]
        self.failures += [(prefix + name, reason, output) for name, reason, output in other.failures]

    def line(self):
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        return f"{self.passed} passed, {len(self.failures)} failed{skipped}"


class Iteration:
    """One pass of a GoogleTest program over its cases (--gtest_repeat makes several)."""

    def __init__(self, announced):
        self.announced = announced
        self.ended = False
        self.outcome = {}  # case -> RUN, OK, FAILED, SKIPPED or DISABLED
        self.output = collections.defaultdict(list)


def iterations(text):
    """The passes that a program's output tells of; none when it is not a GoogleTest program."""
    found = []
    case = None
    for line in text.splitlines():
        if match := RUNNING.search(line):
            found.append(Iteration(int(match[1])))
            case = None
            continue
        if not found:
            continue
        current = found[-1]
        if ENDED.search(line):
            current.ended = True
        elif (match := CASE.search(line)) and not current.ended:  # behind the end stands a list of the failed ones
            case, outcome = match[2], match[1].strip()
            if current.outcome.get(case) != "FAILED":
                current.outcome[case] = outcome
            if outcome != "RUN":
                case = None
        elif case:
            current.output[case].append(line)
    return found


def how_it_ended(record):
    """Why Meson says that a program failed."""
    status = record.get("returncode", 0)
    if record["result"] == "TIMEOUT":
        return "timed out"
    if status < 0 or status > 128:
        with contextlib.suppress(ValueError):
            return f"died of {signal.Signals(-status if status < 0 else status - 128).name}"
    if record["result"] == "UNEXPECTEDPASS":
        return "passed, and was expected to fail"
    return f"exited with {status}" if status else record["result"].lower()


def count_cases(tally, name, passes, end, output):
    """Counts a GoogleTest program's cases. `end` says how it failed; empty: it did not."""
    failed_before = len(tally.failures)
    for one in passes:
        for case, outcome in one.outcome.items():
            where = f"{name}: {case}"
            if outcome == "OK":
                tally.passed += 1
            elif outcome in ("SKIPPED", "DISABLED"):
                tally.skipped.append(where)
            elif outcome == "FAILED":
                tally.fail(where, "failed", "\n".join(one.output[case]))
            else:
                tally.fail(where, end or "did not end", "\n".join(one.output[case]))
        if end or "RUN" in one.outcome.values():
            continue  # what went wrong is told above or below
        counted = sum(outcome != "DISABLED" for outcome in one.outcome.values())
        if one.announced == 0:
            tally.fail(name, "ran no case", output)
        elif not one.ended:
            tally.fail(name, "went away before its last case was done", output)
        elif counted < one.announced:
            tally.fail(name, f"announced {one.announced} cases, told of {counted}", output)
    if end and len(tally.failures) == failed_before:
        tally.fail(name, f"{end} although its cases passed", output)


def count_program(record):
    """The tally of one entry of Meson's log."""
    tally = Tally()
    name, result = record["name"].split(" / ")[-1], record["result"]  # without Meson's "project:suite / "
    output = (record.get("stdout") or "") + (record.get("stderr") or "")
    passes = iterations(output)
    if passes and result != "EXPECTEDFAIL":
        count_cases(tally, name, passes, "" if result in ("OK", "SKIP") else how_it_ended(record), output)
    elif result in ("OK", "EXPECTEDFAIL"):
        tally.passed += 1
    elif result in ("SKIP", "IGNORED"):
        tally.skipped.append(name)
    else:
        tally.fail(name, how_it_ended(record), output)
    return tally


def count_build(folder, status):
    """The tally of one build, and how many programs it ran."""
    tally = Tally()
    programs = 0
    for log in sorted(Path(folder, "meson-logs").glob(LOG_BASE + "*.json")):
        for line in log.read_text(encoding="utf-8").splitlines():
            tally.add(count_program(json.loads(line)), "")
            programs += 1
    if programs == 0:
        tally.fail("meson test", "ran no test at all")
    elif status != 0 and not tally.failures:
        tally.fail("meson test", f"exited with {status} although no test failed")
    return tally, programs


def summarize(runs, broken):
    """Reports on all builds; the exit status."""
    total = Tally()
    for name, folder, status in runs:
        tally, programs = count_build(folder, int(status))
        print(f"{name}: {tally.line()} ({programs} programs)")
        total.add(tally, f"{name}: ")
    for name in broken:
        total.fail(name, "does not build")
    for name in total.skipped:
        print(f"skipped: {name}")
    for name, reason, output in total.failures:
        print(f"\nFAILED {name}: {reason}")
        for line in output.rstrip().splitlines()[-TAIL_LINES:]:
            print(f"    {line}")
    if total.failures:
        print("\nFailed:")
        for name, reason, _ in total.failures:
            print(f"  {name}: {reason}")
    print(total.line())
    return 1 if total.failures or total.passed == 0 else 0


def matches(name, pattern):
    return fnmatch.fnmatchcase(name, pattern) if re.search(r"[*?[]", pattern) else pattern in name


def select(folder, patterns, slow):
    """Names of the tests of a build that match; a slow one only when `slow`, or named in full."""
    tests = json.loads(Path(folder, "meson-info", "intro-tests.json").read_text(encoding="utf-8"))
    chosen = set()
    for test in tests:
        is_slow = any(suite.split(":")[-1] == "slow" for suite in test["suite"])
        for pattern in patterns:
            if test["name"] == pattern or (matches(test["name"], pattern) and (slow or not is_slow)):
                chosen.add(test["name"])
    return sorted(chosen)


def self_test():
    checks = 0

    def expect(got, wanted):
        nonlocal checks
        checks += 1
        if got != wanted:
            sys.exit(f"summarize: check {checks} of the self-test: got {got!r}, wanted {wanted!r}")

    def tally_of(stdout, result="OK", returncode=0):
        tally = count_program({"name": "bight:net / t", "stdout": stdout, "result": result, "returncode": returncode})
        return tally.line(), [f"{name}: {reason}" for name, reason, _ in tally.failures]

    def report(*lines, announced=2, ended=True):
        end = f"[==========] {announced} tests from 1 test suite ran. (3 ms total)\n[  PASSED  ] 1 test.\n"
        return f"[==========] Running {announced} tests from 1 test suite.\n" + "\n".join(lines) + "\n" + end * ended

    ok = "[ RUN      ] A.ok\nhello[       OK ] A.ok (0 ms)"
    bad = "[ RUN      ] A.bad/1\na.cpp:1: Failure\n[  FAILED  ] A.bad/1, where GetParam() = 3 (0 ms)"
    listed = "[  FAILED  ] 1 test, listed below:\n[  FAILED  ] A.bad/1, where GetParam() = 3\n"
    skip = "[ RUN      ] A.skip\n[  SKIPPED ] A.skip (0 ms)"
    hang = "[ RUN      ] A.hang\nwaiting"

    # Programs that are not GoogleTest's.
    expect(tally_of("hello"), ("1 passed, 0 failed", []))
    expect(tally_of("", "SKIP", 77), ("0 passed, 0 failed, 1 skipped", []))
    expect(tally_of("", "FAIL", 3), ("0 passed, 1 failed", ["t: exited with 3"]))
    expect(tally_of("", "FAIL", -11), ("0 passed, 1 failed", ["t: died of SIGSEGV"]))
    expect(tally_of("", "FAIL", 134), ("0 passed, 1 failed", ["t: died of SIGABRT"]))
    expect(tally_of("", "TIMEOUT", -15), ("0 passed, 1 failed", ["t: timed out"]))
    expect(tally_of("", "EXPECTEDFAIL", 1), ("1 passed, 0 failed", []))
    expect(tally_of("", "UNEXPECTEDPASS"), ("0 passed, 1 failed", ["t: passed, and was expected to fail"]))

    # GoogleTest's, as they should be.
    expect(tally_of(report(ok, skip)), ("1 passed, 0 failed, 1 skipped", []))
    expect(tally_of(report(ok, bad) + listed, "FAIL", 1), ("1 passed, 1 failed", ["t: A.bad/1: failed"]))
    expect(tally_of(report(ok, announced=1) * 3), ("3 passed, 0 failed", []))
    expect(tally_of(report(ok, "[ DISABLED ] A.DISABLED_x", announced=1)), ("1 passed, 0 failed, 1 skipped", []))

    # And as they should not be.
    expect(tally_of(report(ok, hang, ended=False), "TIMEOUT", -9), ("1 passed, 1 failed", ["t: A.hang: timed out"]))
    expect(tally_of(report(ok, hang, ended=False), "FAIL", -6), ("1 passed, 1 failed", ["t: A.hang: died of SIGABRT"]))
    expect(tally_of(report(ok, skip), "FAIL", 1),
           ("1 passed, 1 failed, 1 skipped", ["t: exited with 1 although its cases passed"]))
    expect(tally_of(report(ok, ended=False)), ("1 passed, 1 failed", ["t: went away before its last case was done"]))
    expect(tally_of(report(ok, hang, ended=False)), ("1 passed, 1 failed", ["t: A.hang: did not end"]))
    expect(tally_of(report(hang, announced=5)), ("0 passed, 1 failed", ["t: A.hang: did not end"]))
    expect(tally_of(report(ok)), ("1 passed, 1 failed", ["t: announced 2 cases, told of 1"]))
    expect(tally_of(report(announced=0)), ("0 passed, 1 failed", ["t: ran no case"]))
    forked = report(bad, "[       OK ] A.bad/1 (0 ms)", announced=1)  # a child that came back into the test
    expect(tally_of(forked, "FAIL", 1), ("0 passed, 1 failed", ["t: A.bad/1: failed"]))

    # Whole builds, and the choice of tests.
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "b")
        for part in ("meson-logs", "meson-info"):
            (folder / part).mkdir(parents=True)
        expect(count_build(folder, 0)[0].line(), "0 passed, 1 failed")
        entries = [{"name": "x", "stdout": report(ok, skip), "result": "OK", "returncode": 0},
                   {"name": "y", "stdout": "", "result": "OK", "returncode": 0}]
        (folder / "meson-logs/run-quick.json").write_text("\n".join(map(json.dumps, entries)) + "\n", encoding="utf-8")
        expect(count_build(folder, 0)[0].line(), "2 passed, 0 failed, 1 skipped")
        expect(count_build(folder, 2)[0].line(), "2 passed, 1 failed, 1 skipped")
        for runs, broken, last, status in (
                ([("b", folder, "0")], [], "2 passed, 0 failed, 1 skipped", 0),
                ([("b", folder, "0"), ("c", folder, "0")], ["d"], "4 passed, 1 failed, 2 skipped", 1),
                ([], [], "0 passed, 0 failed", 1)):
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                expect(summarize(runs, broken), status)
            expect(printed.getvalue().splitlines()[-1], last)
        tests = [{"name": "tcp-epoll", "suite": ["bight:net"]}, {"name": "tcp-long", "suite": ["bight:slow"]}]
        (folder / "meson-info/intro-tests.json").write_text(json.dumps(tests), encoding="utf-8")
        expect(select(folder, ["tcp"], False), ["tcp-epoll"])
        expect(select(folder, ["tcp"], True), ["tcp-epoll", "tcp-long"])
        expect(select(folder, ["tcp-long"], False), ["tcp-long"])
        expect(select(folder, ["*-epoll", "x"], True), ["tcp-epoll"])
    print(f"summarize: {checks} checks of the self-test hold")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", nargs=3, action="append", default=[], metavar=("NAME", "FOLDER", "STATUS"))
    parser.add_argument("--broken", action="append", default=[], metavar="NAME", help="a build that did not come about")
    parser.add_argument("--select", nargs="+", metavar=("FOLDER", "PATTERN"))
    parser.add_argument("--slow", action="store_true", help="with --select: the suite 'slow' too")
    parser.add_argument("--self-test", action="store_true", help="check the checks")
    options = parser.parse_args()
    sys.stdout.reconfigure(errors="replace")
    if options.self_test:
        self_test()
        return 0
    if options.select:
        for name in select(options.select[0], options.select[1:], options.slow):
            print(name)
        return 0
    return summarize(options.run, options.broken)


if __name__ == "__main__":
    sys.exit(main())
