#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Taste, checked by a test: the rules that neither the compiler nor clang-format knows.

    tests/tidy.py                 every C++ file of the checkout
    tests/tidy.py FILE...         only these
    tests/tidy.py --self-test     that each rule still finds what it is there for

Prints each violation as `file:line: text`; exits 1 when there are any.

Functions may have 70 lines. RATCHET below lists the ones that are longer, with their length: they may shrink, not grow,
and an entry that is no longer true is a violation too, so the list only ever gets shorter.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

LINE_MAX = 120
FUNCTION_MAX = 70
SPDX = "// SPDX-License-Identifier: Apache-2.0"

# "path: function" -> lines. Shorten, do not extend.
RATCHET = {}

# A foreign header may be included only by files whose path begins with one of these.
FOREIGN = [
    (re.compile(r"boost/context(/|\.hpp$)"), "Boost.Context", ["runtime/src/context.cpp", "bench/micro/jump.hpp"]),
    (re.compile(r"ares[\w]*\.h$"), "c-ares", ["net/src/dns_cares.cpp", "bench/dns/"]),
    (re.compile(r"idn2\.h$"), "libidn2", ["net/src/dns/idna.cpp"]),
    (re.compile(r"liburing(\.h|/)"), "liburing", ["runtime/src/engine/", "bench/floors/", "bench/common/uring.hpp"]),
    (re.compile(r"openssl/"), "OpenSSL",
     ["net/src/tls/openssl/", "bench/tls/", "bench/load/tls_transport.cpp", "tests/support/test_certificates.cpp",
      "tests/net/tls_post_handshake_test.cpp"]),  # the last: a peer that does what ours never would
    (re.compile(r"(^|/)llhttp\.h$"), "llhttp", ["net/http/src/parser.cpp"]),
]

# Module folder -> where the public headers of its sources are.
MODULES = {
    "runtime/src/": "runtime/include/bight/",
    "net/src/": "net/include/bight/net/",
    "net/http/src/": "net/http/include/bight/http/",
}

# A test that waits for time to pass is slow on a good day and wrong on a bad one.
SLEEPS = re.compile(r"\b(?:std::)?this_thread::sleep_(?:for|until)\s*\(|(?<![\w.])(?:::)?u?sleep\s*\(|\bnanosleep\s*\(")

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]')


def cpp_files(root):
    """Paths, relative to `root`, of the C++ files that are tracked or could be."""
    try:
        listed = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            check=True, capture_output=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):  # a tarball, or no git
        listed = []
        for folder, subfolders, names in os.walk(root):
            subfolders[:] = [name for name in subfolders if name != "build" and not name.startswith(".")]
            listed += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    return sorted({path for path in listed if path.endswith((".cpp", ".hpp")) and (root / path).is_file()})


RAW_STRING = re.compile(r'(?:u8|[uUL])?R"([^()\\\s]{0,16})\(')
NUMBER = re.compile(r"\.?\d(?:'?[\w.]|(?<=[eEpP])[+-])*")
WORD = re.compile(r"[A-Za-z_]\w*")


def blank(text):
    """`text` with comments, literals' contents and preprocessor lines turned into spaces; every newline stays."""
    out = []
    at = 0
    line_start = True

    def skip(end):
        nonlocal at
        out.append(re.sub(r"[^\n]", " ", text[at:end]))
        at = end

    def end_of_literal(quote):
        index = at + 1
        while index < len(text) and text[index] not in (quote, "\n"):
            index += 2 if text[index] == "\\" else 1
        return min(index + 1, len(text))

    while at < len(text):
        here = text[at]
        if line_start and here == "#":
            end = at
            while True:
                end = text.find("\n", end)
                if end < 0 or text[end - 1] != "\\":
                    break
                end += 1
            skip(len(text) if end < 0 else end)
        elif text.startswith("//", at):
            end = text.find("\n", at)
            skip(len(text) if end < 0 else end)
        elif text.startswith("/*", at):
            end = text.find("*/", at + 2)
            skip(len(text) if end < 0 else end + 2)
        elif match := RAW_STRING.match(text, at):
            end = text.find(f"){match[1]}\"", match.end())
            skip(len(text) if end < 0 else end + len(match[1]) + 2)
        elif here in "\"'":
            end = end_of_literal(here)
            closed = end - at >= 2 and text[end - 1] == here
            out.append(here + " " * (end - at - 2) + here if closed else " " * (end - at))
            at = end
        elif match := NUMBER.match(text, at) or WORD.match(text, at):
            out.append(match[0].replace("'", "_"))
            at = match.end()
            line_start = False
            continue
        else:
            out.append(here)
            at += 1
        if here == "\n":
            line_start = True
        elif not here.isspace():
            line_start = False
    return "".join(out)


def end_of_group(text, at, opening, closing):
    """Behind the group that `opening` at `at` begins; angle brackets inside parentheses are comparisons."""
    depth = parens = 0
    for index in range(at, len(text)):
        here = text[index]
        if opening == "<" and here in "()":
            parens += 1 if here == "(" else -1
        if not parens or opening != "<":
            depth += (here == opening) - (here == closing)
        if depth == 0:
            return index + 1
    return len(text)


BEFORE_NAME = re.compile(r"\b(?:template\s*(<)|(?:requires|decltype|alignas|explicit|__attribute__)\s*(\())")


def declaration(header):
    """`header` without attributes, template parameters and whatever else in brackets may stand before a name."""
    header = re.sub(r"\[\[.*?\]\]", " ", header, flags=re.S)
    while match := BEFORE_NAME.search(header):
        group = 1 if match[1] else 2
        end = end_of_group(header, match.start(group), match[group], ">" if match[1] else ")")
        header = header[:match.start()] + header[end:]
    return header


SCOPE = re.compile(r"^\s*(?:(?:export|inline|typedef|static|constexpr|const|friend)\s+)*"
                   r"(?:namespace|class|struct|union|enum|extern\s*\")")
FUNCTION_END = re.compile(r"(?:\)|\b(?:const|noexcept|override|final|mutable|volatile|try)|&)\s*$")


def opens(header):
    """What the brace behind `header` opens, at namespace or class scope: 'scope', 'function' or 'value'."""
    plain = declaration(header).strip()
    if SCOPE.match(plain) and not re.search(r"\)\s*(?:const|noexcept)?$", plain):  # that: returns an elaborated type
        return "scope"
    if "(" not in plain:
        return "value"
    constructs = re.search(r"\)[^()]*?(?<!:):(?!:)", plain)
    if FUNCTION_END.search(plain) or "->" in plain or re.search(r"\brequires\b", plain) or constructs:
        return "function"
    return "value"


def function_name(header):
    """The name in front of the parameters; for TEST(Suite, Case) the whole of it."""
    plain = " ".join(declaration(header).split())
    if match := re.match(r"([A-Z][A-Z0-9_]+\s*\([^()]*\))$", plain):
        return match[1]
    match = re.search(r"((?:[\w~]+(?:<[^()]*>)?::)*(?:operator\s*(?:\(\)|[^\s(]+|\s\w+)|~?\w+))\s*\(", plain)
    return match[1] if match else plain[:40]


def functions(text):
    """(name, first line, line count) of each function defined in `text`; a lambda belongs to the function around it."""
    plain = blank(text)
    found = []
    start = index = parens = 0  # start: where the current declaration began
    while index < len(plain):
        here = plain[index]
        if here in "()":
            parens += 1 if here == "(" else -1
        elif here == "{":
            header = plain[start:index]
            kind = opens(header) if parens == 0 else "value"
            if kind == "scope":
                start = index + 1
            else:
                end = end_of_group(plain, index, "{", "}") - 1
                behind = plain[end + 1:end + 200].lstrip()[:1]
                if kind == "function" and behind not in (",", "{"):  # those: a member initializer, the body is to come
                    first = plain.count("\n", 0, start + len(header) - len(header.lstrip())) + 1
                    last = plain.count("\n", 0, end) + 1
                    found.append((function_name(header), first, last - first + 1))
                    start = end + 1
                index = end
        elif here in ";}" and parens == 0:
            start = index + 1
        elif here == ":" and re.search(r"\b(?:public|private|protected)\s*$", plain[start:index]):
            start = index + 1
        index += 1
    return found


def check_text(path, text, report):
    lines = text.split("\n")
    if lines[0] != SPDX:
        report(1, f"the first line should be `{SPDX}`")
    if path.endswith(".hpp") and not re.search(r"^#pragma once$", text, re.M):
        report(1, "a header needs `#pragma once`")
    if not text.endswith("\n") or text.endswith("\n\n"):
        report(len(lines), "the file should end with one newline")
    for number, line in enumerate(lines, 1):
        if "\t" in line:
            report(number, "a tab")
        if line != line.rstrip():
            report(number, "white space at the end of the line")
        if len(line) > LINE_MAX:
            report(number, f"{len(line)} columns, {LINE_MAX} are allowed")


def check_includes(path, text, exists, report):
    includes = [(number, match[1], match[2]) for number, line in enumerate(text.split("\n"), 1)
                if (match := INCLUDE.match(line))]
    for number, _, header in includes:
        for pattern, name, places in FOREIGN:
            if pattern.search(header) and not path.startswith(tuple(places)):
                report(number, f"{name} may be included only in {', '.join(places)}")
    module = next((folder for folder in MODULES if path.startswith(folder)), None)
    if module is None or not path.endswith(".cpp"):
        return
    stem = path[len(module):-len(".cpp")]
    own = {header for folder in (module, MODULES[module], MODULES[module] + "detail/")
           if exists(header := folder + stem + ".hpp")}
    if not own:
        return
    first = includes[0] if includes else (1, '"', "")
    folders = [MODULES[module].split("bight/")[0]] if first[1] == "<" else [os.path.dirname(path) + "/", module]
    if not any(os.path.normpath(folder + first[2]) in own for folder in folders):
        report(first[0], f"the first include should be the source's own header, {' or '.join(sorted(own))}")


def check_sleeps(path, text, report):
    if not path.startswith("tests/"):
        return
    for number, line in enumerate(blank(text).split("\n"), 1):
        if SLEEPS.search(line):
            report(number, "a test does not sleep the thread: wait for the event, or use the sim engine's clock")


def check_functions(path, text, ratchet, seen, report):
    for name, first, length in functions(text):
        key = f"{path}: {name}"
        allowed = ratchet.get(key, FUNCTION_MAX)
        if key in ratchet:
            seen[key] = max(length, seen.get(key, 0))
        if length > allowed:
            report(first, f"{name} has {length} lines, {allowed} are allowed")


def check(root, paths, ratchet, whole):
    """All violations, as (path, line, text)."""
    found = []
    seen = {}
    for path in paths:
        def report(line, what, path=path):
            found.append((path, line, what))

        try:
            text = (root / path).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            report(1, f"not UTF-8: {error.reason} at byte {error.start}")
            continue
        check_text(path, text, report)
        check_includes(path, text, lambda header: (root / header).is_file(), report)
        check_sleeps(path, text, report)
        check_functions(path, text, ratchet, seen, report)
    for key, allowed in ratchet.items():
        if not whole and key.split(": ")[0] not in paths:
            continue
        length = seen.get(key, 0)
        if length <= FUNCTION_MAX:
            found.append((key.split(": ")[0], 1, f"the ratchet's entry `{key}` is no longer needed: remove it"))
        elif length < allowed:
            found.append((key.split(": ")[0], 1, f"the ratchet's entry `{key}` can go down from {allowed} to {length}"))
    return found


def self_test():
    good = SPDX + "\n"
    long_body = "  x();\n" * 70

    def violations(path, text, ratchet=None, others=()):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for name in (path, *others):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text if name == path else "", encoding="utf-8")
            return [f"{line}: {what}" for _, line, what in check(root, [path], ratchet or {}, True)]

    def lengths(text):
        return [f"{name} {length}" for name, _, length in functions(text)]

    cases = 0

    def expect(got, wanted):
        nonlocal cases
        cases += 1
        if len(got) != len(wanted) or not all(part in text for part, text in zip(wanted, got)):
            sys.exit(f"tidy: case {cases} of the self-test: got {got!r}, wanted {wanted!r}")

    # Each rule: one text that breaks it, one that does not.
    expect(violations("a.cpp", good + "int x;\n"), [])
    expect(violations("a.cpp", "int x;\n"), ["1: the first line"])
    expect(violations("a.cpp", good + "\tint x;\n"), ["2: a tab"])
    expect(violations("a.cpp", good + "int x; \n"), ["2: white space"])
    expect(violations("a.cpp", good + "int x;"), ["one newline"])
    expect(violations("a.cpp", good + "// " + "é" * 117 + "\n"), [])
    expect(violations("a.cpp", good + "// " + "x" * 118 + "\n"), ["2: 121 columns"])
    expect(violations("a.hpp", good + "int x;\n"), ["#pragma once"])
    expect(violations("a.hpp", good + "#pragma once\n"), [])
    expect(violations("net/src/a.cpp", good + "#include <boost/context/fiber.hpp>\n"), ["2: Boost.Context"])
    expect(violations("runtime/src/context.cpp", good + "#include <boost/context/fiber.hpp>\n"), [])
    expect(violations("runtime/src/loop.cpp", good + "#include <liburing.h>\n"), ["2: liburing"])
    expect(violations("runtime/src/engine/uring.cpp", good + "#  include <liburing.h>\n"), [])
    expect(violations("bench/floors/uring_floor.cpp", good + "#include <liburing.h>\n"), [])
    expect(violations("net/http/src/server.cpp", good + "#include <llhttp.h>\n"), ["2: llhttp"])
    expect(violations("net/http/src/parser.cpp", good + "#include <llhttp/llhttp.h>\n"), [])
    expect(violations("tests/a.cpp", good + "// std::this_thread::sleep_for(1s)\n"), [])
    expect(violations("tests/a.cpp", good + "  std::this_thread::sleep_for(1s);\n"), ["2: a test does not sleep"])
    expect(violations("tests/a.cpp", good + "  usleep(5);\n  bight::sleep_for(1s);\n"), ["2: a test does not sleep"])
    expect(violations("bench/a.cpp", good + "  usleep(5);\n"), [])

    # A source's own header first, public or private.
    header = ["runtime/include/bight/fiber.hpp"]
    own = "#include <bight/fiber.hpp>\n"
    expect(violations("runtime/src/fiber.cpp", good + own + "\n#include <vector>\n", None, header), [])
    expect(violations("runtime/src/fiber.cpp", good + "#include <vector>\n" + own, None, header), ["2: the first"])
    expect(violations("runtime/src/fiber.cpp", good + "#include <vector>\n"), [])
    header = ["runtime/src/engine/uring.hpp"]
    expect(violations("runtime/src/engine/uring.cpp", good + '#include "uring.hpp"\n', None, header), [])
    expect(violations("runtime/src/engine/uring.cpp", good + '#include "engine/uring.hpp"\n', None, header), [])
    expect(violations("runtime/src/engine/uring.cpp", good + '#include "engine.hpp"\n', None, header), ["2: the first"])
    header = ["net/http/include/bight/http/server.hpp"]
    expect(violations("net/http/src/server.cpp", good + "#include <bight/http/server.hpp>\n", None, header), [])
    expect(violations("net/http/src/server.cpp", good + "#include <vector>\n", None, header), ["2: the first"])

    # The ratchet.
    expect(violations("a.cpp", good + "void f() {\n" + long_body[7:] + "}\n"), ["2: f has 71 lines, 70"])
    expect(violations("a.cpp", good + "void f() {\n" + long_body[14:] + "}\n"), [])
    expect(violations("a.cpp", good + "void f() {\n" + long_body + "}\n", {"a.cpp: f": 72}), [])
    expect(violations("a.cpp", good + "void f() {\n" + long_body + "}\n", {"a.cpp: f": 71}), ["f has 72 lines, 71"])
    expect(violations("a.cpp", good + "void f() {\n" + long_body + "}\n", {"a.cpp: f": 90}), ["down from 90 to 72"])
    expect(violations("a.cpp", good + "void f() {}\n", {"a.cpp: f": 72}), ["no longer needed"])

    # What is a function, and how long.
    expect(lengths("namespace a {\nnamespace {\nint f(int x) {\n  return x;\n}\n}\n}\n"), ["f 3"])
    source = """
template <class T, std::size_t N = (1 > 0)>
class Box final : public Base<T> {
 public:
  explicit Box(int v)
      : value_{v}, other_(make(v)) {
    use();
  }
  ~Box() { drop(); }
  auto get() const noexcept -> int { return value_; }
  bool operator==(const Box&) const = default;
  void operator()(int a) {
  }
 private:
  int value_{3};
  std::function<void()> f_{[] { return; }};
  std::array<int, size(2)> table_ = {1, 2};
};
struct alignas(64) Line { int x; };
enum class Kind { a, b };
extern "C" {
int c_function(void) {
  return '{' + "}{"[0] + 1'000'000;
}
}
struct stat query(int fd) noexcept { return {}; }
const char* text = R"x({ " ) )x";
#define MACRO(x) \\
  { x }
TEST(Suite, Case) {
  for (;;) {
    auto l = [&](int) {
    };
  }
}
template <class T>
  requires(sizeof(T) <= 8)
explicit(true) decltype(auto) clip(T value) requires std::integral<T> {
  /* } */ return value;  // }
}
"""
    expect(lengths(source), ["Box 4", "~Box 1", "get 1", "operator() 2", "c_function 3", "query 1",
                             "TEST(Suite, Case) 6", "clip 5"])
    print(f"tidy: {cases} cases of the self-test hold")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--self-test", action="store_true", help="check the checks")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent, help="the checkout")
    parser.add_argument("files", nargs="*", help="only these (relative to the root)")
    options = parser.parse_args()
    if options.self_test:
        self_test()
        return 0
    paths = options.files or cpp_files(options.root)
    if not paths:
        print(f"{options.root}: no C++ file found")
        return 1
    found = check(options.root, paths, RATCHET, not options.files)
    for path, line, what in sorted(found):
        print(f"{path}:{line}: {what}")
    print(f"tidy: {len(paths)} files, {len(found)} violations", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
