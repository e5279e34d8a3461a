"""A client for very many streams at once: one thread, asyncio, no library."""

import asyncio
import json
import time


class Reply:
    """What became of one streaming request."""

    def __init__(self):
        self.status = None
        self.headers = {}
        self.text = ""
        self.error = None         # the error object of an answer or of a stream
        self.finish_reason = None
        self.done = False         # [DONE] came
        self.usage = None
        self.started = time.monotonic()
        self.answered = None      # when the status line came
        self.token_times = []

    @property
    def complete(self):
        return self.status == 200 and self.done and self.error is None and self.finish_reason is not None


async def open_request(server, body, user_headers=()):
    """Sends a streaming request; returns (reader, writer)."""
    reader, writer = await asyncio.open_connection(server.host, server.port, limit=1 << 20)
    data = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    head = [f"POST {path} HTTP/1.1", f"Host: {server.host}", "Content-Type: application/json",
            f"Content-Length: {len(data)}", "Connection: close", *user_headers]
    writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + data)
    await writer.drain()
    return reader, writer


async def read_head(reader, reply):
    status_line = await reader.readline()
    if not status_line:
        raise ConnectionResetError("the server closed without an answer")
    reply.status = int(status_line.split()[1])
    reply.answered = time.monotonic()
    while True:
        line = (await reader.readline()).strip()
        if not line:
            return
        name, _, value = line.decode().partition(":")
        reply.headers[name.lower()] = value.strip()


def take_event(reply, line):
    if line == b"data: [DONE]":
        reply.done = True
        return
    event = json.loads(line[len(b"data: "):])
    if "error" in event:
        reply.error = event["error"]
        return
    reply.usage = event.get("usage") or reply.usage
    for choice in event["choices"]:
        text = choice.get("text") or choice.get("delta", {}).get("content") or ""
        if text:
            reply.token_times.append(time.monotonic())
        reply.text += text
        reply.finish_reason = choice.get("finish_reason") or reply.finish_reason


async def generate(server, body, pause=None, give_up=None, user_headers=()):
    """Runs one streaming request to its end. `pause(reply)` is awaited after each event (a slow reader);
    `give_up(reply)` true ends it by a reset in the middle. Returns a Reply."""
    reply = Reply()
    reader, writer = await open_request(server, body, user_headers)
    try:
        await read_head(reader, reply)
        if reply.status != 200:
            reply.error = json.loads(await reader.read())["error"]
            return reply
        while not reply.done:
            line = await reader.readline()
            if not line:
                return reply
            line = line.rstrip(b"\r\n")
            if line.startswith(b"data: "):
                take_event(reply, line)
                if pause:
                    await pause(reply)
                if give_up and give_up(reply):
                    writer.transport.abort()
                    return reply
        return reply
    finally:
        writer.close()


def run_all(server, bodies):
    """All at once; replies in order."""
    async def everything():
        return await asyncio.gather(*(generate(server, body) for body in bodies))
    return asyncio.run(everything())
