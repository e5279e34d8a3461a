"""A thousand damaged model files through `quire inspect` and `quire run -n 1`: each must end with an
answer or a clear refusal, never by a signal, and never with more than 1 GiB of memory.

Most are a tiny complete model, so that a mutation that survives the reader meets the tokenizer, the
loader and the kernels too; some are the default model, whose metadata is the size of real life.
"""

import concurrent.futures
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import harness
from harness import model_path, run_tests
from tiny_model import soft_spots, tiny_model

NUM_TINY, NUM_DEFAULT = 960, 40
SANITIZED = "--sanitized" in sys.argv
MAX_RESIDENT_KIB = (1 << 20) * (4 if SANITIZED else 1)  # shadow memory is not quire's
MAX_ADDRESS_SPACE = 6 << 30
SECONDS = 120 if SANITIZED else 30

EXTREMES = [0, 1, 2, 7, 31, 0x7F, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32,
            1 << 40, (1 << 62) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 32, (1 << 64) - 1]


def flip_bits(data, head, source):
    for _ in range(source.randint(1, 8)):
        data[source.randrange(head)] ^= 1 << source.randrange(8)


def set_number(data, head, source):
    width = source.choice([4, 8])
    at = source.randrange(head - 8)
    value = source.choice(EXTREMES) & ((1 << (8 * width)) - 1)
    data[at:at + width] = value.to_bytes(width, "little")


def set_count(data, head, source):
    """The version, the number of tensors or of metadata entries."""
    at, width = source.choice([(4, 4), (8, 8), (16, 8)])
    value = source.choice(EXTREMES) & ((1 << (8 * width)) - 1)
    data[at:at + width] = value.to_bytes(width, "little")


def change_metadata_number(data, head, source):
    """A u32 value of some key: sizes, head counts, token ids."""
    spots = [i for i in range(24, head - 8) if data[i:i + 4] == b"\4\0\0\0"]
    at = source.choice(spots) + 4
    data[at:at + 4] = (source.choice(EXTREMES) & 0xFFFFFFFF).to_bytes(4, "little")


def change_float(data, head, source):
    at = source.randrange(head - 8)
    data[at:at + 4] = struct.pack("<f", source.choice([float("nan"), float("inf"), -1.0, 0.0, 1e38]))


def truncate(data, head, source):
    del data[source.randrange(len(data)):]


def remove_part(data, head, source):
    at = source.randrange(head)
    del data[at:at + source.randint(1, 64)]


def insert_part(data, head, source):
    at = source.randrange(head)
    data[at:at] = source.randbytes(source.randint(1, 64))


def copy_part(data, head, source):
    length = source.randint(1, 256)
    start, at = source.randrange(head), source.randrange(head)
    data[at:at + length] = data[start:start + length]


def poison_weights(data, head, source):
    for _ in range(64):
        at = source.randrange(head, len(data) - 4)
        data[at:at + 4] = source.choice([b"\xff\xff\xff\xff", b"\0\0\x80\x7f", b"\0\x7c\0\xfc"])


def damage_text(data, head, source):
    """Bytes of a string: keys, tokens, merges, the chat template."""
    at = source.randrange(24, head - 16)
    data[at:at + 8] = source.choice([b"\xff" * 8, b"{{{%#}}}", b"{% for %", b"\0" * 8, b"[[[[[[[["])


WHOLE, HEAD = tiny_model()
SPOTS = {}
for spot_kind, *spot_place in soft_spots(WHOLE):
    SPOTS.setdefault(spot_kind, []).append(spot_place)


def number_in_place(*kinds):
    """Changes one number of a kind and nothing else, so that the file stays well-formed."""
    def mutate(data, head, source):
        at, width = source.choice(SPOTS[source.choice(kinds)])
        value = source.choice([*EXTREMES, *range(1, 16), data[at] ^ 1, data[at] + 1, data[at] * 2])
        data[at:at + width] = (value & ((1 << (8 * width)) - 1)).to_bytes(width, "little")
    return mutate


def text_in_place(data, head, source):
    """Changes bytes of one key, token, merge or tensor name, or of the chat template."""
    at, length = source.choice([spot for spot in SPOTS["text"] if spot[1]])
    for _ in range(source.randint(1, 4)):
        data[at + source.randrange(length)] = source.choice([source.randrange(256), *b" {}%\0\xff"])


def template_in_place(data, head, source):
    at, length = max(SPOTS["text"], key=lambda spot: spot[1])
    part = source.choice([b"{{", b"}}", b"{%", b"%}", b"'", b"[0]", b"(", b"for ", b"endif", b"|x", b"-1"])
    where = at + source.randrange(length - len(part))
    data[where:where + len(part)] = part


# Each of these keeps the lengths and counts of the file in order.
IN_PLACE = [number_in_place("value"), number_in_place("value"), number_in_place("dim", "offset"),
            number_in_place("type"), text_in_place, text_in_place, template_in_place]
MUTATIONS = [flip_bits, set_number, set_count, change_metadata_number, change_float, truncate,
             remove_part, insert_part, copy_part, poison_weights, damage_text]


def limits():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not SANITIZED:  # a sanitizer reserves terabytes of address space
        resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_SPACE, MAX_ADDRESS_SPACE))


def run_limited(*arguments):
    """Returns (exit code, or minus the signal; largest resident KiB; the end of standard error)."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen([harness.QUIRE, *arguments], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=errors, preexec_fn=limits)
        deadline = time.monotonic() + SECONDS
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                process.send_signal(signal.SIGKILL)
                _, _, usage = os.wait4(process.pid, 0)
                process.returncode = -signal.SIGKILL
                return "no end", usage.ru_maxrss, ""
            time.sleep(0.002)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        text = errors.read().decode(errors="replace")
        return process.returncode, usage.ru_maxrss, text[-2000:]


def judge(path):
    """Runs both commands on a file; returns what is wrong, and whether the file still ran."""
    problems = []
    for arguments in (["inspect", path],
                      ["run", "-m", path, "-n", "1", "--raw", "--temp", "0", "--kv-mib", "64",
                       "--threads", "1", "hello world"]):
        code, resident, errors = run_limited(*arguments)
        if code not in (0, 1, 2):
            problems.append(f"{arguments[0]}: exit {code}\n{errors}")
        elif code != 0 and not errors.strip():
            problems.append(f"{arguments[0]}: exit {code} without a message")
        if any(sign in errors for sign in ("out of memory", "unexpected failure", "runtime error:", "Sanitizer")):
            problems.append(f"{arguments[0]}: {errors}")
        if resident > MAX_RESIDENT_KIB:
            problems.append(f"{arguments[0]}: {resident // 1024} MiB resident")
    return problems, code == 0


class HostileFiles(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="quire-hostile-")
        self.kept = False

    def tearDown(self):
        if not self.kept:
            shutil.rmtree(self.directory)

    def report(self, name, problems):
        self.kept = True
        self.fail(f"{name} (kept in {self.directory}): " + "\n".join(problems))

    def test_the_tiny_model_itself_runs(self):
        path = os.path.join(self.directory, "tiny.gguf")
        with open(path, "wb") as file:
            file.write(WHOLE)
        self.assertEqual(judge(path), ([], True))

    def test_damaged_tiny_models(self):
        def one(number):
            source = random.Random(number)
            data = bytearray(WHOLE)
            # Half of the files are well-formed but say something wrong, half are broken.
            kinds = IN_PLACE if number % 2 else MUTATIONS
            for mutate in source.sample(kinds, source.choice([1, 1, 1, 2, 3])):
                if len(data) > HEAD + 64:
                    mutate(data, HEAD, source)
            path = os.path.join(self.directory, f"tiny-{number}.gguf")
            with open(path, "wb") as file:
                file.write(data)
            problems, ran = judge(path)
            if not problems:
                os.unlink(path)
            return path, problems, ran

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            outcomes = list(pool.map(one, range(NUM_TINY)))
        for path, problems, _ in outcomes:
            if problems:
                self.report(path, problems)
        survivors = sum(ran for _, _, ran in outcomes)
        print(f"{survivors} of {NUM_TINY} damaged files still ran", file=sys.stderr)
        self.assertGreater(survivors, NUM_TINY // 10, "the mutations are too coarse to go deep")
        self.assertLess(survivors, NUM_TINY * 9 // 10, "the mutations are too gentle")

    def test_damaged_default_models(self):
        path = os.path.join(self.directory, "default.gguf")
        shutil.copyfile(model_path(), path)
        with open(path, "rb") as file:
            head = bytearray(file.read(2 << 20))  # metadata, tensor list and the first weights
        whole_size = os.path.getsize(path)
        in_place = [flip_bits, set_number, set_count, change_metadata_number, change_float, copy_part,
                    damage_text]
        for number in range(NUM_DEFAULT):
            source = random.Random(number)
            data = bytearray(head)
            if number % 8 == 7:
                os.truncate(path, source.randrange(whole_size))
            else:
                # Half of the damage goes to the first few kilobytes, where the interesting keys are.
                source.choice(in_place)(data, source.choice([4096, 1 << 20]), source)
                with open(path, "r+b") as file:
                    file.write(data[:len(head)])
            problems, _ = judge(path)
            if problems:
                self.report(f"default model, mutation {number}", problems)
            if number % 8 == 7:
                shutil.copyfile(model_path(), path)
            else:
                with open(path, "r+b") as file:
                    file.write(head)


if __name__ == "__main__":
    if SANITIZED:
        sys.argv.remove("--sanitized")
    run_tests()
