"""The caller's wording, brought back into one answer; the one place where an answer's bytes change.

It runs where a policy asks for it and the request was edited; everywhere else an answer is relayed
as it comes (law 1).  A body is taken in whole, a stream goes on event by event; both leave
unencoded.  What cannot be read or is too large is given as it came, and so is the rest of an answer
in which something breaks (law 8).
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Final, TypeAlias

import structlog

from proxy.compress.recovery import Alignment, RecoveryStream, recover
from proxy.errors import UpstreamError, UpstreamUnavailable
from proxy.gateway.drive import Fault
from proxy.gateway.relay import ahead
from proxy.upstream import Answer
from proxy.wire import (
    CHAT,
    BodyTooLarge,
    Decoder,
    Endpoint,
    RewordedStream,
    Unparsed,
    changed_response,
    decode_body,
    reword_body,
    value_of,
)

LIMIT_BYTES: Final = 8 * 1024 * 1024
"""A larger body, as sent or unpacked, is left as it is."""

Work: TypeAlias = Callable[[int, Callable[[], bytes | None]], Awaitable[bytes | None]]
"""Does a job on so many bytes where it holds up nobody; raises Fault."""


@dataclass(slots=True)
class Recovery:
    """Recovers one answer of ``endpoint`` to a prompt that ``source`` tells of.

    ``applied`` says that the answer goes out as we write it; ``changed`` that it says something
    that the upstream did not.
    """

    source: Alignment
    work: Work
    endpoint: Endpoint = CHAT
    applied: bool = False
    changed: bool = False

    async def of(self, answer: Answer) -> Answer:
        """Return the answer with the caller's wording, or as it is where it is nothing we read."""
        media_type = value_of(answer.headers, "content-type").partition(";")[0].strip().lower()
        if answer.status != HTTPStatus.OK:
            return answer
        if media_type == "application/json":
            return await self._of_body(answer)
        if media_type == "text/event-stream":
            return self._of_stream(answer)
        return answer

    async def _of_body(self, answer: Answer) -> Answer:
        body = bytearray()
        try:
            async for chunk in answer.chunks:
                body += chunk
                if len(body) > LIMIT_BYTES:
                    return replace(answer, chunks=ahead(bytes(body), answer.chunks))
        except UpstreamError as error:
            return replace(answer, chunks=ahead(bytes(body), _lost(error)))
        encoding = value_of(answer.headers, "content-encoding")
        reworded = await self._reworded(bytes(body), encoding)
        if reworded is None:
            return replace(answer, chunks=ahead(bytes(body), answer.chunks))
        self.applied = self.changed = True
        headers = changed_response(answer.headers, length=len(reworded))
        return replace(answer, headers=tuple(headers), chunks=ahead(reworded, answer.chunks))

    async def _reworded(self, body: bytes, encoding: str) -> bytes | None:
        """Return the body unencoded and recovered; None where that changes nothing or fails."""
        try:
            return await self.work(len(body), partial(self._recovered, body, encoding))
        except Fault as fault:
            _report(fault)
            return None

    def _recovered(self, body: bytes, encoding: str) -> bytes | None:
        try:
            plain = decode_body(body, encoding, limit_bytes=LIMIT_BYTES)
            reword = partial(recover, source=self.source)
            reworded = reword_body(plain, reword, self.endpoint.answered)
        except (Unparsed, BodyTooLarge):
            return None
        return None if reworded == plain else reworded

    def _of_stream(self, answer: Answer) -> Answer:
        try:
            # Nothing piles up: each piece is relayed before the next is unpacked.
            decoder = Decoder(value_of(answer.headers, "content-encoding"), limit_bytes=sys.maxsize)
        except Unparsed:
            return answer
        self.applied = True
        headers = changed_response(answer.headers, length=None)
        stream = self.endpoint.streamed(lambda: RecoveryStream(self.source))
        chunks = self._events(answer.chunks, decoder, stream)
        return replace(answer, headers=tuple(headers), chunks=chunks)

    async def _events(
        self, chunks: AsyncIterator[bytes], decoder: Decoder, stream: RewordedStream
    ) -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                for piece in decoder.feed(chunk):
                    reworded = stream.feed(piece)
                    self.changed = stream.changed
                    if reworded:
                        yield reworded
            rest = stream.close()
            self.changed = stream.changed
            if rest:
                yield rest
        except Unparsed as error:
            raise UpstreamUnavailable("answer: its content-encoding is broken") from error
        finally:
            if stream.failure is not None:
                _report(Fault(stream.failure))


async def _lost(error: UpstreamError) -> AsyncIterator[bytes]:
    """Break off where the upstream did."""
    raise error
    yield b""


def _report(fault: Fault) -> None:
    structlog.get_logger("laconic").error("recovery-fault", type=str(fault), at=fault.at)
