"""Proves that check_sources.py finds each kind of violation: a lint that cannot fail is no lint."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

CHECKER = pathlib.Path(__file__).with_name("check_sources.py")


class CheckSources(unittest.TestCase):
    def run_on(self, name, text):
        with tempfile.TemporaryDirectory() as directory:
            root = pathlib.Path(directory)
            for i in range(20):
                (root / f"file{i}.txt").write_text("harmless\n")
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            done = subprocess.run([sys.executable, CHECKER, root], capture_output=True, text=True)
            return done.returncode, done.stdout

    def refuse(self, name, text, message):
        code, output = self.run_on(name, text)
        self.assertEqual(code, 1, output)
        self.assertIn(message, output)

    def accept(self, name, text):
        code, output = self.run_on(name, text)
        self.assertEqual(code, 0, output)

    def test_rooms(self):
        self.refuse("core/a.cpp", '#include "memory/page_store.hpp"\n', "core/ may not include")
        self.refuse("server/a.cpp", '#include "actors/protocol.hpp"\n', "server/ may not include")
        self.accept("server/a.cpp", '#include "actors/engine.hpp"\n')
        self.accept("memory/a.cpp", '#include "compute/kv_layout.hpp"\n')

    def test_libraries(self):
        self.refuse("server/a.cpp", "#include <caf/all.hpp>\n", "only actors/ may include")
        self.refuse("cli/a.cpp", "#include <oneapi/tbb/task_arena.h>\n", "only compute/ may include")
        self.accept("tests/actors/a_test.cpp", "#include <caf/all.hpp>\n")

    def test_size(self):
        self.refuse("core/a.cpp", "\n" * 601, "split it")
        self.accept("core/a.cpp", "\n" * 600)
        self.refuse("core/a.hpp", "#pragma once\n" + "\n" * 300, "split it")

    def test_headers(self):
        self.refuse("core/a.hpp", "int f();\n", "without #pragma once")
        self.refuse("core/a.hpp", "#pragma once\nusing namespace std;\n", "using namespace")

    def test_machine_paths(self):
        self.refuse("docs/a.md", "see /" + "tmp/x\n", "some machine")
        self.refuse("docs/a.md", "from https://" + "pypi" + ".org/simple\n", "some machine")
        self.accept("docs/a.md", "a temporary directory\n")

    def test_names(self):
        self.refuse("core/utils.cpp", "\n", "says nothing")


if __name__ == "__main__":
    unittest.main()
