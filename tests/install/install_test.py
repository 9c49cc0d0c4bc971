#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Installs a build into a folder of its own and builds against it, the way a stranger would: a small program, and what
the documents show.

    install_test.py BUILD_FOLDER

Exit status 77: something it takes is missing here, and it says what.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SKIPPED = 77
HERE = Path(__file__).resolve().parent
CONSUMER = HERE / "consumer.cpp"
EXAMPLES = HERE.parent.parent / "examples"
DOCUMENTS = ("README.md", "docs/tour.md", "docs/cancellation.md", "docs/guide-from-threads-gevent-asyncio-go.md",
             "docs/subprocess-and-signals.md", "docs/processes-and-shards.md", "docs/files.md", "docs/dns.md",
             "docs/networking.md", "docs/tls.md", "docs/clients-of-real-servers.md")


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIPPED)


def run(*command, **options):
    """Runs a command, shows what it said when it fails, returns its standard output."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        print(f"$ {shlex.join(map(str, command))}\n{done.stdout}{done.stderr}exit status {done.returncode}")
        sys.exit(1)
    return done.stdout


def check_headers(prefix, flags, compiler):
    """Every installed header compiles by itself."""
    headers = sorted((prefix / "include").rglob("*.hpp"))
    assert headers, "no header was installed"
    for header in headers:
        name = header.relative_to(prefix / "include")
        run(*compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-x", "c++", *flags, "-",
            input=f"#include <{name}>\n#include <{name}>\n")
    print(f"{len(headers)} headers compile by themselves")


def blocks_of(text):
    """The blocks of C++ in a document: (line, whether it is a function's body, code)."""
    for match in re.finditer(r"^```cpp( body)?\n(.*?)^```$", text, re.M | re.S):
        yield text.count("\n", 0, match.start()) + 1, match[1] is not None, match[2]


def check_documents(prefix, flags, compiler):
    """What documents show compiles, also against the examples' own headers: a block marked ```cpp by itself, one marked ```cpp body as a function's body, with
    the names of fragments.hpp. The bodies of a document are compiled together: there are many of them."""
    count = 0
    for document in DOCUMENTS:
        path = HERE.parent.parent / document
        text = path.read_text(encoding="utf-8")
        blocks = list(blocks_of(text))
        assert len(blocks) == text.count("```cpp") > 0, f"{document}: a block of C++ is marked in a way not known"
        sources = []
        bodies = ""
        for line, is_body, code in blocks:
            if "<bight/http/" in code and not (prefix / "include/bight/http").exists():
                continue
            if "<bight/net/tls" in code and not (prefix / "include/bight/net/tls.hpp").exists():
                continue
            count += 1
            code = f'#line {line + 1} "{path}"\n{code}'
            if is_body:
                bodies += f"void shown_{line}();\nvoid shown_{line}() {{\n{code}}}\n"
            else:
                sources.append((code, []))
        if bodies:
            sources.append((f"#include <fragments.hpp>\n{bodies}", ["-Wno-unused-variable", f"-I{HERE}"]))
        for code, lenient in sources:
            run(*compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", *lenient, f"-I{EXAMPLES}", "-x",
                "c++", *flags, "-", input=code)
    print(f"{count} blocks of C++ in {', '.join(DOCUMENTS)} compile")


def check_nothing_foreign(prefix):
    """Installed is what is ours: headers under include/bight, libraries and programs that are called so."""
    for path in prefix.rglob("*"):
        name = path.relative_to(prefix).as_posix()
        if path.is_file() and not (name.startswith("include/bight/") or path.name.startswith("libbight") or
                                   path.name == "bight.pc" or name == "bin/bight-shards"):
            sys.exit(f"{name} was installed, and should not have been")


def check_flags(prefix, flags, libraries):
    """Nothing of how bight itself was built, nor of the machine it was built on, reaches who uses it."""
    for flag in flags:
        if flag not in ("-pthread", "-fstack-clash-protection", f"-I{prefix}/include"):
            sys.exit(f"pkg-config --cflags says {flag}")
    for flag in libraries:
        if flag not in ("-pthread", *flags) and not flag.startswith(("-l", "-L")):
            sys.exit(f"pkg-config --libs says {flag}")


def pkg_config(prefix, *arguments):
    folders = [str(path.parent) for path in prefix.rglob("bight.pc")]
    assert folders, "bight.pc was not installed"
    environment = dict(os.environ, PKG_CONFIG_PATH=":".join(folders + [os.environ.get("PKG_CONFIG_PATH", "")]))
    return shlex.split(run("pkg-config", *arguments, "bight", env=environment))


def main():
    build = Path(sys.argv[1]).resolve()
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    meson = shutil.which("meson") or skip("no meson")
    shutil.which("pkg-config") or skip("no pkg-config")
    shutil.which(compiler[0]) or skip(f"no {compiler[0]}")
    with tempfile.TemporaryDirectory(prefix="bight-install-") as folder:
        destination = Path(folder, "root")
        run(meson, "install", "-C", build, "--no-rebuild", "--destdir", destination)
        prefix = next(path.parent for path in destination.rglob("include") if path.is_dir())
        check_nothing_foreign(prefix)
        define = f"--define-variable=prefix={prefix}"
        flags = pkg_config(prefix, define, "--cflags", "--static")
        libraries = pkg_config(prefix, define, "--libs", "--static")
        check_flags(prefix, flags, libraries)
        check_headers(prefix, flags, compiler)
        check_documents(prefix, flags, compiler)
        program = Path(folder, "consumer")
        run(*compiler, "-std=c++20", "-Wall", "-Wextra", "-Werror", CONSUMER, "-o", program, *flags, *libraries)
        for engine in ("auto", "epoll", "sim"):
            said = run(program, env=dict(os.environ, BIGHT_ENGINE=engine, BIGHT_LOG="warning"), timeout=60)
            assert said == "hello from a fiber\n", f"{engine}: the consumer said {said!r}"
        print("a program built with pkg-config runs on every engine")
        assert "STATUS_SOCKET" in run(prefix / "bin/bight-shards", "--help")


if __name__ == "__main__":
    main()
