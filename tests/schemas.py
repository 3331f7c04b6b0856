"""Requests of any shape, sent directly and through the proxy, and compared at both ends.

Under policy ``off`` the upstream must receive the same bytes; under one that edits, what differs
must lie inside edited texts.  Whatever the upstream answers, the caller must get it, and never a
5xx of ours.
"""

import json
import sys
import zlib
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from house import house
from servers import JSON, SSE, answer, call, chunk, completion, upstream

from proxy.wire import endpoint_of

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from hostile import fault_of  # cuts out the texts that differ, and compares what is left

FOUND = Path(__file__).parent / "schema" / "found"
HOP_BY_HOP = {"connection", "host", "keep-alive", "transfer-encoding", "content-length"}
STATUSES = (200, 200, 200, 201, 404, 409, 429, 500, 503)  # those of a refused edit are sent twice


@dataclass(frozen=True)
class Asked:
    """A request as a caller sends it."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None

    def written(self):
        """As a file that can be read back."""
        head = {"method": self.method, "target": self.target, "headers": self.headers}
        return json.dumps(head).encode() + b"\n" + (b"" if self.body is None else self.body)

    @classmethod
    def read(cls, raw):
        head, _, body = raw.partition(b"\n")
        told = json.loads(head)
        return cls(told["method"], told["target"], tuple(map(tuple, told["headers"])), body or None)


async def answering(seen, wire):
    """Answer by what was asked for: any status, a stream where one was asked for."""
    status = STATUSES[zlib.crc32(seen.target.encode("utf-8", "surrogateescape")) % len(STATUSES)]
    headers = [("x-request-id", "req_1"), ("openai-processing-ms", "7"), ("Set-Cookie", "a=b")]
    if b'"stream":true' in seen.body.replace(b" ", b"") and status == 200:
        head = [*headers, SSE, ("Transfer-Encoding", "chunked")]
        await wire.send(answer(200, b"", headers=head, length=False))
        await wire.send(chunk(b'data: {"choices": []}\n\n') + chunk(b"data: [DONE]\n\n"))
        await wire.send(b"0\r\n\r\n")
        return
    body = b"" if seen.method == "HEAD" else completion("hi", asked=seen.target)
    length = ("Content-Length", str(len(body)))
    told = answer(status, body, headers=[*headers, JSON, length], length=False, reason="As Told")
    await wire.send(told)


class Comparison:
    """An upstream, and a proxy before it, for as many requests as come."""

    async def __aenter__(self):
        self._stack = AsyncExitStack()
        self.far = await self._stack.enter_async_context(upstream(answering))
        self.home = await self._stack.enter_async_context(house(self.far))
        self.edited = 0
        return self

    async def __aexit__(self, *error):
        await self._stack.aclose()

    async def faults(self, asked):
        """What is wrong with what becomes of a request, told one by one."""
        direct = await self._sent(self.far.port, asked)
        off = await self._sent(self.home.port, asked, ("x-laconic-policy", "off"))
        on = await self._sent(self.home.port, asked, ("x-laconic-policy", "on"))
        told = [f"off: {fault}" for fault in _differences(direct, off)]
        told += [f"on: {fault}" for fault in _differences(direct, on, self._body_fault(asked))]
        self.edited += on[0] is not None and on[0].body != (asked.body or b"")
        return told

    async def _sent(self, port, asked, *more):
        """What the upstream saw, or None, and what the caller got."""
        before = len(self.far.seen)
        got = await call(port, asked.method, asked.target, asked.body, [*asked.headers, *more])
        seen = self.far.seen[before:]
        return (seen[0] if len(seen) == 1 else None), got

    def _body_fault(self, asked):
        endpoint = endpoint_of(asked.method, asked.target.partition("?")[0])

        def fault(before, after):
            if before == after:
                return None
            if endpoint is None:
                return "edited, though it is for no endpoint with text"
            return fault_of(endpoint, before, after)

        return fault


def _differences(direct, through, body_fault=None):
    (seen, got), (seen_through, got_through) = direct, through
    if seen is None or seen_through is None:
        yield f"the upstream saw {seen and seen.start}, then {seen_through and seen_through.start}"
        return
    if seen.start != seen_through.start:
        yield f"start line: {seen.start}, then {seen_through.start}"
    if _end_to_end(seen) != _end_to_end(seen_through):
        yield f"headers: {_end_to_end(seen)}, then {_end_to_end(seen_through)}"
    if body_fault is None and seen.body != seen_through.body:
        yield f"body: {seen.body!r}, then {seen_through.body!r}"
    if body_fault is not None and (told := body_fault(seen.body, seen_through.body)):
        yield told
    if (got.start, got.body) != (got_through.start, got_through.body):
        yield f"answer: {got.start} {got.body!r}, then {got_through.start} {got_through.body!r}"
    if _end_to_end(got) != _end_to_end(got_through):
        yield f"answer's headers: {_end_to_end(got)}, then {_end_to_end(got_through)}"


def _end_to_end(message):
    return [
        (name, value.strip())  # white space around a value is no part of it (RFC 9110, 5.5)
        for name, value in message.headers
        if name.lower() not in HOP_BY_HOP and not name.lower().startswith("x-laconic-")
    ]
