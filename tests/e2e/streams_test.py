"""Many clients at once: the same text as alone, pages that come back, readers that lag, and an orderly end."""

import json
import multiprocessing
import os
import signal
import socket
import threading
import unittest

from harness import in_parallel, run_tests, serving, wait_until

TOPICS = ["the sea", "a clock", "old maps", "bread", "winter", "a bridge", "glass", "rivers",
          "a violin", "the moon", "chess", "salt", "a lighthouse", "bees", "paper", "thunder"]


def chat(topic, max_tokens=32):
    return {"messages": [{"role": "user", "content": f"Write one sentence about {topic}."}],
            "temperature": 0, "max_tokens": max_tokens}


class ConcurrentStreams(unittest.TestCase):
    def test_sixteen_streams_give_the_text_of_each_request_alone(self):
        with serving() as server:
            alone = [server.post("/v1/chat/completions", chat(topic)).json() for topic in TOPICS]
            texts = [answer["choices"][0]["message"]["content"] for answer in alone]
            self.assertTrue(all(texts), "an answer was empty")
            self.assertGreater(len(set(texts)), 12, "the topics should give different answers")
            together = in_parallel(
                lambda topic: server.stream("/v1/chat/completions", chat(topic)).text(), TOPICS)
            self.assertEqual(together, texts)
            self.assertEqual(wait_until(lambda: server.pages_in_use() == 0), True)

    def test_a_pool_of_64_pages_serves_32_requests_of_10_pages(self):
        words = [[f"word{i} and {topic}," for i in range(6)] for topic in TOPICS * 2]
        prompts = [f"Story {n}: " + " ".join(words[n]) for n in range(32)]
        with serving("--set", "kv.pages=64") as server:
            self.assertEqual(server.status()["pages"]["total"], 64)

            def body(prompt):
                count = server.post("/tokenize", {"prompt": prompt}).json()["count"]
                self.assertLess(count, 150)
                return {"prompt": prompt, "temperature": 0, "ignore_eos": True,
                        "max_tokens": 160 - count}  # 160 tokens are 10 pages of 16

            bodies = [body(prompt) for prompt in prompts]
            alone = [server.post("/v1/completions", one).json() for one in bodies]
            for answer in alone:
                self.assertEqual(answer["usage"]["total_tokens"], 160)
            together = in_parallel(lambda one: server.stream("/v1/completions", one).text(), bodies)
            self.assertEqual(together, [answer["choices"][0]["text"] for answer in alone])


def stream_forever(host, port, ready):
    """A client process that reads its stream until it is killed."""
    body = json.dumps({"prompt": "Once upon a time", "max_tokens": 2000, "ignore_eos": True,
                       "stream": True}).encode()
    with socket.create_connection((host, port)) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: test\r\n"
                           b"Content-Type: application/json\r\n"
                           + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        received = b""
        while True:
            data = connection.recv(4096)
            if not data:
                return
            received += data
            if received.count(b"data: ") > 3:
                ready.set()


class Departures(unittest.TestCase):
    def test_a_killed_client_frees_its_pages_within_a_step(self):
        with serving() as server:
            ready = multiprocessing.Event()
            client = multiprocessing.Process(target=stream_forever,
                                             args=(server.host, server.port, ready))
            client.start()
            self.assertTrue(ready.wait(120), "no stream")
            self.assertGreater(server.pages_in_use(), 0)
            os.kill(client.pid, signal.SIGKILL)
            client.join()
            before = server.status()["counters"]["steps"]
            self.assertTrue(wait_until(lambda: server.pages_in_use() == 0, 20),
                            server.status())
            after = server.status()
            self.assertEqual(after["streams"]["running"], 0)
            # One step may have been under way when the kernel reported the closed socket, and one
            # more may have started before the cancellation travelled through.
            self.assertLessEqual(after["counters"]["steps"] - before, 2)

    def test_sigterm_lets_running_streams_finish_and_exits_with_0(self):
        with serving() as server:
            stream = server.stream("/v1/completions", {
                "prompt": "Once upon a time", "max_tokens": 150, "ignore_eos": True,
                "temperature": 0})
            events = iter(stream)
            next(events)
            codes = []
            waiter = threading.Thread(target=lambda: codes.append(server.terminate(120)))
            waiter.start()
            rest = list(events)
            self.assertTrue(stream.done, "the stream was cut off")
            self.assertEqual(rest[-1]["choices"][0]["finish_reason"], "length")
            stream.close()
            waiter.join()
            self.assertEqual(codes, [0], server.log_text())

    def test_an_idle_server_ends_at_once_on_ctrl_c(self):
        with serving() as server:
            server.process.send_signal(signal.SIGINT)
            self.assertEqual(server.process.wait(30), 0, server.log_text())


class SlowReaders(unittest.TestCase):
    def test_a_client_that_does_not_read_is_waited_for_and_holds_nobody_up(self):
        body = {"prompt": "Once upon a time", "max_tokens": 3000, "temperature": 0, "ignore_eos": True}
        with serving() as server:
            expected = server.stream("/v1/completions", body).text()
            slow = socket.socket()
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect((server.host, server.port))
            data = json.dumps({**body, "stream": True}).encode()
            slow.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: quire\r\nConnection: close\r\n"
                         b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data)

            def counter(name):
                return server.status()["counters"][name]

            self.assertTrue(wait_until(lambda: counter("pauses") == 1), "the slow reader was never paused")
            # The queue of events is bounded: it stands still with most of its text still to come.
            generated = counter("generated_tokens")
            other = server.post("/v1/completions", {**body, "max_tokens": 8}).json()
            self.assertTrue(expected.startswith(other["choices"][0]["text"]))
            self.assertLess(counter("generated_tokens") - generated, 16)

            received = b""
            while piece := slow.recv(65536):
                received += piece
            slow.close()
            self.assertIn(b"data: [DONE]", received)
            events = [json.loads(line[6:]) for line in received.splitlines() if line.startswith(b"data: {")]
            text = "".join(choice["text"] for event in events for choice in event["choices"])
            self.assertEqual(text, expected)
            self.assertEqual(counter("unpauses"), counter("pauses"))
            self.assertTrue(wait_until(lambda: server.pages_in_use() == 0))


if __name__ == "__main__":
    run_tests()
