"""WebSockets: after the handshake, bytes both ways, until one side closes.

The handshake is the two ends' own: key, version, sub-protocols and extensions pass as they were
sent, so that what the upstream accepts is what the caller offered, compression (permessage-deflate)
included.  Frames are not read, so none can be altered: text, binary, pings, fragments and close
codes arrive as they left.  A slow reader at one end holds up the other: each chunk is awaited into
one connection before the next is read from the other.

An end that goes without the closing handshake is lost.  The other gets what was said until then and
an end without a handshake too, which no client takes for a clean one (1006).  When Laconic stops,
both ends are told so (1001).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

from aiohttp import web

from proxy.gateway.exchange import Exchange
from proxy.gateway.relay import Relayed
from proxy.ledger import Ended
from proxy.upstream import Answer, Headers, Pipe
from proxy.wire import forwarded_response, value_of
from proxy.wire.websocket import GOING_AWAY, Frames, close_frame


def upgrading(headers: Headers, forwarded: Headers) -> Headers:
    """Add to headers that go on what asks for, or grants, the upgrade on the next connection."""
    return (*forwarded, ("Connection", "Upgrade"), ("Upgrade", value_of(headers, "upgrade")))


@dataclass(slots=True)
class _Way:
    """One direction: what came from ``source`` goes to ``sink``."""

    source: Pipe
    sink: Pipe
    see: Callable[[bytes], None]
    frames: Frames = field(default_factory=Frames)

    async def flow(self) -> None:
        """Pass bytes until the source ends or the sink is gone."""
        with suppress(ConnectionError):
            while chunk := await self.source.read():
                self._pass(chunk)
                await self.sink.drain()

    def rest(self) -> None:
        """Pass what had come by the time the other way ended."""
        with suppress(ConnectionError):
            self._pass(self.source.read_nowait())

    def _pass(self, chunk: bytes) -> None:
        self.see(chunk)
        self.frames.feed(chunk)
        self.sink.put(chunk)

    def say_goodbye(self, mask: bytes = b"") -> None:
        """Tell the sink that we stop, where a frame may begin and no other goodbye was said."""
        if self.frames.between and not self.frames.closed:
            with suppress(ConnectionError):
                self.sink.put(close_frame(GOING_AWAY, mask))


class Tunnels:
    """Carries WebSockets; holds nothing of any of them but how to stop them all."""

    def __init__(self) -> None:
        """Begin with none."""
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Close every tunnel, and every one that is opened from now on."""
        self._stopping.set()

    async def carry(
        self, request: web.Request, exchange: Exchange, answer: Answer, far: Pipe
    ) -> web.StreamResponse:
        """Grant the caller the upgrade that the upstream granted, and pass what is said."""
        forwarded = tuple(forwarded_response(answer.headers, own=exchange.headers()))
        headers = upgrading(answer.headers, forwarded)
        response = Relayed(HTTPStatus.SWITCHING_PROTOCOLS, answer.reason, headers)
        response.force_close()
        exchange.status = answer.status
        await response.prepare(request)
        near = Pipe(request.protocol, request.protocol.set_parser)
        out, back = _Way(near, far, exchange.take), _Way(far, near, exchange.count)
        try:
            await self._until_one_ends(out, back)
        finally:
            # The caller's hang-up cancels us: it may be how a tunnel ends that was closed.
            exchange.gone = exchange.ended = self._ended(out, back)
            near.close()
            far.close()
        return response

    async def _until_one_ends(self, out: _Way, back: _Way) -> None:
        tasks = [
            asyncio.create_task(self._stopping.wait()),
            asyncio.create_task(out.flow()),
            asyncio.create_task(back.flow()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            out.rest()
            back.rest()
        if self._stopping.is_set():
            out.say_goodbye(os.urandom(4))
            back.say_goodbye()

    def _ended(self, out: _Way, back: _Way) -> Ended:
        """Tell how it ended: cleanly, where we stopped or who left had said so."""
        if self._stopping.is_set() or (out.frames.closed and back.frames.closed):
            return Ended.COMPLETE
        if out.source.over:
            return Ended.COMPLETE if out.frames.closed else Ended.CALLER_GONE
        return Ended.COMPLETE if back.frames.closed else Ended.UPSTREAM_LOST
