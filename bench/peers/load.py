"""A load generator: so many clients, each of which asks as soon as it is answered.

It speaks HTTP/1.1 over plain sockets, as little as is needed, for it shares the cores with the
server: a request costs it a fraction of a millisecond. Connections are kept, and made anew where the
server closes them; that time counts, as a client would have to wait for it.
"""

import asyncio
import json
import time


class Client:
    """One client; from another of this machine's addresses, if one is given."""

    def __init__(self, port, address=None):
        self.port = port
        self.address = address
        self.reader = self.writer = None

    async def close(self):
        if self.writer is not None:
            self.writer.close()
            self.reader = self.writer = None

    async def ask(self, method, path, body=b""):
        """Status and body. A kept connection that the server has closed meanwhile is no error."""
        request = (
            f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body
        if self.writer is not None:
            try:
                return await self.exchange(request)
            except (ConnectionError, asyncio.IncompleteReadError):
                await self.close()
        from_address = (self.address, 0) if self.address else None
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self.port, local_addr=from_address
        )
        return await self.exchange(request)

    async def exchange(self, request):
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status_line, *lines = head.split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if ": " in line)
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            await self.close()
        return int(status_line.split()[1]), body


async def is_ready(port):
    client = Client(port)
    try:
        status, _ = await asyncio.wait_for(client.ask("GET", "/readyz"), 5)
        return status == 200
    except (OSError, EOFError, asyncio.TimeoutError):
        return False
    finally:
        await client.close()


async def load(port, texts, client_count):
    """Has all texts classified, by so many clients. Returns the seconds that it took in all, each
    text's own, and its answer; or what a server said instead of answering."""
    bodies = [json.dumps({"text": text}).encode() for text in texts]
    latencies = [0.0] * len(texts)
    answers = [None] * len(texts)
    waiting = iter(range(len(texts)))

    async def ask_on():
        client = Client(port)
        for index in waiting:
            start = time.perf_counter()
            status, body = await client.ask("POST", "/inference", bodies[index])
            latencies[index] = time.perf_counter() - start
            if status != 200:
                raise RuntimeError(f"status {status}: {body[:200]!r}")
            answers[index] = json.loads(body)
        await client.close()

    start = time.perf_counter()
    await asyncio.gather(*(ask_on() for _ in range(client_count)))
    return time.perf_counter() - start, latencies, answers
