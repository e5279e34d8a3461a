"""Checks what the compiler cannot: who includes whom, file sizes, and that no machine leaks in.

usage: check_sources.py ROOT; prints each violation as file:line: message and exits 1 if there is one.
"""

import pathlib
import re
import sys

# Which rooms a room may include; docs/architecture.md explains the table. A room may include itself.
MAY_INCLUDE = {
    "core": set(),
    "compute": {"core"},
    "memory": {"core", "compute"},
    "models": {"core", "compute", "memory"},
    "actors": {"core", "compute", "memory", "models"},
    "config": {"core"},
    "server": {"core", "models"},
    "cli": {"core", "compute", "memory", "models", "actors", "config", "server"},
}
# Single headers beyond that: option structs for config/, the engine facade for server/.
OPTIONS = {"actors/engine_options.hpp", "server/server_options.hpp", "models/sampling.hpp",
           "compute/kv_layout.hpp"}
FACADE = {"actors/engine.hpp", "actors/engine_options.hpp", "actors/generation.hpp",
          "memory/page_store.hpp", "memory/prefix_index.hpp", "compute/kv_layout.hpp"}
EXTRA_HEADERS = {"config": OPTIONS, "server": FACADE}
# Libraries that one room hides from all others (and its tests).
HIDDEN_LIBRARIES = {
    r"caf/": "actors",
    r"(oneapi/)?tbb/": "compute",
    r"yaml-cpp/": "config",
    r"boost/": "server",
    r"prometheus/": "server",
    r"pcre2\.h|utf8proc\.h": "models",
    r"CLI/": "cli",
}
MAX_LINES = 600
MAX_HEADER_LINES = 300
SOURCES = {".cpp", ".hpp", ".py", ".js", ".css", ".html", ".cmake"}
TEXTS = SOURCES | {".md", ".txt", ".yaml", ".json", ".sh", ""}
SKIPPED_DIRECTORIES = {".git", "build", ".cache", "__pycache__"}
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
# Written in pieces so that this file does not accuse itself.
MACHINE_PATHS = re.compile(
    r"(?<![\w.~}])/(?:" + "wo" + r"rk|" + "tm" + r"p|" + "ro" + r"ot|" + "ho" + r"me)\b(?!:)"
    r"|\bpypi\." + r"org|python" + r"hosted|deb\.debian\." + r"org|huggingface\." + "co")
INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]')


def files(root):
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if SKIPPED_DIRECTORIES.isdisjoint(relative.parts) and path.is_file():
            yield path, relative


def room_of(relative):
    """The room whose rules hold for a file; a room's tests follow the room's rules on libraries."""
    parts = relative.parts
    return parts[1] if parts[0] == "tests" and len(parts) > 2 else parts[0]


def check_includes(relative, lines):
    room = room_of(relative)
    in_tests = relative.parts[0] in ("tests", "bench")
    allowed = MAY_INCLUDE.get(room)
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        header = match.group(1)
        target = header.split("/")[0] if "/" in header else ""
        if (allowed is not None and not in_tests and target in MAY_INCLUDE and target != room
                and target not in allowed and header not in EXTRA_HEADERS.get(room, ())):
            yield number, f"{room}/ may not include {header}"
        if target == "tests" and not in_tests:
            yield number, f"{header}: the product may not include tests"
        for pattern, owner in HIDDEN_LIBRARIES.items():
            if re.match(pattern, header) and room != owner:
                yield number, f"only {owner}/ may include {header}"


def check_file(path, relative):
    if relative.stem in BANNED_NAMES or not BANNED_NAMES.isdisjoint(relative.parts):
        yield 1, "a name that says nothing (utils, helpers, common)"
    is_golden = relative.parts[:2] == ("tests", "golden") and path.suffix != ".py"
    if path.suffix not in TEXTS or is_golden:
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return
    for number, line in enumerate(lines, 1):
        if MACHINE_PATHS.search(line):
            yield number, "names a path or a host of some machine"
    if path.suffix in SOURCES:
        limit = MAX_HEADER_LINES if path.suffix == ".hpp" else MAX_LINES
        if len(lines) > limit:
            yield limit, f"has {len(lines)} lines; split it (limit {limit})"
    if path.suffix in (".cpp", ".hpp"):
        yield from check_includes(relative, lines)
    if path.suffix == ".hpp":
        if "#pragma once" not in lines:
            yield 1, "a header without #pragma once"
        for number, line in enumerate(lines, 1):
            if line.startswith("using namespace"):
                yield number, "using namespace in a header"


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    checked = problems = 0
    for path, relative in files(root):
        checked += 1
        for number, message in check_file(path, relative):
            print(f"{relative}:{number}: {message}")
            problems += 1
    if checked < 20:
        print(f"only {checked} files below {root}: that is not the source tree")
        return 1
    print(f"{checked} files, {problems} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
