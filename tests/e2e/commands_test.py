"""The commands from outside: what they print, where, and their exit codes."""

import json
import os
import signal
import subprocess
import tempfile
import time
import unittest

import harness
from harness import model_path, quire, run_tests

PAGED = {"pages": 6, "page_tokens": 16, "layers": 1, "kv_heads": 2, "head_dim": 64, "type": "q8"}


class Usage(unittest.TestCase):
    def test_help_and_version_go_to_standard_output(self):
        for arguments in (["--help"], ["run", "--help"], ["kv", "replay", "--help"], ["--version"]):
            done = quire(*arguments)
            self.assertEqual((done.returncode, done.stderr), (0, b""), arguments)
            self.assertTrue(done.stdout)

    def test_bad_usage_is_exit_code_2_and_leaves_standard_output_empty(self):
        for arguments in ([], ["dance"], ["run"], ["bench", "--repeat", "0"], ["tokenize", "--what"],
                          ["run", "--temp", "hot", "x"], ["inspect", "no/such/file.gguf", "--bad"]):
            done = quire(*arguments)
            self.assertEqual((done.returncode, done.stdout), (2, b""), arguments)
            self.assertTrue(done.stderr)

    def test_an_unknown_model_names_the_remedy(self):
        with tempfile.TemporaryDirectory() as empty:
            done = quire("tokenize", env={**os.environ, "QUIRE_CACHE": empty})
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(b"./dev model", done.stderr)

    def test_completion_covers_the_commands(self):
        script = quire("completion", "bash").stdout.decode()
        self.assertIn("'quire kv'", script)
        self.assertIn("--shared-prefix", script)
        checked = subprocess.run(["bash", "-n"], input=script.encode(), check=False)
        self.assertEqual(checked.returncode, 0)


class Tokens(unittest.TestCase):
    def test_tokenize_and_detokenize_are_inverse(self):
        text = "Hello,  world!\n\n\tNa\u00efve caf\u00e9 \u6771\u4eac \U0001f600 12345 <|im_start|>".encode()
        for flags in ([], ["--parse-special"]):
            done = quire("tokenize", *flags, stdin=text)
            self.assertEqual(done.returncode, 0, done.stderr)
            ids = json.loads(done.stdout)
            self.assertTrue(all(isinstance(i, int) for i in ids))
            self.assertEqual(quire("detokenize", stdin=done.stdout).stdout, text)

    def test_detokenize_refuses_what_is_no_array_of_ids(self):
        for bad in (b"hello", b"{}", b"[1, -2]", b"[1.5]", b"[99999999]"):
            self.assertEqual(quire("detokenize", stdin=bad).returncode, 2, bad)


class Templates(unittest.TestCase):
    def test_a_template_file_renders_without_a_model(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jinja") as template:
            template.write("{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ end }}{% endfor %}")
            template.flush()
            done = quire("template", "--template", template.name, stdin=json.dumps(
                {"messages": [{"role": "user", "content": "hi"}], "end": ";"}).encode())
            self.assertEqual((done.returncode, done.stdout), (0, b"[user] hi;"), done.stderr)

    def test_bad_input_is_exit_code_2(self):
        for bad in (b"", b"[]", b"{"):
            self.assertEqual(quire("template", stdin=bad).returncode, 2, bad)


class Inspect(unittest.TestCase):
    def test_the_default_model_is_supported(self):
        done = quire("inspect", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual((report["supported"], report["missing"]), (True, []))
        self.assertEqual(report["architecture"], "llama")
        self.assertEqual(report["file_bytes"], os.path.getsize(model_path()))
        self.assertEqual(sum(t["bytes"] for t in report["tensors"]),
                         sum(t["bytes"] for t in report["tensor_types"].values()))

    def test_the_processor_is_described_as_the_system_sees_it(self):
        done = quire("inspect", "--cpu", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(done.stdout)
        with open("/proc/cpuinfo") as file:
            flags = next(line for line in file if line.startswith("flags")).split()
        for name, present in found["features"].items():
            if not name.startswith("amx"):  # the system may hide these from programs by other means
                self.assertEqual(present, name in flags, name)
        self.assertEqual(found["cpu"]["cores"], len(os.sched_getaffinity(0)))
        isas = {isa["name"]: isa for isa in found["isas"]}
        self.assertTrue(isas["scalar"]["available"])
        self.assertEqual([name for name, isa in isas.items() if isa["chosen"]], [found["isa"]])
        for name, isa in isas.items():
            self.assertEqual(isa["available"], isa["missing"] == "", name)
            forced = quire("inspect", "--cpu", "--json", "--isa", name)
            if isa["available"]:
                self.assertEqual(json.loads(forced.stdout)["isa"], name)
            else:
                self.assertEqual(forced.returncode, 2)
                self.assertIn(isa["missing"].encode(), forced.stderr)
                self.assertIn(b"scalar", forced.stderr)  # names what there is
        self.assertEqual(len(found["kernels"]), 15)

    def test_a_file_that_is_no_model_is_exit_code_2(self):
        self.assertEqual(quire("inspect", __file__).returncode, 2)
        self.assertEqual(quire("inspect", "no/such/file.gguf").returncode, 2)


class Replay(unittest.TestCase):
    def replay(self, *lines):
        done = quire("kv", "replay", "-", stdin="\n".join(json.dumps(line) for line in lines).encode())
        return done, [json.loads(line) for line in done.stdout.splitlines()]

    def test_a_fork_shares_pages_until_the_first_write(self):
        values = [i / 100 - 0.3 for i in range(64)]
        row = {"seq": "a", "pos": 17, "head": 1, "what": "k"}
        done, answers = self.replay(
            PAGED, {"op": "allocate", "as": "a", "tokens": 48},
            {"op": "update", "seq": "a", "tokens": 20}, {"op": "put", **row, "values": values},
            {"op": "fork", "seq": "a", "as": "b"}, {"op": "read", "seq": "b", "pos": 17},
            {"op": "write", "seq": "b", "pos": 17}, {"op": "get", **row, "seq": "b"},
            {"op": "read", "seq": "a", "pos": 17}, {"op": "stats"}, {"op": "check"})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(all(answer["ok"] for answer in answers))
        shared, written, copied, kept, stats = answers[5:10]
        self.assertEqual((shared["ref_count"], shared["shared"]), (2, True))
        self.assertEqual((written["ref_count"], written["tokens"]), (1, 4))
        self.assertNotEqual(written["page"], shared["page"])
        self.assertEqual(kept["ref_count"], 1)
        self.assertEqual((stats["used_pages"], stats["cow_operations"]), (4, 2))
        largest = max(abs(v) for v in values)
        for got, wanted in zip(copied["values"], values, strict=True):
            self.assertLessEqual(abs(got - wanted), largest / 254 * 1.01)

    def test_refusals_are_answers_with_their_figures(self):
        done, answers = self.replay(
            PAGED, {"op": "allocate", "as": "a", "tokens": 97},
            {"op": "slot", "seq": "nobody", "pos": 0}, {"op": "allocate", "as": "a", "tokens": 96},
            {"op": "slot", "seq": "a", "pos": 96}, {"op": "free", "seq": "nobody"})
        self.assertEqual(done.returncode, 0)
        self.assertEqual([answer["ok"] for answer in answers],
                         [True, False, False, True, False, True])
        self.assertEqual({k: answers[1][k] for k in ("error", "needed", "available")},
                         {"error": "out_of_pages", "needed": 7, "available": 6})
        self.assertEqual(answers[2]["error"], "sequence_not_found")
        self.assertEqual({k: answers[4][k] for k in ("error", "position", "allocated")},
                         {"error": "out_of_bounds", "position": 96, "allocated": 96})

    def test_a_malformed_line_is_named_and_exits_with_2(self):
        for bad in ({"op": "dance"}, {"op": "allocate", "as": "a", "tokens": -1}, [], {"op": "slot"}):
            done, answers = self.replay(PAGED, {"op": "stats"}, bad)
            self.assertEqual(done.returncode, 2)
            self.assertEqual(len(answers), 2)
            self.assertIn(b"line 3", done.stderr)


class Configuration(unittest.TestCase):
    def test_check_reports_every_problem_with_its_place(self):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write("kv:\n  pags: 3\nserver: {port: 99999999}\n")
            file.flush()
            done = quire("config", "check", file.name)
            self.assertEqual(done.returncode, 2)
            lines = done.stderr.decode().splitlines()
            self.assertEqual(len(lines), 2, lines)
            self.assertTrue(lines[0].startswith(f"{file.name}:2:3: "), lines)
            self.assertIn("kv.pages", lines[0])
            self.assertEqual(quire("serve", "-c", file.name).returncode, 2)

    def test_show_and_schema(self):
        shown = quire("config", "show", env={**os.environ, "QUIRE_SERVER_PORT": "9"})
        self.assertRegex(shown.stdout.decode(), r"port: 9 .*QUIRE_SERVER_PORT")
        self.assertIn("properties", json.loads(quire("config", "schema").stdout))


class Run(unittest.TestCase):
    def test_greedy_text_is_the_same_twice_and_in_json(self):
        flags = ["run", "-n", "12", "--temp", "0",
                 "What is the capital of France? Answer in one word."]
        first, second = quire(*flags), quire(*flags)
        self.assertEqual(first.returncode, 0, first.stderr)
        self.assertEqual(first.stdout, second.stdout)
        self.assertIn(b"Paris", first.stdout)
        self.assertIn(b"tok/s", first.stderr)
        report = json.loads(quire(*flags, "--json").stdout)
        self.assertEqual(report["text"].strip(), first.stdout.decode().strip())

    def test_the_prompt_may_come_from_standard_input(self):
        flags = ["run", "-n", "5", "--temp", "0", "--raw", "--json"]
        piped = quire(*flags, "-", stdin=b"Once upon a time")
        given = quire(*flags, "Once upon a time")
        self.assertEqual(json.loads(piped.stdout)["text"], json.loads(given.stdout)["text"])
        self.assertEqual(json.loads(piped.stdout)["completion_tokens"], 5)

    def test_a_seed_repeats_a_sampled_text(self):
        flags = ["run", "-n", "16", "--temp", "1.5", "--raw", "--json", "Once upon a time"]
        texts = [json.loads(quire(*flags, "--seed", seed).stdout)["text"] for seed in "778"]
        self.assertEqual(texts[0], texts[1])
        self.assertNotEqual(texts[0], texts[2])

    def test_ctrl_c_stops_the_generation(self):
        process = subprocess.Popen([harness.QUIRE, "run", "--ignore-eos", "Tell a long story"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertTrue(process.stdout.read(1))
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, errors)
        self.assertIn(b"cancelled", errors)
        self.assertLess(time.monotonic() - start, 30)


class Bench(unittest.TestCase):
    def test_json_lines_have_the_keys_of_the_contract(self):
        done = quire("bench", "--pp", "32", "--tg", "4", "--streams", "1,3", "--prompt", "16", "--gen",
                     "4", "--repeat", "2", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([line["test"] for line in lines], ["pp32", "tg4", "streams", "streams"])
        for line in lines:
            for key in ("isa", "threads", "kv", "median", "mad", "n"):
                self.assertIn(key, line)
            self.assertGreater(line["median"], 0)
            self.assertEqual(line["n"], 2)
        self.assertGreater(lines[0]["tok_s"], 0)
        for key in ("streams", "prompt", "gen", "shared_prefix", "prefill_tok_s", "decode_tok_s",
                    "total_tok_s", "seconds", "peak_rss_mib", "kv_bytes_per_token"):
            self.assertIn(key, lines[3])
        self.assertEqual((lines[3]["streams"], lines[3]["prompt"], lines[3]["gen"]), (3, 16, 4))


if __name__ == "__main__":
    run_tests()
