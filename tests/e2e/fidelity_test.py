"""Whole models against llama.cpp: perplexity and next-token choices on the text and by the method of
tests/golden/perplexity.py, and the answer to a question."""

import json
import os
import tempfile
import unittest

from harness import model_path, quire, run_tests, tests_directory

GOLDEN = tests_directory() / "golden" / "perplexity"
MAX_RELATIVE_DIFFERENCE = 0.01
MIN_AGREEMENT = 0.98


class Perplexity(unittest.TestCase):
    def compare(self, name):
        reference = json.loads((GOLDEN / f"{name}.json").read_text())
        with tempfile.TemporaryDirectory() as directory:
            argmax_file = os.path.join(directory, "argmax.jsonl")
            done = quire("perplexity", "-m", model_path(reference["model"]), "-f",
                         str(GOLDEN / "english.txt"), "-c", str(reference["window"]), "--kv", "f16",
                         "--json", "--argmax", argmax_file, timeout=3000)
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(argmax_file, encoding="utf-8") as lines:
                ours = [json.loads(line) for line in lines]
        report = json.loads(done.stdout)
        self.assertEqual((report["tokens"], report["chunks"]),
                         (reference["tokens"], reference["chunks"]))
        difference = report["ppl"] / reference["ppl"] - 1
        pairs = [pair for chunk, line in zip(reference["argmax"], ours, strict=True)
                 for pair in zip(chunk, line["argmax"], strict=True)]
        agreement = sum(a == b for a, b in pairs) / len(pairs)
        print(f"{name}: perplexity {report['ppl']:.4f}, {difference:+.3%}; "
              f"{agreement:.2%} of {len(pairs)} choices agree")
        self.assertLess(abs(difference), MAX_RELATIVE_DIFFERENCE)
        self.assertGreaterEqual(agreement, MIN_AGREEMENT)

    def test_the_default_model_is_within_a_percent_of_the_reference(self):
        self.compare("smollm2-135m-instruct")

    def test_gemma_is_within_a_percent_of_the_reference(self):
        try:
            model_path("gemma-3-270m-q4_k_m.gguf")
        except RuntimeError as missing:
            # Its licence is not open, so nothing fetches it unasked.
            self.skipTest(str(missing))
        self.compare("gemma-3-270m")


if __name__ == "__main__":
    run_tests()
