"""A soak: many clients of every kind for a while, and a server that must look afterwards as before.

    tests/e2e/soak_test.py build/release/quire --seconds 600      # the long run of a release
    (ctest runs a short one)

Clients stream, read slowly, leave in the middle, are reset, ask for several choices, share long
beginnings, send nonsense. Afterwards no page is in use, nothing waits, and resident memory has not
grown: the slope over the second half is printed and bounded.
"""

import asyncio
import random
import sys
import time
import unittest

import crowd
from harness import resident_kib, run_tests, serving, wait_until

SECONDS = 40
NUM_CLIENTS = 24
# A pool too small for everybody, so that requests wait, are parked and come back all the time.
FLAGS = ["--set", "kv.pages=192", "--set", "kv.park_memory_mib=16"]
# Over half a run of any length: what is parked in memory comes and goes, the rest is the allocator's noise.
MAX_GROWTH_KIB = (16 + 8) * 1024

SHARED = " ".join(f"rule {n} says that everybody is kind to number {n};" for n in range(40))


def random_body(source):
    shape = source.random()
    prompt = f"{source.randrange(10**9)} tells a story about {source.choice(['bees', 'salt', 'glass', 'rain'])}"
    if shape < 0.3:
        prompt = SHARED + prompt
    elif shape < 0.4:
        prompt = " ".join(f"word{source.randrange(1000)}" for _ in range(source.randrange(20, 300)))
    return {"prompt": prompt, "max_tokens": source.choice([1, 8, 32, 96]),
            "temperature": source.choice([0, 0.8]), "n": source.choice([1, 1, 1, 2, 4]),
            "stop": source.choice([None, ["."]]), "priority": source.choice([0, 0, 1]),
            "user": f"user {source.randrange(5)}"}


class Client:
    def __init__(self, server, number, until):
        self.server, self.source, self.until = server, random.Random(number), until
        self.finished = self.left = self.refused = 0
        self.problems = []

    async def one(self):
        body, kind = random_body(self.source), self.source.random()
        pause = give_up = None
        if kind < 0.15:  # a slow reader
            async def pause(_):
                await asyncio.sleep(self.source.random() * 0.3)
        elif kind < 0.4:  # one who leaves, by a reset, after some events
            last = self.source.randrange(4)
            give_up = lambda reply: len(reply.token_times) >= last  # noqa: E731
        elif kind < 0.45:  # one who leaves before anything comes
            _, writer = await crowd.open_request(self.server, body)
            await asyncio.sleep(self.source.random() * 0.1)
            writer.transport.abort()
            self.left += 1
            return
        elif kind < 0.5:
            body["temperature"] = "warm"
        reply = await crowd.generate(self.server, body, pause, give_up)
        if reply.status == 400 and body["temperature"] == "warm":
            self.refused += 1
        elif reply.complete:
            self.finished += 1
        elif give_up:
            self.left += 1
        else:
            self.problems.append((body, vars(reply)))

    async def run(self):
        while time.monotonic() < self.until and not self.problems:
            await self.one()


async def measure_memory(pid, until, samples):
    while time.monotonic() < until:
        samples.append((time.monotonic(), resident_kib(pid)))
        await asyncio.sleep(0.25)


def slope(samples):
    """KiB per second, by least squares."""
    n = len(samples)
    mean_x, mean_y = sum(x for x, _ in samples) / n, sum(y for _, y in samples) / n
    return (sum((x - mean_x) * (y - mean_y) for x, y in samples)
            / sum((x - mean_x) ** 2 for x, _ in samples))


class Soak(unittest.TestCase):
    def test_everything_is_as_before(self):
        with serving(*FLAGS) as server:
            until = time.monotonic() + SECONDS
            clients = [Client(server, number, until) for number in range(NUM_CLIENTS)]
            samples = []

            async def everything():
                await asyncio.gather(measure_memory(server.process.pid, until, samples),
                                     *(client.run() for client in clients))

            asyncio.run(everything())
            for client in clients:
                self.assertEqual(client.problems, [], server.log_text()[-2000:])
            finished = sum(client.finished for client in clients)
            second_half = samples[len(samples) // 2:]
            growth = slope(second_half)
            print(f"{finished} finished, {sum(c.left for c in clients)} left early, "
                  f"{sum(c.refused for c in clients)} refused; resident {second_half[0][1] // 1024} MiB at half "
                  f"time, {second_half[-1][1] // 1024} MiB at the end, slope {growth:.2f} KiB/s", flush=True)
            counters = server.status()["counters"]
            print(" ".join(f"{name}={value}" for name, value in counters.items()), flush=True)
            self.assertGreater(finished, NUM_CLIENTS)
            self.assertLess(growth * (second_half[-1][0] - second_half[0][0]), MAX_GROWTH_KIB)
            self.assertTrue(wait_until(lambda: server.pages_in_use() == 0), server.status())
            status = server.status()
            self.assertEqual((status["queue"]["waiting"], status["streams"]["running"]), (0, 0))
            self.assertEqual(status["store"]["active_sequences"], 0)
            self.assertEqual(server.terminate(), 0)


if __name__ == "__main__":
    if "--seconds" in sys.argv:
        at = sys.argv.index("--seconds")
        SECONDS = float(sys.argv[at + 1])
        del sys.argv[at:at + 2]
    run_tests()
