"""Starts the real server and talks to it as clients do. Standard library only.

Every test file takes the path of the `quire` binary as its first argument; run_tests() removes it
before unittest reads the rest.
"""

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

QUIRE = ""
START_SECONDS = 300  # a sanitized build on a busy machine packs weights slowly
ANSWER_SECONDS = 600


def run_tests():
    """unittest.main() for a file that is called with the binary as its first argument."""
    global QUIRE
    sys.modules["harness"].QUIRE = QUIRE = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)


def model_path(name="smollm2-135m-instruct-q4_1.gguf"):
    cache = os.environ.get("QUIRE_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "quire")
    path = os.path.join(cache, "models", name)
    if not os.path.exists(path):
        which = "gemma" if name.startswith("gemma") else "default"
        raise RuntimeError(f"{path} is missing; `./dev model {which}` fetches it")
    return path


def quire(*arguments, stdin=b"", timeout=ANSWER_SECONDS, **options):
    """Runs a command to its end; the result has returncode, stdout and stderr (bytes)."""
    return subprocess.run([QUIRE, *arguments], input=stdin, capture_output=True, timeout=timeout,
                          check=False, **options)


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self):
        return json.loads(self.body)

    def error(self):
        return self.json()["error"]


class Stream:
    """A streaming answer: iterating gives the JSON of each event until [DONE]."""

    def __init__(self, connection, response):
        self.connection = connection
        self.response = response
        self.done = False

    def __iter__(self):
        for line in self.response:
            line = line.rstrip(b"\r\n")
            if not line.startswith(b"data: "):
                continue
            if line == b"data: [DONE]":
                self.done = True
                self.close()
                return
            yield json.loads(line[len(b"data: "):])

    def text(self):
        parts = []
        for event in self:
            if "error" in event:
                raise AssertionError(event["error"])
            for choice in event["choices"]:
                parts.append(choice.get("text") or choice.get("delta", {}).get("content") or "")
        if not self.done:
            raise AssertionError("the stream ended without [DONE]")
        return "".join(parts)

    def close(self):
        self.response.close()
        self.connection.close()


class Server:
    """`quire serve` on a free port with the default model and further flags."""

    def __init__(self, *flags):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [QUIRE, "serve", "--port", "0", "-m", model_path(), *flags],
            stdout=subprocess.PIPE, stderr=self.log, stdin=subprocess.DEVNULL)
        line = self.first_line()
        match = re.search(r"http://([\d.]+):(\d+)", line)
        if not match:
            self.process.kill()
            self.process.wait()
            raise RuntimeError(f"the server did not start: {line!r}\n{self.log_text()}")
        self.host, self.port = match.group(1), int(match.group(2))
        self.url = match.group(0)

    def first_line(self):
        timer = threading.Timer(START_SECONDS, self.process.kill)
        timer.start()
        try:
            return self.process.stdout.readline().decode()
        finally:
            timer.cancel()

    def log_text(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def connect(self):
        return http.client.HTTPConnection(self.host, self.port, timeout=ANSWER_SECONDS)

    def request(self, method, path, body=None, headers=None):
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            return Answer(connection.getresponse())
        except OSError as error:
            raise AssertionError(f"{error!r}; {self.fate()}") from error
        finally:
            connection.close()

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, body):
        if not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        return self.request("POST", path, body, {"Content-Type": "application/json"})

    def stream(self, path, body):
        connection = self.connect()
        connection.request("POST", path, json.dumps({**body, "stream": True}),
                           {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise AssertionError(f"{response.status}: {response.read()!r}")
        return Stream(connection, response)

    def fate(self):
        """What became of the process, for messages."""
        try:
            return f"the server ended with {self.process.wait(5)}: {self.log_text()}"
        except subprocess.TimeoutExpired:
            return "the server runs"

    def status(self):
        return self.get("/v1/engine/status").json()

    def pages_in_use(self):
        """Pages that running requests hold; those that only the prefix index keeps do not count."""
        status = self.status()
        return status["pages"]["used"] - status["prefix"]["pages"]

    def terminate(self, timeout=60):
        """Asks for a drain and returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
        self.log.close()


@contextlib.contextmanager
def serving(*flags):
    server = Server(*flags)
    try:
        yield server
    finally:
        server.close()


def wait_until(condition, seconds=60):
    """Polls until the condition holds; the last value is returned either way."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(0.01)


def in_parallel(work, items):
    """Calls work(item) for all items at once; returns the results in order, raises the first error."""
    items = list(items)
    results = [None] * len(items)
    errors = []
    gate = threading.Barrier(len(items))

    def run(index):
        try:
            gate.wait()
            results[index] = work(items[index])
        except BaseException as error:  # a thread's error is the test's error
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(items))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def resident_kib(pid):
    """What a process holds in memory at this moment."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+) kB", file.read()).group(1))


def tests_directory():
    return pathlib.Path(__file__).resolve().parent.parent
