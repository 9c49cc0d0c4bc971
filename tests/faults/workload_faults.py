#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lets the system calls that files, signals, other programs and processes need fail, one kind at a time: always, with
each error of its manual page (a seccomp filter does that, in children, too), and each single one of them once, in the
program's first thread (strace).

    workload_faults.py FAULTS_WORKLOAD ENGINE [SCENARIO ...]

faults_workload judges by itself: nothing may crash or hang, no descriptor and no child may be left, and every error has
to say what was attempted, and why it failed. Exit status 77: there are no filters here.
"""

import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SKIPPED = 77
PATIENCE = 60  # seconds; the program gives itself 30

FULL = "EMFILE ENFILE ENOMEM"
DISK = "EIO ENOSPC EDQUOT"
NAME = "EACCES ENOENT ENOTDIR ELOOP ENOMEM EROFS"

# What is called, and the errors in the manual pages: those that may come every time, and then those that come once.
# ENOSYS and EOPNOTSUPP are what older kernels, filters and file systems say. Not here: write(2) and close(2), by which
# loops are woken and what is cleaned up, fcntl(2) and getpgid(2), which the program itself relies on.
CELLS = {
    "files": {
        "openat": f"{NAME} {FULL} ENOSPC EOVERFLOW ETXTBSY EINTR",
        "openat2": f"{NAME} {FULL} ENOSPC EOVERFLOW ETXTBSY ENOSYS EINTR",
        "preadv2": "EIO EOPNOTSUPP ENOMEM EINTR",
        "readv": "EIO ENOMEM EINTR",
        "writev": f"{DISK} EFBIG EPERM ENOMEM EINTR",
        "pwritev2": f"{DISK} EFBIG EPERM ENOMEM EINTR",
        "fsync": f"{DISK} EROFS EINTR",
        "fdatasync": f"{DISK} EROFS EINTR",
        "fallocate": f"{DISK} EFBIG EOPNOTSUPP ENOSYS EPERM EINTR",
        "ftruncate": "EIO EFBIG EPERM ETXTBSY EINTR",
        "flock": "ENOLCK EINTR",
        "statx": f"{NAME} ENOSYS EINTR",
        "fchmod": "EPERM EROFS EIO ENOMEM",
        "utimensat": "EPERM EROFS EACCES",
        "copy_file_range": f"{DISK} EXDEV EOPNOTSUPP EINVAL ENOSYS EFBIG EPERM ENOMEM EOVERFLOW EINTR",
        "sendfile": "EINVAL ENOSYS EIO ENOMEM EOVERFLOW EINTR",
        "splice": "EINVAL ENOMEM EINTR",
        "pipe2": "EMFILE ENFILE",
        "renameat": f"{NAME} EBUSY EDQUOT ENOSPC EPERM EXDEV",
        "renameat2": f"{NAME} EBUSY EDQUOT ENOSPC EPERM EXDEV EINVAL",
        "clone3": "EAGAIN ENOMEM",
        "io_uring_enter": "EINTR EAGAIN EBUSY",
        "epoll_pwait2": "ENOSYS EINTR",
    },
    "names": {
        "openat2": f"{NAME} {FULL}",
        "openat": f"{NAME} {FULL}",
        "unlinkat": f"{NAME} EBUSY EIO EPERM ENOTEMPTY",
        "mkdirat": f"{NAME} EDQUOT ENOSPC EMLINK",
        "symlinkat": f"{NAME} EDQUOT ENOSPC EIO EPERM",
        "linkat": f"{NAME} EDQUOT ENOSPC EMLINK EPERM EXDEV",
        "readlinkat": f"{NAME} EIO",
        "renameat": f"{NAME} EXDEV",
        "getdents64": "ENOENT EIO EINVAL",
        "getrandom": "ENOSYS EINTR",
        "statx": NAME,
    },
    "watches": {
        "inotify_init1": FULL,
        "inotify_add_watch": "EACCES ENOENT ENOMEM ENOSPC",
        "pipe2": "EMFILE ENFILE",
        "eventfd2": f"{FULL} ENODEV",
        "epoll_create1": FULL,
        "epoll_ctl": "ENOMEM ENOSPC",
        "io_uring_setup": f"{FULL} EPERM ENOSYS",
        "io_uring_register": "ENOMEM",
    },
    "signals": {
        "eventfd2": FULL,
        "sigaltstack": "ENOMEM",
        "io_uring_enter": "EINTR EAGAIN EBUSY",
        "epoll_pwait2": "EINTR",
        "futex": "EINTR EAGAIN",
    },
    "commands": {
        "clone": "EAGAIN ENOMEM EPERM",
        "clone3": "EAGAIN ENOMEM EPERM",
        "execve": "E2BIG EACCES EIO ELOOP EMFILE ENFILE ENOENT ENOEXEC ENOMEM EPERM ETXTBSY",
        "pipe2": "EMFILE ENFILE",
        "openat": f"{NAME} {FULL} ENOSPC ENXIO",
        "ioctl": "EIO ENOTTY EMFILE",
        "waitid": "EINTR",
        "poll": "ENOMEM EINTR",
        "pidfd_send_signal": "EPERM",
        "setpgid": "EACCES EPERM",
        "setsid": "EPERM",
        "chdir": f"{NAME} EIO",
        "dup3": "EMFILE EBUSY EINTR",
        "close_range": "ENOSYS EMFILE ENOMEM",
        "faccessat2": f"{NAME} ENOSYS",
        "newfstatat": NAME,
        "epoll_ctl": "ENOMEM ENOSPC",
    },
    "processes": {
        "clone": "EAGAIN ENOMEM",
        "pidfd_open": f"{FULL} ENODEV ENOSYS",
        "socketpair": FULL,
        "sendmsg": "ENOBUFS ENOMEM ETOOMANYREFS EINTR",
        "recvmsg": "ENOMEM EINTR",
        "recvfrom": "ENOMEM EINTR",
        "sendto": "ENOBUFS ENOMEM EINTR",
        "memfd_create": FULL,
        "ftruncate": "ENOMEM EINTR",
        "waitid": "EINTR",
        "pidfd_send_signal": "EPERM",
        "getsockopt": "ENOMEM",
        "shutdown": "ENOTCONN",
        "epoll_ctl": "ENOMEM ENOSPC",
        "eventfd2": FULL,
        "io_uring_setup": FULL,
        "openat": FULL,
        "getdents64": "ENOENT",
        "poll": "ENOMEM EINTR",
    },
    "shared": {
        "memfd_create": FULL,
        "ftruncate": "ENOMEM EINTR",
        "socketpair": FULL,
        "pidfd_open": f"{FULL} ENODEV ENOSYS",
        "recvmsg": "ENOMEM EINTR",
        "sendmsg": "ENOBUFS ENOMEM EINTR",
        "setsockopt": "ENOMEM",
        "ppoll": "ENOMEM EINTR",
        "poll": "ENOMEM EINTR",
        "openat": FULL,
        "futex": "EINTR EAGAIN",
    },
    "shards": {
        "clone": "EAGAIN ENOMEM",
        "signalfd4": f"{FULL} ENODEV",
        "socket": f"{FULL} EACCES ENOBUFS",
        "bind": f"{NAME} EADDRINUSE",
        "listen": "EADDRINUSE",
        "accept4": f"{FULL} EINTR",
        "openat": f"{NAME} {FULL}",
        "rename": f"{NAME} ENOSPC",
        "unlink": f"{NAME} EPERM",
        "ftruncate": "EIO EINTR",
        "pwrite64": f"{DISK} EINTR",
        "eventfd2": FULL,
        "poll": "ENOMEM EINTR",
        "read": "EIO EINTR",
    },
}

ONLY_ONCE = {"EINTR", "EAGAIN", "EBUSY"}  # a kernel that says so for ever does not exist
NOT_ALWAYS = {  # what would be a lie if it came every time
    ("read", "EIO"),  # the loader's, and everybody's
    ("poll", "ENOMEM"), ("ppoll", "ENOMEM"),  # memory comes back, or the system is gone
}
AGAIN_ALWAYS = {"clone", "clone3"}  # EAGAIN: the limit of processes


def may_stay(call, error):
    return (error not in ONLY_ONCE or call in AGAIN_ALWAYS) and (call, error) not in NOT_ALWAYS


class Lab:
    def __init__(self, program, engine):
        self.program = program
        self.environment = {**os.environ, "BIGHT_ENGINE": engine, "BIGHT_LOG": "warning"}
        self.counts = {}

    def run(self, scenario, *options, under=()):
        with tempfile.TemporaryDirectory(prefix="bight-faults-") as folder:
            return subprocess.run([*under, self.program, scenario, folder, *options], env=self.environment, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE, check=False)

    def places(self, scenario):
        """For each call, how often the first thread makes it before, and how often within, what is judged."""
        with tempfile.TemporaryDirectory(prefix="bight-faults-") as folder:
            log = Path(folder, "log")
            calls = ",".join(f"?{call}" for call in CELLS[scenario])
            done = self.run(scenario, under=["strace", "-qq", "-f", "-o", str(log), "-e", f"trace=getpgid,{calls}"])
            if done.returncode != 0:
                sys.exit(f"{scenario} does not work undisturbed:\n{done.stdout}")
            first, marks, counts = None, 0, {}
            for line in log.read_text(errors="replace").splitlines():
                match = re.match(r"(\d+) (\w+)\(", line)
                if not match:
                    continue
                first = first or match[1]
                if match[1] != first:
                    continue
                if match[2] == "getpgid":
                    marks += 1
                elif marks < 2:
                    counts.setdefault(match[2], [0, 0])[marks] += 1
            return counts


def cells_of(lab, scenario):
    """What to try: (description, options of the program, command before it)."""
    traces = shutil.which("strace") and subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True,
                                                       check=False).returncode == 0
    places = lab.places(scenario) if traces else {}
    for call, errors in CELLS[scenario].items():
        errors = errors.split()
        for error in errors:
            if may_stay(call, error):
                yield f"{scenario}: {call} always fails with {error}", ["--forbid", f"{call}={getattr(errno, error)}"], []
                if error == errors[0]:
                    yield (f"{scenario}: {call} has always failed with {error}",
                           ["--cold", "--forbid", f"{call}={getattr(errno, error)}"], [])
        before, within = places.get(call, (0, 0))
        for place in range(1, within + 1):
            for error in {errors[0], *(ONLY_ONCE & set(errors))}:
                what = f"{call}:error={error}:when={before + place}"
                yield (f"{scenario}: the {place}th {call} of {within} fails with {error}", ["--traced"],
                       ["strace", "-qq", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={what}"])


def try_one(lab, cell):
    description, options, under = cell
    try:
        done = lab.run(description.split(":")[0], *options, under=under)
    except subprocess.TimeoutExpired as late:
        return f"FAILED: {description}: it hangs\n{(late.stdout or b'').decode()}"
    if done.returncode in (0, SKIPPED):
        return None
    return f"FAILED: {description}: exit status {done.returncode}\n{done.stdout}"


def main():
    program, engine, *scenarios = sys.argv[1:]
    lab = Lab(program, engine)
    if lab.run("signals", "--forbid", f"mincore={errno.ENOMEM}").returncode == SKIPPED:
        print("skipped: no seccomp filters here")
        sys.exit(SKIPPED)
    failed = 0
    for scenario in scenarios or CELLS:
        cells = list(cells_of(lab, scenario))
        with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as threads:
            outcomes = [outcome for outcome in threads.map(lambda cell: try_one(lab, cell), cells) if outcome]
        failed += len(outcomes)
        print(*outcomes, f"{scenario}: {len(cells)} faults, {len(outcomes)} failed", sep="\n", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
