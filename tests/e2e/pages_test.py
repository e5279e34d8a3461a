"""Pages from outside: prefixes computed once, choices that share them, memory that goes back."""

import random
import tempfile
import threading
import time
import unittest

from harness import in_parallel, run_tests, serving, wait_until

PAGE_TOKENS = 16


def tokens(count, seed):
    """Random token ids of the default model, without its special ones."""
    source = random.Random(seed)
    return [source.randrange(1000, 40000) for _ in range(count)]


def completion(prompt, **more):
    return {"prompt": prompt, "max_tokens": 4, "temperature": 0, "ignore_eos": True, **more}


def resident_mib(server):
    with open(f"/proc/{server.process.pid}/smaps_rollup", encoding="ascii") as rollup:
        for line in rollup:
            if line.startswith("Rss:"):
                return int(line.split()[1]) / 1024
    raise AssertionError("the kernel names no resident size")


def burst(server):
    """24 requests of 400 tokens, which fill the pool; returns the most that was resident meanwhile."""
    peak = [resident_mib(server)]
    over = threading.Event()

    def watch():
        while not over.wait(0.05):
            peak[0] = max(peak[0], resident_mib(server))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        in_parallel(lambda i: server.post("/v1/completions", completion(tokens(400, 10 + i))),
                    range(24))
    finally:
        over.set()
        watcher.join()
    return peak[0]


class SharedPrefixes(unittest.TestCase):
    def setUp(self):
        self.prefix = tokens(1000, 1)
        self.prompts = [self.prefix + tokens(8, 100 + i) for i in range(32)]

    def check_computed_once(self, server, answers):
        """1,000 tokens are 62 full pages; what is beyond them each request computes itself."""
        shared = 1000 // PAGE_TOKENS * PAGE_TOKENS
        own = 1008 - shared
        status = server.status()
        self.assertEqual(status["counters"]["prefilled_tokens"], shared + 32 * own)
        self.assertEqual(status["counters"]["cached_tokens"], 31 * shared)
        self.assertEqual(status["prefix"]["hits"], 31)
        self.assertEqual(status["prefix"]["misses"], 1)
        self.assertEqual(status["prefix"]["tokens_saved"], 31 * shared)
        cached = [a["usage"]["prompt_tokens_details"]["cached_tokens"] for a in answers]
        self.assertEqual(sorted(cached), [0] + 31 * [shared])

    def test_32_requests_one_after_another_compute_a_common_prefix_once(self):
        with serving() as server:
            answers = [server.post("/v1/completions", completion(p)).json() for p in self.prompts]
            self.check_computed_once(server, answers)

    def test_32_requests_at_the_same_moment_compute_a_common_prefix_once(self):
        with serving("--set", "compute.batch_invariant=true") as server:
            answers = in_parallel(
                lambda p: server.post("/v1/completions", completion(p)).json(), self.prompts)
            self.check_computed_once(server, answers)
            together = [answer["choices"][0]["text"] for answer in answers]
        with serving("--set", "compute.batch_invariant=true",
                     "--set", "kv.prefix_cache=false") as server:
            alone = [server.post("/v1/completions", completion(p)).json() for p in self.prompts[:6]]
            self.assertEqual(together[:6], [answer["choices"][0]["text"] for answer in alone])
            self.assertEqual(server.status()["counters"]["prefilled_tokens"], 6 * 1008)

    def test_a_repeated_prompt_is_forked_but_for_its_last_token(self):
        with serving() as server:
            prompt = self.prefix[:992]  # exactly 62 pages
            for _ in range(3):
                answer = server.post("/v1/completions", completion(prompt, max_tokens=1)).json()
            # The last page is computed again for its last token: logits are not kept.
            self.assertEqual(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 976)
            self.assertEqual(server.status()["counters"]["prefilled_tokens"], 992 + 2 * 16)

    def test_eight_choices_take_hardly_more_pages_than_one(self):
        with serving("--set", "kv.prefix_cache=false") as server:
            def pages_for(choices):
                before = server.status()["store"]["pages_allocated"]
                body = completion(self.prefix, n=choices, max_tokens=1, temperature=1, seed=1)
                answer = server.post("/v1/completions", body).json()
                self.assertEqual(len(answer["choices"]), choices)
                self.assertEqual(server.status()["counters"]["prefilled_tokens"] - prefilled,
                                 1000 + choices - 1 if choices > 1 else 1000)
                return server.status()["store"]["pages_allocated"] - before

            prefilled = 0
            one = pages_for(1)
            prefilled = server.status()["counters"]["prefilled_tokens"]
            eight = pages_for(8)
            self.assertEqual(one, 63)
            self.assertLess(eight, 1.3 * one)


class ElasticPool(unittest.TestCase):
    """kv.max_mib 96 and kv.min_mib 8 hold 8,224 and 685 tokens of the default model at q8."""

    def test_memory_falls_after_a_burst_beside_a_stream_that_goes_on(self):
        with serving("--kv-mib", "96", "--set", "kv.min_mib=8", "--set", "kv.idle_ms=1000") as server:
            server.post("/v1/completions", completion(tokens(512, 1), max_tokens=8))
            before = resident_mib(server)
            prompt = tokens(300, 2)
            body = completion(prompt, max_tokens=1200, logprobs=0)
            stream = server.stream("/v1/completions", body)
            self.addCleanup(stream.close)
            events = iter(stream)
            text = [next(events)]
            peak = burst(server)
            self.assertGreater(peak, before + 60)

            deadline = time.monotonic() + 60
            while resident_mib(server) > 1.2 * before and time.monotonic() < deadline:
                text.append(next(events))
            after = resident_mib(server)
            running = server.status()
            print(f"resident MiB: {before:.1f} before, {peak:.1f} in the burst, {after:.1f} after, "
                  f"{running['streams']['running']} stream running")
            self.assertEqual(running["streams"]["running"], 1, "the stream ended too early")
            self.assertLessEqual(after, 1.2 * before)
            self.assertGreater(running["counters"]["trimmed_bytes"], 40 << 20)
            text.extend(events)
            self.check_text(server, prompt, text)

    def check_text(self, server, prompt, events):
        """Every token that was generated on pages that moved is the best one when computed anew."""
        generated = "".join(choice["text"] for event in events for choice in event["choices"])
        ids = server.post("/tokenize", {"prompt": generated}).json()["tokens"]
        scored = server.post("/v1/completions", {
            "prompt": prompt + ids, "echo": True, "max_tokens": 0, "logprobs": 1,
            "cache_prompt": False}).json()["choices"][0]["logprobs"]
        losses = []
        for own, best in list(zip(scored["token_logprobs"], scored["top_logprobs"]))[len(prompt):]:
            losses.append(max(best.values()) - own)
        self.assertGreater(len(losses), 600)
        # Text that was tokenized anew may split differently in places; damage would show everywhere.
        self.assertGreater(sum(loss < 0.5 for loss in losses) / len(losses), 0.97)

    def test_memory_falls_after_a_burst_when_nothing_runs(self):
        with serving("--kv-mib", "96", "--set", "kv.idle_ms=1000") as server:
            server.post("/v1/completions", completion(tokens(512, 1), max_tokens=8))
            before = resident_mib(server)
            peak = burst(server)
            self.assertGreater(peak, before + 60)
            wait_until(lambda: resident_mib(server) <= 1.2 * before, 30)
            after = resident_mib(server)
            print(f"resident MiB: {before:.1f} before, {peak:.1f} in the burst, {after:.1f} idle")
            self.assertLessEqual(after, 1.2 * before)
            # The prefixes used last are still there.
            status = server.status()
            self.assertGreater(status["prefix"]["pages"], 0)
            self.assertLessEqual(status["pages"]["used"] * status["pages"]["page_bytes"], 16 << 20)


class AdminRoutes(unittest.TestCase):
    def test_the_check_of_all_invariants_takes_the_admin_key_only(self):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("a-key\n")
            file.flush()
            with serving("--set", f"server.admin_key_file={file.name}") as server:
                server.post("/v1/completions", completion(tokens(100, 1), n=2, temperature=1))

                def check(headers):
                    return server.request("POST", "/v1/engine/check", "", headers)

                self.assertEqual(check({}).status, 401)
                self.assertEqual(check({"Authorization": "Bearer other"}).status, 401)
                answer = check({"Authorization": "Bearer a-key"})
                self.assertEqual((answer.status, answer.json()), (200, {"ok": True}))

    def test_without_an_admin_key_nobody_may(self):
        with serving() as server:
            answer = server.post("/v1/engine/check", {})
            self.assertEqual(answer.status, 403)
            self.assertEqual(answer.error()["type"], "permission_error")


if __name__ == "__main__":
    run_tests()
