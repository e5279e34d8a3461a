"""Bad requests over real sockets: the right status and the four keys of the error object, every time,
and a server that is unharmed afterwards."""

import json
import socket
import unittest

from harness import Server, run_tests

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
HELLO = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}

# name, path, body, status, error type
REFUSED = [
    ("malformed JSON", CHAT, "{\"messages\": [", 400, "invalid_request_error"),
    ("not an object", CHAT, "[]", 400, "invalid_request_error"),
    ("an empty body", CHAT, "", 400, "invalid_request_error"),
    ("bytes that are not UTF-8", CHAT, b'{"messages":[{"role":"user","content":"\xff\xfe"}]}', 400,
     "invalid_request_error"),
    ("no messages", CHAT, {}, 400, "invalid_request_error"),
    ("empty messages", CHAT, {"messages": []}, 400, "invalid_request_error"),
    ("messages of a wrong type", CHAT, {"messages": "hello"}, 400, "invalid_request_error"),
    ("a message without a role", CHAT, {"messages": [{"content": "x"}]}, 400,
     "invalid_request_error"),
    ("an unknown role", CHAT, {"messages": [{"role": "wizard", "content": "x"}]}, 400,
     "invalid_request_error"),
    ("content of a wrong type", CHAT, {"messages": [{"role": "user", "content": 5}]}, 400,
     "invalid_request_error"),
    ("an image", CHAT, {"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:"}}]}]}, 400, "invalid_request_error"),
    ("a temperature of a wrong type", CHAT, {**HELLO, "temperature": "hot"}, 400,
     "invalid_request_error"),
    ("a negative temperature", CHAT, {**HELLO, "temperature": -1}, 400, "invalid_request_error"),
    ("top_p above 1", CHAT, {**HELLO, "top_p": 1.5}, 400, "invalid_request_error"),
    ("max_tokens below 0", CHAT, {**HELLO, "max_tokens": -5}, 400, "invalid_request_error"),
    ("stream of a wrong type", CHAT, {**HELLO, "stream": "yes"}, 400, "invalid_request_error"),
    ("n of 0", CHAT, {**HELLO, "n": 0}, 400, "invalid_request_error"),
    ("a stop of a wrong type", CHAT, {**HELLO, "stop": 3}, 400, "invalid_request_error"),
    ("too many top_logprobs", CHAT, {**HELLO, "logprobs": True, "top_logprobs": 50}, 400,
     "invalid_request_error"),
    ("an unknown model", CHAT, {**HELLO, "model": "gpt-17"}, 404, "not_found_error"),
    ("no prompt", TEXT, {"max_tokens": 1}, 400, "invalid_request_error"),
    ("a prompt of a wrong type", TEXT, {"prompt": {"a": 1}}, 400, "invalid_request_error"),
    ("token ids out of range", TEXT, {"prompt": [1, 99999999]}, 400, "invalid_request_error"),
    ("deep nesting", CHAT, "[" * 100000, 400, "invalid_request_error"),
    ("a body of 9 MiB", CHAT, json.dumps({"messages": [{"role": "user",
                                                        "content": "x" * (9 << 20)}]}), 413,
     "invalid_request_error"),
    ("an unknown route", "/v1/nothing", {}, 404, "not_found_error"),
]


class Errors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def check_error(self, answer, status, kind):
        self.assertEqual(answer.status, status, answer.body)
        self.assertEqual(answer.headers.get_content_type(), "application/json")
        body = answer.json()
        self.assertEqual(set(body), {"error"})
        self.assertEqual(set(body["error"]), {"message", "type", "param", "code"})
        self.assertEqual(body["error"]["type"], kind)
        self.assertTrue(body["error"]["message"])

    def test_each_bad_request_gets_its_status_and_the_error_object(self):
        for name, path, body, status, kind in REFUSED:
            with self.subTest(name):
                self.check_error(self.server.post(path, body), status, kind)
        for name, path, body, status, kind in REFUSED:
            if isinstance(body, dict) and "stream" not in body:
                with self.subTest(name + ", streaming"):
                    self.check_error(self.server.post(path, {**body, "stream": True}), status, kind)

    def test_a_prompt_that_never_fits_names_both_numbers(self):
        limit = self.server.get("/v1/models").json()["data"][0]["max_model_len"]
        answer = self.server.post(TEXT, {"prompt": [100] * (limit + 10), "max_tokens": 5})
        self.check_error(answer, 400, "invalid_request_error")
        self.assertEqual(answer.error()["code"], "context_length_exceeded")
        self.assertIn(str(limit), answer.error()["message"])

    def test_wrong_methods_and_content_types(self):
        self.check_error(self.server.get(CHAT), 405, "invalid_request_error")
        self.check_error(self.server.request("DELETE", "/v1/models"), 405, "invalid_request_error")
        answer = self.server.request("POST", CHAT, json.dumps(HELLO), {"Content-Type": "text/plain"})
        self.check_error(answer, 415, "invalid_request_error")

    def test_bytes_that_are_not_http_do_no_harm(self):
        for garbage in (b"\x00" * 100, b"GET / HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: "
                        b"-1\r\n\r\n", b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n",
                        b"POST /v1/completions HTTP/1.1\r\nContent-Length: 100\r\n\r\n{"):
            with socket.create_connection((self.server.host, self.server.port)) as connection:
                connection.settimeout(5)
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                try:
                    while connection.recv(4096):
                        pass
                except OSError:
                    pass

    def tearDown(self):
        self.assertEqual(self.server.get("/health").status, 200)
        self.assertEqual(self.server.post(CHAT, HELLO).status, 200)


if __name__ == "__main__":
    run_tests()
