"""Both ends of an exchange, in plain sockets: a scripted upstream and a caller that reads bytes.

No HTTP library in here: the tests compare what is on the wire with what an RFC says, not with
what one library makes of another.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

PATIENCE_S = 60  # how long a test waits for what must happen; far above what it takes

CHAT = "/v1/chat/completions"
JSON = ("Content-Type", "application/json")
SSE = ("Content-Type", "text/event-stream; charset=utf-8")


class Wire:
    """One connection, read into a buffer, so that the peer's hang-up is noticed at any time."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.buffer = bytearray()
        self.closed = asyncio.Event()
        self.came = asyncio.Event()
        self.paused = asyncio.Event()
        self.paused.set()
        self._pump = asyncio.ensure_future(self._read())

    async def _read(self):
        try:
            while True:
                await self.paused.wait()
                chunk = await self.reader.read(65536)
                if not chunk:
                    break
                self.buffer += chunk
                self.came.set()
        except ConnectionError:
            pass
        finally:
            self.closed.set()
            self.came.set()

    async def more(self):
        """Wait until the buffer grows; raises EOFError where nothing more will come."""
        if self.closed.is_set():
            raise EOFError
        self.came.clear()
        await asyncio.wait_for(self.came.wait(), PATIENCE_S)

    async def until(self, mark):
        while mark not in self.buffer:
            await self.more()
        end = self.buffer.index(mark) + len(mark)
        return self.take(end)

    async def exactly(self, n):
        while len(self.buffer) < n:
            await self.more()
        return self.take(n)

    async def rest(self):
        """All bytes until the peer closes."""
        await asyncio.wait_for(self.closed.wait(), PATIENCE_S)
        return self.take(len(self.buffer))

    def take(self, n):
        taken = bytes(self.buffer[:n])
        del self.buffer[:n]
        return taken

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    def hang_up(self):
        self.writer.transport.abort()

    async def close(self):
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


@dataclass
class Received:
    """A message as it was on the wire: start line, fields in order, body without its chunking."""

    start: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    complete: bool = True

    @property
    def status(self):
        return int(self.start.split(" ")[1])

    @property
    def reason(self):
        return self.start.split(" ", 2)[2]

    @property
    def method(self):
        return self.start.split(" ")[0]

    @property
    def target(self):
        return self.start.split(" ")[1]

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name):
        return next(iter(self.all(name)), None)

    def names(self):
        return [name for name, _ in self.headers]

    def json(self):
        return json.loads(self.body)


async def read_message(wire, *, answers=None):
    """Read one request, or one response to the method ``answers``."""
    head = (await wire.until(b"\r\n\r\n")).decode("utf-8", "surrogateescape")
    start, *lines = head[:-4].split("\r\n")
    message = Received(start, [tuple(line.split(": ", 1)) for line in lines])
    if message.get("expect") and answers is None:
        await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        await _read_body(wire, message, answers)
    except EOFError:
        message.complete = False
        message.body += wire.take(len(wire.buffer))
    return message


async def _read_body(wire, message, answers):
    if answers == "HEAD" or (answers and message.status in (204, 304)):
        return
    if message.get("transfer-encoding") == "chunked":
        while True:
            size = int(await wire.until(b"\r\n"), 16)
            chunk = (await wire.exactly(size + 2))[:-2]
            if not size:
                return
            message.chunks.append(chunk)
            message.body += chunk
    elif message.get("content-length") is not None:
        message.body = await wire.exactly(int(message.get("content-length")))
    elif answers:
        message.body = await wire.rest()


def answer(status=200, body=b"{}", *, headers=(), reason="OK", length=True):
    """The bytes of a response."""
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def replies(*args, **kwargs):
    """A script that gives one answer, whatever is asked."""

    async def script(seen, wire):
        await wire.send(answer(*args, **kwargs))

    return script


def streams(*pieces, headers=(), finish=True):
    """A script that sends the pieces of a stream one by one, and breaks off unless it finishes."""

    async def script(seen, wire):
        head = [SSE, *headers, ("Transfer-Encoding", "chunked")]
        await wire.send(answer(200, b"", headers=head, length=False))
        for piece in pieces:
            await wire.send(chunk(piece))
            await asyncio.sleep(0.005)
        if finish:
            await wire.send(b"0\r\n\r\n")
        else:
            wire.writer.close()

    return script


def chat(text="hello", **extra):
    """The body of a chat request that says one thing."""
    return json.dumps(
        {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **extra}
    ).encode()


def completion(text="hi", **extra):
    """An ordinary chat completion, as OpenAI would write it."""
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-4o",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
            **extra,
        }
    ).encode()


Script = Callable[[Received, Wire], Awaitable[None]]


@dataclass
class RecordingUpstream:
    """What came in, and the ports to reach it; ``hung_up`` is set when a connection closed."""

    scheme: str = "http"
    port: int = 0
    seen: list[Received] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def last(self):
        return self.seen[-1]


@asynccontextmanager
async def upstream(*scripts: Script, tls=None) -> AsyncIterator[RecordingUpstream]:
    """A server on loopback; request n is handled by script n, later ones by the last script."""
    scripts = scripts or (
        replies(200, completion(), headers=[("Content-Type", "application/json")]),
    )
    record = RecordingUpstream(scheme="https" if tls else "http")
    serving = set()

    async def serve(reader, writer):
        record.connections += 1
        wire = Wire(reader, writer)
        serving.add((asyncio.current_task(), wire))
        try:
            while True:
                seen = await read_message(wire)
                record.seen.append(seen)
                record.arrived.set()
                await scripts[min(len(record.seen), len(scripts)) - 1](seen, wire)
                if wire.writer.is_closing():
                    break
        except (EOFError, ConnectionError):
            pass
        finally:
            record.hung_up.set()
            await wire.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    record.port = server.sockets[0].getsockname()[1]
    try:
        yield record
    finally:
        server.close()
        for _, wire in serving:
            wire.hang_up()
        await asyncio.gather(*(task for task, _ in serving))
        await server.wait_closed()


@asynccontextmanager
async def connected(port) -> AsyncIterator[Wire]:
    """A caller's connection."""
    wire = Wire(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 16))
    try:
        yield wire
    finally:
        await wire.close()


def request_bytes(
    method, target, body=None, headers: Iterable[tuple[str, str]] = (), *, length=True
):
    """The bytes of a request, nothing added but Host and, with a body, its length."""
    lines = [f"{method} {target} HTTP/1.1", "Host: caller.example"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None and length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + (body or b"")


async def call(port, method, target, body=None, headers=(), *, length=True):
    """Send one request on a connection of its own and read its answer."""
    async with connected(port) as wire:
        await wire.send(request_bytes(method, target, body, headers, length=length))
        return await read_message(wire, answers=method)


async def until_ready(port, within_s):
    """Wait until a proxy in a process of its own says that it is ready."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                if (await call(port, "GET", "/readyz")).status == 200:
                    return
            except (ConnectionError, EOFError):
                pass
            await asyncio.sleep(0.05)


def free_port():
    """A port of loopback that nothing listens on."""
    import socket  # noqa: PLC0415 - used here alone

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
