"""A crowd: a thousand streams at once, a full queue, and a drain under load."""

import asyncio
import signal
import unittest

import crowd
from harness import resident_kib, run_tests, serving, wait_until

NUM_STREAMS = 1000


def short(number, max_tokens=4):
    return {"prompt": f"Number {number} is", "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True}


class Crowd(unittest.TestCase):
    def test_a_thousand_streams_all_finish_and_wait_in_little_memory(self):
        # Few run at once, so that nearly all of the thousand wait at the same time.
        with serving("--set", "scheduler.max_streams=16") as server:
            crowd.run_all(server, [short(n) for n in range(32)])
            before = resident_kib(server.process.pid)
            highest = 0

            async def watch(stop):
                nonlocal highest
                while not stop.is_set():
                    highest = max(highest, resident_kib(server.process.pid))
                    await asyncio.sleep(0.02)

            async def everything():
                stop = asyncio.Event()
                watcher = asyncio.create_task(watch(stop))
                replies = await asyncio.gather(*(crowd.generate(server, short(n, 8)) for n in range(NUM_STREAMS)))
                stop.set()
                await watcher
                return replies

            replies = asyncio.run(everything())
            failures = [reply.error or reply.status for reply in replies if not reply.complete]
            self.assertEqual(failures, [])
            # Includes the pages of what ran and the prefix index: an upper bound for what waits.
            each = (highest - before) / NUM_STREAMS
            print(f"{each:.1f} KiB of resident memory per stream of {NUM_STREAMS}", flush=True)
            self.assertLess(each, 64)
            self.assertTrue(wait_until(lambda: server.pages_in_use() == 0))

    def test_a_full_queue_says_so_at_once_and_when_to_come_back(self):
        flags = ["--set", "scheduler.max_streams=4", "--set", "scheduler.max_queued_requests=8"]
        with serving(*flags) as server:
            crowd.run_all(server, [short(n, 400) for n in range(12)])  # gives the server its experience

            async def reach(part, name, count):
                while (await asyncio.to_thread(server.status))[part][name] < count:
                    self.assertFalse(any(task.done() for task in crowd_tasks), "they ended before all had come")

            crowd_tasks = []

            async def everything():
                # Four run before eight wait: all twelve at once would find the queue full for a moment.
                for count, part, name in ((4, "streams", "running"), (8, "queue", "waiting")):
                    crowd_tasks.extend(asyncio.create_task(crowd.generate(server, short(n, 400)))
                                       for n in range(count))
                    await reach(part, name, count)
                refused = await crowd.generate(server, short(100, 1))
                told = refused.answered
                print(f"refused after {1000 * (told - refused.started):.1f} ms", flush=True)
                while True:
                    again = await crowd.generate(server, short(101, 1))
                    if again.status == 200:
                        break
                    await asyncio.sleep(0.005)
                waited = again.started - told
                replies = await asyncio.gather(*crowd_tasks)
                return refused, waited, replies

            refused, waited, replies = asyncio.run(everything())
            self.assertEqual(refused.status, 429)
            self.assertEqual(refused.error["code"], "queue_full")
            self.assertTrue(all(reply.complete for reply in replies))
            said = int(refused.headers["retry-after-ms"]) / 1000
            print(f"said {said:.3f} s, a place was free after {waited:.3f} s", flush=True)
            self.assertGreater(said, 0)
            self.assertGreaterEqual(int(refused.headers["retry-after"]), 1)
            self.assertTrue(wait_until(lambda: server.pages_in_use() == 0))
            status = server.status()
            self.assertEqual((status["queue"]["waiting"], status["streams"]["running"]), (0, 0))

    def test_sigterm_under_load_truncates_no_stream(self):
        with serving("--set", "scheduler.max_streams=16") as server:
            async def everything():
                tasks = [asyncio.create_task(crowd.generate(server, short(n, 32))) for n in range(48)]
                while server.status()["streams"]["running"] < 8:
                    await asyncio.sleep(0.01)
                server.process.send_signal(signal.SIGTERM)
                return await asyncio.gather(*tasks, return_exceptions=True)

            replies = asyncio.run(everything())
            self.assertEqual(server.process.wait(60), 0)
            answered = [reply for reply in replies if isinstance(reply, crowd.Reply) and reply.status == 200]
            self.assertGreaterEqual(len(answered), 8)
            for reply in replies:
                if isinstance(reply, crowd.Reply) and reply.status == 200:
                    self.assertTrue(reply.complete, vars(reply))
                elif isinstance(reply, crowd.Reply):
                    self.assertEqual(reply.status, 503)
                else:  # it came when nobody listened any more
                    self.assertIsInstance(reply, OSError)


if __name__ == "__main__":
    run_tests()
